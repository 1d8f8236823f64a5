//! `call`: what a call may still take, and what the agent is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wasaba_core::clock;
use wasaba_core::limits::{KEYS, Limits};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::ALL;
use crate::contract::wire::call as contract;

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> &mut OfCall) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<OfCall>>(linker, view)
}

/// What came to a capability after its first version, by interface and function. Nothing yet.
const FEATURES: &[&str] = &[];

/// One call: when it began, and its limits.
pub(super) struct OfCall {
    limits: Arc<Limits>,
    /// By the wall clock.
    began: SystemTime,
    ends: Instant,
}

impl OfCall {
    /// A call that begins now, at `began` by the wall clock.
    pub(super) fn new(limits: Arc<Limits>, began: SystemTime) -> Self {
        let ends = clock::instant() + limits.time;
        Self { limits, began, ends }
    }

    fn remaining(&self) -> Duration {
        self.ends.saturating_duration_since(clock::instant())
    }

    fn limit_named(&self, name: &str) -> Option<u64> {
        if name == "timeout_seconds" {
            return Some(self.limits.time.as_secs());
        }
        KEYS.iter().find(|key| key.name == name).map(|key| (key.get)(&self.limits))
    }
}

impl contract::Host for OfCall {
    async fn remaining_ms(&mut self) -> Result<u64> {
        Ok(u64::try_from(self.remaining().as_millis()).unwrap_or(u64::MAX))
    }

    async fn minute(&mut self) -> Result<u64> {
        let seconds = u64::try_from(clock::seconds_of(self.began)).unwrap_or(0);
        Ok(seconds - seconds % 60)
    }

    async fn limit(&mut self, name: String) -> Result<Option<u64>> {
        Ok(self.limit_named(&name))
    }

    async fn agent_version(&mut self) -> Result<String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    async fn has(&mut self, feature: String) -> Result<bool> {
        Ok(ALL.iter().any(|capability| capability.name == feature) || FEATURES.contains(&feature.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::contract::Host;
    use super::*;

    fn call() -> OfCall {
        OfCall::new(Arc::default(), SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_059_999))
    }

    #[tokio::test]
    async fn a_call_knows_its_minute_what_is_left_of_it_and_its_limits() {
        let mut call = call();
        assert_eq!(call.minute().await.unwrap(), 1_700_000_040);
        assert!(call.remaining_ms().await.unwrap() <= 10_000);
        assert_eq!(call.limit("samples".into()).await.unwrap(), Some(1_000));
        assert_eq!(call.limit("timeout_seconds".into()).await.unwrap(), Some(10));
        assert_eq!(call.limit("patience".into()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_call_can_ask_which_capabilities_the_agent_has() {
        for (feature, expected) in
            [("http", true), ("call", true), ("udp", false), ("http.send-all", false), ("", false)]
        {
            assert_eq!(call().has(feature.into()).await.unwrap(), expected, "{feature}");
        }
        assert_eq!(call().agent_version().await.unwrap(), env!("CARGO_PKG_VERSION"));
    }
}
