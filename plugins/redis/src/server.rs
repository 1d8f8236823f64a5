//! A connection to the server: TLS, login, commands. `redis-protocol` decodes the frames.

use redis_protocol::resp3::decode::complete::decode;
use redis_protocol::resp3::types::OwnedFrame;
use wasaba_plugin::tcp::{Connection, TlsOptions};
use wasaba_plugin::{Error, Secret, about, failed, misconfigured};

use crate::Config;
use crate::nesting::is_too_deep;

/// At most this is read from one connection: no reply to our commands is longer.
const MAX_BYTES: usize = 4 << 20;

/// The settings that say where the server is.
const TARGET: &str = "`host` and `port`, or `socket`";

/// The permissions that a user needs, as in Redis's access control lists.
const RIGHTS: &str = "+info +config|get +cluster|info";

/// A connection that is logged in.
pub(crate) struct Server {
    connection: Connection,
    /// The peer: `cache:6379`, or the socket's path.
    target: String,
    inbox: Inbox,
}

/// What the server has sent: bytes in, answers out.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    received: Vec<u8>,
    /// How much of `received` has been decoded.
    decoded: usize,
}

/// Why the server's bytes are not answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They are not Redis's protocol.
    Foreign,
    /// They are more than all answers have.
    TooLong,
}

impl Inbox {
    /// Adds bytes that have arrived, unless they are too many in all.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        self.received.extend_from_slice(bytes);
        if self.received.len() > MAX_BYTES { Err(Unreadable::TooLong) } else { Ok(()) }
    }

    /// The next answer; `None` if more bytes must arrive.
    pub(crate) fn next(&mut self) -> Result<Option<Answer>, Unreadable> {
        loop {
            let rest = self.received.get(self.decoded..).unwrap_or_default();
            if is_too_deep(rest) {
                return Err(Unreadable::Foreign);
            }
            match decode(rest).map_err(|_| Unreadable::Foreign)? {
                // The server may push a message between two answers.
                Some((OwnedFrame::Push { .. }, length)) => self.decoded += length,
                Some((frame, length)) => {
                    self.decoded += length;
                    return Ok(Some(answer(frame)));
                }
                None if self.received.first().is_some_and(|first| !b"+-:$*_,#!=(%~>|".contains(first)) => {
                    return Err(Unreadable::Foreign);
                }
                None => return Ok(None),
            }
        }
    }
}

/// The answer to a command: a reply, or the server's error.
pub(crate) type Answer = Result<Reply, Refusal>;

/// A reply, as far as our commands get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A text.
    Text(String),
    /// Several texts; other elements are dropped.
    List(Vec<String>),
    /// Anything else.
    Other,
}

/// The server's error, `NOPERM this user has no permissions ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

impl Server {
    /// Connects and logs in.
    pub(crate) fn connect(config: &Config) -> Result<Self, Error> {
        let Config { host, port, timeout, .. } = config;
        let (target, connected) = match &config.socket {
            Some(path) => (path.clone(), Connection::connect_unix(path)),
            None => (format!("{host}:{port}"), Connection::connect_within(host, *port, *timeout)),
        };
        let connection =
            connected.map_err(|error| silent(error, |why| format!("{}: check {TARGET}", about(&target, &why))))?;
        connection.set_timeout(*timeout);
        let mut server = Self { connection, target, inbox: Inbox::default() };
        if config.tls {
            let options = TlsOptions { server_name: Some(host), ..TlsOptions::default() };
            server.connection.start_tls(options).map_err(|failure| server.of_tls(failure.error))?;
        }
        server.log_in(config)?;
        Ok(server)
    }

    /// Every version has AUTH, since Redis 6 with a user name. HELLO begins RESP3.
    fn log_in(&mut self, config: &Config) -> Result<(), Error> {
        let user = if config.username.is_empty() { "default" } else { &config.username };
        let password = config.password.as_ref();
        let resp3 = config.resp == "3";
        let answer = match (password, user) {
            (Some(password), user) if resp3 => self.ask_with(&["HELLO", "3", "AUTH", user], password)?,
            (None, _) if resp3 => self.ask(&[&["HELLO", "3"]])?.pop().unwrap_or(Ok(Reply::Other)),
            (Some(password), "default") => self.ask_with(&["AUTH"], password)?,
            (Some(password), user) => self.ask_with(&["AUTH", user], password)?,
            (None, _) => return Ok(()),
        };
        answer.map(drop).map_err(Refusal::into_error)
    }

