//! PostgreSQL's connections, transactions, blocks, rows, size and write-ahead log, from its statistics views.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-postgres`; what that one gets wrong is right here, unless
//! `compat = "upstream"`. `part` says what is collected and how, `connection` speaks with the server.

mod connection;
mod extra;
mod official;
mod part;
mod rows;
mod scram;

use wasaba_plugin::{Error, Graph, Metric, Plugin, Prefix, Sample, Setting, Settings, Unit, log, up};

use connection::{Refusal, Session};
use part::{Part, Server, Version};
use rows::Rows;

wasaba_plugin::export!(describe, collect);

fn describe() -> Plugin {
    Plugin::new("postgres", env!("CARGO_PKG_VERSION"), "what PostgreSQL's statistics views show")
        .setting(Setting::host("hostname").default("localhost").help("where PostgreSQL listens"))
        .setting(Setting::port("port").default("5432").help("where PostgreSQL listens"))
        .setting(Setting::unix_socket("socket").help("its unix socket, in place of the two above"))
        .setting(Setting::text("user").required().help("the role to log in as; it needs pg_monitor"))
        .setting(Setting::secret("password").help("its password"))
        .setting(Setting::text("database").help("the database to connect to; the role's name if left out"))
        .setting(Setting::tls_mode("sslmode").default("disable").help("how TLS is used"))
        .setting(Setting::duration("connect-timeout").default("5s").help("how long connecting and each step of the log-in may take"))
        .setting(Setting::duration("statement-timeout").default("5s").help("how long the server may take for one query"))
        .setting(Setting::text("metric-key-prefix").default("postgres").help("what the metrics' names begin with"))
        .setting(Setting::text("compat").default("fixed").help("`upstream` has the official plugin's constant zeros"))
        .setting(Setting::text("extra").repeatable().help(
            "more than the official plugin: up, max-connections, replication, slots, transactions, locks, cache, checkpoints, \
             databases, xid-age",
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
    let samples = statistics(settings, &prefix, &extra);
    if extra.contains(&UP) { up(&prefix.name("up.up"), samples) } else { samples }
}

fn statistics(settings: &Settings, prefix: &Prefix, extra: &[&str]) -> Result<Vec<Sample>, Error> {
    let upstream = settings.one_of("compat", &["fixed", "upstream"])? == "upstream";
    let timeout = settings.duration("statement-timeout")?;
    let mut session = Session::start(settings)?;
    let server = Server { version: version(&session.version)?, upstream };
    let parts = parts(extra);
    let queries = parts.iter().map(|part| (part.query)(server)).collect::<Vec<_>>();
    let answers = session.ask(&queries, timeout)?;
    session.end();
    let mut samples = Vec::new();
    let mut refused = None;
    for (part, answer) in parts.iter().zip(answers) {
        match answer {
            Ok(rows) => {
                warn_of_blindness(&rows, settings);
                let values = (part.values)(&rows, server)?;
                samples.extend(values.into_iter().map(|(name, value)| Sample::new(prefix.name(&name), value)));
            }
            Err(refusal) => {
                let why = explained(part, &refusal);
                log::warning_daily(part.name, &why);
                refused = Some(why);
            }
        }
    }
    match refused {
        Some(why) if samples.is_empty() => Err(Error::Failed(why)),
        _ => Ok(samples),
    }
}

fn version(text: &str) -> Result<Version, Error> {
    match Version::parse(text) {
        Some(version) if version >= Version::OLDEST => Ok(version),
        Some(_) => {
            Err(Error::Failed(format!("PostgreSQL {text:?} is older than 9.6, the oldest that this plugin reads")))
        }
        None => Err(Error::Failed(format!("{text:?} is no version of PostgreSQL"))),
    }
}

fn explained(part: &Part, Refusal { code, message }: &Refusal) -> String {
    let cure = match code.as_str() {
        Refusal::TOO_LONG => ": allow it more time with `statement-timeout`",
        Refusal::SILENCE => {
            return format!(
                "the part {:?} is missing, for there is {message}: set `statement-timeout` to less",
                part.name
            );
        }
        "42501" => ": grant the role pg_monitor",
        _ => "",
    };
    format!("the part {:?} is missing, for the server says: {message}{cure}", part.name)
}

/// Says when the role sees only a part of what there is: the values are then too small.
fn warn_of_blindness(rows: &Rows, settings: &Settings) {
    if rows.first().and_then(|row| row.boolean("sees_all")) == Some(false) {
        let role = settings.get("user").unwrap_or_default().replace('"', "\"\"");
        let line =
            "sees no other role's sessions, so that connections are missing from what it counts; run on the server:";
        log::warning_daily("pg_monitor", format!("the role \"{role}\" {line} GRANT pg_monitor TO \"{role}\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(extra: &[&str]) -> Settings {
        let extra = extra.iter().map(|name| ("extra".to_owned(), (*name).to_owned()));
        let prefix = ("metric-key-prefix".to_owned(), "my-db".to_owned());
        Settings::from([prefix].into_iter().chain(extra).collect::<Vec<_>>())
    }

    fn names(extra: &[&str]) -> Vec<String> {
        let graphs = describe().into_graphs(&settings(extra));
        let all = graphs
            .iter()
            .flat_map(|graph| graph.metrics.iter().map(|metric| format!("{}.{}", graph.name, metric.name)));
        all.collect()
    }

    #[test]
    fn the_graphs_are_those_of_the_official_plugin_and_each_extra_one_only_if_it_is_named() {
        let official = names(&[]);
        assert_eq!(official.len(), 22);
        assert!(official.iter().all(|name| name.starts_with("my-db.")), "{official:?}");
        for extra in extras() {
            let more = names(&[extra]);
            assert!(more.len() > official.len() && more.starts_with(&official), "{extra}");
        }
    }

    #[test]
    fn an_extra_that_is_not_there_is_told_with_those_that_are() {
        let error = collect(&settings(&["lock"])).unwrap_err();
        assert!(
            matches!(&error, Error::Misconfigured(text) if text.contains("\"lock\"") && text.contains("\"locks\"")),
            "{error:?}"
        );
    }

    #[test]
    fn the_help_of_extra_names_each() {
        let help =
            describe().into_description().settings.into_iter().find(|setting| setting.key == "extra").unwrap().help;
        for extra in extras() {
            assert!(help.contains(extra), "{extra}");
        }
    }

    #[test]
    fn a_server_that_is_too_old_is_named() {
        assert!(matches!(version("9.5.25"), Err(Error::Failed(text)) if text.contains("9.5.25")));
        assert_eq!(version("9.6.24"), Ok(Version(9, 6)));
    }

    #[test]
    fn a_query_that_took_too_long_names_the_setting() {
        let refusal = Refusal { code: "57014".into(), message: "canceling statement due to statement timeout".into() };
        assert!(explained(&official::PARTS[2], &refusal).contains("`statement-timeout`"));
        let silence = Refusal { code: Refusal::SILENCE.into(), message: "no answer within 6s".into() };
        let expected =
            "the part \"size\" is missing, for there is no answer within 6s: set `statement-timeout` to less";
        assert_eq!(explained(&official::PARTS[2], &silence), expected);
    }
}
