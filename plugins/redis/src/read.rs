//! How a part is read: the section of INFO that it needs, and how the fields become values.

use wasaba_plugin::{Error, Graph, Part, Prefix, Values};

use crate::info::Info;

/// How each part in [`official::ALL`](crate::official::ALL) and [`extra::ALL`](crate::extra::ALL) is read.
pub(crate) struct Read {
    /// The section of INFO that it needs in addition to the default ones.
    pub(crate) section: Option<&'static str>,
    /// The values in the replies.
    pub(crate) values: fn(&Report<'_>) -> Result<Values, Error>,
}

/// A part that is read from a section.
pub(crate) const fn part(
    name: &'static str,
    section: Option<&'static str>,
    graphs: fn(&Prefix) -> Vec<Graph>,
    values: fn(&Report<'_>) -> Result<Values, Error>,
) -> Part<Read> {
    Part { name, graphs, read: Read { section, values } }
}

/// Those of the values that are known.
pub(crate) fn known<const N: usize>(values: [(&str, Option<f64>); N]) -> Values {
    values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
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
