//! The search for the host that an earlier attempt to register may have made, although its id never arrived.
//!
//! What is registered is marked with the attempt's token, at the end of `agent-name`, until the description that follows replaces it. So
//! a host with the mark is this machine's, and one without it is another's, however alike they are. Where Mackerel's answers do not have
//! `agent-name`, name, hardware addresses and time must do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::answer::ApiError;
use super::attempt::Attempt;
use super::client::Client;
use super::endpoints::{self, Listed};
use super::id_file::HostId;

/// How far Mackerel's clock may be behind this machine's.
const CLOCK_SKEW_SECONDS: i64 = 600;

/// How far back a registration is looked for whose time is not known, since this machine's clock was set back.
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// So many hosts that may be this machine are looked at one by one, before the rest has to wait for the next search.
const MOST_LOOKED_AT: usize = 50;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The oldest host with the mark.
    Marked(HostId),
    /// The oldest host like this machine, of which Mackerel does not say whether it has the mark.
    Alike(HostId),
    Nothing,
    /// More hosts have to be looked at.
    Unfinished,
}

/// The search, which may take several times.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Those that were looked at and are not this machine: a host has its mark from the beginning.
    others: BTreeSet<HostId>,
}

/// Marks a description for a registration.
pub(super) fn marked(mut description: Value, token: &str) -> Value {
    let meta = description.as_object_mut().map(|host| host.entry("meta").or_insert_with(|| json!({})));
    if let Some(meta) = meta.and_then(Value::as_object_mut) {
        let name = meta.get("agent-name").and_then(Value::as_str).unwrap_or("wasaba");
        meta.insert("agent-name".to_owned(), format!("{name}{}", mark(token)).into());
    }
    description
}

fn mark(token: &str) -> String {
    format!(" registration {token}")
}

/// Whether a host was registered with this token; `None` if that cannot be known.
fn is_marked(agent_name: Option<&str>, token: &str) -> Option<bool> {
    agent_name.filter(|_| !token.is_empty()).map(|name| name.ends_with(&mark(token)))
}

impl Search {
    /// Looks for the host that an earlier attempt registered, of the names that this machine has or had then. `now` is by this machine's
    /// clock, in seconds since 1970.
    pub(super) async fn find(
        &mut self,
        client: &Client,
        earlier: &Attempt,
        now: i64,
        description: &Value,
    ) -> Result<Found, ApiError> {
        let name = description.get("name").and_then(Value::as_str).unwrap_or_default();
        let own = endpoints::macs(description).unwrap_or_default();
        let names = earlier.names.iter().map(String::as_str).chain([name]).collect::<BTreeSet<_>>();
        let mut hosts = Vec::new();
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            hosts.extend(client.find_hosts(name).await?);
        }
        hosts.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        if let Some(host) =
            hosts.iter().find(|host| is_marked(host.agent_name.as_deref(), &earlier.token) == Some(true))
        {
            return Ok(Found::Marked(host.id.clone()));
        }
        let oldest = oldest(earlier.since, now, client.mackerel_time());
        hosts.retain(|host| {
            host.created_at >= oldest && is_marked(host.agent_name.as_deref(), &earlier.token).is_none()
        });
        let is_alike = |host: &Listed| host.macs.as_ref().is_none_or(|macs| is_same_machine(&own, macs));
        hosts.sort_by_key(|host| !is_alike(host));
        let (mut alike, mut looked_at) = (None, 0);
        for host in &hosts {
            let id = &host.id;
            if self.others.contains(id) {
                continue;
            }
            if looked_at == MOST_LOOKED_AT {
                return Ok(Found::Unfinished);
            }
            looked_at += 1;
            let is_ours = match client.get_host(id).await {
                Ok(host) => is_marked(host.agent_name.as_deref(), &earlier.token),
                // It was retired meanwhile.
                Err(error @ ApiError::NotFound(_)) if error.is_of_mackerel() => Some(false),
                Err(error) => return Err(error),
            };
            match is_ours {
                Some(true) => return Ok(Found::Marked(id.clone())),
                None if is_alike(host) && alike.is_none() => alike = Some(id.clone()),
                Some(false) | None => _ = self.others.insert(id.clone()),
            }
        }
        Ok(alike.map_or(Found::Nothing, Found::Alike))
    }
}

/// The time by Mackerel's clock, if it has told it, before which a registration cannot have been that began `since` by this machine's.
fn oldest(since: i64, now: i64, mackerel_time: Option<i64>) -> i64 {
    match mackerel_time {
        Some(mackerel_time) if now >= since => mackerel_time - (now - since) - CLOCK_SKEW_SECONDS,
        Some(mackerel_time) => mackerel_time - DAY_SECONDS,
        None => since - CLOCK_SKEW_SECONDS,
    }
}

/// Whether a host with other hardware addresses can be the same machine: one whose interfaces came, as a bridge does, or went.
fn is_same_machine(one: &BTreeSet<String>, other: &BTreeSet<String>) -> bool {
    let is_part = |small: &BTreeSet<String>, large| !small.is_empty() && small.is_subset(large);
    one == other || is_part(one, other) || is_part(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_dated_by_mackerels_clock_however_wrong_this_machines_is() {
        let theirs = 1_800_000_000;
        for ahead in [-1_700_000_000, -3_600, 0, 3_600, 86_400] {
            let (since, now) = (theirs + ahead - 120, theirs + ahead);
            assert_eq!(oldest(since, now, Some(theirs)), theirs - 120 - CLOCK_SKEW_SECONDS, "{ahead}");
        }
        assert_eq!(oldest(theirs + 3_600, theirs, Some(theirs)), theirs - DAY_SECONDS, "it was set back");
        assert_eq!(oldest(100, 200, None), 100 - CLOCK_SKEW_SECONDS);
    }

    #[test]
    fn interfaces_that_came_or_went_make_no_other_machine_and_other_addresses_do() {
        let macs = |all: &str| all.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        for (one, other, expected) in [
            ("a b", "a b", true),
            ("a", "a b", true),
            ("a b", "b", true),
            ("", "", true),
            ("a", "", false),
            ("", "a", false),
            ("a b", "a c", false),
            ("a", "b", false),
        ] {
            assert_eq!(is_same_machine(&macs(one), &macs(other)), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn only_the_mark_of_the_same_attempt_makes_a_host_this_machines() {
        let host = marked(json!({"name": "web1", "meta": {"agent-name": "wasaba/0.1.0"}}), "a1");
        let name = host["meta"]["agent-name"].as_str();
        assert_eq!(name, Some("wasaba/0.1.0 registration a1"));
        assert_eq!((is_marked(name, "a1"), is_marked(name, "1"), is_marked(name, "")), (Some(true), Some(false), None));
        assert_eq!((is_marked(Some("wasaba/0.1.0"), "a1"), is_marked(None, "a1")), (Some(false), None));
        assert_eq!(marked(json!({}), "a1")["meta"]["agent-name"], "wasaba registration a1");
    }
}
