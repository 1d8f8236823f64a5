//! Misbehaving plugins and hostile servers. Each affects only itself, and the log names the limit or the missing grant that stopped
//! it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use wasaba_e2e::agent::{Home, stderr, stdout};
use wasaba_e2e::hostile::{self, Server};
use wasaba_e2e::{compiled, component, wasaba};

/// What the plugin `naughty` does wrong without a server, and the expected output.
pub(crate) const MISBEHAVIOURS: &[(&str, &str)] = &[
    ("loop", "limit `compute_ms`"),
    ("sleep", "timed out after 2 s and was stopped (limit `timeout_seconds`)"),
    ("abort", "crashed ("),
    ("trap", "attempt to divide by zero"),
    ("recursion", "limit `stack_kib`"),
    ("memory", "more memory than the 64 MiB allowed (limit `memory_mib`)"),
    ("many-samples", "20000 samples, more than 1000 (limit `samples`)"),
    ("million-samples", "limit `handover_kib`"),
    ("long-name", "limit `handover_kib`"),
    ("long-error", "failed: xxx"),
    ("bad-samples", "is not a finite number"),
    ("flood", "dropped 984 more log lines of this call (limit `log_lines`)"),
    ("flood-stderr", "line 9999)"),
    ("hoard-values", "limit `kv_kib`"),
    ("derive", "limit `pbkdf2_iterations`"),
    ("scan", "no grant for 127.0.0.1:1024"),
];

pub(crate) fn naughty(what: &str, settings: &str, table: &str) -> String {
    let wasm = component("naughty");
    format!(
        "[plugin.metrics.{what}]\nwasm = {wasm:?}\nsettings = {{ do = {what:?}{settings} }}\ntimeout_seconds = 2\n\
         {table}\n"
    )
}

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
    for (what, expected) in MISBEHAVIOURS {
        // The others get plenty of time, so that none times out first on a busy machine.
        let config = match *what {
            "sleep" => naughty(what, "", ""),
            "loop" => naughty(what, "", "limits = { compute_ms = 300 }").replace("_seconds = 2\n", "_seconds = 50\n"),
            // A million samples do not fit into the usual memory.
            "million-samples" => naughty(what, "", "limits = { compute_ms = 40000, memory_mib = 1024 }")
                .replace("_seconds = 2\n", "_seconds = 50\n"),
            _ => naughty(what, ", token = \"any\"", "limits = { compute_ms = 40000 }")
                .replace("_seconds = 2\n", "_seconds = 50\n"),
        };
        let said = run(what, &config);
        assert!(said.contains(expected), "{what}: {}", said.chars().take(2_000).collect::<String>());
        assert!(said.len() < 40_000, "{what} logs {} bytes", said.len());
        assert!(!said.contains('\u{1b}'), "{what} prints an escape character");
    }
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
    }
    assert_eq!(secret.connections(), 0);
}

#[test]
fn a_name_that_later_resolves_to_this_machine_or_to_a_metadata_service_is_denied() {
    let table = "allow = [\"http://rebinds.test:8080\"]";
    let home = Home::with(&naughty("fetch", ", url = \"http://rebinds.test:8080/\"", table));
    let resolver = home.path("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n").unwrap();
    // In separate namespaces, so that the name server and the resolver configuration affect no other process.
    let script = "ip link set lo up && ip address add 10.99.0.1/32 dev lo && mount --bind \"$0\" /etc/resolv.conf \
                  && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", script]).arg(resolver);
    command.arg(env!("CARGO_BIN_EXE_rebinding")).arg("10.99.0.1,127.0.0.1,169.254.169.254,10.99.0.1");
    command.arg(wasaba()).args(["plugin", "run", "-conf"]).arg(home.config()).arg("fetch");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs unshare, ip and the permission to create namespaces: {error}");
    let text = stdout(&output);
    let lines = text.lines().collect::<Vec<_>>();
    let expected = [
        ("10.99.0.1: ", "naughty.good\t200.000000"),
        ("127.0.0.1: ", "denied: `rebinds.test` resolves to 127.0.0.1, which is this machine itself"),
        ("169.254.169.254: ", "denied: `rebinds.test` resolves to 169.254.169.254, a link-local address"),
        ("10.99.0.1: ", "naughty.good\t200.000000"),
        ("reached: ", "[10.99.0.1, 10.99.0.1]"),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (begin, part)) in lines.iter().zip(expected) {
        assert!(line.starts_with(begin) && line.contains(part), "{part} in {text}");
    }
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

