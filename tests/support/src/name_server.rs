//! A name server for tests that misbehaves as its names say.
//!
//! In `A.AAAA.test` the first label says how a question for IPv4 addresses is answered, the second one for IPv6. Labels between them and
//! `test` mean nothing, except `none` (such a name does not exist), `broken` (the server fails) and `mute` (it does not answer).

use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// Every way to answer.
pub const WAYS: [&str; 18] = [
    "good",
    "nodata",
    "nxdomain",
    "servfail",
    "refused",
    "notimp",
    "formerr",
    "silent",
    "malformed",
    // With the mark of a truncated answer in a datagram.
    "truncated",
    // 31 addresses, which only TCP has room for.
    "many",
    // An alias of an alias, twenty times.
    "chain",
    // The same, the last record first.
    "backwards",
    // An alias of a name that does not exist, with and without the error.
    "dangling",
    "nowhere",
    // An alias of itself.
    "loop",
    // Answers to another question and with another number come first, with a wrong address.
    "stray",
    // Over TCP, as long as a message can be.
    "huge",
];

/// The addresses of the names that exist.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// The first of 31.
    pub v4: Ipv4Addr,
    /// The first of 31.
    pub v6: Ipv6Addr,
}

/// A running name server. Its threads end with the process.
#[derive(Debug)]
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    udp: UdpSocket,
}

impl NameServer {
    /// Starts one at this address, for UDP and TCP.
    ///
    /// # Errors
    /// The address is in use.
    pub fn start(address: SocketAddr, zone: Zone) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let udp = UdpSocket::bind(listener.local_addr()?)?;
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (socket, noted) = (udp.try_clone()?, Arc::clone(&asked));
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, asker)) = socket.recv_from(&mut question) {
                for message in answers(&question[..length], false, zone, &noted) {
                    socket.send_to(&message, asker).ok();
                }
            }
        });
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                thread::spawn(move || converse(stream, zone, &noted));
            }
        });
        Ok(Self { asked, udp })
    }

    /// Where it listens.
    ///
    /// # Panics
    /// The system does not know.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    /// The questions since the last call: name, type, and `tcp` if it came so; sorted.
    ///
    /// # Panics
    /// The server's thread has.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

fn converse(mut stream: TcpStream, zone: Zone, asked: &Mutex<Vec<String>>) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question).ok()?;
        for message in answers(&question, true, zone, asked) {
            let length = u16::try_from(message.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).ok()?;
        }
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// The name of the question.
const ASKED: &[u8] = &[0xc0, 12];

fn answers(question: &[u8], over_tcp: bool, zone: Zone, asked: &Mutex<Vec<String>>) -> Vec<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] > 0 {
        let label = &question[at + 1..][..question[at].into()];
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + label.len();
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let question = &question[..at + 5];
    let shown = match kind {
        A => "A".to_owned(),
        AAAA => "AAAA".to_owned(),
        kind => kind.to_string(),
    };
    asked.lock().unwrap().push(format!("{} {shown}{}", labels.join("."), if over_tcp { " tcp" } else { "" }));
    let label = |number: usize| labels.get(number).map_or("nxdomain", String::as_str);
    let has = |word: &str| labels.iter().any(|label| label == word);
    let way = match kind {
        _ if labels.last().is_none_or(|last| last != "test") || has("none") => "nxdomain",
        _ if has("broken") => "servfail",
        _ if has("mute") => "silent",
        A => label(0),
        AAAA => label(1),
        _ => "nodata",
    };
    let good = |owner: &[u8], number: u8| match kind {
        A => record(owner, A, &(u32::from(zone.v4) + u32::from(number)).to_be_bytes()),
        _ => record(owner, AAAA, &(u128::from(zone.v6) + u128::from(number)).to_be_bytes()),
    };
    let failed = |code| vec![message(question, code, &[])];
    let found = |records: &[Vec<u8>]| {
        let whole = message(question, 0, records);
        if whole.len() <= 512 || over_tcp { vec![whole] } else { vec![truncated(question)] }
    };
    match way {
        "good" => found(&[good(ASKED, 0)]),
        "nodata" => failed(0),
        "formerr" => failed(1),
        "servfail" => failed(2),
        "notimp" => failed(4),
        "refused" => failed(5),
        "silent" => Vec::new(),
        "malformed" => {
            let mut cut = message(question, 0, &[good(ASKED, 0)]);
            cut.truncate(cut.len() - 1);
            vec![cut]
        }
        "truncated" if !over_tcp => vec![truncated(question)],
        "truncated" => found(&[good(ASKED, 0)]),
        "many" => found(&(0..31).map(|number| good(ASKED, number)).collect::<Vec<_>>()),
        "chain" | "backwards" => {
            let mut records = vec![record(ASKED, CNAME, &link(1))];
            records.extend((1..20).map(|number| record(&link(number), CNAME, &link(number + 1))));
            records.push(good(&link(20), 0));
            if way == "backwards" {
                records.reverse();
            }
            found(&records)
        }
        "dangling" => vec![message(question, 3, &[record(ASKED, CNAME, &link(1))])],
        "nowhere" => found(&[record(ASKED, CNAME, &link(1))]),
        "loop" => found(&[record(ASKED, CNAME, &link(1)), record(&link(1), CNAME, ASKED)]),
        "stray" => {
            let wrong = message(question, 0, &[good(ASKED, 77)]);
            let (mut number, mut name) = (wrong.clone(), wrong);
            number[0] ^= 0xff;
            name[13] ^= 0x02;
            vec![number, name, message(question, 0, &[good(ASKED, 0)])]
        }
        "huge" if over_tcp => {
            // Aliases, as many as fit, and no address.
            let alias = record(ASKED, CNAME, ASKED);
            let number = (usize::from(u16::MAX) - question.len()) / alias.len();
            vec![message(question, 0, &vec![alias; number])]
        }
        "huge" => vec![truncated(question)],
        _ => failed(3),
    }
}

/// A name in a chain of aliases.
fn link(number: u8) -> Vec<u8> {
    let label = format!("c{number}");
    [&[u8::try_from(label.len()).unwrap()], label.as_bytes(), b"\x04test\0"].concat()
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 0], &length.to_be_bytes(), data].concat()
}

/// An answer of a server that asks others.
fn message(question: &[u8], code: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = question.to_vec();
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    message[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    [message, records.concat()].concat()
}

fn truncated(question: &[u8]) -> Vec<u8> {
    let mut message = message(question, 0, &[]);
    message[2] |= 0b10;
    message
}
