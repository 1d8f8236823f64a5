//! The secrets of an instance, and how they are hidden in whatever its plugin says.

use std::borrow::Cow;
use std::sync::Arc;

use wasaba_core::secret::Secret;
use wasaba_core::text::printable;

/// The secrets of one instance. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<[Secret]>);

impl Secrets {
    pub(super) fn new(secrets: impl Into<Arc<[Secret]>>) -> Self {
        Self(secrets.into())
    }

    /// A plugin's text, safe to show: without the secrets, escaped, and cut at `most_bytes`.
    pub(super) fn shown(&self, text: &str, most_bytes: usize) -> String {
        let hidden = self.0.iter().fold(Cow::Borrowed(text), |text, secret| secret.redacted_in(&text).into());
        printable(&hidden, most_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_in_a_text_that_is_shown() {
        let secrets = Secrets::new(vec![Secret::new("hunter2"), Secret::new("token")]);
        assert_eq!(secrets.shown("hunter2 and\ntoken", 100), "[redacted] and\\n[redacted]");
        assert_eq!(secrets.shown("hunter2 and more", 12), "[redacted] a…");
    }
}
