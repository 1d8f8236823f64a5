//! Misbehaving plugins and hostile servers. Each affects only itself, and the log names the limit or the missing grant that stopped
//! it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::hostile::{self, Server};
use wasaba_e2e::zoo::{ANIMALS, alone, bad_files, compiler, naughty};
use wasaba_e2e::{compiled, component, wasaba};

/// The output of `wasaba plugin run` for the table `name` in `config`: standard error, then standard output.
fn run(name: &str, config: &str) -> String {
    let output = Home::with(config).command(&["plugin", "run"], &["-root", &compiled(), name]);
    String::from_utf8([output.stderr, output.stdout].concat()).unwrap()
}

/// [`run`] of a plugin that does `what` with `target`.
fn attempt(what: &str, target: &str, table: &str) -> String {
    run(what, &naughty(what, &format!(", url = {target:?}"), table))
}

#[test]
fn each_misbehaviour_is_stopped_and_the_log_names_the_limit() {
    let mut failures = Vec::new();
    for animal in ANIMALS {
        let (what, said) = (animal.what, run(animal.what, &alone(animal)));
        if !said.contains(animal.said) {
            failures.push(format!("{what}: {}", said.chars().take(2_000).collect::<String>()));
        }
        assert!(said.len() < 40_000, "{what} logs {} bytes", said.len());
        assert!(!said.contains('\u{1b}'), "{what} prints an escape character");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_hostile_server_fails_only_one_call() {
    let grant = |server: &Server| format!("allow = [\"http://127.0.0.1:{0}\", \"127.0.0.1:{0}\"]", server.port);
    for (server, expected) in [
        (hostile::silent(), "timed out: no answer within the call's 2 s"),
        (hostile::slow(), "timed out: no answer within the call's 2 s"),
        (hostile::endless(), "the response is larger than 4194304 bytes (limit `body_kib`)"),
        (hostile::answering("not HTTP\r\n\r\n".into(), vec![0; 100]), "unreachable:"),
        (hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".into(), vec![0; 3]), "failed:"),
        (
            hostile::answering(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)), Vec::new()),
            "unreachable:",
        ),
    ] {
        let said = attempt("fetch-body", &server.url(), &grant(&server));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // A compressed body is not unpacked: 10 KB remain 10 KB.
    let bomb = hostile::answering(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10240\r\n\r\n".into(),
        vec![0x1f; 10_240],
    );
    let said = attempt("fetch-body", &bomb.url(), &grant(&bomb));
    assert!(said.contains("naughty.good\t10240.000000"), "{said}");
    let hoarded = hostile::silent();
    let said = attempt("hoard-connections", &format!("127.0.0.1:{}", hoarded.port), &grant(&hoarded));
    assert!(said.contains("more than 16 connections at once (limit `connections`)"), "{said}");
    assert_eq!(hoarded.connections(), 16);
    let limits = format!("limits = {{ connections = 100, handles = 20 }}\n{}", grant(&hoarded));
    let said = attempt("hoard-connections", &format!("127.0.0.1:{}", hoarded.port), &limits);
    assert!(said.contains("limit `handles`"), "{said}");
}

#[test]
fn plugins_that_hoard_connections_leave_the_agent_enough_file_descriptors() {
    let server = hostile::silent();
    let address = format!("127.0.0.1:{}", server.port);
    let mut config = String::new();
    for number in 0..40 {
        let table = naughty("hoard-connections", &format!(", url = {address:?}"), &format!("allow = [{address:?}]"));
        config.push_str(&table.replacen("hoard-connections]", &format!("hoard{number}]"), 1));
    }
    let values = |config: &str| {
        let home = Home::with(config);
        // Not enough for a third of 40 plugins with 16 connections each.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 200; exec \"$@\"", "sh"])
            .arg(wasaba())
            .args(["once", "-conf"])
            .arg(home.config());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let once = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
        let values = once["metrics"]["Values"][0]["Values"].as_object().unwrap();
        (values.keys().cloned().collect::<BTreeSet<_>>(), error)
    };
    let (expected, _) = values("");
    let (with_them, error) = values(&config);
    assert!(expected.contains("memory.total") && expected.contains("loadavg1"));
    assert_eq!(with_them, expected);
    assert!(server.connections() > 100 && error.contains("connections"), "{error}");
    assert!(!error.contains("Too many open files"), "{error}");
}

#[test]
fn a_redirect_to_an_origin_without_a_grant_is_denied() {
    let secret = hostile::silent();
    for target in ["http://169.254.169.254/latest/meta-data/".to_owned(), secret.url(), "//[::ffff:a9fe:a9fe]/".into()]
    {
        let server = hostile::redirecting(&target);
        let said = attempt("follow", &server.url(), &format!("allow = [\"http://127.0.0.1:{}\"]", server.port));
        assert!(said.contains("denied: no grant for http://"), "{target}: {said}");
    }
    assert_eq!(secret.connections(), 0);
    let circle = hostile::redirecting("/");
    let said = attempt("follow", &circle.url(), &format!("allow = [\"http://127.0.0.1:{}\"]", circle.port));
    assert!(said.contains("more than 5 redirects"), "{said}");
}

#[test]
fn no_spelling_of_an_address_bypasses_the_grants() {
    let secret = hostile::silent();
    let port = secret.port;
    let table = "allow = [\"http://granted.example\", \"granted.example:80\"]";
    for url in [
        "http://169.254.169.254/".to_owned(),
        "http://2852039166/".into(),
        "http://0xa9fea9fe/".into(),
        "http://0251.0376.0251.0376/".into(),
        "http://169.254.43518/".into(),
        "http://[::ffff:169.254.169.254]/".into(),
        "http://[64:ff9b::a9fe:a9fe]/".into(),
        "http://[2002:a9fe:a9fe::]/".into(),
        "http://[fd00:ec2::254]/".into(),
        "http://169.254.169.254./".into(),
        "http://granted.example@169.254.169.254/".into(),
        "http://169.254.169.254#@granted.example/".into(),
        "http://169.254.169.254\\@granted.example/".into(),
        "http://granted.example.evil.example/".into(),
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://localhost.:{port}/"),
        format!("http://LOCALHOST:{port}/"),
        format!("http://0:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:7f00:1]:{port}/"),
        format!("http://１２７.0.0.1:{port}/"),
        format!("http://granted.example@127.0.0.1:{port}/"),
    ] {
        let said = attempt("fetch", &url, table);
        assert!(said.contains("denied: "), "http {url}: {said}");
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let address = if address.rsplit_once(':').is_some_and(|(_, end)| end.parse::<u16>().is_ok()) {
            address.to_owned()
        } else {
            format!("{address}:80")
        };
        let said = attempt("connect", &address, table);
        assert!(said.contains("denied: "), "tcp {address}: {said}");
        for (what, target) in [("fetch", &url), ("connect", &address)] {
            let said = through_doors(what, target, table);
            let is_refused = said.contains("denied: ") || said.contains("Invalid");
            assert!(is_refused && !said.contains("doors.good"), "{what} {target}: {said}");
        }
    }
    assert_eq!(secret.connections(), 0);
}

/// [`run`] of the plugin that does `what` with `target` through WASI's own doors.
fn through_doors(what: &str, target: &str, table: &str) -> String {
    let wasm = component("doors");
    let settings = format!("settings = {{ do = {what:?}, url = {target:?} }}");
    run("doors", &format!("[plugin.metrics.doors]\nwasm = {wasm:?}\n{settings}\ntimeout_seconds = 4\n{table}\n"))
}

#[test]
fn wasis_doors_lead_to_what_is_granted_and_what_a_library_is_refused_is_in_the_log_with_the_line_to_write() {
    let (server, silent) =
        (hostile::answering("HTTP/1.0 200 OK\r\n\r\n".into(), b"all of it".into()), hostile::silent());
    let (address, table) = (format!("127.0.0.1:{}", server.port), format!("allow = [\"127.0.0.1:{}\"]", server.port));
    let said = through_doors("fetch", &server.url(), &table);
    assert!(said.contains("doors.good\t9.000000"), "{said}");
    let said = through_doors("connect", &address, &table);
    assert!(said.contains("doors.good\t28.000000"), "{said}");
    let by_name = format!("localhost:{}", server.port);
    let said = through_doors("connect", &by_name, &format!("allow = [{by_name:?}]"));
    assert!(said.contains("doors.good\t28.000000"), "{said}");
    for (what, target, line) in [
        (
            "fetch",
            silent.url(),
            format!("plugin doors: denied: no grant for {}; to grant it", silent.url().trim_end_matches('/')),
        ),
        ("connect", format!("127.0.0.1:{}", silent.port), "plugin doors: denied: no grant for".to_owned()),
        ("connect", format!("localhost:{}", silent.port), "write `allow = [\"localhost:PORT\"]`".to_owned()),
    ] {
        let said = through_doors(what, &target, &table);
        assert!(said.contains(&line), "{what} {target}: {said}");
    }
    assert_eq!(silent.connections(), 0);
    let said = through_doors("serve", "x", "");
    assert!(said.contains("failed: (Err(PermissionDenied), Err(PermissionDenied))"), "{said}");
    let about = stdout(&Home::with("").command(&["plugin", "inspect"], &[&component("doors").display().to_string()]));
    assert!(about.contains("imports: wasi:http, wasi:sockets\nreaches: http, tcp\n"), "{about}");
}

#[test]
fn wasis_doors_have_the_limits_of_the_others_and_the_log_names_them() {
    let (silent, endless) = (hostile::silent(), hostile::endless());
    let granted = |server: &Server, more: &str| format!("allow = [\"127.0.0.1:{}\"]\n{more}", server.port);
    let of = |server: &Server| format!("127.0.0.1:{}", server.port);
    for (what, target, table, expected) in [
        ("fetch", silent.url(), granted(&silent, ""), "HttpResponseTimeout"),
        ("connect", of(&silent), granted(&silent, ""), "I/O error"),
        ("fetch", endless.url(), granted(&endless, ""), "HttpResponseBodySize(Some(4194304))"),
        ("fetch", endless.url(), granted(&endless, "limits = { body_kib = 100000 }\n"), "limit `memory_mib`"),
        ("connect", of(&endless), granted(&endless, ""), "OutOfMemory"),
        ("post", silent.url(), granted(&silent, ""), "limit `memory_mib`"),
        ("hoard-fields", silent.url(), "limits = { memory_mib = 16 }\n".to_owned(), "limit `memory_mib`"),
        ("hoard", of(&silent), granted(&silent, ""), "16 are open"),
    ] {
        let said = through_doors(what, &target, &table);
        assert!(said.contains(expected), "{what} {target}: {said}");
    }
}

#[test]
fn a_name_that_later_resolves_to_this_machine_or_to_a_metadata_service_is_denied() {
    let table = "allow = [\"http://rebinds.test:8080\"]";
    rebinds("fetch", &naughty("fetch", ", url = \"http://rebinds.test:8080/\"", table), "naughty.good\t200.000000");
}

#[test]
fn a_name_that_rebinds_is_denied_at_wasis_doors_too() {
    for (what, target, value) in [
        ("fetch", "http://rebinds.test:8080/", "doors.good\t0.000000"),
        ("connect", "rebinds.test:8080", "doors.good\t38.000000"),
    ] {
        let wasm = component("doors");
        let table = format!(
            "[plugin.metrics.doors]\nwasm = {wasm:?}\nsettings = {{ do = {what:?}, url = {target:?} }}\n\
             allow = [\"rebinds.test:8080\"]\n"
        );
        rebinds("doors", &table, value);
    }
}

/// Runs the plugin `name` in a network where the address of `rebinds.test` changes. Where it may be reached, it has this `value`.
fn rebinds(name: &str, table: &str, value: &str) {
    let home = Home::with(table);
    let resolver = home.path("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n").unwrap();
    // In separate namespaces, so that the name server and the resolver configuration affect no other process. 10.99.0.1 is the
    // address of an interface; 10.98.0.1 leads here without being one, and stands for another machine.
    let script = "ip link set lo up && ip address add 10.99.0.1/32 dev lo && ip route add local 10.98.0.1/32 dev lo \
                  && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", script]).arg(resolver);
    command.arg(env!("CARGO_BIN_EXE_rebinding")).arg("10.98.0.1,127.0.0.1,10.99.0.1,169.254.169.254,10.98.0.1");
    command.arg(wasaba()).args(["plugin", "run", "-conf"]).arg(home.config()).arg(name);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs unshare, ip and the permission to create namespaces: {error}");
    let text = stdout(&output);
    let begins = ["10.", "127.", "169.", "reached: "];
    // A run may say more than a line.
    let lines = text.lines().fold(Vec::<String>::new(), |mut lines, line| {
        match lines.last_mut() {
            Some(last) if !begins.iter().any(|begin| line.starts_with(begin)) => last.push_str(line),
            _ => lines.push(line.to_owned()),
        }
        lines
    });
    let expected = [
        ("10.98.0.1: ", value),
        ("127.0.0.1: ", "denied: `rebinds.test` resolves to 127.0.0.1, which is this machine itself"),
        ("10.99.0.1: ", "denied: `rebinds.test` resolves to 10.99.0.1, which is this machine itself"),
        ("169.254.169.254: ", "denied: `rebinds.test` resolves to 169.254.169.254, a link-local address"),
        ("10.98.0.1: ", value),
        ("reached: ", "[10.98.0.1, 10.98.0.1]"),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (begin, part)) in lines.iter().zip(expected) {
        assert!(line.starts_with(begin) && line.contains(part), "{part} in {text}");
    }
}

