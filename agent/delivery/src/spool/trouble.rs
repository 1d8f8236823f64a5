//! Why a file of the spool cannot be used.

use std::{fmt, io};

#[derive(Debug)]
pub(super) enum Trouble {
    /// Another process has it open.
    InUse,
    Newer,
    System(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => formatter.write_str("in use by another wasaba"),
            Self::Newer => formatter.write_str("written by a newer wasaba"),
            Self::System(error) => error.fmt(formatter),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
