//! `wasaba container`: the first process of a container. It runs the agent as a child, with what the environment says.
//!
//! It hands signals on, takes leave of whatever processes end below it, and waits for the agent to have posted its last minute;
//! only then it retires the host, if it shall.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use config::environment::Environment;
use delivery::mackerel;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use wasaba_core::container;
use wasaba_core::container::MARK;

use super::flags::{AgentFlags, texts};
use crate::process::log;
use crate::process::log::Destination;
use crate::run;

/// Docker waits 10 s before it kills.
const RETIREMENT: Duration = Duration::from_secs(6);

/// How long the agent may take to end; it takes up to two seconds. One that hangs is killed then, and loses nothing that is on disk.
const END: Duration = Duration::from_secs(3);

/// Runs until the agent has ended.
///
/// # Errors
/// The agent did not start, or did not end well.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let environment = Environment::of_this_process();
    if !container::is_ours() {
        return Err(format!("this is no container of wasaba's image: there is no {MARK} in the environment"));
    }
    log::start(LevelFilter::INFO, Destination::Stderr);
    if std::process::id() != 1 {
        // Where another program is the first process, orphans come to us all the same.
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::warn!("processes without a parent go elsewhere: {error}");
        }
    }
    super::runtime()?.block_on(async {
        let (ended, was_told) = supervise().await?;
        if was_told && environment.auto_retirement {
            retire(flags).await;
        }
        if ended.success() { Ok(()) } else { Err(format!("the agent did not end well: {ended}")) }
    })
}

/// Runs the agent to its end: how it ended, and whether it was told to.
async fn supervise() -> Result<(ExitStatus, bool), String> {
    let listening = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
    let mut died = listening(SignalKind::child())?;
    let mut hangup = listening(SignalKind::hangup())?;
    let mut interrupt = listening(SignalKind::interrupt())?;
    let mut terminate = listening(SignalKind::terminate())?;
    let mut quit = listening(SignalKind::quit())?;
    let agent = start()?;
    let mut was_told = false;
    let mut end = None;
    loop {
        let word = tokio::select! {
            () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                if let Some(agent) = pid(&agent) {
                    kill_process(agent, Signal::KILL).ok();
                }
                tracing::error!("the agent does not end within {END:?} and is killed");
                end = None;
                continue;
            }
            _ = died.recv() => {
                if let Some(ended) = reap(&agent) {
                    return Ok((ended, was_told));
                }
                continue;
            }
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = quit.recv() => Signal::QUIT,
        };
        if !was_told && word != Signal::HUP {
            was_told = true;
            end = Some(Instant::now() + END);
        }
        if let Some(agent) = pid(&agent) {
            // If it has just died, that is seen next.
            kill_process(agent, word).ok();
        }
    }
}

/// The same program with the same flags.
fn start() -> Result<Child, String> {
    // Behind the command, where flags stand.
    let flags = std::env::args_os().skip(2);
    let mut command = Command::new("/proc/self/exe");
    let started = command.arg("--child").args(flags).stdin(Stdio::null()).spawn();
    started.map_err(|error| format!("cannot start the agent: {error}"))
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Takes leave of all processes that have ended; the agent's end is told.
fn reap(agent: &Child) -> Option<ExitStatus> {
    let agent = pid(agent);
    let mut ended = None;
    while let Ok(Some((process, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(process) == agent {
            ended = Some(ExitStatus::from_raw(status.as_raw()));
        }
    }
    ended
}

/// Tells Mackerel that this host is no more; what keeps it from doing so is told, too.
async fn retire(flags: &AgentFlags) {
    let result = tokio::time::timeout(RETIREMENT, async {
        let (config, _) = flags.config().map_err(|problems| texts(&problems))?;
        log::set_level(config.log_level);
        let key = config.api_key.clone().ok_or("there is no API key")?;
        let id = mackerel::own_id(&config.root).map_err(|error| error.to_string())?;
        let client = mackerel::Client::new(config.api_base.as_str(), key, &run::agent(), &run::route(&config.network));
        let client = client.map_err(|error| error.to_string())?;
        let retired = mackerel::retire(&client, &config.root, &id).await;
        retired.map_err(|error| format!("cannot retire host `{id}`: {error}"))?;
        tracing::info!("host `{id}` is retired");
        Ok::<_, String>(())
    });
    match result.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::error!("auto_retirement: {why}"),
        Err(_) => {
            tracing::error!("auto_retirement: no answer within {RETIREMENT:?}; retire the host with `wasaba retire`")
        }
    }
}
