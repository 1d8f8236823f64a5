//! The memory: everything that the stand-in has received, for tests to inspect.
//!
//! It checks nothing: everything here has passed the checks.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::checks::reports::Report;
use crate::checks::tsdb::Point;
use crate::unix_seconds;

/// Everything that the stand-in has received. It can outlive the stand-in, to simulate an outage: see
/// [`Standin::stop`](crate::Standin::stop) and [`Standin::start_again`](crate::Standin::start_again).
#[derive(Clone, Debug, Default)]
pub struct Memory {
    hosts: Vec<Host>,
    points: Vec<Point>,
    dropped_as_too_old: Vec<Point>,
    graph_definitions: BTreeMap<String, Value>,
    reports: Vec<Report>,
    metadata: BTreeMap<(String, String), Value>,
    requests: Vec<Request>,
}

/// A registered host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Eleven letters and digits; the same for the n-th host of every stand-in.
    pub id: String,
    /// The body of the latest POST or PUT.
    pub body: Value,
    /// `working`, until `/status` changes it.
    pub status: String,
    /// Whether it was retired; then it accepts no more points.
    pub retired: bool,
    /// When it was registered.
    pub created_at: SystemTime,
    /// How often it was registered: 1, since each POST makes a new host.
    pub posts: usize,
    /// How often its description was sent again.
    pub puts: usize,
}

/// A request, accepted or not. Its `Display` is one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path and, after a `?`, the query if there is one.
    pub path: String,
    /// The status of the answer; `None` if a misbehaviour prevented an answer.
    pub status: Option<u16>,
    /// The number of points in a request to `/api/v0/tsdb`, accepted or not.
    pub points: Option<usize>,
    /// Why it was refused, or the misbehaviour.
    pub error: Option<String>,
    /// Whether the strict checks refused it; not true for an error of a [`Misbehaviour`](crate::Misbehaviour).
    pub refused: bool,
    /// The body, if it is JSON.
    pub body: Option<Value>,
    /// When it had been received completely.
    pub received_at: SystemTime,
}

impl Memory {
    /// The hosts in the order of their registration, retired ones too.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Every accepted point in the order of arrival, with duplicates, but without those in [`Self::dropped_as_too_old`].
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The points older than 24 hours: Mackerel answers 200 to them, but does not store them.
    #[must_use]
    pub fn dropped_as_too_old(&self) -> &[Point] {
        &self.dropped_as_too_old
    }

    /// The latest definition of each graph, by the graph's name.
    #[must_use]
    pub fn graph_definitions(&self) -> &BTreeMap<String, Value> {
        &self.graph_definitions
    }

    /// Every report of a check, in the order of arrival.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// The latest metadata, by the host's id and the namespace.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<(String, String), Value> {
        &self.metadata
    }

    /// Every request in the order of the answers, refused ones too.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The requests that the strict checks refused, including those with a wrong key or an unknown path.
    #[must_use]
    pub fn refusals(&self) -> Vec<Request> {
        self.requests.iter().filter(|request| request.refused).cloned().collect()
    }

    pub(crate) fn host(&self, id: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == id)
    }

    pub(crate) fn host_mut(&mut self, id: &str) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.id == id)
    }

    /// Registers a host and returns its id.
    pub(crate) fn add_host(&mut self, body: Value, created_at: SystemTime) -> String {
        let id = id_of_host(self.hosts.len() as u64);
        let status = "working".to_owned();
        self.hosts.push(Host { id: id.clone(), body, status, retired: false, created_at, posts: 1, puts: 0 });
        id
    }

    pub(crate) fn add_points(&mut self, points: Vec<Point>) {
        let (old, accepted): (Vec<_>, Vec<_>) = points.into_iter().partition(Point::is_too_old);
        self.dropped_as_too_old.extend(old);
        self.points.extend(accepted);
    }

    pub(crate) fn add_graphs(&mut self, graphs: Vec<(String, Value)>) {
        self.graph_definitions.extend(graphs);
    }

    pub(crate) fn add_reports(&mut self, reports: Vec<Report>) {
        self.reports.extend(reports);
    }

    pub(crate) fn put_metadata(&mut self, host_id: &str, namespace: &str, value: Value) {
        self.metadata.insert((host_id.to_owned(), namespace.to_owned()), value);
    }

    pub(crate) fn add_request(&mut self, request: Request) {
        self.requests.push(request);
    }
}

impl Host {
    /// The host in the API's form. `roles` stays empty: no agent reads it.
    pub(crate) fn to_json(&self) -> Value {
        let mut host = Map::new();
        for key in ["name", "displayName", "customIdentifier", "meta", "interfaces"] {
            if let Some(value) = self.body.get(key) {
                host.insert(key.to_owned(), value.clone());
            }
        }
        host.insert("id".to_owned(), json!(self.id));
        host.insert("status".to_owned(), json!(self.status));
        host.insert("memo".to_owned(), json!(""));
        host.insert("roles".to_owned(), json!({}));
        host.insert("isRetired".to_owned(), json!(self.retired));
        host.insert("createdAt".to_owned(), json!(unix_seconds(self.created_at)));
        Value::Object(host)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        match self.status {
            Some(status) => write!(f, " {status}")?,
            None => f.write_str(" unanswered")?,
        }
        if let Some(points) = self.points {
            write!(f, " {points} points")?;
        }
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

/// An id that looks like a real one, `2eQGEaLxiYV`, from which no test can derive a count.
fn id_of_host(count: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut rest = mix(count);
    let mut digit = || {
        let digit = DIGITS.get((rest % 62) as usize).copied();
        rest /= 62;
        digit
    };
    // 62^11 is above 2^64, so eleven digits hold every number.
    (0..11).filter_map(|_| digit()).map(char::from).collect()
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): spreads a counter over all numbers, no two onto one.
fn mix(count: u64) -> u64 {
    let z = count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_eleven_letters_and_digits_and_all_different() {
        let ids: BTreeSet<String> = (0..1000).map(id_of_host).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 11 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{ids:?}");
    }

    #[test]
    fn a_request_is_shown_in_one_line() {
        let mut request = Request {
            method: "POST".to_owned(),
            path: "/api/v0/tsdb".to_owned(),
            status: Some(400),
            points: Some(2),
            error: Some("[1].name is missing".to_owned()),
            refused: true,
            body: None,
            received_at: SystemTime::UNIX_EPOCH,
        };
        assert_eq!(request.to_string(), "POST /api/v0/tsdb 400 2 points: [1].name is missing");
        request = Request { status: None, points: None, error: None, ..request };
        assert_eq!(request.to_string(), "POST /api/v0/tsdb unanswered");
    }
}
