//! Redis' commands, clients, keys, memory, cluster and replicas, from INFO; Valkey's and KeyDB's, too.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-redis`. `official` and `extra` say what is collected and
//! how, `server` speaks with the server, `info` takes its answers apart.

mod extra;
mod info;
mod official;
mod part;
mod server;

use wasaba_plugin::{Error, Graph, Metric, Plugin, Prefix, Sample, Setting, Settings, Unit, log, up};

use info::Info;
use part::{Part, Report};
use server::{Answer, Reply, Server};

wasaba_plugin::export!(describe, collect);

fn describe() -> Plugin {
    Plugin::new("redis", env!("CARGO_PKG_VERSION"), "what INFO of Redis or Valkey tells")
        .setting(Setting::host("host").default("localhost").help("where Redis listens"))
        .setting(Setting::port("port").default("6379").help("where Redis listens"))
        .setting(Setting::unix_socket("socket").help("its unix socket, in place of the two above"))
        .setting(Setting::text("username").default("default").help("the user to log in as, where there is a password"))
        .setting(Setting::secret("password").help("its password"))
        .setting(Setting::boolean("tls").default("false").help("speak TLS, also on the unix socket; `host` is on the certificate"))
        .setting(Setting::tls_skip_verify("tls-skip-verify").default("false").help("accept any certificate"))
        .setting(Setting::duration("timeout").default("5s").help("how long connecting and each answer may take"))
        .setting(Setting::text("resp").default("2").help("the version of Redis' protocol, 2 or 3"))
        .setting(
            Setting::text("config-command").default("CONFIG").help("how CONFIG is called, if it was renamed; empty: do not use it"),
        )
        .setting(Setting::text("metric-key-prefix").default("redis").help("what the metrics' names begin with"))
        .setting(Setting::text("extra").repeatable().help(
            "more than the official plugin: up, commands, latency, hit-ratio, memory, databases, persistence, network, replica",
        ))
        .graphs_by_settings(graphs)
}

/// The extra part that is not asked for: whether there is an answer.
const UP: &str = "up";

/// Everything that `extra` may name.
fn extras() -> Vec<&'static str> {
    [UP].into_iter().chain(extra::PARTS.iter().map(|part| part.name)).collect()
}

/// The parts that are collected: the official ones, and those that `extra` names.
fn parts(extra: &[&str]) -> Vec<&'static Part> {
    official::PARTS.iter().chain(extra::PARTS.iter().filter(|part| extra.contains(&part.name))).collect()
}

fn graphs(settings: &Settings) -> Vec<Graph> {
    // What is wrong with the settings, `collect` will say.
    let Ok(prefix) = Prefix::of(settings) else { return Vec::new() };
    let extra = settings.some_of("extra", &extras()).unwrap_or_default();
    let up = prefix.graph("up", "Up", Unit::Integer).metric(Metric::gauge("up", "Up (1: yes, 0: no)"));
    let graphs = parts(&extra).into_iter().flat_map(|part| (part.graphs)(&prefix));
    graphs.chain(extra.contains(&UP).then_some(up)).collect()
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    let extra = settings.some_of("extra", &extras())?;
    let prefix = Prefix::of(settings)?;
    let samples = values(settings, &prefix, &parts(&extra));
    if extra.contains(&UP) { up(&prefix.name("up.up"), samples) } else { samples }
}

fn values(settings: &Settings, prefix: &Prefix, parts: &[&Part]) -> Result<Vec<Sample>, Error> {
    let mut server = Server::connect(settings)?;
    let text = info(&mut server, parts)?;
    let mut report = Report { info: Info::parse(&text), ..Report::default() };
    if report.info.text("redis_version").is_none() {
        return Err(Error::Failed("what INFO says has no `redis_version` in it".into()));
    }
    limits(&mut server, settings, &mut report)?;
    let cluster =
        if report.info.text("cluster_enabled") == Some("1") { cluster_info(&mut server)? } else { String::new() };
    report.cluster = Info::parse(&cluster);
    let mut samples = Vec::new();
    for part in parts {
        let values = (part.values)(&report)?;
        samples.extend(values.into_iter().map(|(name, value)| Sample::new(prefix.name(&name), value)));
    }
    Ok(samples)
}

