//! Whoever reads what the agent prints may be stuck, and so may its disk: that stops neither collecting, nor delivery, nor the end.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mackerel_standin::{Memory, Standin};
use rustix::process::{Pid, Signal, kill_process};
use wasaba_e2e::agent::{Agent, Home, stdout};
use wasaba_e2e::{SOON, wasaba};

const KEY: &str = "the-key-of-the-tests";

/// A pipe that takes nothing more, since no one reads it.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut filled = 0;
    while let Ok(written) = writer.write(b"x") {
        filled += written;
    }
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer, filled)
}

/// The agent with these streams; killed when dropped.
struct Running(Child);

impl Running {
    fn start(home: &Home, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(wasaba());
        command.arg("-conf").arg(home.config()).arg("-v").stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Self(command.spawn().unwrap())
    }

    fn stop(&self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < SOON, "it still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn home(standin: &Standin) -> Home {
    Home::with(&format!("apikey = {KEY:?}\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url()))
}

#[tokio::test]
async fn a_log_that_is_not_read_stops_neither_delivery_nor_the_end() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = home(&standin);
    let (_unread, stderr, _) = full_pipe();
    let mut agent = Running::start(&home, Stdio::null(), stderr);
    standin.wait_until(SOON, "values", |memory| !memory.points().is_empty()).await.unwrap();
    let put = |memory: &Memory| memory.hosts().first().is_some_and(|host| host.puts > 0);
    standin.wait_until(SOON, "the description", put).await.unwrap();
    assert!(stdout(&home.command(&["health"], &[])).contains("the agent is working"));
    agent.stop();
    assert!(agent.ended().await.success());
}

#[tokio::test]
async fn a_log_that_is_read_late_is_complete_and_in_order() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = home(&standin);
    let (mut late, stderr, filled) = full_pipe();
    let mut agent = Running::start(&home, Stdio::null(), stderr);
    standin.wait_until(SOON, "values", |memory| !memory.points().is_empty()).await.unwrap();
    let read = std::thread::spawn(move || {
        let mut log = Vec::new();
        late.read_to_end(&mut log).unwrap();
        String::from_utf8(log.split_off(filled)).unwrap()
    });
    agent.stop();
    assert!(agent.ended().await.success());
    let log = read.join().unwrap();
    let places = ["posts to ", "this machine is host ", "stopped; points since this queue was created"]
        .map(|text| log.find(text));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{log}");
    assert!(log.ends_with('\n') && !log.contains("dropped"), "{log}");
}

#[tokio::test]
async fn values_that_are_not_read_in_local_mode_stop_neither_collecting_nor_the_end() {
    let home = Home::with("");
    let (_unread, stdout_pipe, _) = full_pipe();
    let mut agent = Running::start(&home, stdout_pipe, Stdio::null());
    let begin = Instant::now();
    // It answers after it has printed.
    loop {
        let output = home.command(&["status"], &["--json"]);
        let status = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default();
        if status.pointer("/queue/points").and_then(serde_json::Value::as_u64) > Some(0) {
            break;
        }
        assert!(begin.elapsed() < SOON, "{status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(stdout(&home.command(&["health"], &[])).contains("without an API key nothing is posted"));
    agent.stop();
    assert!(agent.ended().await.success());
}

/// A file system that is frozen; in the mount namespace of this process, with which it ends.
struct Frozen {
    process: u32,
    folder: PathBuf,
}

impl Frozen {
    /// Lets it go on.
    fn thaw(&self) -> bool {
        let folder = format!("/proc/{}/root{}", self.process, self.folder.display());
        Command::new("fsfreeze").args(["--unfreeze", &folder]).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Frozen {
    /// Else the agent could not even be killed.
    fn drop(&mut self) {
        self.thaw();
    }
}

#[tokio::test]
async fn a_known_host_whose_disk_is_frozen_from_the_start_posts_and_runs_programs_and_writes_once_it_answers() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::without_compiled();
    let program = "printf 'frozen.good\\t1\\t%s\\n' $(date +%s)";
    home.configure(&format!(
        "apikey = {KEY:?}\napibase = {:?}\ncloud_platform = \"none\"\n[plugin.metrics.frozen]\ncommand = {program:?}\n",
        standin.url()
    ));
    let has = |name: &'static str| move |memory: &Memory| memory.points().iter().any(|point| point.name == name);
    let mut first = home.start(&[]);
    standin.wait_until(SOON, "its first values", has("custom.frozen.good")).await.unwrap();
    first.signal(Signal::TERM);
    assert!(first.ended(SOON).success());
    let (image, folder, before) = (home.path("image"), home.root(), home.path("before"));
    std::fs::rename(&folder, &before).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap().success());
    let script = "mount -o loop \"$1\" \"$2\"; cp -a \"$3\"/. \"$2\"; fsfreeze --freeze \"$2\"; shift 3; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).args([&image, &folder, &before]).arg(wasaba());
    let mut agent = Agent::spawn({
        command.arg("-conf").arg(home.config()).stdin(Stdio::null());
        command
    });
    let frozen = Frozen { process: agent.pid(), folder: folder.clone() };
    agent.line_with("has not answered", SOON);
    for name in ["memory.total", "custom.frozen.good"] {
        let again = move |memory: &Memory| memory.points().iter().filter(|point| point.name == name).count() > 1;
        standin.wait_until(SOON * 2, name, again).await.unwrap();
    }
    assert!(frozen.thaw());
    agent.line_with("answers again", SOON);
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    let log = agent.lines().join("\n");
    assert!(log.contains("stopped; points since this queue was created") && !log.contains("lost"), "{log}");
}
