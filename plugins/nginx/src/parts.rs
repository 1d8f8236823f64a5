//! What the plugin collects: each part, its graphs, and the numbers of the page in it.

use wasaba_plugin::{Graph, Metric, Part, Parts, Prefix, Unit};

use crate::stub_status::StubStatus;

/// The numbers of a part, by their names without `nginx.`.
pub(crate) type Read = fn(&StubStatus) -> Vec<(&'static str, u64)>;

/// All parts.
pub(crate) const PARTS: Parts<Read> = Parts::new(|_| Ok(Prefix::new("nginx")), OFFICIAL, EXTRA).with_up("up");

/// What the official plugin has.
const OFFICIAL: &[Part<Read>] = &[
    Part {
        name: "connections",
        graphs: connections_graphs,
        read: |page| vec![("connections.connections", page.connections)],
    },
    Part {
        name: "requests",
        graphs: requests_graphs,
        read: |page| {
            vec![
                ("requests.accepts", page.accepts),
                ("requests.handled", page.handled),
                ("requests.requests", page.requests),
            ]
        },
    },
    Part {
        name: "queue",
        graphs: queue_graphs,
        read: |page| {
            vec![("queue.reading", page.reading), ("queue.writing", page.writing), ("queue.waiting", page.waiting)]
        },
    },
];

/// What `extra` adds.
const EXTRA: &[Part<Read>] = &[Part {
    name: "dropped",
    graphs: dropped_graphs,
    // A busy nginx may count on between its two numbers.
    read: |page| vec![("dropped.dropped", page.accepts.saturating_sub(page.handled))],
}];

fn connections_graphs(prefix: &Prefix) -> Vec<Graph> {
    let connections = Metric::gauge("connections", "Active connections");
    vec![prefix.graph("connections", "Connections", Unit::Integer).metric(connections)]
}

fn requests_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("requests", "requests", Unit::Float)
            .metric(Metric::per_minute("accepts", "Accepted connections"))
            .metric(Metric::per_minute("handled", "Handled connections"))
            .metric(Metric::per_minute("requests", "Handled requests")),
    ]
}

fn queue_graphs(prefix: &Prefix) -> Vec<Graph> {
    vec![
        prefix
            .graph("queue", "connection status", Unit::Integer)
            .metric(Metric::gauge("reading", "Reading"))
            .metric(Metric::gauge("writing", "Writing"))
            .metric(Metric::gauge("waiting", "Waiting")),
    ]
}

fn dropped_graphs(prefix: &Prefix) -> Vec<Graph> {
    let dropped = Metric::per_minute("dropped", "Dropped connections");
    vec![prefix.graph("dropped", "dropped connections", Unit::Float).metric(dropped)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasaba_plugin::{Sample, Settings};

    const STATUS: StubStatus =
        StubStatus { connections: 1, accepts: 20, handled: 3, requests: 4, reading: 5, writing: 6, waiting: 7 };

    fn samples(status: &StubStatus, extra: &[&str]) -> Vec<Sample> {
        PARTS.collect(&settings(extra), |parts| Ok(crate::values(status, parts))).unwrap()
    }

    fn settings(extra: &[&str]) -> Settings {
        extra.iter().map(|name| ("extra".to_owned(), (*name).to_owned())).collect::<Vec<_>>().into()
    }

    fn in_graphs(extra: &[&str]) -> Vec<String> {
        let graphs = crate::describe().into_graphs(&settings(extra));
        let names = graphs
            .iter()
            .flat_map(|graph| graph.metrics.iter().map(move |metric| format!("{}.{}", graph.name, metric.name)));
        names.collect()
    }

    fn posted(extra: &[&str]) -> Vec<String> {
        samples(&STATUS, extra).into_iter().map(|sample| sample.name).collect()
    }

    #[test]
    fn each_of_the_seven_metrics_has_a_graph() {
        assert_eq!(posted(&[]).len(), 7);
        assert_eq!(in_graphs(&[]), posted(&[]));
    }

    #[test]
    fn an_extra_has_its_graph_only_where_it_is_named() {
        assert_eq!(in_graphs(&["dropped"]), posted(&["dropped"]));
        assert_eq!(samples(&STATUS, &["dropped"]).pop(), Some(Sample::new("nginx.dropped.dropped", 17.0)));
        let both = in_graphs(&["up", "dropped"]);
        assert_eq!(both.get(7..), Some(&["nginx.dropped.dropped".to_owned(), "nginx.up.up".to_owned()][..]));
    }

    #[test]
    fn no_connection_was_dropped_if_more_were_handled_than_accepted() {
        let raced = StubStatus { accepts: 2, handled: 3, ..STATUS };
        assert_eq!(samples(&raced, &["dropped"]).pop(), Some(Sample::new("nginx.dropped.dropped", 0.0)));
    }
}
