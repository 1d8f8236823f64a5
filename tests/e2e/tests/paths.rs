//! Other users of this machine: what they put where the agent looks, and what the agent leaves for them to read.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use mackerel_standin::{Memory, Standin};
use rustix::fs::{CWD, Mode, mkfifoat};
use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{SOON, component, echo, wasaba};

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Makes a file that is another user's, where this one is root; elsewhere one that others can write to.
fn plant(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    mode(path, 0o666);
    std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).ok();
}

fn naughty() -> Vec<u8> {
    fs::read(component("naughty")).unwrap()
}

#[test]
fn another_users_plugin_and_settings_do_not_run_and_the_log_says_what_to_type() {
    let home = Home::with("");
    home.drop_in("good.wasm", &naughty());
    home.drop_in("settings.wasm", &naughty());
    let plugins = home.root().join("plugins");
    plant(&plugins.join("planted.wasm"), &naughty());
    plant(&plugins.join("settings.toml"), b"allow = [\"file:/etc/shadow\"]\n");
    mkfifoat(CWD, plugins.join("pipe.wasm"), Mode::RUSR).unwrap();
    home.drop_in("waits.wasm", &naughty());
    mkfifoat(CWD, plugins.join("waits.toml"), Mode::RUSR).unwrap();
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stdout(&output).contains("custom.naughty.good"), "{log}");
    for (name, cure) in
        [("planted.wasm", "chmod go-w "), ("settings.toml", "chmod go-w "), ("waits.toml", "not a regular file")]
    {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("skipped") && line.contains(cure), "{line}");
    }

    // In a folder that others can write to, no file is safe.
    mode(&plugins, 0o777);
    let output = home.command(&["once"], &[]);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!stdout(&output).contains("custom.naughty.good"), "{log}");
    assert!(log.contains(&format!("chmod go-w {}", plugins.display())), "{log}");
}

#[test]
fn a_running_agent_uses_a_plugin_as_soon_as_the_cure_was_typed() {
    let home = Home::with("");
    home.drop_in("planted.wasm", &naughty());
    let file = home.root().join("plugins/planted.wasm");
    mode(&file, 0o666);
    let agent = home.start(&[]);
    agent.line_with(&format!("chmod go-w {}", file.display()), SOON);
    mode(&file, 0o644);
    agent.line_with("plugin planted runs", SOON);
}

#[test]
fn a_plugin_with_a_digest_or_on_the_command_line_may_be_any_users() {
    let home = Home::with("");
    let file = home.path("planted.wasm");
    plant(&file, &naughty());
    let inspected = stdout(&home.command(&["plugin", "inspect"], &[file.to_str().unwrap()]));
    let digest = inspected.split("sha256:").nth(1).unwrap().get(..64).unwrap().to_owned();
    let table = format!("[plugin.metrics.p]\nwasm = {file:?}\n");
    home.configure(&table);
    let log = String::from_utf8(home.command(&["once"], &[]).stderr).unwrap();
    assert!(log.contains("is not loaded: ") && log.contains("chmod go-w"), "{log}");
    home.configure(&format!("{table}digest = \"sha256:{digest}\"\n"));
    assert!(stdout(&home.command(&["once"], &[])).contains("custom.naughty.good"));
}

#[test]
fn an_included_file_of_another_user_is_skipped_and_a_pipe_in_place_of_the_configuration_is_refused() {
    let home = Home::with("");
    let include = format!("apikey = \"k\"\ninclude = {:?}\n", home.path("conf.d/*.conf"));
    home.configure(&include);
    fs::create_dir(home.path("conf.d")).unwrap();
    plant(&home.path("conf.d/a.conf"), b"[plugin.metrics.evil]\ncommand = \"echo evil\"\n");
    let said = stderr(&home.command(&["configtest"], &[]));
    assert!(
        said.contains("skipped `") && said.contains("chmod go-w") && said.contains("0 errors, 1 warning"),
        "{said}"
    );
    fs::remove_file(home.config()).unwrap();
    mkfifoat(CWD, home.config(), Mode::RUSR).unwrap();
    assert!(stderr(&home.command(&["configtest"], &[])).contains("not a regular file"));
}

