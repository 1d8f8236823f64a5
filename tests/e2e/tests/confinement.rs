//! The confinement of the running agent: what it gives up, what takes a restart, and that something restarts it.
#![expect(clippy::unwrap_used, reason = "tests")]

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::{SOON, component};

const KEY: &str = "the-key-of-the-tests";

async fn standin() -> Standin {
    Standin::start(KEY).await.unwrap()
}

fn base(standin: &Standin) -> String {
    format!("apikey = {KEY:?}\napibase = {:?}\n", standin.url())
}

fn has(name: &'static str) -> impl Fn(&Memory) -> bool {
    move |memory| memory.points().iter().any(|point| point.name == name)
}

/// The values of a field of /proc/PID/status, one for each thread of the agent.
fn of_threads(pid: u32, field: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One that ends meanwhile has no file.
    let status = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).ok());
    let value = |status: String| {
        Some(status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?.trim().to_owned())
    };
    status.filter_map(value).collect()
}

fn health(home: &Home) -> String {
    stdout(&home.command(&["health"], &[]))
}

fn is_confined(agent: &Agent) -> bool {
    let [calls, privileges] = ["Seccomp", "NoNewPrivs"].map(|field| of_threads(agent.pid(), field));
    assert!(calls.len() > 4, "{calls:?}");
    calls.iter().all(|mode| mode == "2") && privileges.iter().all(|none| none == "1")
}

#[tokio::test]
async fn an_agent_without_programs_confines_each_of_its_threads_and_says_so() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    home.drop_in("naughty.wasm", &std::fs::read(component("naughty")).unwrap());
    let agent = home.start(&[]);
    standin.wait_until(SOON, "the plugin's value", has("custom.naughty.good")).await.unwrap();
    assert!(is_confined(&agent));
    agent.line_with("confined; closed are files and programs (Landlock ", SOON);
    let health = health(&home);
    for closed in
        ["\nconfined; closed are files and programs", "new privileges", "new code", "other system calls (seccomp)"]
    {
        assert!(health.contains(closed), "{health}");
    }
    assert!(health.contains("open are ports: a plugin may come at any time"), "{health}");
}

#[tokio::test]
async fn an_agent_that_runs_a_program_is_not_confined_and_names_its_table_and_so_is_one_that_must_not_be() {
    for (more, why) in [
        ("[plugin.checks.one]\ncommand = \"true\"\n", "not confined: a program may need anything: [plugin.checks.one]"),
        (
            "[plugin.metadata.two]\ncommand = \"echo {}\"\n",
            "not confined: a program may need anything: [plugin.metadata.two]",
        ),
        (
            "[plugin.metrics.three]\ncommand = \"true\"\n",
            "not confined: a program may need anything: [plugin.metrics.three]",
        ),
        ("confinement = false\n", "not confined: `confinement = false`"),
    ] {
        let (standin, home) = (standin().await, Home::with(""));
        home.configure(&format!("{}{more}", base(&standin)));
        let agent = home.start(&[]);
        agent.line_with(why, SOON);
        agent.line_with("this machine is host", SOON);
        assert_eq!(of_threads(agent.pid(), "Seccomp").iter().filter(|mode| *mode != "0").count(), 0, "{more}");
        assert!(health(&home).contains(why));
    }
}

#[tokio::test]
async fn what_a_reload_needs_and_the_agent_gave_up_is_asked_for_by_hand_once() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let agent = home.start(&[]);
    agent.line_with("this machine is host", SOON);
    home.configure(&format!("{}[plugin.metrics.one]\ncommand = \"echo one 1 0\"\n", base(&standin)));
    agent.signal(Signal::HUP);
    let asked = "restart the agent to allow what it dropped at its start: a program: [plugin.metrics.one]";
    agent.line_with(asked, SOON);
    agent.signal(Signal::HUP);
    agent.line_with("reloaded the configuration", SOON);
    assert!(health(&home).contains("restart the agent to allow a program: [plugin.metrics.one]"));
    assert_eq!(agent.lines().iter().filter(|line| line.contains(asked)).count(), 1);
}

