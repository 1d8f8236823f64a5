//! The stand-in as a program: prints its URL, then one line per request, until SIGINT or SIGTERM.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use mackerel_standin::Standin;
use tokio::signal::unix::{Signal, SignalKind, signal};

const USAGE: &str = "\
A strict stand-in for Mackerel's API.

Usage: mackerel-standin [--listen ADDRESS] [--api-key KEY]

  --listen ADDRESS   the address to listen on (default: 127.0.0.1:0, a free port)
  --api-key KEY      the key that requests must have (default: standin)
  --help             print this help

It prints its URL, and then a line for each request: method, path, status, number of points, and error.
";

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Serve { address: SocketAddr, api_key: String },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Command::Serve { address, api_key }) => match serve(address, &api_key).await {
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

fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut api_key = "standin".to_owned();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--help" => return Ok(Command::Help),
            "--listen" => {
                let text = value()?;
                address =
                    text.parse().map_err(|_| format!("invalid address `{text}`; write for instance 127.0.0.1:8017"))?;
            }
            "--api-key" => api_key = value()?,
            _ => return Err(format!("unknown flag `{word}`")),
        }
    }
    Ok(Command::Serve { address, api_key })
}

async fn serve(address: SocketAddr, api_key: &str) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let standin = Standin::start_at(address, api_key).await?;
    writeln!(io::stdout(), "{}", standin.url())?;
    tokio::select! {
        () = either(&mut interrupt, &mut terminate) => Ok(()),
        result = print_requests(&standin) => result,
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Prints each request as it comes, without end.
async fn print_requests(standin: &Standin) -> io::Result<()> {
    let mut printed = 0;
    loop {
        let more = standin.wait_until(Duration::MAX, "a request", |memory| memory.requests().len() > printed).await;
        more.map_err(io::Error::other)?;
        for request in standin.memory().requests().iter().skip(printed) {
            printed += 1;
            writeln!(io::stdout(), "{request}")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_flags_are_parsed() {
        let address = "127.0.0.1:8017".parse().unwrap();
        let expected = Command::Serve { address, api_key: "k".to_owned() };
        assert_eq!(parsed("--listen 127.0.0.1:8017 --api-key k"), Ok(expected));
        assert_eq!(parsed("--api-key k --help"), Ok(Command::Help));
    }

    #[test]
    fn an_unknown_or_incomplete_flag_is_refused() {
        assert_eq!(parsed("--port 1"), Err("unknown flag `--port`".to_owned()));
        assert_eq!(parsed("--api-key"), Err("`--api-key` needs a value".to_owned()));
        assert!(parsed("--listen here").unwrap_err().starts_with("invalid address `here`"));
    }
}
