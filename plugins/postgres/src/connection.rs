//! A connection to PostgreSQL: encryption, login, queries. `postgres-protocol` encodes and decodes the messages; their order is
//! documented in PostgreSQL's manual, "Frontend/Backend Protocol".

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{
    AuthenticationSaslBody, DataRowBody, ErrorFields, Header, Message, RowDescriptionBody,
};
use postgres_protocol::message::frontend;
use wasaba_plugin::tcp::{Connection, TlsFailure, TlsOptions};
use wasaba_plugin::{Error, OrFailed as _, Secret, about, crypto, failed, misconfigured};

use crate::Config;
use crate::rows::Rows;
use crate::scram;

/// At most this is read from one connection: no answer to our queries is longer.
const MAX_BYTES: usize = 8 << 20;
const MAX_MESSAGES: u32 = 100_000;

/// A session that is logged in.
pub(crate) struct Session {
    wire: Wire,
    /// The version that the server reports: `15.20 (Debian 15.20-0+deb12u1)`.
    pub(crate) version: String,
}

/// An error of the server: its message, and its code, SQLSTATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Why there is no session.
enum Failure {
    /// The server refused it.
    Refused(Refusal),
    /// It does not speak TLS, or the handshake failed.
    Tls(Error),
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Session {
    /// Connects and logs in as `sslmode` says; `allow` and `prefer` may need a second connection.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let start = |encrypted| Self::start_once(config, encrypted);
        let mode = if config.socket.is_some() { "disable" } else { config.sslmode.as_str() };
        let session = match mode {
            "disable" => start(false),
            "allow" => match start(false) {
                Err(Failure::Refused(refusal)) if refusal.is_for_this_encryption() => start(true),
                other => other,
            },
            "prefer" => match start(true) {
                Err(Failure::Tls(_)) => start(false),
                Err(Failure::Refused(refusal)) if refusal.is_for_this_encryption() => start(false),
                other => other,
            },
            _ => start(true),
        };
        session.map_err(|failure| match failure {
            Failure::Refused(refusal) => refusal.at_login(),
            Failure::Tls(error) | Failure::Other(error) => error,
        })
    }

    fn start_once(config: &Config, encrypted: bool) -> Result<Self, Failure> {
        let wire = Wire::connect(config)?;
        let mut wire = if encrypted { wire.encrypted()? } else { wire };
        let user = config.user.as_str();
        let mut parameters = vec![("user", user), ("application_name", "wasaba"), ("client_encoding", "UTF8")];
        parameters.extend(config.database.as_deref().map(|name| ("database", name)));
        wire.send(|buffer| frontend::startup_message(parameters, buffer))?;
        let login = Login { user, password: config.password.as_ref(), may_be_insecure: config.insecure_login };
        login.run(&mut wire)?;
        let mut version = None;
        loop {
            match wire.next()? {
                Message::ParameterStatus(body) if body.name()? == "server_version" => {
                    version = Some(body.value()?.into())
                }
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(body) => return Err(Failure::Refused(Refusal::of(body.fields()))),
                _ => {}
            }
        }
        let version = version.or_failed("the server does not report its version")?;
        Ok(Self { wire, version })
    }

