//! Parses command lines in the form of Go's `flag` package, as the official agent takes them: one dash or two, `=` or a space, and
//! a line ends at the first word that is not a flag. What is left is clap's work.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use wasaba_core::nearest::nearest;
use wasaba_core::text::printable;

use super::flags::{AgentFlags, Line};

/// Parses `arguments`, of which the first is the program's name.
///
/// # Errors
/// clap's error, which is also how help is requested.
pub fn parse(arguments: Vec<OsString>) -> Result<Line, clap::Error> {
    let grammar = Grammar::new();
    let first = arguments.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if !first.is_empty() && !first.starts_with('-') && !grammar.is_command(&first) {
        return Err(grammar.unknown_command(&first));
    }
    let arguments = grammar.in_claps_form(arguments);
    let line = Line::try_parse_from(&arguments).map_err(|error| grammar.in_our_words(error, &arguments))?;
    if line.command.is_some() && line.agent != AgentFlags::default() {
        // If they were ignored, a command would read another configuration than the user meant.
        let text = "flags go after the command: `wasaba once -conf FILE`\n";
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
    }
    Ok(line)
}

/// The definition of the command line, including the help flags that clap adds.
struct Grammar(clap::Command);

impl Grammar {
    fn new() -> Self {
        let mut line = Line::command();
        line.build();
        Self(line)
    }

    fn is_command(&self, word: &str) -> bool {
        self.0.get_subcommands().any(|command| command.get_name() == word)
    }