    /// Sends a command that ends with a secret, and waits for the answer.
    fn ask_with(&mut self, words: &[&str], secret: &Secret) -> Result<Answer, Error> {
        let begin = encoded_before(words, secret.length());
        self.connection.send_secret(&begin, secret, b"\r\n").map_err(|error| self.broken(error))?;
        self.answer()
    }

    /// Sends all `commands` at once and waits for the answers.
    pub(crate) fn ask(&mut self, commands: &[&[&str]]) -> Result<Vec<Answer>, Error> {
        let sent = commands.iter().flat_map(|command| encoded(command)).collect::<Vec<_>>();
        self.connection.send(&sent).map_err(|error| self.broken(error))?;
        commands.iter().map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Result<Answer, Error> {
        loop {
            match self.inbox.next().map_err(|why| self.unreadable(why))? {
                Some(answer) => return Ok(answer),
                None => self.receive()?,
            }
        }
    }

    fn receive(&mut self) -> Result<(), Error> {
        let bytes = self.connection.receive(16 << 10).map_err(|error| self.broken(error))?;
        if bytes.is_empty() {
            return Err(self.broken(Error::Unreachable("the server closed the connection".into())));
        }
        self.inbox.add(&bytes).map_err(|why| self.unreadable(why))
    }

    fn unreadable(&self, why: Unreadable) -> Error {
        let (target, received) = (&self.target, &self.inbox.received);
        if why == Unreadable::TooLong {
            let most = MAX_BYTES >> 20;
            return failed!("{target} sent more than {most} MiB: is it Redis? check {TARGET}");
        }
        if received.first() == Some(&0x15) {
            return misconfigured!("{target} speaks TLS: set `tls`");
        }
        let begin = received.iter().take(40).map(|byte| char::from(*byte)).collect::<String>();
        failed!("{target} is not Redis, it sent {begin:?}: check {TARGET}")
    }

    /// A connection that ends before any reply usually means plain text on a TLS port, or the other way round.
    fn broken(&self, error: Error) -> Error {
        let target = &self.target;
        match error {
            // A server refuses a client without a certificate only after the handshake.
            Error::Unauthorized(why) => misconfigured!(
                "{}: check `tls`, and `certificate` and `key` of `tls` in this plugin's table",
                about(target, &why)
            ),
            other if self.inbox.received.is_empty() => {
                silent(other, |why| format!("{}, before any reply: check {TARGET}, and `tls`", about(target, &why)))
            }
            other => silent(other, |why| format!("{} in the middle of a reply: check {TARGET}", about(target, &why))),
        }
    }

    fn of_tls(&self, error: Error) -> Error {
        let target = &self.target;
        match error {
            Error::Failed(why) | Error::Unauthorized(why) => {
                misconfigured!("{why}: check `tls`, `tls-skip-verify`, and `authority` of `tls` in this plugin's table")
            }
            other => {
                silent(other, |why| format!("{}, in the TLS handshake: check `tls`, and {TARGET}", about(target, &why)))
            }
        }
    }
}

/// The error of a server that does not answer, or not in time, with the setting to check; other errors as they are.
fn silent(error: Error, explained: impl Fn(String) -> String) -> Error {
    match error {
        Error::Unreachable(why) => Error::Unreachable(explained(why)),
        Error::Timeout(why) => Error::Timeout(explained(why)),
        other => other,
    }
}

/// A command in Redis's protocol: an array of texts.
fn encoded(words: &[&str]) -> Vec<u8> {
    begun(words, words.len())
}

/// The beginning of a command whose last text, of this length in bytes, is a secret.
fn encoded_before(words: &[&str], length: usize) -> Vec<u8> {
    let mut bytes = begun(words, words.len() + 1);
    bytes.extend_from_slice(format!("${length}\r\n").as_bytes());
    bytes
}

/// The beginning of a command of `count` texts, with the first of them.
fn begun(words: &[&str], count: usize) -> Vec<u8> {
    let words_with_lengths = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect::<String>();
    format!("*{count}\r\n{words_with_lengths}").into_bytes()
}

fn answer(frame: OwnedFrame) -> Answer {
    match frame {
        OwnedFrame::SimpleError { data, .. } => Err(Refusal(data)),
        OwnedFrame::BlobError { data, .. } => Err(Refusal(String::from_utf8_lossy(&data).into_owned())),
        OwnedFrame::Array { data, .. } => Ok(Reply::List(data.into_iter().filter_map(text).collect())),
        OwnedFrame::Map { data, .. } => {
            let pairs = data.into_iter().flat_map(|(key, value)| [text(key), text(value)]);
            Ok(Reply::List(pairs.flatten().collect()))
        }
        other => Ok(text(other).map_or(Reply::Other, Reply::Text)),
    }
}

fn text(frame: OwnedFrame) -> Option<String> {
    match frame {
        OwnedFrame::BlobString { data, .. }
        | OwnedFrame::SimpleString { data, .. }
        | OwnedFrame::VerbatimString { data, .. } => Some(match String::from_utf8(data) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
        _ => None,
    }
}

impl Refusal {
    /// The plugin's error, with the cure.
    pub(crate) fn into_error(self) -> Error {
        let Self(text) = self;
        let has = |word: &str| text.contains(word);
        match text.split(' ').next().unwrap_or_default() {
            "WRONGPASS" => misconfigured!("{text}: check `username` and `password`"),
            "NOAUTH" => misconfigured!("{text}: set `password`"),
            "NOPERM" => misconfigured!("{text}: the user needs {RIGHTS}"),
            "NOPROTO" => misconfigured!("{text}: set `resp` to 2"),
            "DENIED" => misconfigured!("the server is in protected mode: set a password there, and `password` here"),
            "ERR" if has("invalid password") => misconfigured!("{text}: check `password`"),
            "ERR" if has("without any password") || has("no password is set") => {
                misconfigured!("the server has no password: remove `password`")
            }
            "ERR" if has("wrong number of arguments for 'auth'") => {
                misconfigured!("{text}: Redis has no users before version 6, remove `username`")
            }
            "ERR" if has("unknown command") && has("HELLO") => {
                misconfigured!("the server does not support RESP3: set `resp` to 2")
            }
            _ => failed!("error from the server: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Answer {
        answer(decode(bytes).unwrap().unwrap().0)
    }

    #[test]
    fn a_command_is_an_array_of_texts_with_their_lengths_in_bytes() {
        let whole = "*2\r\n$4\r\nAUTH\r\n$4\r\né x\r\n".as_bytes();
        assert_eq!(encoded(&["AUTH", "é x"]), whole);
        assert_eq!([encoded_before(&["AUTH"], 4), "é x\r\n".into()].concat(), whole);
    }

    #[test]
    fn both_protocols_decode_to_the_same_answers() {
        let text = |text: &str| Ok(Reply::Text(text.to_owned()));
        assert_eq!(decoded(b"$5\r\na:1\r\n\r\n"), text("a:1\r\n"));
        assert_eq!(decoded(b"=9\r\ntxt:a:1\r\n\r\n"), text("a:1\r\n"), "RESP3's verbatim string");
        assert_eq!(decoded(b"+OK\r\n"), text("OK"));
        let list = Ok(Reply::List(vec!["maxmemory".to_owned(), "0".to_owned()]));
        assert_eq!(decoded(b"*2\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n"), list);
        assert_eq!(decoded(b"%1\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n"), list, "RESP3's map");
        assert_eq!((decoded(b"_\r\n"), decoded(b":5\r\n")), (Ok(Reply::Other), Ok(Reply::Other)));
        let nested = |levels| {
            let mut inbox = Inbox::default();
            inbox.add("*1\r\n".repeat(levels).as_bytes()).unwrap();
            inbox.next()
        };
        assert_eq!((nested(2), nested(100_000)), (Ok(None), Err(Unreadable::Foreign)));
        for error in [&b"-NOAUTH no\r\n"[..], b"!9\r\nNOAUTH no\r\n"] {
            assert_eq!(decoded(error), Err(Refusal("NOAUTH no".into())));
        }
    }

    #[test]
    fn each_error_of_the_server_names_its_cure() {
        for (text, cure) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", "`username` and `password`"),
            ("NOAUTH Authentication required.", "set `password`"),
            ("NOPERM this user has no permissions to run the 'info' command", "+info"),
            ("ERR invalid password", "`password`"),
            ("ERR Client sent AUTH, but no password is set", "remove `password`"),
            ("ERR AUTH <password> called without any password configured for the default user.", "remove `password`"),
            ("ERR wrong number of arguments for 'auth' command", "remove `username`"),
            ("ERR unknown command `HELLO`, with args beginning with: `3`", "`resp` to 2"),
            ("NOPROTO unsupported protocol version", "`resp` to 2"),
            ("DENIED Redis is running in protected mode because ...", "set a password there"),
        ] {
            let error = Refusal(text.to_owned()).into_error();
            assert!(matches!(&error, Error::Misconfigured(said) if said.contains(cure)), "{text}: {error:?}");
        }
        let busy = Refusal("ERR max number of clients reached".into()).into_error();
        assert!(matches!(&busy, Error::Failed(said) if said.contains("max number of clients")), "{busy:?}");
    }
}
