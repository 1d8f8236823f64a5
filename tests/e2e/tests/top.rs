//! `wasaba top` in a real terminal (tmux): what it shows, its keys, its sizes, and that it leaves the terminal as it was, however it ends.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mackerel_standin::Standin;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wasaba_e2e::agent::{Agent, Home, stderr, stdout};
use wasaba_e2e::{SOON, wasaba};

const KEY: &str = "the-key-of-the-tests";

/// A terminal with a shell in it; gone when dropped.
struct Terminal {
    folder: TempDir,
}

impl Terminal {
    async fn open(variables: &str) -> Self {
        let terminal = Self { folder: tempfile::tempdir().unwrap() };
        let shell = format!("exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=screen {variables} PS1='ready> ' sh");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &shell]);
        terminal.shows("the shell", |screen| screen.contains("ready>")).await;
        terminal
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tmux.sock")
    }

    fn tmux(&self, words: &[&str]) -> String {
        stdout(&self.try_tmux(words))
    }

    fn try_tmux(&self, words: &[&str]) -> Output {
        // Without a locale of UTF-8, tmux has no such characters.
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(self.socket()).args(words).env_remove("TMUX").output().unwrap()
    }

    /// Presses keys as tmux calls them.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line.
    fn run(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Whether a program has a screen of its own, whether there is a cursor, and whether lines are wrapped.
    fn modes(&self) -> String {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}"]).trim().to_owned()
    }

    /// The screen, once `is_there` is true for it.
    async fn shows(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(begin.elapsed() < SOON, "{what}:\n{screen}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What `stty` says of the terminal.
    async fn settings(&self) -> String {
        let file = self.folder.path().join("stty");
        std::fs::remove_file(&file).ok();
        self.run(&format!("stty -a >{0}.new && mv {0}.new {0}", file.display()));
        let begin = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&file) {
                return text;
            }
            assert!(begin.elapsed() < SOON, "no stty:\n{}", self.screen());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.try_tmux(&["kill-server"]);
    }
}

fn config(standin: &Standin) -> String {
    let check = "[plugin.checks.disk]\ncommand = [\"sh\", \"-c\", \"echo nearly full; exit 2\"]\n";
    format!(
        "apikey = {KEY:?}\napibase = {:?}\ncloud_platform = \"none\"\ndisplay_name = \"web-1\"\n{check}",
        standin.url()
    )
}

fn top(home: &Home) -> String {
    format!("{} top -conf {}", wasaba().display(), home.config().display())
}

/// An agent that has delivered something.
async fn agent(standin: &Standin, home: &Home) -> Agent {
    let agent = home.start(&[]);
    standin.wait_until(SOON, "the first post", |memory| !memory.points().is_empty()).await.unwrap();
    agent
}

/// The process of `wasaba top` with this configuration.
fn process(home: &Home) -> Pid {
    let config = home.config().display().to_string();
    let is_top = |folder: &PathBuf| {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>();
        words.get(1).is_some_and(|word| word == "top") && words.iter().any(|word| *word == config)
    };
    let mut folders = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let folder = folders.find(is_top).unwrap();
    Pid::from_raw(folder.file_name().unwrap().to_str().unwrap().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn top_shows_the_agent_takes_keys_follows_the_window_and_leaves_the_terminal_as_it_was() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let _agent = agent(&standin, &home).await;
    let terminal = Terminal::open("").await;
    let (before, modes) = (terminal.settings().await, terminal.modes());
    terminal.run("echo kept");
    terminal.run(&top(&home));
    let screen = terminal.shows("the view", |screen| screen.contains("memory") && screen.contains("CRITICAL")).await;
    for part in ["web-1", "working: it last collected", "load", "disk", "nearly full", "delivery", "q quit"] {
        assert!(screen.contains(part), "{part} is missing:\n{screen}");
    }
    assert!(!screen.contains("kept"), "{screen}");
    terminal.press(&["Enter"]);
    terminal
        .shows("a metric over a day", |screen| screen.contains("Load average: 1 min, 24 h") && screen.contains("most "))
        .await;
    terminal.press(&["Escape"]);
    terminal.shows("the blocks", |screen| screen.contains("q quit")).await;
    terminal.run("m/loadavg15");
    terminal.shows("the metric that was looked for", |screen| screen.contains("Load average: 15 min, 24 h")).await;
    terminal.press(&["q"]);
    terminal.tmux(&["resize-window", "-x", "160", "-y", "45"]);
    let is_wide = |line: &str| line.starts_with('─') && line.chars().count() > 150;
    terminal.shows("a wide view", |screen| screen.lines().any(is_wide) && screen.contains("the last hour")).await;
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    terminal
        .shows("a narrow view", |screen| {
            screen.lines().filter(|line| line.starts_with('─')).all(|line| line.chars().count() == 80)
        })
        .await;
    terminal.press(&["p"]);
    terminal.shows("a frozen view", |screen| screen.contains("frozen at")).await;
    terminal.press(&["q"]);
    let screen =
        terminal.shows("the shell", |screen| screen.contains("kept") && screen.trim_end().ends_with("ready>")).await;
    assert!(!screen.contains("CRITICAL"), "{screen}");
    assert_eq!(terminal.modes(), modes);
    terminal.run("echo code $?");
    terminal.shows("success", |screen| screen.contains("code 0")).await;
    assert_eq!(terminal.settings().await, before);
}

#[tokio::test]
async fn a_signal_ends_top_and_the_terminal_is_as_it_was_and_after_a_stop_it_is_drawn_again() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let _agent = agent(&standin, &home).await;
    let terminal = Terminal::open("").await;
    let (before, modes) = (terminal.settings().await, terminal.modes());
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        terminal.run(&format!("clear; {}", top(&home)));
        terminal.shows("the view", |screen| screen.contains("q quit")).await;
        kill_process(process(&home), signal).unwrap();
        terminal.shows("the shell", |screen| screen.contains("ready>") && !screen.contains("q quit")).await;
        assert_eq!(terminal.modes(), modes, "{signal:?}");
        assert_eq!(terminal.settings().await, before, "{signal:?}");
    }
    terminal.run(&format!("clear; {}", top(&home)));
    terminal.shows("the view", |screen| screen.contains("q quit")).await;
    kill_process(process(&home), Signal::STOP).unwrap();
    terminal.shows("that it was stopped", |screen| screen.contains("[1]")).await;
    // The shell reads a terminal without its usual modes.
    terminal.press(&["f", "g", "C-j"]);
    terminal
        .shows("the view, without what the shell has written", |screen| {
            screen.contains("q quit") && !screen.contains("fg")
        })
        .await;
    terminal.press(&["?"]);
    terminal.shows("the help, after it was stopped", |screen| screen.contains("freezes what is shown")).await;
    terminal.press(&["C-c"]);
    terminal.shows("the shell", |screen| screen.contains("ready>")).await;
    assert_eq!(terminal.settings().await, before);
}

