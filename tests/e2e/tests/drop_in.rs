//! The agent as a drop-in replacement for the official one: commands, signals, files and requests.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Misbehaviour, Standin};
use rustix::process::{Pid, Signal, kill_process};

use wasaba_e2e::agent::{Agent, Home, assert_golden, stderr, stdout};
use wasaba_e2e::certificates::Authority;
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{SOON, copy_program, official, wasaba};

async fn standin() -> Standin {
    Standin::start("key").await.unwrap()
}

fn base(standin: &Standin) -> String {
    format!("apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn configtest_reports_all_problems_at_once_on_standard_error_and_fails_on_a_warning() {
    let home = Home::with(
        "apikey = \"hunter2\"\ndisplya_name = \"x\"\n[plugin.metric.dice]\ncommand = \"x\"\n[filesystems]\nignore = \"(\"\n",
    );
    let output = home.command(&["configtest"], &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = text(&output.stderr).replace(&home.config().display().to_string(), "<CONF>");
    assert_golden("configtest-broken.txt", &said);

    home.configure("apikey = \"hunter2\"\ndisplya_name = \"x\"\n");
    assert_eq!(home.command(&["configtest"], &[]).status.code(), Some(1), "an unknown key alone");
    home.configure("");
    assert!(stderr(&home.command(&["configtest"], &[])).contains("there is no `apikey`"));
    home.configure("apikey = \"hunter2\"\n[plugin.checks.c]\ncommand = \"x\"\nmax_check_attempts = 11\n");
    let good = home.command(&["configtest"], &[]);
    let said = text(&good.stderr);
    assert!(good.status.success() && said.contains("no errors, no warnings") && said.contains("note: "), "{said}");
    let missing = Command::new(wasaba()).args(["configtest", "-conf", "/no/such"]).output().unwrap();
    assert!(stderr(&missing).contains("/no/such"));
}

#[test]
fn configtest_validates_the_settings_of_components() {
    let home = Home::with(
        "apikey = \"k\"\n[plugin.metrics.web]\nwasm = \"nginx\"\nsettings = { prot = 80 }\n[plugin.metrics.gone]\nwasm = \"gone\"\n",
    );
    let said = stderr(&home.command(&["configtest"], &[]));
    assert!(
        said.contains("agent.conf:4: [plugin.metrics.web]: unknown setting `prot`, did you mean `port`?"),
        "{said}"
    );
    assert!(said.contains("unknown plugin `gone`") && said.contains("2 errors, 0 warnings"), "{said}");
}

#[test]
fn configtest_finds_what_a_start_would_find_in_components_and_names_table_and_line() {
    let home = Home::with("");
    for (table, problem) in [
        ("[plugin.metrics.a]\nwasm = \"/etc/passwd\"\n", "[plugin.metrics.a]: `/etc/passwd` is not a WebAssembly file"),
        ("[plugin.metrics.a]\nwasm = \"/no/such.wasm\"\n", "[plugin.metrics.a]: there is no file `/no/such.wasm`"),
        ("[plugin.checks.a]\nwasm = \"nginx\"\n", "does not export `checks`, which a check needs; it exports: metrics"),
        ("[plugin.metadata.a]\nwasm = \"nginx\"\n", "does not export `metadata`, which a metadata plugin needs"),
        (
            "[plugin.metrics.a]\ncommand = \"mackerel-plugin-nginx -prot 80\"\n",
            "unknown flag -prot, did you mean -port?",
        ),
    ] {
        home.configure(&format!("apikey = \"k\"\n\n{table}"));
        let output = home.command(&["configtest"], &[]);
        let said = stderr(&output);
        let place = format!("{}:5: [plugin.", home.config().display());
        assert!(said.starts_with(&place) && said.contains(problem), "{table}{said}");
        assert!(output.status.code() == Some(1) && said.ends_with("1 error, 0 warnings\n"), "{table}{said}");
        let started = text(&home.command(&["once"], &[]).stderr);
        // `once` collects metrics alone.
        assert!(table.contains("metrics") == started.contains(problem), "{table}{started}");
    }
}

#[test]
fn a_missing_configuration_file_has_one_message_whatever_looks_for_it() {
    for command in [&["configtest"] as &[&str], &["once"], &["retire"], &["health"], &["plugin", "list"], &["run"]] {
        let output = Command::new(wasaba()).args(command).args(["-conf", "/no/such"]).output().unwrap();
        let mut expected = "there is no `/no/such`; name another file with -conf\n".to_owned();
        // What asks a running agent needs its root.
        if matches!(command, ["health"] | ["plugin", "list"]) {
            expected
                .push_str("so the root of the agent is not known, and no agent was asked: name the root with -root\n");
        }
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected), "{command:?}");
    }
}

