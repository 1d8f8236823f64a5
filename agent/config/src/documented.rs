//! The official agent's sample file, the configuration of its tests, and examples from its documentation: each key has the same meaning
//! here.

use std::path::Path;
use std::time::Duration;

use machine::metrics::selection::Selection;
use official::programs::{Command, Program};

use super::{Config, parse};
use crate::check::{Check, Runner};
use crate::tests::{parsed, shown};

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
fn every_key_of_the_official_sample_has_the_same_meaning() {
    let config = loaded("sample.conf");
    assert_eq!(
        (config.pidfile.to_str(), config.root.to_str()),
        (Some("/var/run/mackerel-agent.pid"), Some("/var/lib/mackerel-agent"))
    );
    assert_eq!(
        (config.status_on_start.as_deref(), config.status_on_stop.as_deref()),
        (Some("working"), Some("poweroff"))
    );
    assert!(config.api_key.is_none(), "an empty key counts as missing");
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
fn every_key_of_the_official_tests_has_the_same_meaning() {
    let config = loaded("config_test.conf");
    assert_eq!((config.display_name.as_deref(), config.diagnostic), (Some("fghij"), true));
    assert_eq!(config.api_key.as_ref().map(wasaba_core::secret::Secret::reveal), Some("abcde"));
    let [mysql, mysql2, mysql3] = &config.programs().collect::<Vec<_>>()[..] else { panic!("{:?}", config.metrics) };
    assert_eq!(line(&mysql.program), "ruby /path/to/your/plugin/mysql.rb");
    assert_eq!((mysql.program.user.as_deref(), mysql.program.timeout), (Some("mysql"), Duration::from_secs(60)));
    assert_eq!(mysql.posting.custom_identifier.as_deref(), Some("app1.example.com"));
    let is_posted = ["mysql.innodb.rows", "mysql.innodb.ignored", "mysql.other"].map(|name| mysql2.posting.wants(name));
    assert_eq!((is_posted, mysql2.program.timeout), ([true, false, false], Duration::from_secs(30)));
    assert_eq!(environment(&mysql3.program), [("MYSQL_USERNAME", "USERNAME"), ("MYSQL_PASSWORD", "PASSWORD")]);

    let [first, second, third, fourth] = &config.checks[..] else { panic!("{:?}", config.checks) };
    let intervals = |check: &Check| (check.every.as_secs() / 60, check.notification_interval_minutes);
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

/// Each of these examples is on a page of the official documentation, with other values.
#[test]
fn examples_of_the_official_documentation_load_without_problems() {
    let text = r#"
pidfile = "/var/run/mackerel-agent.pid"
root = "/var/lib/mackerel-agent"
verbose = false
apikey = "k"
# Which services and roles
roles = [ "Blog:web", "Blog: db" ]
display_name = "blog-1"
http_proxy = "http://localhost:8080"
https_proxy = "http://localhost:8080"
cloud_platform = "auto"
diagnostic = true

[host_status]
on_start = "working"
on_stop  = "poweroff"

[filesystems]
ignore = "/dev/(ram|loop).*"
use_mountpoint = true

[disks]
ignore = "^(ram|loop)[0-9]+$"

[interfaces]
ignore = "^(docker|br-).*"

[plugin.metrics.vmstat]
command = "ruby /etc/sensu/plugins/system/vmstat-metrics.rb"
user = "SOME_USER_NAME"
env = { LANG = "ja_JP.UTF-8", "PORT" = "80" }

[plugin.metrics.curl]
command = ["ruby", "/etc/sensu/plugins/http/metrics-curl.rb"]
custom_identifier = "app1.example.com"
timeout_seconds = 45
include_pattern = '^curl\.total'
exclude_pattern = '.*redirect.*'

[plugin.checks.load]
command = "ruby /etc/sensu/plugins/system/check-load.rb"
notification_interval = 60
max_check_attempts = 3
check_interval = "5m"
timeout_seconds = 45
prevent_alert_auto_close = false
env = { HTTP_PROXY = "http://proxy.example.com:8080" }
action = { command = "bash -c '[ \"$MACKEREL_STATUS\" != \"OK\" ]' && ruby /etc/notify.rb", user = "someone" }
memo = "Loadが高い"

[plugin.checks.ssh]
command = ["check-procs", "--pattern", "/usr/sbin/sshd"]
custom_identifier = "app1.example.com"

[plugin.metadata.hostinfo]
command = "ruby /etc/plugins/hostinfo.rb"
execution_interval = "1h"
"#;
    let (config, problems) = parsed(text).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    assert_eq!(shown(&problems), "");
    assert_eq!(config.roles, ["Blog:web", "Blog: db"]);
    let [vmstat, curl] = &config.programs().collect::<Vec<_>>()[..] else { panic!("{:?}", config.metrics) };
    let line = "ruby /etc/sensu/plugins/system/vmstat-metrics.rb";
    assert!(vmstat.program.command == Command::Shell(line.to_owned()));
    assert_eq!((vmstat.program.user.as_deref(), vmstat.program.timeout.as_secs()), (Some("SOME_USER_NAME"), 30));
    assert!(vmstat.program.environment.contains(&("LANG".to_owned(), "ja_JP.UTF-8".to_owned())));
    assert!(matches!(&curl.program.command, Command::Words(words) if words.len() == 2));
    assert_eq!(
        (curl.posting.custom_identifier.as_deref(), curl.program.timeout.as_secs()),
        (Some("app1.example.com"), 45)
    );
    let is_posted = ["curl.total", "curl.redirect", "curl.total.redirect"].map(|name| curl.posting.wants(name));
    assert_eq!(is_posted, [true, false, false]);
    let [load, ssh] = &config.checks[..] else { panic!("{:?}", config.checks) };
    assert_eq!(
        (load.every.as_secs(), load.notification_interval_minutes, load.max_check_attempts),
        (300, Some(60), Some(3))
    );
    assert_eq!(
        (load.memo.as_deref(), load.action.as_ref().unwrap().user.as_deref()),
        (Some("Loadが高い"), Some("someone"))
    );
    // Its own `env` overrides the proxy.
    let Runner::Program(program) = &load.runner else { panic!("{load:?}") };
    let proxy = program.environment.iter().rfind(|(name, _)| name == "HTTP_PROXY").unwrap();
    assert_eq!(proxy.1, "http://proxy.example.com:8080");
    assert_eq!((ssh.every.as_secs(), ssh.custom_identifier.as_deref()), (60, Some("app1.example.com")));
    assert_eq!((&*config.metadata[0].name, config.metadata[0].every.as_secs()), ("hostinfo", 3_600));
    let Selection { filesystems, disks, interfaces, use_mountpoint } = &config.selection;
    let wants = |ignore: &Option<regex_lite::Regex>, name| Selection::wants(ignore.as_ref(), name);
    assert!(*use_mountpoint && wants(filesystems, "/dev/sda1") && !wants(filesystems, "/dev/loop0"));
    assert!(wants(disks, "sda") && !wants(disks, "ram1") && wants(interfaces, "eth0") && !wants(interfaces, "br-1a"));
}
