//! `kv`: small values that one instance keeps. A call works on a copy, which counts when the call has ended well.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::Guest;
use super::bindings::wasaba::plugin::kv::{self as contract, Error};

pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

/// The values of one instance, by key.
pub type Values = BTreeMap<String, Vec<u8>>;

const LONGEST_KEY_BYTES: usize = 255;

/// One call's view of the values.
pub(super) struct Kv {
    values: Arc<Values>,
    changed: bool,
    quota_bytes: usize,
}

impl Kv {
    pub(super) fn new(values: Arc<Values>, quota_bytes: usize) -> Self {
        Self { values, changed: false, quota_bytes }
    }

    /// The values, if the call has changed them.
    pub(super) fn changed(&self) -> Option<Arc<Values>> {
        self.changed.then(|| Arc::clone(&self.values))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), Error> {
        if key.is_empty() || key.len() > LONGEST_KEY_BYTES {
            return Err(Error::Invalid(format!("a key has from 1 to {LONGEST_KEY_BYTES} bytes, not {}", key.len())));
        }
        let others = self.values.iter().filter(|(other, _)| **other != key);
        let others = others.map(|(key, value)| key.len().saturating_add(value.len())).sum::<usize>();
        if others.saturating_add(key.len()).saturating_add(value.len()) > self.quota_bytes {
            let quota = self.quota_bytes;
            return Err(Error::Full(format!("all keys and values together may take {quota} bytes (limit `kv_kib`)")));
        }
        if self.values.get(&key) != Some(&value) {
            Arc::make_mut(&mut self.values).insert(key, value);
            self.changed = true;
        }
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        if self.values.contains_key(key) {
            Arc::make_mut(&mut self.values).remove(key);
            self.changed = true;
        }
    }
}

impl contract::Host for Guest {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.kv.values.get(&key).cloned())
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<Result<(), Error>> {
        Ok(self.kv.set(key, value))
    }

    async fn delete(&mut self, key: String) -> Result<()> {
        self.kv.delete(&key);
        Ok(())
    }

    async fn keys(&mut self) -> Result<Vec<String>> {
        Ok(self.kv.values.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv() -> Kv {
        Kv::new(Arc::new(Values::from([("a".into(), b"1".to_vec())])), 10)
    }

    #[test]
    fn a_call_sees_its_own_changes_and_nobody_else_does() {
        let mut kv = kv();
        let before = Arc::clone(&kv.values);
        kv.set("b".into(), b"2".to_vec()).unwrap();
        kv.delete("a");
        assert_eq!(*kv.changed().unwrap(), Values::from([("b".into(), b"2".to_vec())]));
        assert_eq!(*before, Values::from([("a".into(), b"1".to_vec())]));
    }

    #[test]
    fn setting_what_is_there_or_deleting_what_is_not_changes_nothing() {
        let mut kv = kv();
        kv.set("a".into(), b"1".to_vec()).unwrap();
        kv.delete("b");
        assert_eq!(kv.changed(), None);
    }

    #[test]
    fn what_exceeds_the_quota_is_refused_and_leaves_everything_as_it_was() {
        let mut kv = kv();
        assert!(matches!(kv.set("b".into(), vec![0; 8]), Err(Error::Full(text)) if text.contains("`kv_kib`")));
        assert_eq!(kv.changed(), None);
        assert_eq!(kv.set("a".into(), vec![0; 9]), Ok(()), "its own old value makes room");
        assert!(kv.set("b".into(), Vec::new()).is_err(), "an empty value has a key that takes room");
    }

    #[test]
    fn a_key_that_is_empty_or_too_long_is_refused() {
        for key in [String::new(), "k".repeat(256)] {
            assert!(matches!(kv().set(key, Vec::new()), Err(Error::Invalid(_))));
        }
    }
}
