//! Configurations of the official agent: their `command` lines run components if the programs are not installed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wasaba_e2e::agent::{Home, stderr, stdout};
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
        format!("\"timeout 30 nice -n 19 mackerel-plugin-nginx -host 127.0.0.1 -port {port} 2>/dev/null || true\""),
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
            "PGPASSWORD=hunter2 mackerel-plugin-postgres -hostname db -user me 2>/dev/shm/log",
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

/// No table of a plugin stops the agent, however invalid: the plugin is skipped with a line that leads to it, and `configtest` has an error.
#[test]
fn whatever_is_wrong_with_a_plugins_table_only_that_plugin_is_skipped() {
    let home = Home::with("");
    for (table, why) in [
        ("command = \"sudo mackerel-plugin-docker -name-format name\"", "a wrapper around the plugin"),
        ("command = \"timeout -x 30 mackerel-plugin-docker 2>/dev/null\"", "a wrapper around the plugin"),
        ("command = \"mackerel-plugin-docker -verbose\"", "unknown flag -verbose"),
        ("command = \"mackerel-plugin-docker | grep cpu || true\"", "a pipe"),
        ("command = \"mackerel-plugin-docker -host ssh://root@engine\"", "unsupported scheme `ssh://`"),
        ("command = [\"mackerel-plugin-docker\", \"-host\"]", "flag -host needs a value"),
        ("command = \"mackerel-plugin-docker -name-format pod\"", "-name-format must be one of name"),
        ("command = \"mackerel-plugin-nginx -prot 80\"", "unknown flag -prot"),
        ("command = \"mackerel-plugin-nginx >/dev/null 2>&1\"", "a redirection"),
        ("command = \"mackerel-plugin-redis -port x\"", "must be a port from 1 to 65535"),
        (
            "command = \"mackerel-plugin-postgres -user me -password $WASABA_NO_SUCH\"",
            "without it: flag -password needs a value",
        ),
        ("command = \"true\"\ntimeout_seconds = \"30\"", "`timeout_seconds` must be a whole number"),
        ("command = \"true\"\ninclude_pattern = \"(\"", "`include_pattern` is not a valid regular expression"),
        ("command = \"true\"\nenv = { P = { file = \"/no/such\" } }", "cannot read `/no/such`"),
        ("command = 5", "`command` of [plugin.metrics.bad] must be a shell command line"),
        ("comand = \"true\"", "has neither `command` nor `wasm`"),
        ("wasm = \"ngnix\"", "unknown plugin `ngnix`"),
        ("wasm = \"nginx\"\nlimits = { memory_mib = 0 }", "`memory_mib` must be a whole number"),
        ("wasm = \"nginx\"\nsettings = { prot = 80 }", "unknown setting `prot`"),
    ] {
        let config =
            format!("[plugin.metrics.good]\ncommand = \"echo good.value 1 0\"\n\n[plugin.metrics.bad]\n{table}\n");
        let (values, log) = once(&home, &config, "/usr/bin:/bin");
        assert!(values.contains("custom.good.value") && values.contains("loadavg5"), "{table}: {log}");
        let line = log.lines().find(|line| line.contains(why)).unwrap_or_else(|| panic!("{table}: {log}"));
        assert!(
            line.contains(" ERROR ") && line.contains("skipped") && line.contains("[plugin.metrics.bad]"),
            "{line}"
        );
        // Root and pid file come first.
        let place = format!("{}:", home.config().display());
        let number = line.split_once(&place).unwrap_or_else(|| panic!("{line}")).1.split(':').next().unwrap();
        assert!((6..=8).contains(&number.parse().unwrap()), "{line}");
        home.configure(&format!("apikey = \"k\"\n{config}"));
        let said = stderr(&home.command(&["configtest"], &[]));
        assert!(
            said.contains(why) && said.contains("[plugin.metrics.bad]") || said.contains(" error: "),
            "{table}: {said}"
        );
        assert!(!said.contains("\n0 errors"), "{table}: {said}");
    }
}

#[test]
fn configtest_names_a_variable_that_is_not_set_also_where_the_line_is_valid_without_it() {
    let home = Home::with(
        "apikey = \"k\"\n[plugin.metrics.db]\ncommand = \"mackerel-plugin-postgres -user me -password=$PG_PASSWORD\"\n",
    );
    let configtest = |variable: Option<&str>| {
        let mut command = Command::new(wasaba());
        command.args(["configtest", "-conf"]).arg(home.config()).env("PATH", "/nowhere").env_remove("PG_PASSWORD");
        command.envs(variable.map(|value| ("PG_PASSWORD", value))).output().unwrap()
    };
    let said = stderr(&configtest(None));
    assert!(
        said.contains("[plugin.metrics.db]: `$PG_PASSWORD` is not set") && said.ends_with("0 errors, 1 warning\n"),
        "{said}"
    );
    assert!(configtest(Some("hunter2")).status.success());
}

/// An engine with one container, whose statistics are its memory.
fn engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    request.extend(byte);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let id = "a".repeat(64);
                let body = match request.split(' ').nth(1).unwrap_or_default() {
                    path if path.contains("/stats") => {
                        "{\"memory_stats\":{\"stats\":{\"anon\":100,\"file\":50}}}".to_owned()
                    }
                    _ => format!("[{{\"Id\":\"{id}\",\"Names\":[\"/web\"],\"State\":\"running\"}}]"),
                };
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
                // The agent may be gone.
                stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).ok();
            });
        }
    });
}

#[test]
fn after_a_reload_that_changes_what_a_table_runs_the_new_one_is_asked_and_no_other() {
    let (home, nginx) = (Home::with(""), Nginx::start());
    let socket = home.path("engine.sock");
    engine(&socket);
    // The number of values tells them apart; in the second minute of nginx there are more.
    let kinds = [
        ("command = \"echo program.value 1 0\"".to_owned(), 1..=1),
        (format!("command = \"mackerel-plugin-nginx -host 127.0.0.1 -port {}\"", nginx.port), 4..=100),
        (format!("command = \"DOCKER_HOST=unix://{} mackerel-plugin-docker\"", socket.display()), 2..=2),
    ];
    let configure = |kind: usize, step: usize| {
        home.configure(&format!("[plugin.metrics.m]\n{}\ntimeout_seconds = {}\n", kinds[kind].0, 10 + step));
    };
    // Each of the three after each of the three.
    let steps = [0, 0, 1, 1, 2, 2, 0, 2, 1, 0];
    configure(steps[0], 0);
    let agent = home.start(&[]);
    for (step, kind) in steps.into_iter().enumerate() {
        if step > 0 {
            configure(kind, step);
            agent.signal(Signal::HUP);
        }
        let is_alone = || {
            let list = home.command(&["plugin", "list"], &["-json"]);
            let list = serde_json::from_slice::<serde_json::Value>(&list.stdout).unwrap_or_default();
            let collectors = list["collectors"].as_array().cloned().unwrap_or_default();
            let own = collectors.iter().filter(|collector| collector["name"] == "plugin m").collect::<Vec<_>>();
            let count = |collector: &serde_json::Value| collector["values"].as_u64().unwrap_or_default();
            matches!(own[..], [one] if kinds[kind].1.contains(&count(one)))
        };
        let end = Instant::now() + Duration::from_secs(120);
        // What is removed by mistake is removed at once: so it must still be there when it was asked a few times.
        let mut seen = 0;
        while seen < 5 {
            seen = if is_alone() { seen + 1 } else { 0 };
            assert!(Instant::now() < end, "step {step}: {:#?}", agent.lines());
        }
    }
}