    /// Sends all queries at once, in a read-only transaction with `timeout` for each. One that fails does not affect the others:
    /// those after it are sent again, and if it timed out, with half the timeout, so that several slow ones leave time for the
    /// others. If the server stops answering, the answers until then count.
    ///
    /// Simple queries, since connection poolers do not support others well. Each in its own message: before PostgreSQL 13 the
    /// timeout is for a whole message, and the server sends the results at its end.
    pub(crate) fn ask(&mut self, queries: &[String], timeout: Duration) -> Result<Vec<Result<Rows, Refusal>>, Error> {
        self.wire.is_asked = true;
        let mut timeout = timeout;
        let mut answers = Vec::new();
        while let Some(rest) = queries.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            // Zero means no timeout, on both sides.
            let margin = if timeout.is_zero() { Duration::ZERO } else { Duration::from_secs(1) };
            self.wire.connection.set_timeout(timeout.saturating_add(margin));
            match self.exchange(rest, timeout, &mut answers) {
                Ok(()) => {}
                Err(error) => {
                    let silence = self.wire.silence.take().filter(|_| !answers.is_empty()).ok_or(error)?;
                    let silent = Err(Refusal { code: Refusal::SILENCE.into(), message: silence });
                    answers.resize(queries.len(), silent);
                }
            }
            if answers.last().is_some_and(|last| last.as_ref().is_err_and(|last| last.code == Refusal::TIMED_OUT)) {
                timeout = (timeout / 2).max(timeout.min(Duration::from_millis(1)));
            }
        }
        Ok(answers)
    }

    /// Adds the results of `queries` to the `answers`, up to the one that failed.
    fn exchange(
        &mut self,
        queries: &[String],
        timeout: Duration,
        answers: &mut Vec<Result<Rows, Refusal>>,
    ) -> Result<(), Error> {
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", timeout.as_millis());
        let mut messages = [begin.as_str()].into_iter().chain(queries.iter().map(String::as_str)).chain(["COMMIT"]);
        let mut results = Results::of(messages.clone().count());
        self.wire.send(|buffer| messages.try_for_each(|query| frontend::query(query, buffer)))?;
        let wanted = answers.len().saturating_add(queries.len());
        while !results.are_complete() {
            results.take(self.wire.next()?, answers)?;
        }
        if results.is_refused || answers.len() == wanted {
            Ok(())
        } else {
            Err(failed!("the server did not answer all queries"))
        }
    }

    /// Says goodbye, whether or not the server receives it.
    pub(crate) fn end(mut self) {
        let goodbye = |buffer: &mut BytesMut| {
            frontend::terminate(buffer);
            Ok(())
        };
        self.wire.send(goodbye).ok();
    }
}

/// The results of several messages with queries, while they arrive.
pub(crate) struct Results {
    /// How many of the messages are not answered yet.
    left: usize,
    current: Option<Rows>,
    is_refused: bool,
}

impl Results {
    /// The results of so many messages.
    pub(crate) fn of(messages: usize) -> Self {
        Self { left: messages, current: None, is_refused: false }
    }

    /// Whether everything has arrived.
    pub(crate) fn are_complete(&self) -> bool {
        self.left == 0
    }

    /// Takes the next message, and adds to the `answers` what it completes.
    pub(crate) fn take(&mut self, message: Message, answers: &mut Vec<Result<Rows, Refusal>>) -> Result<(), Error> {
        match message {
            Message::RowDescription(body) => self.current = Some(Rows { columns: columns(&body)?, rows: Vec::new() }),
            Message::DataRow(body) => {
                if let Some(rows) = &mut self.current {
                    rows.rows.push(values(&body)?);
                }
            }
            Message::CommandComplete(_) => answers.extend(self.current.take().map(Ok)),
            Message::ErrorResponse(body) => {
                let refusal = Refusal::of(body.fields());
                if refusal.is_fatal() {
                    return Err(Error::Unreachable(format!("the server ended the session: {}", refusal.message)));
                }
                // Those after it are refused because of it.
                if !std::mem::replace(&mut self.is_refused, true) {
                    answers.push(Err(refusal));
                }
            }
            Message::ReadyForQuery(_) => self.left = self.left.saturating_sub(1),
            _ => {}
        }
        Ok(())
    }
}

fn columns(body: &RowDescriptionBody) -> io::Result<Vec<String>> {
    body.fields().map(|field| Ok(field.name().to_owned())).collect()
}

fn values(body: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let text =
        |range: Option<std::ops::Range<usize>>| Some(String::from_utf8_lossy(body.buffer().get(range?)?).into_owned());
    body.ranges().map(|range| Ok(text(range))).collect()
}

/// Who logs in, and how.
struct Login<'a> {
    user: &'a str,
    password: Option<&'a Secret>,
    /// Whether any server may get the password in clear text or as MD5, which is as good as clear text.
    may_be_insecure: bool,
}

