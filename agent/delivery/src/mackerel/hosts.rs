//! Other hosts that plugins tell values of (`custom_identifier`): which host id each of them has on Mackerel.
//!
//! The official agent asks once, at its start, and drops the values of a host that is not there. Here they wait in the spool,
//! and it is asked again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use wasaba_core::text::printable;

use super::client::{ApiError, Client};
use super::id_file::HostId;

/// For how long an answer is believed: a host may be retired and registered anew.
const BELIEVED: Duration = Duration::from_secs(60 * 60);

/// When a host that is not there is asked for again.
const ABSENT: Duration = Duration::from_secs(10 * 60);

/// When it is asked again after no answer.
const UNANSWERED: Duration = Duration::from_secs(60);

/// What is known of the other hosts, by their custom identifiers.
#[derive(Default)]
pub(super) struct Hosts(HashMap<Arc<str>, Known>);

struct Known {
    id: Option<Arc<str>>,
    until: Instant,
}

impl Hosts {
    /// The custom identifiers for which there is no host now, as far as is known.
    pub(super) fn absent(&self, now: Instant) -> BTreeSet<Arc<str>> {
        let absent = self.0.iter().filter(|(_, known)| known.id.is_none() && now < known.until);
        absent.map(|(identifier, _)| Arc::clone(identifier)).collect()
    }

    /// The id of the host; `None` if there is none, which is told when it is news.
    pub(super) async fn id(&mut self, client: &Client, identifier: &Arc<str>, now: Instant) -> Option<Arc<str>> {
        let before = self.0.get(identifier);
        if let Some(known) = before.filter(|known| now < known.until) {
            return known.id.clone();
        }
        let was_told = before.is_some_and(|known| known.id.is_none());
        let last = before.and_then(|known| known.id.clone());
        let shown = printable(identifier, 200);
        let known = match look_up(client, identifier).await {
            Ok(Some(id)) => Known { id: Some(id.as_str().into()), until: now + BELIEVED },
            Ok(None) => {
                if !was_told {
                    tracing::warn!(
                        "no host has the custom identifier `{shown}`, so its values wait, for 24 hours at most: register that \
                         host, or mend `custom_identifier` in the plugin's table"
                    );
                }
                Known { id: None, until: now + ABSENT }
            }
            Err(error) => {
                if !was_told && last.is_none() {
                    tracing::warn!("cannot ask which host `{shown}` is: {error}; its values wait");
                }
                Known { id: last, until: now + UNANSWERED }
            }
        };
        let id = known.id.clone();
        if id.is_some() && was_told {
            tracing::info!("the host `{shown}` is there; its values are delivered now");
        }
        self.0.insert(Arc::clone(identifier), known);
        id
    }

    /// Takes the host for absent: Mackerel did not know one of those that values were sent for.
    pub(super) fn doubt(&mut self, identifier: &Arc<str>, now: Instant) {
        self.0.insert(Arc::clone(identifier), Known { id: None, until: now + ABSENT });
    }
}

/// The host with this custom identifier, whatever its status is.
pub(super) async fn look_up(client: &Client, identifier: &str) -> Result<Option<HostId>, ApiError> {
    let query = [
        ("customIdentifier", identifier),
        ("status", "working"),
        ("status", "standby"),
        ("status", "maintenance"),
        ("status", "poweroff"),
    ];
    let answer = client.get("/api/v0/hosts", &query).await?;
    Ok(answer.get("hosts").and_then(|hosts| hosts.get(0)).and_then(id_in))
}

/// The `id` in an object.
pub(super) fn id_in(answer: &Value) -> Option<HostId> {
    HostId::new(answer.get("id")?.as_str()?)
}
