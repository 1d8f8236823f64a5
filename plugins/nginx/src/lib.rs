//! nginx' connections and requests, from the page that its `stub_status` directive makes.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-nginx`.

mod stub_status;

use wasaba_plugin::http::{self, Response};
use wasaba_plugin::{Error, Graph, Metric, Plugin, Sample, Setting, Settings, Unit};

use stub_status::StubStatus;

wasaba_plugin::export!(describe, collect);

fn describe() -> Plugin {
    Plugin::new("nginx", env!("CARGO_PKG_VERSION"), "connections and requests of nginx, from its stub_status page")
        .setting(Setting::url("uri").help("the whole address of the status page, in place of the four below"))
        .setting(Setting::text("scheme").default("http").help("http or https"))
        .setting(Setting::host("host").default("localhost").help("where nginx listens"))
        .setting(Setting::port("port").default("8080").help("where nginx listens"))
        .setting(Setting::text("path").default("/nginx_status").help("the location with stub_status"))
        .setting(
            Setting::text("header").repeatable().help("`Name: value`, sent with the request; Host is a virtual host"),
        )
        .setting(Setting::tls_skip_verify("tls-skip-verify").default("false").help("accept any certificate"))
        .graph(
            Graph::new("nginx.connections", "Nginx Connections", Unit::Integer)
                .metric(Metric::gauge("connections", "Active connections")),
        )
        .graph(
            Graph::new("nginx.requests", "Nginx requests", Unit::Float)
                .metric(Metric::per_minute("accepts", "Accepted connections"))
                .metric(Metric::per_minute("handled", "Handled connections"))
                .metric(Metric::per_minute("requests", "Handled requests")),
        )
        .graph(
            Graph::new("nginx.queue", "Nginx connection status", Unit::Integer)
                .metric(Metric::gauge("reading", "Reading"))
                .metric(Metric::gauge("writing", "Writing"))
                .metric(Metric::gauge("waiting", "Waiting")),
        )
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    let uri = uri(settings)?;
    let mut request = http::get(&uri);
    let mut own_agent = false;
    for header in settings.all("header") {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        own_agent |= name.trim().eq_ignore_ascii_case("user-agent");
        request = request.header(name.trim(), value.trim());
    }
    if !own_agent {
        request = request.header("user-agent", "mackerel-plugin-nginx");
    }
    let page = page(&uri, &request.send()?)?;
    Ok(samples(page))
}

/// `uri` as it is, or put together from the four others.
fn uri(settings: &Settings) -> Result<String, Error> {
    if let Some(uri) = settings.get("uri").filter(|uri| !uri.is_empty()) {
        return Ok(uri.to_owned());
    }
    let scheme = settings.text("scheme")?;
    if !matches!(scheme, "http" | "https") {
        return Err(Error::Misconfigured(format!("`scheme` must be http or https, not {scheme:?}")));
    }
    let host = settings.text("host")?;
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let path = settings.text("path")?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{scheme}://{host}:{}{slash}{path}", settings.text("port")?))
}

/// The numbers on the page, or why it is not a status page. The official plugin only says "cannot get values".
fn page(uri: &str, response: &Response) -> Result<StubStatus, Error> {
    match response.status {
        200 => {}
        301 | 302 | 303 | 307 | 308 => {
            let target = response.header("location").unwrap_or("nowhere");
            return Err(Error::Misconfigured(format!("{uri} redirects to {target}: set `uri` to the page itself")));
        }
        401 | 403 => {
            let cure = "allow this host in its location block, or set `header` to what it asks for";
            return Err(Error::Misconfigured(format!("{uri} answers {}: {cure}", response.status)));
        }
        404 => {
            let cure = "set `path` to a location that has stub_status";
            return Err(Error::Misconfigured(format!("{uri} answers 404: {cure}")));
        }
        status => return Err(Error::Failed(format!("{uri} answers {status}"))),
    }
    let text = response.text()?;
    StubStatus::parse(text).ok_or_else(|| {
        let first_line = text.lines().next().unwrap_or_default().chars().take(60).collect::<String>();
        Error::Failed(format!("{uri} is no stub_status page, it begins with {first_line:?}"))
    })
}

fn samples(page: StubStatus) -> Vec<Sample> {
    let StubStatus { connections, accepts, handled, requests, reading, writing, waiting } = page;
    [
        ("nginx.connections.connections", connections),
        ("nginx.requests.accepts", accepts),
        ("nginx.requests.handled", handled),
        ("nginx.requests.requests", requests),
        ("nginx.queue.reading", reading),
        ("nginx.queue.writing", writing),
        ("nginx.queue.waiting", waiting),
    ]
    .map(|(name, value)| Sample::new(name, value as f64))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, location: Option<&str>, body: &str) -> Response {
        let headers = location.map(|target| ("location".to_owned(), target.to_owned())).into_iter().collect();
        Response { status, headers, body: body.into() }
    }

    #[test]
    fn the_address_is_put_together_like_the_official_plugin_does() {
        let parts = [("scheme", "https"), ("host", "web"), ("port", "12345"), ("path", "/s")];
        assert_eq!(uri(&Settings::from(parts)), Ok("https://web:12345/s".to_owned()));
        let six = [("scheme", "http"), ("host", "::1"), ("port", "80"), ("path", "s")];
        assert_eq!(uri(&Settings::from(six)), Ok("http://[::1]:80/s".to_owned()));
        let whole = [("uri", "http://a/b?c"), ("scheme", "https"), ("host", "web"), ("port", "1"), ("path", "/s")];
        assert_eq!(uri(&Settings::from(whole)), Ok("http://a/b?c".to_owned()));
    }

    #[test]
    fn a_scheme_other_than_http_is_named() {
        let parts = [("scheme", "ftp"), ("host", "web"), ("port", "1"), ("path", "/s")];
        assert!(matches!(uri(&Settings::from(parts)), Err(Error::Misconfigured(text)) if text.contains("ftp")));
    }

    #[test]
    fn a_wrong_page_says_what_it_is_and_what_to_set() {
        for (response, expected) in [
            (answer(404, None, ""), "`path`"),
            (answer(403, None, ""), "403"),
            (answer(301, Some("https://a/"), ""), "https://a/"),
            (answer(502, None, ""), "502"),
            (answer(200, None, "<!DOCTYPE html>\n<html>"), "<!DOCTYPE html>"),
        ] {
            let (Error::Misconfigured(text) | Error::Failed(text)) = page("http://a/s", &response).unwrap_err() else {
                panic!("an error of the wrong kind for {response:?}");
            };
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn each_of_the_seven_metrics_stands_in_a_graph() {
        let page =
            StubStatus { connections: 1, accepts: 2, handled: 3, requests: 4, reading: 5, writing: 6, waiting: 7 };
        let graphs = describe().into_graphs(&Settings::default());
        let in_graphs = graphs
            .iter()
            .flat_map(|graph| graph.metrics.iter().map(move |metric| format!("{}.{}", graph.name, metric.name)));
        let posted = samples(page).into_iter().map(|sample| sample.name);
        assert_eq!(in_graphs.collect::<Vec<_>>(), posted.collect::<Vec<_>>());
    }
}
