//! What the running agent shows: the answers to [`Request`]s, in this process or through the control socket.

use std::path::PathBuf;
use std::sync::Arc;

use containers::look::Look;
use serde::Serialize;
use show::feed::{Answered, Feed, MOST_KEYS, Request, Series};
use show::plots::plots;
use show::state::ContainerReport;
use tokio::task::spawn_blocking;
use wasaba_core::clock::{self, Moment};

use super::state::{self, Tables};
use super::{control, log};

/// The answer to a request, as JSON.
///
/// # Errors
/// Why there is none, with the cure.
pub async fn answer(tables: &Tables, request: Request) -> Result<Vec<u8>, String> {
    match request {
        Request::State => json(&state::now(tables, Moment::now()).await),
        Request::Containers => {
            let looks = tables.engine.look().await?;
            json(&looks.into_iter().map(container).collect::<Vec<_>>())
        }
        Request::Log => json(&log::last_lines()),
        Request::Plots => {
            let spool = Arc::clone(&tables.spool);
            let keys = spawn_blocking(move || spool.history_keys(clock::unix_seconds()));
            let keys = keys.await.ok().flatten().ok_or_else(silent)?;
            json(&plots(&keys, &tables.defined.borrow()))
        }
        Request::Series { keys, .. } if keys.len() > MOST_KEYS => {
            Err(format!("{} metrics in one request: ask for at most {MOST_KEYS}", keys.len()))
        }
        Request::Series { keys, from, to } => {
            let spool = Arc::clone(&tables.spool);
            let series = spawn_blocking(move || spool.history(keys, from, to));
            let series = series.await.ok().flatten().ok_or_else(silent)?;
            json(&Series::from(series))
        }
    }
}

fn container(look: Look) -> ContainerReport {
    let Look { name, image, state, health, started, restarts, memory_limit_bytes, segment } = look;
    let health = health.map(str::to_owned);
    ContainerReport { name, image, state, health, started, restarts, memory_limit_bytes, segment }
}

fn silent() -> String {
    "the history cannot be read now: check the disk of the agent's root, and its log".to_owned()
}

fn json(document: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(document).map_err(|error| error.to_string())
}

/// The agent of this process.
#[derive(Clone)]
pub struct Here(pub Tables);

impl Feed for Here {
    fn ask(&self, request: Request) -> Answered {
        let tables = self.0.clone();
        Box::pin(async move { answer(&tables, request).await })
    }
}

/// An agent that runs with this root, and this pid file.
#[derive(Clone)]
pub struct Elsewhere {
    /// Its root.
    pub root: PathBuf,
    /// Its pid file.
    pub pidfile: PathBuf,
}

impl Feed for Elsewhere {
    fn ask(&self, request: Request) -> Answered {
        let Self { root, pidfile } = self.clone();
        Box::pin(async move {
            let asked = spawn_blocking(move || control::ask_for(&request, &root, &pidfile));
            asked.await.map_err(|error| error.to_string())?
        })
    }
}