/// The output of `wasaba once` with `config`, in namespaces of its own that `script` prepares, before it runs its arguments. `DEAD` stands
/// for a folder in the home, which is the script's first argument.
fn once_in_namespaces(script: &str, config: &str, arguments: &[&str]) -> (String, String) {
    let home = Home::default();
    let dead = home.path("dead");
    std::fs::create_dir(&dead).unwrap();
    home.configure(&config.replace("DEAD", &dead.display().to_string()));
    let resolver = home.path("resolv.conf");
    // Longer than any call here may take.
    std::fs::write(resolver, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-ec", script, "sh"]).arg(home.path(""));
    command.args(arguments).arg(wasaba()).args(["once", "-conf"]).arg(home.config());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "this test needs unshare, /dev/fuse and the permission to mount: {error}");
    (stdout(&output), error)
}

#[test]
fn thirty_two_instances_whose_names_are_not_resolved_leave_threads_for_the_others() {
    // They took all 64 threads that could block, two each, from all other plugins and from delivery.
    let mut config = String::new();
    for number in 0..32 {
        let table = naughty("fetch", ", url = \"http://hangs.test/\"", "allow = [\"http://hangs.test\"]");
        config.push_str(&table.replacen("fetch]", &format!("hangs{number}]"), 1));
    }
    let file = component("naughty");
    let allow = format!("allow = [\"file:{}\"]", file.display());
    config.push_str(&naughty("read-file", &format!(", url = {:?}", file.display().to_string()), &allow));
    let script = "ip link set lo up; mount --bind \"$1/resolv.conf\" /etc/resolv.conf; shift; exec \"$@\"";
    let (values, error) = once_in_namespaces(script, &config, &[env!("CARGO_BIN_EXE_rebinding"), "silent"]);
    assert!(values.contains("custom.naughty.good"), "the file was not read: {error}");
    assert_eq!(error.matches("no answer within the call's 2 s").count(), 32, "{error}");
}

