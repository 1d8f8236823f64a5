//! The table `[docker]`: an engine whose containers have metrics.

use std::time::Duration;

use containers::endpoint::Endpoint;
use containers::metrics::EXTRA;
use containers::naming::Naming;
use containers::{Docker, Patterns};
use wasaba_core::nearest::nearest;

use super::Config;
use super::document::{Level, Problem, Reader, Section};
use super::draft::Skipped;
use super::plugin::{pattern, posting, trust};
use crate::metrics::{Metrics, StandIn};

/// The table's name.
pub(super) const TABLE: &str = "[docker]";

/// Replaces the engine of `config` with that of this document, if it has one. An invalid one is skipped, like a plugin.
pub(super) fn merge(reader: &mut Reader<'_>, top: &mut Section<'_>, config: &mut Config, skipped: &mut Skipped) {
    let (found, is_valid) = reader.skipping(TABLE, |reader| {
        let mut section = reader.section(top, "docker")?;
        let place = reader.file_and_line(section.span_of("tls"));
        let docker = docker(reader, &mut section);
        reader.finish(section);
        Some((docker, place))
    });
    if let Some((_, place)) = &found {
        config.places.0.insert("docker", place.clone());
    }
    let found = found.map(|(docker, _)| docker);
    if found.is_some() || !is_valid {
        skipped.note(TABLE.to_owned(), is_valid);
        config.docker = found.or(config.docker.take());
    }
}

/// Warns of two engines that post to the same graphs.
pub(super) fn same_graphs(config: &Config) -> Option<Problem> {
    let graphs = |docker: &Docker| (docker.posting.key_prefix.clone(), docker.posting.custom_identifier.clone());
    let engines = tables(config).collect::<Vec<_>>();
    let mut pairs =
        engines.iter().enumerate().flat_map(|(at, one)| engines.iter().skip(at + 1).map(move |other| (one, other)));
    let ((one, _), (other, _)) = pairs.find(|((_, one), (_, other))| graphs(one) == graphs(other))?;
    let cure = "remove one, or give one a `key_prefix`";
    let why = format!("both post to the same graphs, and of each metric only one's values are kept: {cure}");
    let place = config.places.0.get("docker").filter(|_| one == TABLE).map(|place| format!("{place}: "));
    Some(Problem::at(format!("{}{one} and {other}", place.unwrap_or_default()), Level::Warning, why))
}

/// The engines with the tables that configure them.
fn tables(config: &Config) -> impl Iterator<Item = (String, &Docker)> {
    let stand_ins = config.metrics.iter().filter_map(|plugin| match &plugin.runs {
        Metrics::Official(line) => match &line.stand_in {
            StandIn::Docker(docker) => Some((format!("[plugin.metrics.{}]", plugin.name), docker.as_deref().ok()?)),
            StandIn::Component(_) => None,
        },
        Metrics::Component(_) | Metrics::Program(_) => None,
    });
    config.docker.iter().map(|docker| ("[docker]".to_owned(), docker)).chain(stand_ins)
}

