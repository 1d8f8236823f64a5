//! Regular expressions of the official agent's configuration: in the syntax of Go's `regexp`, which is RE2's
//! (<https://github.com/google/re2/wiki/Syntax>).
//!
//! They are rewritten for an engine with another dialect. Everything that they are matched against is ASCII, or a path; so
//! Unicode classes (`\pL`) stand for their ASCII part.

use std::iter::Peekable;
use std::str::Chars;

use regex_lite::{Regex, RegexBuilder};

/// The largest repetition count of RE2.
const MOST_REPETITIONS: u32 = 1_000;

/// How large a compiled expression may be: matching takes as many steps for each character as it has parts, so nested counts
/// would take seconds for a name.
const MOST_COMPILED_BYTES: usize = 256 << 10;

/// Compiles `text`, which is in Go's syntax.
///
/// # Errors
/// Why it is invalid, as the predicate of a sentence.
pub fn compile(text: &str) -> Result<Regex, String> {
    let mut writer = Writer { rest: text.chars().peekable(), out: String::new() };
    let checked = writer.expression().and_then(|()| {
        let compiled = RegexBuilder::new(&writer.out).size_limit(MOST_COMPILED_BYTES).build();
        compiled.map_err(|error| error.to_string())
    });
    checked.map_err(|why| format!("is not a valid regular expression: {why}"))
}

struct Writer<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

