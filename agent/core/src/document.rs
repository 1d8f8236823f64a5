//! The document: metadata about the host, on its way to Mackerel.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

/// The longest document that Mackerel accepts.
pub const LONGEST_BYTES: usize = 100_000;

/// A document that must be delivered.
#[derive(Debug)]
pub struct Document {
    /// Its namespace on Mackerel.
    pub namespace: Arc<str>,
    /// The JSON as the plugin wrote it: no number in it is rounded.
    pub json: String,
    /// Gets the host's id when Mackerel has stored the document; dropped if delivery fails for good.
    pub delivered: oneshot::Sender<Arc<str>>,
}

/// The folder that records what was delivered. It is deleted when the agent becomes another host.
#[must_use]
pub fn folder(root: &Path) -> PathBuf {
    root.join("metadata")
}
