//! HTTP requests to what the operator granted. The agent speaks HTTP and TLS. It does not follow redirects;
//! [`Request::follow`] does.

use crate::bindings::wasaba::plugin::{http as wire, types};
use crate::{Error, Secret};

/// A request that has not been sent yet.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    method: String,
    url: String,
    headers: Vec<Header<'a>>,
    body: Option<Vec<u8>>,
}

/// A header, or several.
#[derive(Clone, Debug)]
enum Header<'a> {
    Text(String, String),
    /// The name, what stands before the secret, and the secret.
    Secret(String, String, &'a Secret),
    Basic(String, &'a Secret),
    Lines(&'a Secret),
}

/// A GET request for `url`.
pub fn get<'a>(url: impl Into<String>) -> Request<'a> {
    request("GET", url)
}

/// A request with another method: `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
pub fn request<'a>(method: &str, url: impl Into<String>) -> Request<'a> {
    Request { method: method.into(), url: url.into(), headers: Vec::new(), body: None }
}

impl<'a> Request<'a> {
    /// Sets a header; of those with one name the last counts. Headers of the connection itself are refused, and `host` is unless the
    /// operator's table has it as `virtual_host`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header::Text(name.into(), value.into()));
        self
    }

    /// Sets a header to `prefix` and a secret: `Bearer ` and a token.
    pub fn header_secret(mut self, name: &str, prefix: &str, secret: &'a Secret) -> Self {
        self.headers.push(Header::Secret(name.into(), prefix.into(), secret));
        self
    }

    /// Sets the header `authorization` for this user and password.
    pub fn basic_auth(mut self, user: &str, password: &'a Secret) -> Self {
        self.headers.push(Header::Basic(user.into(), password));
        self
    }

    /// Sets the headers in a secret that has lines of `Name: value`.
    pub fn header_lines(mut self, lines: &'a Secret) -> Self {
        self.headers.push(Header::Lines(lines));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }

    /// Whether it will be sent with a header of this name.
    ///
    /// # Errors
    /// An invalid header.
    pub fn has_header(&self, name: &str) -> Result<bool, Error> {
        Ok(self.built()?.has_header(name))
    }

    /// Sends it and follows redirects, `limit` at most: with GET, without the body, and to another server without secrets and without
    /// the headers `authorization`, `cookie` and `host`, which were meant for the first. Each redirect needs its own grant.
    ///
    /// # Errors
    /// As [`Request::send`]; and too many redirects.
    pub fn follow(mut self, limit: u32) -> Result<Response, RequestFailure> {
        for _ in 0..limit {
            let response = self.send()?;
            let Some(target) = redirect(&self.url, &response) else { return Ok(response) };
            if origin(&target) != origin(&self.url) {
                self.headers.retain(Header::is_public);
            }
            (self.method, self.url, self.body) = ("GET".into(), target, None);
        }
        let response = self.send()?;
        match response.status {
            301 | 302 | 303 | 307 | 308 => Err(Error::Failed(format!("more than {limit} redirects")).into()),
            _ => Ok(response),
        }
    }

    /// Sends it and waits for the whole response, whatever its status.
    ///
    /// # Errors
    /// No grant, no connection, a response that is too large, a malformed request.
    pub fn send(&self) -> Result<Response, RequestFailure> {
        let response = wire::send(&self.built()?)?;
        Ok(Response { status: response.status(), headers: response.headers(), body: response.body()? })
    }

    /// The request for the agent.
    fn built(&self) -> Result<wire::Request, Error> {
        let request = wire::Request::new(&self.method, &self.url);
        for header in &self.headers {
            match header {
                Header::Text(name, value) => request.set_header(name, value)?,
                Header::Secret(name, prefix, secret) => request.set_header_secret(name, prefix, &secret.0)?,
                Header::Basic(user, password) => request.set_basic_auth(user, &password.0)?,
                Header::Lines(lines) => request.set_header_lines(&lines.0)?,
            }
        }
        if let Some(body) = &self.body {
            request.set_body(body);
        }
        Ok(request)
    }
}

impl Header<'_> {
    /// Whether another server may get it, too.
    fn is_public(&self) -> bool {
        let private = ["authorization", "cookie", "host"];
        matches!(self, Self::Text(name, _) if !private.iter().any(|other| other.eq_ignore_ascii_case(name)))
    }
}

