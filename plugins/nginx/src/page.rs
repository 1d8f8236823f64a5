//! Reads the server's response: the numbers of the status page, or what it is instead and which setting to check. The official
//! plugin only says "cannot get values".

use wasaba_plugin::Error;
use wasaba_plugin::http::Response;

use crate::stub_status::StubStatus;
use crate::target::Target;

/// The numbers on the page. `sent` says whether the request had a header of a name.
///
/// # Errors
/// Why it is not a status page: `Misconfigured` if the operator can fix it, in nginx or in the plugin's settings.
pub(crate) fn read(target: &Target, sent: &dyn Fn(&str) -> bool, response: &Response) -> Result<StubStatus, Error> {
    let Target { shown, setting, .. } = target;
    let body = str::from_utf8(&response.body).ok();
    let to_location = format!("set `{setting}` to a location with stub_status");
    let misconfigured = |cure: &str| Error::Misconfigured(format!("{shown} answers {}: {cure}", response.status));
    match response.status {
        200..=299 => {}
        400 if body.is_some_and(|body| body.contains("HTTP request was sent to HTTPS port")) => {
            let scheme = if *setting == "uri" { "use https in `uri`" } else { "set `scheme` to https" };
            return Err(misconfigured(&format!("the server speaks TLS, {scheme}")));
        }
        401 if sent("authorization") => {
            return Err(misconfigured("the server refused the user name and password in `header` or `uri`"));
        }
        401 => {
            let cure = "user name and password required, write them into `uri`, or `Authorization: ...` into `header`";
            return Err(misconfigured(cure));
        }
        403 => return Err(misconfigured("add an `allow` line with this host's address to its location block")),
        404 => {
            let other = if sent("host") {
                "set another `Host` in `header`"
            } else {
                "set `Host` in `header` to the name of its server block"
            };
            return Err(misconfigured(&format!("{to_location}, or {other}")));
        }
        status => {
            return Err(Error::Failed(format!(
                "{shown} answers {status}, which stub_status never does: {to_location}"
            )));
        }
    }
    let failed = |what: &str| Error::Failed(format!("{shown} {what}: {to_location}"));
    let Some(text) = body else { return Err(failed("is not text")) };
    if let Some(page) = StubStatus::parse(text) {
        return Ok(page);
    }
    let begins_with = |char: &[char]| text.trim_start_matches('\u{feff}').trim_start().starts_with(char);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.chars().take(60).collect::<String>();
    Err(failed(&match () {
        () if line.is_empty() => "is empty".to_owned(),
        () if begins_with(&['<']) => format!("is HTML that begins with {line:?}"),
        () if begins_with(&['{', '[']) => {
            "is JSON, perhaps of the NGINX Plus API, which this plugin does not read".to_owned()
        }
        () if line.starts_with("Active connections") => "is a truncated or garbled stub_status page".to_owned(),
        () => format!("is not a stub_status page, it begins with {line:?}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasaba_plugin::Settings;

    fn why<const N: usize>(status: u16, body: &[u8], settings: [(&str, &str); N], sent: &str) -> Error {
        let pairs = [("scheme", "http"), ("host", "web"), ("port", "81"), ("path", "/s?token=hunter2")];
        let pairs = pairs.iter().chain(&settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let target = Target::of(&Settings::from(pairs.collect::<Vec<_>>())).unwrap();
        let response = Response { status, headers: Vec::new(), body: body.to_vec() };
        read(&target, &|name| name == sent, &response).unwrap_err()
    }

    #[test]
    fn a_response_that_the_operator_can_fix_says_what_to_set() {
        let tls = b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n";
        for (error, expected) in [
            (why(400, tls, [], ""), "http://web:81/s answers 400: the server speaks TLS, set `scheme` to https"),
            (
                why(400, tls, [("uri", "http://a/s")], ""),
                "http://a/s answers 400: the server speaks TLS, use https in `uri`",
            ),
            (why(401, b"", [], ""), "user name and password required"),
            (
                why(401, b"", [("uri", "http://a/s")], "authorization"),
                "http://a/s answers 401: the server refused the user name",
            ),
            (why(401, b"", [], "authorization"), "the server refused the user name"),
            (why(403, b"", [], ""), "`allow` line"),
            (why(404, b"", [], ""), "set `path` to a location with stub_status, or set `Host` in `header`"),
            (why(404, b"", [("uri", "http://a/s")], ""), "set `uri` to a location"),
            (why(404, b"", [], "host"), "set another `Host` in `header`"),
        ] {
            let Error::Misconfigured(text) = error else { panic!("{error:?}") };
            assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn any_other_page_says_what_it_is() {
        for (error, expected) in [
            (why(502, b"Active connections: 1", [], ""), "http://web:81/s answers 502"),
            (why(304, b"", [], ""), "answers 304"),
            (why(200, b"<!DOCTYPE html>\n<html>", [], ""), "is HTML that begins with \"<!DOCTYPE html>\": set `path`"),
            (why(200, b"{\"version\":9}", [], ""), "is JSON"),
            (why(200, b"[\"nginx\"]", [], ""), "is JSON"),
            (why(204, b"", [], ""), "is empty"),
            (why(200, b" \r\n\n", [], ""), "is empty"),
            (why(200, b"\x1f\x8b\x08", [], ""), "is not text"),
            (why(200, b"Active connections: 1 \nserver acc", [], ""), "truncated or garbled"),
            (why(200, b"It works!", [], ""), "begins with \"It works!\""),
        ] {
            let Error::Failed(text) = error else { panic!("{error:?}") };
            assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
        }
    }
}
