//! The registration: this machine's host on Mackerel, and its description there.
//!
//! A machine is registered once, when it has no id file. Any other problem with its identity is reported to the operator
//! rather than solved by registering it again.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;
use wasaba_core::clock;

use super::answer::{ApiError, AtFault};
use super::client::Client;
use super::endpoints::{self, Host, Listed};
use super::id_file::{self, Draft, Earlier, HostId, IdFile};
use super::lanes::{Kind, Lane, Lanes, Words};
use super::{Description, FatalError, Pace, Settings};
use crate::spool::Spool;

/// As in the official agent; Mackerel shows the latest description of a host.
const DESCRIBED_EVERY: Duration = Duration::from_hours(1);

pub(super) struct Registration<'a> {
    pub(super) settings: &'a Settings,
    pub(super) client: &'a Client,
    pub(super) spool: &'a Arc<Spool>,
    pub(super) description: &'a Description,
    pub(super) lanes: &'a Lanes,
    pub(super) pace: Pace,
}

/// A script may send SIGHUP in a loop.
const MOST_A_MINUTE: usize = 5;
const MINUTE: Duration = Duration::from_mins(1);

/// How far Mackerel's clock may be behind this machine's.
const CLOCK_SKEW_SECONDS: i64 = 600;

/// How far back a registration is looked for whose time is not known, since this machine's clock was set back.
const DAY_SECONDS: i64 = 24 * 60 * 60;

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

/// The wait for Mackerel to say what it knows of a host whose id is known.
const PATIENCE: Duration = Duration::from_secs(3);

/// What helps if it is not known which cloud instance this machine is.
const UNIDENTIFIED: &str = "check that the cloud's metadata service answers this machine, and `cloud_platform`";

/// This machine's host.
pub(super) struct Registered {
    pub(super) host_id: HostId,
    /// Why Mackerel has not said yet that it has this host.
    unchecked: Option<Unchecked>,
}

/// Why a known host is not checked.
enum Unchecked {
    Late,
    Failed(ApiError),
}

/// Why one attempt to register failed.
enum Failure {
    Fatal(FatalError),
    /// It is not known yet whether the host is this machine.
    Unidentified(ApiError),
    /// Another attempt may succeed.
    Api(ApiError),
    /// The host is there, but its status could not be set.
    Status(ApiError),
}

