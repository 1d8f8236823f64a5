//! Measures the agent's resource usage against its goals: `make bench`. Takes about twelve minutes, since the agent works in real
//! minutes. With the argument `collections`, only the official plugins are measured, in half a minute; with `containers`, also
//! Docker's metrics, in a few minutes. Absolute times depend on the machine and its load; compare the ratios.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot run panics with the reason")]

mod collections;
mod containers;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use collections::Collection;
use mackerel_standin::{Memory, Misbehaviour, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::{component, unix_seconds, wasaba};

/// Full minutes over which the steady state is measured.
const MINUTES: u32 = 4;
const LONG: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut missed = 0;
    let mut row = |what: &str, value: f64, goal: f64, unit: &str| {
        let verdict = if value <= goal { "met" } else { "MISSED" };
        missed += usize::from(value > goal);
        println!("{what:<52} {value:>10.2} {unit:<3} goal <= {goal:>7.2} {unit:<3} {verdict}");
    };
    row("binary size", std::fs::metadata(wasaba()).unwrap().len() as f64 / 1e6, 15.0, "MB");

    let collections = collections::all();
    for collection in &collections {
        let what = format!("CPU of one {} collection", collection.plugin);
        row(&what, collection.pulley.cpu_ms, collection.goal_ms, "ms");
    }
    if std::env::args().nth(1).as_deref() == Some("collections") {
        collections.iter().for_each(Collection::print);
        return;
    }
    let (containers, image_bytes) = containers::all(&[5, 200]);
    row("image size", image_bytes / 1e6, 20.0, "MB");
    let goal = containers[0].goal();
    row("CPU of one collection of 5 containers", containers[0].agent.cpu_ms, goal.cpu_ms, "ms");
    row("wall time of one collection of 5 containers", containers[0].agent.wall_ms, goal.wall_ms, "ms");
    if std::env::args().nth(1).as_deref() == Some("containers") {
        containers.iter().for_each(containers::Collection::print);
        return;
    }
    let exec = median((0..200).map(|_| exec_of_a_trivial_program()).collect());
    let pulley = plugin_call("pulley");
    let native = plugin_call("native");
    row("plugin call, Pulley, median wall time", pulley, 150.0, "µs");
    row("plugin call, native code, median wall time", native, 60.0, "µs");

    let nginx = Nginx::start();
    let starts = [first_post(&nginx).await, first_post(&nginx).await, first_post(&nginx).await];
    row("start to first post, precompiled plugin, median of 3", median(starts.to_vec()), 2.0, "s");
    row("dropped-in component to its first value", dropped_in(), 2.0, "s");
    row("stop while Mackerel does not answer", stop_while_mackerel_is_silent().await, 2.0, "s");
    let Steady { cpu_millis_a_minute, pss_megabytes, anonymous_megabytes } = steady_state(&nginx).await;
    row("CPU per minute of the process tree, steady state", cpu_millis_a_minute, 3.0, "ms");
    row("PSS, steady state", pss_megabytes, 8.0, "MB");
    row("anonymous memory, steady state", anonymous_megabytes, 4.0, "MB");

    let Memory1M { first, last, most, calls } = a_million_calls();
    row("growth of anonymous memory over 1,000,000 calls", last - first, 0.2, "MB");
    let Steady { cpu_millis_a_minute, pss_megabytes, anonymous_megabytes } = a_thousand_instances(&nginx).await;
    row("1,000 nginx instances: CPU per minute", cpu_millis_a_minute, 1_000.0, "ms");
    row("1,000 nginx instances: PSS", pss_megabytes, 60.0, "MB");

    println!("\nfor comparison, measured at the same time on this machine:");
    println!("  exec of /bin/true, median wall time                {exec:>10.2} µs");
    collections.iter().for_each(Collection::print);
    containers.iter().for_each(containers::Collection::print);
    println!(
        "  {calls} calls: {first:.2} MB anonymous in the second tenth, {last:.2} MB in the last, at most {most:.2} MB"
    );
    println!("  1,000 nginx instances: {anonymous_megabytes:.2} MB anonymous");
    println!("  a plugin call takes 1/{:.1} (Pulley), 1/{:.1} (native) of that exec", exec / pulley, exec / native);
    println!("  on another 2-core VM: the official agent 9-10 ms per minute, its nginx plugin 7.1 ms per exec");
    println!("\n{missed} goals missed");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Microseconds.
fn exec_of_a_trivial_program() -> f64 {
    let begin = Instant::now();
    Command::new("/bin/true").stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    begin.elapsed().as_secs_f64() * 1e6
}

/// Microseconds: a fresh instance, one call of `collect` that returns one sample without I/O, and dropping the instance.
fn plugin_call(engine: &str) -> f64 {
    let home = Home::with("");
    let file = component("naughty").display().to_string();
    let text = stdout(&home.command(&["plugin", "time"], &["-engine", engine, "-calls=5000", &file]));
    let (_, rest) = text.split_once("median ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn home(standin: &Standin, nginx: &Nginx) -> Home {
    Home::with(&format!(
        "apikey = \"key\"\napibase = {:?}\n[plugin.metrics.nginx]\nwasm = \"nginx\"\n\
         settings = {{ host = \"127.0.0.1\", port = {} }}\n",
        standin.url(),
        nginx.port
    ))
}

/// Seconds from the start of the process until Mackerel has values of the host and the precompiled plugin.
async fn first_post(nginx: &Nginx) -> f64 {
    let standin = Standin::start("key").await.unwrap();
    let home = home(&standin, nginx);
    assert!(home.command(&["plugin", "inspect"], &["nginx"]).status.success());
    let begin = Instant::now();
    let _agent = home.start(&[]);
    let both = |memory: &Memory| {
        ["memory.total", "custom.nginx.queue.waiting"]
            .iter()
            .all(|name| memory.points().iter().any(|point| point.name == *name))
    };
    standin.wait_until(LONG, "the first post", both).await.unwrap();
    begin.elapsed().as_secs_f64()
}

/// Seconds from the appearance of a precompiled component in the plugins folder until its first value.
fn dropped_in() -> f64 {
    let (home, file) = (Home::with(""), component("naughty"));
    assert!(home.command(&["plugin", "inspect"], &[file.to_str().unwrap()]).status.success());
    let agent = home.start(&[]);
    agent.line_with("loadavg1\t", LONG);
    let bytes = std::fs::read(file).unwrap();
    let begin = Instant::now();
    home.drop_in("late.wasm", &bytes);
    agent.line_with("custom.naughty.good\t", LONG);
    begin.elapsed().as_secs_f64()
}

/// Seconds from the signal until an agent that waits for a response of Mackerel has exited.
async fn stop_while_mackerel_is_silent() -> f64 {
    let standin = Standin::start("key").await.unwrap();
    standin.misbehave(Misbehaviour::NeverAnswer.at("/api/v0/tsdb"));
    let home = Home::with(&format!("apikey = \"key\"\napibase = {:?}\n", standin.url()));
    let mut agent = home.start(&[]);
    let asked = |memory: &Memory| memory.requests().iter().any(|request| request.path.ends_with("/tsdb"));
    standin.wait_until(LONG, "a post", asked).await.unwrap();
    let begin = Instant::now();
    agent.signal(Signal::TERM);
    assert!(agent.ended(LONG).success());
    begin.elapsed().as_secs_f64()
}

struct Steady {
    cpu_millis_a_minute: f64,
    pss_megabytes: f64,
    anonymous_megabytes: f64,
}

struct Memory1M {
    first: f64,
    last: f64,
    most: f64,
    calls: u32,
}

/// Megabytes of anonymous memory while one process calls a plugin a million times.
fn a_million_calls() -> Memory1M {
    const CALLS: u32 = 1_000_000;
    let (home, file) = (Home::with(""), component("naughty"));
    let mut command = Command::new(wasaba());
    command.args(["plugin", "time", "-conf"]).arg(home.config()).arg(format!("-calls={CALLS}")).arg(&file);
    let mut calling = Agent::spawn(command);
    let mut seen = Vec::new();
    while calling.lines().is_empty() && seen.len() < 6_000 {
        std::thread::park_timeout(Duration::from_millis(100));
        seen.extend(memory(calling.pid(), "Anonymous:"));
    }
    assert!(calling.ended(LONG).success());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let tenth = seen.len() / 10;
    assert!(tenth > 0, "the process exited before it could be measured");
    // The last reading may be of an exiting process.
    let (first, last) = (mean(&seen[tenth..2 * tenth]), mean(&seen[seen.len() - tenth - 1..seen.len() - 1]));
    Memory1M { first, last, most: seen.iter().copied().fold(0.0, f64::max), calls: CALLS }
}

/// Two minutes of an agent with a thousand instances of the nginx plugin, each with its own graphs.
async fn a_thousand_instances(nginx: &Nginx) -> Steady {
    let standin = Standin::start("key").await.unwrap();
    let mut config = format!("apikey = \"key\"\napibase = {:?}\n", standin.url());
    for number in 0..1_000 {
        config.push_str(&format!(
            "[plugin.metrics.n{number}]\nwasm = \"nginx\"\nkey_prefix = \"n{number}\"\n\
             settings = {{ host = \"127.0.0.1\", port = {} }}\n",
            nginx.port
        ));
    }
    let home = Home::with(&config);
    let agent = home.start(&[]);
    let all = |memory: &Memory| {
        let rates = |number| format!("custom.n{number}.requests.requests");
        memory.points().iter().any(|point| point.name == rates(0))
            && memory.points().iter().any(|point| point.name == rates(999))
    };
    standin.wait_until(LONG * 2, "the rates of all instances", all).await.unwrap();
    until_second(45).await;
    let before = cpu_of(&agent);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        until_second(45).await;
    }
    let cpu = cpu_of(&agent) - before;
    Steady {
        cpu_millis_a_minute: cpu.as_secs_f64() * 1e3 / 2.0,
        pss_megabytes: memory(agent.pid(), "Pss:").unwrap(),
        anonymous_megabytes: memory(agent.pid(), "Anonymous:").unwrap(),
    }
}

/// A value of /proc/PID/smaps_rollup, in megabytes, or nothing if the process has exited.
fn memory(pid: u32, key: &str) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// [`MINUTES`] minutes of an agent with one plugin, from second 45 to second 45, so that the posts of full minutes are included.
async fn steady_state(nginx: &Nginx) -> Steady {
    let standin = Standin::start("key").await.unwrap();
    let home = home(&standin, nginx);
    let mut agent = home.start(&[]);
    let rates = |memory: &Memory| memory.points().iter().any(|point| point.name == "cpu.user.percentage");
    standin.wait_until(LONG, "the second minute", rates).await.unwrap();
    until_second(45).await;
    let before = cpu_of(&agent);
    for _ in 0..MINUTES {
        tokio::time::sleep(Duration::from_secs(20)).await;
        until_second(45).await;
    }
    let cpu = cpu_of(&agent) - before;
    let steady = Steady {
        cpu_millis_a_minute: cpu.as_secs_f64() * 1e3 / f64::from(MINUTES),
        pss_megabytes: memory(agent.pid(), "Pss:").unwrap(),
        anonymous_megabytes: memory(agent.pid(), "Anonymous:").unwrap(),
    };
    agent.signal(Signal::TERM);
    assert!(agent.ended(LONG).success());
    steady
}

/// Waits until this second of the minute.
async fn until_second(second: u32) {
    let now = unix_seconds() % 60.0;
    tokio::time::sleep(Duration::from_secs_f64((f64::from(second) - now).rem_euclid(60.0))).await;
}

/// CPU time of the process so far, including threads and children that have exited.
fn cpu_of(agent: &Agent) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
    // Fields 16 and 17 (proc(5)): the children, in ticks of 10 ms, which suffices since the steady state has none.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').collect::<Vec<_>>();
    let ticks = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    process_clock(agent.pid()) + Duration::from_millis(ticks * 10)
}

/// The CPU clock of a whole process, to the nanosecond; /proc/PID/stat has only ticks of 10 ms.
fn process_clock(pid: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "no safe crate offers the clock of another process")]
    // SAFETY: both calls only write to the two local variables.
    let result = unsafe {
        let found = libc::clock_getcpuclockid(i32::try_from(pid).unwrap(), &raw mut clock);
        if found == 0 { libc::clock_gettime(clock, &raw mut time) } else { found }
    };
    assert_eq!(result, 0, "the process has no clock");
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}
