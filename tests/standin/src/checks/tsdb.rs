//! The check of `POST /api/v0/tsdb`: an array of valid points.
//!
//! Which hosts exist is a parameter. Points that are too old are not refused, only distinguished: Mackerel answers 200.

use std::time::SystemTime;

use serde_json::Value;

use super::field::Field;
use super::{Refusal, is_segment};
use crate::unix_seconds;

/// The most points in a request. Our own choice: the documents give no limit.
pub(crate) const MOST_POINTS: usize = 10_000;

/// A point further ahead is refused; an older one is accepted, but not stored.
const HORIZON_SECONDS: i64 = 24 * 60 * 60;

/// The system metrics that have no variable part.
const SYSTEM_METRICS: [&str; 21] = [
    "loadavg1",
    "loadavg5",
    "loadavg15",
    "cpu.user.percentage",
    "cpu.nice.percentage",
    "cpu.system.percentage",
    "cpu.idle.percentage",
    "cpu.iowait.percentage",
    "cpu.irq.percentage",
    "cpu.softirq.percentage",
    "cpu.steal.percentage",
    "cpu.guest.percentage",
    "memory.total",
    "memory.used",
    "memory.mem_available",
    "memory.buffers",
    "memory.cached",
    "memory.free",
    "memory.swap_total",
    "memory.swap_free",
    "memory.swap_cached",
];

/// A valid point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The id of its host.
    pub host_id: String,
    /// The metric, including `custom.`.
    pub name: String,
    /// Unix seconds.
    pub time: i64,
    /// The value, which is finite.
    pub value: f64,
    /// When its request was received.
    pub received_at: SystemTime,
}

impl Point {
    /// Whether Mackerel answers 200 but does not store it.
    pub(crate) fn is_too_old(&self) -> bool {
        self.time < unix_seconds(self.received_at).saturating_sub(HORIZON_SECONDS)
    }
}

/// The points of a request, or why the first invalid one is refused; `is_host` knows the hosts that are not retired.
pub(crate) fn points(
    body: &Value,
    received_at: SystemTime,
    is_host: impl Fn(&str) -> bool,
) -> Result<Vec<Point>, Refusal> {
    let body = Field::body(body);
    let points = body.elements()?;
    body.ensure(points.len() > 0, "must not be empty")?;
    body.ensure(points.len() <= MOST_POINTS, &format!("must have at most {MOST_POINTS} points"))?;
    points.map(|point| read(&point, received_at, &is_host)).collect()
}

fn read(point: &Field<'_>, received_at: SystemTime, is_host: impl Fn(&str) -> bool) -> Result<Point, Refusal> {
    point.only(&["hostId", "name", "time", "value"])?;
    let host_id = point.required("hostId")?.string()?.to_owned();
    let name = metric_name(&point.required("name")?)?.to_owned();
    let time_field = point.required("time")?;
    let time = time_field.integer()?;
    let latest = unix_seconds(received_at).saturating_add(HORIZON_SECONDS);
    time_field.ensure(time <= latest, "must not be more than 24 hours ahead")?;
    let value = point.required("value")?.number()?;
    if is_host(&host_id) {
        Ok(Point { host_id, name, time, value, received_at })
    } else {
        Err(Refusal::host_not_found())
    }
}

fn metric_name<'a>(field: &Field<'a>) -> Result<&'a str, Refusal> {
    let name = field.string()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    field.ensure(!name.is_empty() && name.bytes().all(fits), &format!("must match [a-zA-Z0-9._-]+: {name:?}"))?;
    match name.strip_prefix("custom.") {
        Some(rest) => field.ensure(rest.split('.').all(is_segment), &format!("has an empty segment: {name:?}"))?,
        None => field.ensure(
            is_system_metric(name),
            &format!("must be a known system metric or begin with `custom.`: {name:?}"),
        )?,
    }
    Ok(name)
}

