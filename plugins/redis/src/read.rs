//! How a part is read: the sections of INFO that it needs, and how the fields become values.

use wasaba_plugin::{Error, Values};

use crate::info::Info;

/// Of each part in [`official::ALL`](crate::official::ALL) and [`extra::ALL`](crate::extra::ALL).
pub(crate) struct Read {
    /// The section of INFO that it needs beside those that INFO alone gives.
    pub(crate) section: Option<&'static str>,
    /// The values in the answers.
    pub(crate) values: fn(&Report<'_>) -> Result<Values, Error>,
}

/// What the server told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report<'a> {
    /// Everything that INFO told.
    pub(crate) info: Info<'a>,
    /// What CLUSTER INFO told, of a node of a cluster.
    pub(crate) cluster: Info<'a>,
    /// The most bytes that it may take; 0 is no limit.
    pub(crate) max_memory: Option<f64>,
    /// The most clients that it takes.
    pub(crate) max_clients: Option<f64>,
}
