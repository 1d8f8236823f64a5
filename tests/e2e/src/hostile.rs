//! Hostile servers. Each listens on a free port of loopback until the process exits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A server, and the clients that have connected to it.
pub struct Server {
    /// The port on 127.0.0.1.
    pub port: u16,
    visitors: Arc<Visitors>,
}

/// The addresses of the clients, in the order of their connections.
#[derive(Default)]
struct Visitors {
    addresses: Mutex<Vec<SocketAddr>>,
    came: Condvar,
}

impl Server {
    /// The number of connections so far, including those that the server had not accepted yet: this connects, and waits until
    /// its own connection is accepted, which is after all earlier ones.
    #[must_use]
    pub fn connections(&self) -> usize {
        let own = TcpStream::connect(("127.0.0.1", self.port)).unwrap().local_addr().unwrap();
        let waiting = |addresses: &mut Vec<SocketAddr>| !addresses.contains(&own);
        let mut addresses = self.visitors.came.wait_while(self.visitors.addresses.lock().unwrap(), waiting).unwrap();
        addresses.retain(|address| *address != own);
        addresses.len()
    }

    /// Whether a client has connected or connects within `time`.
    #[must_use]
    pub fn is_visited_within(&self, time: Duration) -> bool {
        let none = |addresses: &mut Vec<SocketAddr>| addresses.is_empty();
        let addresses = self.visitors.addresses.lock().unwrap();
        !self.visitors.came.wait_timeout_while(addresses, time, none).unwrap().1.timed_out()
    }

    /// The address of its page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (visitors, serve) = (Arc::new(Visitors::default()), Arc::new(serve));
        let served = Arc::clone(&visitors);
        thread::spawn(move || {
            while let Ok((stream, address)) = listener.accept() {
                served.addresses.lock().unwrap().push(address);
                served.came.notify_all();
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self { port, visitors }
    }
}

/// Reads the head of a request, which arrives in one piece.
fn head(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let _length = stream.read(&mut buffer).unwrap_or(0);
}

/// Accepts connections and never answers.
#[must_use]
pub fn silent() -> Server {
    Server::start(|mut stream| {
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).ok();
    })
}

/// Answers one byte at a time, endlessly.
#[must_use]
pub fn slow() -> Server {
    Server::start(|mut stream| {
        head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").ok();
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(100));
        }
    })
}

/// Answers with a body that never ends.
#[must_use]
pub fn endless() -> Server {
    Server::start(|mut stream| {
        head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").ok();
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
    })
}

/// Answers with `answer_head`, which ends with an empty line, and `body`.
#[must_use]
pub fn answering(answer_head: String, body: Vec<u8>) -> Server {
    Server::start(move |mut stream| {
        head(&mut stream);
        stream.write_all(answer_head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
    })
}

/// Redirects to `location`.
#[must_use]
pub fn redirecting(location: &str) -> Server {
    answering(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"), Vec::new())
}

/// Sends `bytes` repeatedly, endlessly.
#[must_use]
pub fn flooding(bytes: &'static [u8]) -> Server {
    Server::start(move |mut stream| {
        let many = bytes.repeat((1 << 16) / bytes.len());
        while stream.write_all(&many).is_ok() {}
    })
}
