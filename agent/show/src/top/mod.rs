//! `wasaba top`: the view of a running agent that one leaves open in a terminal, and the same as text.
//!
//! Everything that is shown is asked of a [`Feed`]: the state once a second, the history when a minute has been added to it, the containers
//! and the plots with it. While the view is frozen, nothing is asked.

mod checks;
mod containers;
mod delivery;
mod follow;
mod host;
pub mod keys;
mod open;
pub mod paint;
pub mod plot;
mod plugins;
pub mod seen;
mod table;
mod tail;
pub mod terminal;
pub mod view;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use wasaba_core::outlet::{Descriptor, Outlet};

pub use self::follow::snapshot;
use self::follow::{News, Wants, follow};
use self::paint::Screen;
use self::seen::Seen;
pub use self::tail::Tail;
use self::terminal::{Event, Terminal};
use self::view::{Asked, Options, Top};
use crate::feed::Feed;
use crate::state::AgentState;

/// How long a picture waits for a terminal that has not taken the one before.
const TRIED_AGAIN: Duration = Duration::from_millis(50);

/// Why the view has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By a key.
    ByKey,
    /// The terminal is gone.
    Gone,
    /// It was stopped.
    Stopped,
}

/// Shows the agent behind `feed` on this terminal until a key, `stop` or the end of the terminal ends it. `first` is its present state, and
/// `tail` has the last lines of its log, if this is the agent.
///
/// It waits for no terminal: a picture that is not taken is replaced by the next one.
///
/// # Errors
/// The terminal cannot be used, or the system refuses the thread that writes.
pub async fn run(
    feed: Arc<dyn Feed>,
    first: AgentState,
    options: Options,
    has_colours: bool,
    tail: Option<Tail>,
    stop: impl Future<Output = ()>,
) -> io::Result<Ended> {
    let output = Outlet::start(Descriptor::new(io::stdout()), |_| Vec::new())?;
    let mut terminal = Terminal::open(output.clone(), tail.clone())?;
    let mut stop = std::pin::pin!(stop);
    let mut top = Top::new(Seen { state: first, ..Seen::default() }, options);
    let (wants, wanted) = watch::channel(Wants::default());
    let (news, mut arrived) = mpsc::channel(16);
    let following = Following(tokio::spawn(follow(feed, wanted, news)));
    let mut screen = Screen::new(has_colours);
    let mut is_due = true;
    let ended = loop {
        if is_due && output.is_empty() {
            if let Some(tail) = &tail {
                top.log = tail.lines();
            }
            let (width, height) = terminal::size();
            output.push(&screen.show(top.draw(width, height)));
            is_due = false;
        }
        tokio::select! {
            () = &mut stop => break Ended::Stopped,
            event = terminal.next() => match event {
                Event::Gone => break Ended::Gone,
                Event::Resized => {}
                Event::Continued => screen.forget(),
                Event::Keys(keys) => {
                    let asked = keys.into_iter().map(|key| top.press(key)).collect::<Vec<_>>();
                    if asked.contains(&Asked::Ended) {
                        break Ended::ByKey;
                    }
                    if asked.contains(&Asked::Redrawn) {
                        screen.forget();
                    }
                }
            },
            news = arrived.recv() => match news {
                Some(news) => take(&mut top, news),
                // It never ends by itself, but for a panic.
                None => return Err(io::Error::other("what asks the agent has failed; this is a bug in wasaba")),
            },
            () = sleep(TRIED_AGAIN), if is_due => continue,
        }
        is_due = true;
        let now = Wants { is_frozen: top.is_frozen(), large: top.wanted() };
        wants.send_if_modified(|before| {
            let is_another = *before != now;
            *before = now;
            is_another
        });
    };
    drop(following);
    drop(terminal);
    Ok(ended)
}

/// The task that asks, ended with the view.
struct Following(tokio::task::JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes what has been answered. What is frozen stays as it is, but for a plot that is asked for.
fn take(top: &mut Top, news: News) {
    let is_frozen = top.is_frozen();
    let seen = &mut top.seen;
    match news {
        News::Large(wanted, series) => top.take_day(wanted, series),
        _ if is_frozen => {}
        News::State(state) => {
            let before = &seen.state;
            if before.process != state.process && before.process != 0 {
                seen.restarted =
                    Some(state.now.saturating_sub(i64::try_from(state.uptime_seconds).unwrap_or_default()));
            }
            seen.state = *state;
            seen.silent = None;
        }
        News::Silent(why) => {
            let since = seen.silent.as_ref().map_or(seen.state.now, |(since, _)| *since);
            seen.silent = Some((since, why));
        }
        News::History(history) => match *history {
            Ok((containers, plots, hour)) => {
                (seen.containers, seen.plots, seen.hour) = (containers, plots, hour);
                seen.unread = None;
            }
            Err(why) => seen.unread = Some(why),
        },
    }
}

#[cfg(test)]
mod tests;
