//! The registration: this machine's host on Mackerel, and its description there.
//!
//! A machine is registered once, when it has no id file. Any other problem with its identity is reported to the operator
//! rather than solved by registering it again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;

use super::answer::ApiError;
use super::backoff::Backoff;
use super::client::Client;
use super::endpoints::Host;
use super::id_file::{self, Draft, HostId, IdFile};
use super::{Description, FatalError, Pace, Settings};
use crate::spool::Spool;

/// As in the official agent; Mackerel shows the latest description of a host.
const DESCRIBED_EVERY: Duration = Duration::from_hours(1);

pub(super) struct Registration<'a> {
    pub(super) settings: &'a Settings,
    pub(super) client: &'a Client,
    pub(super) spool: &'a Arc<Spool>,
    pub(super) description: &'a Description,
    pub(super) pace: Pace,
}

/// Why one attempt to register failed.
enum Failure {
    Fatal(FatalError),
    /// Another attempt may succeed.
    Api(ApiError),
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
    /// The id of this machine's host, which is registered if necessary. It retries for as long as it takes, and reads the id
    /// file again each time, so that a correction needs no restart.
    pub(super) async fn register(&self) -> Result<HostId, FatalError> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.try_once().await {
                Ok(host_id) => return Ok(host_id),
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Api(error)) => error,
            };
            let wait = backoff.wait(&error, Instant::now(), (self.pace.random)());
            if backoff.is_news(&error, Instant::now()) {
                self.log(&error, wait);
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn log(&self, error: &ApiError, wait: Duration) {
        let wait = wait.as_secs();
        let path = id_file::path(&self.settings.root);
        match error {
            ApiError::NotFound(_) => tracing::error!(
                "{error}: the host in `{}` does not belong to this organisation: check that `apikey` is of the right one, or \
                 delete the file to register this machine as a new host; values stay queued, retrying in {wait} s",
                path.display()
            ),
            ApiError::Auth(_) | ApiError::Refused(_) => {
                tracing::error!("cannot register this host: {error}; values stay queued, retrying in {wait} s");
            }
            ApiError::Busy(_) | ApiError::NoAnswer(_) => {
                tracing::warn!("cannot register this host: {error}; values stay queued, retrying in {wait} s");
            }
        }
    }

    async fn try_once(&self) -> Result<HostId, Failure> {
        let host_id = match self.known_id().await? {
            Some(host_id) => host_id,
            None => self.new_id().await?,
        };
        let host = self.client.get_host(&host_id).await?;
        self.check_identity(&host_id, &host).await?;
        if host.is_retired {
            tracing::warn!(
                "host `{host_id}` is retired in Mackerel: delete `{}` to register this machine as a new host",
                id_file::path(&self.settings.root).display()
            );
        }
        let status = host.status.as_deref();
        if let Some(on_start) = self.settings.status_on_start.as_deref().filter(|on_start| status != Some(on_start)) {
            self.client.post_status(&host_id, on_start).await?;
        }
        tracing::info!("this machine is host `{host_id}` on Mackerel");
        Ok(host_id)
    }

    /// The id in the id file, or the spool's copy if that file is invalid.
    async fn known_id(&self) -> Result<Option<HostId>, FatalError> {
        let (spool, root) = (self.spool.clone(), self.settings.root.clone());
        blocking(move || match id_file::read(&root)? {
            IdFile::Missing => Ok(None),
            IdFile::Id(host_id) => {
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
                Draft::new(&root)?.write(&copy)?;
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
        let draft = blocking(move || Draft::new(&root)).await??;
        let description = self.describe().await;
        let known = match custom_identifier(&description) {
            Some(identifier) => self.client.find_host(identifier).await?,
            None => None,
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

    /// A machine made from another's disk image has the other's id file; both would post as one host.
    async fn check_identity(&self, host_id: &HostId, host: &Host) -> Result<(), Failure> {
        let Some(theirs) = host.custom_identifier.as_deref() else { return Ok(()) };
        let description = self.describe().await;
        let ours = custom_identifier(&description);
        if ours == Some(theirs) {
            return Ok(());
        }
        if ours.is_none() && self.settings.asks_cloud {
            return Err(Failure::Api(ApiError::NoAnswer(format!(
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

    /// Sends the description now, every hour, and whenever `refresh` is notified. Failures are logged and retried.
    pub(super) async fn keep_described(&self, host_id: &HostId, refresh: &Notify) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.put_description(host_id).await {
                Ok(()) => {
                    backoff.reset();
                    DESCRIBED_EVERY
                }
                Err(error) => {
                    let wait = backoff.wait(&error, Instant::now(), (self.pace.random)());
                    if backoff.is_news(&error, Instant::now()) {
                        tracing::warn!(
                            "cannot update this host's description: {error}; retrying in {} s",
                            wait.as_secs()
                        );
                    }
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = refresh.notified() => {}
            }
        }
    }

    async fn put_description(&self, host_id: &HostId) -> Result<(), ApiError> {
        let description = self.describe().await;
        self.client.put_host(host_id, description.to_string().into_bytes()).await?;
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
