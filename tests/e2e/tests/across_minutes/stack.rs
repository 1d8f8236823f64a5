//! The stack of `examples/mastodon`, started by docker-compose in a real engine, with images made of Debian's nginx, PostgreSQL and
//! Redis.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use wasaba_e2e::docker::{Engine, Root};

const KEY: &str = "the-key-of-the-tests";
const PASSWORD: &str = "hunter2";
/// The time until the values of the second minute, including the start of everything.
const LONG: Duration = Duration::from_secs(240);

/// nginx like in the official image: its configuration includes `conf.d`.
fn nginx(root: &Root) {
    root.busybox();
    root.program("/usr/sbin/nginx");
    root.write(
        "/etc/nginx/nginx.conf",
        "user root;\nevents {}\nhttp { access_log off; include /etc/nginx/conf.d/*.conf; }\n",
    );
    for folder in ["/etc/nginx/conf.d", "/var/log/nginx", "/var/lib/nginx", "/run"] {
        root.folder(folder);
    }
}

/// PostgreSQL like in the official image: the first start creates the user and the database that the environment names.
fn postgres(root: &Root) {
    root.busybox();
    let programs = wasaba_e2e::postgres::programs();
    for program in ["initdb", "postgres", "psql"] {
        root.program(&programs.join(program).display().to_string());
    }
    root.tree(&programs.parent().unwrap().join("lib").display().to_string());
    let version = programs.parent().unwrap().file_name().unwrap().to_str().unwrap();
    root.tree(&format!("/usr/share/postgresql/{version}"));
    for folder in ["/var/lib/postgresql/data", "/var/run/postgresql", "/run/postgresql", "/dev/shm"] {
        root.folder(folder);
    }
    root.write(
        "/start",
        &format!(
            "#!/bin/sh\nset -e\nexport PATH={}:/bin PGDATA=/var/lib/postgresql/data/own\n\
         if [ ! -d $PGDATA ]; then\n\
         echo $POSTGRES_PASSWORD >/tmp/password\n\
         initdb -U $POSTGRES_USER --pwfile /tmp/password -A scram-sha-256 --no-sync --locale=C -E UTF8\n\
         echo 'host all all all scram-sha-256' >>$PGDATA/pg_hba.conf\n\
         echo \"CREATE DATABASE $POSTGRES_DB\" | postgres --single postgres\n\
         fi\n\
         exec postgres -c listen_addresses='*' -c fsync=off -c dynamic_shared_memory_type=mmap\n",
            programs.display()
        ),
    );
}

fn psql() -> String {
    wasaba_e2e::postgres::programs().join("psql").display().to_string()
}

fn redis(root: &Root) {
    root.busybox();
    root.program("/usr/bin/redis-server");
    root.folder("/data");
}

/// Runs docker-compose in the example's folder, with these variables.
fn compose(engine: &Engine, variables: &[(&str, &str)], words: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mastodon");
    let mut command = Command::new("docker-compose");
    command.args(["--project-name", "stack"]).args(words).current_dir(folder).env("DOCKER_HOST", engine.host());
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("docker-compose, from tests/setup.sh servers");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker-compose {}: {errors}", words.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Stops and removes the stack when dropped.
struct Down<'a>(&'a Engine, Vec<(&'a str, &'a str)>);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        compose(self.0, &self.1, &["down", "--volumes", "--timeout", "5"]);
    }
}

