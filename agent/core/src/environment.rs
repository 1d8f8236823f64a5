//! The environment: the variables that hold secrets, and the one door through which other processes are started, which do not
//! inherit those.
//!
//! A variable is secret once the configuration has named it in `{ env = "..." }`, for as long as this process runs.

use std::collections::BTreeSet;
use std::env::VarError;
use std::ffi::OsStr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::container;

/// The variables by which systemd knows the agent: a program that answered in its place would be taken for it.
const OF_SYSTEMD: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

static SECRET: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The value of a variable that holds a secret: from now on no program inherits it.
///
/// # Errors
/// It is not set, or not valid UTF-8.
pub fn secret(name: &str) -> Result<String, VarError> {
    SECRET.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    std::env::var(name)
}

/// A command that runs a program of someone else: it inherits the agent's environment, as the official agent's programs do, without
/// what is secret and without what is systemd's.
#[must_use]
pub fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = own_program(path);
    let own: &[_] = if container::is_ours() { &container::SECRETS } else { &[] };
    for variable in OF_SYSTEMD.iter().chain(own) {
        command.env_remove(variable);
    }
    for variable in &*SECRET.lock().unwrap_or_else(PoisonError::into_inner) {
        // Setting or removing one of an invalid name is an error of the start.
        if !variable.is_empty() && !variable.contains(['=', '\0']) {
            command.env_remove(variable);
        }
    }
    command
}

/// A command that runs this program again: it inherits everything.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the door to other processes")]
pub fn own_program(path: impl AsRef<OsStr>) -> Command {
    Command::new(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(command: &Command) -> Vec<String> {
        let removed = command.get_envs().filter(|(_, value)| value.is_none());
        removed.map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_program_does_not_inherit_a_variable_that_was_read_as_a_secret_and_the_agents_own_process_does() {
        // Cargo sets it for tests.
        let value = secret("CARGO_PKG_DESCRIPTION").unwrap();
        assert!(!value.is_empty());
        let environment = |mut command: Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
        let (theirs, ours) = (environment(program("env")), environment(own_program("env")));
        assert!(!theirs.contains("CARGO_PKG_DESCRIPTION=") && ours.contains("CARGO_PKG_DESCRIPTION="), "{theirs}");
        assert!(theirs.contains("CARGO_PKG_VERSION="), "what is not named as a secret stays: {theirs}");
    }

    #[test]
    fn a_variable_that_is_not_set_yet_is_secret_too_and_an_invalid_name_does_not_keep_a_program_from_starting() {
        for name in ["WASABA_TEST_NOT_SET", "", "A=B", "A\0"] {
            secret(name).unwrap_err();
        }
        let mut command = program("true");
        assert!(removed(&command).contains(&"WASABA_TEST_NOT_SET".to_owned()));
        assert!(command.status().unwrap().success());
    }

    #[test]
    fn no_program_can_answer_systemd_in_the_agents_place() {
        let removed = removed(&program("true"));
        for variable in OF_SYSTEMD {
            assert!(removed.contains(&variable.to_owned()), "{variable}");
        }
    }
}