    /// Lists the commands, as the official agent does.
    fn unknown_command(&self, word: &str) -> clap::Error {
        let meant = nearest(word, self.0.get_subcommands().map(clap::Command::get_name));
        let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
        let mut text = format!("unknown command `{}`{meant}\n\nCommands:\n", printable(word, 40));
        for command in self.0.get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {:<11} {about}\n", command.get_name()));
        }
        clap::Error::raw(ErrorKind::InvalidSubcommand, text)
    }

    /// The command that `arguments` name, as far as there is one.
    fn named_by(&self, arguments: &[OsString]) -> &clap::Command {
        arguments.iter().skip(1).fold(&self.0, |command, word| command.find_subcommand(word).unwrap_or(command))
    }

    /// clap's error in the words of all other messages: one dash before a flag, backticks, and the cure.
    fn in_our_words(&self, error: clap::Error, arguments: &[OsString]) -> clap::Error {
        let command = self.named_by(arguments);
        let line = command.get_bin_name().unwrap_or("wasaba");
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.as_str(),
            Some(ContextValue::Strings(texts)) => texts.first().map_or("", String::as_str),
            _ => "",
        };
        let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
        // `--conf <FILE>` is the flag -conf, and `<SHELL>` is not a flag.
        let flag = argument.starts_with('-').then(|| {
            let name = argument.trim_start_matches('-');
            name.split([' ', '=', '[']).next().unwrap_or(name)
        });
        let shown = printable(argument, 40);
        let why = match (error.kind(), flag) {
            (ErrorKind::UnknownArgument, Some(name)) => {
                let known = command.get_arguments().filter(|known| !known.is_hide_set() && !known.is_positional());
                let name = printable(name, 40);
                let meant = nearest(&name, known.filter_map(clap::Arg::get_long));
                match meant {
                    Some(meant) => format!("unknown flag -{name}, did you mean -{meant}?"),
                    None => format!("unknown flag -{name}; `{line} -help` lists the flags"),
                }
            }
            (ErrorKind::UnknownArgument, None) => {
                format!("unexpected argument {shown:?}; `{line} -help` lists what it takes")
            }
            (ErrorKind::InvalidSubcommand, _) => {
                let word = text(ContextKind::InvalidSubcommand);
                let names = command.get_subcommands().filter(|known| !known.is_hide_set());
                let names = names.map(clap::Command::get_name).collect::<Vec<_>>();
                let cure = match nearest(word, names.iter().copied()) {
                    Some(meant) => format!(", did you mean `{meant}`?"),
                    None => format!("; the commands are: {}", names.join(", ")),
                };
                let before = line.strip_prefix("wasaba ").unwrap_or_default();
                format!("unknown command `{before} {}`{cure}", printable(word, 40))
            }
            (ErrorKind::InvalidValue, Some(name)) if value.is_empty() => format!("flag -{name} needs a value"),
            (ErrorKind::InvalidValue | ErrorKind::ValueValidation, _) => {
                let name = flag.map_or_else(|| shown.trim_matches(['<', '>']).to_owned(), |name| format!("-{name}"));
                let must = match (std::error::Error::source(&error), error.get(ContextKind::ValidValue)) {
                    (Some(source), _) => source.to_string(),
                    (None, Some(ContextValue::Strings(valid))) => format!("must be one of {}", valid.join(", ")),
                    (None, _) => "is invalid".to_owned(),
                };
                format!("{name} {must}, not {:?}", printable(value, 40))
            }
            (ErrorKind::MissingRequiredArgument, None) => format!("missing {shown}; `{line} -help` shows the command"),
            _ => return error,
        };
        clap::Error::raw(error.kind(), format!("{why}\n"))
    }

    /// Whether the line of this command ends at the first word that is not a flag, as with Go: true for commands with the agent's
    /// flags, and without a command (an empty `name`).
    fn has_only_flags(&self, name: &str) -> bool {
        let has_them = |command: &clap::Command| command.get_arguments().any(|flag| flag.get_long() == Some("conf"));
        name.is_empty() || self.0.get_subcommands().any(|command| command.get_name() == name && has_them(command))
    }

    /// Whether the next word is the value of `flag`, given with its dashes. An unknown flag is assumed to take one.
    fn takes_next_word(&self, flag: &str) -> bool {
        fn search(command: &clap::Command, name: &str) -> Option<bool> {
            let flag = command.get_arguments().find(|flag| has_name(flag, name));
            flag.map(takes_next_word).or_else(|| command.get_subcommands().find_map(|command| search(command, name)))
        }
        !flag.contains('=') && search(&self.0, flag.trim_start_matches('-')).unwrap_or(true)
    }

    /// Adds the second dash that clap needs to flags in Go's form, `-conf`, and drops the words that Go ignores. Words after the
    /// name of a plugin to run or time belong to the plugin and stay unchanged.
    fn in_claps_form(&self, arguments: Vec<OsString>) -> Vec<OsString> {
        let mut words_of_plugin = 0;
        let mut is_value = false;
        let mut command = None;
        let mut normalized = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.into_iter().enumerate() {
            let text = argument.to_string_lossy().into_owned();
            let is_flag = text.starts_with('-') && text.len() > 1 && text != "--" && !is_value;
            if index > 0 && !is_value {
                let known = command.get_or_insert_with(|| if is_flag { String::new() } else { text.clone() });
                // A command after flags is an error, which `parse` reports.
                let is_late = known.is_empty() && self.is_command(&text);
                if index > 1 && !is_flag && !is_late && self.has_only_flags(known) {
                    break;
                }
            }
            if words_of_plugin < 3 && is_flag && !text.starts_with("--") && text.len() > 2 {
                normalized.push(OsString::from(format!("-{text}")));
            } else {
                normalized.push(argument);
            }
            if !is_flag && !is_value {
                words_of_plugin = match (words_of_plugin, text.as_str()) {
                    (0, "plugin") => 1,
                    (1, "run" | "time") => 2,
                    (2, _) => 3,
                    (words, _) => words,
                };
            }
            is_value = is_flag && self.takes_next_word(&text);
        }
        normalized
    }
}

fn has_name(flag: &clap::Arg, name: &str) -> bool {
    let is_alias = flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&name));
    flag.get_long() == Some(name) || is_alias || flag.get_short().is_some_and(|short| name == short.to_string())
}

