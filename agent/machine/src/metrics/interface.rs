//! Network interfaces in bytes per second: `interface.<name>.rxBytes.delta` and `.txBytes.delta`, from `/proc/net/dev`.
//!
//! Skipped are the loopback `lo` and `veth…`, which each new container has under another name.

use wasaba_core::collect::{Collector, Fault, Moment};
use wasaba_core::sample::{Sample, segment};

use super::selection::{Current, Selection};
use super::throughput::{Counters, Throughput};
use crate::roots::{RereadFile, Roots, whole_lines};

/// Reads `/proc/net/dev`, and keeps the reading of the last minute.
#[derive(Debug)]
pub struct Interface {
    dev: RereadFile,
    selection: Current,
    throughput: Throughput,
}

impl Interface {
    /// A collector that reads the selected interfaces below `roots`.
    #[must_use]
    pub fn open(roots: &Roots, selection: &Current) -> Self {
        // A frozen machine has no processes.
        let dev = if roots.host.is_some() { roots.seen("net/dev") } else { roots.proc.join("net/dev") };
        let dev = RereadFile::at(dev);
        Self { dev, selection: selection.clone(), throughput: Throughput::default() }
    }
}

impl Collector for Interface {
    fn collect(&mut self, moment: Moment) -> Result<Vec<Sample>, Fault> {
        let mut now = parse(&self.dev.read()?);
        let selection = self.selection.get();
        now.retain(|name, _| Selection::wants(selection.interfaces.as_ref(), name));
        Ok(self.throughput.samples(moment, "interface", ["rxBytes", "txBytes"], now))
    }
}

/// Received and sent bytes by interface. Other lines, such as the header, are skipped.
fn parse(text: &str) -> Counters {
    whole_lines(text).filter_map(line).collect()
}

/// `  eth0: <8 columns of what was received> <8 of what was sent>`; old kernels write no space after the colon.
fn line(line: &str) -> Option<(String, [u64; 2])> {
    let (name, columns) = line.split_once(':')?;
    let name = name.trim_ascii_start();
    if name == "lo" || name.starts_with("veth") {
        return None;
    }
    let mut columns = columns.split_ascii_whitespace();
    let received = columns.next()?.parse().ok()?;
    let sent = columns.nth(7)?.parse().ok()?;
    columns.nth(6)?; // all sixteen must exist
    Some((segment(name), [received, sent]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_touch_its_first_column() {
        let counters = parse("eth1:183651236 2 3 4 5 6 7 8 9000 10 11 12 13 14 15 16\n");
        assert_eq!(counters, Counters::from([("eth1".to_owned(), [183_651_236, 9000])]));
    }

    #[test]
    fn loopback_and_containers_are_skipped_and_bridges_are_not() {
        let line = |name: &str| format!("  {name}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        let text: String = ["lo", "lo1", "veth3f2a", "docker0", "br-1a", "eth0.100"].map(line).concat();
        assert_eq!(parse(&text).into_keys().collect::<Vec<_>>(), ["br-1a", "docker0", "eth0_100", "lo1"]);
    }

    #[test]
    fn a_line_that_is_short_or_not_a_number_costs_only_itself() {
        let text = "a: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n\
                    b: x 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                    c: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        assert_eq!(parse(text).into_keys().collect::<Vec<_>>(), ["c"]);
    }
}
