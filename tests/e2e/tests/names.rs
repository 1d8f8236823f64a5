//! Names, in a network of its own whose name server misbehaves: the agent and its plugins beside `getent` and `curl`, which use glibc.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::certificates::Authority;
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::postgres::Postgres;
use wasaba_e2e::redis::Redis;
use wasaba_e2e::{official, wasaba};
use wasaba_testing::name_server::WAYS;

/// What glibc does not find, and the agent does: the addresses behind aliases in reverse order, and the IPv6 address of a name whose IPv4
/// answer is malformed or missing.
const BEYOND_GLIBC: [&str; 3] = ["backwards.backwards.test", "malformed.good.test", "silent.good.test"];

/// The ways to answer that lead to an address.
const GOOD: [&str; 6] = ["good", "truncated", "many", "chain", "backwards", "stray"];

#[test]
fn the_agent_and_its_plugins_reach_what_glibc_and_curl_reach_whatever_the_name_server_does() {
    let mut names = BTreeSet::new();
    for way in WAYS {
        for name in [format!("{way}.good.test"), format!("good.{way}.test"), format!("{way}.{way}.test")] {
            names.insert(name);
        }
    }
    // In `hosts`, with a domain, with the search list, and with a missing one.
    names.extend(
        ["capital", "CAPITAL", "web.example", "six", "good.good", "nxdomain.good.corp", "none.none"].map(str::to_owned),
    );
    let mut config = String::new();
    for name in &names {
        let table = name.replace('.', "-");
        for (plugin, settings) in [
            ("nginx", format!("uri = \"http://{name}:8080/\"")),
            ("redis", format!("host = \"{name}\"")),
            ("postgres", format!("hostname = \"{name}\", user = \"u\"")),
        ] {
            let file = official(plugin);
            config.push_str(&format!(
                "[plugin.metrics.{plugin}-{table}]\nwasm = {:?}\nkey_prefix = \"{plugin}-{table}\"\nsettings = {{ {settings} }}\n",
                file.display().to_string()
            ));
        }
    }
    let home = Home::with(&config);
    std::fs::write(
        home.path("resolv.conf"),
        "nameserver 127.0.0.1\nsearch test none.test\noptions timeout:1 attempts:1\n",
    )
    .unwrap();
    std::fs::write(home.path("hosts"), "127.0.0.1 localhost\n10.98.0.1 Web.Example CAPITAL\nfd00:98::1 Six\n").unwrap();
    // 10.98.0.0/24 and fd00:98::/64 lead here without belonging to an interface, and stand for another machine.
    let script = "ip link set lo up; ip route add local 10.98.0.0/24 dev lo; ip -6 route add local fd00:98::/64 dev lo; \
                  mount --bind \"$1/resolv.conf\" /etc/resolv.conf; mount --bind \"$1/hosts\" /etc/hosts; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-ec", script, "sh"]).arg(home.path(""));
    command.arg(env!("CARGO_BIN_EXE_names")).arg(wasaba()).arg(home.config()).arg(home.path("roots")).args(&names);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "this test needs unshare, ip, curl and the permission to create namespaces: {error}"
    );
    let text = stdout(&output);
    let (rows, once) = text.split_once("--\n").unwrap();
    assert_eq!(rows.lines().count(), names.len() + 2, "{rows}");
    let (mut wrong, mut reached) = (String::new(), BTreeSet::new());
    for (row, name) in rows.lines().zip(&names) {
        let cells = row.split('\t').collect::<Vec<_>>();
        let labels = name.split('.').collect::<Vec<_>>();
        let expected = match labels[..] {
            ["none", ..] => "no",
            [v4, v6, ..] if labels.len() >= 2 && WAYS.contains(&v4) => {
                if [v4, v6].iter().any(|way| GOOD.contains(way)) { "yes" } else { "no" }
            }
            _ => "yes",
        };
        reached.extend((expected == "yes").then(|| name.to_ascii_lowercase()));
        let is_beyond = BEYOND_GLIBC.contains(&name.as_str());
        let of_glibc = if is_beyond { "no" } else { expected };
        let plugins = ["nginx", "redis", "postgres"].map(|plugin| {
            let table = format!("{plugin}-{} ", name.replace('.', "-"));
            let of_plugin = |line: &&str| line.replace(':', " ").contains(&table);
            if once.lines().filter(of_plugin).any(|line| line.contains("cannot resolve")) { "no" } else { "yes" }
        });
        if cells[..4] != [name.as_str(), of_glibc, of_glibc, expected] || plugins != [expected; 3] {
            wrong.push_str(&format!("{row} plugins {plugins:?}, expected {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n{once}");
    let [pages, visits] = rows.lines().skip(names.len()).collect::<Vec<_>>()[..] else { panic!("{rows}") };
    assert_eq!(pages.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), reached);
    let are_visited = visits.split('\t').all(|visits| visits.parse::<usize>().unwrap() >= reached.len());
    assert!(are_visited, "{visits} visits of {} names", reached.len());
    assert!(once.contains("cannot resolve `nxdomain.nxdomain.test`: no address found"), "{once}");
}

#[test]
fn a_servers_own_certificate_that_openssl_has_made_is_believed_where_it_is_named_as_curl_believes_it() {
    let (own, other) = (Authority::of_server("localhost"), Authority::of_server("localhost"));
    let file = own.file().display().to_string();
    let nginx = Nginx::start_with_tls(&own);
    let redis = Redis::start_with_tls(&own, "", &[]);
    let postgres = Postgres::start_with_tls(&own, "", "hostssl all all 127.0.0.1/32 trust");
    let curl = |file: &str| {
        let url = format!("https://localhost:{}/nginx_status", nginx.tls_port);
        Command::new("curl").args(["-sS", "--cacert", file, &url]).output().unwrap().status.success()
    };
    assert!(curl(&file) && !curl(&other.file().display().to_string()));
    let home = Home::default();
    for (plugin, port, flags) in [
        ("nginx", nginx.tls_port, &["-scheme=https", "-host"][..]),
        ("redis", redis.port, &["-tls", "-host"]),
        ("postgres", postgres.port, &["-user=admin", "-database=postgres", "-sslmode=verify-full", "-hostname"]),
    ] {
        let run = |authority: &Authority, host: &str| {
            let trust = format!("authority = {:?}", authority.file());
            home.configure(&format!("[plugin.metrics.{plugin}]\nwasm = {plugin:?}\ntls = {{ {trust} }}\n"));
            let port = format!("-port={port}");
            home.command(&["plugin", "run"], &[&[plugin], flags, &[host, &port]].concat())
        };
        assert!(stdout(&run(&own, "localhost")).contains(plugin), "{plugin}");
        for (authority, host) in [(&other, "localhost"), (&own, "127.0.0.1")] {
            let refused = stderr(&run(authority, host));
            assert!(refused.contains("certificate"), "{plugin} at {host}: {refused}");
        }
    }
}
