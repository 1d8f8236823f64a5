//! The stand-in as a program: prints its URL, then one line per request, until SIGINT or SIGTERM.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use mackerel_standin::{Request, Standin};
use tokio::signal::unix::{Signal, SignalKind, signal};

const USAGE: &str = "\
A strict stand-in for Mackerel's API.

Usage: mackerel-standin [--listen ADDRESS] [--api-key KEY]

  --listen ADDRESS   where to listen; 127.0.0.1:0, a free port, unless given
  --api-key KEY      the key that requests must carry; `standin` unless given
  --help             this text

It prints its URL, and then for each request: method, path, status, number of points, and what was wrong.
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Help,
    Serve { address: SocketAddr, api_key: String },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match wish(std::env::args().skip(1)) {
        Ok(Wish::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Wish::Serve { address, api_key }) => match serve(address, &api_key).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("mackerel-standin: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprint!("mackerel-standin: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn wish(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut api_key = "standin".to_owned();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--help" => return Ok(Wish::Help),
            "--listen" => {
                let text = value()?;
                address = text.parse().map_err(|_| format!("`{text}` is no address; write one like 127.0.0.1:8017"))?;
            }
            "--api-key" => api_key = value()?,
            _ => return Err(format!("`{word}` is unknown")),
        }
    }
    Ok(Wish::Serve { address, api_key })
}

async fn serve(address: SocketAddr, api_key: &str) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let standin = Standin::start_at(address, api_key).await?;
    writeln!(io::stdout(), "{}", standin.url())?;
    tokio::select! {
        () = either(&mut interrupt, &mut terminate) => Ok(()),
        result = tell(&standin) => result,
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Prints each request as it comes, for ever.
async fn tell(standin: &Standin) -> io::Result<()> {
    let mut told = 0;
    loop {
        let more = standin.wait_until(Duration::MAX, "a request", |memory| memory.requests().len() > told).await;
        more.map_err(io::Error::other)?;
        for request in standin.memory().requests().iter().skip(told) {
            told += 1;
            print_line(request)?;
        }
    }
}

fn print_line(request: &Request) -> io::Result<()> {
    writeln!(io::stdout(), "{request}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish_of(line: &str) -> Result<Wish, String> {
        wish(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_flags_are_understood() {
        let address = "127.0.0.1:8017".parse().unwrap();
        let expected = Wish::Serve { address, api_key: "k".to_owned() };
        assert_eq!(wish_of("--listen 127.0.0.1:8017 --api-key k"), Ok(expected));
        assert_eq!(wish_of("--api-key k --help"), Ok(Wish::Help));
    }

    #[test]
    fn an_unknown_or_incomplete_flag_is_refused() {
        assert_eq!(wish_of("--port 1"), Err("`--port` is unknown".to_owned()));
        assert_eq!(wish_of("--api-key"), Err("`--api-key` needs a value".to_owned()));
        assert!(wish_of("--listen here").unwrap_err().starts_with("`here` is no address"));
    }
}
