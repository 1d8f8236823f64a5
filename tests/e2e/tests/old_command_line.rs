//! Configurations of the official agent: their `command` lines run components if the programs are not installed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use wasaba_e2e::agent::{Home, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::postgres::Postgres;
use wasaba_e2e::{wasaba, write_program};

fn once(home: &Home, config: &str, path: &str) -> (String, String) {
    home.configure(config);
    let mut command = Command::new(wasaba());
    command.args(["once", "-conf"]).arg(home.config()).env("PATH", path).stdin(Stdio::null());
    streams(&command.output().unwrap())
}

/// Standard output and standard error of a command that must have succeeded.
fn streams(output: &Output) -> (String, String) {
    (stdout(output), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn each_form_of_a_command_runs_the_component_with_its_settings() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let port = nginx.port;
    for command in [
        format!("\"mackerel-plugin-nginx -scheme='http' -host=127.0.0.1 -port={port}\""),
        format!("\"/usr/bin/mackerel-plugin-nginx --host 127.0.0.1 --port {port} -tempfile /tmp/x\""),
        format!("\"mackerel-plugin nginx -uri http://127.0.0.1:{port}/nginx_status\""),
        format!("[\"mackerel-plugin-nginx\", \"-host\", \"127.0.0.1\", \"-port\", \"{port}\"]"),
        format!(
            "\"LANG=C env TZ=UTC mackerel-plugin-nginx -host=$HOSTING -port={port}\"\nenv = {{ HOSTING = \"127.0.0.1\" }}"
        ),
    ] {
        let (values, log) = once(&home, &format!("[plugin.metrics.web]\ncommand = {command}\n"), "/nowhere");
        assert!(values.contains("custom.nginx.requests.requests"), "{command}: {log}");
        assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{command}: {log}");
    }
}

#[test]
fn a_password_before_the_command_or_in_the_environment_reaches_the_component_and_no_message() {
    let server = Postgres::start("", "host all scram 127.0.0.1/32 scram-sha-256");
    server.run("CREATE ROLE scram LOGIN PASSWORD 'hunter2 x'; GRANT pg_monitor TO scram");
    let home = Home::with("");
    let flags = format!("-hostname=127.0.0.1 -port={} -user=scram -database=postgres -connect_timeout 5", server.port);
    for config in [
        format!("command = \"PGPASSWORD='hunter2 x' mackerel-plugin-postgres {flags}\""),
        format!("command = \"mackerel-plugin-postgres {flags}\"\nenv = {{ PGPASSWORD = \"hunter2 x\" }}"),
        format!("command = \"mackerel-plugin-postgres {flags} -password 'hunter2 x' -metric-key-prefix=postgres\""),
        format!("command = \"mackerel-plugin-postgres {flags}\"\nsettings = {{ password = \"hunter2 x\" }}"),
    ] {
        let (values, log) = once(&home, &format!("[plugin.metrics.db]\n{config}\n"), "/nowhere");
        assert!(values.contains("custom.postgres.size.total_size"), "{config}: {log}");
        assert!(!log.contains("hunter2") && !values.contains("hunter2"), "{config}: {log}");
    }
    let mut run = Command::new(wasaba());
    run.args(["plugin", "run", "postgres"]).args(flags.split(' ')).env("PGPASSWORD", "hunter2 x");
    run.env("MACKEREL_PLUGIN_WORKDIR", home.path(""));
    assert!(streams(&run.output().unwrap()).0.contains("postgres.size.total_size\t"));
}

#[test]
fn a_command_that_cannot_be_converted_shows_the_table_to_write_and_affects_no_other_plugin() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let good =
        format!("[plugin.metrics.good]\ncommand = \"mackerel-plugin-nginx -host=127.0.0.1 -port={}\"\n", nginx.port);
    for (command, why, table) in [
        (
            "PGPASSWORD=hunter2 mackerel-plugin-postgres -hostname db -user me 2>/dev/null",
            "`command` has a redirection",
            "`wasm = \"postgres\"` and `settings = { hostname = \"db\", user = \"me\", password = { file = ",
        ),
        ("mackerel-plugin-nginx -hots=web", "unknown flag -hots, did you mean -host?", "`wasm = \"nginx\"`"),
        ("http_proxy=http://p:1 mackerel-plugin-nginx -host=web", "the variable http_proxy", "host = \"web\""),
        (
            "mackerel-plugin-nginx -host=$(hostname) -port 81",
            "a command substitution",
            "`wasm = \"nginx\"` and `settings = { host = \"...\", port = 81 }`",
        ),
        ("sudo -u nobody mackerel-plugin-nginx -port 81", "a wrapper around the plugin", "settings = { port = 81 }"),
        ("cd / && mackerel-plugin-nginx -port 81", "a `&`", "settings = { port = 81 }"),
        ("mackerel-plugin-nginx -uri http://me:hunter2@h/x?token=hunter2 | cat", "a pipe", "uri = \"http://h/x?...\""),
        (
            "PGSSLROOTCERT=/ca mackerel-plugin-postgres -user me | cat",
            "a pipe",
            "settings = { user = \"me\" }` and `tls = { authority = \"/ca\" }`",
        ),
    ] {
        let config = format!("{good}[plugin.metrics.bad]\ncommand = {command:?}\n");
        let (values, log) = once(&home, &config, "/nowhere");
        assert!(values.contains("custom.nginx.queue.waiting"), "{command}: {log}");
        let line = log.lines().find(|line| line.contains("plugin bad skipped")).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains("[plugin.metrics.bad]") && line.contains(why) && line.contains(table), "{line}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[test]
fn a_program_that_is_installed_is_not_replaced() {
    let home = Home::with("");
    let folder = home.path("bin");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("mackerel-plugin-nginx");
    write_program(&program, "#!/bin/sh\necho installed.flag $# 0\n");
    let config = "[plugin.metrics.web]\ncommand = \"mackerel-plugin-nginx -port=1\"\n";
    let (values, log) = once(&home, config, &folder.display().to_string());
    assert!(values.contains("\"custom.installed.flag\""), "{values} {log}");
}

#[test]
fn an_official_line_follows_the_installation_and_removal_of_its_program_without_a_reload() {
    const SOON: Duration = Duration::from_secs(120);
    let (home, nginx) = (Home::with(""), Nginx::start());
    let program = home.path("mackerel-plugin-nginx");
    home.configure(&format!("[plugin.metrics.web]\ncommand = \"{} -port {}\"\n", program.display(), nginx.port));
    let agent = home.start(&[]);
    agent.line_with("custom.nginx.connections.connections\t", SOON);
    write_program(&program, "#!/bin/sh\nprintf 'official.program\\t1\\t%s\\n' \"$(date +%s)\"\n");
    agent.line_with("plugin web: switched to the program of its `command`", SOON);
    agent.line_with("custom.official.program\t1\t", SOON);
    std::fs::remove_file(&program).unwrap();
    agent.line_with("plugin web: switched from the program of its `command` to the component", SOON);
    let lines = agent.lines();
    let failures = lines.iter().filter(|line| line.contains("ERROR")).collect::<Vec<_>>();
    assert_eq!(failures, Vec::<&String>::new(), "{lines:#?}");
}
