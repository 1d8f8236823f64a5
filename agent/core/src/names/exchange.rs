//! One question to one name server.

use std::io::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::message::{self, Answer, Family, Name, Question, Reply};
use super::{FaultKind, connect};

/// The most bytes of a datagram that are read. Without EDNS, servers send 512 at most.
const LARGEST_DATAGRAM: usize = 4_096;

/// After so many datagrams that are no answer, someone may be guessing at one: the server is asked over TCP, too, where no one can.
const SUSPICIOUS_STRAY: usize = 100;

/// The most datagrams that are no answer, before a server counts as failed.
const MOST_STRAY: usize = 10_000;

/// Asks one server, by a datagram unless the answer is too long for it. The caller limits the time.
#[expect(clippy::disallowed_methods, reason = "addresses, not names")]
pub(super) async fn ask(server: SocketAddr, name: &Name, family: Family, only_tcp: bool) -> Result<Answer, FaultKind> {
    let mut number = [0; 2];
    SystemRandom::new().fill(&mut number).map_err(|_| FaultKind::System("no random number".to_owned()))?;
    let question = Question::new(number, name.clone(), family);
    if only_tcp {
        return over_tcp(server, &question).await;
    }
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let system = |error: Error| FaultKind::System(plain(&error));
    // A port of its own for each question: it is chosen at random, and some firewalls lose the second question from the same one.
    let socket = UdpSocket::bind((any, 0)).await.map_err(system)?;
    // The kernel then drops what others than the server send.
    socket.connect(server).await.map_err(system)?;
    socket.send(&question.bytes).await.map_err(system)?;
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    let (mut stray, mut has_tcp) = (0, true);
    let tcp = over_tcp(server, &question);
    tokio::pin!(tcp);
    while stray < MOST_STRAY {
        let length = tokio::select! {
            received = socket.recv(&mut datagram) => received.map_err(system)?,
            answer = &mut tcp, if has_tcp && stray >= SUSPICIOUS_STRAY => match answer {
                Ok(answer) => return Ok(answer),
                // The answer may still come in a datagram.
                Err(_) => {
                    has_tcp = false;
                    continue;
                }
            },
        };
        match message::read(datagram.get(..length).unwrap_or_default(), &question) {
            Reply::Other => stray += 1,
            Reply::Malformed if length < LARGEST_DATAGRAM => return Err(FaultKind::Malformed),
            Reply::Truncated | Reply::Malformed => return over_tcp(server, &question).await,
            Reply::Answer(answer) => return Ok(answer),
        }
    }
    Err(FaultKind::Malformed)
}

async fn over_tcp(server: SocketAddr, question: &Question) -> Result<Answer, FaultKind> {
    let exchange = async {
        let mut stream = connect(&[server]).await?;
        let length = u16::try_from(question.bytes.len()).map_err(Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &question.bytes].concat()).await?;
        let mut message = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut message).await?;
        Ok::<_, Error>(message)
    };
    let message = exchange.await.map_err(|error| FaultKind::System(plain(&error)))?;
    match message::read(&message, question) {
        Reply::Answer(answer) => Ok(answer),
        _ => Err(FaultKind::Malformed),
    }
}

/// The system's message, without the number that Rust adds.
fn plain(error: &Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}
