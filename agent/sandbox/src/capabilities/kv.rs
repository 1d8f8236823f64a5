//! `kv`: small values that one instance keeps. A call works on a copy, which counts only if the call succeeds.

use std::sync::Arc;

use wasaba_core::collect::StoredValues;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::contract::wire::kv::{self as contract, Error};
use crate::failure::{Failure, Kind};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> &mut OfCall) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<OfCall>>(linker, view)
}

/// A value, and until when it is there.
fn parts(stored: &[u8]) -> Option<(i64, &[u8])> {
    stored.split_first_chunk::<8>().map(|(until, value)| (i64::from_le_bytes(*until), value))
}

const LONGEST_KEY_BYTES: usize = 255;

/// One call's copy of the values, all that this capability sees.
pub(super) struct OfCall {
    /// Before each, eight bytes say until when it is there, in milliseconds since 1970; 0 is forever.
    values: Arc<StoredValues>,
    changed: bool,
    quota_bytes: usize,
    /// When the call began.
    unix_millis: i64,
}

impl OfCall {
    pub(super) fn new(values: Arc<StoredValues>, quota_bytes: usize, unix_millis: i64) -> Self {
        Self { values, changed: false, quota_bytes, unix_millis }
    }

    /// The value, if it is there and its time is not over.
    fn value<'a>(&self, stored: &'a [u8]) -> Option<&'a [u8]> {
        parts(stored).filter(|(until, _)| *until == 0 || *until > self.unix_millis).map(|(_, value)| value)
    }

    /// The values, if the call has changed them.
    pub(super) fn changed(&self) -> Option<Arc<StoredValues>> {
        self.changed.then(|| Arc::clone(&self.values))
    }

    fn store(&mut self, key: String, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Failure> {
        if key.is_empty() || key.len() > LONGEST_KEY_BYTES {
            let text = format!("invalid key of {} bytes: a key has from 1 to {LONGEST_KEY_BYTES} bytes", key.len());
            return Err(Failure::new(Kind::Invalid, text));
        }
        let others = self.values.iter().filter(|(other, _)| **other != key);
        let others = others.filter_map(|(key, stored)| Some(key.len().saturating_add(self.value(stored)?.len())));
        if others.sum::<usize>().saturating_add(key.len()).saturating_add(value.len()) > self.quota_bytes {
            let quota = self.quota_bytes;
            let text = format!("all keys and values together exceed {quota} bytes (limit `kv_kib`)");
            return Err(Failure::new(Kind::Full, text));
        }
        let until = ttl_ms.map(|ttl| self.unix_millis.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX)));
        let stored = [&until.unwrap_or(0).to_le_bytes(), value].concat();
        if self.values.get(&key) != Some(&stored) {
            let now = self.unix_millis;
            let values = Arc::make_mut(&mut self.values);
            // Expired values make room.
            values.retain(|_, stored| parts(stored).is_some_and(|(until, _)| until == 0 || until > now));
            values.insert(key, stored);
            self.changed = true;
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if self.values.contains_key(key) {
            Arc::make_mut(&mut self.values).remove(key);
            self.changed = true;
        }
    }
}

impl contract::Host for OfCall {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.values.get(&key).and_then(|stored| self.value(stored)).map(<[u8]>::to_vec))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<Result<(), Error>> {
        Ok(self.store(key, &value, ttl_ms).map_err(Error::from))
    }

    async fn delete(&mut self, key: String) -> Result<()> {
        self.remove(&key);
        Ok(())
    }

    async fn keys(&mut self, prefix: String) -> Result<Vec<String>> {
        let range = self.values.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        Ok(range.filter(|(_, stored)| self.value(stored).is_some()).map(|(key, _)| key.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::contract::Host;
    use super::*;

    /// With `a`, and at most 10 bytes.
    fn kv() -> OfCall {
        let mut kv = OfCall::new(Arc::default(), 10, 1_000);
        kv.store("a".into(), b"1", None).unwrap();
        OfCall::new(kv.changed().unwrap(), 10, 1_000)
    }

    #[tokio::test]
    async fn a_call_sees_its_own_changes_and_leaves_the_stored_values_alone() {
        let mut kv = kv();
        let before = Arc::clone(&kv.values);
        kv.set("b".into(), b"2".to_vec(), None).await.unwrap().unwrap();
        kv.delete("a".into()).await.unwrap();
        assert_eq!(kv.get("b".into()).await.unwrap(), Some(b"2".to_vec()));
        assert_eq!(kv.get("a".into()).await.unwrap(), None);
        assert_eq!(kv.keys(String::new()).await.unwrap(), ["b"]);
        assert_eq!(kv.changed().unwrap().keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(before.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[tokio::test]
    async fn a_value_is_gone_when_its_time_is_over() {
        let mut kv = kv();
        kv.set("token".into(), b"x".to_vec(), Some(500)).await.unwrap().unwrap();
        assert_eq!(kv.keys("t".into()).await.unwrap(), ["token"]);
        let values = kv.changed().unwrap();
        for (unix_millis, there) in [(1_499, true), (1_500, false)] {
            let mut later = OfCall::new(Arc::clone(&values), 10, unix_millis);
            assert_eq!(later.get("token".into()).await.unwrap().is_some(), there, "{unix_millis}");
            assert_eq!(later.keys(String::new()).await.unwrap().len(), if there { 2 } else { 1 });
            // It also makes room.
            assert_eq!(later.store("b".into(), &[0; 5], None).is_ok(), !there, "{unix_millis}");
        }
    }

    #[tokio::test]
    async fn keys_are_listed_by_their_beginning() {
        let mut kv = OfCall::new(Arc::default(), 100, 0);
        for key in ["b.2", "a.1", "b.1", "c"] {
            kv.store(key.into(), b"", None).unwrap();
        }
        assert_eq!(kv.keys("b.".into()).await.unwrap(), ["b.1", "b.2"]);
        assert_eq!(kv.keys("x".into()).await.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn setting_an_equal_value_or_deleting_a_missing_key_changes_nothing() {
        let mut kv = kv();
        kv.store("a".into(), b"1", None).unwrap();
        kv.remove("b");
        assert_eq!(kv.changed(), None);
    }

    #[test]
    fn a_value_over_the_quota_is_refused_and_changes_nothing() {
        let mut kv = kv();
        let refused = kv.store("b".into(), &[0; 8], None).unwrap_err();
        assert!(refused.kind == Kind::Full && refused.text.contains("`kv_kib`"), "{refused:?}");
        assert_eq!(kv.changed(), None);
        assert_eq!(kv.store("a".into(), &[0; 9], None), Ok(()), "its own old value makes room");
        assert!(kv.store("b".into(), &[], None).is_err(), "the key of an empty value takes room");
    }

    #[test]
    fn an_empty_or_too_long_key_is_refused() {
        for key in [String::new(), "k".repeat(256)] {
            assert_eq!(kv().store(key, &[], None).unwrap_err().kind, Kind::Invalid);
        }
    }
}