#[test]
fn components_and_files_on_a_file_system_that_does_not_answer_hold_up_no_other_plugin() {
    // A file system whose server never answers: everything that touches it waits in the kernel.
    let script = "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 dead \"$1/dead\"; shift; \
                  exec \"$@\"";
    // Ten such components took all permits for loading, for ever.
    let mut config = String::new();
    for number in 0..10 {
        config.push_str(&format!("[plugin.metrics.dead{number}]\nwasm = \"DEAD/n{number}.wasm\"\n"));
    }
    for number in 0..32 {
        let table = naughty("read-file", ", url = \"DEAD/log\"", "allow = [\"file:DEAD/log\"]");
        config.push_str(&table.replacen("read-file]", &format!("reads{number}]"), 1));
    }
    config.push_str(&naughty("nothing", "", ""));
    let (values, error) = once_in_namespaces(script, &config, &[]);
    assert!(values.contains("custom.naughty.good"), "{error}");
    assert_eq!(error.matches("its file system does not answer").count(), 10, "{error}");
}

#[test]
fn each_interface_of_wasi_is_linked_and_denied() {
    let server = hostile::silent();
    let home = Home::with(&naughty("wasi", &format!(", url = \"127.0.0.1:{}\"", server.port), ""));
    let error = stderr(&home.command(&["plugin", "run"], &["wasi"]));
    let expected = "failed: connect: PermissionDenied, listen: PermissionDenied, send: PermissionDenied, resolve: Uncategorized, \
                    read: NotFound, read here: NotFound, list: NotFound, write: NotFound, make: NotFound, \
                    variables: 0, arguments: 0, input: 0";
    assert!(error.contains(expected), "{error}");
    assert_eq!(server.connections(), 0);
    let error = run("exit", &naughty("exit", "", ""));
    assert!(error.contains("crashed ("), "{error}");
}

