//! DNS rebinding: a network in which the address of a name changes. A test starts this in separate namespaces. It runs a name
//! server, which resolves every name to the current address, a web server, and the command. Prints the output of each run, and the
//! addresses on which the web server was reached.
//!
//! `rebinding ADDRESS,ADDRESS COMMAND ...` runs the command once for each address; `rebinding silent COMMAND ...` once, with a name server
//! that never answers.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "part of a test, which fails by panicking")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    if arguments[0] == "silent" {
        let status = Command::new(&arguments[1]).args(&arguments[2..]).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    let addresses = arguments[0].split(',').map(|address| address.parse().unwrap()).collect::<Vec<Ipv4Addr>>();
    let (now, reached) = (Arc::new(Mutex::new(addresses[0])), Arc::new(Mutex::new(Vec::new())));
    let answer = Arc::clone(&now);
    thread::spawn(move || answer_queries(&socket, &answer));
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    let noted = Arc::clone(&reached);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            noted.lock().unwrap().push(stream.local_addr().unwrap().ip());
            if stream.read(&mut [0; 4_096]).is_ok_and(|length| length > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok();
            }
        }
    });
    for address in addresses {
        *now.lock().unwrap() = address;
        let output = Command::new(&arguments[1]).args(&arguments[2..]).stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        println!("{address}: {}", String::from_utf8_lossy(&text).trim());
    }
    println!("reached: {:?}", reached.lock().unwrap());
}

/// Answers queries of type A with the current address and a TTL of 0, and others with no records.
fn answer_queries(socket: &UdpSocket, now: &Mutex<Ipv4Addr>) {
    let mut question = [0; 512];
    while let Ok((length, asker)) = socket.recv_from(&mut question) {
        // The header, the name, which a zero byte ends, its type and its class (RFC 1035).
        let name = question[12..length].iter().position(|byte| *byte == 0).unwrap();
        let end = 12 + name + 5;
        let is_a = question[12 + name + 2] == 1;
        let mut answer = question[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(now.lock().unwrap().octets());
        }
        socket.send_to(&answer, asker).unwrap();
    }
}
