//! The phrases that no text may contain, and what to write instead.

/// A sequence of words.
pub(crate) struct Phrase {
    /// For each word its alternatives, separated by `|`.
    words: &'static [&'static str],
    /// Word sequences after which the phrase is good English.
    allowed_after: &'static [&'static [&'static str]],
    /// Word sequences before which the phrase is good English.
    allowed_before: &'static [&'static [&'static str]],
    /// What to write instead.
    pub(crate) better: &'static str,
}

const fn phrase(words: &'static [&'static str], better: &'static str) -> Phrase {
    Phrase { words, allowed_after: &[], allowed_before: &[], better }
}

const TO_BE: &str = "is|are|was|were|be|been";

/// The list.
pub(crate) const BANNED: &[Phrase] = &[
    Phrase {
        allowed_after: &[&["there"]],
        allowed_before: &[&["longer"], &["more", "than"], &["less", "than"], &["later", "than"]],
        ..phrase(&["is|are|was|were", "no"], "\"is not a ...\" or \"invalid ...\"")
    },
    phrase(&["nobody"], "the thing that is missing, or \"no one\" of people"),
    phrase(&["somebody"], "the thing, or \"someone\" of people"),
    phrase(&[TO_BE, "told"], "\"logged\", \"reported\", \"notified\""),
    phrase(&["left", "out"], "\"skipped\", \"ignored\", \"refused\", \"omitted\""),
    phrase(&["goes", "on"], "\"continues\", \"keeps running\""),
    Phrase { allowed_before: &[&[":"]], ..phrase(&["given", "up"], "\"dropped\", \"abandoned\"") },
    phrase(&["take|takes|took", "leave"], "\"reaps\""),
    phrase(&["well", "again"], "\"recovered\""),
    phrase(&["in", "trouble"], "\"failing\""),
    phrase(&["wish|wishes|wished", "for"], "\"imports\", \"requests\""),
    phrase(&["anew"], "\"again\""),
    phrase(&["hear|hears|heard", "of"], "\"notices\", or name the event"),
    phrase(&["was|were", "ended"], "\"was stopped\", \"was killed\""),
    phrase(&["is|are", "to", "be"], "\"must be\", \"will be\""),
];

/// A word with the line that it is on, counted from 1.
struct Word {
    text: String,
    line: usize,
}

/// The words of `text` in lower case. Each punctuation mark is a word of its own, so that no phrase reaches across it. Names with
/// underscores are single words.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut word = String::new();
        for char in line.chars().chain(std::iter::once(' ')) {
            if char.is_alphanumeric() || matches!(char, '_' | '\'' | '’') {
                word.extend(char.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push(Word { text: std::mem::take(&mut word), line: index + 1 });
            }
            if !char.is_whitespace() {
                words.push(Word { text: char.to_string(), line: index + 1 });
            }
        }
    }
    words
}

/// Each banned phrase in `text`, with its line, counted from 1.
pub(crate) fn banned_in(text: &str) -> Vec<(usize, String, &'static Phrase)> {
    let words = words(text);
    let is_at = |index: usize, phrase: &[&str]| {
        let found = words.get(index..index + phrase.len());
        found
            .is_some_and(|found| found.iter().zip(phrase).all(|(word, one)| one.split('|').any(|one| one == word.text)))
    };
    let mut found = Vec::new();
    for (index, word) in words.iter().enumerate() {
        for phrase in BANNED {
            let end = index + phrase.words.len();
            let is_allowed = phrase.allowed_before.iter().any(|next| is_at(end, next))
                || phrase.allowed_after.iter().any(|last| index >= last.len() && is_at(index - last.len(), last));
            if is_at(index, phrase.words) && !is_allowed {
                let text = words[index..end].iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
                found.push((word.line, text, phrase));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        banned_in(text).into_iter().map(|(line, text, _)| (line, text)).collect()
    }

    #[test]
    fn a_banned_phrase_is_found_with_its_line_in_any_case_and_across_a_line_break() {
        let text = "The plugin is skipped.\nThis IS  no\nTOML, and `x` is left\n  out.";
        assert_eq!(found(text), [(2, "is no".to_owned()), (3, "left out".to_owned())]);
        assert_eq!(found("{name:?} is no number"), [(1, "is no".to_owned())]);
        assert_eq!(found("it was told nobody"), [(1, "was told".to_owned()), (1, "nobody".to_owned())]);
    }

    #[test]
    fn good_english_is_not_a_banned_phrase() {
        for text in [
            "there is no plugin `x`",
            "There are no values",
            "it is no longer there",
            "it is no more than 5",
            "so it is. No value is posted",
            "runs_as_nobody",
            "left outside",
            "to tell them apart",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn every_phrase_of_the_list_can_be_found() {
        for phrase in BANNED {
            let text = phrase.words.iter().map(|word| word.split('|').next().unwrap()).collect::<Vec<_>>().join(" ");
            assert_eq!(found(&text), [(1, text.clone())]);
        }
    }
}