#[test]
fn configtest_finds_what_is_wrong_with_what_was_dropped_into_a_folder() {
    let home = Home::with("apikey = \"k\"\n");
    home.drop_in("web.wasm", &std::fs::read(official("nginx")).unwrap());
    assert!(home.command(&["configtest"], &[]).status.success());
    home.drop_in("web.toml", b"bogus = 1\n[settings]\nprot = 80\n");
    home.drop_in("junk.wasm", b"junk");
    let found = stderr(&home.command(&["configtest"], &[]));
    for problem in [
        "web.toml:1:1: unknown key `bogus`",
        "unknown setting `prot`, did you mean `port`?",
        "junk.wasm` is not a WebAssembly file",
    ] {
        assert!(found.contains(problem), "{problem}\n{found}");
    }
    assert!(found.ends_with("2 errors, 1 warning\n"), "{found}");
}

#[test]
fn a_warning_has_its_level_once_in_the_log_and_its_place_first_in_configtest() {
    let home = Home::with("apikey = \"k\"\ndisplya_name = \"x\"\n");
    let place = format!("{}:4:1: ", home.config().display());
    let log = text(&home.command(&["once"], &[]).stderr);
    assert!(
        log.contains(&format!(" WARNING {place}unknown key `displya_name`, did you mean `display_name`?")),
        "{log}"
    );
    let said = stderr(&home.command(&["configtest"], &[]));
    assert!(said.starts_with(&format!("{place}warning: unknown key `displya_name`")), "{said}");
}

#[test]
fn init_writes_the_key_once() {
    let home = Home::with("");
    let file = home.path("new/agent.conf");
    let init = |arguments: &[&str]| {
        Command::new(wasaba()).arg("init").arg("-conf").arg(&file).args(arguments).output().unwrap()
    };
    let first = init(&["-apikey=hoge"]);
    assert!(first.status.success());
    let made = format!("creating the folder `{}`", home.path("new").display());
    assert!(text(&first.stderr).contains(&made), "{}", text(&first.stderr));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "apikey = \"hoge\"\n");
    let again = init(&["-apikey", "other"]);
    assert!(again.status.success() && text(&again.stderr).contains("already has an API key"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "apikey = \"hoge\"\n");
    let without = init(&[]);
    assert!(without.status.code() == Some(1) && text(&without.stderr).contains("-apikey=<YOUR_API_KEY>"));
}

#[test]
fn configtest_accepts_the_official_sample_and_notes_what_its_components_lack() {
    let home = Home::with("");
    let sample = include_str!("../../fixtures/official/sample.conf").replace("apikey = \"\"", "apikey = \"k\"");
    std::fs::write(home.config(), sample).unwrap();
    let root = home.root().display().to_string();
    let output = home.command(&["configtest"], &["-root", &root]);
    let said = text(&output.stderr);
    // As where the official programs are installed: they are not there, or exit, and the official agent does not say so either.
    assert!(output.status.success() && said.ends_with("no errors, no warnings\n"), "{said}");
    let is_of_file = said.starts_with(&format!("{}:", home.config().display()));
    assert!(is_of_file && said.contains("[plugin.metrics.postgres]: missing setting `user`"), "{said}");
    assert!(said.contains("skipped until it is there, as mackerel-plugin-postgres exits without it"), "{said}");
}

