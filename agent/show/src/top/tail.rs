//! The last lines of a log, while a view fills the terminal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The last lines. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    is_closed: bool,
}

impl Tail {
    /// How many lines are kept.
    pub const LINES: usize = 5;

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Adds a line and drops the oldest. Returns whether it is kept: after [`Tail::close`], none is.
    pub fn push(&self, line: &str) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        state.lines.extend(line.lines().map(str::to_owned));
        while state.lines.len() > Self::LINES {
            state.lines.pop_front();
        }
        true
    }

    /// The lines, once the view has ended; what follows belongs on the terminal.
    #[must_use]
    pub fn close(&self) -> Vec<String> {
        let mut state = self.lock();
        state.is_closed = true;
        state.lines.drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_none_after_the_end() {
        let tail = Tail::default();
        for number in 0..20 {
            assert!(tail.push(&format!("line {number}\n")));
        }
        assert_eq!(tail.lines().first().map(String::as_str), Some("line 15"));
        assert_eq!(tail.lines().len(), Tail::LINES);
        assert_eq!((tail.close().len(), tail.push("late\n"), tail.lines().len()), (Tail::LINES, false, 0));
    }
}