fn docker(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Docker {
    let default = Docker::default();
    let label = reader.text(section, "label").unwrap_or_default();
    let cpu_in_nanoseconds = reader.parsed(section, "cpu_format", |text| match text {
        "percentage" => Ok(false),
        "usage" => Ok(true),
        _ => Err("must be \"percentage\" or \"usage\"".to_owned()),
    });
    Docker {
        endpoint: reader.parsed(section, "host", Endpoint::parse).unwrap_or_default(),
        trust: trust(reader, section),
        naming: reader.parsed(section, "name_format", |word| Naming::parse(word, &label)).unwrap_or_default(),
        cpu_in_nanoseconds: cpu_in_nanoseconds.unwrap_or_default(),
        include: patterns(reader, section, "include"),
        exclude: patterns(reader, section, "exclude"),
        extra: extra(reader, section),
        timeout: reader.positive(section, "timeout_seconds", 55).map_or(default.timeout, Duration::from_secs),
        posting: posting(reader, section),
        ..default
    }
}

fn patterns(reader: &mut Reader<'_>, section: &mut Section<'_>, key: &str) -> Patterns {
    if key == "include" && section.is_text(key) {
        let cure = "a pattern of files belongs above the first table of the file";
        let what = format!("`include` of {TABLE} must be a table, like {{ name = \"^shop-\" }}; {cure}");
        reader.fail(section.span_of(key), what);
        reader.skip(section, key);
    }
    let Some(mut inner) = reader.section(section, key) else { return Patterns::default() };
    let mut read = |key| reader.parsed(&mut inner, key, pattern).flatten();
    let patterns = Patterns { name: read("name"), image: read("image"), label: read("label") };
    reader.finish(inner);
    patterns
}

fn extra(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Vec<&'static str> {
    let mut words = Vec::new();
    let written = reader.texts(section, "extra");
    let missing = EXTRA.iter().copied().filter(|known| written.iter().all(|(word, _)| word != known));
    let missing = missing.collect::<Vec<_>>();
    for (word, span) in written {
        match EXTRA.iter().find(|known| **known == word) {
            Some(known) => words.push(*known),
            None => {
                let meant = nearest(&word, missing.iter().copied());
                let hint = meant.map(|meant| format!(", did you mean \"{meant}\"?")).unwrap_or_else(|| ";".to_owned());
                let valid = EXTRA.join(", ");
                reader.fail(span, format!("unknown value {word:?} in `extra`{hint} valid: {valid}"));
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use containers::DEFAULT_TIMEOUT;

    use super::*;
    use crate::parse;

    /// The engines of a configuration without problems.
    fn engines(text: &str) -> Vec<Docker> {
        let (config, problems) = parse(Path::new("agent.conf"), text).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(problems, []);
        config.engines().cloned().collect()
    }

    #[test]
    fn an_empty_table_is_enough() {
        assert_eq!(engines("[docker]\n"), [Docker::default()]);
        assert_eq!(engines(""), []);
    }

    #[test]
    fn an_official_line_becomes_the_engine_that_its_program_would_query() {
        for (command, expected) in [
            ("mackerel-plugin-docker", Docker { naming: Naming::NameId, ..Docker::default() }),
            ("mackerel-plugin-docker -name-format name", Docker::default()),
            (
                "DOCKER_HOST=unix:///run/a.sock mackerel-plugin-docker -name-format name",
                Docker { endpoint: Endpoint::Unix("/run/a.sock".into()), ..Docker::default() },
            ),
            ("DOCKER_HOST=unix:///run/a.sock DOCKER_HOST= mackerel-plugin-docker -name-format name", Docker::default()),
            (
                "DOCKER_TLS_VERIFY=1 DOCKER_HOST=unix:///run/a.sock mackerel-plugin-docker -name-format name -host /run/b.sock",
                Docker { endpoint: Endpoint::Unix("/run/b.sock".into()), ..Docker::default() },
            ),
            ("/usr/bin/mackerel-plugin-docker --name-format=name -method API -command docker", Docker::default()),
            (
                "mackerel-plugin docker -host 10.0.0.5:2375 -name-format label -label app -cpu-format usage -tempfile /tmp/x",
                Docker {
                    endpoint: Endpoint::Tcp { host: "10.0.0.5".into(), port: 2_375, tls: false },
                    naming: Naming::Label("app".into()),
                    cpu_in_nanoseconds: true,
                    ..Docker::default()
                },
            ),
        ] {
            let [docker] = &engines(&format!("[plugin.metrics.containers]\ncommand = {command:?}\n"))[..] else {
                panic!("{command}")
            };
            assert_eq!(*docker, Docker { name: "plugin containers".into(), ..expected }, "{command}");
        }
    }

    #[test]
    fn an_unsupported_official_line_is_refused_with_the_table_to_write() {
        for (command, why) in [
            ("DOCKER_HOST=ssh://a mackerel-plugin-docker", "DOCKER_HOST has the unsupported scheme `ssh://`"),
            ("mackerel-plugin-docker -host ssh://a", "-host has the unsupported scheme `ssh://`"),
            (
                "DOCKER_TLS_VERIFY=1 DOCKER_HOST=tcp://a:2376 mackerel-plugin-docker",
                "[docker] table with `host` and `tls`",
            ),
            ("mackerel-plugin-docker | grep cpu", "write a [docker] table"),
            ("mackerel-plugin-docker -nameformat name", "write a [docker] table"),
            (
                "mackerel-plugin-docker -name_format name -verbose",
                "unknown flag -verbose; valid flags: -host, -name-format, -label, -cpu-format, -method, -command, \
                 -tempfile; write a [docker] table instead of this one",
            ),
            (
                "mackerel-plugin-docker -name-format pod",
                "-name-format must be one of name, name_id, id, image, image_id",
            ),
            ("mackerel-plugin-docker -method File", "-method supports only API; remove it"),
            (
                "mackerel-plugin-docker -name-format foo -host tcp//x -method File -label",
                "flag -label needs a value; -method supports only API; remove it; -host has the path `//x`, which",
            ),
            ("mackerel-plugin-docker -bogus=x -name-format foo", "; -name-format must be one of name, name_id,"),
            ("mackerel-plugin-docker -name-format label -label", ": flag -label needs a value; write a [docker] table"),
        ] {
            let text = format!("[plugin.metrics.docker]\ncommand = {command:?}\n");
            let (config, problems) = parse(Path::new("agent.conf"), &text).unwrap();
            assert_eq!(problems, [], "the line is valid where the program is installed");
            let Metrics::Official(line) = &config.metrics[0].runs else { panic!("{command}") };
            let StandIn::Docker(Err(message)) = &line.stand_in else { panic!("{command}") };
            let origin = "agent.conf:1: `command` of [plugin.metrics.docker]: ";
            assert!(message.starts_with(origin) && message.contains(why), "{command}: {message}");
        }
    }

    #[test]
    fn two_engines_that_post_to_the_same_graphs_are_reported_unless_they_have_prefixes() {
        let problems = |more: &str| {
            let text = format!("[docker]\n[plugin.metrics.docker]\ncommand = \"mackerel-plugin-docker\"\n{more}");
            let (_, problems) = parse(Path::new("agent.conf"), &text).unwrap();
            problems.iter().map(ToString::to_string).collect::<String>()
        };
        let warning = "agent.conf:1: [docker] and [plugin.metrics.docker]: warning: both post to the same graphs";
        assert!(problems("").starts_with(warning), "{}", problems(""));
        assert_eq!(problems("key_prefix = \"other\"\n"), "");
    }

    #[test]
    fn the_posting_keys_of_an_official_line_hold_for_its_engine() {
        let text = "[plugin.metrics.docker]\ncommand = [\"mackerel-plugin-docker\"]\ncustom_identifier = \"node1\"\n\
                    exclude_pattern = \"blkio\"\ntimeout_seconds = 5\n";
        let [docker] = &engines(text)[..] else { panic!("one engine") };
        assert_eq!(docker.posting.custom_identifier.as_deref(), Some("node1"));
        assert!(!docker.posting.wants("docker.blkio.io_queued.web.read"));
        assert_eq!((docker.timeout, DEFAULT_TIMEOUT), (Duration::from_secs(5), Duration::from_secs(20)));
    }

    #[test]
    fn the_keys_of_an_official_line_hold_for_its_program_and_for_its_stand_in() {
        for command in ["mackerel-plugin-docker", "mackerel-plugin-nginx"] {
            let keys = "timeout_seconds = 5\nuser = \"u\"\ncustom_identifier = \"node1\"\ninterval_minutes = 3\n";
            let text = format!("[plugin.metrics.m]\ncommand = {command:?}\n{keys}exclude_pattern = \"x\"\n");
            let (config, problems) = parse(Path::new("agent.conf"), &text).unwrap();
            assert_eq!(problems, []);
            let Metrics::Official(line) = &config.metrics[0].runs else { panic!("{command}") };
            let posting = match &line.stand_in {
                StandIn::Docker(docker) => &docker.as_ref().unwrap().posting,
                StandIn::Component(table) => &table.posting,
            };
            assert_eq!(line.program.posting, *posting);
            assert_eq!((posting.custom_identifier.as_deref(), posting.every_minutes), (Some("node1"), 3));
            let program = &line.program.program;
            assert_eq!((program.timeout, program.user.as_deref()), (Duration::from_secs(5), Some("u")));
            let (_, problems) = parse(Path::new("agent.conf"), &format!("{text}key_prefx = \"u\"\n")).unwrap();
            assert!(problems[0].to_string().contains("did you mean `key_prefix`"), "{}", problems[0]);
        }
    }

    #[test]
    fn a_later_table_replaces_an_earlier_one_of_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.conf"), "[plugin.metrics.docker]\ncommand = \"mackerel-plugin-docker\"\n")
            .unwrap();
        let include = folder.path().join("*.conf");
        let text = format!("include = {include:?}\n[docker]\n[plugin.metrics.docker]\ncommand = \"true\"\n");
        let (config, _) = parse(Path::new("agent.conf"), &text).unwrap();
        let names = config.engines().map(|docker| &*docker.name).collect::<Vec<_>>();
        assert_eq!((names, config.programs().count()), (vec!["docker", "plugin docker"], 0));
    }
}
