//! The statuses: what each check found last, and since when, for whoever shows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasaba_core::report::Status;

/// What a check found last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name that it is reported under.
    pub name: Arc<str>,
    /// The status.
    pub status: Status,
    /// Since when it has this status, in seconds since 1970.
    pub since: i64,
    /// When it ran last, in seconds since 1970.
    pub ran: i64,
    /// How long that took.
    pub took: Duration,
    /// What it said.
    pub message: String,
}

/// The last results of all checks. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct Statuses(Arc<Mutex<BTreeMap<Key, Found>>>);

/// The check's name in the configuration, the host that it reports about, if that is another one, and the name that the result is
/// reported under.
type Key = (Arc<str>, Option<Arc<str>>, Arc<str>);

impl Statuses {
    /// All of them, by check and name.
    #[must_use]
    pub fn all(&self) -> Vec<Found> {
        self.lock().values().cloned().collect()
    }

    /// The results of one check, which are removed with it, about this host or the one with this custom identifier.
    #[must_use]
    pub fn of(&self, check: &Arc<str>, host: Option<&Arc<str>>) -> OfCheck {
        OfCheck { table: self.clone(), check: Arc::clone(check), host: host.cloned() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results of one check.
pub struct OfCheck {
    table: Statuses,
    check: Arc<str>,
    host: Option<Arc<str>>,
}

impl OfCheck {
    /// Records what a run at this time, in seconds since 1970, found, and how long it took.
    pub fn note(&self, name: &Arc<str>, status: Status, message: &str, ran: i64, took: Duration) {
        let mut table = self.table.lock();
        let key = (Arc::clone(&self.check), self.host.clone(), Arc::clone(name));
        let found = table.entry(key).or_insert_with(|| Found {
            name: Arc::clone(name),
            status,
            since: ran,
            ran,
            took,
            message: String::new(),
        });
        if found.status != status {
            (found.status, found.since) = (status, ran);
        }
        (found.ran, found.took) = (ran, took);
        message.clone_into(&mut found.message);
    }

    /// Removes the results of all names but these.
    pub(crate) fn keep(&self, is_kept: impl Fn(&Arc<str>) -> bool) {
        self.table.lock().retain(|(check, _, name), _| *check != self.check || is_kept(name));
    }

    /// Whether another check reports under this name.
    pub(crate) fn is_of_another(&self, name: &str) -> bool {
        let table = self.table.lock();
        table.keys().any(|(check, host, reported)| *check != self.check && *host == self.host && **reported == *name)
    }
}

impl Drop for OfCheck {
    fn drop(&mut self) {
        self.keep(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_lasted_since_it_changed_and_is_removed_with_its_check() {
        let statuses = Statuses::default();
        let (disk, other) = (statuses.of(&"disk".into(), None), statuses.of(&"other".into(), None));
        other.note(&"other".into(), Status::Ok, "", 1, Duration::ZERO);
        for (ran, status) in [(60, Status::Ok), (120, Status::Critical), (180, Status::Critical)] {
            disk.note(&"disk-root".into(), status, "full", ran, Duration::ZERO);
        }
        let all = statuses.all();
        let [root, _] = &all[..] else { panic!("{all:?}") };
        assert_eq!((root.status, root.since, root.ran, root.message.as_str()), (Status::Critical, 120, 180, "full"));
        disk.note(&"disk-home".into(), Status::Ok, "", 180, Duration::ZERO);
        disk.keep(|name| **name == *"disk-home");
        assert_eq!(statuses.all().iter().map(|found| &*found.name).collect::<Vec<_>>(), ["disk-home", "other"]);
        drop(disk);
        assert_eq!(statuses.all().len(), 1);
    }

    #[test]
    fn a_name_of_one_host_belongs_to_the_check_that_reported_under_it_first_as_long_as_it_does() {
        let statuses = Statuses::default();
        let of = |check: &str, host: Option<&str>| statuses.of(&check.into(), host.map(Arc::from).as_ref());
        let (first, second, of_other_host) = (of("a", None), of("a-b", None), of("x", Some("db")));
        first.note(&"a-b-c".into(), Status::Ok, "", 1, Duration::ZERO);
        assert!(second.is_of_another("a-b-c") && !first.is_of_another("a-b-c"));
        assert!(!second.is_of_another("a-b-d") && !of_other_host.is_of_another("a-b-c"));
        first.keep(|_| false);
        assert!(!second.is_of_another("a-b-c"));
    }
}
