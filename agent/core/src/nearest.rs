//! The known word nearest to an unknown one, for the "did you mean" of an error.

/// With more edits than this it is another word, not a typo.
const MOST_EDITS: usize = 2;

/// So many letters of a word are one edit's.
const LETTERS_AN_EDIT: usize = 3;

/// A word with fewer letters is not taken for the beginning of another.
const FEWEST_LETTERS: usize = 3;

/// The one of `known` that `word` was probably meant to be: the shortest that it is the beginning of, or that with the fewest edits. Two letters
/// that changed places are one edit.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter().collect::<Vec<_>>();
    let letters = word.chars().count();
    let most = (letters / LETTERS_AN_EDIT).clamp(1, MOST_EDITS);
    let edited = known.iter().map(|known| (strsim::osa_distance(known, word), *known)).min();
    let edited = edited.filter(|(edits, _)| *edits <= most);
    let longer = known.iter().filter(|known| letters >= FEWEST_LETTERS && known.starts_with(word));
    let longer = longer.min_by_key(|known| known.len()).copied();
    // One letter is rather missing than the rest of a word.
    edited.filter(|(edits, _)| *edits <= 1).map(|(_, known)| known).or(longer).or(edited.map(|(_, known)| known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_nearest_word_and_another_word_finds_none() {
        for (word, expected) in [
            ("hots", Some("host")),
            ("prt", Some("port")),
            ("hostnmae", Some("hostname")),
            ("hostanmes", Some("hostname")),
            ("HOST", None),
            ("part-of", None),
            ("verbose", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ["port", "host", "hostname"]), expected, "{word}");
        }
        assert_eq!(nearest("a", []), None);
        assert_eq!(nearest("host", ["port", "hostname-or-address", "hostname"]), Some("hostname"), "its beginning");
        assert_eq!(nearest("host", ["port", "user"]), None, "half of its letters differ");
        assert_eq!(nearest("nmae", ["image", "label", "name"]), Some("name"), "a swap is one edit, not two");
    }
}
