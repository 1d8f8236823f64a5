//! The registration: this machine's host on Mackerel, and its description there.
//!
//! A machine is registered once, when it has no id file. Any other problem with its identity is reported to the operator
//! rather than solved by registering it again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;
use wasaba_core::clock;
use wasaba_core::text::lasting;

use super::answer::{ApiError, AtFault};
use super::attempt::{Attempt, Traits};
use super::board::{Kind, Lanes};
use super::client::Client;
use super::earlier::{self, Found, Search};
use super::endpoints::Host;
use super::id_file::{self, Draft, FileError, HostId, IdFile};
use super::lanes::{Lane, Words};
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

/// The wait for Mackerel to say what it knows of a host whose id is known.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// The wait for a list of hosts once this machine has one.
const LOOKED_FOR: Duration = Duration::from_secs(30);

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
    /// The host may have been registered although there was no answer.
    Unanswered(ApiError),
    /// It was not found yet after such a request, which failed like this. It is looked for again after so long.
    Unsettled(ApiError, Duration),
    /// The id file cannot be read or written now.
    File(FileError),
    /// The host is there, but its status could not be set.
    Status(ApiError),
}

/// What a run of the agent knows of the requests to register that were not answered.
#[derive(Default)]
struct Open {
    /// Until when a host may appear that was asked for, and why that is not known.
    until: Option<(Instant, ApiError)>,
    search: Search,
    /// Whether the log has it that this machine was another host before.
    is_said: bool,
}

