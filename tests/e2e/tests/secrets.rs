//! Secrets: no way out of a plugin shows one, no program inherits one, and no other process reads one in /proc.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home, stderr, stdout};
use wasaba_e2e::{SOON, component, copy_program, wasaba};

const TOKEN: &str = "hunter2";
const PIN: &str = "90817263";

/// A table of the plugin that tells its secrets, in this way.
fn leaky(kind: &str, name: &str, how: &str) -> String {
    let wasm = component("leaky");
    format!(
        "[plugin.{kind}.{name}]\nwasm = {wasm:?}\nreveal = true\n\
         settings = {{ how = {how:?}, table = {name:?}, token = {TOKEN:?}, pin = {PIN:?} }}\n"
    )
}

fn leaks(text: &str) -> bool {
    text.contains(TOKEN) || text.contains(PIN)
}

/// The files below `folder` with a secret in them.
fn leaking_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(leaking_files(&path));
        } else if fs::read(&path).is_ok_and(|bytes| leaks(&String::from_utf8_lossy(&bytes))) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn no_way_out_of_a_plugin_leads_a_secret_to_the_log_or_to_mackerel_or_into_a_file() {
    let (standin, home) = (Standin::start("key").await.unwrap(), Home::with(""));
    let tables = ["answer", "error", "crash"].map(|how| {
        let name = |kind: &str| format!("{how}-{kind}");
        ["metrics", "checks", "metadata"].map(|kind| leaky(kind, &name(kind), how)).concat()
    });
    home.configure(&format!(
        "apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n{}",
        standin.url(),
        tables.concat()
    ));
    let agent = home.start(&["-v"]);
    for line in [
        "the log: [redacted]",
        "the error: [redacted]",
        "the crash: [redacted]",
        "the target: [redacted]: failed: the problem: [redacted]",
        "has a secret in its name: `leaky.[redacted]`",
        "fits no metric of the plugin's graphs: `[redacted]`",
        "check answer-checks: WARNING: the message: [redacted]",
        "dropped the report `[redacted]`: there is a secret in its name",
        "dropped the document `answer-metadata-[redacted]`: there is a secret in its name",
    ] {
        agent.line_with(line, SOON);
    }
    let posted = |memory: &Memory| {
        let good = memory.points().iter().any(|point| point.name == "custom.leaky.good");
        let document = memory.metadata().values().next().map(ToString::to_string);
        let expected = r#"{"[redacted]":["[redacted]"],"number":"[redacted]","text":"the document: [redacted]"}"#;
        let report = |name: &str, part: &str| {
            memory.reports().iter().any(|report| report.name == name && report.message.contains(part))
        };
        good && document.as_deref() == Some(expected)
            && report("answer-checks", "the message: [redacted]")
            && report("error-checks", "the error: [redacted]")
            && report("crash-checks", "the crash: [redacted]")
    };
    standin.wait_until(SOON, "values, reports and a document", posted).await.unwrap();
    for arguments in [&[][..], &["-json"]] {
        let list = stdout(&home.command(&["plugin", "list"], arguments));
        assert!(list.contains("the error: [redacted]") && list.contains("http://[redacted].example"), "{list}");
        assert!(!leaks(&list), "{list}");
    }
    let requests = format!("{:?}", standin.memory().requests());
    assert!(requests.contains("[redacted]") && !leaks(&requests), "{requests}");
    assert!(!leaks(&agent.lines().concat()), "{:#?}", agent.lines());
    assert_eq!(leaking_files(&home.root()), Vec::<String>::new());
}

#[test]
fn no_way_out_of_a_plugin_shows_a_secret_on_the_terminal() {
    for (how, expected) in [
        ("answer", "the message: [redacted]"),
        ("answer", "the document: [redacted]"),
        ("answer", "no grant for http://[redacted].example:80"),
        ("error", "failed: the error: [redacted]"),
        ("crash", "crashed (the crash: [redacted])"),
    ] {
        let home = Home::with(&leaky("metrics", "leaky", how));
        let output = home.command(&["plugin", "run", "-explain"], &["leaky"]);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains(expected) && !leaks(&said), "{how}: {said}");
    }
}