impl Writer<'_> {
    fn expression(&mut self) -> Result<(), String> {
        // Whether the last element has a repetition already.
        let mut repeated = false;
        while let Some(char) = self.rest.next() {
            let repeats = match char {
                '*' | '+' | '?' => Some(char.to_string()),
                '{' => self.count()?,
                _ => None,
            };
            if let Some(repeats) = repeats {
                if repeated {
                    return Err(format!("nested repetition `{repeats}`"));
                }
                self.out.push_str(&repeats);
                if self.rest.next_if_eq(&'?').is_some() {
                    self.out.push('?');
                }
                repeated = true;
                continue;
            }
            repeated = false;
            match char {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '{' | '}' | ']' => self.literal(char),
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    fn literal(&mut self, char: char) {
        self.out.push_str(&format!("\\x{{{:X}}}", u32::from(char)));
    }

    /// A character in a class. Where case is ignored, the engine does not accept an escaped one as the end of a range, so letters
    /// are written unescaped.
    fn literal_in_class(&mut self, char: char) {
        if char.is_ascii_alphanumeric() { self.out.push(char) } else { self.literal(char) }
    }

    /// What follows a `{`, if it is a repetition count.
    fn count(&mut self) -> Result<Option<String>, String> {
        let mut ahead = self.rest.clone();
        let inside = ahead.by_ref().take_while(|char| *char != '}').collect::<String>();
        let (least, most) = inside.split_once(',').map_or((inside.as_str(), None), |(least, most)| (least, Some(most)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let closed = self.rest.clone().any(|char| char == '}');
        if !closed || !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
            return Ok(None);
        }
        let numbers = [Some(least), most].into_iter().flatten().filter(|number| !number.is_empty());
        if numbers.map(str::parse::<u32>).any(|number| number.is_ok_and(|number| number <= MOST_REPETITIONS).eq(&false))
        {
            return Err(format!("repetition count above {MOST_REPETITIONS}"));
        }
        self.rest = ahead;
        Ok(Some(format!("{{{inside}}}")))
    }

    /// What follows a `(`: a plain group, or one with flags or a name.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        let head = self.rest.clone().take_while(|char| !matches!(char, ':' | ')' | '>')).collect::<String>();
        let is_name =
            head.strip_prefix("P<").or(head.strip_prefix('<')).is_some_and(|name| !name.starts_with(['=', '!']));
        if !is_name && !head.chars().all(|flag| "imsU-".contains(flag)) {
            return Err(format!("RE2 does not support `(?{head}`"));
        }
        self.out.push('?');
        Ok(())
    }

    /// What follows a `\` outside a class.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                while let Some(char) = self.rest.next() {
                    if char == '\\' && self.rest.next_if_eq(&'E').is_some() {
                        return Ok(());
                    }
                    self.literal(char);
                }
                Ok(())
            }
            Some(assertion @ ('A' | 'b' | 'B' | 'z')) => {
                self.out.extend(['\\', *assertion]);
                self.rest.next();
                Ok(())
            }
            _ => match self.escaped()? {
                Escaped::Char(char) => {
                    self.literal(char);
                    Ok(())
                }
                Escaped::Class(class) => {
                    self.out.push_str(&format!("[{class}]"));
                    Ok(())
                }
            },
        }
    }

    /// The meaning of an escape that is valid in a class, too.
    fn escaped(&mut self) -> Result<Escaped, String> {
        let Some(char) = self.rest.next() else { return Err("trailing backslash".to_owned()) };
        Ok(match char {
            'a' => Escaped::Char('\u{7}'),
            'f' => Escaped::Char('\u{c}'),
            'n' => Escaped::Char('\n'),
            'r' => Escaped::Char('\r'),
            't' => Escaped::Char('\t'),
            'v' => Escaped::Char('\u{b}'),
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => Escaped::Class(format!("\\{char}")),
            'p' | 'P' => Escaped::Class(self.unicode_class(char == 'P')?),
            'x' => Escaped::Char(self.hexadecimal()?),
            '0'..='7' => Escaped::Char(self.octal(char)?),
            other if other.is_ascii_alphanumeric() || !other.is_ascii() => {
                return Err(format!("RE2 does not support `\\{other}`"));
            }
            punctuation => Escaped::Char(punctuation),
        })
    }

    fn hexadecimal(&mut self) -> Result<char, String> {
        let digits = if self.rest.next_if_eq(&'{').is_some() {
            self.rest.by_ref().take_while(|char| *char != '}').collect::<String>()
        } else {
            self.rest.by_ref().take(2).collect::<String>()
        };
        let number = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() > 1);
        number.and_then(char::from_u32).ok_or_else(|| format!("invalid character `\\x{digits}`"))
    }

    /// `\0`, and up to three octal digits; a single one from 1 to 7 would be a backreference, which RE2 does not have.
    fn octal(&mut self, first: char) -> Result<char, String> {
        let mut digits = String::from(first);
        while let Some(digit) = self.rest.next_if(|char| digits.len() < 3 && ('0'..='7').contains(char)) {
            digits.push(digit);
        }
        if digits.len() == 1 && first != '0' {
            return Err(format!("RE2 does not support backreferences like `\\{first}`"));
        }
        u32::from_str_radix(&digits, 8)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| format!("invalid character `\\{digits}`"))
    }

    /// The ASCII part of `\pL` or `\p{Greek}`, as the inside of a class.
    fn unicode_class(&mut self, negated: bool) -> Result<String, String> {
        let name = match self.rest.next() {
            Some('{') => self.rest.by_ref().take_while(|char| *char != '}').collect(),
            Some(letter) => letter.to_string(),
            None => String::new(),
        };
        let (name, inverted) = name.strip_prefix('^').map_or((name.as_str(), false), |name| (name, true));
        let is_member: fn(char) -> bool = match name {
            "L" | "Latin" => |char| char.is_ascii_alphabetic(),
            "Lu" => |char| char.is_ascii_uppercase(),
            "Ll" => |char| char.is_ascii_lowercase(),
            "N" | "Nd" => |char| char.is_ascii_digit(),
            "P" => |char| char.is_ascii_punctuation() && !"$+<=>^`|~".contains(char),
            "S" => |char| "$+<=>^`|~".contains(char),
            "Z" | "Zs" => |char| char == ' ',
            "C" | "Cc" => |char| char.is_ascii_control(),
            _ if name.starts_with(|first: char| first.is_ascii_uppercase()) && name.len() > 2 => |_| false,
            _ => return Err(format!("unknown class `\\p{{{name}}}`")),
        };
        let all = (0_u8..128).map(char::from).filter(|char| is_member(*char) != (negated != inverted));
        let mut class = all.map(|char| format!("\\x{{{:X}}}", u32::from(char))).collect::<String>();
        if negated != inverted {
            class.push_str("\\x{80}-\\x{10FFFF}");
        }
        // An empty class is not valid; this character is in no text.
        Ok(if class.is_empty() { "\\x{10FFFF}".to_owned() } else { class })
    }

    /// What follows a `[`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(char) = self.rest.next() else { return Err("missing `]`".to_owned()) };
            match char {
                ']' if !first => break,
                '[' if self.rest.peek() == Some(&':') => {
                    let name = self.rest.by_ref().take_while(|char| *char != ']').collect::<String>();
                    self.out.push_str(&format!("[{name}]"));
                }
                _ => {
                    let low = self.member(char)?;
                    let mut ahead = self.rest.clone();
                    let range = ahead.next() == Some('-') && ahead.peek().is_some_and(|char| *char != ']');
                    match low {
                        Escaped::Class(class) => self.out.push_str(&class),
                        Escaped::Char(low) => {
                            self.literal_in_class(low);
                            if range {
                                self.rest.next();
                                let high = self.rest.next().map(|char| self.member(char)).transpose()?;
                                let Some(Escaped::Char(high)) = high else {
                                    return Err(format!("invalid range from `{low}`"));
                                };
                                self.out.push('-');
                                self.literal_in_class(high);
                            }
                        }
                    }
                }
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn member(&mut self, char: char) -> Result<Escaped, String> {
        if char == '\\' { self.escaped() } else { Ok(Escaped::Char(char)) }
    }
}

