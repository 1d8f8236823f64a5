//! The script: canned answers in place of the outside, for a plugin author's tests. Grants are asked all the same.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasaba_core::text::printable;

use super::bindings::wasaba::plugin::http::{Request, Response};
use super::connect::Stream;

/// What the outside says in one call, and what of it was asked for.
#[derive(Debug, Default)]
pub struct Script {
    /// Answers; several to the same request are given one after the other, the last one for ever.
    pub http: Vec<HttpAnswer>,
    /// Conversations, one for each connection.
    pub tcp: Vec<Conversation>,
    /// Files by path.
    pub files: BTreeMap<String, Vec<u8>>,
    progress: Arc<Mutex<Progress>>,
}

/// A canned answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The request's method.
    pub method: String,
    /// The request's URL, as the plugin writes it.
    pub url: String,
    /// Headers that the request must have, among others.
    pub request_headers: Vec<(String, String)>,
    /// The body that the request must have; any, if none is given.
    pub request_body: Option<Vec<u8>>,
    /// The answer, or why nobody answers.
    pub response: Result<Response, String>,
}

/// A canned conversation over a stream.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// `host:port` or `unix:/path`.
    pub with: String,
    /// Its parts, or why nobody takes the connection.
    pub turns: Result<Vec<Turn>, String>,
}

/// A part of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What the plugin must write.
    Expect(Vec<u8>),
    /// What it is answered.
    Send(Vec<u8>),
}

/// What was asked for, by the places in the script's lists, and what went wrong in it.
#[derive(Debug, Default)]
struct Progress {
    answered: Vec<usize>,
    held: Vec<usize>,
    read: Vec<String>,
    complaints: Vec<String>,
}

impl Script {
    pub(super) fn fetch(&self, request: &Request) -> Result<Response, String> {
        let mut progress = lock(&self.progress);
        let fits = |answer: &HttpAnswer| answer.method == request.method && answer.url == request.url;
        let fitting = self.http.iter().enumerate().filter(|(_, answer)| fits(answer)).collect::<Vec<_>>();
        let next = fitting.iter().find(|(index, _)| !progress.answered.contains(index));
        let Some((index, answer)) = next.or(fitting.last()).copied() else {
            return Err(progress.note(format!("the case has no answer to {} {}", request.method, request.url)));
        };
        progress.answered.push(index);
        for (name, value) in &answer.request_headers {
            let same = |(had, with): &(String, String)| had.eq_ignore_ascii_case(name) && with == value;
            if !request.headers.iter().any(same) {
                progress.note(format!("{} {} came without the header `{name}: {value}`", answer.method, answer.url));
            }
        }
        if let Some(expected) = answer.request_body.as_ref().filter(|body| request.body.as_ref() != Some(body)) {
            let came = request.body.as_ref().map_or("no body".to_owned(), |body| shown(body));
            progress.note(format!("{} {} came with {came}, not {}", answer.method, answer.url, shown(expected)));
        }
        answer.response.clone()
    }

    pub(super) fn connect(&self, to: &str) -> Result<Box<dyn Stream>, String> {
        let mut progress = lock(&self.progress);
        let mut with_it = self.tcp.iter().enumerate().filter(|(_, conversation)| conversation.with == to);
        let Some((index, conversation)) = with_it.find(|(index, _)| !progress.held.contains(index)) else {
            return Err(progress.note(format!("the case has no (further) conversation with {to}")));
        };
        progress.held.push(index);
        drop(progress);
        let mut talk = Talk {
            with: to.to_owned(),
            turns: conversation.turns.clone()?.into(),
            written: Vec::new(),
            answers: VecDeque::new(),
            progress: Arc::clone(&self.progress),
        };
        talk.go_on()?;
        Ok(Box::new(talk))
    }

    pub(super) fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        let mut progress = lock(&self.progress);
        let Some(content) = self.files.get(path) else {
            return Err(progress.note(format!("the case has no file `{path}`")));
        };
        progress.read.push(path.to_owned());
        Ok(content.clone())
    }

    /// What of the script was not followed, a line each: what the plugin asked for that is not there, what is there that it
    /// did not ask for. To be asked after the call.
    #[must_use]
    pub fn deviations(&self) -> Vec<String> {
        let progress = lock(&self.progress);
        let mut deviations = progress.complaints.clone();
        for (index, HttpAnswer { method, url, .. }) in self.http.iter().enumerate() {
            if !progress.answered.contains(&index) {
                deviations.push(format!("the answer to {method} {url} was not asked for"));
            }
        }
        for (index, Conversation { with, .. }) in self.tcp.iter().enumerate() {
            if !progress.held.contains(&index) {
                deviations.push(format!("nobody connected for a conversation with {with}"));
            }
        }
        let unread = self.files.keys().filter(|path| !progress.read.contains(path));
        deviations.extend(unread.map(|path| format!("the file `{path}` was not read")));
        deviations
    }
}

