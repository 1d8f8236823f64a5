//! Byte streams to what the operator granted: TCP, unix sockets, and TLS on top of either, which the agent speaks.
//!
//! A [`Connection`] implements `Read` and `Write`, so parsers that take one work with it.

use std::io;
use std::time::Duration;

use crate::bindings::wasaba::plugin::tcp as wire;

pub use wire::Error;

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection(wire::Connection);

impl Connection {
    /// Connects to a host, which may be a name or an address, and a port.
    ///
    /// # Errors
    /// No grant, or no connection. `?` turns each into the [`Error`](crate::Error) of the plugin.
    pub fn connect(host: &str, port: u16) -> Result<Self, Error> {
        wire::Connection::connect(host, port).map(Self)
    }

    /// As [`Connection::connect`], with a timeout. Zero means none but the call's own.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_within(host: &str, port: u16, timeout: Duration) -> Result<Self, Error> {
        wire::Connection::connect_within(host, port, millis(timeout)).map(Self)
    }

    /// Connects to the unix socket of this path.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_unix(path: &str) -> Result<Self, Error> {
        wire::Connection::connect_unix(path).map(Self)
    }

    /// Waits for data and returns what has arrived, `max_bytes` at most; nothing at the end of the stream.
    ///
    /// # Errors
    /// The peer broke the connection off, or it timed out.
    pub fn receive(&self, max_bytes: u32) -> Result<Vec<u8>, Error> {
        self.0.read(max_bytes)
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.0.write(bytes)
    }

    /// Closes the sending side; receiving still works.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn finish(&self) -> Result<(), Error> {
        self.0.finish()
    }

    /// Upgrades to TLS. `server_name` is the name on the certificate; without it, the host that was connected to.
    ///
    /// # Errors
    /// The peer's certificate is not trusted, or it does not speak TLS.
    pub fn start_tls(&self, server_name: Option<&str>) -> Result<(), Error> {
        self.0.start_tls(server_name)
    }

    /// Sets a timeout for each operation from now on. Zero, as at first, means none but the call's own.
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.set_timeout(millis(timeout));
    }
}

/// Less than a millisecond counts as one, since zero means no timeout.
fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(u64::from(!timeout.is_zero()))
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
impl From<io::Error> for crate::Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(own) => own.into(),
            Err(other) => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_timeout_and_less_than_a_millisecond_is_one() {
        assert_eq!([0, 1, 2_500].map(|micros| millis(Duration::from_micros(micros))), [0, 1, 2]);
    }

    #[test]
    fn an_error_of_the_capability_survives_read() {
        let through = crate::Error::from(io::Error::other(Error::Denied("no grant".into())));
        assert_eq!(through, crate::Error::Denied("no grant".into()));
        let short = crate::Error::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(matches!(short, crate::Error::Failed(_)), "{short:?}");
    }
}
