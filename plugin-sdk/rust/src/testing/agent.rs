//! The agent's half of the capabilities in native tests: what `wit-bindgen` generates for a component, with the same names and types.

use std::rc::Rc;

use super::{World, current};

/// # Panics
/// The code runs in no host.
#[expect(clippy::expect_used, reason = "a test fails by panicking, with the reason")]
fn host() -> Rc<World> {
    current().expect("natively there is no agent: call the function through `wasaba_plugin::testing::Host`")
}

pub(crate) mod types {
    use std::fmt;

    pub(crate) use crate::bindings::wasaba::plugin::types::Error;

    pub(crate) struct Secret {
        pub(in crate::testing) text: String,
        pub(in crate::testing) is_revealed: bool,
    }

    impl Secret {
        pub(crate) fn length(&self) -> u32 {
            u32::try_from(self.text.len()).unwrap_or(u32::MAX)
        }

        pub(crate) fn reveal(&self) -> Result<String, Error> {
            let denied = || crate::Error::Denied("the text of a secret needs `reveal = true` in the table".into());
            if self.is_revealed { Ok(self.text.clone()) } else { Err(denied().into()) }
        }
    }

    /// Without the text.
    impl fmt::Debug for Secret {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "Secret({} bytes)", self.text.len())
        }
    }
}

pub(crate) mod http {
    use std::cell::RefCell;

    use super::types::{Error, Secret};

    pub(crate) struct Request {
        pub(in crate::testing) method: String,
        pub(in crate::testing) url: String,
        headers: RefCell<Vec<(String, String)>>,
        pub(in crate::testing) body: RefCell<Option<Vec<u8>>>,
    }

    impl Request {
        pub(crate) fn new(method: &str, url: &str) -> Self {
            let (headers, body) = (RefCell::default(), RefCell::default());
            Self { method: method.to_owned(), url: url.to_owned(), headers, body }
        }

        fn set(&self, name: &str, value: &str) {
            self.headers.borrow_mut().push((name.to_ascii_lowercase(), value.to_owned()));
        }

        pub(crate) fn set_header(&self, name: &str, value: &str) -> Result<(), Error> {
            self.set(name, value);
            Ok(())
        }

        pub(crate) fn set_header_secret(&self, name: &str, prefix: &str, secret: &Secret) -> Result<(), Error> {
            self.set_header(name, &[prefix, &secret.text].concat())
        }

        pub(crate) fn set_basic_auth(&self, user: &str, password: &Secret) -> Result<(), Error> {
            let pair = format!("{user}:{}", password.text);
            self.set_header("authorization", &format!("Basic {}", base64(pair.as_bytes())))
        }

        pub(crate) fn set_header_lines(&self, lines: &Secret) -> Result<(), Error> {
            for line in lines.text.lines().filter(|line| !line.trim().is_empty()) {
                let invalid = || crate::misconfigured!("a line of the headers is not `Name: value`");
                let (name, value) = line.split_once(':').ok_or_else(invalid)?;
                self.set(name.trim(), value.trim());
            }
            Ok(())
        }

        pub(crate) fn has_header(&self, name: &str) -> bool {
            self.value(name).is_some()
        }

        pub(crate) fn set_body(&self, body: &[u8]) {
            self.body.replace(Some(body.to_vec()));
        }

        /// Of those with one name the last counts.
        pub(in crate::testing) fn value(&self, name: &str) -> Option<String> {
            let headers = self.headers.borrow();
            let last = headers.iter().rev().find(|(other, _)| other.eq_ignore_ascii_case(name));
            last.map(|(_, value)| value.clone())
        }
    }

    pub(crate) struct Response(super::super::Answer);

    impl Response {
        pub(crate) fn status(&self) -> u16 {
            self.0.status
        }

        pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
            self.0.headers.clone()
        }

