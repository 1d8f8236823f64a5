//! The graph definitions that a metrics program prints when it runs with `MACKEREL_AGENT_PLUGIN_META=1`.

use serde::Deserialize;
use serde_json::Value;
use wasaba_core::graph::GraphDefinition;
use wasaba_core::text::printable;

/// Mackerel's units.
const UNITS: [&str; 9] =
    ["float", "integer", "percentage", "seconds", "milliseconds", "bytes", "bytes/sec", "bits/sec", "iops"];

/// The graph definitions in a program's output.
#[derive(Debug, Default, PartialEq)]
pub struct Meta {
    /// The graphs, sorted by name.
    pub graphs: Vec<GraphDefinition>,
    /// Graphs and metrics that were skipped, since Mackerel would refuse them, and why.
    pub warnings: Vec<String>,
}

/// As Go reads it: every key may be missing or `null`.
#[derive(Default, Deserialize)]
struct Document {
    graphs: Option<std::collections::BTreeMap<String, Option<Graph>>>,
}

#[derive(Default, Deserialize)]
struct Graph {
    label: Option<String>,
    unit: Option<String>,
    metrics: Option<Vec<Option<Metric>>>,
}

#[derive(Default, Deserialize)]
struct Metric {
    name: Option<String>,
    label: Option<String>,
    stacked: Option<bool>,
}

/// `value` with its keys in lower case, since Go matches them in any case; but not those in `graphs`, which are names.
fn with_lower_case_keys(value: Value) -> Value {
    let names = |graphs: serde_json::Map<String, Value>| {
        graphs.into_iter().map(|(name, graph)| (name, with_lower_case_keys(graph))).collect::<Value>()
    };
    match value {
        Value::Object(object) => {
            let lower_case = object.into_iter().map(|(key, value)| match (key.to_ascii_lowercase(), value) {
                (key, Value::Object(graphs)) if key == "graphs" => (key, names(graphs)),
                (key, value) => (key, with_lower_case_keys(value)),
            });
            lower_case.collect()
        }
        Value::Array(list) => list.into_iter().map(with_lower_case_keys).collect(),
        other => other,
    }
}

/// Parses a program's output: a line `# mackerel-agent-plugin` and a JSON document. `None` without that line: such a program
/// has no graph definitions.
///
/// # Errors
/// The document after the line is invalid, or of another version.
pub fn read(text: &str) -> Result<Option<Meta>, String> {
    let (head, json) = text.split_once('\n').unwrap_or((text, ""));
    let Some(words) =
        head.strip_prefix('#').map(str::trim_start).and_then(|rest| rest.strip_prefix("mackerel-agent-plugin"))
    else {
        return Ok(None);
    };
    if words.starts_with(|next: char| next.is_alphanumeric() || next == '_') {
        return Ok(None);
    }
    let version = words.split_whitespace().find_map(|word| word.strip_prefix("version="));
    if let Some(version) = version.filter(|version| *version != "1") {
        return Err(format!("unsupported protocol version {:?}; supported: 1", printable(version, 40)));
    }
    // Anything after the document is ignored.
    let document = serde_json::Deserializer::from_str(json).into_iter::<Value>().next();
    let document = document.ok_or("missing JSON after `# mackerel-agent-plugin`".to_owned())?;
    let document =
        document.and_then(|document| serde_json::from_value::<Option<Document>>(with_lower_case_keys(document)));
    let document = document.map_err(|error| {
        let why = printable(&error.to_string(), 200);
        format!("invalid JSON after `# mackerel-agent-plugin`: {why}")
    })?;
    let mut meta = Meta::default();
    for (name, graph) in document.unwrap_or_default().graphs.unwrap_or_default() {
        match definition(&name, graph.unwrap_or_default(), &mut meta.warnings) {
            Ok(definition) => meta.graphs.push(definition),
            Err(why) => meta.warnings.push(format!("skipped graph `{}`: {why}", printable(&name, 80))),
        }
    }
    Ok(Some(meta))
}

