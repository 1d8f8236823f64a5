//! Echo servers: they send back what they receive until the client closes its side.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

/// Starts one on a free port of loopback, and returns the port. It runs until the process exits.
///
/// # Panics
/// There is no free port.
#[must_use]
pub fn tcp() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                echo(&stream);
                stream.shutdown(Shutdown::Both).ok();
            });
        }
    });
    port
}

/// Starts one on a unix socket.
///
/// # Panics
/// The socket cannot be created.
pub fn unix(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                echo(&stream);
                stream.shutdown(Shutdown::Both).ok();
            });
        }
    });
}

fn echo<S>(stream: &S)
where
    for<'a> &'a S: Read + Write,
{
    let (mut reader, mut writer) = (stream, stream);
    std::io::copy(&mut reader, &mut writer).ok();
}
