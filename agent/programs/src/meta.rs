//! What a program of metrics says about its graphs, when it runs with `MACKEREL_AGENT_PLUGIN_META=1`.

use serde::Deserialize;
use serde_json::Value;
use wasaba_core::graph::GraphDefinition;
use wasaba_core::text::printable;

/// Mackerel's units.
const UNITS: [&str; 9] =
    ["float", "integer", "percentage", "seconds", "milliseconds", "bytes", "bytes/sec", "bits/sec", "iops"];

/// What was said.
#[derive(Debug, Default, PartialEq)]
pub struct Meta {
    /// The graphs, sorted by name.
    pub graphs: Vec<GraphDefinition>,
    /// Graphs and metrics that Mackerel would refuse, and why.
    pub complaints: Vec<String>,
}

/// As Go reads it: what is missing or `null` is nothing, whatever it is.
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

/// The same with its keys in small letters, since Go takes them in any; but not those of `graphs`, which are names.
fn with_small_keys(value: Value) -> Value {
    let names = |graphs: serde_json::Map<String, Value>| {
        graphs.into_iter().map(|(name, graph)| (name, with_small_keys(graph))).collect::<Value>()
    };
    match value {
        Value::Object(object) => {
            let small = object.into_iter().map(|(key, value)| match (key.to_ascii_lowercase(), value) {
                (key, Value::Object(graphs)) if key == "graphs" => (key, names(graphs)),
                (key, value) => (key, with_small_keys(value)),
            });
            small.collect()
        }
        Value::Array(list) => list.into_iter().map(with_small_keys).collect(),
        other => other,
    }
}

/// Reads what a program printed: a line `# mackerel-agent-plugin` and a JSON document. `None` if the line is not there, which
/// says that it knows nothing of graphs.
///
/// # Errors
/// What is behind the line cannot be read.
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
        return Err(format!("it speaks version {:?} of the protocol; only 1 is known", printable(version, 40)));
    }
    // Anything behind the document is nobody's.
    let document = serde_json::Deserializer::from_str(json).into_iter::<Value>().next();
    let document = document.ok_or("there is no JSON behind `# mackerel-agent-plugin`".to_owned())?;
    let document = document.and_then(|document| serde_json::from_value::<Option<Document>>(with_small_keys(document)));
    let document =
        document.map_err(|error| format!("what is behind `# mackerel-agent-plugin` cannot be read: {error}"))?;
    let mut meta = Meta::default();
    for (name, graph) in document.unwrap_or_default().graphs.unwrap_or_default() {
        match definition(&name, graph.unwrap_or_default(), &mut meta.complaints) {
            Ok(definition) => meta.graphs.push(definition),
            Err(why) => meta.complaints.push(format!("its graph `{}` is left out: {why}", printable(&name, 80))),
        }
    }
    Ok(Some(meta))
}

fn definition(name: &str, graph: Graph, complaints: &mut Vec<String>) -> Result<GraphDefinition, String> {
    let written = graph.unit.filter(|unit| !unit.is_empty()).unwrap_or_else(|| "float".to_owned());
    let unit = UNITS.iter().find(|known| **known == written);
    let unit = unit.ok_or_else(|| {
        format!("{:?} is no unit of Mackerel's, which are {}", printable(&written, 40), UNITS.join(", "))
    })?;
    let mut definition = GraphDefinition::new(name, &graph.label.unwrap_or_default(), unit)?;
    for metric in graph.metrics.unwrap_or_default() {
        let Metric { name: metric, label, stacked } = metric.unwrap_or_default();
        let (metric, label) = (metric.unwrap_or_default(), label.unwrap_or_default());
        match definition.clone().with_metric(&metric, &label, stacked.unwrap_or_default()) {
            Ok(with) => definition = with,
            Err(why) => complaints.push(format!("a metric of its graph `{}` is left out: {why}", printable(name, 80))),
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
    fn null_is_nothing_and_keys_are_taken_in_any_case_as_go_takes_them() {
        let graphs = |json: &str| {
            let meta = read(&format!("# mackerel-agent-plugin\n{json}\n")).unwrap().unwrap();
            (serde_json::to_string(&meta.graphs).unwrap(), meta.complaints.len())
        };
        let expected =
            r#"[{"name":"custom.Dice","unit":"float","metrics":[{"name":"custom.Dice.d6","isStacked":false}]}]"#;
        let null =
            r#"{"graphs":{"Dice":{"label":null,"unit":null,"metrics":[{"name":"d6","label":null,"stacked":null}]}}}"#;
        assert_eq!(graphs(null), (expected.to_owned(), 0));
        let shouted = r#"{"GRAPHS":{"Dice":{"LABEL":"","uNIT":"","Metrics":[{"NAME":"d6","STACKED":false}]}}}"#;
        assert_eq!(graphs(shouted), (expected.to_owned(), 0));
        // A metric without a name costs only itself.
        let nameless = r#"{"graphs":{"Dice":{"metrics":[null,{"label":"x"},{"name":"d6"}]}}}"#;
        assert_eq!(graphs(nameless), (expected.to_owned(), 2));
        let nothing = r#"[{"name":"custom.Dice","unit":"float","metrics":null}]"#;
        assert_eq!(graphs(r#"{"graphs":{"Dice":null}}"#), (nothing.to_owned(), 0));
        for none in ["null", "{}", r#"{"graphs":null}"#] {
            assert_eq!(graphs(none), ("[]".to_owned(), 0), "{none}");
        }
    }

    #[test]
    fn who_does_not_begin_with_the_line_knows_nothing_of_graphs() {
        for text in
            ["", "a 1 2\n", "# mackerel-agent-plugins\n{}", "mackerel-agent-plugin\n{}", " # mackerel-agent-plugin\n{}"]
        {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        assert!(read("#mackerel-agent-plugin\n{}").unwrap().is_some());
    }

    #[test]
    fn another_version_and_what_is_no_json_are_told() {
        for (text, expected) in [
            ("# mackerel-agent-plugin version=666\n{}", "666"),
            ("# mackerel-agent-plugin\n", "no JSON"),
            ("# mackerel-agent-plugin\n{", "cannot be read"),
            ("# mackerel-agent-plugin\n{\"graphs\":[]}", "cannot be read"),
        ] {
            assert!(read(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn a_graph_or_metric_that_mackerel_would_refuse_costs_only_itself() {
        let text = "# mackerel-agent-plugin\n{\"graphs\":{\"a b\":{},\"c\":{\"unit\":\"parsec\"},\
                    \"d\":{\"metrics\":[{\"name\":\"%1\"},{\"name\":\"e\"}]},\"good\":{}}}";
        let meta = read(text).unwrap().unwrap();
        assert_eq!(meta.graphs.iter().map(GraphDefinition::name).collect::<Vec<_>>(), ["custom.d", "custom.good"]);
        assert_eq!(meta.complaints.len(), 3);
        assert!(meta.complaints[1].contains("bytes/sec"), "{:?}", meta.complaints);
    }
}
