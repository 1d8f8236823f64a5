//! The official agent's sample file, and the configuration of its own tests: they load as they are, and mean what they say.

use std::path::Path;
use std::time::Duration;

use programs::{Command, Program};

use super::{Config, parse};
use crate::check::Runner;

fn loaded(name: &str) -> Config {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/official").join(name);
    let (config, problems) = parse(&file, &std::fs::read_to_string(&file).unwrap()).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>());
    });
    assert!(problems.is_empty(), "{name}: {}", problems[0]);
    config
}

fn line(program: &Program) -> &str {
    match &program.command {
        Command::Shell(line) => line,
        Command::Words(words) => panic!("{words:?}"),
    }
}

fn program(runner: &Runner) -> &Program {
    match runner {
        Runner::Program(program) => program,
        Runner::Component(table) => panic!("{}", table.name),
    }
}

fn environment(program: &Program) -> Vec<(&str, &str)> {
    program.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn every_key_of_the_official_sample_means_there_and_here_the_same() {
    let config = loaded("sample.conf");
    assert_eq!(
        (config.pidfile.to_str(), config.root.to_str()),
        (Some("/var/run/mackerel-agent.pid"), Some("/var/lib/mackerel-agent"))
    );
    assert_eq!(
        (config.status_on_start.as_deref(), config.status_on_stop.as_deref()),
        (Some("working"), Some("poweroff"))
    );
    assert!(config.api_key.is_none(), "an empty key is none");
    assert!(config.selection.filesystems.as_ref().is_some_and(|ignore| ignore.is_match("/dev/ram0")));
    let components = config.components().map(|table| (table.name.as_str(), table.wasm.as_str()));
    assert_eq!(components.collect::<Vec<_>>(), ["nginx", "postgres", "redis"].map(|name| (name, name)));
    let programs = config.programs().map(|program| &*program.name).collect::<Vec<_>>();
    let expected = "apache2 aws-ec2_cpucredit aws-elb aws-rds elasticsearch haproxy jvm linux memcached mongodb mysql php-apc \
                    plack pps squid varnish nfsd bind9 postfix vmstat curl";
    assert_eq!(programs.join(" "), expected);
    let postfix = config.programs().find(|program| *program.name == *"postfix").unwrap();
    assert!(line(&postfix.program).starts_with("MUNIN_LIBDIR=/usr/share/munin mackerel-plugin-munin -plugin="));
}

#[test]
fn every_key_of_the_official_tests_means_there_and_here_the_same() {
    let config = loaded("config_test.conf");
    assert_eq!((config.display_name.as_deref(), config.diagnostic), (Some("fghij"), true));
    assert_eq!(config.api_key.as_ref().map(wasaba_core::secret::Secret::reveal), Some("abcde"));
    let [mysql, mysql2, mysql3] = &config.programs().collect::<Vec<_>>()[..] else { panic!("{:?}", config.metrics) };
    assert_eq!(line(&mysql.program), "ruby /path/to/your/plugin/mysql.rb");
    assert_eq!((mysql.program.user.as_deref(), mysql.program.timeout), (Some("mysql"), Duration::from_secs(60)));
    assert_eq!(mysql.posting.custom_identifier.as_deref(), Some("app1.example.com"));
    let wanted = ["mysql.innodb.rows", "mysql.innodb.ignored", "mysql.other"].map(|name| mysql2.posting.wants(name));
    assert_eq!((wanted, mysql2.program.timeout), ([true, false, false], Duration::from_secs(30)));
    assert_eq!(environment(&mysql3.program), [("MYSQL_USERNAME", "USERNAME"), ("MYSQL_PASSWORD", "PASSWORD")]);

    let [first, second, third, fourth] = &config.checks[..] else { panic!("{:?}", config.checks) };
    let intervals = |check: &crate::check::Check| (check.every.as_secs() / 60, check.notification_interval_minutes);
    assert_eq!((intervals(first), first.max_check_attempts), ((30, Some(60)), Some(3)));
    assert_eq!((intervals(second), intervals(third)), ((60, Some(90)), (1, None)));
    assert_eq!((program(&first.runner).user.as_deref(), program(&first.runner).timeout.as_secs()), (Some("xyz"), 60));
    let actions = [first, second].map(|check| check.action.as_ref().unwrap());
    assert_eq!(actions.map(|action| (line(action), action.user.as_deref())), [("cardiac_massage", Some("doctor")); 2]);
    assert_eq!(environment(actions[1]), [("NAME_1", "VALUE_1"), ("NAME_2", "VALUE_2"), ("NAME_3", "VALUE_3")]);
    assert_eq!(environment(program(&second.runner)), [("ES_HOSTS", "10.45.3.2:9220,10.45.3.1:9230")]);
    assert_eq!(
        (third.custom_identifier.as_deref(), fourth.custom_identifier.as_deref()),
        (None, Some("app2.example.com"))
    );

    let [hourly, other] = &config.metadata[..] else { panic!("{:?}", config.metadata) };
    assert_eq!((hourly.every.as_secs(), other.every.as_secs()), (3_600, 600));
    assert_eq!(
        (program(&hourly.runner).user.as_deref(), environment(program(&other.runner))),
        (Some("zzz"), vec![("NAME_1", "VALUE_1")])
    );
}
