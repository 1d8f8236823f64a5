//! The script: canned answers in place of the outside, for a plugin author's tests. Grants are asked all the same.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bindings::wasaba::plugin::http::{Request, Response};
use super::connect::Stream;
use super::log::printable;

/// What the outside says in one test case.
#[derive(Debug, Default)]
pub struct Script {
    /// Answers by method and URL; several for the same are given one after the other, the last one for ever.
    pub http: Mutex<Vec<(String, String, VecDeque<Response>)>>,
    /// Conversations by `host:port` or `unix:/path`; one for each connection.
    pub tcp: Mutex<BTreeMap<String, VecDeque<Vec<Turn>>>>,
    /// Files by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A part of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What the plugin must write.
    Expect(Vec<u8>),
    /// What it is answered.
    Send(Vec<u8>),
}

impl Script {
    pub(super) fn fetch(&self, request: &Request) -> Result<Response, String> {
        let mut answers = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = answers.iter_mut().find(|(method, url, _)| *method == request.method && *url == request.url);
        let answer = answers.and_then(
            |(_, _, answers)| {
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
            },
        );
        answer.ok_or_else(|| format!("the case has no answer to {} {}", request.method, request.url))
    }

    pub(super) fn connect(&self, to: &str) -> Result<Box<dyn Stream>, String> {
        let mut conversations = self.tcp.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = conversations.get_mut(to).and_then(VecDeque::pop_front);
        let turns = turns.ok_or_else(|| format!("the case has no (further) conversation with {to}"))?;
        let mut talk = Talk { turns: turns.into(), written: Vec::new(), answers: VecDeque::new() };
        talk.go_on()?;
        Ok(Box::new(talk))
    }

    pub(super) fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| format!("the case has no file `{path}`"))
    }
}

/// A conversation under way.
struct Talk {
    turns: VecDeque<Turn>,
    /// What the plugin wrote and nobody expected yet.
    written: Vec<u8>,
    /// What waits to be read.
    answers: VecDeque<u8>,
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
                    return Err(format!(
                        "the case expects {}, the plugin wrote {}",
                        shown(bytes),
                        shown(&self.written)
                    ));
                }
                Some(Turn::Expect(_)) | None => return Ok(()),
            }
            self.turns.pop_front();
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
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn talk(turns: &[Turn]) -> Box<dyn Stream> {
        let script = Script::default();
        script.tcp.lock().unwrap().insert("db:1".into(), VecDeque::from([turns.to_vec()]));
        script.connect("db:1").unwrap()
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
        let answer = |status| Response { status, headers: Vec::new(), body: Vec::new() };
        let answers = VecDeque::from([answer(503), answer(200)]);
        let script =
            Script { http: Mutex::new(vec![("GET".into(), "http://a/".into(), answers)]), ..Script::default() };
        let request = Request { method: "GET".into(), url: "http://a/".into(), headers: Vec::new(), body: None };
        let statuses = [(); 3].map(|()| script.fetch(&request).unwrap().status);
        assert_eq!(statuses, [503, 200, 200]);
    }
}
