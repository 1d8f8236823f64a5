//! A plugin that misbehaves on request: its setting `do` says how. Only the tests use it.

use std::time::Duration;

use wasaba_plugin::tcp::Connection;
use wasaba_plugin::{
    Documents, Error, Graph, Metric, Plugin, Reach, Report, Sample, Secret, Setting, Settings, Unit, call, crypto,
    files, http, kv, log,
};

wasaba_plugin::export!(describe, metrics: collect, checks: check, metadata: gather);

fn describe() -> Plugin {
    Plugin::new("naughty", env!("CARGO_PKG_VERSION"), "misbehaves on request")
        .reaches([Reach::Http, Reach::Tcp, Reach::Unix, Reach::File])
        .setting(Setting::text("do").default("nothing").help("what to do wrong"))
        .setting(Setting::text("url").default("http://localhost/").help("the target; a text, which grants nothing"))
        .setting(Setting::secret("token").help("a secret that must not be shown"))
        .graph(Graph::new("naughty", "Naughty", Unit::Float).metric(Metric::gauge("*", "%1")))
        .graphs_by_settings(graphs)
}

/// Graphs for those who misbehave with their number.
fn graphs(settings: &Settings) -> Vec<Graph> {
    let many = |count: u32| {
        let graph = Graph::new("many", "Many", Unit::Float);
        (0..count).fold(graph, |graph, number| graph.metric(Metric::gauge(&format!("m{number}"), "")))
    };
    match settings.text("do") {
        Ok("many-metrics") => vec![many(60_000)],
        // With the one that all have, as many as an operator can allow.
        Ok("most-metrics") => vec![many(99_999)],
        Ok("many-graphs") => {
            (0..10_000).map(|number| Graph::new(format!("many.g{number}"), "Many", Unit::Float)).collect()
        }
        Ok("new-counters" | "new-long-counters") => {
            vec![Graph::new("counted", "Counted", Unit::Integer).metric(Metric::per_minute("*", "%1"))]
        }
        _ => Vec::new(),
    }
}

/// A thousand reports with new names in each call, or none.
fn check(settings: &Settings) -> Result<Vec<Report>, Error> {
    let name = |number| format!("m{}n{number}", call::minute());
    let count = if settings.text("do")? == "new-reports" { 1_000 } else { 0 };
    Ok((0..count).map(|number| Report::critical("x".repeat(4_096)).named(name(number))).collect())
}

