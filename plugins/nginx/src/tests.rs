use wasaba_plugin::testing::{Answer, Host};

use super::*;

/// The example in the manual of nginx's module.
const MANUAL: &str = "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \n\
                      Reading: 6 Writing: 179 Waiting: 106 \n";

/// Recorded from nginx 1.22.1 of Debian 12, byte for byte.
const DEBIAN: &str = include_str!("../recorded/nginx-1.22.1.txt");

/// Not recorded, but made after the format in their sources. OpenResty's is nginx's own; Tengine's has a fourth counter, the total time of
/// all requests.
const OPENRESTY: &str = include_str!("../made/openresty.txt");
const TENGINE: &str = include_str!("../made/tengine.txt");

fn web() -> Host {
    Host::new(describe).set("host", "web").set("port", 81).set("path", "/s?token=hunter2")
}

/// What a page gives.
fn collected(host: Host, page: &str) -> Result<Vec<Sample>, Error> {
    let host = host.answers("http://web:81/s?token=hunter2", page);
    host.collect(collect).map(|readings| readings.samples)
}

fn samples(numbers: [u64; 7]) -> Vec<Sample> {
    let names = ["connections.connections", "requests.accepts", "requests.handled", "requests.requests"];
    let names = names.into_iter().chain(["queue.reading", "queue.writing", "queue.waiting"]);
    names.zip(numbers).map(|(name, number)| Sample::new(format!("nginx.{name}"), number)).collect()
}

#[test]
fn the_pages_of_nginx_openresty_and_tengine_have_seven_numbers() {
    for (page, expected) in [
        (MANUAL, [291, 16_630_948, 16_630_948, 31_070_465, 6, 179, 106]),
        (DEBIAN, [3, 5, 5, 4, 0, 1, 2]),
        (OPENRESTY, [2, 1_024, 1_023, 40_961, 0, 1, 1]),
        (TENGINE, [403, 8_533, 8_533, 35_020, 8, 125, 270]),
    ] {
        let expected = Ok(samples(expected));
        assert_eq!(collected(web(), page), expected);
        assert_eq!(collected(web(), &page.replace('\n', "\r\n")), expected, "with CRLF");
        assert_eq!(collected(web(), page.trim()), expected, "without surrounding whitespace");
        assert_eq!(collected(web(), &format!("\n{page}")), expected, "after an empty line");
    }
}

#[test]
fn no_other_page_has_numbers() {
    for cut in 0..MANUAL.len() - " 106 \n".len() {
        assert!(collected(web(), &MANUAL[..cut]).is_err(), "truncated at {cut}");
    }
    for page in
        ["", "<html>", "server\nActive connections: 1", &MANUAL.replace("31070465", "-1"), &MANUAL.replace('6', "x")]
    {
        assert!(collected(web(), page).is_err(), "{page}");
    }
}

#[test]
fn an_extra_has_its_metric_and_its_graph_only_where_it_is_named() {
    let names = |host: Host| {
        let graphs = describe().into_graphs(&host.settings());
        let metrics = graphs.iter().flat_map(|graph| graph.metrics.iter().map(move |metric| (graph, metric)));
        let defined = metrics.map(|(graph, metric)| format!("{}.{}", graph.name, metric.name)).collect::<Vec<_>>();
        let posted = collected(host, MANUAL).unwrap().into_iter().map(|sample| sample.name).collect::<Vec<_>>();
        assert_eq!(defined, posted);
        posted
    };
    assert_eq!(names(web()).len(), 7);
    assert_eq!(names(web().set("extra", "dropped")).get(7..), Some(&["nginx.dropped.dropped".to_owned()][..]));
    let both = ["nginx.dropped.dropped", "nginx.up.up"].map(str::to_owned);
    assert_eq!(names(web().set("extra", "up").set("extra", "dropped")).get(7..), Some(&both[..]));
    let unknown = web().set("extra", "latency").collect(collect);
    assert_eq!(unknown, Err(misconfigured!("unknown value \"latency\" in `extra`; valid: up, dropped")));
}

#[test]
fn no_connection_was_dropped_if_more_were_handled_than_accepted() {
    let dropped = |page: &str| collected(web().set("extra", "dropped"), page).unwrap().pop();
    assert_eq!(dropped(OPENRESTY), Some(Sample::new("nginx.dropped.dropped", 1)));
    let raced = OPENRESTY.replace(" 1023 ", " 1025 ");
    assert_eq!(dropped(&raced), Some(Sample::new("nginx.dropped.dropped", 0)));
}

