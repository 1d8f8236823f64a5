//! The script: canned answers in place of the outside, for a plugin author's tests. Grants and limits still apply.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasaba_core::text::printable;

use super::connect::Stream;

/// What the outside answers in one call, and what of it was used.
#[derive(Debug, Default)]
pub struct Script {
    /// Responses; several to the same request are given one after the other, and the last one again and again.
    pub http: Vec<HttpAnswer>,
    /// Conversations, one for each connection.
    pub tcp: Vec<Conversation>,
    /// Files by path: what is in each, or why it cannot be read.
    pub files: BTreeMap<String, Result<Vec<u8>, String>>,
    progress: Arc<Mutex<Progress>>,
}

/// A canned response to an HTTP request.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The request's method.
    pub method: String,
    /// The request's URL, as the plugin writes it.
    pub url: String,
    /// Headers that the request must have, among others.
    pub request_headers: Vec<(String, String)>,
    /// The body that the request must have; `None` takes any.
    pub request_body: Option<Vec<u8>>,
    /// The response, or why the server is unreachable.
    pub response: Result<Response, String>,
}

/// A request as the plugin sent it, with what the agent added.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
}

/// A response to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the server's order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A canned conversation over a stream.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// `host:port` or `unix:/path`.
    pub with: String,
    /// Its turns, or why the server is unreachable.
    pub turns: Result<Vec<Turn>, String>,
}

/// One side's turn in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What the plugin must write.
    Expect(Vec<u8>),
    /// What the plugin can then read.
    Send(Vec<u8>),
}

/// What of the script was used, by the index in its lists, and what deviated from it.
#[derive(Debug, Default)]
struct Progress {
    answered: Vec<usize>,
    connected: Vec<usize>,
    read: Vec<String>,
    logged: Vec<String>,
    deviations: Vec<String>,
}

impl Script {
    pub(super) fn fetch(&self, request: &Request) -> Result<Response, String> {
        let mut progress = lock(&self.progress);
        let fits = |answer: &HttpAnswer| answer.method == request.method && answer.url == request.url;
        let fitting = self.http.iter().enumerate().filter(|(_, answer)| fits(answer)).collect::<Vec<_>>();
        let next = fitting.iter().find(|(index, _)| !progress.answered.contains(index));
        let Some((index, answer)) = next.or(fitting.last()).copied() else {
            return Err(progress.note(format!("the case has no response to {} {}", request.method, request.url)));
        };
        progress.answered.push(index);
        for (name, value) in &answer.request_headers {
            let same = |(had, with): &(String, String)| had.eq_ignore_ascii_case(name) && with == value;
            if !request.headers.iter().any(same) {
                progress
                    .note(format!("{} {} was sent without the header `{name}: {value}`", answer.method, answer.url));
            }
        }
        if let Some(expected) = answer.request_body.as_ref().filter(|body| request.body.as_ref() != Some(body)) {
            let sent = request.body.as_ref().map_or("no body".to_owned(), |body| shown(body));
            progress.note(format!("{} {} was sent with {sent}, not {}", answer.method, answer.url, shown(expected)));
        }
        answer.response.clone()
    }

    /// A connection to `to` on which each read waits for an answer.
    pub(super) fn connect(&self, to: &str) -> Result<Box<dyn Stream>, String> {
        self.open(to, false)
    }

    /// A connection to `to` of a plugin that looks whether there is something to read, which is not yet a read.
    pub(super) fn connect_polled(&self, to: &str) -> Result<Box<dyn Stream>, String> {
        self.open(to, true)
    }

    fn open(&self, to: &str, is_polled: bool) -> Result<Box<dyn Stream>, String> {
        let mut progress = lock(&self.progress);
        let mut scripted = self.tcp.iter().enumerate().filter(|(_, conversation)| conversation.with == to);
        let Some((index, conversation)) = scripted.find(|(index, _)| !progress.connected.contains(index)) else {
            return Err(progress.note(format!("the case has no more conversations with {to}")));
        };
        progress.connected.push(index);
        drop(progress);
        let mut connection = ScriptedConnection {
            with: to.to_owned(),
            turns: conversation.turns.clone()?.into(),
            written: Vec::new(),
            unread: VecDeque::new(),
            is_polled,
            progress: Arc::clone(&self.progress),
        };
        connection.advance()?;
        Ok(Box::new(connection))
    }

