//! HTTP to what the operator granted. The agent speaks it, TLS included; redirects are not followed.

use crate::bindings::wasaba::plugin::http as wire;

pub use wire::Error;

/// A request to be sent.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request(wire::Request);

/// A GET request of `url`.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A request with any method.
pub fn request(method: &str, url: impl Into<String>) -> Request {
    Request(wire::Request { method: method.into(), url: url.into(), headers: Vec::new(), body: None })
}

impl Request {
    /// Adds a header. `host` names a virtual host; headers of the connection itself are refused.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.0.body = Some(body);
        self
    }

    /// Sends it and waits for the whole answer, whatever its status is.
    ///
    /// # Errors
    /// No grant, no connection, an answer too large, a malformed request. `?` turns each into the
    /// [`Error`](crate::Error) of the plugin.
    pub fn send(self) -> Result<Response, Error> {
        wire::fetch(&self.0).map(|response| Response {
            status: response.status,
            headers: response.headers,
            body: response.body,
        })
    }
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, for example 200.
    pub status: u16,
    /// Names in lower case, in the server's order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, which must be given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if it is not UTF-8.
    pub fn text(&self) -> Result<&str, crate::Error> {
        std::str::from_utf8(&self.body).map_err(|_| crate::Error::Failed("the answer is not UTF-8 text".into()))
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(text) => Self::Denied(text),
            Error::Unreachable(text) => Self::Unreachable(text),
            Error::Failed(text) => Self::Failed(text),
            Error::Invalid(text) => Self::Misconfigured(text),
        }
    }
}