impl Login<'_> {
    /// Authenticates as the server requests it.
    fn run(&self, wire: &mut Wire) -> Result<(), Failure> {
        loop {
            match wire.next()? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    let password = self.password_for(wire, "in clear text")?;
                    let sent = wire.connection.send_secret(&before_password(password)?, password, &[0]);
                    sent.map_err(|error| wire.target.explain(error))?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let password = self.password_for(wire, "as MD5")?;
                    let hash = crypto::postgres_md5(password, self.user, &body.salt());
                    wire.send(|buffer| frontend::password_message(hash.as_bytes(), buffer))?;
                }
                Message::AuthenticationSasl(body) => {
                    check_mechanisms(&body)?;
                    scram_log_in(wire, self.password()?)?;
                }
                Message::ErrorResponse(body) => return Err(Failure::Refused(Refusal::of(body.fields()))),
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                Message::AuthenticationGss | Message::AuthenticationSspi => return Err(unsupported("GSSAPI").into()),
                Message::AuthenticationKerberosV5 => return Err(unsupported("Kerberos").into()),
                Message::AuthenticationGssContinue(_)
                | Message::AuthenticationSaslContinue(_)
                | Message::AuthenticationSaslFinal(_) => {
                    return Err(unsupported("unknown").into());
                }
                _ => return Err(failed!("unexpected message from the server during login").into()),
            }
        }
    }

    fn password(&self) -> Result<&Secret, Error> {
        let missing = || misconfigured!("the server asks for a password: set `password`");
        self.password.ok_or_else(missing)
    }

    /// The password for a server that learns it, or as much as it needs to log in elsewhere: only for one that is verified or on this
    /// machine.
    fn password_for(&self, wire: &Wire, how: &str) -> Result<&Secret, Error> {
        let password = self.password()?;
        if wire.is_verified || wire.connection.is_local() || self.may_be_insecure {
            return Ok(password);
        }
        Err(misconfigured!(
            "{} asks for the password {how}, and is not verified: use scram-sha-256 in its pg_hba.conf, or set `sslmode` to \
             verify-full, or `insecure-login` to true",
            wire.target.name
        ))
    }
}

/// The message with a password, up to it: its type, and its length with the zero at the end.
fn before_password(password: &Secret) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(password.length().saturating_add(5));
    let length = length.map_err(|_| misconfigured!("`password` is too long"))?;
    Ok([&b"p"[..], &length.to_be_bytes()].concat())
}

/// Whether the server offers the method of authentication that we have.
pub(crate) fn check_mechanisms(body: &AuthenticationSaslBody) -> Result<(), Error> {
    let mechanisms = body.mechanisms().map(|name| Ok(name.to_owned())).collect::<Vec<_>>()?;
    if mechanisms.iter().any(|name| name == scram::NAME) { Ok(()) } else { Err(unsupported(&mechanisms.join(", "))) }
}

fn unsupported(method: &str) -> Error {
    misconfigured!(
        "unsupported authentication method {method}: use scram-sha-256 for this `user` in the server's pg_hba.conf"
    )
}

fn scram_log_in(wire: &mut Wire, password: &Secret) -> Result<(), Failure> {
    let exchange = scram::Exchange::new(nonce()?);
    wire.send(|buffer| frontend::sasl_initial_response(scram::NAME, exchange.first().as_bytes(), buffer))?;
    let malformed = || failed!("invalid SCRAM message from the server");
    let challenge = match wire.next()? {
        Message::AuthenticationSaslContinue(body) => {
            let text = std::str::from_utf8(body.data()).map_err(|_| malformed())?;
            exchange.challenge(text).ok_or_else(malformed)?
        }
        Message::ErrorResponse(body) => return Err(Failure::Refused(Refusal::of(body.fields()))),
        _ => return Err(malformed().into()),
    };
    let signed = exchange.auth_message(&challenge);
    let proof = crypto::scram_sha256(password, &challenge.salt, challenge.iterations, &signed);
    let proof = scram::Exchange::proved(&challenge, proof.map_err(|error| wire.target.explain(error))?);
    wire.send(|buffer| frontend::sasl_response(proof.message.as_bytes(), buffer))?;
    match wire.next()? {
        Message::AuthenticationSaslFinal(body) => {
            let answered = std::str::from_utf8(body.data()).is_ok_and(|text| proof.is_answered_by(text));
            let impostor = "the server did not prove that it knows the password: is it the right server?";
            if answered { Ok(()) } else { Err(Error::Failed(impostor.into()).into()) }
        }
        Message::ErrorResponse(body) => Err(Failure::Refused(Refusal::of(body.fields()))),
        _ => Err(malformed().into()),
    }
}

