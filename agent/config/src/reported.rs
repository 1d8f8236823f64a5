//! What people have reported of agents and their configuration files, with what they expected: each is named by its project and number.

use official::programs::Command;

use crate::metrics::{Metrics, StandIn};
use crate::tests::{parsed, shown};
use crate::{Config, load};

/// The configuration in a file with these bytes; or its problems.
fn of_bytes(bytes: &[u8]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    match load(file.path()) {
        Ok((config, problems)) if problems.is_empty() => Ok(config),
        Ok((_, problems)) | Err(problems) => Err(shown(&problems)),
    }
}

/// The text as an editor of Windows saves it: two bytes for each character.
fn utf_16(text: &str, mark: bool) -> Vec<u8> {
    let mark = if mark { "\u{feff}" } else { "" };
    format!("{mark}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// What Windows' editors begin a file of UTF-8 with.
const MARK: &[u8] = b"\xef\xbb\xbf";

#[test]
fn a_file_that_was_edited_with_windows_is_read_or_said_to_be_in_another_encoding() {
    let text = "display_name = \"あ\"\n[plugin.metrics.a]\ncommand = [\"x\"]\n";
    for (issue, bytes, is_read) in [
        ("influxdata/telegraf#1378", [MARK, text.as_bytes()].concat(), true),
        ("oauth2-proxy/oauth2-proxy#2551", [MARK, b"# only a comment\n"].concat(), true),
        ("mackerelio/mackerel-agent#377", text.replace('\n', "\r\n").into_bytes(), true),
        ("NagiosEnterprises/ncpa#322", [MARK, text.replace('\n', "\r\n").as_bytes()].concat(), true),
        ("influxdata/telegraf#4880", utf_16(text, true), false),
        ("influxdata/telegraf#6662", utf_16(text, false), false),
    ] {
        match of_bytes(&bytes) {
            Ok(config) => assert!(is_read && config.metrics.len() <= 1, "{issue}"),
            Err(why) => assert!(!is_read && why.contains("save the file as UTF-8"), "{issue}: {why}"),
        }
    }
    // BurntSushi/toml#381: an included file, too.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.conf"), "\u{feff}display_name = \"included\"\r\n").unwrap();
    let (config, problems) = parsed(&format!("include = \"{}/*.conf\"\n", folder.path().display())).unwrap();
    assert_eq!((config.display_name.as_deref(), shown(&problems).as_str()), (Some("included"), ""));
}

#[test]
fn a_command_over_several_lines_is_the_same_with_windows_line_ends() {
    for end in ["\n", "\r\n"] {
        let text = format!("[plugin.metrics.a]{end}command = \"\"\"{end}x \\{end}  -y{end}\"\"\"{end}");
        let config = of_bytes(text.as_bytes()).unwrap();
        let [program] = &config.programs().collect::<Vec<_>>()[..] else { panic!("one program") };
        assert!(program.program.command == Command::Shell("x -y\n".to_owned()), "{end:?}");
    }
}

/// What stands in for the one plugin of a configuration: its flags, or the name format and host of an engine.
fn stand_in(text: &str) -> String {
    let (config, problems) = parsed(text).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    assert_eq!(shown(&problems), "", "{text}");
    let [plugin] = &config.metrics[..] else { panic!("{text}") };
    let Metrics::Official(line) = &plugin.runs else { panic!("{text}") };
    let unset = line.unset.as_deref().map(|unset| format!("; {unset}")).unwrap_or_default();
    match &line.stand_in {
        StandIn::Component(table) => {
            let line = table.raw.command_line.as_ref().unwrap();
            let limit = line.timeout.map(|limit| format!(" within {} s", limit.as_secs())).unwrap_or_default();
            let why = line.unsupported.as_deref().unwrap_or_default();
            format!("{} {}{limit}{why}{unset}", table.wasm, line.flags.join(" "))
        }
        StandIn::Docker(Ok(docker)) => format!("{:?} within {} s{unset}", docker.naming, docker.timeout.as_secs()),
        StandIn::Docker(Err(why)) => why.clone(),
    }
}

#[test]
fn an_official_line_means_what_its_writer_meant() {
    for (source, table, expected) in [
        // stanaka/docker-mackerel-agent, startup.sh: what the official image appends.
        (
            "docker-mackerel-agent",
            "command = \"/usr/bin/mackerel-plugin-docker -method API -name-format name\"",
            "Name within 20 s",
        ),
        (
            "a how-to for Misskey",
            "command = [\"mackerel-plugin-docker\", \"-name-format\", \"name\"]",
            "Name within 20 s",
        ),
        (
            "a memo on Aurora",
            " command = \"mackerel-plugin-redis -host=redis.example.com -tempfile /tmp/mackerel-redis\"\n \
             custom_identifier = \"redis.example.com\"",
            "redis -host=redis.example.com -tempfile /tmp/mackerel-redis",
        ),
        (
            "a template that was installed as it is",
            "command = \"mackerel-plugin-nginx -port ${MACKEREL_PORT_NGINX} -path ${MACKEREL_PATH_NGINX}\"",
            "nginx -port -path; agent.conf:1: `command` of [plugin.metrics.p]: `$MACKEREL_PORT_NGINX`, `$MACKEREL_PATH_NGINX` are \
             not set in this environment: write them into `env` of the table, or set them where the agent is started",
        ),
        (
            "prometheus/snmp_exporter#1499",
            "command = \"mackerel-plugin-redis -password='abcd$geh==1('\"",
            "redis -password=abcd$geh==1(",
        ),
        (
            "a list instead of a text",
            "command = [\"mackerel-plugin-postgres\", \"-user=me\", \"-password=$PG_PASSWORD\"]",
            "postgres -user=me -password=$PG_PASSWORD; agent.conf:1: `command` of [plugin.metrics.p]: `$PG_PASSWORD` stays as it is, \
             since a list of words is not run by a shell: write the command as one text in quotes",
        ),
        ("tabs", "command = \"\\tmackerel-plugin-redis\\t-port\\t6380\"", "redis -port 6380"),
        (
            "cron's habits",
            "command = \"timeout 20 mackerel-plugin-redis 2>/dev/null || true\"\ntimeout_seconds = 30",
            "redis  within 20 s",
        ),
        ("a limit", "command = \"timeout 30 mackerel-plugin-docker 2>/dev/null\"", "NameId within 30 s"),
        ("two limits", "command = \"timeout 30 mackerel-plugin-docker\"\ntimeout_seconds = 5", "NameId within 5 s"),
    ] {
        assert_eq!(stand_in(&format!("[plugin.metrics.p]\n{table}\n")), expected, "{source}");
    }
}

#[test]
fn a_line_of_a_how_to_without_its_last_quote_is_found_where_it_is() {
    // A plugin's README has it so: command = "mackerel-plugin-photon-stats -token **********
    let problems =
        parsed("[plugin.metrics.photon-stats]\ncommand = \"mackerel-plugin-photon-stats -token hunter2\n").unwrap_err();
    let said = shown(&problems);
    assert!(said.starts_with("agent.conf:2:") && said.contains("expected `\"`") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_key_behind_the_table_that_swallows_it_is_reported() {
    for (issue, text, said) in [
        (
            "influxdata/telegraf#1623",
            "[plugin.metrics.a]\ncommand = \"x\"\n[plugin.metrics.a.env]\nA = \"b\"\ncustom_identifier = \"db1\"\n",
            "`custom_identifier` is a variable of the program, since it stands in [plugin.metrics.a.env]",
        ),
        (
            "mackerelio/cookbook-mackerel-agent#4",
            "[plugin.metrics.a]\ncommand = \"x\"\nroles = [ \"hoge:fuga\" ]\n",
            "`roles` is ignored: it stands in [plugin.metrics.a]",
        ),
        // influxdata/telegraf#15928: keys in quotes are keys.
        ("quotes", "[host_status]\n\"apikey\" = 'x'\n", "`apikey` is ignored: it stands in [host_status]"),
    ] {
        let (config, problems) = parsed(text).unwrap();
        assert!(shown(&problems).contains(said), "{issue}: {}", shown(&problems));
        assert!(config.roles.is_empty() && config.api_key.is_none());
    }
}

/// influxdata/telegraf#4729: one bad table must not leave the machine without all other metrics.
#[test]
fn a_file_of_one_plugin_that_a_template_broke_costs_only_that_plugin() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.conf"), "[plugin.metrics.bad]\ncommand = {{ command }}\n").unwrap();
    std::fs::write(folder.path().join("none.conf"), "[plugin.metrics.none]\ncommand = []\n").unwrap();
    std::fs::write(folder.path().join("good.conf"), "[plugin.metrics.good]\ncommand = \"x\"\n").unwrap();
    let text = format!("include = \"{}/*.conf\"\n", folder.path().display());
    // What is not TOML may be half of a secret, or a role: the file is not read, and the agent does not start with the rest.
    assert!(parsed(&text).is_err());
    std::fs::remove_file(folder.path().join("bad.conf")).unwrap();
    let (config, problems) = parsed(&text).unwrap();
    assert_eq!(config.metrics.iter().map(|plugin| &*plugin.name).collect::<Vec<_>>(), ["good"]);
    assert!(shown(&problems).contains("none.conf:2:"), "{}", shown(&problems));
}
