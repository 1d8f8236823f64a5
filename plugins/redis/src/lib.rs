//! Commands, clients, keys, memory, cluster and replicas of Redis, Valkey and KeyDB, from INFO.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-redis`. `official` and `extra` list what is collected,
//! `server` talks to the server, `info` parses its replies. `offline` does both without a server.

mod extra;
mod info;
mod nesting;
mod official;
pub mod offline;
mod read;
mod server;

use std::time::Duration;

use wasaba_plugin::prelude::*;
use wasaba_plugin::{Part, Parts, Prefix, Values};

use info::Info;
use read::{Read, Report};
use server::{Answer, Reply, Server};

wasaba_plugin::export!(describe, collect);

/// What the plugin collects.
const PARTS: Parts<Read> = Parts::new(Prefix::of, official::ALL, extra::ALL).with_up("Up");

fn describe() -> Plugin {
    Plugin::new("redis", env!("CARGO_PKG_VERSION"), "statistics of Redis or Valkey, from INFO")
        .reaches([Reach::Tcp, Reach::Unix])
        .attribute("license", "Apache-2.0")
        .settings::<Config>()
        .setting(Prefix::setting("redis"))
        .setting(PARTS.setting())
        .graphs_by_settings(|settings| PARTS.graphs(settings))
}

#[derive(Settings)]
struct Config {
    /// where Redis listens
    #[host(default = "localhost")]
    host: String,
    /// where Redis listens
    #[port(of = host, default = 6379)]
    port: u16,
    /// its unix socket, in place of the two above
    #[unix_socket]
    socket: Option<String>,
    /// the user to log in as, if there is a password
    #[text(default = "default")]
    username: String,
    /// its password
    password: Option<Secret>,
    /// use TLS, also on the unix socket; `host` is the name on the certificate
    #[setting(default = false)]
    tls: bool,
    /// accept any certificate
    #[tls_skip_verify(default = false)]
    tls_skip_verify: bool,
    /// timeout for connecting and for each reply
    #[setting(default = "5s")]
    timeout: Duration,
    /// the version of Redis's protocol, 2 or 3
    #[text(default = "2", one_of = ["2", "3"])]
    resp: String,
    /// the name of CONFIG, if it was renamed; empty: do not use it
    #[text(default = "CONFIG")]
    config_command: String,
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    PARTS.collect(settings, |parts| values(&settings.read()?, parts))
}

fn values(config: &Config, parts: &[&Part<Read>]) -> Result<Values, Error> {
    let mut server = Server::connect(config)?;
    let text = info(&mut server, parts)?;
    let mut report = report(&text)?;
    limits(&mut server, config, &mut report)?;
    let cluster =
        if report.info.text("cluster_enabled") == Some("1") { cluster_info(&mut server)? } else { String::new() };
    report.cluster = Info::parse(&cluster);
    in_report(&report, parts)
}

/// The report in the replies to INFO.
fn report(text: &str) -> Result<Report<'_>, Error> {
    let info = Info::parse(text);
    if info.text("redis_version").is_none() {
        return Err(failed!("the reply to INFO has no `redis_version`"));
    }
    Ok(Report { info, ..Report::default() })
}

fn in_report(report: &Report<'_>, parts: &[&Part<Read>]) -> Result<Values, Error> {
    let mut values = Values::new();
    for part in parts {
        values.extend((part.read.values)(report)?);
    }
    Ok(values)
}

/// INFO, and the sections that it does not include. Before Redis 7 it takes one section at a time, so each has its own command.
fn info(server: &mut Server, parts: &[&Part<Read>]) -> Result<String, Error> {
    let sections =
        parts.iter().filter_map(|part| part.read.section).map(|section| ["INFO", section]).collect::<Vec<_>>();
    let mut commands = vec![&["INFO"][..]];
    commands.extend(sections.iter().map(|command| &command[..]));
    let mut whole = String::new();
    for answer in server.ask(&commands)? {
        whole.push_str(&text(answer)?);
    }
    Ok(whole)
}

fn text(answer: Answer) -> Result<String, Error> {
    match answer {
        Ok(Reply::Text(text)) => Ok(text),
        Ok(_) => Err(failed!("the reply to INFO is not text")),
        Err(refusal) => Err(refusal.into_error()),
    }
}

/// The limits of memory and clients. Newer servers have them in INFO, others in CONFIG, which may be forbidden or renamed.
fn limits(server: &mut Server, config: &Config, report: &mut Report<'_>) -> Result<(), Error> {
    report.max_memory = report.info.number("maxmemory");
    report.max_clients = report.info.number("maxclients");
    let config = config.config_command.as_str();
    let names = ["maxmemory", "maxclients"];
    let known = [report.max_memory, report.max_clients].iter().all(Option::is_some);
    if known || config.is_empty() {
        return Ok(());
    }
    let commands = names.map(|name| [config, "GET", name]);
    for (name, answer) in names.iter().zip(server.ask(&[&commands[0], &commands[1]])?) {
        let value = match answer {
            Ok(reply) => limit(&reply),
            Err(refusal) => {
                log::debug!("cannot read `{name}`: {}", refusal.0);
                None
            }
        };
        let limit = if *name == "maxmemory" { &mut report.max_memory } else { &mut report.max_clients };
        *limit = limit.or(value);
    }
    Ok(())
}

