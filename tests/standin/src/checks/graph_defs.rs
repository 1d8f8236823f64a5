//! The check of `POST /api/v0/graph-defs/create`: an array of graph definitions.

use serde_json::Value;

use super::field::Field;
use super::{Refusal, is_segment};

/// The units that the documents list.
const UNITS: [&str; 9] =
    ["float", "integer", "percentage", "seconds", "milliseconds", "bytes", "bytes/sec", "bits/sec", "iops"];

/// The unchanged definitions, with the graphs' names.
pub(crate) fn graphs(body: &Value) -> Result<Vec<(String, Value)>, Refusal> {
    let field = Field::body(body);
    let graphs = field.elements()?;
    field.ensure(graphs.len() > 0, "must not be empty")?;
    graphs.map(|graph| Ok((graph_name(&graph)?.to_owned(), graph.to_value()))).collect()
}

/// Checks a graph and returns its name.
fn graph_name<'a>(graph: &Field<'a>) -> Result<&'a str, Refusal> {
    graph.only(&["name", "displayName", "unit", "metrics"])?;
    let name = pattern(&graph.required("name")?)?;
    graph.optional("displayName")?.map(|label| label.string()).transpose()?;
    if let Some(unit) = graph.optional("unit")? {
        unit.ensure(UNITS.contains(&unit.string()?), &format!("must be one of {}", UNITS.join(", ")))?;
    }
    let metrics = graph.required("metrics")?;
    if !metrics.is_null() {
        metrics.elements()?.try_for_each(|metric| check_metric(&metric, name))?;
    }
    Ok(name)
}

fn check_metric(metric: &Field<'_>, graph: &str) -> Result<(), Refusal> {
    metric.only(&["name", "displayName", "isStacked"])?;
    let field = metric.required("name")?;
    let rest = pattern(&field)?.strip_prefix(graph).and_then(|rest| rest.strip_prefix('.'));
    let one_more = rest.is_some_and(|rest| !rest.contains('.'));
    field.ensure(one_more, &format!("must be `{graph}.` and one more segment"))?;
    metric.optional("displayName")?.map(|label| label.string()).transpose()?;
    metric.required("isStacked")?.boolean().map(drop)
}

/// A name of the form `^custom(\.([-a-zA-Z0-9_]+|[*#]))+$`, with `#` at most once.
fn pattern<'a>(field: &Field<'a>) -> Result<&'a str, Refusal> {
    let name = field.string()?;
    let mut segments = name.strip_prefix("custom.").into_iter().flat_map(|rest| rest.split('.')).peekable();
    let fits = segments.peek().is_some() && segments.all(|segment| is_segment(segment) || matches!(segment, "*" | "#"));
    field.ensure(fits, &format!("must match custom(\\.([-a-zA-Z0-9_]+|[*#]))+: {name:?}"))?;
    field.ensure(name.matches('#').count() <= 1, &format!("must have `#` at most once: {name:?}"))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> Value {
        json!({"name": "custom.a.#", "displayName": "A", "unit": "bytes/sec", "metrics": [
            {"name": "custom.a.#.in", "displayName": "%1 in", "isStacked": true},
            {"name": "custom.a.#.*", "isStacked": false},
        ]})
    }

    fn refusal(bad: Value) -> String {
        let refusal = graphs(&json!([graph(), bad])).unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.message
    }

    fn with(key: &str, value: Value) -> Value {
        let mut graph = graph();
        graph[key] = value;
        graph
    }

    fn with_metric(key: &str, value: Value) -> Value {
        let mut graph = graph();
        graph["metrics"][1][key] = value;
        graph
    }

    #[test]
    fn a_valid_graph_is_returned_unchanged() {
        assert_eq!(graphs(&json!([graph()])), Ok(vec![("custom.a.#".to_owned(), graph())]));
        for minimal in [json!({"name": "custom.e", "metrics": null}), json!({"name": "custom.e", "metrics": []})] {
            assert!(graphs(&json!([minimal])).is_ok(), "{minimal} was refused");
        }
    }

    #[test]
    fn an_empty_array_and_any_other_type_are_refused() {
        assert_eq!(graphs(&graph()).unwrap_err().message, "the body must be an array");
        assert_eq!(graphs(&json!([])).unwrap_err().message, "the body must not be empty");
        assert_eq!(refusal(json!("a")), "[1] must be an object");
    }

    #[test]
    fn a_graph_with_an_invalid_name_is_refused() {
        for name in ["", "custom", "custom.", "a.b", "custom.a..b", "custom.a*", "custom.%1", "custom.日本"] {
            assert!(refusal(with("name", json!(name))).starts_with("[1].name must match custom"), "{name}");
        }
        assert_eq!(
            refusal(with("name", json!("custom.#.#"))),
            r##"[1].name must have `#` at most once: "custom.#.#""##
        );
    }

    #[test]
    fn a_unit_that_mackerel_does_not_know_is_refused() {
        assert!(refusal(with("unit", json!("kilobytes"))).starts_with("[1].unit must be one of float, integer"));
        assert_eq!(refusal(with("unit", json!(1))), "[1].unit must be a string");
    }

    #[test]
    fn a_metric_outside_its_graph_is_refused() {
        for name in ["custom.b.#.in", "custom.a.#", "custom.a.#.in.out", "custom.a.#in"] {
            let message = refusal(with_metric("name", json!(name)));
            assert!(message.starts_with("[1].metrics[1].name must"), "{name}: {message}");
        }
        let message = refusal(with_metric("name", json!("custom.a.#.#")));
        assert!(message.contains("`#` at most once"), "{message}");
    }

    #[test]
    fn a_placeholder_is_valid_in_a_label_but_not_in_a_name() {
        let message = refusal(with_metric("name", json!("custom.a.#.%1")));
        assert!(message.starts_with("[1].metrics[1].name must match"), "{message}");
    }

    #[test]
    fn a_field_of_the_wrong_type_is_refused_with_its_path() {
        assert_eq!(refusal(with("displayName", json!(1))), "[1].displayName must be a string");
        assert_eq!(refusal(with("metrics", json!({}))), "[1].metrics must be an array");
        assert_eq!(refusal(with_metric("displayName", json!(1))), "[1].metrics[1].displayName must be a string");
        assert_eq!(refusal(with_metric("isStacked", json!("no"))), "[1].metrics[1].isStacked must be true or false");
    }

    #[test]
    fn a_missing_or_an_unknown_field_is_refused() {
        assert_eq!(refusal(json!({"name": "custom.a"})), "[1].metrics is missing");
        assert_eq!(refusal(json!({"metrics": []})), "[1].name is missing");
        assert!(refusal(with("label", json!("A"))).starts_with("unknown field [1].label;"));
        assert!(refusal(with_metric("stacked", json!(true))).starts_with("unknown field [1].metrics[1].stacked;"));
        let incomplete = json!({"name": "custom.a", "metrics": [{"name": "custom.a.b"}]});
        assert_eq!(refusal(incomplete), "[1].metrics[0].isStacked is missing");
    }
}