#[tokio::test]
async fn below_supervise_the_agent_restarts_by_itself_for_a_program_a_plugin_and_a_folder() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let supervisor = home.supervise();
    supervisor.line_with("this machine is host", SOON);
    let port = standin.url().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let closed = supervisor.line_with("closed are", SOON);
    assert!(closed.contains("ports but ") && closed.contains(&port), "{closed}");
    let first = supervisor.child();

    // A plugin may connect to any port.
    home.drop_in("naughty.wasm", &std::fs::read(component("naughty")).unwrap());
    supervisor.line_with(
        "restarting to allow what was dropped at the start: connections to any port: plugin `naughty`",
        SOON,
    );
    standin.wait_until(SOON, "the plugin's value", has("custom.naughty.good")).await.unwrap();
    let second = supervisor.child();
    assert_ne!(second, first);

    // A file elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let table = format!(
        "[plugin.metrics.web]\nwasm = {:?}\nallow = [\"file:{}/a.log\"]\n",
        component("naughty"),
        elsewhere.path().display()
    );
    home.configure(&format!("{}{table}", base(&standin)));
    supervisor.signal(Signal::HUP);
    supervisor.line_with(&format!("reading `{}`", elsewhere.path().display()), SOON);
    supervisor.line_with("plugin web runs", SOON);
    let third = supervisor.child();
    assert_ne!(third, second);

    home.configure(&format!("{}{table}[plugin.metrics.one]\ncommand = \"echo one 1 0\"\n", base(&standin)));
    supervisor.signal(Signal::HUP);
    standin.wait_until(SOON, "the program's value", has("custom.one")).await.unwrap();
    assert_ne!(supervisor.child(), third);
    supervisor.line_with("not confined: a program may need anything: [plugin.metrics.one]", SOON);
    assert_eq!(supervisor.lines().iter().filter(|line| line.contains("the agent died")).count(), 0);
}

/// The kernel knows folders, not their names: another one in the place of one that was read is closed.
#[tokio::test]
async fn below_supervise_the_agent_restarts_by_itself_once_a_folder_that_it_reads_was_replaced() {
    let (standin, home) = (standin().await, Home::with(""));
    let elsewhere = tempfile::tempdir().unwrap();
    let (keys, plugins) = (elsewhere.path().join("run/keys"), elsewhere.path().join("opt/plugins"));
    let make = |folder: &std::path::Path| std::fs::create_dir_all(folder).unwrap();
    make(&keys);
    make(&plugins);
    std::fs::write(keys.join("key"), KEY).unwrap();
    let config = format!(
        "apikey = {{ file = {:?} }}\napibase = {:?}\nplugins = {plugins:?}\n",
        keys.join("key").display().to_string(),
        standin.url()
    );
    home.configure(&config);
    let supervisor = home.supervise();
    supervisor.line_with("this machine is host", SOON);
    let first = supervisor.child();
    for (folder, file, content) in [
        (&keys, "key", KEY.as_bytes().to_vec()),
        (&plugins, "naughty.wasm", std::fs::read(component("naughty")).unwrap()),
    ] {
        std::fs::rename(folder, folder.with_extension("old")).unwrap();
        make(folder);
        std::fs::write(folder.join(file), content).unwrap();
    }
    supervisor.signal(Signal::HUP);
    // Whichever is noticed first.
    let line = supervisor.line_with("restarting to allow what was dropped at the start: ", SOON);
    assert!([&keys, &plugins].iter().any(|folder| line.contains(&format!("reading `{}`", folder.display()))), "{line}");
    standin.wait_until(SOON, "the plugin's value", has("custom.naughty.good")).await.unwrap();
    assert_ne!(supervisor.child(), first);
    assert_eq!(standin.memory().hosts().len(), 1);
}

#[tokio::test]
async fn confinement_that_is_switched_off_takes_a_restart_which_is_asked_for_by_hand_and_comes_by_itself_below_supervise()
 {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let mut agent = home.start(&[]);
    agent.line_with("this machine is host", SOON);
    home.configure(&format!("{}confinement = false\n", base(&standin)));
    agent.signal(Signal::HUP);
    agent.line_with("restart the agent to allow what it dropped at its start: everything: `confinement = false`", SOON);
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    home.configure(&base(&standin));
    let supervisor = home.supervise();
    supervisor.line_with("confined; closed are", SOON);
    home.configure(&format!("{}confinement = false\n", base(&standin)));
    supervisor.signal(Signal::HUP);
    supervisor.line_with("restarting to allow what was dropped at the start: everything: `confinement = false`", SOON);
    supervisor.line_with("not confined: `confinement = false`", SOON);
}

#[tokio::test]
async fn a_root_that_is_replaced_while_the_agent_cannot_make_it_again_is_said_with_what_keeps_this_host() {
    let (standin, home) = (standin().await, Home::with(""));
    home.configure(&base(&standin));
    let agent = home.start(&[]);
    agent.line_with("this machine is host", SOON);
    std::fs::rename(home.root(), home.path("moved")).unwrap();
    std::fs::create_dir(home.root()).unwrap();
    agent.signal(Signal::HUP);
    let line = agent.line_with("was deleted or replaced", SOON);
    for part in ["its values stay in memory", "write the id that `wasaba status` shows to", "and start it again"] {
        assert!(line.contains(part), "{line}");
    }
}
