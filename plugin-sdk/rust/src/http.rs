//! HTTP requests to what the operator granted. The agent speaks HTTP and TLS. It does not follow redirects;
//! [`Request::follow`] does.

use crate::bindings::wasaba::plugin::http as wire;

pub use wire::Error;

/// A request that has not been sent yet.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request(wire::Request);

/// A GET request for `url`.
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

    /// Sends it and follows redirects, `limit` at most: with GET, without the body, and to another server without the headers
    /// `authorization`, `cookie` and `host`, which were meant for the first. Each redirect needs its own grant.
    ///
    /// # Errors
    /// As [`Request::send`]; and too many redirects.
    pub fn follow(mut self, limit: u32) -> Result<Response, Error> {
        for _ in 0..limit {
            let response = Self(self.0.clone()).send()?;
            let Some(target) = redirect(&self.0.url, &response) else { return Ok(response) };
            if origin(&target) != origin(&self.0.url) {
                let private = ["authorization", "cookie", "host"];
                self.0.headers.retain(|(name, _)| !private.iter().any(|other| other.eq_ignore_ascii_case(name)));
            }
            self.0 = wire::Request { method: "GET".into(), url: target, headers: self.0.headers, body: None };
        }
        let response = self.send()?;
        match response.status {
            301 | 302 | 303 | 307 | 308 => Err(Error::Failed(format!("more than {limit} redirects"))),
            _ => Ok(response),
        }
    }

    /// Sends it and waits for the whole response, whatever its status.
    ///
    /// # Errors
    /// No grant, no connection, a response that is too large, a malformed request. `?` turns each into the
    /// [`Error`](crate::Error) of the plugin.
    pub fn send(self) -> Result<Response, Error> {
        wire::fetch(&self.0).map(|response| Response {
            status: response.status,
            headers: response.headers,
            body: response.body,
        })
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

/// A server's response.
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
        std::str::from_utf8(&self.body).map_err(|_| crate::Error::Failed("the response is not UTF-8 text".into()))
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
    fn a_redirect_is_read_from_each_form_of_location() {
        for (location, expected) in [
            ("https://b/x", "https://b/x"),
            ("//b/x", "http://b/x"),
            ("/x", "http://a:81/x"),
            ("x", "http://a:81/dir/x"),
        ] {
            let headers = vec![("location".to_owned(), location.to_owned())];
            let response = Response { status: 302, headers, body: Vec::new() };
            assert_eq!(redirect("http://a:81/dir/page?q=/", &response).as_deref(), Some(expected));
        }
        assert_eq!(redirect("http://a/", &Response { status: 302, headers: Vec::new(), body: Vec::new() }), None);
    }
}