/// A hundred large documents in new namespaces in each call, which begin with the setting `url`; or none.
fn gather(settings: &Settings) -> Result<Documents, Error> {
    let own = settings.text("url")?;
    let name = |number| format!("{own}-m{}n{number}", call::minute());
    let count = if settings.text("do")? == "new-documents" { 100 } else { 0 };
    let documents = (0..count).map(|number| (name(number), format!("\"{}\"", "x".repeat(50_000)))).collect();
    Ok(Documents { documents, problems: Vec::new() })
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    let (target, good) = (settings.text("url")?, |value: f64| Ok(vec![Sample::new("naughty.good", value)]));
    match settings.text("do")? {
        "fetch" => good(f64::from(http::get(target).send()?.status)),
        "fetch-body" => good(http::get(target).send()?.body.len() as f64),
        "follow" => good(f64::from(http::get(target).follow(5).send()?.status)),
        "connect" => {
            let (host, port) = target.rsplit_once(':').unwrap_or((target, "0"));
            Connection::connect(host, port.parse().unwrap_or(0))?;
            good(1.0)
        }
        "connect-unix" => {
            Connection::connect_unix(target)?;
            good(1.0)
        }
        "read-file" => good(files::read(target, 4 << 20)?.len() as f64),
        "scan" => {
            let mut last = Ok(());
            for port in 1..=1024 {
                last = Connection::connect("127.0.0.1", port).map(drop);
            }
            last?;
            good(1.0)
        }
        "hoard-connections" => {
            let (host, port) = target.rsplit_once(':').unwrap_or((target, "0"));
            let mut hoard = Vec::new();
            loop {
                hoard.push(Connection::connect(host, port.parse().unwrap_or(0))?);
            }
        }
        "hoard-values" => {
            for number in 0..1_000_000 {
                kv::set(&number.to_string(), [0; 1024])?;
            }
            good(1.0)
        }
        "derive" => {
            crypto::scram_sha256(token(settings)?, b"salt", u32::MAX, "")?;
            good(1.0)
        }
        "sleep" => {
            // The lints forbid it in the agent, not in a plugin that misbehaves.
            #[expect(clippy::disallowed_methods, reason = "that is the misbehaviour")]
            std::thread::sleep(Duration::from_secs(3600));
            good(1.0)
        }
        "loop" => loop {
            std::hint::black_box(());
        },
        // Not `panic!`, which the lints forbid.
        "abort" => std::process::abort(),
        "trap" => good(divide(1, std::hint::black_box(0)) as f64),
        "recursion" => good(deeper(std::hint::black_box(1)) as f64),
        "memory" => {
            let mut hoard = Vec::new();
            while hoard.len() < 1_000 {
                hoard.push(vec![1_u8; 1 << 20]);
            }
            good(hoard.len() as f64)
        }
        "flood" => {
            for number in 0..1_000 {
                log::info(format!("line {number}"));
            }
            good(1.0)
        }
        "flood-stderr" => {
            use std::io::Write;
            for number in 0..10_000 {
                writeln!(std::io::stderr(), "line {number}").ok();
            }
            std::process::abort();
        }
        "long-line" => {
            log::info("x".repeat(1 << 20));
            good(1.0)
        }
        "reveal" => Err(Error::Failed(token(settings)?.reveal()?)),
        "bad-samples" => Ok(vec![
            Sample::new("naughty.good", 1.0),
            Sample::new("naughty.nan", f64::NAN),
            Sample::new("naughty.\u{1b}[2J", 1.0),
            // Of the agent itself.
            Sample::new("custom.memory", 1.0),
        ]),
        "many-samples" => Ok((0..20_000).map(|number| Sample::new(format!("naughty.n{number}"), 1.0)).collect()),
        "most-metrics" => Ok((0..99_999).map(|number| Sample::new(format!("many.m{number}"), 1.0)).collect()),
        // Names as a pattern of the operator's might dislike them: almost what it matches.
        "long-names" => {
            Ok((0..1_000).map(|number| Sample::new(format!("naughty.{}-{number}", "a".repeat(200)), 1.0)).collect())
        }
        // What comes and goes, such as containers and sessions: no name is ever seen again.
        "new-counters" => {
            let name = |number| format!("counted.m{}n{number}", call::minute());
            Ok((0..1_000_u32).map(|number| Sample::new(name(number), number)).collect())
        }
        "new-long-counters" => {
            let name = |number| format!("counted.m{}n{number}{}", call::minute(), "x".repeat(8_000));
            Ok((0..1_000_u32).map(|number| Sample::new(name(number), number)).collect())
        }
        "new-error" => Err(Error::Failed(format!("it failed in minute {}", call::minute()))),
        "now-and-then" if (call::minute() / 60).is_multiple_of(2) => Err(Error::Failed("not now".into())),
        // Each failure may be logged.
        "odd-methods" => {
            let mut last = Ok(());
            for _ in 0..3_000 {
                last = http::request("CONNECT", target).send().map(drop);
            }
            last?;
            good(1.0)
        }
        "many-headers" => {
            let request =
                (0..40_000).fold(http::get(target), |request, number| request.header(&format!("x-{number}"), "x"));
            good(f64::from(request.send()?.status))
        }
        "many-secrets" => {
            let secret = token(settings)?.reveal()?;
            log::info(secret.repeat(1_000));
            Err(Error::Failed(secret.repeat(100_000)))
        }
        // What the agent computes for it.
        "derive-often" => {
            for number in 0..u32::MAX {
                crypto::scram_sha256(token(settings)?, &number.to_le_bytes(), 4_096, "")?;
            }
            good(1.0)
        }
        "wait" => {
            for _ in 0..20 {
                #[expect(clippy::disallowed_methods, reason = "it waits as for a server that takes a moment")]
                std::thread::sleep(Duration::from_millis(2));
            }
            good(1.0)
        }
        "million-samples" => Ok(vec![Sample::new("", 1.0); 1_000_000]),
        "long-name" => Ok(vec![Sample::new("n".repeat(20 << 20), 1.0)]),
        "long-error" => Err(Error::Failed("x".repeat(4 << 20))),
        "wasi" => Err(Error::Failed(wasi(target).join(", "))),
        "exit" =>
        {
            #[expect(clippy::disallowed_methods, reason = "that is the misbehaviour")]
            std::process::exit(0)
        }
        "blame-secret" => Err(Error::Misconfigured("the token was refused".into())),
        _ => good(1.0),
    }
}

fn token(settings: &Settings) -> Result<&Secret, Error> {
    settings.secret("token").ok_or_else(|| Error::Misconfigured("`token` is not set".into()))
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == 0 { 0 } else { deeper(std::hint::black_box(depth.wrapping_add(1))).wrapping_add(1) }
}

#[inline(never)]
#[expect(clippy::arithmetic_side_effects, reason = "that is the misbehaviour")]
fn divide(one: u32, other: u32) -> u32 {
    one / other
}

/// Tries each way out of the sandbox that WASI has, and reports the result. `target` is a `host:port` with a listener.
fn wasi(target: &str) -> Vec<String> {
    use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
    use std::{env, fs, io};

    fn attempt<T>(name: &str, result: io::Result<T>) -> String {
        format!("{name}: {}", result.map_or_else(|error| format!("{:?}", error.kind()), |_| "open".into()))
    }
    let mut input = String::new();
    vec![
        attempt(
            "connect",
            target.parse().map_err(io::Error::other).and_then(|to: std::net::SocketAddr| TcpStream::connect(to)),
        ),
        attempt("listen", TcpListener::bind("127.0.0.1:0")),
        attempt("send", UdpSocket::bind("127.0.0.1:0")),
        attempt("resolve", ("localhost", 80).to_socket_addrs()),
        attempt("read", fs::read("/etc/hostname")),
        attempt("read here", fs::read("agent.conf")),
        attempt("list", fs::read_dir("/")),
        attempt("write", fs::write("/naughty", "x")),
        attempt("make", fs::create_dir("naughty")),
        format!("variables: {}", env::vars().count()),
        format!("arguments: {}", env::args().count()),
        format!(
            "input: {}",
            io::stdin().read_line(&mut input).map_or_else(|error| error.to_string(), |bytes| bytes.to_string())
        ),
    ]
}
