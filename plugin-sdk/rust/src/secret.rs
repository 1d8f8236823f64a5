//! A secret of the operator, as a handle: the agent has its text, the plugin has not.

use std::rc::Rc;

use crate::Error;
use crate::agent::types as wire;

/// A secret. Put it into a header ([`http::Request`](crate::http::Request)), a message
/// ([`Connection::send_secret`](crate::tcp::Connection::send_secret)) or a proof ([`crypto`](crate::crypto)).
#[derive(Clone, Debug)]
pub struct Secret(pub(crate) Rc<wire::Secret>);

impl Secret {
    pub(crate) fn new(handle: wire::Secret) -> Self {
        Self(Rc::new(handle))
    }

    /// Its length in bytes, as for a message that announces it.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length() as usize
    }

    /// Its text.
    ///
    /// # Errors
    /// [`Error::Denied`], unless the operator's table has `reveal = true`.
    pub fn reveal(&self) -> Result<String, Error> {
        self.0.reveal().map_err(Error::from)
    }
}
