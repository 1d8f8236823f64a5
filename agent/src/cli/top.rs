//! `wasaba top`: the running agent, in a view that one leaves open; as text where there is no terminal.

use std::sync::Arc;
use std::time::Duration;

use show::top::plot::Glyphs;
use show::top::terminal::{Manner, is_usable, restore};
use show::top::view::{Options, plain};
use show::top::{self, Ended, snapshot};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::configuration::Whereabouts;
use super::flags::AgentFlags;
use super::status::{NOT_RUNNING, NOT_WORKING};
use crate::process::feed::Elsewhere;
use crate::process::{control, log};

/// How often it is printed where there is no terminal.
const PRINTED_EVERY: Duration = Duration::from_secs(60);

/// The columns of what is printed.
const PRINTED_COLUMNS: u16 = 120;

/// What can be shown on this terminal; `None` if standard output is none that can be drawn on.
#[must_use]
pub fn manner() -> Option<Manner> {
    let variable = |name| std::env::var(name).ok();
    let manner = top::terminal::manner(variable("TERM").as_deref(), variable("NO_COLOR").as_deref());
    manner.filter(|_| is_usable())
}

/// Shows the running agent until a key or a signal ends it, or prints it. Exit codes are those of `wasaba status`: 2 if no agent answers,
/// 1 if the configuration is invalid as well, or the terminal cannot be used; 0 if there was something to see.
#[must_use]
pub fn run(flags: &AgentFlags, once: bool) -> u8 {
    let Whereabouts { root, pidfile, wrong } = match flags.whereabouts() {
        Ok(found) => found,
        Err(why) => return said(&why, NOT_WORKING),
    };
    let feed = Elsewhere { root: root.clone(), pidfile: pidfile.clone() };
    let state = match control::ask(&root, &pidfile) {
        Ok(state) => state,
        Err(why) => {
            let code = if wrong.is_some() { NOT_WORKING } else { NOT_RUNNING };
            return said(&wrong.into_iter().chain([why]).collect::<Vec<_>>().join("\n"), code);
        }
    };
    if let Some(wrong) = wrong {
        log::print(&format!("{wrong}\n"));
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(why) => return said(&why, NOT_WORKING),
    };
    let east = log::east_of_utc(state.now);
    let result = match manner().filter(|_| !once) {
        Some(Manner { has_colours, glyphs }) => {
            survive_panic();
            let options = Options { glyphs, east, is_local: false };
            runtime.block_on(async {
                let stop = stopped().map_err(|error| format!("cannot listen for signals: {error}"))?;
                let ended = top::run(Arc::new(feed), state, options, has_colours, None, stop).await;
                let ended = ended.map_err(|error| {
                    format!("cannot use this terminal: {error}; print everything as text with `wasaba top --once`")
                });
                ended.map(|_: Ended| 0)
            })
        }
        None => runtime.block_on(print(&feed, Options { glyphs: Glyphs::Unicode, east, is_local: false }, once)),
    };
    // What hangs at a file system is not waited for.
    runtime.shutdown_background();
    result.unwrap_or_else(|why| said(&why, NOT_WORKING))
}

/// Prints everything, every minute or once.
async fn print(feed: &Elsewhere, options: Options, once: bool) -> Result<u8, String> {
    loop {
        match snapshot(feed).await {
            Ok(seen) => super::print(&plain(seen, options, PRINTED_COLUMNS))?,
            Err(why) if once => return Ok(said(&why, NOT_RUNNING)),
            // It may come back.
            Err(why) => log::print(&format!("{why}\n")),
        }
        if once {
            return Ok(0);
        }
        sleep(PRINTED_EVERY).await;
        super::print("\n")?;
    }
}

/// Returns when a signal ends the view. A terminal that is closed sends SIGHUP.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// A panic is printed on the terminal as it was before the view.
fn survive_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        print(panic);
    }));
}

fn said(why: &str, code: u8) -> u8 {
    log::print(&format!("{why}\n"));
    code
}