/// INFO, and the sections that it leaves out. Before Redis 7 it takes one section at a time, so each is asked for by itself.
fn info(server: &mut Server, parts: &[&Part]) -> Result<String, Error> {
    let sections = parts.iter().filter_map(|part| part.section).map(|section| ["INFO", section]).collect::<Vec<_>>();
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
        Ok(_) => Err(Error::Failed("INFO is answered with something else than text".into())),
        Err(refusal) => Err(refusal.into_error()),
    }
}

/// How much the server may take. Newer ones tell it in INFO; else CONFIG is asked, which some forbid or have renamed.
fn limits(server: &mut Server, settings: &Settings, report: &mut Report<'_>) -> Result<(), Error> {
    report.max_memory = report.info.number("maxmemory");
    report.max_clients = report.info.number("maxclients");
    let config = settings.get("config-command").unwrap_or_default();
    let names = ["maxmemory", "maxclients"];
    let known = [report.max_memory, report.max_clients].iter().all(Option::is_some);
    if known || config.is_empty() {
        return Ok(());
    }
    let commands = names.map(|name| [config, "GET", name]);
    for (name, answer) in names.iter().zip(server.ask(&[&commands[0], &commands[1]])?) {
        let value = match answer {
            Ok(Reply::List(pair)) => pair.last().and_then(|value| value.parse().ok()),
            Ok(_) => None,
            Err(refusal) => {
                log::debug(format!("there is no `{name}`, for the server says: {}", refusal.0));
                None
            }
        };
        let limit = if *name == "maxmemory" { &mut report.max_memory } else { &mut report.max_clients };
        *limit = limit.or(value);
    }
    Ok(())
}

/// A user who may not ask it costs only the cluster's metrics.
fn cluster_info(server: &mut Server) -> Result<String, Error> {
    match server.ask(&[&["CLUSTER", "INFO"]])?.pop() {
        Some(Ok(Reply::Text(text))) => Ok(text),
        Some(Err(refusal)) => {
            log::warning_daily(
                "cluster",
                format!("there are no metrics of the cluster, for the server says: {}", refusal.0),
            );
            Ok(String::new())
        }
        _ => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers answered to INFO, or would have by their documentation; the first line of each says which.
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
    fn every_value_of_every_recorded_server_stands_in_a_graph() {
        let prefix = Prefix::of(&settings(&[])).unwrap();
        let patterns = names(&extras());
        for (server, text) in RECORDED {
            let report =
                Report { info: Info::parse(text), max_memory: Some(0.0), max_clients: Some(1.0), ..Report::default() };
            // The hit ratio needs the agent.
            for part in parts(&extras()).into_iter().filter(|part| part.name != "hit-ratio") {
                for (name, _) in (part.values)(&report).unwrap() {
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
            let values = official::PARTS.iter().flat_map(|part| (part.values)(&report).unwrap()).collect::<Vec<_>>();
            let alone =
                values.iter().filter(|(name, _)| !name.starts_with("lag.") && !name.starts_with("offset_delay."));
            assert_eq!(alone.count(), 19, "{server}: {values:?}");
        }
    }

    #[test]
    fn the_graphs_are_those_of_the_official_plugin_and_each_extra_one_only_if_it_is_named() {
        let official = names(&[]);
        assert_eq!(official.len(), 36);
        for extra in extras() {
            let more = names(&[extra]);
            assert!(more.len() > official.len() && more.starts_with(&official), "{extra}");
        }
    }

    #[test]
    fn the_help_of_extra_names_each() {
        let help =
            describe().into_description().settings.into_iter().find(|setting| setting.key == "extra").unwrap().help;
        for extra in extras() {
            assert!(help.contains(extra), "{extra}");
        }
    }
}
