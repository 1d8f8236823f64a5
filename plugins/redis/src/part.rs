//! A part of what is collected: the sections of INFO that it needs, its graphs, and how the fields become values.

use wasaba_plugin::{Error, Graph, Prefix};

use crate::info::Info;

/// A part; each stands in [`official::PARTS`](crate::official::PARTS) or [`extra::PARTS`](crate::extra::PARTS).
pub(crate) struct Part {
    /// Its name, which for an extra one is what the operator writes.
    pub(crate) name: &'static str,
    /// The section of INFO that it needs beside those that INFO alone gives.
    pub(crate) section: Option<&'static str>,
    /// What Mackerel is to draw.
    pub(crate) graphs: fn(&Prefix) -> Vec<Graph>,
    /// The values in the answers, each with its graph's key, a dot, its metric's name.
    pub(crate) values: fn(&Report<'_>) -> Result<Values, Error>,
}

/// Names without the prefix, and values.
pub(crate) type Values = Vec<(String, f64)>;

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