impl From<FatalError> for Failure {
    fn from(error: FatalError) -> Self {
        Self::Fatal(error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::File(error)
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
        let mut open = Open::default();
        loop {
            let tried = self.try_once(&mut open).await;
            match self.judged(&mut lane, tried, "register this host", "values stay queued")? {
                Ok(registered) => return Ok(registered),
                Err(wait) => id_file::wait(&self.settings.root, wait).await,
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
        let mut least = Duration::ZERO;
        let (error, cure) = match tried {
            Ok(done) => {
                lane.is_well();
                return Ok(Ok(done));
            }
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Unidentified(error)) => (error, Some((AtFault::Network, UNIDENTIFIED.to_owned()))),
            Err(Failure::File(FileError { what, cure })) => {
                (ApiError::NoAnswer(what), Some((AtFault::Configuration, cure)))
            }
            Err(Failure::Unanswered(error)) => {
                least = self.soon();
                (error, None)
            }
            Err(Failure::Unsettled(error, wait)) => {
                lane.fault(wait, &error, &Words::new(task, waits));
                return Ok(Err(wait));
            }
            Err(Failure::Api(error) | Failure::Status(error)) => {
                let cure = self.cure_of(&error);
                (error, cure)
            }
        };
        lane.record::<()>(0, &Err(error.clone()));
        Ok(Err(lane.wait_at_least(least, &error, &Words { cure, ..Words::new(task, waits) })))
    }

    /// The cure where it is in this machine's id file.
    fn cure_of(&self, error: &ApiError) -> Option<(AtFault, String)> {
        let is_of_the_id = matches!(error, ApiError::NotFound(_)) && error.is_for_the_operator();
        is_of_the_id.then(|| {
            let before = self.spool.host_id().map(|before| format!(" (its last host was `{before}`)"));
            let cure = format!(
                "the host in `{}` does not belong to this organization: check that `apikey` is of the right one and the id{}, or \
                 delete the file to register this machine as a new host",
                id_file::path(&self.settings.root).display(),
                before.unwrap_or_default()
            );
            (AtFault::Configuration, cure)
        })
    }

    async fn try_once(&self, open: &mut Open) -> Result<Registered, Failure> {
        let host_id = match self.known_id().await? {
            Some(host_id) => host_id,
            None => {
                self.say_that_the_id_is_gone(open);
                self.new_id(open).await?
            }
        };
        if self.spool.host_id().is_some_and(|before| before != host_id.as_str()) {
            // What is queued for the host before is dropped only if Mackerel says that this is one.
            let unchecked = match self.check(&host_id).await {
                Ok(()) => None,
                // It was found.
                Err(Failure::Status(error)) => Some(Unchecked::Failed(error)),
                Err(failure) => return Err(failure),
            };
            self.keep(&host_id).await?;
            return Ok(Registered { host_id, unchecked });
        }
        self.keep(&host_id).await?;
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

    /// Says it once: with the package of another agent its id file may have been removed, too.
    fn say_that_the_id_is_gone(&self, open: &mut Open) {
        if let Some(before) = self.spool.host_id().filter(|_| !open.is_said) {
            open.is_said = true;
            tracing::warn!(
                "`{}` is gone: registering this machine again, which was host `{before}`; to continue as that host, stop the agent, \
                 write its id there and start it again",
                id_file::path(&self.settings.root).display()
            );
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

    /// Remembers in the spool as which host this machine posts.
    async fn keep(&self, host_id: &HostId) -> Result<(), FatalError> {
        let (spool, id) = (self.spool.clone(), host_id.clone());
        blocking(move || spool.keep_host_id(id.as_str())).await
    }

    /// The id in the id file, or the spool's copy if that file is invalid or was cut short.
    async fn known_id(&self) -> Result<Option<HostId>, Failure> {
        let (spool, root) = (self.spool.clone(), self.settings.root.clone());
        blocking(move || {
            let read = id_file::with_patience(&root, id_file::read)?;
            let copy = spool.host_id().and_then(|copy| HostId::new(&copy));
            let is_cut = |id: &HostId| {
                copy.as_ref().is_some_and(|copy| id != copy && copy.as_str().starts_with(id.as_str()))
            };
            match read {
                IdFile::Missing => return Ok(None),
                IdFile::Id(host_id) if !is_cut(&host_id) => {
                    id_file::tidy(&root);
                    return Ok(Some(host_id));
                }
                IdFile::Id(_) | IdFile::Invalid => {}
            }
            let path = id_file::path(&root);
            let copy = copy.ok_or_else(|| {
                FatalError(format!(
                    "`{}` does not contain a valid host id: write the id there that Mackerel shows on this host's page, or \
                     delete the file to register this machine as a new host",
                    path.display()
                ))
            })?;
            let id = copy.clone();
            id_file::with_patience(&root, move |root| Draft::new(root)?.write(&id))?;
            tracing::warn!(
                "`{}` did not contain the whole host id: restored `{copy}` from wasaba's own copy",
                path.display()
            );
            Ok(Some(copy))
        })
        .await?
    }

    /// Finds the host with the cloud's identifier, or that of an earlier attempt, or registers a new host, and writes the id file at
    /// once.
    async fn new_id(&self, open: &mut Open) -> Result<HostId, Failure> {
        let root = self.settings.root.clone();
        let now = clock::seconds_of((self.pace.now)());
        let description = self.describe().await;
        let machine = Traits::of(&self.settings.machine, &description);
        let draft = Arc::new(blocking(move || id_file::with_patience(&root, Draft::new)).await??);
        let earlier = draft.attempt().filter(|earlier| {
            let is_of_another = earlier.is_of_another(&machine);
            if is_of_another {
                tracing::info!("this machine is a copy of another one that was being registered; registering this one");
            }
            !is_of_another
        });
        let known = match custom_identifier(&description) {
            Some(identifier) => self.client.find_host(identifier).await?,
            None => None,
        };
        let known = match (known, earlier) {
            (None, Some(earlier)) => self.earlier_id(open, earlier, now, &description).await?,
            (known, _) => known,
        };
        let host_id = match known {
            Some(host_id) => host_id,
            None => {
                let name = description.get("name").and_then(Value::as_str).unwrap_or_default();
                let attempt = earlier.cloned().unwrap_or_else(|| Attempt::first(now)).again(name, machine);
                let (writing, text) = (Arc::clone(&draft), attempt.clone());
                blocking(move || writing.remember(&text)).await??;
                let marked = earlier::marked(description.clone(), &attempt.token);
                match self.client.post_host(marked.to_string().into_bytes()).await {
                    Ok(host_id) if earlier.is_some() => {
                        self.oldest_id(open, &attempt, now, &description, host_id).await
                    }
                    Ok(host_id) => host_id,
                    Err(error) if error.is_surely_not_done() => {
                        if earlier.is_none() {
                            blocking(move || draft.forget()).await?;
                        }
                        return Err(error.into());
                    }
                    Err(error) => {
                        open.until = Some(((self.pace.instant)() + self.pace.settled, error.clone()));
                        return Err(Failure::Unanswered(error));
                    }
                }
            }
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

    /// The host that an earlier attempt registered; `None` if it certainly registered none. A server may be slow to carry out a request,
    /// and a list to have what was registered, so that this is not certain before some minutes have passed.
    async fn earlier_id(
        &self,
        open: &mut Open,
        earlier: &Attempt,
        now: i64,
        description: &Value,
    ) -> Result<Option<HostId>, Failure> {
        let begin = (self.pace.instant)();
        let (until, why) = open.until.get_or_insert_with(|| {
            tracing::info!("looking for the host that an earlier attempt may have registered");
            let why = format!(
                "an earlier request for that was not answered, and no host that it made is in Mackerel's lists yet; another one \
                 follows {} after the start if none appears",
                lasting(self.pace.settled)
            );
            (begin + self.pace.settled, ApiError::NoAnswer(why))
        });
        let is_finished = match open.search.find(self.client, earlier, now, description).await? {
            Found::Marked(host_id) | Found::Alike(host_id) => {
                tracing::info!("found host `{host_id}`, which this machine registered before it could write the id");
                return Ok(Some(host_id));
            }
            Found::Nothing => true,
            Found::Unfinished => false,
        };
        let (left, soon) = (until.saturating_duration_since((self.pace.instant)()), self.soon());
        if is_finished && left.is_zero() {
            return Ok(None);
        }
        // Once soon, and once in the end: a list is a request, too.
        let passed = self.pace.settled.saturating_sub(left);
        let wait = if is_finished && passed >= soon { left } else { soon };
        Err(Failure::Unsettled(why.clone(), wait))
    }

    /// The wait before a host is looked for again.
    fn soon(&self) -> Duration {
        self.pace.settled / 5
    }

    /// The oldest host of this attempt, of which `newest` is the answer to its last request: an earlier one may have been carried out
    /// late.
    async fn oldest_id(
        &self,
        open: &mut Open,
        attempt: &Attempt,
        now: i64,
        description: &Value,
        newest: HostId,
    ) -> HostId {
        match timeout(LOOKED_FOR, open.search.find(self.client, attempt, now, description)).await {
            Ok(Ok(Found::Marked(oldest))) if oldest != newest => {
                tracing::warn!(
                    "an earlier request to register this machine was carried out late: this machine is host `{oldest}`; \
                     retire host `{newest}` in Mackerel, which was registered in its place and has no values"
                );
                oldest
            }
            _ => newest,
        }
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
            match self.put_description(&mut lane, host_id).await {
                Ok(()) => {
                    lane.is_well();
                    tokio::select! {
                        () = tokio::time::sleep(DESCRIBED_EVERY) => {}
                        () = refresh.notified() => {}
                    }
                }
                Err(error) => {
                    let is_content = error.at_fault() == AtFault::Content;
                    let cure = "check `display_name`, `roles` and the names of checks";
                    let cure = is_content.then(|| (AtFault::Configuration, cure.to_owned()));
                    let words = Words::new("update this host's description", "Mackerel shows the last one");
                    let words = Words { cure, ..words };
                    tokio::time::sleep(lane.wait(&error, &words)).await;
                }
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
