//! Asks the agent, again and again: its state each second, its history when a minute has been added.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::seen::Seen;
use crate::feed::{Feed, MOST_KEYS, Request, Series};
use crate::plots::Plot;
use crate::state::{AgentState, ContainerReport, MOST_SECONDS_UNCOLLECTED};

/// How often the state is asked for.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// How long an answer may take. The agent itself has a shorter time; behind it is a file system that hangs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// The minutes that are shown of everything.
const SHOWN_MINUTES: i64 = 60;

/// The same collection, as the seconds since it are cut.
const SAME_COLLECTION_SECONDS: i64 = 2;

/// What is wanted besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// Nothing is asked.
    pub(super) is_frozen: bool,
    /// A metric, for so many hours.
    pub(super) large: Option<(String, i64)>,
}

/// The containers, the plots, and the last hour.
type History = (Vec<ContainerReport>, Vec<Plot>, Series);

/// What was answered.
#[derive(Debug)]
pub(super) enum News {
    State(Box<AgentState>),
    /// There is no answer: why, with the cure.
    Silent(String),
    /// The history, or why it cannot be read.
    History(Box<Result<History, String>>),
    /// The values of a metric, and what was asked for.
    Large((String, i64), Series),
}

/// Asks until whoever takes the news is gone.
pub(super) async fn follow(feed: Arc<dyn Feed>, mut wants: watch::Receiver<Wants>, news: mpsc::Sender<News>) {
    // Of which process, and when, was collected what is known.
    let mut known = None;
    let mut large = None;
    let mut newest = 0;
    loop {
        let wanted = wants.borrow_and_update().clone();
        let mut arrived = Vec::new();
        if !wanted.is_frozen {
            match ask::<AgentState>(&*feed, Request::State).await {
                Ok(state) => {
                    newest = collected(&state);
                    let process = state.process;
                    let is_known = known.is_some_and(|(other, at): (u32, i64)| {
                        other == process && (newest - at).abs() <= SAME_COLLECTION_SECONDS
                    });
                    if news.send(News::State(Box::new(state))).await.is_err() {
                        return;
                    }
                    if !is_known {
                        let history = history(&*feed, newest).await;
                        // What cannot be read, or has not been written yet, is asked for again.
                        let is_there = history.as_ref().is_ok_and(|(_, plots, _)| !plots.is_empty());
                        known = is_there.then_some((process, newest));
                        large = None;
                        arrived.push(News::History(Box::new(history)));
                    }
                }
                Err(why) => {
                    known = None;
                    arrived.push(News::Silent(why));
                }
            }
        }
        for news_of in arrived {
            if news.send(news_of).await.is_err() {
                return;
            }
        }
        if let Some((key, hours)) = wanted.large
            && large.as_ref() != Some(&(key.clone(), hours))
            && newest > 0
        {
            let request = Request::Series { keys: vec![key.clone()], from: newest - hours * 3_600 + 60, to: newest };
            if let Ok(series) = ask::<Series>(&*feed, request).await {
                large = Some((key.clone(), hours));
                if news.send(News::Large((key, hours), series)).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = sleep(ASKED_EVERY) => {}
            changed = wants.changed() => if changed.is_err() { return },
        }
    }
}

/// Everything at once.
///
/// # Errors
/// The agent does not answer.
pub async fn snapshot(feed: &dyn Feed) -> Result<Seen, String> {
    let state = ask::<AgentState>(feed, Request::State).await?;
    let history = history(feed, collected(&state)).await;
    let (unread, (containers, plots, hour)) = match history {
        Ok(history) => (None, history),
        Err(why) => (Some(why), History::default()),
    };
    Ok(Seen { state, containers, plots, hour, unread, ..Seen::default() })
}

/// When the newest minute was collected. An agent that has stopped collecting has no present values.
fn collected(state: &AgentState) -> i64 {
    if state.collected_seconds_ago > MOST_SECONDS_UNCOLLECTED {
        return state.now;
    }
    state.now.saturating_sub(i64::try_from(state.collected_seconds_ago).unwrap_or_default())
}

async fn history(feed: &dyn Feed, to: i64) -> Result<History, String> {
    let containers = ask::<Vec<ContainerReport>>(feed, Request::Containers).await?;
    let plots = ask::<Vec<Plot>>(feed, Request::Plots).await?;
    let keys = plots.iter().flat_map(|plot| plot.lines.iter().map(|line| line.key.clone())).collect::<Vec<_>>();
    let mut hour = Series { start: to, minutes: 0, values: BTreeMap::new() };
    for keys in keys.chunks(MOST_KEYS) {
        let request = Request::Series { keys: keys.to_vec(), from: to - (SHOWN_MINUTES - 1) * 60, to };
        let Series { start, minutes, values } = ask::<Series>(feed, request).await?;
        (hour.start, hour.minutes) = (start, minutes);
        hour.values.extend(values);
    }
    Ok((containers, plots, hour))
}

async fn ask<T: DeserializeOwned>(feed: &dyn Feed, request: Request) -> Result<T, String> {
    let answered = timeout(ANSWERED_WITHIN, feed.ask(request)).await;
    let document = answered.map_err(|_| {
        let within = ANSWERED_WITHIN.as_secs();
        format!("it does not answer within {within} s: check the disk of its root, and the kernel's log (`dmesg`)")
    })??;
    serde_json::from_slice(&document)
        .map_err(|error| format!("it is from a different release than this program: {error}; restart the agent"))
}
