//! The lines of a file as messages show them: each character in its column, without anything that may be a secret.
//!
//! Of valid TOML, keys and punctuation are shown; each character of a value becomes a dot, and of a comment a space. In invalid TOML,
//! what looks like a key may be the second line of a secret: so only punctuation and the keys of the agent are shown.

/// Replaces a character that is hidden.
const HIDDEN: char = '·';

/// The length in characters at which a line is truncated.
const LONGEST: usize = 120;

/// The lines of a file.
pub(super) enum Shown<'a> {
    /// The lines of valid TOML, with their values hidden.
    Document(Vec<String>),
    /// Invalid TOML.
    Broken(&'a str),
}

impl<'a> Shown<'a> {
    /// Of valid TOML.
    pub(super) fn of_document(text: &str) -> Self {
        Self::Document(document(text).lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Of invalid TOML.
    pub(super) fn of_broken(text: &'a str) -> Self {
        Self::Broken(text)
    }

    fn line(&self, index: usize) -> Option<String> {
        match self {
            Self::Document(lines) => lines.get(index).cloned(),
            Self::Broken(text) => text.lines().nth(index).map(broken),
        }
    }

    /// The line `number`, counted from 1, and below it the marks of `length` characters from `column`; `None` if the line is blank or
    /// ends before.
    pub(super) fn marked(&self, number: usize, column: usize, length: usize) -> Option<String> {
        let line = self.line(number.checked_sub(1)?)?;
        let (visible, before) = (line.chars().count(), column.saturating_sub(1));
        // What is missing is marked behind the last character.
        if line.trim().is_empty() || before > visible || before >= LONGEST {
            return None;
        }
        let more = if visible > LONGEST { " …" } else { "" };
        let line = line.chars().take(LONGEST).collect::<String>();
        let carets = "^".repeat(length.min(visible.min(LONGEST) - before).max(1));
        let (margin, before) = (" ".repeat(number.to_string().len()), " ".repeat(before));
        Some(format!(" {number} | {line}{more}\n {margin} | {before}{carets}"))
    }
}

/// What the next character belongs to.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// A key or a header.
    Key,
    Value,
    Comment,
    /// A string that ends with this quote, repeated this often.
    Text(char, usize),
}

/// Valid TOML with its values hidden.
fn document(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut at, mut back) = (At::Key, At::Key);
    // The open brackets of lists and tables, and whether a header is open.
    let (mut open, mut is_header) = (Vec::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        if let At::Text(quote, length) = at {
            if char == '\\' && quote == '"' {
                shown.push(HIDDEN);
                shown.extend(rest.next().map(|next| if next == '\n' { '\n' } else { HIDDEN }));
            } else if length == 1 && (char == quote || char == '\n') {
                shown.push(char);
                at = back;
            } else if char == quote {
                // Up to two quotes before the closing three belong to the string.
                let more = std::iter::from_fn(|| rest.next_if_eq(&quote)).count();
                shown.extend(std::iter::repeat_n(quote, more + 1));
                at = if more >= 2 { back } else { at };
            } else {
                shown.push(if char == '\n' { '\n' } else { HIDDEN });
            }
            continue;
        }
        match char {
            '\n' => {
                shown.push('\n');
                if open.is_empty() {
                    (at, is_header) = (At::Key, false);
                } else if at == At::Comment {
                    at = back;
                }
            }
            _ if at == At::Comment => shown.push(' '),
            '#' => {
                shown.push(' ');
                (back, at) = (at, At::Comment);
            }
            '"' | '\'' => {
                let more = std::iter::from_fn(|| rest.next_if_eq(&char)).count();
                shown.extend(std::iter::repeat_n(char, more + 1));
                // Two quotes are an empty string, and so are six.
                if !matches!(more, 1 | 5..) {
                    (back, at) = (at, At::Text(char, if more == 0 { 1 } else { 3 }));
                }
            }
            char if char.is_whitespace() => shown.push(' '),
            '=' if at == At::Key => {
                shown.push('=');
                at = At::Value;
            }
            '[' if at == At::Key && open.is_empty() => {
                shown.push('[');
                is_header = true;
            }
            ']' if is_header => shown.push(']'),
            '[' | '{' => {
                shown.push(char);
                open.push(char);
                at = if char == '{' { At::Key } else { At::Value };
            }
            ']' | '}' => {
                shown.push(char);
                open.pop();
                at = At::Value;
            }
            ',' => {
                shown.push(',');
                at = if open.last() == Some(&'{') { At::Key } else { At::Value };
            }
            other => shown.push(if at == At::Key { other } else { HIDDEN }),
        }
    }
    shown
}

fn is_of_a_key(char: char) -> bool {
    char.is_ascii_alphanumeric() || "_-".contains(char)
}

/// The words of a table's header, or the key in front of `=`.
fn words_of_keys(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_start();
    let header = line.strip_prefix('[').and_then(|rest| rest.split([']', '#', '"', '\'']).next());
    let key = line.split_once('=').map(|(key, _)| key.trim_end()).filter(|key| key.chars().all(is_of_a_key));
    header.or(key).unwrap_or_default().split(|char| !is_of_a_key(char)).filter(|word| !word.is_empty())
}

/// Whether a word is a key of the default configuration.
fn is_known(word: &str) -> bool {
    let lines = crate::DEFAULT_TEXT.lines().map(|line| line.trim_start_matches(['#', ' ']));
    lines.flat_map(words_of_keys).any(|known| known.eq_ignore_ascii_case(word))
}