/// The limit in the reply to CONFIG GET: a name and its value.
fn limit(reply: &Reply) -> Option<f64> {
    match reply {
        Reply::List(pair) => pair.last()?.parse().ok(),
        _ => None,
    }
}

/// If the user may not run it, only the cluster's metrics are missing.
fn cluster_info(server: &mut Server) -> Result<String, Error> {
    match server.ask(&[&["CLUSTER", "INFO"]])?.pop() {
        Some(Ok(Reply::Text(text))) => Ok(text),
        Some(Err(refusal)) => {
            log::warning_daily!("cluster", "skipping the cluster's metrics, cannot run CLUSTER INFO: {}", refusal.0);
            Ok(String::new())
        }
        _ => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasaba_plugin::testing::{Host, Turn};

    /// Replies to INFO, recorded from servers or made after their documentation; the first line of each says which.
    const RECORDED: &[(&str, &str)] = &[
        ("redis 5", include_str!("../recorded/redis-5.0.txt")),
        ("redis 6.2", include_str!("../recorded/redis-6.2.txt")),
        ("redis 7.0", include_str!("../recorded/redis-7.0.txt")),
        ("redis 8", include_str!("../recorded/redis-8.0.txt")),
        ("valkey 8", include_str!("../recorded/valkey-8.0.txt")),
        ("keydb 6.3", include_str!("../recorded/keydb-6.3.txt")),
    ];

    fn settings(extra: &[&str]) -> Settings {
        let extra = extra.iter().map(|name| ("extra".to_owned(), (*name).to_owned()));
        let prefix = ("metric-key-prefix".to_owned(), "redis6379".to_owned());
        Settings::from([prefix].into_iter().chain(extra).collect::<Vec<_>>())
    }

    fn names(extra: &[&str]) -> Vec<String> {
        let graphs = describe().into_graphs(&settings(extra));
        graphs
            .iter()
            .flat_map(|graph| graph.metrics.iter().map(move |metric| format!("{}.{}", graph.name, metric.name)))
            .collect()
    }

    fn fits(pattern: &str, name: &str) -> bool {
        let (mut patterns, mut parts) = (pattern.split('.'), name.split('.'));
        loop {
            match (patterns.next(), parts.next()) {
                (None, None) => return true,
                (Some(pattern), Some(part)) if pattern == part || matches!(pattern, "*" | "#") => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn every_value_of_every_recorded_server_has_a_graph() {
        let prefix = Prefix::of(&settings(&[])).unwrap();
        let patterns = names(&PARTS.extras());
        for (server, text) in RECORDED {
            let report =
                Report { info: Info::parse(text), max_memory: Some(0.0), max_clients: Some(1.0), ..Report::default() };
            // The hit ratio needs the agent's store.
            for part in official::ALL.iter().chain(extra::ALL).filter(|part| part.name != "hit-ratio") {
                for (name, _) in (part.read.values)(&report).unwrap() {
                    let name = prefix.name(&name);
                    assert!(patterns.iter().any(|pattern| fits(pattern, &name)), "{server}: {name}");
                }
            }
        }
    }

    #[test]
    fn each_recorded_server_has_every_official_value_that_does_not_need_a_cluster_or_a_replica() {
        for (server, text) in RECORDED {
            let report =
                Report { info: Info::parse(text), max_memory: Some(0.0), max_clients: Some(1.0), ..Report::default() };
            let values = official::ALL.iter().flat_map(|part| (part.read.values)(&report).unwrap()).collect::<Vec<_>>();
            let alone =
                values.iter().filter(|(name, _)| !name.starts_with("lag.") && !name.starts_with("offset_delay."));
            assert_eq!(alone.count(), 19, "{server}: {values:?}");
        }
    }

    #[test]
    fn a_recorded_server_is_asked_over_its_connection_and_every_sample_has_a_graph() {
        for (server, text) in RECORDED {
            let info = [Turn::expect("*1\r\n$4\r\nINFO\r\n"), Turn::send(format!("${}\r\n{text}\r\n", text.len()))];
            let host =
                Host::new(describe).set("config-command", "").set("extra", "memory").talks("localhost:6379", info);
            let samples = host.collect(collect).unwrap().samples;
            assert!(samples.len() > 15, "{server}: {samples:?}");
        }
        let login = [Turn::expect("*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n"), Turn::send("-WRONGPASS no\r\n")];
        let refused = Host::new(describe).set("password", "hunter2").talks("localhost:6379", login).collect(collect);
        assert_eq!(refused, Err(misconfigured!("WRONGPASS no: check `username` and `password`")));
    }

    #[test]
    fn the_graphs_are_those_of_the_official_plugin_and_each_extra_one_only_if_it_is_named() {
        let official = names(&[]);
        assert_eq!(official.len(), 36);
        for extra in PARTS.extras() {
            let more = names(&[extra]);
            assert!(more.len() > official.len() && more.starts_with(&official), "{extra}");
        }
    }
}
