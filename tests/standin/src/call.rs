//! A call: one HTTP request, read to its end. What it means is decided in `api`.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::SystemTime;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Method};
use serde_json::Value;

use crate::checks::Refusal;
use crate::memory::Request;

/// The longest accepted body. Our own choice: the documents give no limit.
const LONGEST_BODY: usize = 6 << 20;

/// A received request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    /// The JSON, or the refusal for an endpoint that needs a body.
    pub(crate) body: Result<Value, Refusal>,
    pub(crate) received_at: SystemTime,
}

impl Call {
    /// Reads a request to its end; `None` if the client disconnects before.
    pub(crate) async fn receive(request: axum::extract::Request) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let body = read(body).await?.and_then(|bytes| parse(&bytes));
        // The official agent ends each target with a bare `?`.
        let query = parts.uri.query().filter(|query| !query.is_empty()).map(str::to_owned);
        let path = parts.uri.path().to_owned();
        #[expect(clippy::disallowed_methods, reason = "the stand-in uses no part of the agent, not even its clock")]
        let received_at = SystemTime::now();
        Some(Self { method: parts.method, path, query, headers: parts.headers, body, received_at })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The names of the points in a request to `/api/v0/tsdb`.
    pub(crate) fn point_names(&self) -> Vec<&str> {
        let points = self.points().into_iter().flatten();
        points.filter_map(|point| point.get("name")?.as_str()).collect()
    }

    /// The record of it, without the outcome.
    pub(crate) fn to_request(&self) -> Request {
        let query = self.query.iter().flat_map(|query| ["?", query.as_str()]);
        Request {
            method: self.method.to_string(),
            path: std::iter::once(self.path.as_str()).chain(query).collect(),
            status: None,
            points: self.points().map(Vec::len),
            error: None,
            refused: false,
            body: self.body.as_ref().ok().cloned(),
            received_at: self.received_at,
        }
    }

    fn points(&self) -> Option<&Vec<Value>> {
        self.body.as_ref().ok().filter(|_| self.path == "/api/v0/tsdb")?.as_array()
    }
}

/// Reads a body. Even one that is too long is read to its end, since the client would lose the answer otherwise.
async fn read(mut body: Body) -> Option<Result<Vec<u8>, Refusal>> {
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let data = frame.ok()?.into_data().unwrap_or_default();
        length += data.len();
        if length <= LONGEST_BODY {
            bytes.extend_from_slice(&data);
        }
    }
    let too_long = || Refusal::new(413, "the body is longer than 6 MiB");
    Some(if length <= LONGEST_BODY { Ok(bytes) } else { Err(too_long()) })
}

fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::new(400, format!("the body is not valid JSON: {error}")))
}