#[test]
fn configtest_reports_what_is_wrong_in_all_stages_in_one_run() {
    let home = Home::with(
        "verbose = \"yes\"\n[plugin.metrics.a]\nwasm = \"ngnix\"\n[plugin.metrics.b]\nwasm = \"nginx\"\nsettings = { prot = 80 }\n\
         interval_minutes = 0\n[plugin.metrics.c]\ncommand = \"mackerel-plugin-nginx -prot 80\"\n[plugin.metrics.d]\n\
         command = \"mackerel-plugin-docker -bogus\"\nroles = [\"Svc:web\"]\n[plugin.checks.e]\nwasm = \"nginx\"\n[plugin.metric.f]\n",
    );
    let mut configtest = Command::new(wasaba());
    configtest.args(["configtest", "-conf"]).arg(home.config()).env("PATH", "/nowhere").env("TZ", "UTC");
    let output = configtest.env("HTTPS_PROXY", "\"http://me:hunter2@proxy:8080\"").output().unwrap();
    let said = stderr(&output);
    for problem in [
        ":3:11: error: `verbose` must be true or false",
        "[plugin.metrics.a]: unknown plugin `ngnix`",
        "[plugin.metrics.b]: unknown setting `prot`, did you mean `port`?",
        ":9:20: error: `interval_minutes` must be a whole number",
        "[plugin.metrics.c]: unknown flag -prot, did you mean -port?",
        "`command` of [plugin.metrics.d]: unknown flag -bogus",
        ":14:1: warning: `roles` is ignored: it stands in [plugin.metrics.d]",
        "does not export `checks`",
        ":17:9: warning: unknown key `metric`, did you mean `metrics`?",
        "there is no `apikey`",
        "the environment variable HTTPS_PROXY is in quotes: write it without them",
    ] {
        assert!(said.contains(problem), "{problem}\n{said}");
    }
    assert!(said.ends_with("9 errors, 2 warnings\n") && !said.contains("hunter2"), "{said}");
}

#[test]
fn an_unknown_command_lists_the_commands_and_exits_with_2() {
    let unknown = Command::new(wasaba()).arg("reload").output().unwrap();
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(2), 0));
    for name in ["configtest", "init", "once", "retire", "run", "supervise", "version"] {
        assert!(text(&unknown.stderr).contains(&format!("\n  {name} ")), "{}", text(&unknown.stderr));
    }
}

#[test]
fn a_log_line_is_a_time_a_level_and_a_message_on_standard_error() {
    let home = Home::with("roles = [\"none\"]\n[plugin.metrics.p]\ncommand = \"echo p.b x 0\"\n");
    let mut once = Command::new(wasaba());
    once.args(["once", "-v", "-conf"]).arg(home.config()).env("TZ", "<+0545>-5:45");
    let output = once.env("MACKEREL_PLUGIN_WORKDIR", home.path("")).output().unwrap();
    assert!(output.status.success());
    let (log, form) = (text(&output.stderr), "0000/00/00 00:00:00+05:45 ");
    let lines = log.lines().filter(|line| !line.starts_with(' ')).collect::<Vec<_>>();
    for line in &lines {
        let (time, rest) = line.split_at(form.len());
        let fits = |(char, form): (char, char)| match form {
            '0' => char.is_ascii_digit(),
            _ => char == form,
        };
        assert!(time.ends_with("+05:45 "), "{line}");
        assert!(time.chars().zip(form.chars()).all(fits), "{line}");
        let level = rest.split(' ').next().unwrap();
        assert!(["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"].contains(&level), "{line}");
    }
    assert!(lines.iter().any(|line| line.contains(" WARNING ") && line.contains("p.b")), "{log}");
}

#[tokio::test]
async fn each_stop_signal_stops_the_agent_cleanly_and_a_second_one_forces_it() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&format!("{}[host_status]\non_stop = \"poweroff\"\n", base(&standin)));
    for (first, second) in [(Signal::TERM, Signal::INT), (Signal::INT, Signal::QUIT), (Signal::QUIT, Signal::TERM)] {
        let mut agent = home.start(&[]);
        agent.line_with("this machine is host", SOON);
        agent.signal(first);
        assert_eq!(agent.ended(SOON).code(), Some(0), "{first:?}");

        let mut agent = home.start(&[]);
        agent.line_with("this machine is host", SOON);
        // Now posting the last status takes as long as it may.
        standin.misbehave(Misbehaviour::NeverAnswer);
        agent.signal(first);
        agent.signal(second);
        assert_eq!(agent.ended(SOON).code(), Some(1), "{first:?}, then {second:?}");
        agent.line_with("forced to stop by a second signal", SOON);
        assert!(!home.path("agent.pid").exists());
        standin.behave();
    }
}

