//! What needs two and more of the clock's minutes. libtest starts tests in the order of their names, and so these first; the others
//! run while they wait.

mod docker;
mod stack;
mod zoo;