        pub(crate) fn body(&self) -> Result<Vec<u8>, Error> {
            self.0.body.clone().map_err(Error::from)
        }
    }

    pub(crate) fn send(request: &Request) -> Result<Response, Error> {
        Ok(Response(super::host().fetch(request)?))
    }

    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits =
                chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let letter = LETTERS.get(bits >> (18 - 6 * place) & 63).copied().map_or('=', char::from);
                text.push(if place <= chunk.len() { letter } else { '=' });
            }
        }
        text
    }
}

pub(crate) mod tcp {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::super::Turn;
    use super::types::{Error, Secret};
    pub(crate) use crate::bindings::wasaba::plugin::tcp::{TlsFailure, TlsInfo};

    #[derive(Debug)]
    pub(crate) struct TlsOptions;

    impl TlsOptions {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn set_server_name(&self, _: &str) {}

        pub(crate) fn set_alpn(&self, _: &[String]) {}
    }

    #[derive(Debug)]
    pub(crate) struct Connection {
        turns: RefCell<VecDeque<Turn>>,
        sent: RefCell<Vec<u8>>,
        is_local: bool,
    }

    impl Connection {
        fn to(reach: &str, with: &str, is_local: bool) -> Result<Self, Error> {
            let turns = super::host().connect(reach, with)?;
            Ok(Self { turns: RefCell::new(turns), sent: RefCell::default(), is_local })
        }

        pub(crate) fn connect(host: &str, port: u16, _: Option<u64>) -> Result<Self, Error> {
            let is_local = matches!(host, "localhost" | "::1" | "[::1]") || host.starts_with("127.");
            Self::to("tcp", &format!("{host}:{port}"), is_local)
        }

        pub(crate) fn connect_unix(path: &str, _: Option<u64>) -> Result<Self, Error> {
            Self::to("unix", &format!("unix:{path}"), true)
        }

        pub(crate) fn is_local(&self) -> bool {
            self.is_local
        }

        /// What the server sends next; nothing at the end.
        pub(crate) fn read(&self, max_bytes: u32) -> Result<Vec<u8>, Error> {
            let mut turns = self.turns.borrow_mut();
            match turns.pop_front() {
                None => Ok(Vec::new()),
                Some(Turn::Send(mut bytes)) => {
                    let rest = bytes.split_off(bytes.len().min(max_bytes as usize));
                    if !rest.is_empty() {
                        turns.push_front(Turn::Send(rest));
                    }
                    Ok(bytes)
                }
                Some(Turn::Expect(wanted)) => {
                    let (wanted, sent) = (shown(&wanted), shown(&self.sent.borrow()));
                    panic!("the plugin waits for an answer; it should send \"{wanted}\" first, and sent \"{sent}\"")
                }
            }
        }

        pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
            let (mut turns, mut sent) = (self.turns.borrow_mut(), self.sent.borrow_mut());
            sent.extend_from_slice(bytes);
            while let Some(Turn::Expect(wanted)) = turns.front() {
                if let Some(rest) = sent.strip_prefix(&wanted[..]) {
                    *sent = rest.to_vec();
                    turns.pop_front();
                } else if wanted.starts_with(&sent) {
                    break;
                } else {
                    panic!("the plugin sent \"{}\", not \"{}\"", shown(&sent), shown(wanted));
                }
            }
            Ok(())
        }

        pub(crate) fn write_secret(&self, prefix: &[u8], secret: &Secret, suffix: &[u8]) -> Result<(), Error> {
            self.write(&[prefix, secret.text.as_bytes(), suffix].concat())
        }

        pub(crate) fn finish(&self) -> Result<(), Error> {
            Ok(())
        }

        /// TLS is skipped.
        #[expect(clippy::result_large_err, reason = "as it is generated from the contract")]
        pub(crate) fn start_tls(&self, _: &TlsOptions) -> Result<TlsInfo, TlsFailure> {
            let (protocol, verified) = ("TLSv1.3".to_owned(), "full".to_owned());
            Ok(TlsInfo { protocol, alpn: None, verified, chain: Vec::new(), attributes: Vec::new() })
        }

        pub(crate) fn set_timeout(&self, _: Option<u64>) {}
    }

    fn shown(bytes: &[u8]) -> String {
        bytes.escape_ascii().to_string()
    }
}

