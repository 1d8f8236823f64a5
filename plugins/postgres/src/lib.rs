//! PostgreSQL's connections, transactions, blocks, rows, size and write-ahead log, from its statistics views.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-postgres`; its wrong values are correct here, unless
//! `compat = "upstream"`. `official` and `extra` list what is collected, `connection` talks to the server, `offline` does without one.

mod connection;
mod extra;
mod official;
pub mod offline;
mod query;
mod rows;
mod scram;

use std::time::Duration;

use wasaba_plugin::prelude::*;
use wasaba_plugin::{Part, Parts, Prefix, Values};

use connection::{Refusal, Session};
use query::{Query, Server, Version};
use rows::Rows;

wasaba_plugin::export!(describe, collect);

/// What the plugin collects.
const PARTS: Parts<Query> = Parts::new(Prefix::of, official::ALL, extra::ALL).with_up("Up");

fn describe() -> Plugin {
    Plugin::new("postgres", env!("CARGO_PKG_VERSION"), "statistics of PostgreSQL, from its statistics views")
        .reaches([Reach::Tcp, Reach::Unix])
        .attribute("license", "Apache-2.0")
        .settings::<Config>()
        .setting(PARTS.setting())
        .graphs_by_settings(|settings| PARTS.graphs(settings))
}

#[derive(Settings)]
struct Config {
    /// where PostgreSQL listens
    #[host(default = "localhost")]
    hostname: String,
    /// where PostgreSQL listens
    #[port(of = hostname, default = 5432)]
    port: u16,
    /// its unix socket, in place of the two above
    #[unix_socket]
    socket: Option<String>,
    /// the role to log in as; it needs pg_monitor
    user: String,
    /// its password
    password: Option<Secret>,
    /// the database to connect to; without it, the role's name
    database: Option<String>,
    /// how TLS is used, in the words of PostgreSQL's clients
    #[tls_mode(
        default = "disable",
        aliases = ["disable=off", "allow=encrypt", "prefer=encrypt", "require=encrypt", "verify-ca=ca", "verify-full=full"]
    )]
    sslmode: String,
    /// also send the password in clear text or as MD5 where the server is not verified by TLS
    #[setting(default = false)]
    insecure_login: bool,
    /// timeout for connecting and for each step of the login
    #[setting(default = "5s")]
    connect_timeout: Duration,
    /// timeout for each query
    #[setting(default = "5s")]
    statement_timeout: Duration,
    /// what the metrics' names begin with
    #[text(default = "postgres")]
    metric_key_prefix: Prefix,
    /// `fixed`, or `upstream` for the official plugin's constant zeros
    #[text(default = "fixed", one_of = ["fixed", "upstream"])]
    compat: String,
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    PARTS.collect(settings, |parts| statistics(&settings.read()?, parts))
}

fn statistics(config: &Config, parts: &[&Part<Query>]) -> Result<Values, Error> {
    let upstream = config.compat == "upstream";
    let mut session = Session::start(config)?;
    let server = Server { version: version(&session.version)?, upstream };
    let queries = parts.iter().map(|part| (part.read.sql)(server)).collect::<Vec<_>>();
    let answers = session.ask(&queries, config.statement_timeout)?;
    session.end();
    let mut values = Values::new();
    let mut refused = None;
    for (part, answer) in parts.iter().zip(answers) {
        match answer {
            Ok(rows) => {
                warn_if_blind(&rows, &config.user);
                values.extend((part.read.values)(&rows, server)?);
            }
            Err(refusal) => {
                let why = explained(part.name, &refusal);
                log::warning_daily(part.name, &why);
                refused = Some(why);
            }
        }
    }
    match refused {
        Some(why) if values.is_empty() => Err(Error::Failed(why)),
        _ => Ok(values),
    }
}

fn version(text: &str) -> Result<Version, Error> {
    match Version::parse(text) {
        Some(version) if version >= Version::OLDEST => Ok(version),
        Some(_) => Err(failed!("PostgreSQL {text:?} is older than 9.6, the oldest supported version")),
        None => Err(failed!("unknown PostgreSQL version {text:?}")),
    }
}

fn explained(part: &str, Refusal { code, message }: &Refusal) -> String {
    let cure = match code.as_str() {
        Refusal::TIMED_OUT => ": increase `statement-timeout`",
        Refusal::SILENCE => ": reduce `statement-timeout`",
        "42501" => ": grant the role pg_monitor",
        _ => "",
    };
    format!("cannot read {part:?}: {message}{cure}")
}

/// Warns if the role cannot see everything: the values are then too small.
fn warn_if_blind(rows: &Rows, user: &str) {
    if rows.first().and_then(|row| row.boolean("sees_all")) == Some(false) {
        let role = user.replace('"', "\"\"");
        let line = "cannot see other roles' sessions, so they are not counted; run on the server:";
        log::warning_daily!("pg_monitor", "the role \"{role}\" {line} GRANT pg_monitor TO \"{role}\"");
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
        for extra in PARTS.extras() {
            let more = names(&[extra]);
            assert!(more.len() > official.len() && more.starts_with(&official), "{extra}");
        }
    }

    #[test]
    fn the_refusal_of_an_unknown_extra_names_the_one_that_was_meant() {
        let error = collect(&settings(&["lock"])).unwrap_err();
        assert!(
            matches!(&error, Error::Misconfigured(text) if text.contains("\"lock\" in `extra`, did you mean \"locks\"?")),
            "{error:?}"
        );
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_with_its_version() {
        assert!(matches!(version("9.5.25"), Err(Error::Failed(text)) if text.contains("9.5.25")));
        assert_eq!(version("9.6.24"), Ok(Version(9, 6)));
    }

    #[test]
    fn a_query_that_timed_out_names_the_setting() {
        let refusal = Refusal { code: "57014".into(), message: "canceling statement due to statement timeout".into() };
        let expected =
            "cannot read \"size\": canceling statement due to statement timeout: increase `statement-timeout`";
        assert_eq!(explained("size", &refusal), expected);
        let silence = Refusal { code: Refusal::SILENCE.into(), message: "no answer within 6s".into() };
        let expected = "cannot read \"size\": no answer within 6s: reduce `statement-timeout`";
        assert_eq!(explained("size", &silence), expected);
    }
}
