//! Other hosts that plugins report values of (`custom_identifier`): the id of each on Mackerel.
//!
//! The official agent asks once, at its start, and drops the values of an unknown host. Here they stay queued, and the host
//! is looked up again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use wasaba_core::text::printable;

use super::answer::ApiError;
use super::client::Client;
use super::id_file::HostId;

/// How long a host id is valid: the host may be retired and registered again.
const FOUND: Duration = Duration::from_secs(60 * 60);

/// How long an unknown host stays unknown.
const ABSENT: Duration = Duration::from_secs(10 * 60);

/// The wait after a lookup that failed.
const FAILED: Duration = Duration::from_secs(60);

/// The other hosts that were looked up, by their custom identifiers.
#[derive(Default)]
pub(super) struct Hosts(HashMap<Arc<str>, Lookup>);

/// The result of a lookup, and until when it is valid.
struct Lookup {
    id: Option<Arc<str>>,
    until: Instant,
}

impl Hosts {
    /// The custom identifiers without a host, according to the last lookups.
    pub(super) fn absent(&self, now: Instant) -> BTreeSet<Arc<str>> {
        let absent = self.0.iter().filter(|(_, lookup)| lookup.id.is_none() && now < lookup.until);
        absent.map(|(identifier, _)| Arc::clone(identifier)).collect()
    }

    /// The id of the host; `None` if there is none, which is logged when it is news.
    pub(super) async fn id(&mut self, client: &Client, identifier: &Arc<str>, now: Instant) -> Option<Arc<str>> {
        let before = self.0.get(identifier);
        if let Some(lookup) = before.filter(|lookup| now < lookup.until) {
            return lookup.id.clone();
        }
        let was_absent = before.is_some_and(|lookup| lookup.id.is_none());
        let last = before.and_then(|lookup| lookup.id.clone());
        let shown = printable(identifier, 200);
        let lookup = match look_up(client, identifier).await {
            Ok(Some(id)) => Lookup { id: Some(id.as_str().into()), until: now + FOUND },
            Ok(None) => {
                if !was_absent {
                    tracing::warn!(
                        "no host has the custom identifier `{shown}`; its values stay queued for up to 24 h: register that \
                         host, or correct `custom_identifier` in the plugin's table"
                    );
                }
                Lookup { id: None, until: now + ABSENT }
            }
            Err(error) => {
                if !was_absent && last.is_none() {
                    tracing::warn!("cannot look up the host `{shown}`: {error}; its values stay queued");
                }
                Lookup { id: last, until: now + FAILED }
            }
        };
        let id = lookup.id.clone();
        if id.is_some() && was_absent {
            tracing::info!("found the host `{shown}`; delivering its values");
        }
        self.0.insert(Arc::clone(identifier), lookup);
        id
    }

    /// Records that Mackerel answered 404 to a request with the id of this host.
    pub(super) fn doubt(&mut self, identifier: &Arc<str>, now: Instant) {
        self.0.insert(Arc::clone(identifier), Lookup { id: None, until: now + ABSENT });
    }
}

/// The host with this custom identifier, whatever its status.
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