impl From<FatalError> for Failure {
    fn from(error: FatalError) -> Self {
        Self::Fatal(error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Registration<'_> {
    /// This machine's host, which is registered if necessary. It retries for as long as it takes, and reads the id file again each
    /// time, so that a correction needs no restart. A host whose id is known need not be found in Mackerel: values, reports and the
    /// rest are posted for it, and [`Registration::keep_checked`] tries again.
    pub(super) async fn register(&self) -> Result<Registered, FatalError> {
        let mut lane = self.lanes.lane(Kind::Description, None, self.pace);
        loop {
            let tried = self.try_once().await;
            match self.judged(&mut lane, tried, "register this host", "values stay queued")? {
                Ok(registered) => return Ok(registered),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// How a task went that may take several requests, noted in the lane: what it returned, or how long to wait before it is tried again.
    fn judged<T>(
        &self,
        lane: &mut Lane,
        tried: Result<T, Failure>,
        task: &str,
        waits: &str,
    ) -> Result<Result<T, Duration>, FatalError> {
        let (error, cure) = match tried {
            Ok(done) => {
                lane.is_well();
                return Ok(Ok(done));
            }
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Unidentified(error)) => (error, Some((AtFault::Network, UNIDENTIFIED.to_owned()))),
            Err(Failure::Api(error) | Failure::Status(error)) => {
                let cure = self.cure_of(&error);
                (error, cure)
            }
        };
        lane.record::<()>(0, &Err(error.clone()));
        Ok(Err(lane.wait(&error, &Words { cure, ..Words::new(task, waits) })))
    }

    /// The cure where it is in this machine's id file.
    fn cure_of(&self, error: &ApiError) -> Option<(AtFault, String)> {
        let is_of_the_id = matches!(error, ApiError::NotFound(_)) && error.is_for_the_operator();
        is_of_the_id.then(|| {
            let cure = format!(
                "the host in `{}` does not belong to this organization: check that `apikey` is of the right one, or delete the \
                 file to register this machine as a new host",
                id_file::path(&self.settings.root).display()
            );
            (AtFault::Configuration, cure)
        })
    }

    async fn try_once(&self) -> Result<Registered, Failure> {
        let host_id = match self.known_id().await? {
            Some(host_id) => host_id,
            None => self.new_id().await?,
        };
        match timeout(PATIENCE, self.check(&host_id)).await {
            Ok(Ok(())) => {
                self.lanes.lane(Kind::Status, None, self.pace).record(1, &Ok(()));
                Ok(Registered { host_id, unchecked: None })
            }
            // Nothing can be posted for a host that is not there.
            Ok(Err(Failure::Api(error @ ApiError::NotFound(_)))) if error.is_for_the_operator() => Err(error.into()),
            Ok(Err(Failure::Api(error) | Failure::Status(error))) => {
                Ok(Registered { host_id, unchecked: Some(Unchecked::Failed(error)) })
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                tracing::warn!("looking up host `{host_id}` takes long; posting its values meanwhile");
                Ok(Registered { host_id, unchecked: Some(Unchecked::Late) })
            }
        }
    }

    /// Looks the host up, as which this machine posts, and sets its first status.
    async fn check(&self, host_id: &HostId) -> Result<(), Failure> {
        let host = self.client.get_host(host_id).await?;
        self.check_identity(host_id, &host).await?;
        if host.is_retired {
            tracing::warn!(
                "host `{host_id}` is retired in Mackerel: delete `{}` to register this machine as a new host",
                id_file::path(&self.settings.root).display()
            );
        }
        let status = host.status.as_deref();
        if let Some(on_start) = self.settings.status_on_start.as_deref().filter(|on_start| status != Some(on_start)) {
            self.client.post_status(host_id, on_start).await.map_err(Failure::Status)?;
        }
        tracing::info!("this machine is host `{host_id}` on Mackerel");
        Ok(())
    }

    /// Looks the host up until that succeeds, if it did not at the start. Returns only if this machine must not post as that host.
    pub(super) async fn keep_checked(&self, registered: &Registered) -> FatalError {
        let Registered { host_id, unchecked } = registered;
        let mut lane = self.lanes.lane(Kind::Status, None, self.pace);
        let task = format!("look up host `{host_id}` or set its status");
        let mut tried = match unchecked {
            None => std::future::pending().await,
            Some(Unchecked::Late) => self.check(host_id).await,
            Some(Unchecked::Failed(error)) => Err(Failure::Api(error.clone())),
        };
        loop {
            if tried.is_ok() {
                lane.record(1, &Ok(()));
            }
            match self.judged(&mut lane, tried, &task, "its values are posted all the same") {
                Ok(Ok(())) => std::future::pending().await,
                Ok(Err(wait)) => tokio::time::sleep(wait).await,
                Err(error) => return error,
            }
            tried = self.check(host_id).await;
        }
    }

    /// The id in the id file, or the spool's copy if that file is invalid.
    async fn known_id(&self) -> Result<Option<HostId>, FatalError> {
        let (spool, root) = (self.spool.clone(), self.settings.root.clone());
        blocking(move || match id_file::read(&root)? {
            IdFile::Missing => Ok(None),
            IdFile::Id(host_id) => {
                id_file::tidy(&root);
                spool.keep_host_id(host_id.as_str());
                Ok(Some(host_id))
            }
            IdFile::Invalid => {
                let path = id_file::path(&root);
                let copy = spool.host_id().and_then(|copy| HostId::new(&copy)).ok_or_else(|| {
                    FatalError(format!(
                        "`{}` does not contain a valid host id: write the id there that Mackerel shows on this host's page, or \
                         delete the file to register this machine as a new host",
                        path.display()
                    ))
                })?;
                Draft::new(&root, 0, "")?.write(&copy)?;
                tracing::warn!(
                    "`{}` did not contain a valid host id: restored `{copy}` from wasaba's own copy",
                    path.display()
                );
                Ok(Some(copy))
            }
        })
        .await?
    }

    /// Finds the host with the cloud's identifier, or registers a new host, and writes the id file at once.
    async fn new_id(&self) -> Result<HostId, Failure> {
        let root = self.settings.root.clone();
        let now = clock::seconds_of((self.pace.now)());
        let description = self.describe().await;
        let name = description.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let draft = blocking(move || Draft::new(&root, now, &name)).await??;
        let known = match (custom_identifier(&description), draft.earlier()) {
            (Some(identifier), _) => self.client.find_host(identifier).await?,
            (None, Some(earlier)) => self.registered_since(earlier, now, &description).await?,
            (None, None) => None,
        };
        let host_id = match known {
            Some(host_id) => host_id,
            None => self.client.post_host(description.to_string().into_bytes()).await?,
        };
        let (spool, id) = (self.spool.clone(), host_id.clone());
        blocking(move || {
            // The copy first: it must exist if writing the file fails half-way.
            spool.keep_host_id(id.as_str());
            draft.write(&id)
        })
        .await??;
        Ok(host_id)
    }

    /// The host that an earlier attempt may have registered, although its id never arrived: of the name that this machine has or had then,
    /// with its hardware addresses, registered since then. `now` is by this machine's clock, in seconds since 1970.
    async fn registered_since(
        &self,
        earlier: &Earlier,
        now: i64,
        description: &Value,
    ) -> Result<Option<HostId>, ApiError> {
        let name = description.get("name").and_then(Value::as_str).unwrap_or_default();
        let own = endpoints::macs(description).unwrap_or_default();
        let mut hosts = Vec::new();
        for name in BTreeSet::from([name, &earlier.name]).into_iter().filter(|name| !name.is_empty()) {
            hosts.extend(self.client.find_hosts(name).await?);
        }
        let oldest = oldest(earlier.since, now, self.client.mackerel_time());
        let is_own = |host: &Listed| {
            host.created_at >= oldest && host.macs.as_ref().is_none_or(|macs| is_same_machine(&own, macs))
        };
        let found = hosts.into_iter().filter(is_own).min_by_key(|host| host.created_at);
        if let Some(host) = &found {
            tracing::info!("found host `{}`, which this machine registered before it could write the id", host.id);
        }
        Ok(found.map(|host| host.id))
    }

    /// A machine made from another's disk image has the other's id file; both would post as one host.
    async fn check_identity(&self, host_id: &HostId, host: &Host) -> Result<(), Failure> {
        let Some(theirs) = host.custom_identifier.as_deref() else { return Ok(()) };
        let description = self.describe().await;
        let ours = custom_identifier(&description);
        if ours == Some(theirs) {
            return Ok(());
        }
        if ours.is_none() && self.settings.asks_cloud {
            return Err(Failure::Unidentified(ApiError::NoAnswer(format!(
                "host `{host_id}` belongs to the cloud instance `{theirs}`, but no metadata service has identified this \
                 machine yet"
            ))));
        }
        Err(Failure::Fatal(FatalError(format!(
            "host `{host_id}` belongs to the cloud instance `{theirs}`, but this one is `{}`: if this machine was made from a \
             copy of that one, delete `{}` to register it as a new host",
            ours.unwrap_or("unknown"),
            id_file::path(&self.settings.root).display()
        ))))
    }

    /// Sends the description now, every hour, and whenever `refresh` is notified, but not more than [`MOST_A_MINUTE`]. Failures are
    /// logged and retried.
    pub(super) async fn keep_described(&self, host_id: &HostId, refresh: &Notify) -> Infallible {
        let mut lane = self.lanes.lane(Kind::Description, None, self.pace);
        let mut sent = VecDeque::new();
        loop {
            sent.push_back((self.pace.instant)());
            let wait = match self.put_description(&mut lane, host_id).await {
                Ok(()) => {
                    lane.is_well();
                    DESCRIBED_EVERY
                }
                Err(error) => {
                    lane.wait(&error, &Words::new("update this host's description", "Mackerel shows the last one"))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = refresh.notified() => {}
            }
            if sent.len() >= MOST_A_MINUTE
                && let Some(first) = sent.pop_front()
            {
                tokio::time::sleep_until((first + MINUTE).into()).await;
            }
        }
    }

    async fn put_description(&self, lane: &mut Lane, host_id: &HostId) -> Result<(), ApiError> {
        let description = self.describe().await;
        lane.request(1, self.client.put_host(host_id, description.to_string().into_bytes())).await?;
        tracing::debug!("sent the host's description");
        Ok(())
    }

    async fn describe(&self) -> Value {
        (self.description)().await
    }
}

fn custom_identifier(host: &Value) -> Option<&str> {
    host.get("customIdentifier")?.as_str().filter(|identifier| !identifier.is_empty())
}

/// Runs disk access on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FatalError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FatalError(format!("a bug in wasaba: {error}")))
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
}
