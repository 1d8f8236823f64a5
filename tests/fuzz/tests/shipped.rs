//! The shipped program with changed components and changed answers of servers: the real compiler, the real plugins.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use wasaba_e2e::agent::Home;
use wasaba_fuzz::mutate::{Random, mutated};
use wasaba_fuzz::replay::corpus;

/// The inputs of a target and some changes of them, always the same.
fn inputs(target: &str, changes: u64) -> Vec<Vec<u8>> {
    let corpus = corpus(target).into_iter().map(|(_, input)| input).collect::<Vec<_>>();
    let changed = (0..changes).map(|round| mutated(&corpus, &mut Random::new(round))).collect::<Vec<_>>();
    corpus.into_iter().chain(changed).collect()
}

/// The compiler of the agent, as the agent starts it.
fn compiler(component: &[u8]) -> Output {
    let mut command = Command::new(wasaba_e2e::wasaba());
    command.args(["plugin", "compiler", "--engine", "pulley", "--cpu-seconds", "120", "--memory-bytes", "2147483648"]);
    command.args(["--instances", "200", "--start-bytes", "67108864", "--table-elements", "100000"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it has read everything.
    child.stdin.take().unwrap().write_all(component).ok();
    child.wait_with_output().unwrap()
}

#[test]
fn the_compiler_says_in_one_of_its_words_what_is_wrong_with_any_bytes() {
    let mut all = inputs("component", 60);
    let real = std::fs::read(wasaba_e2e::component("loops")).unwrap();
    all.extend((0..12).map(|round| mutated(std::slice::from_ref(&real), &mut Random::new(round))));
    let mut compiled = 0;
    for (number, component) in all.iter().enumerate() {
        let Output { status, stdout, stderr } = compiler(component);
        let said = String::from_utf8_lossy(&stderr);
        if status.success() {
            compiled += 1;
            assert!(stdout.len() >= 24 && said.is_empty(), "input {number}: {} bytes, {said}", stdout.len());
        } else {
            let word = said.lines().next().unwrap_or_default();
            let is_reported = status.code() == Some(1) && ["invalid", "failed", "out-of-memory"].contains(&word);
            assert!(is_reported, "input {number}: {status} ({:?}): {said}", status.signal());
            assert!(stdout.is_empty(), "input {number}: {} bytes beside {said}", stdout.len());
        }
    }
    assert!(compiled > 3, "only {compiled} of {} are valid", all.len());
}

/// Runs a plugin with each of the answers of a server that sends the same to every connection, however it is asked, and closes it.
fn run(plugin: &str, flags: &[&str], answers: Vec<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answer = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&answer);
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let answer = sent.lock().unwrap().clone();
            thread::spawn(move || {
                // The request, at least its beginning.
                let _length = stream.read(&mut [0; 4_096]).unwrap_or(0);
                stream.write_all(&answer).ok();
                stream.shutdown(std::net::Shutdown::Write).ok();
                stream.read_to_end(&mut Vec::new()).ok();
            });
        }
    });
    let home = Home::with("");
    for (number, input) in answers.into_iter().enumerate() {
        *answer.lock().unwrap() = input;
        let arguments = [&[plugin, "-port", &port], flags].concat();
        let Output { status, stdout, stderr } = home.command(&["plugin", "run"], &arguments);
        let (printed, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(matches!(status.code(), Some(0 | 1)), "{plugin}, answer {number}: {status}: {said}");
        assert!(!said.contains("panicked") && !said.contains("wasm trap"), "{plugin}, answer {number}: {said}");
        for line in printed.lines() {
            let value = line.split('\t').nth(1).and_then(|value| value.parse::<f64>().ok());
            assert!(value.is_some_and(f64::is_finite), "{plugin}, answer {number}: {line}");
        }
    }
}

#[test]
fn no_page_breaks_the_nginx_plugin() {
    let of_target = inputs("nginx", 10).into_iter().map(|body| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    });
    // Whole responses, with their heads.
    let heads = inputs("mackerel", 20);
    run("nginx", &["-host", "127.0.0.1"], of_target.chain(heads).collect());
}

#[test]
fn no_reply_breaks_the_redis_plugin() {
    let replies = inputs("redis", 20).into_iter().map(|input| input.get(1..).unwrap_or_default().to_vec());
    run("redis", &["-host", "127.0.0.1"], replies.collect());
}

#[test]
fn no_message_breaks_the_postgres_plugin() {
    let messages = inputs("postgres", 20).into_iter().map(|input| input.get(1..).unwrap_or_default().to_vec());
    run("postgres", &["-hostname", "127.0.0.1", "-user", "me"], messages.collect());
}