/// Without a host nothing is kept.
pub(crate) mod kv {
    use super::super::Kept;
    use super::current;
    use super::types::Error;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        let world = current()?;
        let kept = world.kept.borrow();
        let Kept { value, end_ms } = kept.get(key)?;
        end_ms.is_none_or(|end| end > world.now.saturating_mul(1_000)).then(|| value.clone())
    }

    pub(crate) fn set(key: &str, value: &[u8], millis: Option<u64>) -> Result<(), Error> {
        if let Some(world) = current() {
            let end_ms = millis.map(|millis| world.now.saturating_mul(1_000).saturating_add(millis));
            world.kept.borrow_mut().insert(key.to_owned(), Kept { value: value.to_vec(), end_ms });
        }
        Ok(())
    }

    pub(crate) fn delete(key: &str) {
        if let Some(world) = current() {
            world.kept.borrow_mut().remove(key);
        }
    }

    pub(crate) fn keys(prefix: &str) -> Vec<String> {
        let Some(world) = current() else { return Vec::new() };
        let keys = world.kept.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect::<Vec<_>>();
        keys.into_iter().filter(|key| get(key).is_some()).collect()
    }
}

/// Without a host nothing is logged.
pub(crate) mod log {
    use super::current;
    use crate::bindings::wasaba::plugin::log::Level;

    pub(crate) fn write(level: Level, line: &str) {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        if let Some(world) = current() {
            world.logged.borrow_mut().push(format!("{level}: {line}"));
        }
    }
}

pub(crate) mod files {
    use super::types::Error;
    pub(crate) use crate::bindings::wasaba::plugin::files::FileStat;

    #[derive(Debug)]
    pub(crate) struct File {
        content: Vec<u8>,
        modified_ms: u64,
    }

    impl File {
        pub(crate) fn open(path: &str) -> Result<Self, Error> {
            let world = super::host();
            world.must_grant("file", &format!("file:{path}"), "")?;
            let content = world.files.get(path).cloned();
            let content = content.ok_or_else(|| crate::failed!("cannot read `{path}`: no such file"))?;
            Ok(Self { content, modified_ms: world.now.saturating_mul(1_000) })
        }

        pub(crate) fn stat(&self) -> Result<FileStat, Error> {
            let size = self.content.len() as u64;
            Ok(FileStat { size, modified_ms: self.modified_ms, id: 1, attributes: Vec::new() })
        }

        pub(crate) fn read_at(&self, offset: u64, max_bytes: u32) -> Result<Vec<u8>, Error> {
            let rest = usize::try_from(offset).ok().and_then(|offset| self.content.get(offset..)).unwrap_or_default();
            Ok(rest.iter().copied().take(max_bytes as usize).collect())
        }
    }
}

pub(crate) mod crypto {
    use super::types::{Error, Secret};
    pub(crate) use crate::bindings::wasaba::plugin::crypto::ScramProof;

    const WHERE: &str = "the host of native tests computes no proofs: test this with `wasaba plugin test`";

    pub(crate) fn scram_sha256(_: &Secret, _: &[u8], _: u32, _: &str) -> Result<ScramProof, Error> {
        panic!("{WHERE}")
    }

    pub(crate) fn postgres_md5(_: &Secret, _: &str, _: &[u8]) -> String {
        panic!("{WHERE}")
    }
}

pub(crate) mod call {
    use super::current;

    pub(crate) fn remaining_ms() -> u64 {
        10_000
    }

    pub(crate) fn minute() -> u64 {
        current().map_or(0, |world| world.now - world.now % 60)
    }

    pub(crate) fn limit(name: &str) -> Option<u64> {
        current()?.limits.get(name).copied()
    }

    pub(crate) fn agent_version() -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    pub(crate) fn has(feature: &str) -> bool {
        let capability = feature.split('.').next().unwrap_or_default();
        matches!(capability, "http" | "tcp" | "kv" | "log" | "files" | "crypto" | "call")
    }
}
