//! An attempt to register: what is remembered of it, in `.id.since` beside the id file, from before the request until the id is written.
//!
//! It has a line each: since when, in seconds since 1970, and the first name of the host; the token; and then, by a word, each further
//! name and what the machine is known by.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::MachineIds;
use super::backoff::token;

/// Names of a machine that changes its name all the time. Each was posted, minutes after the one before.
const MOST_NAMES: usize = 32;

/// More hardware addresses are not needed to know a machine again.
const MOST_MACS: usize = 32;

/// Links that programs make: their hardware addresses are drawn at random, or are in a file that is copied with the disk.
const MADE: [&str; 9] = ["br-", "cni", "docker", "lxcbr", "lxdbr", "podman", "veth", "virbr", "vnet"];

/// An attempt to register of which no id arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    /// When it began by this machine's clock, in seconds since 1970.
    pub(super) since: i64,
    /// The names under which the host was asked for.
    pub(super) names: Vec<String>,
    /// What its description is marked with; empty if that is not known.
    pub(super) token: String,
    machine: Traits,
}

/// What a machine is known by, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    ids: MachineIds,
    macs: BTreeSet<String>,
}

impl Attempt {
    /// The first attempt of a machine, at `now`, in seconds since 1970.
    pub(super) fn first(now: i64) -> Self {
        Self { since: now, token: token(), ..Self::default() }
    }

    /// The attempt with another request, for a host with this name.
    pub(super) fn again(mut self, name: &str, machine: Traits) -> Self {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
        if self.names.len() > MOST_NAMES {
            self.names.remove(1);
        }
        Self { machine, ..self }
    }

    /// Whether it certainly is that of another machine, which this one is a copy of.
    pub(super) fn is_of_another(&self, machine: &Traits) -> bool {
        machine.is_another_than(&self.machine)
    }

    /// A damaged one is as old as can be.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().trim();
        let (since, name) = first.split_once(' ').unwrap_or((first, ""));
        let Ok(since) = since.parse() else { return Self::default() };
        let token = lines.next().unwrap_or_default().trim().to_owned();
        let names = Some(name.to_owned()).filter(|name| !name.is_empty()).into_iter().collect();
        let mut attempt = Self { since, names, token, machine: Traits::default() };
        for (word, value) in lines.filter_map(|line| line.split_once(' ')) {
            let (value, ids) = (value.trim().to_owned(), &mut attempt.machine.ids);
            match word {
                "name" => attempt.names.push(value),
                "mac" => _ = attempt.machine.macs.insert(value),
                "machine" => ids.machine = Some(value),
                "hardware" => ids.hardware = Some(value),
                "boot" => ids.boot = Some(value),
                _ => {}
            }
        }
        attempt
    }

    /// As it is written.
    pub(super) fn text(&self) -> String {
        let Self { since, names, token, machine: Traits { ids, macs } } = self;
        let mut names = names.iter();
        let mut text = format!("{since} {}\n{token}\n", names.next().map(String::as_str).unwrap_or_default());
        let ids = [("machine", &ids.machine), ("hardware", &ids.hardware), ("boot", &ids.boot)];
        let ids = ids.into_iter().filter_map(|(word, id)| Some((word, id.as_ref()?)));
        let lines = names.map(|name| ("name", name)).chain(ids).chain(macs.iter().map(|mac| ("mac", mac)));
        for (word, value) in lines {
            _ = writeln!(text, "{word} {value}");
        }
        text
    }
}

impl Traits {
    /// Those of the machine that is described like this.
    pub(super) fn of(ids: &MachineIds, description: &Value) -> Self {
        let interfaces = description.get("interfaces").and_then(Value::as_array).into_iter().flatten();
        let macs = interfaces.filter_map(|interface| {
            let text = |key: &str| interface.get(key).and_then(Value::as_str);
            let name = text("name").unwrap_or_default();
            text("macAddress").filter(|_| !MADE.iter().any(|made| name.starts_with(made))).map(str::to_lowercase)
        });
        Self { ids: ids.clone(), macs: macs.take(MOST_MACS).collect() }
    }

