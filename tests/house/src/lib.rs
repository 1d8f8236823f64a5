//! The tests that hold the tree against what ARCHITECTURE.md and CONTRIBUTING.md say of it. There is no code here.
