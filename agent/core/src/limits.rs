//! The limits of a plugin: its engine, how much a call may use before it is stopped, and the keys that set the limits.

use std::fmt;
use std::time::Duration;

/// The engine that runs a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The interpreter.
    #[default]
    Pulley,
    /// Native code, for plugins that compute a lot; it needs executable memory.
    Native,
}

impl Engine {
    /// Every engine, for lists of valid values.
    pub const ALL: &[Self] = &[Self::Pulley, Self::Native];

    /// The engine of this name, as in `engine = "native"`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|engine| engine.name() == name)
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pulley => "pulley",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The longest time limit of a call that can be configured: the next call begins after 60 s.
pub const LONGEST_CALL: Duration = Duration::from_secs(50);

/// The limits of one instance's calls, and of compiling its component. The contract's manual (`wit/`) states the same figures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Wall-clock time of the whole call, waiting included.
    pub time: Duration,
    /// The time in which the plugin computes, counted in ticks of the sandbox's clock.
    pub compute: Duration,
    /// Memory, summed over all of the component's memories.
    pub memory_bytes: usize,
    /// Table elements, summed over all tables; each costs the host 8 bytes.
    pub table_elements: usize,
    /// Core instances of the component, its memories, and its tables: each number by itself.
    pub instances: usize,
    /// Bytes of stack, which limit how deep calls nest.
    pub stack_bytes: usize,
    /// Bytes that one function call may pass between plugin and agent in either direction: strings, lists, results.
    pub handover_bytes: usize,
    /// Handles to host resources open at once.
    pub handles: usize,
    /// Samples returned by one call.
    pub samples: usize,
    /// Graphs that the plugin defines.
    pub graphs: usize,
    /// Metrics in all of its graphs.
    pub metrics: usize,
    /// Counters of which the agent keeps a reading.
    pub counters: usize,
    /// Length of a sample's name.
    pub name_bytes: usize,
    /// Lines in the log.
    pub log_lines: u32,
    /// Length of a line in the log.
    pub log_line_bytes: usize,
    /// Connections open at once, including HTTP's.
    pub connections: usize,
    /// Length of an HTTP response's body.
    pub body_bytes: usize,
    /// Bytes of a file that are read at once.
    pub file_bytes: usize,
    /// All keys and values that the instance stores.
    pub kv_bytes: usize,
    /// Iterations of PBKDF2 that the agent computes for the plugin; a thousand take about 0.2 ms.
    pub pbkdf2_iterations: u32,
    /// Length of the `.wasm` file.
    pub component_bytes: u64,
    /// CPU time for compiling it.
    pub compile: Duration,
    /// Address space for compiling it.
    pub compile_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            compute: Duration::from_secs(5),
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            instances: 200,
            stack_bytes: 256 << 10,
            handover_bytes: 8 << 20,
            handles: 1_024,
            samples: 1_000,
            graphs: 200,
            metrics: 2_000,
            counters: 10_000,
            name_bytes: crate::sample::MetricName::MAX_BYTES,
            log_lines: 16,
            log_line_bytes: 1_024,
            connections: 16,
            body_bytes: 4 << 20,
            file_bytes: 4 << 20,
            kv_bytes: 64 << 10,
            pbkdf2_iterations: 100_000,
            component_bytes: 64 << 20,
            compile: Duration::from_secs(120),
            compile_bytes: 2 << 30,
        }
    }
}

/// A key that sets a limit: `limits = { memory_mib = 128 }`.
pub struct Key {
    /// Its name, which ends in the unit.
    pub name: &'static str,
    /// The largest valid value; the smallest is 1.
    pub most: u64,
    /// The limit's value in this unit.
    pub get: fn(&Limits) -> u64,
    /// Sets the limit to a value in this unit.
    pub set: fn(&mut Limits, u64),
}

/// Makes a [`Key`] for a field whose unit may differ from the key's.
macro_rules! key {
    ($name:literal, $most:literal, $field:ident: $type:ty, $unit:expr) => {
        Key {
            name: $name,
            most: $most,
            get: |limits| limits.$field as u64 / $unit,
            // The largest value times its unit fits into every type.
            set: |limits, value| limits.$field = value.saturating_mul($unit) as $type,
        }
    };
}

/// Every limit that can be set in a plugin's table, except `timeout_seconds`, which is a key of the official agent.
pub const KEYS: &[Key] = &[
    Key {
        name: "compute_ms",
        most: 50_000,
        get: |limits| u64::try_from(limits.compute.as_millis()).unwrap_or(u64::MAX),
        set: |limits, value| limits.compute = Duration::from_millis(value),
    },
    key!("memory_mib", 2_048, memory_bytes: usize, 1 << 20),
    key!("table_elements", 10_000_000, table_elements: usize, 1),
    key!("instances", 10_000, instances: usize, 1),
    key!("stack_kib", 8_192, stack_bytes: usize, 1 << 10),
    key!("handover_kib", 1_048_576, handover_bytes: usize, 1 << 10),
    key!("handles", 100_000, handles: usize, 1),
    key!("samples", 100_000, samples: usize, 1),
    key!("graphs", 10_000, graphs: usize, 1),
    key!("metrics", 100_000, metrics: usize, 1),
    key!("counters", 1_000_000, counters: usize, 1),
    key!("name_bytes", 255, name_bytes: usize, 1),
    key!("log_lines", 10_000, log_lines: u32, 1),
    key!("log_line_bytes", 65_536, log_line_bytes: usize, 1),
    key!("connections", 1_024, connections: usize, 1),
    key!("body_kib", 1_048_576, body_bytes: usize, 1 << 10),
    key!("file_kib", 1_048_576, file_bytes: usize, 1 << 10),
    key!("kv_kib", 16_384, kv_bytes: usize, 1 << 10),
    key!("pbkdf2_iterations", 10_000_000, pbkdf2_iterations: u32, 1),
    key!("component_mib", 1_024, component_bytes: u64, 1 << 20),
    Key {
        name: "compile_seconds",
        most: 3_600,
        get: |limits| limits.compile.as_secs(),
        set: |limits, value| limits.compile = Duration::from_secs(value),
    },
    key!("compile_mib", 65_536, compile_bytes: u64, 1 << 20),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_sets_its_own_limit_and_no_other() {
        for key in KEYS {
            let mut limits = Limits::default();
            (key.set)(&mut limits, 7);
            assert_eq!((key.get)(&limits), 7, "{}", key.name);
            for other in KEYS.iter().filter(|other| other.name != key.name) {
                assert_eq!((other.get)(&limits), (other.get)(&Limits::default()), "{} sets {}", key.name, other.name);
            }
        }
    }

    #[test]
    fn the_largest_value_of_each_key_is_not_truncated() {
        for key in KEYS {
            let mut limits = Limits::default();
            (key.set)(&mut limits, key.most);
            assert_eq!((key.get)(&limits), key.most, "{}", key.name);
        }
    }

    #[test]
    fn the_guide_names_each_limit_with_its_default() {
        let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins.md")).unwrap();
        for key in KEYS {
            let row = format!("| `{}` | {} |", key.name, (key.get)(&Limits::default()));
            assert!(guide.contains(&row), "docs/plugins.md has no row {row}");
        }
    }
}
