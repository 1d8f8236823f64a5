//! The check of `PUT /api/v0/hosts/<id>/metadata/<namespace>`: any JSON, up to a limit.

use serde_json::Value;

use super::{Refusal, is_segment};

/// The longest value, in bytes of JSON.
const LONGEST: usize = 100_000;

/// The most namespaces of a host.
const MOST_NAMESPACES: usize = 50;

/// Checks a value for `namespace` of a host with this number of `others`.
pub(crate) fn check(namespace: &str, value: &Value, others: usize) -> Result<(), Refusal> {
    if !is_segment(namespace) || namespace.starts_with("mackerel") {
        return Err(Refusal::new(400, "the namespace must match [-a-zA-Z0-9_]+ and must not begin with `mackerel`"));
    }
    if value.to_string().len() > LONGEST {
        return Err(Refusal::new(413, "the metadata is longer than 100 kB"));
    }
    if others >= MOST_NAMESPACES {
        return Err(Refusal::new(400, "a host has at most 50 namespaces"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_invalid_namespace_a_long_value_and_too_many_namespaces_are_refused() {
        assert_eq!(check("a-b_1", &json!(null), 49), Ok(()));
        for (namespace, value, others, status) in [
            ("a.b", json!(1), 0, 400),
            ("mackerel-x", json!(1), 0, 400),
            ("a", json!("x".repeat(100_000)), 0, 413),
            ("a", json!(1), 50, 400),
        ] {
            assert_eq!(check(namespace, &value, others).unwrap_err().status, status, "{namespace}");
        }
    }
}
