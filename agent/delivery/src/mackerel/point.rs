//! A point on its way to Mackerel: how it is written in a request, and how it leaves the queue.
//!
//! Pure: it sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use wasaba_core::sample::Sample;

use crate::spool::Settlement;

/// A point: a sample with its time and the id of its host on Mackerel.
#[derive(Clone)]
pub(super) struct Point {
    pub(super) host_id: Arc<str>,
    pub(super) time: i64,
    pub(super) sample: Sample,
}

/// What leaves the queue, by time.
pub(super) fn settlements(delivered: Vec<Point>, rejected: Vec<Point>) -> Vec<Settlement> {
    let mut settlements: BTreeMap<i64, Settlement> = BTreeMap::new();
    for point in delivered {
        settlements.entry(point.time).or_default().delivered.push(point.sample);
    }
    for point in rejected {
        settlements.entry(point.time).or_default().rejected.push(point.sample);
    }
    settlements.into_iter().map(|(time, settlement)| Settlement { time, ..settlement }).collect()
}

/// The body of a request.
pub(super) fn body(batch: &[Point]) -> Vec<u8> {
    serde_json::to_vec(batch).unwrap_or_default()
}

/// An element of the request, with keys in the order of the official agent's.
impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Point", 4)?;
        object.serialize_field("hostId", &*self.host_id)?;
        object.serialize_field("name", self.sample.name().as_str())?;
        object.serialize_field("time", &self.time)?;
        let value = self.sample.value();
        // Whole numbers without `.0`, as the official agent writes them. Up to 2^53 an `f64` holds them exactly.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            object.serialize_field("value", &(value as i64))?;
        } else {
            object.serialize_field("value", &value)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_like_the_official_agents() {
        let batch: Vec<Point> = [5.0, 0.0, -0.0, 0.25, 1e21, 12_345_678_901.0]
            .map(|value| Point { time: 60, sample: Sample::new("a", value).unwrap(), host_id: "X".into() })
            .into();
        let body = String::from_utf8(body(&batch)).unwrap();
        let values: Vec<&str> = body.split("\"value\":").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(values, ["5", "0", "0", "0.25", "1e+21", "12345678901"]);
        assert!(body.starts_with(r#"[{"hostId":"X","name":"a","time":60,"value":5},"#), "{body}");
    }
}
