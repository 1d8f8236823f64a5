//! The registration: which host this machine is, and what Mackerel is told about it.
//!
//! A machine is registered once, when it has no id file. Everything else that is wrong with its identity is told to the
//! operator rather than mended by registering it again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::backoff::{Backoff, Complaint};
use super::client::{ApiError, Client};
use super::hosts::{id_in, look_up};
use super::id_file::{self, Draft, HostId, Written};
use super::{Description, FatalError, Pace, Settings};
use crate::spool::Spool;

/// As the official agent does it; Mackerel shows a host's description as it was sent last.
const DESCRIBED_EVERY: Duration = Duration::from_hours(1);

pub(super) struct Registration<'a> {
    pub(super) settings: &'a Settings,
    pub(super) client: &'a Client,
    pub(super) spool: &'a Arc<Spool>,
    pub(super) description: &'a Description,
    pub(super) pace: Pace,
}

/// What ends one try at registering.
enum Stop {
    Fatal(FatalError),
    /// Another try may succeed.
    Api(ApiError),
}

impl From<FatalError> for Stop {
    fn from(error: FatalError) -> Self {
        Self::Fatal(error)
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Registration<'_> {
    /// Finds out which host this machine is, for as long as it takes. The id file is read anew with each try, so that
    /// mending it needs no restart.
    pub(super) async fn register(&self) -> Result<HostId, FatalError> {
        let (mut backoff, mut complaint) = (Backoff::default(), Complaint::default());
        loop {
            let error = match self.try_once().await {
                Ok(host_id) => return Ok(host_id),
                Err(Stop::Fatal(error)) => return Err(error),
                Err(Stop::Api(error)) => error,
            };
            if complaint.is_due(&error, Instant::now()) {
                self.tell(&error);
            }
            tokio::time::sleep(backoff.after(&error, (self.pace.random)())).await;
        }
    }

    fn tell(&self, error: &ApiError) {
        let path = id_file::path(&self.settings.root);
        match error {
            ApiError::NotFound { .. } => tracing::error!(
                "{error}: the host whose id is in `{}` is not in this organisation; see that `apikey` is of the right one, or \
                 delete the file to register this machine as a new host; values are kept meanwhile",
                path.display()
            ),
            ApiError::Auth { .. } | ApiError::Refused { .. } => {
                tracing::error!("cannot register this host: {error}; values are kept meanwhile");
            }
            ApiError::Busy { .. } | ApiError::Unreachable(_) => {
                tracing::warn!("cannot register this host yet: {error}; values are kept meanwhile");
            }
        }
    }

    async fn try_once(&self) -> Result<HostId, Stop> {
        let host_id = match self.known_id().await? {
            Some(host_id) => host_id,
            None => self.new_id().await?,
        };
        let answer = self.client.get(&format!("/api/v0/hosts/{host_id}"), &[]).await?;
        let host = answer.get("host").unwrap_or(&Value::Null);
        self.check_identity(&host_id, host).await?;
        if host.get("isRetired").and_then(Value::as_bool) == Some(true) {
            tracing::warn!(
                "host `{host_id}` is retired on Mackerel; delete `{}` to register this machine as a new host",
                id_file::path(&self.settings.root).display()
            );
        }
        let status = host.get("status").and_then(Value::as_str);
        if let Some(wanted) = self.settings.status_on_start.as_deref().filter(|wanted| status != Some(wanted)) {
            post_status(self.client, &host_id, wanted).await?;
        }
        tracing::info!("this machine is host `{host_id}` on Mackerel");
        Ok(host_id)
    }

    /// The id in the id file, or in the spool if that file is damaged.
    async fn known_id(&self) -> Result<Option<HostId>, FatalError> {
        let (spool, root) = (self.spool.clone(), self.settings.root.clone());
        blocking(move || match id_file::read(&root)? {
            Written::Nothing => Ok(None),
            Written::Id(host_id) => {
                spool.keep_host_id(host_id.as_str());
                Ok(Some(host_id))
            }
            Written::Damaged => {
                let path = id_file::path(&root);
                let copy = spool.host_id().and_then(|copy| HostId::new(&copy)).ok_or_else(|| {
                    FatalError(format!(
                        "`{}` holds no host id: write the id there that Mackerel shows on this host's page, or delete the file \
                         to register this machine as a new host",
                        path.display()
                    ))
                })?;
                Draft::new(&root)?.write(&copy)?;
                tracing::warn!("`{}` held no host id; wrote `{copy}` there from wasaba's own copy", path.display());
                Ok(Some(copy))
            }
        })
        .await?
    }

    /// Finds the host that the cloud's identifier belongs to, or registers a new one, and writes the id file at once.
    async fn new_id(&self) -> Result<HostId, Stop> {
        let root = self.settings.root.clone();
        let draft = blocking(move || Draft::new(&root)).await??;
        let description = self.describe().await;
        let known = match custom_identifier(&description) {
            Some(identifier) => look_up(self.client, identifier).await?,
            None => None,
        };
        let host_id = match known {
            Some(host_id) => host_id,
            None => {
                let answer = self.client.post("/api/v0/hosts", description.to_string().into_bytes()).await?;
                id_in(&answer).ok_or_else(|| {
                    ApiError::Unreachable("the answer to the registration names no host id".to_owned())
                })?
            }
        };
        let (spool, id) = (self.spool.clone(), host_id.clone());
        blocking(move || {
            // The copy first: it must be there when writing the file fails half-way.
            spool.keep_host_id(id.as_str());
            draft.write(&id)
        })
        .await??;
        Ok(host_id)
    }

    /// A machine made from another's disk image carries the other's id file; two would post as one host.
    async fn check_identity(&self, host_id: &HostId, host: &Value) -> Result<(), Stop> {
        let Some(theirs) = custom_identifier(host) else { return Ok(()) };
        let description = self.describe().await;
        let ours = custom_identifier(&description);
        if ours == Some(theirs) {
            return Ok(());
        }
        if ours.is_none() && self.settings.asks_cloud {
            return Err(Stop::Api(ApiError::Unreachable(format!(
                "host `{host_id}` is the cloud instance `{theirs}`, but no metadata service says who this machine is; it is asked \
                 again (`cloud_platform = \"none\"` asks none)"
            ))));
        }
        Err(Stop::Fatal(FatalError(format!(
            "host `{host_id}` belongs to the cloud instance `{theirs}`, but this one is `{}`: if this machine was made from a \
             copy of that one, delete `{}` to register it as a host of its own",
            ours.unwrap_or("unknown"),
            id_file::path(&self.settings.root).display()
        ))))
    }

    /// Sends the description now, every hour, and whenever `refresh` says so. Failures are told and tried again.
    pub(super) async fn keep_described(&self, host_id: &HostId, refresh: &Notify) -> Infallible {
        let (mut backoff, mut complaint) = (Backoff::default(), Complaint::default());
        loop {
            let wait = match self.put_description(host_id).await {
                Ok(()) => {
                    backoff.reset();
                    complaint.reset();
                    DESCRIBED_EVERY
                }
                Err(Stop::Api(error)) => {
                    if complaint.is_due(&error, Instant::now()) {
                        tracing::warn!("cannot update this host's description: {error}");
                    }
                    backoff.after(&error, (self.pace.random)())
                }
                Err(Stop::Fatal(error)) => {
                    tracing::error!("{error}");
                    DESCRIBED_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = refresh.notified() => {}
            }
        }
    }

    async fn put_description(&self, host_id: &HostId) -> Result<(), Stop> {
        let description = self.describe().await;
        self.client.put(&format!("/api/v0/hosts/{host_id}"), description.to_string().into_bytes()).await?;
        tracing::debug!("host description sent");
        Ok(())
    }

    async fn describe(&self) -> Value {
        (self.description)().await
    }
}

/// Sets the host's status.
pub(super) async fn post_status(client: &Client, host_id: &HostId, status: &str) -> Result<(), ApiError> {
    let body = json!({ "status": status }).to_string().into_bytes();
    client.post(&format!("/api/v0/hosts/{host_id}/status"), body).await.map(drop)
}

fn custom_identifier(host: &Value) -> Option<&str> {
    host.get("customIdentifier")?.as_str().filter(|identifier| !identifier.is_empty())
}

/// Runs what may wait for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FatalError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FatalError(format!("a bug in wasaba: {error}")))
}
