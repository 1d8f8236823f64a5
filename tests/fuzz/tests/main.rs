//! The targets with their corpus and changes of it, and the shipped program with such inputs. One program, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, with the reason")]

mod replay;
mod shipped;
