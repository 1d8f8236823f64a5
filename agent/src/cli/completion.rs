//! `wasaba completion SHELL`: prints the shell's completion script, generated from the command line's own definition.

use clap::CommandFactory;
use clap_complete::{Generator, shells};

use super::flags::Line;

/// A shell.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

impl Shell {
    /// The completion script.
    #[must_use]
    pub fn script(self) -> String {
        match self {
            Self::Bash => generate(shells::Bash),
            Self::Zsh => generate(shells::Zsh),
            Self::Fish => generate(shells::Fish),
        }
    }
}

fn generate(shell: impl Generator) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Line::command(), "wasaba", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// What bash offers for the last of `words`, after it has loaded the script.
    fn completed(words: &[&str]) -> Vec<String> {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("wasaba.bash");
        std::fs::write(&file, Shell::Bash.script()).unwrap();
        let program = r#"
            set -eu
            source "$1"; shift
            complete -p wasaba >/dev/null
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _wasaba wasaba "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", program, "bash"]).arg(&file).args(words).stdin(Stdio::null());
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_flags_and_a_flags_values() {
        assert_eq!(completed(&["wasaba", "conf"]), ["configtest"]);
        assert_eq!(completed(&["wasaba", "plugin", "ins"]), ["inspect"]);
        assert_eq!(completed(&["wasaba", "once", "--apik"]), ["--apikey"]);
        assert_eq!(completed(&["wasaba", "plugin", "run", "--expl"]), ["--explain"]);
        assert_eq!(completed(&["wasaba", "completion", "z"]), ["zsh"]);
    }

    #[test]
    fn each_shells_script_has_every_command_and_every_flag() {
        fn assert_all_in(script: &str, command: &clap::Command) {
            for name in command.get_subcommands().map(clap::Command::get_name) {
                assert!(script.contains(name), "{name}");
            }
            for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(script.contains(flag), "--{flag}");
            }
            command.get_subcommands().for_each(|command| assert_all_in(script, command));
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert_all_in(&shell.script(), &Line::command());
        }
    }
}
