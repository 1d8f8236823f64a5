//! The string literals of Rust source, without those in comments and tests.

/// The literals of a file, and the modules of tests that it names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Literals {
    /// Each literal with the line that it begins on, counted from 1.
    pub(crate) literals: Vec<(usize, String)>,
    /// The modules that are files of their own and exist in tests only: `#[cfg(test)] mod NAME;`.
    pub(crate) test_modules: Vec<String>,
}

/// Reads a file of Rust source.
pub(crate) fn literals(source: &str) -> Literals {
    let mut scanner = Scanner { source, at: 0 };
    let mut found = Literals::default();
    while let Some(token) = scanner.next() {
        match token {
            Token::Literal(line, text) => found.literals.push((line, text)),
            Token::Other('#') if scanner.rest().starts_with("[cfg(test)]") => {
                found.test_modules.extend(scanner.skip_item());
            }
            Token::Other(_) => {}
        }
    }
    found
}

enum Token {
    Literal(usize, String),
    Other(char),
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// The next literal, or a character that is neither in a literal nor in a comment.
    fn next(&mut self) -> Option<Token> {
        loop {
            let rest = self.rest();
            let char = rest.chars().next()?;
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += block_comment(rest);
            } else if let Some((start, hashes)) = raw_string(rest).filter(|_| !self.is_in_a_word()) {
                let end = format!("\"{}", "#".repeat(hashes));
                let length = rest[start..].find(&end).unwrap_or(rest.len() - start);
                let literal = Token::Literal(self.line(), rest[start..start + length].to_owned());
                self.at = (self.at + start + length + end.len()).min(self.source.len());
                return Some(literal);
            } else if char == '"' {
                let line = self.line();
                let (length, text) = string(&rest[1..]);
                self.at += 1 + length;
                return Some(Token::Literal(line, text));
            } else {
                self.at += if char == '\'' { character(rest) } else { char.len_utf8() };
                return Some(Token::Other(char));
            }
        }
    }

    fn line(&self) -> usize {
        self.source[..self.at].matches('\n').count() + 1
    }

    /// Whether the last character belongs to the same name as the next one, as in `for"`.
    fn is_in_a_word(&self) -> bool {
        self.source[..self.at].ends_with(|char: char| char.is_alphanumeric() || char == '_')
    }

    /// Skips the item behind an attribute, and returns its name if it is a module in a file of its own.
    fn skip_item(&mut self) -> Option<String> {
        let mut depth = 0_usize;
        let mut text = String::new();
        while let Some(token) = self.next() {
            match token {
                Token::Other('{') => depth += 1,
                Token::Other('}') if depth == 1 => return None,
                Token::Other('}') => depth -= 1,
                Token::Other(';') if depth == 0 => {
                    return text.rsplit_once("mod ").map(|(_, name)| name.trim().to_owned());
                }
                Token::Other(char) => text.push(char),
                Token::Literal(..) => {}
            }
        }
        None
    }
}

/// The length of a comment, which may have others in it.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        match (rest.starts_with("/*"), rest.starts_with("*/")) {
            (true, _) => (depth, at) = (depth + 1, at + 2),
            (_, true) => (depth, at) = (depth - 1, at + 2),
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Where the content of a raw string begins, and how many `#` it has.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| text.starts_with(&format!("{prefix}\"")) || text.starts_with(&format!("{prefix}#")))?;
    let hashes = text[prefix.len()..].chars().take_while(|char| *char == '#').count();
    let start = prefix.len() + hashes;
    text[start..].starts_with('"').then_some((start + 1, hashes))
}

/// The length and the value of a literal behind its opening quote. Line breaks stay, so that lines can be counted.
fn string(text: &str) -> (usize, String) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (at + 1, value),
            // `\n` is a space here, for the line in the source is not over.
            '\\' => value.push(match chars.next() {
                Some((_, '"')) => '"',
                Some((_, '\n')) => '\n',
                _ => ' ',
            }),
            _ => value.push(char),
        }
    }
    (text.len(), value)
}

/// The length of a character literal, or of the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => text[3.min(text.len())..].find('\'').map_or(1, |end| end + 4),
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<(usize, String)> {
        literals(source).literals
    }

    #[test]
    fn literals_of_every_kind_are_found_with_their_lines() {
        let source =
            "let a = \"one\";\nlet b = r#\"a \"raw\" one\"#;\nlet c = b\"bytes\";\n\"two \\\n   lines \\\"quoted\\\"\"";
        let expected = [(1, "one"), (2, "a \"raw\" one"), (3, "bytes"), (4, "two \n   lines \"quoted\"")];
        assert_eq!(texts(source), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn comments_characters_and_lifetimes_are_not_literals() {
        let source = "// \"no\"\n/* \"no\" /* \"no\" */ \"no\" */ fn f<'a>(x: &'a str) { ['\"', '\\'', '\\\\', '\\u{41}', \"yes\"] }";
        assert_eq!(texts(source), [(2, "yes".to_owned())]);
    }

    #[test]
    fn tests_are_skipped_and_what_follows_them_is_not() {
        let source = "\
            #[cfg(test)]\nmod tests {\n    fn f() { \"}\"; '}' }\n}\n\
            #[cfg(test)]\n#[path = \"x\"]\nmod testing;\n\
            #[cfg(unix)]\nmod other { const A: &str = \"yes\"; }\n";
        let expected = Literals { literals: vec![(9, "yes".to_owned())], test_modules: vec!["testing".to_owned()] };
        assert_eq!(literals(source), expected);
    }
}
