//! The derives of [`wasaba-plugin`](https://docs.rs/wasaba-plugin), which exports them and documents them.

mod field;
mod graph;
mod settings;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct what an instance's settings are read into, and declares them: see `wasaba_plugin::FromSettings`.
#[proc_macro_derive(
    Settings,
    attributes(
        setting,
        text,
        secret,
        integer,
        number,
        boolean,
        duration,
        url,
        endpoint,
        host,
        port,
        unix_socket,
        file,
        tls_skip_verify,
        tls_mode
    )
)]
pub fn settings(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    settings::expand(&input).unwrap_or_else(|error| settings::stub(&input, &error)).into()
}

/// Makes a struct a graph, and its fields the readings of the graph's metrics: see `wasaba_plugin::AsGraph`.
#[proc_macro_derive(Graph, attributes(graph, gauge, per_minute, per_second, delta, per_minute_32, segment))]
pub fn graph(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    graph::expand(&input).unwrap_or_else(|error| graph::stub(&input, &error)).into()
}
