//! The client: one HTTP/1.1 request over a bare socket, so that no library comes between a test and the wire.

use std::time::Duration;

use mackerel_standin::Standin;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer takes longer on loopback.
const DEADLINE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The text of a valid request that closes its connection.
pub(crate) fn request(method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: standin\r\nUser-Agent: test/1\r\nX-Api-Key: key\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Sends a text; `None` if the connection ends without an answer.
pub(crate) async fn exchange(standin: &Standin, text: &str) -> Option<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(standin.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The peer may close with a reset if it did not read everything.
        stream.read_to_string(&mut answer).await.unwrap_or_default();
        answer
    };
    let answer = tokio::time::timeout(DEADLINE, exchange).await.expect("no answer and no end of the connection");
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}