#[tokio::test]
async fn the_example_stack_posts_the_host_its_containers_and_the_servers_in_them() {
    let engine = Engine::start(&[]);
    engine.wasaba();
    engine.busybox();
    engine.image("stack-nginx", &["CMD [\"/usr/sbin/nginx\", \"-g\", \"daemon off;\"]"], nginx);
    engine.image("stack-postgres", &["USER postgres", "CMD [\"/start\"]"], postgres);
    let command =
        "CMD [\"/usr/bin/redis-server\", \"--bind\", \"0.0.0.0\", \"--protected-mode\", \"no\", \"--dir\", \"/data\"]";
    engine.image("stack-redis", &[command], redis);
    let standin = Standin::start_with(engine.listener(0), KEY, Memory::default()).await.unwrap();

    let (group, socket) = (engine.socket_group().to_string(), engine.socket().display().to_string());
    let mut variables = vec![
        ("NGINX_IMAGE", "stack-nginx"),
        ("POSTGRES_IMAGE", "stack-postgres"),
        ("REDIS_IMAGE", "stack-redis"),
        ("APP_IMAGE", "busybox"),
        ("APP_COMMAND", "httpd -f -p 3000 -h /etc"),
        ("POSTGRES_PASSWORD", PASSWORD),
        ("MACKEREL_APIKEY", KEY),
        ("DOCKER_GID", &group),
        ("DOCKER_SOCKET", &socket),
        // Without `rslave`, which fails if / is not a shared mount.
        ("HOST_MOUNT", "/:/host:ro"),
        ("HTTP_PORT", "8080"),
        ("WASABA_AUTO_RETIREMENT", "1"),
    ];
    // Creates the network with its gateway, and starts the database, whose first start takes a while.
    compose(&engine, &variables, &["up", "--detach", "db"]);
    let query = [
        "exec",
        "--env",
        "PGPASSWORD=hunter2",
        "stack_db_1",
        &psql(),
        "-h",
        "127.0.0.1",
        "-U",
        "mastodon",
        "-c",
        "SELECT 1",
    ];
    let begin = Instant::now();
    while !engine.command(&query).status.success() {
        assert!(begin.elapsed() < LONG, "{}", engine.docker(&["logs", "stack_db_1"]));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let gateway = engine.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "stack_back"]);
    let opts = format!("-apibase=http://{gateway}:{}", standin.address().port());
    variables.push(("WASABA_OPTS", &opts));
    let down = Down(&engine, variables.clone());
    compose(&engine, &variables, &["up", "--detach"]);

    let expected = [
        "loadavg5",
        "memory.total",
        "custom.docker.memory.stack_db_1.rss",
        "custom.docker.memory.stack_mstdn-nginx_1.rss",
        "custom.docker.cpuacct_percentage.stack_wasaba_1.user",
        "custom.nginx.connections.connections",
        "custom.nginx.requests.requests",
        "custom.postgres.connections.active",
        "custom.postgres.commits.xact_commit",
        "custom.redis.clients.connected_clients",
        "custom.redis.queries.total_commands_processed",
    ];
    for name in expected {
        let there = move |memory: &Memory| memory.points().iter().any(|point| point.name == name);
        let result = standin.wait_until(LONG, name, there).await;
        result.unwrap_or_else(|why| {
            panic!("{why}\n{}", compose(&engine, &variables, &["logs", "--no-color", "wasaba", "db"]))
        });
    }
    let memory = standin.memory();
    let host = memory.hosts().first().unwrap().body.clone();
    assert_eq!(
        (host["displayName"].as_str(), &host["roleFullnames"]),
        (Some("mastodon"), &serde_json::json!(["Mastodon:stack"]))
    );
    // The application is reachable through the proxy and nginx.
    let page = engine.docker(&["exec", "stack_proxy_1", "wget", "-q", "-O", "-", "http://127.0.0.1/passwd"]);
    assert!(page.contains("root:x:0"), "{page}");
    assert_eq!(memory.refusals(), []);
    let logs = compose(&engine, &variables, &["logs", "--no-color", "wasaba"]);
    assert!(!logs.contains(KEY) && !logs.contains(PASSWORD), "{logs}");
    // The only warnings are about servers that are still starting.
    let mut warnings = logs.lines().filter(|line| line.contains("WARNING"));
    assert!(warnings.all(|line| line.contains("unreachable")) && !logs.contains("ERROR"), "{logs}");
    drop(down);
    assert!(standin.memory().hosts().first().unwrap().retired, "the stack is down, the host retired");
}