fn nonce() -> Result<String, Error> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|error| failed!("cannot get random numbers: {error}"))?;
    Ok(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes))
}

impl Refusal {
    /// The code of a query that timed out.
    pub(crate) const TIMED_OUT: &str = "57014";

    /// In place of a code if there was no answer at all.
    pub(crate) const SILENCE: &str = "silence";

    fn of(fields: ErrorFields<'_>) -> Self {
        let mut refusal = Self { code: String::new(), message: String::new() };
        let read = fields.for_each(|field| {
            match field.type_() {
                b'C' => refusal.code = String::from_utf8_lossy(field.value_bytes()).into_owned(),
                b'M' => refusal.message = String::from_utf8_lossy(field.value_bytes()).into_owned(),
                _ => {}
            }
            Ok(())
        });
        if read.is_err() || refusal.message.is_empty() {
            "the server gave no reason".clone_into(&mut refusal.message);
        }
        refusal
    }

    /// Whether the server's pg_hba.conf has no entry for a connection with or without encryption, so that the other may work. A
    /// password that was refused is not sent again, perhaps in plain text.
    fn is_for_this_encryption(&self) -> bool {
        self.code == "28000"
    }

    /// Codes of class 57P: the server is being stopped.
    fn is_fatal(&self) -> bool {
        self.code.starts_with("57P")
    }

    /// The plugin's error if the login was refused. The codes are documented in PostgreSQL's manual, "PostgreSQL Error Codes".
    fn at_login(self) -> Error {
        let Self { code, message } = self;
        match code.as_str() {
            "28P01" => misconfigured!("{message}: check `user` and `password`"),
            "28000" => misconfigured!("{message}: check `user`, `sslmode` and the server's pg_hba.conf"),
            "3D000" => misconfigured!("{message}: set `database` to an existing one"),
            code if code.starts_with("57P") => Error::Unreachable(message),
            _ => Error::Failed(message),
        }
    }
}

/// What the server has sent: bytes in, messages out.
pub(crate) struct Inbox {
    received: BytesMut,
    left_bytes: usize,
    left_messages: u32,
}

/// Why the server's bytes are not messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They are not PostgreSQL's protocol.
    Foreign,
    /// They are more than all answers have.
    TooLong,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { received: BytesMut::new(), left_bytes: MAX_BYTES, left_messages: MAX_MESSAGES }
    }

    /// Adds bytes that have arrived, unless they are too many in all.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        self.left_bytes = self.left_bytes.checked_sub(bytes.len()).ok_or(Unreadable::TooLong)?;
        self.received.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message; `None` if more bytes must arrive.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Unreadable> {
        if let Some(header) = Header::parse(&self.received).map_err(|_| Unreadable::Foreign)?
            && usize::try_from(header.len()).is_ok_and(|length| length > MAX_BYTES)
        {
            // A peer that has spoken PostgreSQL's protocol before still does.
            return Err(if self.left_messages < MAX_MESSAGES { Unreadable::TooLong } else { Unreadable::Foreign });
        }
        let message = Message::parse(&mut self.received).map_err(|_| Unreadable::Foreign)?;
        if message.is_some() {
            self.left_messages = self.left_messages.checked_sub(1).ok_or(Unreadable::TooLong)?;
        }
        Ok(message)
    }
}

/// The stream of messages.
struct Wire {
    connection: Connection,
    /// The peer.
    target: Target,
    inbox: Inbox,
    /// Whether queries were sent, so that the time until an answer depends on them.
    is_asked: bool,
    /// The timeout's message, if a timeout ended the conversation.
    silence: Option<String>,
    /// Whether TLS has verified who the server is.
    is_verified: bool,
}

impl Wire {
    fn connect(config: &Config) -> Result<Self, Error> {
        let Config { hostname, port, connect_timeout, .. } = config;
        let (target, connected) = match &config.socket {
            Some(path) => (Target { name: path.clone(), settings: "`socket`" }, Connection::connect_unix(path)),
            None => {
                let target = Target { name: format!("{hostname}:{port}"), settings: "`hostname` and `port`" };
                (target, Connection::connect_within(hostname, *port, *connect_timeout))
            }
        };
        let connection = connected.map_err(|error| target.explain(error))?;
        connection.set_timeout(*connect_timeout);
        Ok(Self { connection, target, inbox: Inbox::new(), is_asked: false, silence: None, is_verified: false })
    }