/// Writes its own environment and that of its parent, which /proc shows, to files beside `name`.
fn spy(home: &Home, name: &str) -> String {
    let (own, parent) = (home.path(&format!("{name}.own")), home.path(&format!("{name}.parent")));
    format!("env >{own:?}; cat /proc/$PPID/environ >{parent:?}; echo {{}}").replace('"', "'")
}

/// The environments that [`spy`] wrote, when there are all.
fn spied(home: &Home, name: &str) -> Option<(String, String)> {
    let read = |file: String| fs::read(home.path(&file)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let own = read(format!("{name}.own")).filter(|own| own.ends_with('\n'))?;
    Some((own, read(format!("{name}.parent"))?))
}

/// Waits until each of `names` has written its environments.
fn wait_for(home: &Home, names: &[&str], agent: &Agent) {
    let end = std::time::Instant::now() + SOON;
    while !names.iter().all(|name| spied(home, name).is_some()) {
        assert!(std::time::Instant::now() < end, "{:#?}", agent.lines());
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}

const VARIABLES: [(&str, &str); 6] = [
    ("TEST_API_KEY", "secret-of-the-agent"),
    ("TEST_TOKEN", "secret-of-a-component"),
    ("TEST_DROPPED_IN", "secret-of-a-drop-in"),
    ("TEST_PASSWORD", "secret-of-a-program"),
    ("TEST_PLAIN", "plain"),
    ("NOTIFY_SOCKET", "/nowhere/notify"),
];

/// A configuration that names variables with secrets, and programs of all kinds.
fn spies(home: &Home, standin: &Standin) -> String {
    home.drop_in("dropped.wasm", &fs::read(component("leaky")).unwrap());
    home.drop_in("dropped.toml", b"settings = { how = \"keep\", token = { env = \"TEST_DROPPED_IN\" } }\n");
    let action = spy(home, "action");
    format!(
        "apikey = {{ env = \"TEST_API_KEY\" }}\napibase = {:?}\ncloud_platform = \"none\"\n\
         [plugin.metrics.spy]\ncommand = \"{}\"\n\
         [plugin.metrics.passed]\ncommand = \"{}\"\nenv = {{ PASSED = {{ env = \"TEST_PASSWORD\" }} }}\n\
         [plugin.metrics.component]\nwasm = {:?}\nsettings = {{ how = \"keep\", token = {{ env = \"TEST_TOKEN\" }} }}\n\
         [plugin.checks.spy]\ncommand = \"{}; exit 1\"\naction = {{ command = \"{action}\" }}\n\
         [plugin.metadata.spy]\ncommand = \"{}\"\n",
        standin.url(),
        spy(home, "metrics"),
        spy(home, "passed"),
        component("leaky"),
        spy(home, "check"),
        spy(home, "metadata"),
    )
}

fn assert_hidden(home: &Home) {
    for name in ["metrics", "passed", "check", "action", "metadata"] {
        let (own, parent) = spied(home, name).unwrap();
        for (variable, value) in VARIABLES.iter().filter(|(_, value)| value.starts_with("secret-of-")) {
            // A drop-in is read while the first programs already run.
            if *variable != "TEST_DROPPED_IN" {
                assert!(!own.contains(&format!("{variable}=")), "{name} inherits {variable}: {own}");
            }
            assert!(!parent.contains(value), "{name} reads {variable} in /proc: {parent}");
        }
        let passed = own.contains("PASSED=secret-of-a-program\n");
        assert_eq!(
            (passed, own.contains("secret-of-a-program")),
            (name == "passed", name == "passed"),
            "{name}: {own}"
        );
        assert!(own.contains("TEST_PLAIN=plain\n") && !own.contains("NOTIFY_SOCKET="), "{name}: {own}");
    }
}

#[tokio::test]
async fn no_program_inherits_or_reads_a_variable_that_the_configuration_names_as_a_secret() {
    let (standin, home) = (Standin::start("secret-of-the-agent").await.unwrap(), Home::with(""));
    home.configure(&spies(&home, &standin));
    for supervisor in [&[][..], &["supervise"]] {
        let mut command = Command::new(wasaba());
        command.args(supervisor).arg("-conf").arg(home.config()).envs(VARIABLES).stdin(Stdio::null());
        let mut agent = Agent::spawn(command);
        wait_for(&home, &["metrics", "passed", "check", "action", "metadata"], &agent);
        assert_hidden(&home);
        let shown = fs::read(format!("/proc/{}/environ", agent.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&shown).contains("secret-of-"), "{supervisor:?} shows its environment");
        let has_values = |memory: &Memory| memory.points().iter().any(|point| point.name == "memory.total");
        standin.wait_until(SOON, "values with the key of the variable", has_values).await.unwrap();
        agent.signal(Signal::TERM);
        assert!(agent.ended(SOON).success());
        for name in ["metrics", "passed", "check", "action", "metadata"] {
            fs::remove_file(home.path(&format!("{name}.own"))).unwrap();
        }
    }
}

#[tokio::test]
async fn the_images_variables_with_secrets_are_neither_inherited_nor_shown_in_proc() {
    let (standin, home) = (Standin::start("secret-of-the-image").await.unwrap(), Home::with(""));
    home.configure(&format!(
        "apibase = {:?}\ncloud_platform = \"none\"\n[plugin.metrics.spy]\ncommand = \"{}\"\n",
        standin.url(),
        spy(&home, "metrics")
    ));
    let mut command = Command::new(wasaba());
    command.args(["container", "-conf"]).arg(home.config()).stdin(Stdio::null());
    command.envs([("WASABA_CONTAINER", "1"), ("apikey", "secret-of-the-image"), ("TEST_PLAIN", "plain")]);
    command.env("opts", "-v -apikey=secret-of-the-image");
    let mut agent = Agent::spawn(command);
    wait_for(&home, &["metrics"], &agent);
    let (own, parent) = spied(&home, "metrics").unwrap();
    let first = fs::read(format!("/proc/{}/environ", agent.pid())).unwrap();
    for shown in [own.as_str(), &parent, &String::from_utf8_lossy(&first)] {
        assert!(!shown.contains("secret-of-the-image"), "{shown}");
    }
    assert!(own.contains("TEST_PLAIN=plain\n"), "{own}");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
}

/// The kernel gives the files in /proc of a process that others of its user may not trace to root.
#[test]
fn no_other_process_of_the_agents_user_may_read_its_memory() {
    const USER: u32 = 12_345;
    let home = Home::without_compiled();
    home.configure("");
    let program = home.path("wasaba");
    copy_program(&wasaba(), &program);
    let mut command = Command::new(&program);
    command.arg("-conf").arg(home.config()).stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        for path in [home.path("."), home.config()] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
        command.uid(USER).gid(USER);
    }
    let agent = Agent::spawn(command);
    agent.line_with("no API key", SOON);
    let folder = format!("/proc/{}", agent.pid());
    for file in ["environ", "mem", "maps"] {
        assert_eq!(fs::metadata(format!("{folder}/{file}")).unwrap().uid(), 0, "{file}");
    }
}

#[test]
fn what_a_plugin_keeps_is_not_handed_to_another_component_that_is_given_its_name() {
    let home = Home::with("");
    let (leaky, text) = (component("leaky"), fs::read(component("leaky")).unwrap());
    let renamed = home.path("renamed.wasm");
    fs::write(&renamed, &text).unwrap();
    let table = |wasm: &Path| format!("[plugin.metrics.web]\nwasm = {wasm:?}\nsettings = {{ how = \"keep\" }}\n");
    let kept = |agent: &Agent| {
        let line = agent.line_with("custom.leaky.kept\t", SOON);
        line.split('\t').find_map(|word| word.parse::<f64>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let mut starts = Vec::new();
    for wasm in [&leaky, &leaky, &renamed, &renamed] {
        home.configure(&table(wasm));
        let mut agent = home.start(&[]);
        starts.push(kept(&agent));
        agent.signal(Signal::TERM);
        assert!(agent.ended(SOON).success());
    }
    assert_eq!(starts, [0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn what_a_dropped_in_plugin_keeps_is_not_handed_to_another_component_in_its_file() {
    let (home, ours) = (Home::with(""), fs::read(component("leaky")).unwrap());
    home.drop_in("web.toml", b"settings = { how = \"keep\" }\n");
    home.drop_in("web.wasm", &ours);
    let agent = home.start(&[]);
    agent.line_with("custom.leaky.kept\t0", SOON);
    // A component that describes itself by another name, of the same length.
    let mut other = ours.clone();
    while let Some(at) = other.windows(5).position(|bytes| bytes == b"leaky") {
        other[at..at + 5].copy_from_slice(b"other");
    }
    home.drop_in("web.wasm", &other);
    agent.line_with("custom.other.kept\t0", SOON * 4);
}

/// The archive for a ticket, of an agent with every kind of secret.
#[tokio::test]
async fn the_archive_for_a_ticket_has_what_support_asks_for_and_no_secret() {
    let (standin, home) = (Standin::start("secret-of-the-agent").await.unwrap(), Home::with(""));
    fs::write(home.path("password"), "secret-of-a-file").unwrap();
    home.configure(&format!(
        "apikey = \"secret-of-the-agent\"\napibase = {:?}\nhttp_proxy = \"http://user:secret-of-the-proxy@127.0.0.1:1\"\n\
         include = {:?}\n[plugin.checks.broken]\ncommand = \"sh -c 'exit 2' secret-of-a-line\"\nenv = {{ TOKEN = \"secret-of-a-table\" }}\n\
         [plugin.metrics.redis]\npassword = {{ file = {:?} }}\nhost = \"127.0.0.1\"\n",
        standin.url().replace("127.0.0.1", "localhost"),
        home.path("more.d/*.conf").display().to_string(),
        home.path("password").display().to_string(),
    ));
    fs::create_dir(home.path("more.d")).unwrap();
    fs::write(home.path("more.d/a.conf"), "[plugin.metrics.postgres]\npassword = \"secret-of-an-include\"\n").unwrap();
    let agent = home.start(&[]);
    agent.line_with("check broken: CRITICAL", SOON);
    let archive = home.path("ticket.tar");
    let output = home.command(&["support"], &["--output", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("ticket.tar") && stdout(&output).contains("read it before you send it"));
    let bytes = fs::read(&archive).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for part in [
        "status.json",
        "plugin.metrics.redis.password.file = a text",
        "plugin.metrics.postgres.password = a text",
        "kernel    Linux",
        "check broken: CRITICAL",
        "\"is_working\": ",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains("secret-of-"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&archive).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = home.command(&["support"], &["--output", archive.to_str().unwrap()]);
    assert!(
        !again.status.success() && stderr(&again).contains("name another file with --output"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn the_archive_for_a_ticket_is_also_made_without_an_agent_and_with_an_invalid_configuration() {
    let home = Home::with("apikey = \"secret-of-the-agent\nroles = [\n");
    let archive = home.path("ticket.tar");
    let output = home.command(&["support"], &["--output", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&fs::read(&archive).unwrap()).into_owned();
    assert!(text.contains("is not valid TOML") && text.contains("no agent is running"), "{text}");
    assert!(!text.contains("secret-of-"), "{text}");
}
