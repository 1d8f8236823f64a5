//! Why a component was not loaded.

use sandbox::failure::Failure;
use sandbox::load::LoadError;

/// Why a component does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unloaded {
    /// Every problem, a line each.
    pub problems: Vec<String>,
    /// Whether other plugins held it up: nothing is wrong with its file or table, so it is worth another try.
    pub is_of_others: bool,
}

impl Unloaded {
    /// The failure of a call that is part of loading, in the words of `text`.
    #[must_use]
    pub fn of_call(failure: &Failure, text: String) -> Self {
        Self { problems: vec![text], is_of_others: failure.is_of_others() }
    }

    /// The same, with each problem as `words` has it.
    #[must_use]
    pub fn in_words(self, words: impl FnMut(String) -> String) -> Self {
        Self { problems: self.problems.into_iter().map(words).collect(), ..self }
    }
}

impl From<Vec<String>> for Unloaded {
    fn from(problems: Vec<String>) -> Self {
        Self { problems, is_of_others: false }
    }
}

impl From<String> for Unloaded {
    fn from(problem: String) -> Self {
        vec![problem].into()
    }
}

impl From<LoadError> for Unloaded {
    fn from(error: LoadError) -> Self {
        Self { problems: vec![error.to_string()], is_of_others: error.is_of_others() }
    }
}