    /// Requests TLS and upgrades to it.
    fn encrypted(mut self) -> Result<Self, Failure> {
        self.send(|buffer| {
            frontend::ssl_request(buffer);
            Ok(())
        })?;
        // One byte and no more: what came after it in plain text could be an attacker's.
        match self.connection.receive(1).map_err(|error| self.target.explain(error))?.first() {
            Some(b'S') => {}
            Some(b'N' | b'E') => {
                let cure = "set `sslmode` to disable, or turn on `ssl` in its postgresql.conf";
                return Err(Failure::Tls(misconfigured!("the server does not speak TLS: {cure}")));
            }
            Some(_) => {
                return Err(failed!("the server does not speak PostgreSQL's protocol: check `port`").into());
            }
            None => return Err(self.closed().into()),
        }
        match self.connection.start_tls(TlsOptions::default()) {
            Ok(info) => {
                self.is_verified = info.verified != "encrypt";
                Ok(self)
            }
            Err(TlsFailure { error: Error::Failed(why) | Error::Unauthorized(why), .. }) => {
                let cure = "check `sslmode`, and `authority`, `certificate` and `key` of `tls` in this plugin's table";
                Err(Failure::Tls(misconfigured!("{why}: {cure}")))
            }
            Err(TlsFailure { error, .. }) => Err(self.target.explain(error).into()),
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Error> {
        let mut buffer = BytesMut::new();
        write(&mut buffer).map_err(|error| misconfigured!("a setting has an invalid value: {error}"))?;
        self.connection.send(&buffer).map_err(|error| self.target.explain(error))
    }

    fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.inbox.next().map_err(|why| self.unreadable(why))? {
                return Ok(message);
            }
            let bytes = self.connection.receive(16 << 10).map_err(|error| self.interrupted(error))?;
            if bytes.is_empty() {
                return Err(self.closed());
            }
            self.inbox.add(&bytes).map_err(|why| self.unreadable(why))?;
        }
    }

    fn unreadable(&self, why: Unreadable) -> Error {
        if why == Unreadable::TooLong {
            let most = MAX_BYTES >> 20;
            return failed!(
                "the answers are longer than {most} MiB or {MAX_MESSAGES} messages: use fewer parts in `extra`"
            );
        }
        let begin = self.inbox.received.iter().take(40).map(|byte| char::from(*byte)).collect::<String>();
        let Target { name, settings } = &self.target;
        failed!("{name} does not speak PostgreSQL's protocol, it sent {begin:?}: check {settings}")
    }

    fn interrupted(&mut self, error: Error) -> Error {
        match error {
            Error::Timeout(why) if self.is_asked => {
                let error =
                    format!("{}, waiting for a query: check `statement-timeout`", about(&self.target.name, &why));
                self.silence = Some(why);
                Error::Timeout(error)
            }
            other => self.target.explain(other),
        }
    }

    fn closed(&self) -> Error {
        let Target { name, settings } = &self.target;
        Error::Unreachable(format!("{name} closed the connection in the middle of an answer: check {settings}"))
    }
}

/// Where the server is.
struct Target {
    /// `db:5432`, or the socket's path.
    name: String,
    /// The settings that have its address.
    settings: &'static str,
}

impl Target {
    fn explain(&self, error: Error) -> Error {
        let Self { name, settings } = self;
        match error {
            Error::Unreachable(why) => Error::Unreachable(format!("{}: check {settings}", about(name, &why))),
            Error::Timeout(why) => Error::Timeout(format!("{}: check {settings}", about(name, &why))),
            // With TLS 1.3 the server's refusal of a certificate arrives after the handshake.
            Error::Unauthorized(why) => misconfigured!(
                "{}: check `sslmode`, and `authority`, `certificate` and `key` of `tls` in this plugin's table",
                about(name, &why)
            ),
            Error::Invalid(why) => failed!("{name}: {why}"),
            other => other,
        }
    }
}