#[test]
fn a_certificate_authority_that_the_environment_names_is_trusted_and_an_unknown_one_is_not() {
    let (authority, stranger) = (Authority::default(), Authority::default());
    let nginx = Nginx::start_with_tls(&authority);
    let base =
        format!("apikey = \"key\"\napibase = \"https://localhost:{}\"\ncloud_platform = \"none\"\n", nginx.tls_port);
    let folder = |authority: &Authority| {
        let folder = authority.file().with_file_name("folder");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(authority.file(), folder.join("0a1b2c3d.0")).unwrap();
        folder
    };
    for (variable, good, bad) in
        [("SSL_CERT_FILE", authority.file(), stranger.file()), ("SSL_CERT_DIR", folder(&authority), folder(&stranger))]
    {
        // This server is not Mackerel, which the agent notices if it trusts the certificate.
        for (path, said) in [(good, "not what Mackerel answers on success"), (bad, "invalid peer certificate: ")] {
            let home = Home::with(&base);
            let mut command = Command::new(wasaba());
            command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").env(variable, path);
            command.arg("-conf").arg(home.config()).stdin(Stdio::null());
            Agent::spawn(command).line_with(said, SOON);
        }
    }
}

/// Changes `disable_http_keep_alive`, so that the agent reconnects to Mackerel.
fn change_connection(home: &Home, config: &str, agent: &Agent) {
    home.configure(&format!("disable_http_keep_alive = true\n{config}"));
    agent.signal(Signal::HUP);
    agent.line_with("reconnecting to Mackerel", SOON);
}

#[tokio::test]
async fn a_report_is_not_lost_when_sighup_changes_the_connection_to_mackerel() {
    let (standin, home) = (standin().await, Home::with(""));
    let config = format!("{}[plugin.checks.fine]\ncommand = \"echo fine\"\n", base(&standin));
    home.configure(&config);
    let agent = home.start(&[]);
    agent.line_with("check fine: OK: fine", SOON);
    agent.line_with("this machine is host", SOON);
    change_connection(&home, &config, &agent);
    // An OK is reported only once.
    let is_reported = |memory: &Memory| memory.reports().iter().any(|report| report.name == "fine");
    standin.wait_until(SOON, "the report", is_reported).await.unwrap();
}

#[tokio::test]
async fn a_new_host_after_retire_gets_its_metadata() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&format!("{}[plugin.metadata.md]\ncommand = \"echo 1\"\n", base(&standin)));
    for hosts in 1..=2 {
        let mut agent = home.start(&[]);
        let is_posted = |memory: &Memory| memory.metadata().len() == hosts;
        standin.wait_until(SOON, "the metadata of each host", is_posted).await.unwrap();
        agent.signal(Signal::TERM);
        agent.ended(SOON);
        assert!(home.command(&["retire"], &["-force"]).status.success());
    }
}

#[tokio::test]
async fn retire_asks_for_confirmation_and_removes_the_id() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let nothing = stderr(&home.command(&["retire", "-force"], &[]));
    assert!(nothing.contains("this machine is not registered with Mackerel"), "{nothing}");
    let mut agent = home.start(&[]);
    agent.line_with("this machine is host", SOON);
    agent.signal(Signal::TERM);
    agent.ended(SOON);
    let id = home.root().join("id");
    let declined = home.command(&["retire"], &[]);
    assert!(stderr(&declined).contains("confirmation required") && id.exists());
    // A temporary failure of Mackerel is retried.
    standin.misbehave(Misbehaviour::Status { status: 503, retry_after: None }.times(1));
    let retired = home.command(&["retire"], &["-force", "-role", "A:b", "-v"]);
    assert!(retired.status.success(), "{}", text(&retired.stderr));
    assert!(standin.memory().hosts()[0].retired && !id.exists());
    // The next start registers another host.
    let agent = home.start(&[]);
    agent.line_with("this machine is host", SOON);
    assert_eq!(standin.memory().hosts().len(), 2);
}

#[tokio::test]
async fn retire_keeps_the_id_if_mackerel_refuses() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    std::fs::create_dir_all(home.root()).unwrap();
    std::fs::write(home.root().join("id"), "nobody").unwrap();
    let refused = stderr(&home.command(&["retire", "-force"], &[]));
    assert!(refused.contains("cannot retire host `nobody`") && refused.contains("404"), "{refused}");
    assert!(home.root().join("id").exists());
    let requests = standin.memory().requests().iter().filter(|request| request.path.ends_with("/retire")).count();
    assert_eq!(requests, 1, "a refusal is not retried");
}

