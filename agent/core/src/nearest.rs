//! The known word nearest to an unknown one, for the "did you mean" of an error.

/// With more edits than this it is another word, not a typo.
const MOST_EDITS: usize = 2;

/// The one of `known` that `word` was probably meant to be. Two letters that changed places are one edit.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let nearest = known.into_iter().map(|known| (strsim::osa_distance(known, word), known)).min();
    nearest.filter(|(edits, _)| *edits <= MOST_EDITS).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_nearest_word_and_another_word_finds_none() {
        for (word, expected) in
            [("hots", Some("host")), ("prt", Some("port")), ("HOST", None), ("verbose", None), ("", None)]
        {
            assert_eq!(nearest(word, ["port", "host", "hostname"]), expected, "{word}");
        }
        assert_eq!(nearest("a", []), None);
        assert_eq!(nearest("nmae", ["image", "label", "name"]), Some("name"), "a swap is one edit, not two");
    }
}
