//! Shell lines, read as simple commands (POSIX, 2.9.1): assignments, a program, its words.
//!
//! What needs a shell (pipes, redirections, substitutions) is reported, not executed; the rest is read all the same. What changes neither
//! the words nor the output (`2>/dev/null`, `|| true`) needs none.

use std::iter::Peekable;
use std::str::Chars;

/// Stands in a word for what only a shell can expand. No program's argument can contain it.
pub const UNKNOWABLE: char = '\0';

/// A command's words as the program gets them. It has no `Debug`: there may be secrets in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SimpleCommand {
    /// `NAME=value` in front of the program.
    pub assignments: Vec<(String, String)>,
    /// The program and its arguments; see [`UNKNOWABLE`].
    pub words: Vec<String>,
    /// The first thing that needs a shell, with its article: "a pipe".
    pub needs_shell: Option<&'static str>,
    /// The commands after it in the same text.
    pub following: Vec<SimpleCommand>,
    /// The variables in the text that are not set, each once.
    pub unset: Vec<String>,
}

impl SimpleCommand {
    /// The value that it assigns to a variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.assignments.iter().rfind(|(assigned, _)| assigned == name).map(|(_, value)| value.as_str())
    }

    /// Whether it only sets an exit code of 0: `true`, `:`, `exit 0`.
    fn is_idle(&self) -> bool {
        let words = self.words.iter().map(String::as_str).collect::<Vec<_>>();
        self.assignments.is_empty()
            && matches!(words[..], ["true" | "/bin/true" | "/usr/bin/true" | ":"] | ["exit", "0"])
    }
}

/// Parses `text`. `variable` gives the value of `$NAME`.
pub fn simple_command(text: &str, variable: impl Fn(&str) -> Option<String>) -> SimpleCommand {
    let (needs_shell, is_alternative, unset) = Default::default();
    let mut lexer = Lexer { chars: text.chars().peekable(), variable, needs_shell, is_alternative, unset };
    let mut first = lexer.command();
    while lexer.is_alternative || lexer.chars.peek().is_some() {
        let is_alternative = std::mem::take(&mut lexer.is_alternative);
        let next = lexer.command();
        if is_alternative && next.is_idle() {
            continue;
        }
        if is_alternative {
            lexer.note("a `||`");
        }
        if !next.words.is_empty() || !next.assignments.is_empty() {
            first.following.push(next);
        }
    }
    (first.needs_shell, first.unset) = (lexer.needs_shell, lexer.unset);
    first
}

struct Word {
    text: String,
    /// The length of its beginning without quotes, in bytes.
    plain: usize,
}

fn assignment(word: &Word) -> Option<(&str, &str)> {
    let (name, value) = word.text.split_once('=')?;
    let is_name =
        !name.starts_with(|first: char| first.is_ascii_digit()) && !name.is_empty() && name.chars().all(in_name);
    (is_name && name.len() < word.plain).then_some((name, value))
}

fn in_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

struct Lexer<'a, V> {
    chars: Peekable<Chars<'a>>,
    variable: V,
    /// The first thing that needs a shell.
    needs_shell: Option<&'static str>,
    /// Whether the next command runs only if the one before it fails: it follows a `||`.
    is_alternative: bool,
    /// The variables that are not set, each once.
    unset: Vec<String>,
}