#[test]
fn sockets_and_files_of_the_machine_are_denied_and_a_secret_is_not_shown() {
    let home = Home::default();
    let socket = home.path("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let said = attempt("connect-unix", socket.to_str().unwrap(), "");
    assert!(said.contains("denied: no grant for the unix socket"), "{said}");
    assert!(listener.accept().is_err(), "the plugin connected");
    let said = attempt("read-file", "/etc/passwd", "");
    assert!(said.contains("denied: no grant for the file") && !said.contains("root:"), "{said}");
    let said = run("blame-secret", &naughty("blame-secret", ", token = \"hunter2\"", ""));
    assert!(said.contains("misconfigured") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_malicious_file_is_refused_before_it_gets_settings() {
    let home = Home::with("[plugin.metrics.big]\nwasm = \"python\"\nlimits = { component_mib = 1 }\n");
    for (name, bytes, expected) in bad_files() {
        home.drop_in(&format!("{name}.wasm"), &bytes);
        let error = stderr(&home.command(&["plugin", "inspect"], &[name]));
        assert!(error.contains(expected), "{name}: {error}");
    }
    home.drop_in("python.wasm", &std::fs::read(component("python")).unwrap());
    for (limit, expected) in [
        ("component_mib", "is larger than 1 MiB (limit `component_mib`)"),
        // Of CPU time; on a busy machine its wall-clock limit, five times as long, is often reached first.
        ("compile_seconds", "limit `compile_seconds`"),
        ("compile_mib", "(limit `compile_mib`)"),
    ] {
        home.configure(&format!("[plugin.metrics.big]\nwasm = \"python\"\nlimits = {{ {limit} = 1 }}\n"));
        let error = stderr(&home.command(&["plugin", "run"], &["big"]));
        assert!(error.contains(expected), "{limit}: {error}");
    }
}

/// The status of a compiler that has confined itself and reads.
fn confined(child: &std::process::Child) -> String {
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        // The filter is the last of what it does before it reads.
        if status.contains("Seccomp:\t2") {
            return status;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_compiler_yields_to_everything_else_unless_someone_waits_for_it() {
    // Field 19 (proc(5)), of those after the name.
    let niceness = |process: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').collect::<Vec<_>>();
        fields[16].parse::<i32>().unwrap()
    };
    let own = niceness("self");
    for (flags, expected) in [(&[][..], (own + 10).min(19)), (&["--awaited"][..], own)] {
        let mut child = compiler(flags);
        confined(&child);
        assert_eq!(niceness(&child.id().to_string()), expected, "{flags:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn the_compiler_is_an_unprivileged_user_before_it_reads_a_byte() {
    let mut child = compiler(&[]);
    let (folder, status) = (format!("/proc/{}", child.id()), confined(&child));
    let nothing = "0000000000000000";
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{capabilities}:\t{nothing}")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(std::fs::read_to_string(format!("{folder}/oom_score_adj")).unwrap().trim(), "1000");
    if rustix::process::geteuid().is_root() {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        // A container may have a few users only.
        let user = if map.split_whitespace().eq(["0", "0", "4294967295"]) { 2_002_875_233 } else { 65_534 };
        assert!(status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")), "{status}");
        assert!(status.contains("Groups:\t \n"), "{status}");
    }
    let limits = std::fs::read_to_string(format!("{folder}/limits")).unwrap();
    for limit in ["Max open files", "Max processes", "Max file size"] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limit}");
    }
    child.stdin.take().unwrap().write_all(b"\0asm\x0d\0\x01\0").unwrap();
    assert!(child.wait_with_output().unwrap().status.success(), "it still compiles");
}

#[test]
fn a_certificate_file_that_is_not_a_regular_file_is_refused_and_control_characters_are_escaped() {
    let home = Home::default();
    let pipe = home.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    for file in [pipe.to_str().unwrap(), "/dev/zero"] {
        for tls in [format!("authority = {file:?}"), format!("certificate = {file:?}, key = {file:?}")] {
            let said = run("nothing", &naughty("nothing", "", &format!("tls = {{ {tls} }}")));
            assert!(said.contains(file) && said.contains("not a regular file"), "{said}");
        }
    }
    let said = run(
        "nothing",
        &naughty("nothing", "", "allow = [\"\\u001b[31mred\"]")
            .replace("nothing\" }", "nothing\", \"\\u001b[2J\" = 1 }"),
    );
    assert!(said.contains("unknown setting") && said.contains("\\u{1b}[2J") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn only_a_component_with_the_configured_digest_runs() {
    let about = stdout(&Home::with("").command(&["plugin", "inspect"], &[component("naughty").to_str().unwrap()]));
    let digest = about.lines().find_map(|line| line.strip_prefix("digest: ")).unwrap();
    let good = run("nothing", &naughty("nothing", "", &format!("digest = {digest:?}")));
    assert!(good.contains("naughty.good\t1"), "{good}");
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = run("nothing", &naughty("nothing", "", &format!("digest = {wrong:?}")));
    assert!(refused.contains("does not match its configured digest") && refused.contains(digest), "{refused}");
}
