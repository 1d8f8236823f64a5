//! `wasaba container`: the first process of a container. It runs the agent as a child, configured by the environment.
//!
//! It forwards signals, reaps orphaned processes, and waits until the agent has posted its last minute; only then does it retire
//! the host, if `auto_retirement` is set.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use config::environment::Environment;
use delivery::mackerel;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use wasaba_core::container::MARK;
use wasaba_core::text::duration;
use wasaba_core::{container, environment};

use super::configuration::texts;
use super::flags::AgentFlags;
use super::supervise::{asks_for_restart, shown};
use crate::process::log;
use crate::process::log::Destination;
use crate::run;

/// How long retiring may take. Together with [`STOP_TIMEOUT`] it is within the 10 s that Docker waits before it kills.
const RETIREMENT_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the agent may take to stop. It takes up to two seconds; one that hangs is then killed, and loses nothing that is on disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until the agent has exited.
///
/// # Errors
/// The agent did not start, or exited with a failure.
pub fn run(flags: &AgentFlags) -> Result<(), String> {
    let environment = Environment::of_this_process();
    if !container::is_ours() {
        return Err(format!("this is not a container of wasaba's image: {MARK} is not set in the environment"));
    }
    log::start(LevelFilter::INFO, Destination::Stderr, environment.host_root.as_deref())?;
    if std::process::id() != 1 {
        // Where another program is the first process, orphaned processes become our children all the same.
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::warn!("cannot reap orphaned processes: {error}");
        }
    }
    super::runtime()?.block_on(async {
        let (status, was_asked) = supervise().await?;
        if was_asked && environment.auto_retirement {
            retire(flags).await;
        }
        if status.success() { Ok(()) } else { Err(format!("the agent failed: {}", shown(status))) }
    })
}

/// Runs the agent until it exits. Returns its status, and whether a signal asked it to stop.
async fn supervise() -> Result<(ExitStatus, bool), String> {
    let listening = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let mut died = listening(SignalKind::child())?;
    let mut hangup = listening(SignalKind::hangup())?;
    let mut interrupt = listening(SignalKind::interrupt())?;
    let mut terminate = listening(SignalKind::terminate())?;
    let mut quit = listening(SignalKind::quit())?;
    let mut agent = start()?;
    let mut was_asked = false;
    let mut deadline = None;
    loop {
        let signal = tokio::select! {
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                if let Some(agent) = pid(&agent) {
                    kill_process(agent, Signal::KILL).ok();
                }
                tracing::error!("the agent did not stop within {} and was killed", duration(STOP_TIMEOUT));
                deadline = None;
                continue;
            }
            _ = died.recv() => {
                match reap(&agent) {
                    Some(status) if !was_asked && asks_for_restart(status) => agent = start()?,
                    Some(status) => return Ok((status, was_asked)),
                    None => {}
                }
                continue;
            }
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = quit.recv() => Signal::QUIT,
        };
        if !was_asked && signal != Signal::HUP {
            was_asked = true;
            deadline = Some(Instant::now() + STOP_TIMEOUT);
        }
        if let Some(agent) = pid(&agent) {
            // An error means that it has just died, which is noticed next.
            kill_process(agent, signal).ok();
        }
    }
}

/// The same program with the same flags.
fn start() -> Result<Child, String> {
    // Flags go after the command.
    let flags = std::env::args_os().skip(2);
    let mut command = environment::own_program("/proc/self/exe");
    let started = command.arg("--child").args(flags).stdin(Stdio::null()).spawn();
    started.map_err(|error| format!("cannot start the agent: {error}"))
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Reaps all processes that have exited; returns the agent's status if it is one of them.
fn reap(agent: &Child) -> Option<ExitStatus> {
    let agent = pid(agent);
    let mut exited = None;
    while let Ok(Some((process, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(process) == agent {
            exited = Some(ExitStatus::from_raw(status.as_raw()));
        }
    }
    exited
}

/// Retires this host in Mackerel; logs why, if it cannot.
async fn retire(flags: &AgentFlags) {
    let result = tokio::time::timeout(RETIREMENT_TIMEOUT, async {
        let (config, _) = flags.config().map_err(|problems| texts(&problems))?;
        log::set_level(config.log_level);
        let key = config.api_key.clone().ok_or("there is no `apikey`")?;
        let id = mackerel::own_id(&config.root).map_err(|error| error.to_string())?;
        let client = mackerel::Client::new(config.api_base.as_str(), key, &run::agent(), &run::route(&config.network));
        let client = client.map_err(|error| error.to_string())?;
        let retired = mackerel::retire(&client, &config.root, &id).await;
        retired.map_err(|error| format!("cannot retire host `{id}`: {error}"))?;
        tracing::info!("retired host `{id}`");
        Ok::<_, String>(())
    });
    match result.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::error!("auto_retirement: {why}"),
        Err(_) => {
            tracing::error!(
                "auto_retirement: no answer within {}; retire the host with `wasaba retire`",
                duration(RETIREMENT_TIMEOUT)
            )
        }
    }
}
