//! Byte streams to what the operator granted: TCP, unix sockets, and TLS on top of either, which the agent speaks.
//!
//! A [`Connection`] implements `Read` and `Write`, so parsers that take one work with it.

use std::io;
use std::time::Duration;

use crate::agent::tcp as wire;
use crate::{Error, Secret};

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection(wire::Connection);

impl Connection {
    /// Connects to a host, which may be a name or an address, and a port.
    ///
    /// # Errors
    /// No grant, or no connection.
    pub fn connect(host: &str, port: u16) -> Result<Self, Error> {
        Ok(Self(wire::Connection::connect(host, port, None)?))
    }

    /// As [`Connection::connect`], with a timeout. Zero means none but the call's own.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_within(host: &str, port: u16, timeout: Duration) -> Result<Self, Error> {
        Ok(Self(wire::Connection::connect(host, port, millis(timeout))?))
    }

    /// Connects to the unix socket of this path.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_unix(path: &str) -> Result<Self, Error> {
        Ok(Self(wire::Connection::connect_unix(path, None)?))
    }

    /// Waits for data and returns what has arrived, `max_bytes` at most; nothing at the end of the stream.
    ///
    /// # Errors
    /// The peer broke the connection off, or it timed out.
    pub fn receive(&self, max_bytes: u32) -> Result<Vec<u8>, Error> {
        Ok(self.0.read(max_bytes)?)
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.0.write(bytes)?)
    }

    /// Sends `prefix`, the secret and `suffix`.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn send_secret(&self, prefix: &[u8], secret: &Secret, suffix: &[u8]) -> Result<(), Error> {
        Ok(self.0.write_secret(prefix, &secret.0, suffix)?)
    }

    /// Whether the peer is on this machine: a unix socket, or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.is_local()
    }

    /// Closes the sending side; receiving still works.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn finish(&self) -> Result<(), Error> {
        Ok(self.0.finish()?)
    }

    /// Upgrades to TLS. The name on the certificate is that of the host that was connected to, unless the options name another.
    ///
    /// # Errors
    /// The peer's certificate is not trusted ([`Error::Unauthorized`]), or it does not speak TLS; with the certificates that it sent.
    pub fn start_tls(&self, options: TlsOptions<'_>) -> Result<TlsInfo, TlsFailure> {
        let wire = wire::TlsOptions::new();
        if let Some(name) = options.server_name {
            wire.set_server_name(name);
        }
        if !options.alpn.is_empty() {
            wire.set_alpn(&options.alpn.iter().map(|protocol| (*protocol).to_owned()).collect::<Vec<_>>());
        }
        match self.0.start_tls(&wire) {
            Ok(wire::TlsInfo { protocol, alpn, verified, chain, attributes: _ }) => {
                Ok(TlsInfo { protocol, alpn, verified, chain })
            }
            Err(wire::TlsFailure { error, chain, attributes: _ }) => Err(TlsFailure { error: error.into(), chain }),
        }
    }

    /// Sets a timeout for each operation from now on. Zero, as at first, means none but the call's own.
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.set_timeout(millis(timeout));
    }
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsOptions<'a> {
    /// The name on the certificate, if it is not the host that was connected to.
    pub server_name: Option<&'a str>,
    /// The protocols to offer, the best first.
    pub alpn: &'a [&'a str],
}

/// What the peers agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3`, `TLSv1.2`.
    pub protocol: String,
    /// The protocol that the peer chose.
    pub alpn: Option<String>,
    /// What of the certificate was verified: `encrypt`, nothing; `ca`, who signed it; `full`, also the name.
    pub verified: String,
    /// The peer's certificates in DER, its own first.
    pub chain: Vec<Vec<u8>>,
}

/// Why TLS did not begin. The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// The reason.
    pub error: Error,
    /// The peer's certificates in DER, its own first, also where they are not trusted.
    pub chain: Vec<Vec<u8>>,
}

impl From<TlsFailure> for Error {
    fn from(failure: TlsFailure) -> Self {
        failure.error
    }
}

/// Zero means no timeout; less than a millisecond is rounded up to one.
fn millis(timeout: Duration) -> Option<u64> {
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    (!timeout.is_zero()).then_some(millis.max(1))
}

impl io::Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let bytes = self.receive(wanted).map_err(io::Error::other)?;
        for (place, byte) in buffer.iter_mut().zip(&bytes) {
            *place = *byte;
        }
        Ok(bytes.len())
    }
}

impl io::Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The capability's error, out of the one that `Read` or `Write` returned.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(other) => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_no_timeout_and_less_than_a_millisecond_is_rounded_up_to_one() {
        assert_eq!([0, 1, 2_500].map(|micros| millis(Duration::from_micros(micros))), [None, Some(1), Some(2)]);
    }

    #[test]
    fn an_error_of_the_capability_survives_read() {
        let through = Error::from(io::Error::other(Error::Denied("no grant".into())));
        assert_eq!(through, Error::Denied("no grant".into()));
        let short = Error::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(matches!(short, Error::Failed(_)), "{short:?}");
    }
}
