//! A network whose name server misbehaves. A test starts this in separate namespaces, with `resolv.conf` and `hosts` of its own.
//!
//! `names WASABA CONFIG ROOT NAME ...` starts the name server and servers that accept every connection, asks for each name in every
//! way, and prints who has reached it, in columns: glibc (`getent`), `curl`, and the agent on its way to Mackerel. Then it prints what the
//! plugins in the configuration have reached in `wasaba once` (the names in requests for a page, how often ports 6379 and 5432), and what it
//! says of them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "part of a test, which fails by panicking")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use wasaba_testing::name_server::{NameServer, Zone};

/// What every page is: nginx's status, and what Mackerel answers on success.
const PAGE: &str =
    "Active connections: 1 \nserver accepts handled requests\n 1 1 1 \nReading: 0 Writing: 1 Waiting: 0 \n";
const SUCCESS: &str = "{\"success\":true}";

/// The names of the server in requests for a page.
static PAGES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Connections to port 6379, and to port 5432.
static VISITS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let [wasaba, config, root] = [(); 3].map(|()| arguments.next().unwrap());
    let zone = Zone { v4: Ipv4Addr::new(10, 98, 0, 1), v6: Ipv6Addr::new(0xfd00, 0x98, 0, 0, 0, 0, 0, 1) };
    let _server = NameServer::start((Ipv4Addr::LOCALHOST, 53).into(), zone).unwrap();
    thread::spawn(web);
    let [redis, postgres] = &VISITS;
    for (port, visits) in [(6379, redis), (5432, postgres)] {
        // Both families. A connection ends at once.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                visits.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
    }
    let asking = arguments.map(|name| {
        let (wasaba, root) = (wasaba.clone(), Path::new(&root).join(&name));
        thread::spawn(move || {
            let getent = run(Command::new("getent").args(["ahosts", &name]));
            let curl = run(Command::new("curl").args(["-sS", "-m", "20", &format!("http://{name}:8080/")]));
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("id"), "abc").unwrap();
            std::fs::write(root.join("empty.conf"), "").unwrap();
            let mut retire = Command::new(wasaba);
            retire
                .args(["retire", "-force", "-apikey", "key", "-conf"])
                .arg(root.join("empty.conf"))
                .arg("-root")
                .arg(&root);
            let retire = run(retire.args(["-apibase", &format!("http://{name}:8080")]));
            let said = [&getent, &curl, &retire].map(|output| if output.status.success() { "yes" } else { "no" });
            let error = [curl.stderr, retire.stderr].concat();
            format!("{name}\t{}\t{}", said.join("\t"), String::from_utf8_lossy(&error).replace('\n', " "))
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        println!("{}", asked.join().unwrap());
    }
    PAGES.lock().unwrap().clear();
    VISITS.iter().for_each(|visits| visits.store(0, Ordering::SeqCst));
    let once = run(Command::new(wasaba).args(["once", "-conf", &config]));
    let visits = VISITS.each_ref().map(|visits| visits.load(Ordering::SeqCst).to_string());
    let pages = PAGES.lock().unwrap().iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    println!("{pages}\n{}\n--\n{}", visits.join("\t"), String::from_utf8_lossy(&once.stderr));
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn web() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080)).unwrap();
    for mut stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let host = text.lines().find_map(|line| line.strip_prefix("host: ")?.strip_suffix(":8080"));
            PAGES.lock().unwrap().extend(host.map(str::to_owned));
            let body =
                if request.get(..length).is_some_and(|request| request.starts_with(b"POST")) { SUCCESS } else { PAGE };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).ok();
        });
    }
}
