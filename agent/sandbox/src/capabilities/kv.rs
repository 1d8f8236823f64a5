//! `kv`: small values that one instance keeps. A call works on a copy, which counts only if the call succeeds.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::contract::bindings::wasaba::plugin::kv::{self as contract, Error};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> &mut OfCall) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<OfCall>>(linker, view)
}

/// The values of one instance, by key.
pub type Values = BTreeMap<String, Vec<u8>>;

const LONGEST_KEY_BYTES: usize = 255;

/// One call's copy of the values, all that this capability sees.
pub(super) struct OfCall {
    values: Arc<Values>,
    changed: bool,
    quota_bytes: usize,
}

impl OfCall {
    pub(super) fn new(values: Arc<Values>, quota_bytes: usize) -> Self {
        Self { values, changed: false, quota_bytes }
    }

    /// The values, if the call has changed them.
    pub(super) fn changed(&self) -> Option<Arc<Values>> {
        self.changed.then(|| Arc::clone(&self.values))
    }

    fn store(&mut self, key: String, value: Vec<u8>) -> Result<(), Error> {
        if key.is_empty() || key.len() > LONGEST_KEY_BYTES {
            let text = format!("invalid key of {} bytes: a key has from 1 to {LONGEST_KEY_BYTES} bytes", key.len());
            return Err(Error::Invalid(text));
        }
        let others = self.values.iter().filter(|(other, _)| **other != key);
        let others = others.map(|(key, value)| key.len().saturating_add(value.len())).sum::<usize>();
        if others.saturating_add(key.len()).saturating_add(value.len()) > self.quota_bytes {
            let quota = self.quota_bytes;
            return Err(Error::Full(format!("all keys and values together exceed {quota} bytes (limit `kv_kib`)")));
        }
        if self.values.get(&key) != Some(&value) {
            Arc::make_mut(&mut self.values).insert(key, value);
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
        Ok(self.values.get(&key).cloned())
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<Result<(), Error>> {
        Ok(self.store(key, value))
    }

    async fn delete(&mut self, key: String) -> Result<()> {
        self.remove(&key);
        Ok(())
    }

    async fn keys(&mut self) -> Result<Vec<String>> {
        Ok(self.values.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::contract::Host;
    use super::*;

    fn kv() -> OfCall {
        OfCall::new(Arc::new(Values::from([("a".into(), b"1".to_vec())])), 10)
    }

    #[tokio::test]
    async fn a_call_sees_its_own_changes_and_leaves_the_stored_values_alone() {
        let mut kv = kv();
        let before = Arc::clone(&kv.values);
        kv.set("b".into(), b"2".to_vec()).await.unwrap().unwrap();
        kv.delete("a".into()).await.unwrap();
        assert_eq!(kv.get("b".into()).await.unwrap(), Some(b"2".to_vec()));
        assert_eq!(kv.get("a".into()).await.unwrap(), None);
        assert_eq!(kv.keys().await.unwrap(), ["b"]);
        assert_eq!(*kv.changed().unwrap(), Values::from([("b".into(), b"2".to_vec())]));
        assert_eq!(*before, Values::from([("a".into(), b"1".to_vec())]));
    }

    #[test]
    fn setting_an_equal_value_or_deleting_a_missing_key_changes_nothing() {
        let mut kv = kv();
        kv.store("a".into(), b"1".to_vec()).unwrap();
        kv.remove("b");
        assert_eq!(kv.changed(), None);
    }

    #[test]
    fn a_value_over_the_quota_is_refused_and_changes_nothing() {
        let mut kv = kv();
        assert!(matches!(kv.store("b".into(), vec![0; 8]), Err(Error::Full(text)) if text.contains("`kv_kib`")));
        assert_eq!(kv.changed(), None);
        assert_eq!(kv.store("a".into(), vec![0; 9]), Ok(()), "its own old value makes room");
        assert!(kv.store("b".into(), Vec::new()).is_err(), "the key of an empty value takes room");
    }

    #[test]
    fn an_empty_or_too_long_key_is_refused() {
        for key in [String::new(), "k".repeat(256)] {
            assert!(matches!(kv().store(key, Vec::new()), Err(Error::Invalid(_))));
        }
    }
}