    /// Whether this certainly is another machine: nothing that only one machine has is the same, and something is not. A reboot, another
    /// kernel, or a network that is not there yet make none.
    fn is_another_than(&self, then: &Self) -> bool {
        let is = |now: &Option<String>, then: &Option<String>, same: bool| {
            now.as_ref().zip(then.as_ref()).is_some_and(|(now, then)| (now == then) == same)
        };
        let (now, before) = (&self.ids, &then.ids);
        let is_same = is(&now.boot, &before.boot, true)
            || is(&now.hardware, &before.hardware, true)
            || !self.macs.is_disjoint(&then.macs);
        // Copies often keep the machine id, so that the same one proves nothing.
        let differs = is(&now.hardware, &before.hardware, false)
            || is(&now.machine, &before.machine, false)
            || !self.macs.is_empty() && !then.macs.is_empty();
        !is_same && differs
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A machine with these ids, in the order of the fields (`-` is an unknown one), and hardware addresses.
    fn machine(ids: &str, macs: &[&str]) -> Traits {
        let mut ids = ids.split(' ').map(|id| Some(id.to_owned()).filter(|id| id != "-"));
        let mut next = || ids.next().unwrap();
        let ids = MachineIds { machine: next(), hardware: next(), boot: next() };
        let interfaces = macs.iter().map(|mac| json!({"name": "eth0", "macAddress": mac})).collect::<Vec<_>>();
        Traits::of(&ids, &json!({"interfaces": interfaces}))
    }

    #[test]
    fn a_reboot_a_new_network_or_another_kernel_makes_no_other_machine_and_a_copy_of_the_disk_does() {
        let then = machine("m u b", &["02:00:00:00:00:0A", "02:00:00:00:00:0b"]);
        for (ids, macs, is_another) in [
            ("m u b", &["02:00:00:00:00:0a", "02:00:00:00:00:0b"][..], false),
            ("m u later", &["02:00:00:00:00:0a"], false),
            ("m u later", &["02:00:00:00:00:0c"], false),
            ("m u later", &[], false),
            ("m - later", &[], false),
            ("drawn - later", &["02:00:00:00:00:0b"], false),
            ("m - b", &["02:00:00:00:00:0c"], false),
            ("- - -", &[], false),
            ("m other later", &["02:00:00:00:00:0c"], true),
            ("m - later", &["02:00:00:00:00:0c"], true),
            ("other - later", &[], true),
            ("m other later", &[], true),
        ] {
            assert_eq!(machine(ids, macs).is_another_than(&then), is_another, "{ids} {macs:?}");
            assert_eq!(then.is_another_than(&machine(ids, macs)), is_another, "{ids} {macs:?}");
        }
        assert!(!then.is_another_than(&Traits::default()), "an earlier version did not write it");
    }

    #[test]
    fn the_address_of_a_bridge_that_is_copied_with_the_disk_proves_nothing() {
        let with = |mac: &str| {
            let bridge = json!({"name": "virbr0", "macAddress": "52:54:00:00:00:01"});
            let interfaces = [bridge, json!({"name": "eth0", "macAddress": mac})];
            Traits::of(&MachineIds::default(), &json!({ "interfaces": interfaces }))
        };
        assert!(with("02:00:00:00:00:01").is_another_than(&with("02:00:00:00:00:02")));
    }

    #[test]
    fn what_was_written_is_read_again_and_of_a_damaged_file_what_can_be() {
        let attempt = Attempt::first(100).again("my web", machine("m - b", &["02:00:00:00:00:0a"]));
        let attempt = attempt.again("web1", machine("m u later", &["02:00:00:00:00:0a", "02:00:00:00:00:0b"]));
        assert_eq!(attempt.token.len(), 16);
        assert_eq!(Attempt::parse(attempt.text().as_bytes()), attempt);
        for (text, since, name, token) in [
            ("100 web\nabc\n", 100, Some("web"), "abc"),
            ("100\n", 100, None, ""),
            ("1\0 web", 0, None, ""),
            ("", 0, None, ""),
        ] {
            let expected = Attempt {
                since,
                names: name.map(str::to_owned).into_iter().collect(),
                token: token.to_owned(),
                ..Attempt::default()
            };
            assert_eq!(Attempt::parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn each_name_is_kept_once_and_the_first_and_newest_of_many() {
        let names = (0..MOST_NAMES + 5).map(|number| format!("web{number}")).collect::<Vec<_>>();
        let mut attempt = Attempt::first(100);
        for name in names.iter().flat_map(|name| [name, name]) {
            attempt = attempt.again(name, Traits::default());
        }
        assert_eq!(
            (attempt.names.len(), &attempt.names[0], attempt.names.last()),
            (MOST_NAMES, &names[0], names.last())
        );
    }
}
