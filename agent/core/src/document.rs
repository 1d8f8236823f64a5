//! A document of metadata about the host, on its way to Mackerel.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

/// A document to be delivered.
#[derive(Debug)]
pub struct Document {
    /// Where it goes.
    pub namespace: Arc<str>,
    /// The JSON, as it was told: no number in it is rounded.
    pub json: String,
    /// To be told the host's id when Mackerel has it; dropped if it never will.
    pub delivered: oneshot::Sender<Arc<str>>,
}

/// The folder of what was delivered. Who is another host from now on deletes it.
#[must_use]
pub fn folder(root: &Path) -> PathBuf {
    root.join("metadata")
}
