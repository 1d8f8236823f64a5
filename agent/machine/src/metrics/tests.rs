//! Tests that walk [`ALL`]: each family on the frozen machine, on missing files and on garbage.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wasaba_core::collect::{Fault, Moment};
use wasaba_core::sample::Sample;

use super::selection::Selection;
use super::*;
use crate::mounts::prober;
use crate::mounts::prober::Prober;
use crate::roots::frozen;

/// The file that each family reads. A family without its line here fails `every_family_is_tested`.
const READS: &[(&str, &str)] = &[
    ("loadavg", "loadavg"),
    ("cpu", "stat"),
    ("memory", "meminfo"),
    ("interface", "net/dev"),
    ("disk", "diskstats"),
    ("filesystem", "self/mountinfo"),
];

/// A machine of one file, which can be changed between two readings.
struct Machine {
    folder: tempfile::TempDir,
    file: PathBuf,
    collector: Box<dyn Collector>,
    start: Instant,
}

impl Machine {
    fn of(name: &str, file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = frozen::all_in(folder.path());
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        Self { folder, file, collector: open(name, &roots), start: Instant::now() }
    }

    fn read(&mut self, minute: u32, text: impl AsRef<[u8]>) -> Result<Values, Fault> {
        std::fs::write(&self.file, text).unwrap();
        self.collect(minute)
    }

    fn collect(&mut self, minute: u32) -> Result<Values, Fault> {
        let moment = Moment { unix_seconds: 0, instant: self.start + Duration::from_secs(60) * minute };
        let samples = self.collector.collect(moment)?;
        let count = samples.len();
        let values: Values = samples.iter().map(|sample| (sample.name().to_string(), sample.value())).collect();
        assert_eq!(values.len(), count, "a name occurs twice: {samples:?}");
        Ok(values)
    }
}

type Values = BTreeMap<String, f64>;

/// As [`Family::open`], but the sizes of file systems come from the frozen machine.
fn open(name: &str, roots: &Roots) -> Box<dyn Collector> {
    let family = ALL.iter().find(|family| family.name == name).unwrap();
    if name == "filesystem" {
        return Box::new(filesystem::Filesystem::with(roots, &Current::default(), prober::frozen()));
    }
    (family.open)(roots, &Current::default())
}

fn earlier_and_later(file: &str) -> [String; 2] {
    ["proc", "proc.later"].map(|proc| std::fs::read_to_string(frozen::file(proc).join(file)).unwrap())
}

fn golden() -> Values {
    serde_json::from_str(&std::fs::read_to_string(frozen::file("golden.metrics.json")).unwrap()).unwrap()
}