#[tokio::test]
async fn supervise_owns_the_pid_file_forwards_signals_and_exits_with_its_child() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let mut supervisor = home.supervise();
    supervisor.line_with("this machine is host", SOON);
    assert_eq!(std::fs::read_to_string(home.path("agent.pid")).unwrap(), supervisor.pid().to_string());
    let child = supervisor.child();
    home.configure(&format!("{}display_name = \"renamed\"\n", base(&standin)));
    supervisor.signal(Signal::HUP);
    let renamed = |memory: &Memory| memory.hosts()[0].body["displayName"] == "renamed";
    standin.wait_until(SOON, "the new name", renamed).await.unwrap();
    assert_eq!(supervisor.child(), child, "the child was restarted");
    supervisor.signal(Signal::TERM);
    assert!(supervisor.ended(SOON).success());
    assert!(!home.path("agent.pid").exists());
}

#[tokio::test]
async fn supervise_exits_if_the_first_child_dies_early_and_restarts_one_that_dies_later() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let mut supervisor = home.supervise();
    supervisor.line_with("this machine is host", SOON);
    kill_process(supervisor.child(), Signal::KILL).unwrap();
    assert_eq!(supervisor.ended(SOON).code(), Some(1));
    supervisor.line_with("the agent exited during startup (within 30 s): signal 9", SOON);

    let mut supervisor = home.supervise();
    supervisor.line_with("this machine is host", SOON);
    let child = supervisor.child();
    // Startup is over after 30 s.
    tokio::time::sleep(Duration::from_secs(31)).await;
    kill_process(child, Signal::KILL).unwrap();
    supervisor.line_with("restarting it in 1 s", SOON);
    let end = Instant::now() + SOON;
    while supervisor.child() == child {
        assert!(Instant::now() < end);
        std::thread::park_timeout(Duration::from_millis(10));
    }
    supervisor.signal(Signal::TERM);
    supervisor.ended(SOON);
}

/// Waits until a condition holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn supervise_restarts_the_upgraded_program_and_a_stop_interrupts_its_pause() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let program = home.path("program");
    copy_program(&wasaba(), &program);
    let mut command = Command::new(&program);
    command.arg("supervise").arg("-conf").arg(home.config()).stdin(Stdio::null());
    let mut supervisor = Agent::spawn(command);
    supervisor.line_with("this machine is host", SOON);
    let child = supervisor.child();
    let started = Instant::now();

    // An invalid configuration changes nothing.
    home.configure("roles = [");
    supervisor.signal(Signal::HUP);
    supervisor.line_with("keeping the previous one", SOON);
    home.configure(&base(&standin));
    assert_eq!(supervisor.child(), child, "the child was restarted");

    let new = home.path("new");
    copy_program(&wasaba(), &new);
    std::fs::rename(&new, &program).unwrap();
    // Startup is over after 30 s.
    tokio::time::sleep(Duration::from_secs(31).saturating_sub(started.elapsed())).await;
    kill_process(child, Signal::KILL).unwrap();
    supervisor.line_with("restarting it in 1 s", SOON);
    let running = |child: Pid| std::fs::read_link(format!("/proc/{}/exe", child.as_raw_nonzero())).ok();
    until("the new program runs", || running(supervisor.child()).as_ref() == Some(&program));

    // The next children die early, until the pause is much longer than any stop.
    for pause in ["2 s", "4 s", "8 s"] {
        kill_process(supervisor.child(), Signal::KILL).unwrap();
        supervisor.line_with(&format!("restarting it in {pause}"), SOON);
    }
    supervisor.signal(Signal::TERM);
    assert!(supervisor.ended(Duration::from_secs(7)).success(), "it waited until the end of the pause");
    assert!(!home.path("agent.pid").exists());
}

#[tokio::test]
async fn an_agent_exits_when_its_supervisor_is_killed_and_the_next_one_starts() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let supervisor = home.supervise();
    supervisor.line_with("this machine is host", SOON);
    let child = supervisor.child().as_raw_nonzero();
    supervisor.kill();
    until("the agent has exited", || {
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
    });
    let mut next = home.supervise();
    next.line_with("this machine is host", SOON);
    next.signal(Signal::TERM);
    assert!(next.ended(SOON).success());
}

