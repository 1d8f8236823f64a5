//! The cost of one collection of each official plugin on a live server, compared with programs that query the same once.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use wasaba_e2e::agent::Home;
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::postgres::Postgres;
use wasaba_e2e::redis::Redis;
use wasaba_e2e::wasaba;

/// The cost of some work, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu_ms: f64,
    pub(crate) wall_ms: f64,
}

/// A plugin, and the cost of one collection.
pub(crate) struct Collection {
    pub(crate) plugin: &'static str,
    /// In the agent, interpreted.
    pub(crate) pulley: Cost,
    /// In the agent, as native code.
    pub(crate) native: Cost,
    /// Programs that query the same server once: their names and costs.
    pub(crate) programs: Vec<(String, Cost)>,
    /// The goal for the agent's CPU time: a fiftieth of the official program's, as measured on another machine.
    pub(crate) goal_ms: f64,
}

impl Collection {
    /// Prints the details, one line per program.
    pub(crate) fn print(&self) {
        let Self { plugin, pulley, native, programs, .. } = self;
        println!(
            "  {plugin}: in the agent {:.3} ms CPU, {:.2} ms wall; as native code {:.3} ms, {:.2} ms",
            pulley.cpu_ms, pulley.wall_ms, native.cpu_ms, native.wall_ms
        );
        for (name, program) in programs {
            println!(
                "    vs. {name}, {:.2} ms CPU, {:.2} ms wall: 1/{:.1} of its CPU, 1/{:.1} of its wall; as native code 1/{:.1}, 1/{:.1}",
                program.cpu_ms,
                program.wall_ms,
                program.cpu_ms / pulley.cpu_ms,
                program.wall_ms / pulley.wall_ms,
                program.cpu_ms / native.cpu_ms,
                program.wall_ms / native.wall_ms
            );
        }
    }
}

/// Measures all plugins, and the official programs in the folder `OFFICIAL_PLUGINS`, if it is set.
pub(crate) fn all() -> Vec<Collection> {
    let (nginx, redis) = (Nginx::start(), Redis::start("", &[]));
    let postgres = Postgres::start("", "host all monitor 127.0.0.1/32 scram-sha-256");
    postgres.run("CREATE ROLE monitor LOGIN PASSWORD 'secret'; GRANT pg_monitor TO monitor");
    let status = format!("http://127.0.0.1:{}/nginx_status", nginx.port);
    let (nginx_port, redis_port, postgres_port) =
        (nginx.port.to_string(), redis.port.to_string(), postgres.port.to_string());
    let mut psql = postgres.client("psql");
    psql.args(["-XAtq", "-c", PSQL, "postgres"]);
    let mut cli = Command::new("redis-cli");
    cli.args(["-p", &redis_port, "INFO"]);
    let mut curl = Command::new("curl");
    curl.args(["-s", &status]);
    let flags = |port: &str, more: &[&str]| {
        let all = [&["-port", port], more].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    vec![
        collection("nginx", &flags(&nginx_port, &["-host=127.0.0.1"]), ("curl", curl), 7.1 / 50.0),
        collection("redis", &flags(&redis_port, &["-host=127.0.0.1"]), ("redis-cli", cli), 8.7 / 50.0),
        collection(
            "postgres",
            &flags(&postgres_port, &["-hostname=127.0.0.1", "-user=monitor", "-password=secret", "-database=postgres"]),
            ("psql", psql),
            9.2 / 50.0,
        ),
    ]
}

/// The queries of the plugin, for psql.
const PSQL: &str = "SELECT state, wait_event IS NOT NULL, count(*) FROM pg_stat_activity WHERE state IS NOT NULL GROUP BY 1, 2; \
     SELECT sum(xact_commit), sum(xact_rollback), sum(blks_read), sum(blks_hit), sum(tup_returned) FROM pg_stat_database; \
     SELECT sum(pg_database_size(oid)) FROM pg_database; SELECT pg_is_in_recovery(), pg_current_wal_lsn()";

fn collection(plugin: &'static str, flags: &[String], (name, program): (&str, Command), goal_ms: f64) -> Collection {
    let mut programs = vec![(name.to_owned(), program_cost(program))];
    if let Some(folder) = std::env::var_os("OFFICIAL_PLUGINS").map(PathBuf::from) {
        let home = tempfile::tempdir().unwrap();
        let mut official = Command::new(folder.join(format!("mackerel-plugin-{plugin}")));
        official.args(flags).env("MACKEREL_PLUGIN_WORKDIR", home.path());
        programs.push((format!("mackerel-plugin-{plugin}"), program_cost(official)));
    }
    let [pulley, native] = ["pulley", "native"].map(|engine| agent_cost(plugin, flags, engine));
    Collection { plugin, pulley, native, programs, goal_ms }
}

/// The mean of many executions, without the first.
fn program_cost(mut command: Command) -> Cost {
    const TIMES: u32 = 40;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = || assert!(command.status().unwrap().success(), "{command:?}");
    run();
    let cost = cost(|| (0..TIMES).for_each(|_| run()));
    Cost { cpu_ms: cost.cpu_ms / f64::from(TIMES), wall_ms: cost.wall_ms / f64::from(TIMES) }
}

/// The cost of an additional call in a process that calls the plugin repeatedly, as the agent does every minute.
fn agent_cost(plugin: &str, flags: &[String], engine: &str) -> Cost {
    const MORE: f64 = 1_000.0;
    let home = Home::with("");
    let time = |calls: &str| {
        let mut command = Command::new(wasaba());
        command.args(["plugin", "time", "-conf"]).arg(home.config()).args(["-engine", engine, "-calls", calls, plugin]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "{command:?}");
    };
    time("1"); // compiles it
    let (few, many) = (cost(|| time("100")), cost(|| time("1100")));
    Cost { cpu_ms: (many.cpu_ms - few.cpu_ms) / MORE, wall_ms: (many.wall_ms - few.wall_ms) / MORE }
}

/// The cost of some work in child processes, which must have exited at its end.
pub(crate) fn cost(work: impl FnOnce()) -> Cost {
    let (begin, before) = (Instant::now(), children_cpu_ms());
    work();
    Cost { cpu_ms: children_cpu_ms() - before, wall_ms: begin.elapsed().as_secs_f64() * 1e3 }
}

/// CPU time of all child processes that have exited.
fn children_cpu_ms() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    #[expect(
        unsafe_code,
        reason = "std and rustix have no getrusage; the struct is plain numbers, all of which it fills"
    )]
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}
