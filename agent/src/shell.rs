//! Reading a line of the shell's language that is a single simple command (POSIX, 2.9.1): assignments, a program, its words.
//!
//! What needs a shell (pipes, redirections, substitutions) is not carried out but named.

use std::iter::Peekable;
use std::str::Chars;

/// A command's words as the program gets them. There may be secrets in them, so it has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SimpleCommand {
    /// `NAME=value` in front of the program.
    pub assignments: Vec<(String, String)>,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// What only a shell could do, if there is such a thing; the words are then those before it.
    pub beyond: Option<&'static str>,
}

/// Takes `text` apart. `variable` gives the value of `$NAME`.
pub fn simple_command(text: &str, variable: impl Fn(&str) -> Option<String>) -> SimpleCommand {
    let mut lexer = Lexer { chars: text.chars().peekable(), variable };
    let mut command = SimpleCommand::default();
    loop {
        match lexer.word() {
            Ok(None) => return command,
            Ok(Some(word)) => match assignment(&word).filter(|_| command.words.is_empty()) {
                Some((name, value)) => command.assignments.push((name.to_owned(), value.to_owned())),
                None => command.words.push(word.text),
            },
            Err(beyond) => {
                command.beyond = Some(beyond);
                return command;
            }
        }
    }
}

struct Word {
    text: String,
    /// How much of its beginning was written without quotes.
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
}

impl<V: Fn(&str) -> Option<String>> Lexer<'_, V> {
    /// The next word; none at the end.
    ///
    /// # Errors
    /// What only a shell can do.
    fn word(&mut self) -> Result<Option<Word>, &'static str> {
        while self.chars.next_if(|char| matches!(char, ' ' | '\t')).is_some() {}
        match self.chars.peek() {
            None | Some('#') => return Ok(None),
            Some('\n') => {
                let rest = self.chars.clone().collect::<String>();
                return if rest.trim().is_empty() { Ok(None) } else { Err("a second command") };
            }
            Some(_) => {}
        }
        let mut word = Word { text: String::new(), plain: 0 };
        let (mut begun, mut quoted) = (false, false);
        while let Some(char) = self.chars.peek().copied().filter(|char| !matches!(char, ' ' | '\t' | '\n')) {
            let beyond = match char {
                '|' => "a pipe or `||`",
                '&' => "a `&`",
                ';' => "a second command",
                '<' | '>' => "a redirection",
                '(' | ')' => "a parenthesis",
                _ => "",
            };
            match beyond {
                "" => self.chars.next(),
                // `2>` is a redirection with the number of a stream.
                "a redirection" if word.text.bytes().all(|byte| byte.is_ascii_digit()) => return Err(beyond),
                _ if begun => break,
                _ => return Err(beyond),
            };
            (begun, quoted) = (true, quoted || matches!(char, '\'' | '"' | '\\' | '$'));
            match char {
                '`' => return Err("a command substitution"),
                '\'' => self.single_quoted(&mut word.text)?,
                '"' => self.double_quoted(&mut word.text)?,
                '\\' => match self.chars.next() {
                    // The line goes on.
                    Some('\n') => begun = !word.text.is_empty(),
                    Some(escaped) => word.text.push(escaped),
                    None => return Err("a backslash at its end"),
                },
                '$' => {
                    let value = self.parameter()?;
                    if value.contains([' ', '\t', '\n', '*', '?', '[']) {
                        return Err("a variable without quotes, which would become several words");
                    }
                    word.text.push_str(&value);
                }
                other => word.text.push(other),
            }
            if !quoted {
                word.plain = word.text.len();
            }
        }
        if begun { Ok(Some(word)) } else { self.word() }
    }

    fn single_quoted(&mut self, text: &mut String) -> Result<(), &'static str> {
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(()),
                Some(char) => text.push(char),
                None => return Err("a quote without its end"),
            }
        }
    }

    fn double_quoted(&mut self, text: &mut String) -> Result<(), &'static str> {
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('`') => return Err("a command substitution"),
                Some('$') => text.push_str(&self.parameter()?),
                Some('\\') => match self.chars.next() {
                    Some('\n') => {}
                    Some(escaped @ ('$' | '`' | '"' | '\\')) => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                    None => return Err("a quote without its end"),
                },
                Some(char) => text.push(char),
                None => return Err("a quote without its end"),
            }
        }
    }

    /// What stands behind a `$`.
    fn parameter(&mut self) -> Result<String, &'static str> {
        let braces = match self.chars.peek() {
            Some('(') => return Err("a command substitution"),
            Some('{') => self.chars.next().is_some(),
            Some(first) if first.is_ascii_digit() || "@*#?-$!".contains(*first) => {
                return Err("a shell's own parameter");
            }
            _ => false,
        };
        let mut name = String::new();
        while let Some(char) = self.chars.next_if(|char| in_name(*char)) {
            name.push(char);
        }
        if braces && (name.is_empty() || self.chars.next() != Some('}')) {
            return Err("a parameter expansion like `${NAME:-default}`");
        }
        if name.is_empty() { Ok("$".to_owned()) } else { Ok((self.variable)(&name).unwrap_or_default()) }
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
            assert_eq!(command.beyond, None, "{text}");
        }
    }

    #[test]
    fn only_what_stands_in_front_of_the_program_and_has_a_plain_name_is_an_assignment() {
        let command = parsed("A=1 B='x y' C= p D=2");
        let assignments = command.assignments.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(assignments.collect::<Vec<_>>(), [("A", "1"), ("B", "x y"), ("C", "")]);
        assert_eq!(command.words, ["p", "D=2"]);
        for text in ["'A'=1", "1A=1", "=1", "a-b=1"] {
            assert_eq!(parsed(text).words.len(), 1, "{text}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_named_and_what_stands_before_it_is_kept() {
        for (text, expected) in [
            ("a -b | c", "a pipe"),
            ("a -b; c", "a second command"),
            ("a -b\nc", "a second command"),
            ("a -b && c", "a `&`"),
            ("a -b >/dev/null", "a redirection"),
            ("a -b 2>&1", "a redirection"),
            ("a -b $(c)", "a command substitution"),
            ("a -b `c`", "a command substitution"),
            ("a -b \"`c`\"", "a command substitution"),
            ("a -b $HOST", "a variable without quotes"),
            ("a -b ${X:-y}", "a parameter expansion"),
            ("a -b $1", "a shell's own parameter"),
            ("a -b 'c", "a quote without its end"),
            ("a -b \"c", "a quote without its end"),
            ("a -b \\", "a backslash"),
        ] {
            let command = parsed(text);
            assert!(command.beyond.is_some_and(|beyond| beyond.starts_with(expected)), "{text}: {:?}", command.beyond);
            assert_eq!(command.words, ["a", "-b"], "{text}");
        }
    }
}