/// Scheme, host and port of an absolute URL, as written.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |colon| colon.saturating_add(3));
    let end = url
        .get(host..)
        .and_then(|rest| rest.find(['/', '\\', '?', '#']))
        .map_or(url.len(), |end| host.saturating_add(end));
    url.get(..end).unwrap_or(url)
}

/// Where the response to a request for `url` redirects to, as an absolute URL.
fn redirect(url: &str, response: &Response) -> Option<String> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = response.header("location")?;
    let (scheme, rest) = url.split_once("://")?;
    let end_of_origin = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (origin, path) = rest.split_at(end_of_origin);
    let folder = path.split(['?', '#']).next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(match target {
        absolute if absolute.contains("://") => absolute.to_owned(),
        other_host if other_host.starts_with("//") => format!("{scheme}:{other_host}"),
        from_root if from_root.starts_with('/') => format!("{scheme}://{origin}{from_root}"),
        relative => format!("{scheme}://{origin}{folder}/{relative}"),
    })
}

/// Why a request has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure {
    /// The reason; `?` passes it on.
    pub error: Error,
    /// What went wrong with TLS, if that is the reason.
    pub tls: Option<TlsFault>,
}

/// What went wrong with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate is not trusted.
    Certificate,
    /// The server refused, for example because it asks for a certificate.
    Alert,
    /// The server's answer is not TLS.
    NotTls,
}

impl From<RequestFailure> for Error {
    fn from(failure: RequestFailure) -> Self {
        failure.error
    }
}

impl From<Error> for RequestFailure {
    fn from(error: Error) -> Self {
        Self { error, tls: None }
    }
}

impl From<types::Error> for RequestFailure {
    fn from(error: types::Error) -> Self {
        let word = error.attributes.iter().find(|(key, _)| key == "tls").map(|(_, word)| word.as_str());
        let tls = match word {
            Some("certificate") => Some(TlsFault::Certificate),
            Some("alert") => Some(TlsFault::Alert),
            Some("not-tls") => Some(TlsFault::NotTls),
            _ => None,
        };
        Self { error: error.into(), tls }
    }
}

/// A server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, for example 200.
    pub status: u16,
    /// Names in lower case, values as received, in the server's order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, which must be given in lower case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.body).map_err(|_| Error::Failed("the response is not UTF-8 text".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_url_is_everything_before_its_path() {
        for (url, expected) in [
            ("http://a:81/x?y=/", "http://a:81"),
            ("https://a", "https://a"),
            ("http://a?b/c", "http://a"),
            ("http://a\\@b/", "http://a"),
        ] {
            assert_eq!(origin(url), expected);
        }
        assert_ne!(origin("http://a/"), origin("https://a/"));
    }

    #[test]
    fn a_failed_request_knows_what_went_wrong_with_tls() {
        let failure = |attributes: &[(&str, &str)]| {
            let attributes = attributes.iter().map(|(key, word)| ((*key).to_owned(), (*word).to_owned())).collect();
            let (kind, message) = ("unauthorized".to_owned(), "why".to_owned());
            RequestFailure::from(types::Error { kind, message, retry_after_ms: None, attributes })
        };
        for (word, fault) in [
            ("certificate", Some(TlsFault::Certificate)),
            ("alert", Some(TlsFault::Alert)),
            ("not-tls", Some(TlsFault::NotTls)),
            ("a-word-of-a-newer-agent", None),
        ] {
            let RequestFailure { error, tls } = failure(&[("more", "x"), ("tls", word)]);
            assert_eq!((error, tls), (Error::Unauthorized("why".into()), fault), "{word}");
        }
        assert_eq!(failure(&[]).tls, None);
    }

    #[test]
    fn what_was_meant_for_one_server_is_not_sent_to_another() {
        let public = |name: &str| Header::Text(name.into(), String::new()).is_public();
        assert!(public("accept") && !public("Authorization") && !public("COOKIE") && !public("host"));
    }

    #[test]
    fn a_redirect_is_read_from_each_form_of_location() {
        for (location, expected) in [
            ("https://b/x", "https://b/x"),
            ("//b/x", "http://b/x"),
            ("/x", "http://a:81/x"),
            ("x", "http://a:81/dir/x"),
        ] {
            let headers = vec![("location".to_owned(), location.as_bytes().to_vec())];
            let response = Response { status: 302, headers, body: Vec::new() };
            assert_eq!(redirect("http://a:81/dir/page?q=/", &response).as_deref(), Some(expected));
        }
        assert_eq!(redirect("http://a/", &Response { status: 302, headers: Vec::new(), body: Vec::new() }), None);
    }
}