fn is_system_metric(name: &str) -> bool {
    let segments: Vec<&str> = name.split('.').collect();
    match segments.as_slice() {
        ["interface", segment, "rxBytes" | "txBytes", "delta"]
        | ["disk", segment, "reads" | "writes", "delta"]
        | ["filesystem", segment, "size" | "used"] => is_segment(segment),
        _ => SYSTEM_METRICS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn received_at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64)
    }

    fn check(body: &Value) -> Result<Vec<Point>, Refusal> {
        points(body, received_at(), |id| id == "host")
    }

    fn point() -> Value {
        json!({"hostId": "host", "name": "loadavg5", "time": NOW, "value": 0.5})
    }

    /// The refusal of a valid point followed by one with an invalid `key`.
    fn refusal(key: &str, value: Value) -> String {
        let mut bad = point();
        bad[key] = value;
        let refusal = check(&json!([point(), bad])).unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.message
    }

    #[test]
    fn a_valid_point_is_accepted() {
        let (host_id, name) = ("host".to_owned(), "loadavg5".to_owned());
        let expected = Point { host_id, name, time: NOW, value: 0.5, received_at: received_at() };
        assert_eq!(check(&json!([point()])), Ok(vec![expected]));
    }

    #[test]
    fn only_the_official_agents_system_metrics_are_known() {
        let good = [
            "custom.a",
            "custom.docker.cpuacct_percentage.app_0a1b2c.user",
            "memory.swap_cached",
            "interface.eth0.rxBytes.delta",
            "disk.nvme0n1.writes.delta",
            "filesystem.mapper_vg-root.used",
        ];
        for name in good.into_iter().chain(SYSTEM_METRICS) {
            let mut point = point();
            point["name"] = json!(name);
            assert!(check(&json!([point])).is_ok(), "{name} was refused");
        }
        let bad = ["loadavg2", "cpu.guest_nice.percentage", "memory.available", "interface.eth0.rxBytes", "custom"];
        for name in bad.into_iter().chain(["disk.a.b.reads.delta", "disk..reads.delta", "filesystem.vda.free"]) {
            assert!(refusal("name", json!(name)).starts_with("[1].name must be a known system metric"), "{name}");
        }
    }

    #[test]
    fn a_name_outside_the_alphabet_is_refused() {
        for name in ["", "custom.日本.語", "custom.a b", "custom.a/b", "custom.#"] {
            assert!(refusal("name", json!(name)).starts_with("[1].name must match [a-zA-Z0-9._-]+"), "{name}");
        }
    }

    #[test]
    fn a_custom_name_with_an_empty_segment_is_refused() {
        for name in ["custom.a..b", "custom..a", "custom.a.", "custom."] {
            assert!(refusal("name", json!(name)).starts_with("[1].name has an empty segment"), "{name}");
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_is_refused_with_its_path() {
        assert_eq!(refusal("hostId", json!(1)), "[1].hostId must be a string");
        assert_eq!(refusal("name", json!(null)), "[1].name must be a string");
        for time in [json!(1.5), json!(1.0), json!("1"), json!(null)] {
            assert_eq!(refusal("time", time), "[1].time must be an integer");
        }
        for value in [json!("1"), json!(null), json!(true), json!([])] {
            assert_eq!(refusal("value", value), "[1].value must be a number");
        }
    }

    #[test]
    fn a_missing_or_an_unknown_field_is_refused() {
        assert_eq!(check(&json!([{"hostId": "host"}])).unwrap_err().message, "[0].name is missing");
        assert_eq!(refusal("unit", json!("x")), "unknown field [1].unit; valid: hostId, name, time, value");
        assert_eq!(check(&json!([point(), 3])).unwrap_err().message, "[1] must be an object");
    }

    #[test]
    fn an_empty_array_and_any_other_type_are_refused() {
        assert_eq!(check(&json!(null)).unwrap_err().message, "the body must be an array");
        assert_eq!(check(&point()).unwrap_err().message, "the body must be an array");
        assert_eq!(check(&json!([])).unwrap_err().message, "the body must not be empty");
    }

    #[test]
    fn more_than_ten_thousand_points_are_refused() {
        assert!(check(&Value::Array(vec![point(); MOST_POINTS])).is_ok());
        let refusal = check(&Value::Array(vec![point(); MOST_POINTS + 1])).unwrap_err();
        assert_eq!(refusal, Refusal::new(400, "the body must have at most 10000 points"));
    }

    #[test]
    fn an_unknown_host_is_not_found() {
        let mut stranger = point();
        stranger["hostId"] = json!("stranger");
        assert_eq!(check(&json!([stranger])).unwrap_err(), Refusal::host_not_found());
    }

    #[test]
    fn a_point_more_than_a_day_ahead_is_refused() {
        assert_eq!(refusal("time", json!(NOW + 86_401)), "[1].time must not be more than 24 hours ahead");
        let mut point = point();
        point["time"] = json!(NOW + 86_400);
        assert!(check(&json!([point])).is_ok());
    }

    #[test]
    fn a_point_more_than_a_day_old_is_accepted_but_distinguished() {
        for (time, too_old) in [(NOW - 86_401, true), (NOW - 86_400, false), (i64::MIN, true)] {
            let mut point = point();
            point["time"] = json!(time);
            assert_eq!(check(&json!([point])).unwrap()[0].is_too_old(), too_old, "{time}");
        }
    }

    #[test]
    fn the_refusal_names_the_first_invalid_point() {
        let body = json!([point(), {"hostId": "host"}, {"hostId": 1}, 5]);
        assert_eq!(check(&body).unwrap_err().message, "[1].name is missing");
    }
}