/// A line of invalid TOML with everything hidden that may be a secret.
fn broken(line: &str) -> String {
    let known = words_of_keys(line).filter(|word| is_known(word));
    let known = known.map(|word| {
        let start = word.as_ptr() as usize - line.as_ptr() as usize;
        start..start + word.len()
    });
    let known = known.collect::<Vec<_>>();
    let (mut text, mut escaped) = (None, false);
    let shown = line.char_indices().map(|(at, char)| {
        let is_end = text == Some(char) && !escaped;
        escaped = text == Some('"') && char == '\\' && !escaped;
        match char {
            _ if is_end => {
                text = None;
                char
            }
            '"' | '\'' if text.is_none() => {
                text = Some(char);
                char
            }
            _ if text.is_some() => HIDDEN,
            char if char.is_whitespace() => ' ',
            '=' | '[' | ']' | '{' | '}' | ',' | '.' => char,
            char if known.iter().any(|word| word.contains(&at)) => char,
            _ => HIDDEN,
        }
    });
    shown.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(shown: &Shown<'_>) -> String {
        (0..).map_while(|index| shown.line(index)).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn of_valid_toml_keys_and_punctuation_are_shown_and_no_value() {
        for (text, expected) in [
            ("roles = [\"a:b\", 5]", "roles = [\"···\", ·]"),
            ("apikey = 'hun\\'  # hunter2", "apikey = '····'"),
            ("env = { A = \"b=c\", \"D\" = 'e' }", "env = { A = \"···\", \"·\" = '·' }"),
            ("x.y = { z = { q = 1 }, r = [{ s = 2 }, 3] }", "x.y = { z = { q = · }, r = [{ s = · }, ·] }"),
            ("[plugin.metrics.\"a b\"]", "[plugin.metrics.\"···\"]"),
            ("[[case]]\nx = 1979-05-27T07:32:00Z", "[[case]]|x = ····················"),
            ("a = \"\\\"#x\"\tb", "a = \"····\" ·"),
            ("a = \"\"\nb = \"\"\"\"\"\"\nc = 1", "a = \"\"|b = \"\"\"\"\"\"|c = ·"),
            ("a = \"\"\"x\ny = 1\\\n\"\"z\"\"\"\nb = 2", "a = \"\"\"·|······|\"\"·\"\"\"|b = ·"),
            ("a = '''\nhunter2 = 1\n'''\nb = 2", "a = '''|···········|'''|b = ·"),
            ("a = [ # hunter2\n  hunter2,\n  ['x'],\n]\nb = 1", "a = [|  ·······,|  ['·'],|]|b = ·"),
            ("a = \"\"\"\"hunter2\"\"\"\"\nb = 1", "a = \"\"\"\"·······\"\"\"\"|b = ·"),
            ("é = \"ü\"", "é = \"·\""),
        ] {
            assert_eq!(lines(&Shown::of_document(text)), expected, "{text}");
        }
    }

    #[test]
    fn of_invalid_toml_only_what_cannot_be_a_secret_is_shown() {
        for (text, expected) in [
            ("apikey: \"hunter2\"", "······· \"·······\""),
            ("apikey \"hunter2\"", "······ \"·······\""),
            ("hunter2", "·······"),
            ("hunter2 = 1", "······· = ·"),
            ("export apikey=hunter2", "······ ······=·······"),
            ("ApiKey = hunter2, roles=y", "ApiKey = ·······, ·····=·"),
            ("apikey = \"hunter2\nhunter2 = 3", "apikey = \"·······|······· = ·"),
            ("apikey = \"hun\\\"ter2\nx = 1", "apikey = \"·········|· = ·"),
            (
                "root = 'x'\napikey = \"\"\"\nhunter2\n\"\"\"\nhunter2=",
                "root = '·'|apikey = \"\"\"|·······|\"\"\"|·······=",
            ),
            ("roles = [\n5, \"hunter2\"]", "roles = [|·, \"·······\"]"),
            ("[plugin.metrics.mine\ncommand = \"x\"", "[plugin.metrics.····|command = \"·\""),
            ("[plugin.\"hunter2\".x] hunter2", "[plugin.\"·······\".·] ·······"),
            ("  verbose = true # hunter2", "  verbose = ···· · ·······"),
            ("# hunter2", "· ·······"),
        ] {
            assert_eq!(lines(&Shown::of_broken(text)), expected, "{text}");
        }
    }

    #[test]
    fn marks_are_below_the_line_or_right_behind_it() {
        let shown = Shown::of_document("roles = [5]\n\n");
        assert_eq!(shown.marked(1, 10, 1).unwrap(), " 1 | roles = [·]\n   |          ^");
        assert_eq!(shown.marked(1, 10, 99).unwrap(), " 1 | roles = [·]\n   |          ^^");
        assert_eq!(shown.marked(1, 12, 0).unwrap(), " 1 | roles = [·]\n   |            ^");
        assert_eq!((shown.marked(1, 13, 1), shown.marked(2, 1, 1), shown.marked(9, 1, 1)), (None, None, None));
        let long = Shown::of_document(&format!("a = \"{}\" ", "x".repeat(500)));
        assert_eq!(long.marked(1, 5, 502).unwrap().lines().map(|line| line.chars().count()).max(), Some(127));
        assert_eq!(long.marked(1, 200, 1), None);
    }
}