#[test]
fn the_url_is_assembled_as_in_the_official_plugin() {
    for (settings, url) in [
        (&[("scheme", "https"), ("host", "web"), ("port", "12345"), ("path", "/s")][..], "https://web:12345/s"),
        (&[("host", "::1"), ("path", "s")], "http://[::1]:8080/s"),
        (&[("host", "[::1]")], "http://[::1]:8080/nginx_status"),
        (&[("uri", "http://a/b?c"), ("scheme", "https"), ("host", "web"), ("path", "/s")], "http://a/b?c"),
        // The operator wrote the others.
        (&[("uri", DEFAULT_URI), ("scheme", "https"), ("host", "web"), ("port", "1")], "https://web:1/nginx_status"),
        (&[], DEFAULT_URI),
    ] {
        let host = settings.iter().fold(Host::new(describe), |host, (key, value)| host.set(key, value));
        assert!(host.allow("http://[::1]:8080").answers(url, MANUAL).collect(collect).is_ok(), "{url}");
    }
    let unknown = Host::new(describe).set("scheme", "ftp").collect(collect);
    assert_eq!(unknown, Err(misconfigured!("unknown value \"ftp\" in `scheme`; valid: http, https")));
}

/// Why there are no values, which never shows a token.
fn why(host: Host, url: &str, answer: impl Into<Answer>) -> Error {
    let why = host.answers(url, answer).collect(collect).unwrap_err();
    assert!(!why.message().contains("hunter2"), "{why:?}");
    why
}

#[test]
fn a_response_that_the_operator_can_fix_says_what_to_set() {
    let tls = "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n";
    let (parts, uri) = ("http://web:81/s?token=hunter2", "http://a/s?token=hunter2");
    let whole = || Host::new(describe).set("uri", uri);
    let user = |host: Host| host.set("header", "Authorization: Basic hunter2");
    for (host, url, status, body, expected) in [
        (web(), parts, 400, tls, "http://web:81/s answers 400: the server speaks TLS, set `scheme` to https"),
        (whole(), uri, 400, tls, "http://a/s answers 400: the server speaks TLS, use https in `uri`"),
        (web(), parts, 401, "", "user name and password required"),
        (user(whole()), uri, 401, "", "http://a/s answers 401: the server refused the user name"),
        (user(web()), parts, 401, "", "the server refused the user name"),
        (web(), parts, 403, "", "`allow` line"),
        (web(), parts, 404, "", "set `path` to a location with stub_status, or set `Host` in `header`"),
        (whole(), uri, 404, "", "set `uri` to a location"),
        (web().set("header", "Host: b"), parts, 404, "", "set another `Host` in `header`"),
    ] {
        let why = why(host, url, Answer::new(body).status(status));
        assert!(matches!(&why, Error::Misconfigured(text) if text.contains(expected)), "{why:?}");
    }
}

#[test]
fn any_other_page_says_what_it_is() {
    for (status, body, expected) in [
        (502, &b"Active connections: 1"[..], "http://web:81/s answers 502"),
        (304, b"", "answers 304"),
        (200, b"<!DOCTYPE html>\n<html>", "is HTML that begins with \"<!DOCTYPE html>\": set `path`"),
        (200, b"{\"version\":9}", "is JSON"),
        (200, b"[\"nginx\"]", "is JSON"),
        (204, b"", "is empty"),
        (200, b" \r\n\n", "is empty"),
        (200, b"\x1f\x8b\x08", "is not text"),
        (200, b"Active connections: 1 \nserver acc", "truncated or garbled"),
        (200, b"It works!", "is not a stub_status page, it begins with \"It works!\": set `path`"),
    ] {
        let why = why(web(), "http://web:81/s?token=hunter2", Answer::new(body).status(status));
        assert!(matches!(&why, Error::Failed(text) if text.contains(expected)), "{why:?}");
    }
}

#[test]
fn a_missing_answer_names_the_url_and_the_settings_and_a_refusal_is_passed_on_unchanged() {
    let down = || Error::Unreachable("no answer".into());
    let https = Host::new(describe).set("scheme", "https").set("host", "a").set("port", 1);
    for (host, url, expected) in [
        (web(), "http://web:81/s?token=hunter2", "http://web:81/s: no answer: check `host` and `port`"),
        (https, "https://a:1/nginx_status", "https://a:1/nginx_status: no answer: check `scheme`, `host` and `port`"),
        (
            Host::new(describe).set("uri", "https://a/s?hunter2"),
            "https://a/s?hunter2",
            "https://a/s: no answer: check `uri`",
        ),
    ] {
        assert_eq!(why(host, url, down()), Error::Unreachable(expected.to_owned()));
    }
    let elsewhere = Answer::new("").status(301).header("location", "https://b/");
    let refusal = "no grant for https://b; to grant it, write `allow = [\"https://b\"]`";
    assert_eq!(why(web(), "http://web:81/s?token=hunter2", elsewhere), Error::Denied(refusal.into()));
}

#[test]
fn with_up_a_server_that_is_down_is_a_value_and_what_the_operator_has_to_fix_stays_an_error() {
    let (host, url) = (|| web().set("extra", "up"), "http://web:81/s?token=hunter2");
    let down = host().answers(url, Error::Unreachable("no answer".into()));
    assert_eq!(down.collect(collect).unwrap().samples, [Sample::new("nginx.up.up", 0)]);
    assert_eq!(down.logged(), ["warning: the target is down: http://web:81/s: no answer: check `host` and `port`"]);
    let missing = host().answers(url, Answer::new("").status(404)).collect(collect);
    assert!(matches!(missing, Err(Error::Misconfigured(_))), "{missing:?}");
}
