//! Fuzz targets: a function for every text that enters the agent from outside. Each asserts what must hold whatever the text is.
//!
//! `tests/replay.rs` runs them with the committed corpus, `corpus/TARGET/`, and with a fixed number of changes of it ([`replay`]);
//! `tests/shipped.rs` sends such inputs to the shipped program. `make fuzz` runs the same functions for as long as one likes, guided by
//! the code that an input reaches (`fuzz/`, the layout of cargo-fuzz).

#![expect(clippy::unwrap_used, reason = "a target fails by panicking, with the reason")]

pub mod inputs;
pub mod mutate;
pub mod replay;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of the folder with its corpus.
    pub name: &'static str,
    /// What is done with an input.
    pub run: fn(&[u8]),
    /// How many changes of the corpus a test makes: about a second of work.
    pub rounds: u32,
}

/// Calls a macro with the list of all targets: name, function, rounds.
#[macro_export]
macro_rules! every_target {
    ($each:ident) => {
        $each! {
            agent_conf: configuration::agent_conf, 300;
            plugin_toml: configuration::plugin_toml, 200;
            test_cases: configuration::test_cases, 200;
            environment: configuration::environment, 4_000;
            settings: grants::settings, 400;
            grants: grants::grants, 2_000;
            header: grants::header, 8_000;
            component: component::needs, 10_000;
            readings: readings::readings, 1_500;
            secrets: texts::secrets, 5_000;
            printable: texts::printable, 10_000;
            names: texts::names, 20_000;
            dns: texts::dns, 20_000;
            resolver: texts::resolver, 4_000;
            nginx: servers::nginx, 20_000;
            redis: servers::redis, 3_000;
            postgres: servers::postgres, 6_000;
            docker: servers::docker, 200;
            docker_host: servers::docker_host, 20_000;
            mackerel: servers::mackerel, 800;
            cloud: servers::cloud, 2_000;
            control: control::report, 6_000;
            request: control::request, 6_000;
            history: control::history, 100;
            command_line: official::command_line, 1_500;
            pattern: official::pattern, 2_000;
            duration: official::duration, 40_000;
            no_proxy: official::no_proxy, 20_000;
            proxy: official::proxy, 20_000;
            program_lines: programs::lines, 1_000;
            program_meta: programs::meta, 1_000;
            machine: machine::metrics, 500;
            host: machine::host, 300;
        }
    };
}

macro_rules! table {
    ($($name:ident: $module:ident::$run:ident, $rounds:literal;)*) => {
        /// Every target.
        pub const ALL: &[Target] =
            &[$(Target { name: stringify!($name), run: inputs::$module::$run, rounds: $rounds },)*];
    };
}

every_target!(table);

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_of_the_corpus_is_that_of_a_target() {
        let folders = std::fs::read_dir(replay::corpus_folder()).unwrap();
        for folder in folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            assert!(target(&folder).is_some(), "corpus/{folder} belongs to no target");
        }
    }
}