fn definition(name: &str, graph: Graph, warnings: &mut Vec<String>) -> Result<GraphDefinition, String> {
    let raw = graph.unit.filter(|unit| !unit.is_empty()).unwrap_or_else(|| "float".to_owned());
    let unit = UNITS.iter().find(|known| **known == raw);
    let unit = unit.ok_or_else(|| format!("unknown unit {:?}; valid: {}", printable(&raw, 40), UNITS.join(", ")))?;
    let mut definition = GraphDefinition::new(name, &graph.label.unwrap_or_default(), unit)?;
    for metric in graph.metrics.unwrap_or_default() {
        let Metric { name: metric, label, stacked } = metric.unwrap_or_default();
        let (metric, label) = (metric.unwrap_or_default(), label.unwrap_or_default());
        if let Err(why) = definition.add_metric(&metric, &label, stacked.unwrap_or_default()) {
            warnings.push(format!("skipped a metric of graph `{}`: {why}", printable(name, 80)));
        }
    }
    Ok(definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_form_is_read() {
        let text = "# mackerel-agent-plugin version=1\n{\"graphs\":{\"super.dice\":{\"label\":\"My <Dice>\",\"unit\":\
                    \"integer\",\"more\":1,\"metrics\":[{\"name\":\"d6\",\"label\":\"D6\",\"stacked\":true},{\"name\":\"*\"}]},\
                    \"empty\":{\"label\":\"E\"}}}\n";
        let meta = read(text).unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&meta.graphs).unwrap(),
            concat!(
                r#"[{"name":"custom.empty","displayName":"E","unit":"float","metrics":null},"#,
                r#"{"name":"custom.super.dice","displayName":"My <Dice>","unit":"integer","metrics":["#,
                r#"{"name":"custom.super.dice.d6","displayName":"D6","isStacked":true},"#,
                r#"{"name":"custom.super.dice.*","isStacked":false}]}]"#
            )
        );
    }

    #[test]
    fn null_counts_as_missing_and_keys_match_in_any_case_as_in_go() {
        let graphs = |json: &str| {
            let meta = read(&format!("# mackerel-agent-plugin\n{json}\n")).unwrap().unwrap();
            (serde_json::to_string(&meta.graphs).unwrap(), meta.warnings.len())
        };
        let expected =
            r#"[{"name":"custom.Dice","unit":"float","metrics":[{"name":"custom.Dice.d6","isStacked":false}]}]"#;
        let null =
            r#"{"graphs":{"Dice":{"label":null,"unit":null,"metrics":[{"name":"d6","label":null,"stacked":null}]}}}"#;
        assert_eq!(graphs(null), (expected.to_owned(), 0));
        let shouted = r#"{"GRAPHS":{"Dice":{"LABEL":"","uNIT":"","Metrics":[{"NAME":"d6","STACKED":false}]}}}"#;
        assert_eq!(graphs(shouted), (expected.to_owned(), 0));
        // A metric without a name is skipped.
        let nameless = r#"{"graphs":{"Dice":{"metrics":[null,{"label":"x"},{"name":"d6"}]}}}"#;
        assert_eq!(graphs(nameless), (expected.to_owned(), 2));
        let nothing = r#"[{"name":"custom.Dice","unit":"float","metrics":null}]"#;
        assert_eq!(graphs(r#"{"graphs":{"Dice":null}}"#), (nothing.to_owned(), 0));
        for none in ["null", "{}", r#"{"graphs":null}"#] {
            assert_eq!(graphs(none), ("[]".to_owned(), 0), "{none}");
        }
    }

    #[test]
    fn output_without_the_first_line_has_no_graph_definitions() {
        for text in
            ["", "a 1 2\n", "# mackerel-agent-plugins\n{}", "mackerel-agent-plugin\n{}", " # mackerel-agent-plugin\n{}"]
        {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        assert!(read("#mackerel-agent-plugin\n{}").unwrap().is_some());
    }

    #[test]
    fn another_version_and_invalid_json_are_errors() {
        for (text, expected) in [
            ("# mackerel-agent-plugin version=666\n{}", "666"),
            ("# mackerel-agent-plugin\n", "missing JSON"),
            ("# mackerel-agent-plugin\n{", "invalid JSON"),
            ("# mackerel-agent-plugin\n{\"graphs\":[]}", "invalid JSON"),
        ] {
            assert!(read(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn a_graph_or_metric_that_mackerel_would_refuse_is_skipped_with_a_warning() {
        let text = "# mackerel-agent-plugin\n{\"graphs\":{\"a b\":{},\"c\":{\"unit\":\"parsec\"},\
                    \"d\":{\"metrics\":[{\"name\":\"%1\"},{\"name\":\"e\"}]},\"good\":{}}}";
        let meta = read(text).unwrap().unwrap();
        assert_eq!(meta.graphs.iter().map(GraphDefinition::name).collect::<Vec<_>>(), ["custom.d", "custom.good"]);
        assert_eq!(meta.warnings.len(), 3);
        assert!(meta.warnings[1].contains("bytes/sec"), "{:?}", meta.warnings);
    }

    #[test]
    fn a_message_is_short_however_long_the_names_and_texts_in_it_are() {
        let long = "é".repeat(100_000);
        let graphs = [
            format!(r#"{{"{long}":{{}}}}"#),
            format!(r#"{{"a":{{"unit":"{long}"}}}}"#),
            format!(r#"{{"a":{{"metrics":[{{"name":"{long}"}}]}}}}"#),
        ];
        for graphs in graphs {
            let meta = read(&format!("# mackerel-agent-plugin\n{{\"graphs\":{graphs}}}")).unwrap().unwrap();
            assert!(meta.warnings.len() == 1 && meta.warnings[0].len() < 600, "{:.900}", meta.warnings[0]);
        }
        let invalid = read(&format!("# mackerel-agent-plugin\n{{\"graphs\":\"{long}\"}}")).unwrap_err();
        assert!(invalid.len() < 600, "{invalid:.900}");
    }

    /// Each once copied all before it, which took minutes for what a program may print.
    #[test]
    fn a_graph_may_have_as_many_metrics_as_fit_into_a_programs_output() {
        let metrics = vec![r#"{"name":"a"}"#; 60_000].join(",");
        let text = format!("# mackerel-agent-plugin\n{{\"graphs\":{{\"g\":{{\"metrics\":[{metrics}]}}}}}}");
        assert!(text.len() < super::super::process::MOST_OUTPUT_BYTES);
        assert_eq!(read(&text).unwrap().unwrap().warnings, Vec::<String>::new());
    }
}