#[tokio::test]
async fn the_agents_files_are_for_its_user_and_the_pid_file_is_written_through_no_link() {
    let standin = Standin::start("key").await.unwrap();
    let home = Home::without_compiled();
    let base = format!(
        "apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n\
         [plugin.metadata.md]\ncommand = \"echo 1\"\nexecution_interval = 1\n",
        standin.url()
    );
    home.configure(&base);
    let (victim, pidfile) = (home.path("victim"), home.path("agent.pid"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &pidfile).unwrap();
    let mut refused = home.start(&[]);
    let line = refused.line_with("cannot write the pid file", SOON);
    assert!(line.contains("it is a link: remove it"), "{line}");
    assert!(!refused.ended(SOON).success());
    fs::remove_file(&pidfile).unwrap();
    mkfifoat(CWD, &pidfile, Mode::RUSR | Mode::WUSR).unwrap();
    let mut refused = home.start(&[]);
    refused.line_with("not a regular file", SOON);
    assert!(!refused.ended(SOON).success());
    fs::remove_file(&pidfile).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");

    let _agent = home.start(&[]);
    let there = |memory: &Memory| memory.points().iter().any(|point| point.name == "memory.total");
    standin.wait_until(SOON, "metrics", there).await.unwrap();
    let root = home.root();
    let kept = root.join("metadata/md.json");
    while !kept.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(mode_of(&root) & !0o750, 0);
    assert_eq!((mode_of(&root.join("wasaba.db")), mode_of(&root.join("compiled"))), (0o600, 0o700));
    assert_eq!((mode_of(&kept), mode_of(&root.join("metadata"))), (0o600, 0o700));
    assert_eq!(mode_of(&root.join("id")), 0o644, "other tools read it");
}

#[tokio::test]
async fn a_pipe_in_place_of_the_id_file_is_a_fault_at_once_and_registers_no_host() {
    let standin = Standin::start("key").await.unwrap();
    let home = Home::with(&format!("apikey = \"key\"\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url()));
    fs::create_dir_all(home.root()).unwrap();
    mkfifoat(CWD, home.root().join("id"), Mode::RUSR).unwrap();
    let mut agent = home.start(&[]);
    let line = agent.line_with("/id`: not a regular file", SOON);
    assert!(
        line.contains("cannot register this host") && (line.contains("retrying in") || line.contains("retrying now")),
        "{line}"
    );
    assert!(standin.memory().hosts().is_empty());
    agent.signal(rustix::process::Signal::TERM);
    assert!(agent.ended(SOON).success());
}

#[test]
fn a_root_that_others_can_write_to_is_closed_and_code_planted_in_it_is_not_run() {
    let home = Home::with("");
    home.drop_in("naughty.wasm", &naughty());
    let compiled = home.root().join("compiled");
    let good = fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(!good.is_empty(), "the precompiled components of `make compiled`");
    // Valid code, under its valid name, of another user: in a folder that was open once.
    for entry in &good {
        mode(entry, 0o666);
        std::os::unix::fs::chown(entry, Some(12_345), None).ok();
    }
    mode(&compiled, 0o777);
    mode(&home.root(), 0o777);
    let mut agent = home.start(&[]);
    agent.line_with("plugin naughty runs", SOON);
    assert_eq!((mode_of(&home.root()), mode_of(&compiled)), (0o755, 0o700));
    let ours = |path: &Path| mode_of(path) == 0o600;
    let entries = fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(entries.filter(|entry| ours(entry)).count(), 1, "it was compiled again");
    agent.signal(rustix::process::Signal::TERM);
    assert!(agent.ended(SOON).success());
}

#[test]
fn a_granted_log_and_socket_lead_nowhere_else_at_the_will_of_who_owns_their_folder() {
    let home = Home::with("");
    let (others, nginx) = (home.path("others"), Nginx::start());
    fs::create_dir(&others).unwrap();
    let (secret, socket) = (home.path("secret"), home.path("root.sock"));
    fs::write(&secret, "hunter2").unwrap();
    echo::unix(&socket);
    let (log, link) = (others.join("app.log"), others.join("link.sock"));
    symlink(&secret, &log).unwrap();
    symlink(&socket, &link).unwrap();
    let url = format!("http://127.0.0.1:{}/nginx_status", nginx.port);
    let run = |file: &Path, socket: &Path| {
        home.configure(&format!(
            "[plugin.metrics.all]\nwasm = {:?}\nsettings = {{ url = {url:?}, port = {}, socket = {socket:?}, file = {file:?} }}\n",
            component("everything"),
            echo::tcp(),
        ));
        let output = home.command(&["once"], &[]);
        String::from_utf8([output.stderr, output.stdout].concat()).unwrap()
    };
    let said = run(&log, &link);
    assert!(said.contains("custom.everything.done.file"), "links of its own user are followed: {said}");
    mode(&others, 0o777);
    let refused = |said: &str, path: &Path| {
        let expected =
            format!("`{}` is a symbolic link that is not followed: other users can write to", path.display());
        assert!(said.contains(&expected) && said.contains(&format!("chmod go-w {}", others.display())), "{said}");
        assert!(!said.contains("custom.everything.done.file"), "{said}");
    };
    refused(&run(&secret, &link), &link);
    for target in [secret.to_str().unwrap(), "/proc/self/environ", "/proc/self/mem"] {
        fs::remove_file(&log).unwrap();
        symlink(target, &log).unwrap();
        refused(&run(&log, &socket), &log);
    }
}

#[test]
fn a_file_system_that_claims_a_device_is_neither_in_the_metrics_nor_in_the_hosts_description() {
    let home = Home::with("");
    let point = home.path("claims");
    fs::create_dir(&point).unwrap();
    // In a namespace of its own, where any user may mount; with FUSE any user may, in that of the agent.
    let script = "mount -t tmpfs -o size=1m /dev/claimed \"$0\" && df \"$0\" >&2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(point);
    let output =
        command.arg(wasaba()).args(["once", "-conf"]).arg(home.config()).stdin(Stdio::null()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("/dev/claimed"), "this test needs unshare and the permission to mount: {log}");
    let printed = stdout(&output);
    assert!(printed.contains("memory.total") && !printed.contains("claimed"), "{printed}");
}