#[test]
fn every_family_is_tested() {
    let names: Vec<_> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(names, READS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn every_family_has_a_file_of_its_name_that_says_what_it_is() {
    for family in ALL {
        let path = Path::new(file!()).with_file_name(family.name).with_extension("rs");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with a doc comment", path.display());
    }
}

#[test]
fn the_frozen_machine_gives_the_golden_values() {
    let mut values = Values::new();
    for (name, file) in READS {
        let [earlier, later] = earlier_and_later(file);
        let mut machine = Machine::of(name, file);
        machine.read(0, earlier).unwrap();
        values.extend(machine.read(1, later).unwrap());
        assert_eq!(machine.collector.warnings(), Vec::<String>::new());
    }
    frozen::assert_golden("golden.metrics.json", &values);
}

#[test]
fn the_first_reading_of_a_counter_gives_nothing() {
    for (name, file) in READS.iter().filter(|(name, _)| ["cpu", "interface", "disk"].contains(name)) {
        let [earlier, _] = earlier_and_later(file);
        assert_eq!(Machine::of(name, file).read(0, earlier).unwrap(), Values::new(), "{name}");
    }
}

#[test]
fn a_missing_file_is_a_fault_that_names_it_and_keeps_the_last_reading() {
    for (name, file) in READS {
        let [earlier, later] = earlier_and_later(file);
        let mut machine = Machine::of(name, file);
        machine.read(0, earlier).unwrap();
        std::fs::remove_file(&machine.file).unwrap();
        let fault = machine.collect(1).unwrap_err();
        assert!(fault.text.contains(&*machine.file.to_string_lossy()), "{name}: {fault}");
        assert!(!machine.read(2, later).unwrap().is_empty(), "{name}");
        assert!(machine.folder.path().exists());
    }
}

#[test]
fn a_truncated_file_gives_no_other_value_than_the_whole_one() {
    const STEP: usize = 7; // a second's worth; prime, so that the cuts fall everywhere in a line
    let golden = golden();
    let check = |what: &str, values: Result<Values, Fault>| {
        for (name, value) in values.unwrap_or_default() {
            assert_eq!(golden.get(&name), Some(&value), "{name} {what}");
        }
    };
    for (name, file) in READS {
        let [earlier, later] = earlier_and_later(file);
        for cut in (0..later.len()).step_by(STEP) {
            let mut machine = Machine::of(name, file);
            machine.read(0, &earlier).unwrap();
            check(&format!("after the later reading was cut at {cut}"), machine.read(1, &later[..cut]));
        }
        for cut in (0..earlier.len()).step_by(STEP) {
            let mut machine = Machine::of(name, file);
            machine.read(0, &earlier[..cut]).ok();
            check(&format!("after the earlier reading was cut at {cut}"), machine.read(1, &later));
        }
    }
}

#[test]
fn garbage_never_panics_and_never_gives_an_impossible_value() {
    let mut dice = Dice(20_261_124);
    for (name, file) in READS {
        let [earlier, later] = earlier_and_later(file);
        let mut machine = Machine::of(name, file);
        for minute in 0..400 {
            let text = if minute % 2 == 0 { &earlier } else { &later };
            for (metric, value) in machine.read(minute, dice.damaged(text.as_bytes())).unwrap_or_default() {
                assert!(metric.starts_with(name), "{metric}");
                assert!(value >= 0.0, "{metric} is {value}");
                assert!(*name != "cpu" || value <= 100.0 * 64.0, "{metric} is {value}");
            }
        }
    }
}

/// Deterministic damage.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn damaged(&mut self, text: &[u8]) -> Vec<u8> {
        const SPLICES: [&[u8]; 10] = [
            b"\n",
            b" ",
            b":",
            b"",
            b"-1",
            b"18446744073709551616",
            b"18446744073709551615",
            b"\xff\0",
            b"nan",
            b"\\040",
        ];
        let mut text = text.to_vec();
        for _ in 0..=self.below(4) {
            let from = self.below(text.len() + 1);
            let to = (from + self.below(40)).min(text.len());
            let piece = match self.below(3) {
                0 => SPLICES[self.below(SPLICES.len())].to_vec(),
                1 => text[to..(to + self.below(80)).min(text.len())].to_vec(),
                _ => (0..self.below(5)).map(|_| self.below(256).to_le_bytes()[0]).collect(),
            };
            text.splice(from..to, piece);
        }
        text
    }
}

#[test]
fn a_mount_that_never_responds_is_warned_of_and_the_others_have_values() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let probe = move |point: &Path| -> io::Result<prober::Space> {
        if point == Path::new("/srv/raid") {
            gate.lock().unwrap().recv().unwrap_err();
        }
        prober::frozen_space(point)
    };
    let prober = Prober::new(probe, Duration::from_millis(500));
    let mut collector = filesystem::Filesystem::with(&frozen::roots(), &Current::default(), prober);
    let moment = Moment { unix_seconds: 0, instant: Instant::now() };
    for _ in 0..2 {
        let samples: Vec<Sample> = collector.collect(moment).unwrap();
        assert_eq!(samples.len(), 10, "{samples:?}");
        assert_eq!(collector.warnings(), ["the file system at `/srv/raid` does not respond"]);
    }
    drop(release);
}

#[test]
fn ignored_file_systems_have_no_values_and_the_selection_may_change() {
    let (roots, current) = (frozen::roots(), Current::default());
    let ignore = |text: &str| Some(regex_lite::Regex::new(text).unwrap());
    let mut collector = filesystem::Filesystem::with(&roots, &current, prober::frozen());
    let mut names = |selection: Selection| {
        current.set(selection);
        let samples = collector.collect(Moment { unix_seconds: 0, instant: Instant::now() }).unwrap();
        samples.iter().map(|sample| sample.name().to_string()).collect::<Vec<_>>()
    };
    let all = names(Selection::default());
    let some = names(Selection { filesystems: ignore("^/dev/mapper/"), ..Selection::default() });
    assert!(!some.is_empty() && some.len() < all.len() && some.iter().all(|name| !name.contains("mapper")), "{some:?}");
    let renamed = names(Selection { use_mountpoint: true, ..Selection::default() });
    assert!(renamed.contains(&"filesystem._.size".to_owned()) && renamed.len() == all.len(), "{renamed:?}");
}