    pub(super) fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        let mut progress = lock(&self.progress);
        let Some(content) = self.files.get(path) else {
            return Err(progress.note(format!("the case has no file `{path}`")));
        };
        progress.read.push(path.to_owned());
        content.clone().map_err(|why| format!("cannot read `{path}`: {why}"))
    }

    /// Notes a line of the log, with its level in front.
    pub(super) fn logged(&self, line: String) {
        lock(&self.progress).logged.push(line);
    }

    /// The lines that the plugin logged, each with its level: `warning: the queue is long`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lock(&self.progress).logged.clone()
    }

    /// How the plugin deviated from the script, a line each: what it used that is not in the script, and what is in the
    /// script that it did not use. Complete only after the call.
    #[must_use]
    pub fn deviations(&self) -> Vec<String> {
        let progress = lock(&self.progress);
        let mut deviations = progress.deviations.clone();
        for (index, HttpAnswer { method, url, .. }) in self.http.iter().enumerate() {
            if !progress.answered.contains(&index) {
                deviations.push(format!("the response to {method} {url} was not used"));
            }
        }
        for (index, Conversation { with, .. }) in self.tcp.iter().enumerate() {
            if !progress.connected.contains(&index) {
                deviations.push(format!("the conversation with {with} was not used: the plugin did not connect"));
            }
        }
        let unread = self.files.keys().filter(|path| !progress.read.contains(path));
        deviations.extend(unread.map(|path| format!("the file `{path}` was not read")));
        deviations
    }
}

