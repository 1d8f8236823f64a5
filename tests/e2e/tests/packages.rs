//! The Debian package of the tested program: installed, upgraded, removed and purged on a machine that is made of this one. What needs
//! another system, a repository or rpm is in `make dist-test`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use rustix::process::Signal;
use wasaba_e2e::SOON;
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::packages::{Machine, deb, official};

const KEY: &str = "the-key-of-the-tests";
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(240);
const THE_MOVE: &str = "systemctl disable --now mackerel-agent && systemctl enable --now wasaba";

/// Owner, group and mode of what has this path.
fn mode(machine: &Machine, path: &str) -> String {
    machine.run(&format!("stat -c '%U:%G %a' {path}")).trim().to_owned()
}

fn exists(machine: &Machine, path: &str) -> bool {
    machine.try_run(&format!("test -e {path}")).status.success()
}

fn is_enabled(machine: &Machine) -> bool {
    machine.try_run("test -L /etc/systemd/system/multi-user.target.wants/wasaba.service").status.success()
}

#[tokio::test]
async fn a_fresh_install_says_how_to_begin_compiles_nothing_and_posts_the_host_and_nginx_as_its_own_user() {
    let (standin, nginx, machine) = (Standin::start(KEY).await.unwrap(), Nginx::start(), Machine::new());
    let said = machine.install(&deb("0.9.0"));
    assert!(said.contains("has no API key") && said.contains("wasaba init -apikey=<YOUR_API_KEY>"), "{said}");
    assert!(!is_enabled(&machine), "without a key it would only fill the log");
    assert_eq!(mode(&machine, "/etc/mackerel-agent/mackerel-agent.conf"), "root:wasaba 640");
    assert_eq!(mode(&machine, "/var/lib/mackerel-agent"), "wasaba:wasaba 750");
    let once = machine.run("cd / && wasaba once 2>/dev/null");
    assert!(once.contains("loadavg5"), "{once}");
    let open =
        machine.run("dpkg -L wasaba | while read file; do find \"$file\" -maxdepth 0 -perm /022 -not -type l; done");
    assert_eq!(open, "", "others can write to these");

    machine.run(&format!("wasaba init -apikey={KEY} -apibase={}", standin.url()));
    let conf = "/etc/mackerel-agent/mackerel-agent.conf";
    let tables = ["nginx", "postgres", "redis"].map(|name| match name {
        "nginx" => format!("[plugin.metrics.nginx]\nwasm = \"nginx\"\nsettings = {{ port = {} }}\n", nginx.port),
        name => {
            format!("[plugin.metrics.{name}]\nwasm = \"{name}\"\nsettings = {{ host = \"127.0.0.1\", port = 1 }}\n")
        }
    });
    machine.run(&format!("cat >>{conf} <<'END'\n{}END", tables.concat()));
    assert_eq!(mode(&machine, conf), "root:wasaba 640", "as it was before `init`");
    let mut agent = machine.start();
    for name in ["memory.total", "custom.nginx.connections.connections"] {
        let there = move |memory: &Memory| memory.points().iter().any(|point| point.name == name);
        standin.wait_until(A_MINUTE_AND_MORE, name, there).await.unwrap();
    }
    let compiled = machine.run("ls -A /var/lib/mackerel-agent/compiled");
    assert_eq!(compiled, "", "the shipped plugins were compiled again");
    let said = agent.lines().join("\n");
    assert!(!said.contains("compil"), "{said}");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    assert_eq!(standin.memory().refusals(), []);
}

