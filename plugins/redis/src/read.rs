//! How a part is read: the section of INFO that it needs, and how the fields become values.

use wasaba_plugin::{Error, Values};

use crate::info::Info;

/// How each part in [`official::ALL`](crate::official::ALL) and [`extra::ALL`](crate::extra::ALL) is read.
pub(crate) struct Read {
    /// The section of INFO that it needs in addition to the default ones.
    pub(crate) section: Option<&'static str>,
    /// The values in the replies.
    pub(crate) values: fn(&Report<'_>) -> Result<Values, Error>,
}

/// The server's replies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report<'a> {
    /// All sections of INFO.
    pub(crate) info: Info<'a>,
    /// CLUSTER INFO, if it is a node of a cluster.
    pub(crate) cluster: Info<'a>,
    /// The limit of memory in bytes; 0 is unlimited.
    pub(crate) max_memory: Option<f64>,
    /// The limit of clients.
    pub(crate) max_clients: Option<f64>,
}
