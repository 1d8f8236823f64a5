//! What people look at: the state of the running agent, the plots of its history, and the ways to see both.
//!
//! Nothing here collects or delivers. Whoever shows something asks the agent for it through a [`feed::Feed`], which is the agent itself
//! or its control socket.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the files that they need"))]

pub mod feed;
pub mod plots;
pub mod state;
pub mod top;
pub mod words;