#[tokio::test]
async fn an_upgrade_in_an_outage_keeps_the_host_and_every_minute_and_what_was_changed_in_the_configuration() {
    let (standin, machine) = (Standin::start(KEY).await.unwrap(), Machine::new());
    let address = standin.address();
    machine.install(&deb("0.9.0"));
    machine.run(&format!("wasaba init -apikey={KEY} -apibase={}", standin.url()));
    let mut agent = machine.start();
    standin.wait_until(SOON, "the first post", |memory| !memory.points().is_empty()).await.unwrap();
    let memory = standin.stop();
    let kept = |lines: &[String]| lines.iter().filter(|line| line.contains("DEBUG kept ")).count();
    let begin = Instant::now();
    while kept(&agent.lines()) < 2 {
        assert!(begin.elapsed() < A_MINUTE_AND_MORE, "{}", agent.lines().join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let conf = machine.run("cat /etc/mackerel-agent/mackerel-agent.conf");
    // The service runs until the new program is in place.
    machine.install(&deb("0.9.1"));
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    let line = |lines: &[String]| {
        let times = lines.iter().filter_map(|line| line.split_once("DEBUG kept ")?.1.split_once(" values of "));
        times.map(|(_, time)| time.parse().unwrap()).collect::<BTreeSet<i64>>()
    };
    let expected = line(&agent.lines());
    assert_eq!(machine.run("cat /etc/mackerel-agent/mackerel-agent.conf"), conf);
    let _agent = machine.start();
    let standin = Standin::start_again(address, KEY, memory).await.unwrap();
    let times = |memory: &Memory| memory.points().iter().map(|point| point.time).collect::<BTreeSet<_>>();
    let there = move |memory: &Memory| expected.is_subset(&times(memory));
    standin.wait_until(A_MINUTE_AND_MORE, "every minute from before the upgrade", there).await.unwrap();
    assert_eq!(standin.memory().hosts().len(), 1, "the host is still the same");
    assert_eq!(standin.memory().refusals(), []);
}

#[test]
fn remove_keeps_configuration_id_and_queue_and_purge_removes_them_and_the_service() {
    let machine = Machine::new();
    machine
        .run("install -d -m 750 /etc/mackerel-agent && echo 'apikey = \"k\"' >/etc/mackerel-agent/mackerel-agent.conf");
    let said = machine.install(&deb("0.9.0"));
    assert!(is_enabled(&machine), "it has a key: {said}");
    assert_eq!(mode(&machine, "/etc/mackerel-agent/mackerel-agent.conf"), "root:wasaba 640");
    machine.run("cd /var/lib/mackerel-agent && echo host >id && echo queue >wasaba.db && chown wasaba: *");
    machine.run("dpkg --remove wasaba");
    for path in
        ["/etc/mackerel-agent/mackerel-agent.conf", "/var/lib/mackerel-agent/id", "/var/lib/mackerel-agent/wasaba.db"]
    {
        assert!(exists(&machine, path), "{path}");
    }
    assert!(!exists(&machine, "/usr/lib/wasaba"));
    // It comes back as it was.
    machine.install(&deb("0.9.1"));
    assert!(is_enabled(&machine) && machine.run("cat /var/lib/mackerel-agent/id") == "host\n");
    machine.run("dpkg --purge wasaba");
    let left =
        machine.run("ls -d /etc/mackerel-agent /var/lib/mackerel-agent /usr/share/doc/wasaba 2>/dev/null || true");
    assert_eq!(left, "");
    assert_eq!(machine.run("find /etc/systemd /var/lib/systemd -name '*wasaba*'"), "");
}

#[test]
fn beside_the_official_agent_it_is_installed_not_started_and_says_how_to_move_and_its_purge_keeps_the_others_files() {
    let (machine, folder) = (Machine::new(), tempfile::tempdir().unwrap());
    machine.install(&official(folder.path()));
    machine.run(
        "echo 'apikey = \"official\"' >/etc/mackerel-agent/mackerel-agent.conf && echo theirs >/var/lib/mackerel-agent/id",
    );
    let said = machine.install(&deb("0.9.0"));
    assert!(said.contains("not started, since mackerel-agent is enabled") && said.contains(THE_MOVE), "{said}");
    assert!(!is_enabled(&machine));
    // The agent's user may read both, and no other user the key.
    assert_eq!(mode(&machine, "/etc/mackerel-agent/mackerel-agent.conf"), "root:wasaba 640");
    let agents = "setpriv --reuid=wasaba --regid=wasaba --init-groups sh -c";
    let read =
        machine.run(&format!("{agents} 'cat /etc/mackerel-agent/mackerel-agent.conf /var/lib/mackerel-agent/id'"));
    assert_eq!(read, "apikey = \"official\"\ntheirs\n");
    machine.run(&format!("{agents} 'cd /var/lib/mackerel-agent && echo theirs >id.new && mv id.new id'"));
    // Nor is it started by an upgrade.
    machine.install(&deb("0.9.1"));
    assert!(!is_enabled(&machine));

    // The move, without a running systemd; after it, an upgrade is silent.
    machine.run("systemctl disable mackerel-agent && systemctl enable wasaba");
    let said = machine.install(&deb("0.9.0"));
    assert!(is_enabled(&machine) && !said.contains("not started"), "{said}");

    machine.run("dpkg --purge wasaba");
    assert_eq!(machine.run("cat /var/lib/mackerel-agent/id"), "theirs\n");
    assert_eq!(mode(&machine, "/var/lib/mackerel-agent/id"), "root:root 644");
    assert!(machine.run("cat /etc/mackerel-agent/mackerel-agent.conf").contains("official"));
    machine.run("dpkg --purge mackerel-agent");
}

#[test]
fn the_manual_names_every_command_and_completions_come_for_three_shells() {
    let machine = Machine::new();
    machine.install(&deb("0.9.0"));
    let manual = machine.run("zcat /usr/share/man/man1/wasaba.1.gz");
    let help = machine.run("wasaba --help");
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(manual.lines().any(|line| line.starts_with(".B") && line.contains(command)), "{command} in {manual}");
    }
    for flag in help.lines().filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '[']).next()) {
        assert!(manual.contains(&format!("\\-\\-{flag}")), "--{flag} in {manual}");
    }
    let shells = [
        "bash-completion/completions/wasaba",
        "zsh/vendor-completions/_wasaba",
        "fish/vendor_completions.d/wasaba.fish",
    ];
    for file in shells {
        assert!(machine.run(&format!("cat /usr/share/{file}")).contains("configtest"), "{file}");
    }
}