impl Progress {
    fn note(&mut self, deviation: String) -> String {
        self.deviations.push(deviation.clone());
        deviation
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection whose other side follows the script.
struct ScriptedConnection {
    with: String,
    turns: VecDeque<Turn>,
    /// What the plugin wrote beyond the turns so far.
    written: Vec<u8>,
    /// What the plugin can read.
    unread: VecDeque<u8>,
    /// Whether a read out of turn waits, as for a server that is silent, and is no error.
    is_polled: bool,
    progress: Arc<Mutex<Progress>>,
}

impl ScriptedConnection {
    /// Takes every turn that is due.
    fn advance(&mut self) -> Result<(), String> {
        loop {
            match self.turns.front() {
                Some(Turn::Send(bytes)) => self.unread.extend(bytes),
                Some(Turn::Expect(bytes)) if self.written.starts_with(bytes) => {
                    self.written.drain(..bytes.len());
                }
                Some(Turn::Expect(bytes)) if !bytes.starts_with(&self.written) => {
                    let text = format!(
                        "the conversation with {} expects {}, the plugin wrote {}",
                        self.with,
                        shown(bytes),
                        shown(&self.written)
                    );
                    // One deviation is enough: the rest of the conversation follows from it.
                    self.turns.clear();
                    self.written.clear();
                    return Err(lock(&self.progress).note(text));
                }
                Some(Turn::Expect(_)) | None => return Ok(()),
            }
            self.turns.pop_front();
        }
    }
}

impl Drop for ScriptedConnection {
    fn drop(&mut self) {
        let with = self.with.clone();
        if let Some(Turn::Expect(bytes)) = self.turns.front() {
            let text = format!("the conversation with {with} ended before the plugin wrote {}", shown(bytes));
            lock(&self.progress).note(text);
        } else if !self.written.is_empty() {
            let text = format!("at the end of the conversation with {with} the plugin wrote {}", shown(&self.written));
            lock(&self.progress).note(text);
        }
        if !self.unread.is_empty() {
            let text = format!(
                "the conversation with {with} ended before the plugin read {}",
                shown(self.unread.make_contiguous())
            );
            lock(&self.progress).note(text);
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", printable(&String::from_utf8_lossy(bytes), 200))
}

impl AsyncRead for ScriptedConnection {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let (true, Some(Turn::Expect(bytes))) = (self.unread.is_empty(), self.turns.front()) {
            if self.is_polled {
                return Poll::Pending; // until the plugin writes, which this waits for in vain if it never does
            }
            let text = format!("the plugin reads, but the case expects it to write {}", shown(bytes));
            return Poll::Ready(Err(io::Error::other(text)));
        }
        let length = buffer.remaining().min(self.unread.len());
        let bytes = self.unread.drain(..length).collect::<Vec<_>>();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ScriptedConnection {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(self.advance().map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn script(turns: &[Turn]) -> Script {
        Script { tcp: vec![Conversation { with: "db:1".into(), turns: Ok(turns.to_vec()) }], ..Script::default() }
    }

    fn connection(turns: &[Turn]) -> Box<dyn Stream> {
        script(turns).connect("db:1").unwrap()
    }

    fn answer(url: &str, status: u16) -> HttpAnswer {
        HttpAnswer {
            method: "GET".into(),
            url: url.into(),
            request_headers: Vec::new(),
            request_body: None,
            response: Ok(Response { status, headers: Vec::new(), body: Vec::new() }),
        }
    }

    fn request(url: &str) -> Request {
        Request { method: "GET".into(), url: url.into(), headers: Vec::new(), body: None }
    }

    #[tokio::test]
    async fn a_conversation_proceeds_turn_by_turn() {
        let ping = [Turn::Send(b"hello\n".to_vec()), Turn::Expect(b"PING".to_vec()), Turn::Send(b"PONG".to_vec())];
        let mut connection = connection(&ping);
        connection.write_all(b"PI").await.unwrap();
        let mut greeting = [0; 6];
        connection.read_exact(&mut greeting).await.unwrap();
        connection.write_all(b"NG").await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&greeting, answer.as_str()), (b"hello\n", "PONG"));
    }

    #[tokio::test]
    async fn an_unexpected_write_is_an_error_that_shows_both_texts() {
        let error = connection(&[Turn::Expect(b"PING".to_vec())]).write_all(b"QUIT").await.unwrap_err().to_string();
        assert!(error.contains("expects \"PING\"") && error.contains("wrote \"QUIT\""), "{error}");
        let waits = connection(&[Turn::Expect(b"PING".to_vec())]).read_u8().await.unwrap_err().to_string();
        assert!(waits.contains("expects it to write"), "{waits}");
    }

    #[test]
    fn the_last_response_to_a_request_is_repeated() {
        let http = vec![answer("http://a/", 503), answer("http://b/", 404), answer("http://a/", 200)];
        let script = Script { http, ..Script::default() };
        let statuses = [(); 3].map(|()| script.fetch(&request("http://a/")).unwrap().status);
        assert_eq!(statuses, [503, 200, 200]);
        assert_eq!(script.deviations(), ["the response to GET http://b/ was not used"]);
    }

    #[test]
    fn what_was_not_used_and_what_is_missing_are_deviations() {
        let mut script = script(&[]);
        script.http.push(HttpAnswer {
            request_headers: vec![("accept".into(), "*/*".into())],
            request_body: Some(b"yes".to_vec()),
            ..answer("http://a/", 200)
        });
        script.files.insert("/a".into(), Ok(Vec::new()));
        script.fetch(&request("http://a/")).unwrap();
        assert!(script.fetch(&request("http://b/")).is_err() && script.file("/b").is_err());
        assert!(script.connect("db:2").is_err());
        let expected = [
            "GET http://a/ was sent without the header `accept: */*`",
            "GET http://a/ was sent with no body, not \"yes\"",
            "the case has no response to GET http://b/",
            "the case has no file `/b`",
            "the case has no more conversations with db:2",
            "the conversation with db:1 was not used: the plugin did not connect",
            "the file `/a` was not read",
        ];
        assert_eq!(script.deviations(), expected);
    }

    #[tokio::test]
    async fn a_conversation_that_ends_too_early_or_too_late_is_a_deviation() {
        let script = Script {
            tcp: [vec![Turn::Expect(b"PING".to_vec())], vec![Turn::Send(b"hello".to_vec())]]
                .map(|turns| Conversation { with: "db:1".into(), turns: Ok(turns) })
                .to_vec(),
            ..Script::default()
        };
        drop(script.connect("db:1").unwrap());
        script.connect("db:1").unwrap().write_all(b"QUIT").await.unwrap();
        let expected = [
            "the conversation with db:1 ended before the plugin wrote \"PING\"",
            "at the end of the conversation with db:1 the plugin wrote \"QUIT\"",
            "the conversation with db:1 ended before the plugin read \"hello\"",
        ];
        assert_eq!(script.deviations(), expected);
    }
}