/// What an escape stands for.
enum Escaped {
    Char(char),
    /// The inside of a class.
    Class(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_whose_counts_multiply_is_refused() {
        assert!(compile("((a{10}b?){10}c?){1,3}").is_ok());
        for nested in ["(((a{100}){100}){100})", "((a?b?c?){1000}d){1000}"] {
            assert!(compile(nested).is_err_and(|why| why.contains("size limit")), "{nested}");
        }
    }

    const TEXTS: [&str; 27] = [
        "",
        "a",
        "aa",
        "ab",
        "A",
        "a.b",
        "axb",
        "/dev/sda",
        "/dev/loop12",
        "eth0",
        "É",
        "_9",
        "b1",
        "]",
        "&",
        "-",
        "x y 1",
        "{",
        "a{,2}",
        "\tz",
        "a\nb",
        "a{x",
        "\"<a",
        " ",
        "/",
        "}",
        "~",
    ];

    /// Each expression, and which of the texts Go 1.26's `regexp` finds it in; `None` where it is an error.
    const OF_GO: &[(&str, Option<&str>)] = &[
        ("^/dev/(sda|loop[0-9]+)$", Some("000000011000000000000000000")),
        ("\\Qa.b\\E", Some("000001000000000000000000000")),
        ("\\Qa.b", Some("000001000000000000000000000")),
        ("\\pL+", Some("011111111110100010111110000")),
        ("^\\p{Lu}", Some("000010000010000000000000000")),
        ("\\P{L}", Some("000001011101111111111111111")),
        ("^\\p{Greek}", Some("000000000000000000000000000")),
        ("[\\pL_]+$", Some("011111110010000000011110000")),
        ("[[:alpha:]]+[[:digit:]]", Some("000000001100100000000000000")),
        ("[[:^alpha:]]", Some("000001011111111111111111111")),
        ("(?i)ETH", Some("000000000100000000000000000")),
        ("(?i)[a-z]", Some("011111111100100010111110000")),
        ("(?i)[^a-f]x", Some("000000000000000000000100000")),
        ("(?i:[a-z]+)1", Some("000000001000100000000000000")),
        ("(?i)[\\x41-\\x5a]", Some("011111111100100010111110000")),
        ("(?i)^[A-B]$", Some("010010000000000000000000000")),
        ("(?i)[[:upper:]]2", Some("000000000000000000000000000")),
        ("(?i)[X-Z_-]", Some("000000100001000110010100000")),
        ("(?i)[\\x{61}-\\x{66}]\\d", Some("000000000000100000000000000")),
        ("(?i)[!-~]$", Some("011111111101111111111110111")),
        ("(?i)[0-9a-f]+$", Some("011111111101100010001010000")),
        ("(?i)[^\\pL]", Some("000001011101111111111111111")),
        ("(?i)^[^\\W_]$", Some("010010000000000000000000000")),
        ("(?i)\\x41B", Some("000100000000000000000000000")),
        ("(?i)[é-ü]", Some("000000000010000000000000000")),
        ("(?i)[ -@]b", Some("000001000000000000000000000")),
        ("(?U)a+", Some("011101110000000000101110000")),
        ("(?P<n>a)b", Some("000100000000000000000000000")),
        ("(?<n>a)b", Some("000100000000000000000000000")),
        ("\\x41", Some("000010000000000000000000000")),
        ("\\x{41}", Some("000010000000000000000000000")),
        ("\\101", Some("000010000000000000000000000")),
        ("a{2}", Some("001000000000000000000000000")),
        ("a{,2}", Some("000000000000000000100000000")),
        ("a{2,}", Some("001000000000000000000000000")),
        ("a{1001}", None),
        ("\\z", Some("111111111111111111111111111")),
        ("\\Z", None),
        ("(?=a)", None),
        ("\\1", None),
        ("(a)\\1", None),
        ("a++", None),
        ("a**", None),
        ("\\C", None),
        ("[a-\\d]", None),
        ("[]a]", Some("011101110000010000101110000")),
        ("[^]a]", Some("000111111111101111111111111")),
        ("[a", None),
        ("(a", None),
        ("a)", None),
        ("*a", None),
        ("\\_", Some("000000000001000000000000000")),
        ("\\-", Some("000000000000000100000000000")),
        ("\\/", Some("000000011000000000000000100")),
        ("\\ ", Some("000000000000000010000001000")),
        ("[&&]", Some("000000000000001000000000000")),
        ("[a&&b]", Some("011101110000101000101110000")),
        ("[[]", Some("000000000000000000000000000")),
        ("[a[b]", Some("011101110000100000101110000")),
        ("\\h", None),
        ("(?x) a", None),
        ("(?s).", Some("011111111111111111111111111")),
        ("(?m)^b", Some("000000000000100000001000000")),
        ("\\b", Some("011111111101100010111110000")),
        ("x|", Some("111111111111111111111111111")),
        ("", Some("111111111111111111111111111")),
        ("$", Some("111111111111111111111111111")),
        ("\\.", Some("000001000000000000000000000")),
        ("\\w+\\s\\d", Some("000000000000000010000000000")),
        ("[\\w.-]+", Some("011111111101100110111110000")),
        ("é", Some("000000000000000000000000000")),
        (".", Some("011111111111111111111111111")),
        ("\\N", None),
        ("\\u0041", None),
        ("\\<a", Some("000000000000000000000010000")),
        ("\\\"", Some("000000000000000000000010000")),
        ("a{2}{3}", None),
        ("(?i:a)b", Some("000100000000000000000000000")),
        ("[\\Q]\\E]", None),
        ("\\0", Some("000000000000000000000000000")),
        ("\\07", Some("000000000000000000000000000")),
        ("[a-z--b]", Some("011111111101110110111110100")),
        ("[~~]", Some("000000000000000000000000001")),
        ("\\t", Some("000000000000000000010000000")),
        ("{", Some("000000000000000001100100000")),
        ("a{x", Some("000000000000000000000100000")),
        ("}", Some("000000000000000000100000010")),
        ("]", Some("000000000000010000000000000")),
    ];

    #[test]
    fn an_expression_finds_what_go_finds() {
        for (text, expected) in OF_GO {
            let found = compile(text)
                .ok()
                .map(|regex| TEXTS.map(|text| if regex.is_match(text) { '1' } else { '0' }).iter().collect::<String>());
            // The one deviation: only ASCII has letters here. The eleventh text is the only one that is not ASCII.
            let ascii = |found: &str| [&found[..10], &found[11..]].concat();
            assert_eq!(found.as_deref().map(ascii), expected.map(ascii), "{text}");
        }
    }

    #[test]
    fn an_invalid_expression_is_refused_with_the_reason() {
        for (text, expected) in
            [("(?=a)", "(?=a"), ("\\1", "reference"), ("a{1001}", "1000"), ("a**", "nested"), ("[a", "`]`")]
        {
            let why = compile(text).unwrap_err();
            assert!(why.starts_with("is not a valid regular expression: ") && why.contains(expected), "{text}: {why}");
        }
    }
}