#[tokio::test]
async fn top_says_that_the_agent_has_ended_and_shows_the_one_that_takes_its_place() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let first = agent(&standin, &home).await;
    let terminal = Terminal::open("").await;
    terminal.run(&top(&home));
    terminal.shows("the view", |screen| screen.contains("working: it last collected")).await;
    first.kill();
    terminal.shows("its end", |screen| screen.contains("the agent has not answered since")).await;
    let _second = home.start(&[]);
    terminal.shows("the next one", |screen| screen.contains("the agent was restarted at")).await;
    terminal.press(&["q"]);
    terminal.shows("the shell", |screen| screen.contains("ready>")).await;
}

#[tokio::test]
async fn without_a_key_the_agent_shows_itself_with_its_log_below_and_a_key_stops_it() {
    let home = Home::with("cloud_platform = \"none\"\n");
    let terminal = Terminal::open("").await;
    let (before, modes) = (terminal.settings().await, terminal.modes());
    terminal.run(&format!("{} -conf {}", wasaba().display(), home.config().display()));
    let screen =
        terminal.shows("the view", |screen| screen.contains("memory") && screen.contains("INFO no API key")).await;
    assert!(screen.contains("q stop the agent") && screen.contains("without an API key nothing is posted"), "{screen}");
    terminal.press(&["q"]);
    let screen = terminal
        .shows("the shell", |screen| screen.contains("INFO stopped") && screen.trim_end().ends_with("ready>"))
        .await;
    assert!(screen.contains("no API key: the values stay on this machine"), "{screen}");
    assert_eq!(terminal.modes(), modes);
    terminal.run("echo code $?");
    terminal.shows("success", |screen| screen.contains("code 0")).await;
    assert_eq!(terminal.settings().await, before);
}

#[tokio::test]
async fn no_color_is_obeyed_and_a_terminal_that_cannot_be_drawn_on_gets_lines() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let _agent = agent(&standin, &home).await;
    let coloured = |terminal: &Terminal| terminal.tmux(&["capture-pane", "-p", "-e"]).contains("\x1b[31m");
    for (variables, has_colours) in [("", true), ("NO_COLOR=1", false)] {
        let terminal = Terminal::open(variables).await;
        terminal.run(&top(&home));
        terminal.shows("the view", |screen| screen.contains("CRITICAL") && screen.contains("memory")).await;
        let is_red = coloured(&terminal) || terminal.tmux(&["capture-pane", "-p", "-e"]).contains(";31m");
        assert_eq!(is_red, has_colours, "{variables}:\n{}", terminal.tmux(&["capture-pane", "-p", "-e"]));
    }
    let terminal = Terminal::open("TERM=dumb").await;
    terminal.run(&top(&home));
    terminal.shows("lines", |screen| screen.contains("delivery") && !screen.contains("q quit")).await;
    assert_eq!(terminal.modes(), "0 1 1");
}

#[tokio::test]
async fn without_a_terminal_everything_is_printed_and_without_an_agent_the_exit_code_is_2() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let output = home.command(&["top"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no agent is running with this root"), "{output:?}");
    let _agent = agent(&standin, &home).await;
    let text = stdout(&home.command(&["top"], &["--once"]));
    for part in ["web-1", "load", "memory", "CRITICAL", "nearly full", "points a minute"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains('\x1b') && !text.contains(KEY), "{text:?}");
}