impl<V: Fn(&str) -> Option<String>> Lexer<'_, V> {
    /// The next command; one without words at the end of the text.
    fn command(&mut self) -> SimpleCommand {
        let mut command = SimpleCommand::default();
        while let Some(word) = self.word() {
            match assignment(&word).filter(|_| command.words.is_empty()) {
                Some((name, value)) => command.assignments.push((name.to_owned(), value.to_owned())),
                None => command.words.push(word.text),
            }
        }
        command
    }

    fn note(&mut self, what: &'static str) {
        self.needs_shell.get_or_insert(what);
    }

    /// The next word; none where the command ends.
    fn word(&mut self) -> Option<Word> {
        loop {
            while self.chars.next_if(|char| matches!(char, ' ' | '\t')).is_some() {}
            if self.chars.peek() == Some(&'#') {
                while self.chars.next_if(|char| *char != '\n').is_some() {}
            }
            if self.is_at_end_of_command() {
                return None;
            }
            if let Some(word) = self.one_word() {
                return Some(word);
            }
        }
    }

    /// Whether the command ends here; its end is then consumed.
    fn is_at_end_of_command(&mut self) -> bool {
        if self.is_at("||") {
            self.chars.next();
            self.chars.next();
            self.is_alternative = true;
            return true;
        }
        let what = match self.chars.peek() {
            None => return true,
            Some('\n') => {
                let has_more = self.chars.clone().any(|char| !char.is_whitespace());
                if has_more { "a second command" } else { "" }
            }
            Some('|') => "a pipe",
            Some('&') => "a `&`",
            Some(';') => "a second command",
            Some('(' | ')') => "a parenthesis",
            Some(_) => return false,
        };
        self.chars.next();
        if what.is_empty() {
            self.chars.by_ref().for_each(drop);
        } else {
            self.note(what);
        }
        true
    }

    /// Whether `text` comes next.
    fn is_at(&self, text: &str) -> bool {
        self.chars.clone().take(text.len()).eq(text.chars())
    }

    /// The word that begins here; none if it is only a continued line or a redirection.
    fn one_word(&mut self) -> Option<Word> {
        let mut word = Word { text: String::new(), plain: 0 };
        let (mut begun, mut quoted) = (false, false);
        while let Some(char) =
            self.chars.next_if(|char| !matches!(char, ' ' | '\t' | '\n' | '|' | '&' | ';' | '(' | ')'))
        {
            if matches!(char, '<' | '>') {
                // `2>` begins with the number of a stream.
                let is_stream = word.text.bytes().all(|byte| byte.is_ascii_digit());
                self.redirection(char, if is_stream { word.text.as_str() } else { "" });
                return Some(word).filter(|_| begun && !is_stream);
            }
            quoted |= matches!(char, '\'' | '"' | '\\' | '$' | '`');
            match char {
                '`' => self.backquoted(&mut word.text),
                '\'' => self.single_quoted(&mut word.text),
                '"' => self.double_quoted(&mut word.text),
                '\\' => match self.chars.next() {
                    // The line continues.
                    Some('\n') => continue,
                    Some(escaped) => word.text.push(escaped),
                    None => self.unknowable("a trailing backslash", &mut word.text),
                },
                '$' => {
                    let mut value = String::new();
                    self.parameter(&mut value);
                    if value.contains([' ', '\t', '\n', '*', '?', '[']) {
                        value.clear();
                        self.unknowable("an unquoted variable, which would be split into several words", &mut value);
                    }
                    // An empty one alone makes no word.
                    begun |= !value.is_empty();
                    word.text.push_str(&value);
                }
                other => word.text.push(other),
            }
            begun |= char != '$';
            if !quoted {
                word.plain = word.text.len();
            }
        }
        begun.then_some(word)
    }

    fn unknowable(&mut self, what: &'static str, text: &mut String) {
        self.note(what);
        text.push(UNKNOWABLE);
    }

    /// The rest of a redirection, after its `first` sign and the number of its `stream`. What a program reads and what it says on
    /// standard error concerns no one who runs something else in its place; everything else needs a shell.
    fn redirection(&mut self, first: char, stream: &str) {
        let mut signs = String::from(first);
        signs.extend(std::iter::from_fn(|| self.chars.next_if(|char| matches!(char, '<' | '>' | '&' | '|'))));
        while self.chars.next_if(|char| matches!(char, ' ' | '\t')).is_some() {}
        let target = self.one_word().map(|word| word.text).unwrap_or_default();
        let is_harmless = matches!(
            (stream, signs.as_str(), target.as_str()),
            ("2", ">" | ">>" | ">|", "/dev/null") | ("2", ">&", "1" | "-") | ("" | "0", "<", "/dev/null")
        );
        if !is_harmless {
            self.note("a redirection");
        }
    }

    /// The value of a variable; nothing if it is not set.
    fn value(&mut self, name: String) -> String {
        (self.variable)(&name).unwrap_or_else(|| {
            if !self.unset.contains(&name) {
                self.unset.push(name);
            }
            String::new()
        })
    }

    fn backquoted(&mut self, text: &mut String) {
        self.chars.by_ref().take_while(|char| *char != '`').for_each(drop);
        self.unknowable("a command substitution", text);
    }

    fn single_quoted(&mut self, text: &mut String) {
        loop {
            match self.chars.next() {
                Some('\'') => return,
                Some(char) => text.push(char),
                None => return self.unknowable("an unterminated quote", text),
            }
        }
    }

    fn double_quoted(&mut self, text: &mut String) {
        loop {
            match self.chars.next() {
                Some('"') => return,
                Some('`') => self.backquoted(text),
                Some('$') => self.parameter(text),
                Some('\\') => match self.chars.next() {
                    Some('\n') => {}
                    Some(escaped @ ('$' | '`' | '"' | '\\')) => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                    None => return self.unknowable("an unterminated quote", text),
                },
                Some(char) => text.push(char),
                None => return self.unknowable("an unterminated quote", text),
            }
        }
    }

    /// What follows a `$`.
    fn parameter(&mut self, text: &mut String) {
        match self.chars.peek() {
            Some('(') => {
                self.enclosed('(', ')');
                return self.unknowable("a command substitution", text);
            }
            Some('{') => {
                let name = self.enclosed('{', '}').filter(|inner| !inner.is_empty() && inner.chars().all(in_name));
                return match name {
                    Some(name) => text.push_str(&self.value(name)),
                    None => self.unknowable("a parameter expansion like `${NAME:-default}`", text),
                };
            }
            Some(first) if first.is_ascii_digit() || "@*#?-$!".contains(*first) => {
                self.chars.next();
                return self.unknowable("a special parameter of the shell", text);
            }
            _ => {}
        }
        let mut name = String::new();
        while let Some(char) = self.chars.next_if(|char| in_name(*char)) {
            name.push(char);
        }
        if name.is_empty() { text.push('$') } else { text.push_str(&self.value(name)) }
    }

    /// The text between `open`, which comes next, and its `close`, if there is one. Quotes are ignored: it is never
    /// executed.
    fn enclosed(&mut self, open: char, close: char) -> Option<String> {
        let (mut inner, mut depth) = (String::new(), 0_usize);
        for char in self.chars.by_ref() {
            depth = if char == close { depth.saturating_sub(1) } else { depth };
            match depth {
                0 if char == close => return Some(inner),
                0 => {}
                _ => inner.push(char),
            }
            depth = depth.saturating_add(usize::from(char == open));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> SimpleCommand {
        simple_command(text, |name| (name == "HOST").then(|| "my web".to_owned()))
    }

    #[test]
    fn words_are_those_that_a_shell_would_make() {
        for (text, expected) in [
            ("a b  c\n", &["a", "b", "c"] as &[&str]),
            ("a -scheme='http' -host=\"x y\" \\-z", &["a", "-scheme=http", "-host=x y", "-z"]),
            ("a 'it'\\''s' \"\\$1 \\x\"", &["a", "it's", "$1 \\x"]),
            ("a \"$HOST\" \"${HOST}!\" '$HOST' \"$NONE\" $", &["a", "my web", "my web!", "$HOST", "", "$"]),
            ("a b # c", &["a", "b"]),
            ("a b#c http://h/?x=1", &["a", "b#c", "http://h/?x=1"]),
            ("a \\\n b", &["a", "b"]),
            ("", &[]),
        ] {
            let command = parsed(text);
            assert_eq!(command.words, expected, "{text}");
            assert_eq!(command.needs_shell, None, "{text}");
        }
    }

    #[test]
    fn an_assignment_stands_before_the_program_and_has_a_plain_name() {
        let command = parsed("A=1 B='x y' C= p D=2");
        let assignments = command.assignments.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(assignments.collect::<Vec<_>>(), [("A", "1"), ("B", "x y"), ("C", "")]);
        assert_eq!(command.words, ["p", "D=2"]);
        for text in ["'A'=1", "1A=1", "=1", "a-b=1"] {
            assert_eq!(parsed(text).words.len(), 1, "{text}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_reported_and_the_words_before_it_are_kept() {
        for (text, expected) in [
            ("a -b | c", "a pipe"),
            ("a -b; c", "a second command"),
            ("a -b\nc", "a second command"),
            ("a -b && c", "a `&`"),
            ("a -b >/dev/null", "a redirection"),
            ("a -b >/dev/null 2>&1", "a redirection"),
            ("a -b 1>&2", "a redirection"),
            ("a -b 2>/tmp/log", "a redirection"),
            ("a -b 2>$LOG", "a redirection"),
            ("a -b 2>&1 | c", "a pipe"),
            ("a -b </etc/x", "a redirection"),
            ("a -b <<x", "a redirection"),
            ("a -b || c", "a `||`"),
            ("a -b ||", "a `||`"),
            ("a -b || true && c", "a `&`"),
            ("a -b || A=1 true", "a `||`"),
            ("a -b || false", "a `||`"),
            ("a -b $(c)", "a command substitution"),
            ("a -b `c`", "a command substitution"),
            ("a -b \"`c`\"", "a command substitution"),
            ("a -b $HOST", "an unquoted variable"),
            ("a -b ${X:-y}", "a parameter expansion"),
            ("a -b $1", "a special parameter of the shell"),
            ("a -b 'c", "an unterminated quote"),
            ("a -b \"c", "an unterminated quote"),
            ("a -b \\", "a trailing backslash"),
        ] {
            let command = parsed(text);
            let needs_shell = command.needs_shell.unwrap_or_default();
            assert!(needs_shell.starts_with(expected), "{text}: {needs_shell}");
            let known = command.words.iter().filter(|word| !word.contains(UNKNOWABLE)).collect::<Vec<_>>();
            assert_eq!(known, ["a", "-b"], "{text}");
        }
    }

    #[test]
    fn the_words_after_it_are_read_and_only_the_word_itself_is_unknowable() {
        for (text, expected) in [
            ("a -h=$(b (c) d) -p 1", &["a", "-h=\0", "-p", "1"] as &[&str]),
            ("a `b c`x -p", &["a", "\0x", "-p"]),
            ("a \"${X:-{y}}\" $HOST -p", &["a", "\0", "\0", "-p"]),
            ("a >/dev/null -p 2>&1 b3 2> /x 4", &["a", "-p", "b3", "4"]),
            ("a -p 2>/dev/null || b", &["a", "-p"]),
            ("a b>c d", &["a", "b", "d"]),
            ("a $@ -p", &["a", "\0", "-p"]),
            ("a ${X", &["a", "\0"]),
        ] {
            let command = parsed(text);
            assert_eq!(command.words, expected, "{text}");
            assert!(
                command.following.len() == usize::from(text.contains("||")) && command.needs_shell.is_some(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_changes_neither_the_words_nor_the_output_needs_no_shell() {
        for text in [
            "a -b 2>/dev/null",
            "a 2> /dev/null -b",
            "a -b 2>>/dev/null </dev/null",
            "a -b 2>&1",
            "a -b 2>&-",
            "a -b || true",
            "a -b 2>/dev/null||:",
            "a -b || exit 0\n",
            "a -b || true || true # c",
        ] {
            let command = parsed(text);
            assert_eq!((command.words.join(" ").as_str(), command.needs_shell), ("a -b", None), "{text}");
            assert!(command.following.is_empty(), "{text}");
        }
    }

    #[test]
    fn each_variable_that_is_not_set_is_named_once() {
        for (text, expected) in [
            ("a -p=$PW \"${PW}$USER\" $HOST", &["PW", "USER"] as &[&str]),
            ("a '$PW' \\$PW $1 ${PW:-x}", &[]),
            ("a; b $PW", &["PW"]),
        ] {
            assert_eq!(parsed(text).unset, expected, "{text}");
        }
    }

    #[test]
    fn the_commands_after_the_first_are_read_too() {
        for (text, expected) in [
            ("cd / && A=1 b -c", "cd / | A=1 b -c"),
            ("A=1; b", "A=1 | b"),
            ("a\n  b # c\nd &\n", "a | b | d"),
            ("(a -b) || c", " | a -b | c"),
            ("a || b || true; c", "a | b | c"),
            ("a # b\n# c\n", "a"),
        ] {
            let whole = parsed(text);
            let written = |command: &SimpleCommand| {
                let assignments = command.assignments.iter().map(|(name, value)| format!("{name}={value}"));
                assignments.chain(command.words.iter().cloned()).collect::<Vec<_>>().join(" ")
            };
            let all = std::iter::once(&whole).chain(&whole.following).map(written).collect::<Vec<_>>().join(" | ");
            assert_eq!(all, expected, "{text}");
        }
    }

    #[test]
    fn an_empty_variable_is_a_word_only_in_quotes() {
        assert_eq!(parsed("a $NONE b").words, ["a", "b"]);
        assert_eq!(parsed("a \"$NONE\" b").words, ["a", "", "b"]);
        assert_eq!(parsed("a $NONE'' ${NONE}b").words, ["a", "", "b"]);
        assert_eq!(parsed("$NONE a").words, ["a"]);
    }
}
