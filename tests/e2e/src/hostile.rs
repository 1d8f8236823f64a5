//! Servers that mean no good. Each listens on a free port of loopback and ends with the process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A server, and how many have connected to it.
pub struct Server {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// How many have connected until now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The address of its page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self { port, connections }
    }
}

/// Reads what has come of a request, which is its head.
fn head(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let _length = stream.read(&mut buffer).unwrap_or(0);
}

/// Takes connections and says nothing.
#[must_use]
pub fn silent() -> Server {
    Server::start(|mut stream| {
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).ok();
    })
}

/// Answers a byte at a time, for ever.
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

/// Answers with `head`, which ends in an empty line, and `body`.
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