fn takes_next_word(flag: &clap::Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{Command, PluginCommand};

    fn parsed(line: &str) -> Line {
        parse(line.split(' ').map(OsString::from).collect()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn flags_take_one_dash_or_two_and_an_equals_sign_or_a_space() {
        for line in ["wasaba -conf a.conf -root=/r", "wasaba --conf=a.conf --root /r", "wasaba -conf=a.conf --root=/r"]
        {
            let agent = parsed(line).agent;
            assert_eq!((agent.conf, agent.root), (Some("a.conf".into()), Some("/r".into())), "{line}");
        }
        assert!(
            matches!(parsed("wasaba once -conf a.conf").command, Some(Command::Once(agent)) if agent.conf.is_some())
        );
    }

    #[test]
    fn switches_take_a_value_only_after_an_equals_sign_and_all_other_flags_take_the_next_word() {
        let grammar = Grammar::new();
        for switch in ["-v", "--verbose", "-h", "--help", "-explain", "-json", "-diagnostic", "-force", "-child"] {
            assert!(!grammar.takes_next_word(switch), "{switch}");
        }
        for flag in ["-conf", "--root", "-role", "-apikey", "-engine", "-calls", "-unknown"] {
            assert!(grammar.takes_next_word(flag), "{flag}");
            assert!(!grammar.takes_next_word(&format!("{flag}=x")), "{flag}");
        }
    }

    #[test]
    fn flags_of_the_same_name_take_the_next_word_in_every_command_or_in_none() {
        fn assert_same(grammar: &Grammar, command: &clap::Command) {
            for flag in command.get_arguments().filter(|flag| !flag.is_positional()) {
                let name = flag.get_long().unwrap();
                assert_eq!(grammar.takes_next_word(name), takes_next_word(flag), "{} -{name}", command.get_name());
            }
            command.get_subcommands().for_each(|command| assert_same(grammar, command));
        }
        let grammar = Grammar::new();
        assert_same(&grammar, &grammar.0);
    }

    #[test]
    fn flags_before_a_command_are_refused_rather_than_ignored() {
        let line = ["wasaba", "-conf", "a.conf", "once"].map(OsString::from).to_vec();
        assert!(parse(line).unwrap_err().to_string().contains("flags go after the command"));
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts_but_roles_add_up() {
        assert_eq!(parsed("wasaba -conf a -conf=b").agent.conf, Some("b".into()));
        assert_eq!(parsed("wasaba -v -verbose -v=false").agent.verbose, Some(false));
        let Some(Command::Retire { agent, force }) =
            parsed("wasaba retire -force -role A:a -force=false -role B:b").command
        else {
            panic!("another command")
        };
        assert_eq!((force, agent.role.len()), (false, 2));
        let agent = parsed("wasaba -child=true -private-autoshutdown=false").agent;
        assert_eq!((agent.child, agent.private_autoshutdown), (true, false));
        let agent = parsed("wasaba -child -private-autoshutdown").agent;
        assert!(agent.child && agent.private_autoshutdown);
    }

    #[test]
    fn everything_from_the_first_word_that_is_not_a_flag_is_ignored_as_with_go() {
        for line in ["wasaba -conf a b -nonsense", "wasaba -conf a -- -nonsense", "wasaba -conf a -"] {
            assert_eq!(parsed(line).agent.conf, Some("a".into()), "{line}");
        }
        let line = "wasaba configtest -conf a b -conf c";
        assert!(matches!(parsed(line).command, Some(Command::Configtest(agent)) if agent.conf == Some("a".into())));
        for command in ["configtest", "init", "once", "retire", "run", "supervise"] {
            assert!(parsed(&format!("wasaba {command} -conf a b")).command.is_some(), "{command}");
        }
        let Some(Command::Completion { .. }) = parsed("wasaba completion bash").command else {
            panic!("another command")
        };
        let line = ["wasaba", "once", "-nonsense"].map(OsString::from).to_vec();
        assert!(parse(line).is_err(), "an unknown flag is not ignored");
    }

    #[test]
    fn run_is_the_default_command() {
        assert!(matches!(parsed("wasaba run -root /r").command, Some(Command::Run(agent)) if agent.root.is_some()));
    }

    #[test]
    fn an_unknown_command_is_reported_with_the_list_of_commands() {
        let error = |word: &str| parse(["wasaba", word].map(OsString::from).to_vec()).unwrap_err();
        assert!(error("rutire").use_stderr());
        let text = error("rutire").to_string();
        assert!(text.contains("unknown command `rutire`, did you mean `retire`?"), "{text}");
        assert!(
            text.contains("\n  supervise   Run the agent as a child process and restart it when it dies\n"),
            "{text}"
        );
        assert!(error("nonsense").to_string().contains("unknown command `nonsense`\n"));
    }

    #[test]
    fn an_invalid_line_is_refused_in_the_words_of_all_other_messages() {
        for (line, expected) in [
            ("wasaba -rott x", "unknown flag -rott, did you mean -root?"),
            ("wasaba -prot x", "unknown flag -prot; `wasaba -help` lists the flags"),
            ("wasaba --prot=x", "unknown flag -prot; `wasaba -help` lists the flags"),
            ("wasaba once -nonsense", "unknown flag -nonsense; `wasaba once -help` lists the flags"),
            ("wasaba plugin lst", "unknown command `plugin lst`, did you mean `list`?"),
            (
                "wasaba plugin destroy",
                "unknown command `plugin destroy`; the commands are: run, inspect, compile, list, time, new, build, dev, test",
            ),
            ("wasaba once -conf", "flag -conf needs a value"),
            ("wasaba -diagnostic=maybe", "-diagnostic must be true or false, not \"maybe\""),
            ("wasaba plugin time -calls 0 nginx", "-calls must be a whole number from 1 to 4294967295, not \"0\""),
            (
                "wasaba plugin time -calls many nginx",
                "-calls must be a whole number from 1 to 4294967295, not \"many\"",
            ),
            ("wasaba completion tcsh", "SHELL must be one of bash, zsh, fish, not \"tcsh\""),
            ("wasaba plugin run", "missing <PLUGIN>; `wasaba plugin run -help` shows the command"),
            (
                "wasaba plugin inspect a b",
                "unexpected argument \"b\"; `wasaba plugin inspect -help` lists what it takes",
            ),
        ] {
            let error = parse(line.split(' ').map(OsString::from).collect()).unwrap_err();
            assert_eq!(error.to_string().trim_end(), format!("error: {expected}"), "{line}");
            assert!(error.use_stderr(), "{line}");
        }
    }

    #[test]
    fn a_value_may_begin_with_a_dash_only_after_an_equals_sign() {
        assert_eq!(parsed("wasaba -apikey=-key").agent.apikey.as_deref(), Some("-key"));
    }

    #[test]
    fn roles_are_repeated_or_separated_by_commas() {
        assert_eq!(parsed("wasaba -role A:a,B:b -role C:c").agent.role, ["A:a", "B:b", "C:c"]);
    }

    #[test]
    fn flags_after_a_plugins_name_are_the_plugins() {
        let Some(Command::Plugin(PluginCommand::Run { agent, plugin, settings, .. })) =
            parsed("wasaba plugin run -root /r nginx -host=web -port 80 --path=/s").command
        else {
            panic!("another command")
        };
        assert_eq!((agent.root, plugin.as_str()), (Some("/r".into()), "nginx"));
        assert_eq!(settings, ["-host=web", "-port", "80", "--path=/s"]);
    }

    #[test]
    fn retire_takes_the_flags_of_the_agent() {
        let line =
            "wasaba retire -force -conf c -root r -role A:b -v -diagnostic -pidfile p -apibase http://x -apikey k";
        let Some(Command::Retire { agent, force }) = parsed(line).command else { panic!("another command") };
        assert!(force && agent.root == Some("r".into()) && agent.apikey.as_deref() == Some("k"));
    }
}