/// A component whose core module has `fields`; it has the names of the contract's exports, but not their types.
fn shell(fields: &str) -> Vec<u8> {
    let text = format!(
        "(component
           (core module $m {fields} (func (export \"f\")))
           (core instance $i (instantiate $m))
           (func $f (canon lift (core func $i \"f\")))
           (instance $plugin (export \"describe\" (func $f)))
           (instance $metrics (export \"graphs\" (func $f)) (export \"collect\" (func $f)))
           (export \"wasaba:plugin/about@0.2.0\" (instance $plugin))
           (export \"wasaba:plugin/metrics@0.2.0\" (instance $metrics)))"
    );
    wat::parse_str(text).unwrap()
}

/// A component with as many core instances of a module with `fields`.
fn instances(fields: &str, count: usize) -> Vec<u8> {
    let component = wat::parse_str(format!(
        "(component (core module $g {fields}) {} (core module $m (func (export \"f\"))) (core instance (instantiate $m)))",
        "(core instance (instantiate $g))".repeat(count)
    ));
    component.unwrap()
}

/// A component that imports a function of this name, whose type it does not say right: the compiler quotes it.
fn imports(name: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (import \"{name}\" (func)) (import \"{name}\" (func)))")).unwrap()
}

/// Files that are not valid plugins: name, content, and the expected error.
pub(crate) fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let foreign = "(component (import \"evil:corp/everything@1.0.0\" (instance)))";
    let foreign = [foreign, &foreign.replace("evil:corp/everything@1.0.0", "wasi:sockets/tcp@0.3.0")];
    let [corp, wasi] = foreign.map(|import| {
        // With the contract's exports, so that only the import is wrong.
        let shell = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i \"f\"))) (instance $p (export \"describe\" (func $f)))
            (instance $q (export \"graphs\" (func $f)) (export \"collect\" (func $f)))
            (export \"wasaba:plugin/about@0.2.0\" (instance $p)) (export \"wasaba:plugin/metrics@0.2.0\" (instance $q)))";
        wat::parse_str(format!("{}{shell}", import.strip_suffix(')').unwrap())).unwrap()
    });
    vec![
        (
            "tables",
            shell("(table 10000000 funcref)"),
            "table elements to start, more than 100000 (limit `table_elements`)",
        ),
        (
            "two-tables",
            shell("(table 60000 funcref) (table 60000 funcref)"),
            "table elements to start, more than 100000 (limit `table_elements`)",
        ),
        ("memory", shell("(memory 65536)"), "MiB of memory to start, more than 64 (limit `memory_mib`)"),
        ("memories", shell("(memory 600) (memory 600)"), "MiB of memory to start, more than 64 (limit `memory_mib`)"),
        ("globals", instances(&"(global i32 (i32.const 0))".repeat(20_000), 150), "MiB of memory to start, more than"),
        ("instances", instances("", 201), "has 202 core instances, more than 200 (limit `instances`)"),
        ("long-name", imports(&"x".repeat(99_000)), "xxx"),
        ("start", shell("(func $s (loop br 0)) (start $s)"), "cannot describe itself: "),
        ("types", shell(""), "does not match the contract wasaba:plugin@0.2.0"),
        ("corp", corp, "imports `evil:corp/everything@1.0.0`, which this agent does not have"),
        ("wasi", wasi, "imports `wasi:sockets/tcp@0.3.0`, which this agent does not have"),
        ("loops", std::fs::read(component("loops")).unwrap(), "cannot describe itself: "),
        ("evil", machine_code(), "is machine code"),
    ]
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

/// The native code that the agent compiles a component to, which it trusts only in its own folder.
fn machine_code() -> Vec<u8> {
    let mut child = compiler();
    child.stdin.take().unwrap().write_all(&std::fs::read(component("everything")).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    // What the component needs comes first.
    let (_, code) = output.stdout.split_at_checked(24).unwrap();
    assert!(output.status.success() && !code.is_empty());
    code.to_vec()
}

/// The agent's compiler, which waits for a component.
fn compiler() -> Child {
    let mut command = Command::new(wasaba());
    command.args(["plugin", "compiler", "--engine=pulley", "--cpu-seconds=60", "--memory-bytes=2147483648"]);
    command.args(["--instances=200", "--start-bytes=67108864", "--table-elements=100000"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_compiler_is_an_unprivileged_user_before_it_reads_a_byte() {
    let mut child = compiler();
    let folder = format!("/proc/{}", child.id());
    let status = loop {
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        // The filter is the last of what it does before it reads.
        if status.contains("Seccomp:\t2") {
            break status;
        }
        std::thread::yield_now();
    };
    let nothing = "0000000000000000";
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{capabilities}:\t{nothing}")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(std::fs::read_to_string(format!("{folder}/oom_score_adj")).unwrap().trim(), "1000");
    if rustix::process::geteuid().is_root() {
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534") && status.contains("Groups:\t \n"), "{status}");
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
