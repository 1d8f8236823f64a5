//! Tests that take two or more real minutes. libtest starts tests in the order of their names, so these start first, and the others
//! run while these wait.

mod docker;
mod stack;
mod zoo;