#[tokio::test]
async fn systemd_is_notified_that_the_agent_is_ready_alive_and_stopping() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let path = home.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // The watchdog applies only to the process that systemd started.
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" -conf \"$1\""]).arg(wasaba()).arg(home.config());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").stdin(Stdio::null());
    let mut agent = Agent::spawn(command);
    let notification = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{error}: {:#?}", agent.lines()));
        text(&bytes[..length]).trim().to_owned()
    };
    assert_eq!(notification(), "READY=1");
    let health = home.command(&["health"], &[]);
    assert!(health.status.success(), "it is ready, and collects: {}", text(&health.stderr));
    let (mut shown, mut alive) = (0, 0);
    while alive < 3 || shown < 1 {
        match notification() {
            line if line == "WATCHDOG=1" => alive += 1,
            line => {
                assert!(line.starts_with("STATUS=collected "), "{line}");
                shown += 1;
            }
        }
    }
    agent.signal(Signal::TERM);
    let end = Instant::now() + SOON;
    while notification() != "STOPPING=1" {
        assert!(Instant::now() < end);
    }
    assert!(agent.ended(SOON).success());
}

#[test]
fn with_private_autoshutdown_the_agent_exits_when_its_program_is_removed() {
    let home = Home::with("");
    let program = home.path("program");
    copy_program(&wasaba(), &program);
    let mut command = Command::new(&program);
    command.arg("-conf").arg(home.config()).arg("-private-autoshutdown").stdin(Stdio::null());
    let mut agent = Agent::spawn(command);
    agent.line_with("memory.total", SOON);
    std::fs::remove_file(&program).unwrap();
    agent.line_with("the program's file has changed", SOON);
    assert!(agent.ended(SOON).success());
}

#[test]
fn completion_scripts_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&Command::new(wasaba()).args(["completion", shell]).output().unwrap());
        assert!(script.contains("configtest") && script.contains("supervise"), "{shell}");
    }
    let output = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().and_then(|mut bash| {
        let script = Command::new(wasaba()).args(["completion", "bash"]).output()?.stdout;
        std::io::Write::write_all(bash.stdin.as_mut().unwrap(), &script)?;
        bash.wait()
    });
    assert!(output.unwrap().success(), "bash cannot parse it");
}

/// A metadata service like Google's, on loopback, until the process exits.
fn metadata_service() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), [0; 4_096]);
            let length = stream.read(&mut head).unwrap_or(0);
            let is_known =
                head.get(..length).unwrap_or_default().starts_with(b"GET /computeMetadata/v1?recursive=true ");
            let body = r#"{"instance":{"id":4567890123456789123,"zone":"projects/1/zones/asia-east1-a"}}"#;
            let (status, body) = if is_known { ("200 OK", body) } else { ("404 Not Found", "") };
            let answer =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    base
}

#[tokio::test]
async fn a_cloud_instance_is_recognized_by_its_identifier_after_its_disk_was_lost() {
    let (standin, service) = (standin().await, metadata_service());
    let config = format!(
        "apikey = \"key\"\napibase = {:?}\ncloud_platform = \"gce\"\n[machine]\nmetadata = {service:?}\n",
        standin.url()
    );
    for _ in 0..2 {
        let home = Home::with(&config);
        let agent = home.start(&[]);
        agent.line_with("this machine is host", SOON);
        let described = |memory: &Memory| memory.hosts()[0].puts > 0;
        standin.wait_until(SOON, "the host description", described).await.unwrap();
    }
    let memory = standin.memory();
    assert_eq!(memory.hosts().len(), 1);
    let host = &memory.hosts()[0].body;
    assert_eq!(host["customIdentifier"], "4567890123456789123.gce.cloud.google.com");
    assert_eq!(host["meta"]["cloud"]["metadata"]["zone"], "asia-east1-a");
    assert_eq!(memory.refusals(), []);
}

/// The names of all tests in a folder.
fn tests_below(folder: &std::path::Path, names: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[test]" || line.starts_with("#[tokio::test") {
                    let name = lines.next().unwrap_or_default().trim_start_matches("async ").strip_prefix("fn ");
                    names.extend(name.and_then(|rest| rest.split('(').next()).map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn each_row_of_the_page_on_compatibility_names_a_test_that_exists() {
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = std::collections::BTreeSet::new();
    tests_below(&project.join("agent"), &mut tests);
    tests_below(&project.join("tests/e2e/tests"), &mut tests);
    let page = std::fs::read_to_string(project.join("docs/compatibility.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.ends_with("| test |");
    let mut rows = 0;
    for row in page.lines().filter(is_row) {
        let named = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let named = named.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        assert!(!named.is_empty(), "no test: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}: {row}");
        }
        rows += 1;
    }
    assert!(rows > 60, "{rows}");
}