impl Progress {
    fn note(&mut self, complaint: String) -> String {
        self.complaints.push(complaint.clone());
        complaint
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A conversation under way.
struct Talk {
    with: String,
    turns: VecDeque<Turn>,
    /// What the plugin wrote and nobody expected yet.
    written: Vec<u8>,
    /// What waits to be read.
    answers: VecDeque<u8>,
    progress: Arc<Mutex<Progress>>,
}

impl Talk {
    /// Takes every turn whose time has come.
    fn go_on(&mut self) -> Result<(), String> {
        loop {
            match self.turns.front() {
                Some(Turn::Send(bytes)) => self.answers.extend(bytes),
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
                    // What follows is told by this already.
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

impl Drop for Talk {
    fn drop(&mut self) {
        let with = self.with.clone();
        if let Some(Turn::Expect(bytes)) = self.turns.front() {
            let text = format!("the conversation with {with} ended before the plugin wrote {}", shown(bytes));
            lock(&self.progress).note(text);
        } else if !self.written.is_empty() {
            let text = format!("at the end of the conversation with {with} the plugin wrote {}", shown(&self.written));
            lock(&self.progress).note(text);
        }
        if !self.answers.is_empty() {
            let text = format!(
                "the conversation with {with} ended before the plugin read {}",
                shown(self.answers.make_contiguous())
            );
            lock(&self.progress).note(text);
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", printable(&String::from_utf8_lossy(bytes), 200))
}

impl AsyncRead for Talk {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let (true, Some(Turn::Expect(bytes))) = (self.answers.is_empty(), self.turns.front()) {
            let text = format!("the plugin waits for an answer, but the case expects that it writes {}", shown(bytes));
            return Poll::Ready(Err(io::Error::other(text)));
        }
        let length = buffer.remaining().min(self.answers.len());
        let bytes = self.answers.drain(..length).collect::<Vec<_>>();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Talk {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(self.go_on().map(|()| bytes.len()).map_err(io::Error::other))
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

    fn talk(turns: &[Turn]) -> Box<dyn Stream> {
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
    async fn a_conversation_goes_turn_by_turn() {
        let ping = [Turn::Send(b"hello\n".to_vec()), Turn::Expect(b"PING".to_vec()), Turn::Send(b"PONG".to_vec())];
        let mut talk = talk(&ping);
        talk.write_all(b"PI").await.unwrap();
        let mut greeting = [0; 6];
        talk.read_exact(&mut greeting).await.unwrap();
        talk.write_all(b"NG").await.unwrap();
        let mut answer = String::new();
        talk.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&greeting, answer.as_str()), (b"hello\n", "PONG"));
    }

    #[tokio::test]
    async fn what_is_not_expected_is_an_error_that_shows_both() {
        let error = talk(&[Turn::Expect(b"PING".to_vec())]).write_all(b"QUIT").await.unwrap_err().to_string();
        assert!(error.contains("expects \"PING\"") && error.contains("wrote \"QUIT\""), "{error}");
        let waits = talk(&[Turn::Expect(b"PING".to_vec())]).read_u8().await.unwrap_err().to_string();
        assert!(waits.contains("waits for an answer"), "{waits}");
    }

    #[test]
    fn the_last_answer_to_a_request_stays() {
        let http = vec![answer("http://a/", 503), answer("http://b/", 404), answer("http://a/", 200)];
        let script = Script { http, ..Script::default() };
        let statuses = [(); 3].map(|()| script.fetch(&request("http://a/")).unwrap().status);
        assert_eq!(statuses, [503, 200, 200]);
        assert_eq!(script.deviations(), ["the answer to GET http://b/ was not asked for"]);
    }

    #[test]
    fn what_was_not_asked_for_and_what_is_not_there_are_deviations() {
        let mut script = script(&[]);
        script.http.push(HttpAnswer {
            request_headers: vec![("accept".into(), "*/*".into())],
            request_body: Some(b"yes".to_vec()),
            ..answer("http://a/", 200)
        });
        script.files.insert("/a".into(), Vec::new());
        script.fetch(&request("http://a/")).unwrap();
        assert!(script.fetch(&request("http://b/")).is_err() && script.file("/b").is_err());
        assert!(script.connect("db:2").is_err());
        let expected = [
            "GET http://a/ came without the header `accept: */*`",
            "GET http://a/ came with no body, not \"yes\"",
            "the case has no answer to GET http://b/",
            "the case has no file `/b`",
            "the case has no (further) conversation with db:2",
            "nobody connected for a conversation with db:1",
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
