//! Measures the agent's resource usage against its goals: `make bench`. Takes about twenty minutes, since the agent works in real
//! minutes. `make bench ONLY=PART` measures one part: `collections` (the official plugins), `containers` (Docker's metrics), `agent`
//! (its start, stop and steady state), `outage` (a day of it), `fairness` (plugins that wait beside some that compute), `calls` (a million of them),
//! `languages` (a plugin in each), `instances` (a thousand). With `BEFORE=FOLDER`, a target folder of another release, its calls are compared. Absolute times depend
//! on the machine and its load; compare the ratios.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot run panics with the reason")]

mod calls;
mod collections;
mod containers;
mod fairness;
mod languages;
mod outage;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use collections::Collection;
use mackerel_standin::{Memory, Misbehaviour, Standin};
use rustix::process::Signal;
use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::nginx::Nginx;
use wasaba_e2e::zoo::memory_mb;
use wasaba_e2e::{component, unix_seconds, wasaba};

/// Full minutes over which the steady state is measured.
const MINUTES: u32 = 4;
const LONG: Duration = Duration::from_secs(120);

/// The table of goals.
#[derive(Default)]
struct Goals {
    missed: u32,
}

impl Goals {
    fn row(&mut self, what: &str, value: f64, goal: f64, unit: &str) {
        let verdict = if value <= goal { "met" } else { "MISSED" };
        self.missed += u32::from(value > goal);
        println!("{what:<52} {value:>10.2} {unit:<3} goal <= {goal:>7.2} {unit:<3} {verdict}");
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let only = std::env::args().nth(1);
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let mut goals = Goals::default();
    if wants("collections") {
        of_collections(&mut goals);
    }
    if wants("containers") {
        of_containers(&mut goals);
    }
    if wants("agent") {
        of_the_agent(&mut goals).await;
    }
    if wants("outage") {
        of_an_outage(&mut goals).await;
    }
    if wants("fairness") {
        of_fairness(&mut goals).await;
    }
    if wants("calls") {
        of_calls(&mut goals);
    }
    if wants("languages") {
        languages::all(|what, value, goal, unit| goals.row(what, value, goal, unit));
    }
    if wants("before")
        && let Some(before) = std::env::var_os("BEFORE")
    {
        of_another_release(&mut goals, &PathBuf::from(before));
    }
    if wants("instances") {
        of_instances(&mut goals).await;
    }
    println!("\n{} goals missed", goals.missed);
}

fn of_collections(goals: &mut Goals) {
    let collections = collections::all();
    for collection in &collections {
        let what = format!("CPU of one {} collection", collection.plugin);
        goals.row(&what, collection.pulley.cpu_ms, collection.goal_ms, "ms");
    }
    collections.iter().for_each(Collection::print);
}

fn of_containers(goals: &mut Goals) {
    let (containers, image_bytes) = containers::all(&[5, 200]);
    goals.row("image size", image_bytes / 1e6, 20.0, "MB");
    let goal = containers[0].goal();
    goals.row("CPU of one collection of 5 containers", containers[0].agent.cpu_ms, goal.cpu_ms, "ms");
    goals.row("wall time of one collection of 5 containers", containers[0].agent.wall_ms, goal.wall_ms, "ms");
    containers.iter().for_each(containers::Collection::print);
}

async fn of_the_agent(goals: &mut Goals) {
    goals.row("binary size", std::fs::metadata(wasaba()).unwrap().len() as f64 / 1e6, 15.0, "MB");
    let exec = median((0..200).map(|_| exec_of_a_trivial_program()).collect());
    let pulley = plugin_call("pulley");
    let native = plugin_call("native");
    goals.row("plugin call, Pulley, median wall time", pulley, 150.0, "µs");
    goals.row("plugin call, native code, median wall time", native, 60.0, "µs");
    println!("  exec of /bin/true: {exec:.2} µs, so a call takes 1/{:.1}, 1/{:.1} of it", exec / pulley, exec / native);
    let nginx = Nginx::start();
    let starts = [first_post(&nginx).await, first_post(&nginx).await, first_post(&nginx).await];
    goals.row("start to first post, precompiled plugin, median of 3", median(starts.to_vec()), 2.0, "s");
    goals.row("dropped-in component to its first value", dropped_in(), 2.0, "s");
    goals.row("stop while Mackerel does not answer", stop_while_mackerel_is_silent().await, 2.0, "s");
    let Steady { cpu_millis_a_minute, pss_megabytes, anonymous_megabytes } = steady_state(&nginx).await;
    goals.row("CPU per minute of the process tree, steady state", cpu_millis_a_minute, 3.0, "ms");
    goals.row("PSS, steady state", pss_megabytes, 8.0, "MB");
    goals.row("anonymous memory, steady state", anonymous_megabytes, 4.0, "MB");
    println!("  on another 2-core VM: the official agent 9-10 ms per minute, its nginx plugin 7.1 ms per exec");
}

async fn of_an_outage(goals: &mut Goals) {
    let outage::Outage { queue_mb, seconds, requests, points, anonymous_mb, anonymous_before_mb } =
        outage::a_day(3_000).await;
    goals.row("queue of a day of 3,000 metrics", queue_mb, 33.55, "MB");
    goals.row("  more anonymous memory while it is delivered", anonymous_mb - anonymous_before_mb, 8.0, "MB");
    goals.row("  requests, of up to 5,000 values", requests as f64, points as f64 / 5_000.0 * 1.25, "");
    println!("  {points} values in {seconds:.0} s, {:.0} a second", points as f64 / seconds);
}

async fn of_fairness(goals: &mut Goals) {
    let (alone, beside) = fairness::all().await;
    println!("  20 short waits alone: {alone:.1} ms");
    for beside in beside {
        goals.row(&beside.what(), beside.waiting_ms, beside.goal_ms(alone), "ms");
        goals.row("  its longest call outlasts the limit of 10 s by", beside.outlasted_ms(), 1_020.0, "ms");
    }
}

fn of_calls(goals: &mut Goals) {
    let slices = calls::a_million();
    for (number, slice) in slices.iter().enumerate() {
        let calls::Slice { pss_mb, anonymous_mb, descriptors, micros } = slice;
        println!(
            "  tenth {} of 1,000,000 calls: {micros:.1} µs, {pss_mb:.2} MB PSS, {anonymous_mb:.2} MB anonymous, \
             {descriptors:.0} file descriptors",
            number + 1
        );
    }
    // The first warms up.
    let (second, last) = (slices[1], slices[9]);
    goals.row("1,000,000 calls: growth of anonymous memory", last.anonymous_mb - second.anonymous_mb, 0.2, "MB");
    goals.row("1,000,000 calls: growth of PSS", last.pss_mb - second.pss_mb, 0.2, "MB");
    goals.row("1,000,000 calls: more file descriptors", last.descriptors - second.descriptors, 0.0, "");
    let later = median(slices[5..].iter().map(|slice| slice.micros).collect());
    let earlier = median(slices[..5].iter().map(|slice| slice.micros).collect());
    goals.row("1,000,000 calls: the later half beside the earlier", later / earlier, 1.1, "");
}

fn of_another_release(goals: &mut Goals, before: &std::path::Path) {
    calls::compare(before, |compared| {
        goals.row(&format!("{}, beside before", compared.what), compared.ratio(), 1.0 + compared.spread(), "");
        compared.print();
    });
}

async fn of_instances(goals: &mut Goals) {
    let (steady, slowest_ms) = a_thousand_instances(&Nginx::start()).await;
    goals.row("1,000 nginx instances: wall time of a minute", slowest_ms, 1_000.0, "ms");
    goals.row("1,000 nginx instances: CPU per minute", steady.cpu_millis_a_minute, 1_000.0, "ms");
    goals.row("1,000 nginx instances: PSS", steady.pss_megabytes, 60.0, "MB");
    println!("  1,000 nginx instances: {:.2} MB anonymous", steady.anonymous_megabytes);
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

/// Two minutes of an agent with a thousand instances of the nginx plugin, each with its own graphs; and how long the slowest collection
/// of the last minute took, from its beginning on, in milliseconds.
async fn a_thousand_instances(nginx: &Nginx) -> (Steady, f64) {
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
    let steady = Steady {
        cpu_millis_a_minute: cpu.as_secs_f64() * 1e3 / 2.0,
        pss_megabytes: memory_mb(agent.pid(), "Pss:").unwrap(),
        anonymous_megabytes: memory_mb(agent.pid(), "Anonymous:").unwrap(),
    };
    let report = stdout(&home.command(&["plugin", "list"], &["-json"]));
    let report = serde_json::from_str::<serde_json::Value>(&report).unwrap();
    let collectors = report["collectors"].as_array().unwrap().iter();
    (steady, collectors.filter_map(|collector| collector["took_ms"].as_f64()).fold(0.0, f64::max))
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
        pss_megabytes: memory_mb(agent.pid(), "Pss:").unwrap(),
        anonymous_megabytes: memory_mb(agent.pid(), "Anonymous:").unwrap(),
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
