//! The check of `POST /api/v0/monitoring/checks/report`: the results of checks.

use serde_json::Value;

use super::field::Field;
use super::{Refusal, is_segment};

const STATUSES: [&str; 4] = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];

/// The most reports in a request.
const MOST_REPORTS: usize = 100;

/// The longest message, in characters.
const LONGEST_MESSAGE: usize = 1_024;

/// The result of one run of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The id of the host that was checked.
    pub host_id: String,
    /// The name of the check.
    pub name: String,
    /// `OK`, `WARNING`, `CRITICAL` or `UNKNOWN`.
    pub status: String,
    /// The check's message.
    pub message: String,
    /// Unix seconds.
    pub occurred_at: i64,
    /// In minutes.
    pub notification_interval: Option<i64>,
    /// The number of failures in a row that raise an alert.
    pub max_check_attempts: Option<i64>,
}

/// The reports of a request; `is_host` knows the hosts that are not retired.
pub(crate) fn reports(body: &Value, is_host: impl Fn(&str) -> bool) -> Result<Vec<Report>, Refusal> {
    let body = Field::body(body);
    body.only(&["reports"])?;
    let field = body.required("reports")?;
    let reports = field.elements()?;
    field.ensure((1..=MOST_REPORTS).contains(&reports.len()), "must hold 1 to 100 reports")?;
    let reports = reports.map(|report| read(&report)).collect::<Result<Vec<_>, _>>()?;
    // To refuse the whole request for one unknown host is our own choice: the documents are silent.
    if reports.iter().all(|report| is_host(&report.host_id)) { Ok(reports) } else { Err(Refusal::host_not_found()) }
}

fn read(report: &Field<'_>) -> Result<Report, Refusal> {
    report.only(&["source", "name", "status", "message", "occurredAt", "notificationInterval", "maxCheckAttempts"])?;
    let source = report.required("source")?;
    source.only(&["type", "hostId"])?;
    let kind = source.required("type")?;
    kind.ensure(kind.string()? == "host", "must be `host`")?;
    let name = report.required("name")?;
    name.ensure(is_segment(name.string()?), "must match [a-zA-Z0-9_-]+")?;
    let status = report.required("status")?;
    status.ensure(STATUSES.contains(&status.string()?), &format!("must be one of {}", STATUSES.join(", ")))?;
    let message = report.required("message")?;
    let length = message.string()?.chars().count();
    message.ensure(length <= LONGEST_MESSAGE, "must have at most 1024 characters")?;
    let number = |key: &str| report.optional(key)?.map(|field| Ok((field.integer()?, field))).transpose();
    let interval = number("notificationInterval")?;
    if let Some((minutes, field)) = &interval {
        field.ensure(*minutes >= 0, "must not be negative")?;
    }
    let attempts = number("maxCheckAttempts")?;
    if let Some((count, field)) = &attempts {
        field.ensure((1..=10).contains(count), "must be from 1 to 10")?;
    }
    Ok(Report {
        host_id: source.required("hostId")?.string()?.to_owned(),
        name: name.string()?.to_owned(),
        status: status.string()?.to_owned(),
        message: message.string()?.to_owned(),
        occurred_at: report.required("occurredAt")?.integer()?,
        notification_interval: interval.map(|(minutes, _)| minutes),
        max_check_attempts: attempts.map(|(count, _)| count),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({"source": {"type": "host", "hostId": "X"}, "name": "ssh", "status": "OK", "message": "fine",
               "occurredAt": 1_800_000_000, "notificationInterval": 10, "maxCheckAttempts": 3})
    }

    fn refusal(key: &str, value: Value) -> String {
        let mut bad = report();
        bad[key] = value;
        reports(&json!({"reports": [report(), bad]}), |_| true).unwrap_err().message
    }

    #[test]
    fn a_valid_report_is_accepted() {
        let accepted = reports(&json!({"reports": [report()]}), |id| id == "X").unwrap();
        assert_eq!((accepted[0].name.as_str(), accepted[0].max_check_attempts), ("ssh", Some(3)));
    }

    #[test]
    fn an_invalid_report_is_refused_with_its_path() {
        for (key, value, expected) in [
            ("status", json!("FINE"), "reports[1].status must be one of"),
            ("name", json!("a b"), "reports[1].name must match"),
            ("message", json!("x".repeat(1_025)), "reports[1].message must have at most"),
            ("occurredAt", json!("now"), "reports[1].occurredAt must be an integer"),
            ("maxCheckAttempts", json!(11), "reports[1].maxCheckAttempts must be from 1 to 10"),
            ("maxCheckAttempts", json!(0), "reports[1].maxCheckAttempts must be from 1 to 10"),
            ("source", json!({"type": "service", "hostId": "X"}), "reports[1].source.type must be `host`"),
            ("more", json!(1), "unknown field reports[1].more;"),
        ] {
            let message = refusal(key, value);
            assert!(message.starts_with(expected), "{key}: {message}");
        }
        assert!(reports(&json!({"reports": []}), |_| true).is_err());
        assert!(reports(&json!({"reports": vec![report(); 101]}), |_| true).is_err());
        assert_eq!(reports(&json!({"reports": [report()]}), |_| false), Err(Refusal::host_not_found()));
    }
}
