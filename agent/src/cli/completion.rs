//! `wasaba completion SHELL`: the script that completes command lines. The scripts are made from the flags by a test.

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
    /// Its script.
    #[must_use]
    pub fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("completion/wasaba.bash"),
            Self::Zsh => include_str!("completion/_wasaba"),
            Self::Fish => include_str!("completion/wasaba.fish"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_scripts_complete_the_commands_and_flags_that_there_are() {
        for (shell, generator, name) in [
            (Shell::Bash, clap_complete::Shell::Bash, "wasaba.bash"),
            (Shell::Zsh, clap_complete::Shell::Zsh, "_wasaba"),
            (Shell::Fish, clap_complete::Shell::Fish, "wasaba.fish"),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(generator, &mut crate::cli::flags::Line::command(), "wasaba", &mut script);
            let script = String::from_utf8(script).unwrap();
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(format!("{}/src/cli/completion/{name}", env!("CARGO_MANIFEST_DIR")), &script).unwrap();
                continue; // what is in this program is still the old one
            }
            assert!(shell.script() == script, "{name} is not up to date: make it anew with UPDATE=1 and build again");
        }
    }
}
