//! nginx's connections and requests, from the page of its `stub_status` directive. Same settings, metrics and graphs as the official
//! `mackerel-plugin-nginx`; `extra` adds more.

#[cfg(test)]
mod tests;

use wasaba_plugin::prelude::*;

wasaba_plugin::export!(describe, collect);

fn describe() -> Plugin {
    Plugin::new("nginx", env!("CARGO_PKG_VERSION"), "connections and requests of nginx, from its stub_status page")
        .reaches([Reach::Http])
        .attribute("license", "Apache-2.0")
        .settings::<Config>()
        .graph(Connections::graph())
        .graph(Requests::graph())
        .graph(Queue::graph())
        .graph_if("extra", "dropped", Dropped::graph())
        .graph_if("extra", "up", up_graph("nginx.up", "Nginx up"))
}

#[derive(Settings)]
struct Config {
    /// the full URL of the status page, in place of the four below
    #[url(default = DEFAULT_URI)]
    uri: String,
    /// http or https
    #[text(default = "http", one_of = ["http", "https"])]
    scheme: String,
    /// where nginx listens
    #[host(default = "localhost")]
    host: String,
    /// where nginx listens
    #[port(of = host, default = 8080)]
    port: u16,
    /// the location with stub_status
    #[text(default = "/nginx_status")]
    path: String,
    /// `Name: value`, sent with the request; Host is a virtual host
    header: Vec<Secret>, // since it may hold a password
    /// accept any certificate
    #[tls_skip_verify(default = false)]
    tls_skip_verify: bool,
    /// additional metrics to collect: up, dropped
    #[text(one_of = ["up", "dropped"])]
    extra: Vec<String>,
}

/// What the four settings after it are by default, as one URL.
const DEFAULT_URI: &str = "http://localhost:8080/nginx_status";

#[derive(Graph)]
#[graph("nginx.connections", "Nginx Connections", integer)]
struct Connections {
    #[gauge("Active connections")]
    connections: u64,
}

#[derive(Graph)]
#[graph("nginx.requests", "Nginx requests", float)]
struct Requests {
    #[per_minute("Accepted connections")]
    accepts: u64,
    #[per_minute("Handled connections")]
    handled: u64,
    #[per_minute("Handled requests")]
    requests: u64,
}

#[derive(Graph)]
#[graph("nginx.queue", "Nginx connection status", integer)]
struct Queue {
    #[gauge]
    reading: u64,
    #[gauge]
    writing: u64,
    #[gauge]
    waiting: u64,
}

#[derive(Graph)]
#[graph("nginx.dropped", "Nginx dropped connections", float)]
struct Dropped {
    #[per_minute("Dropped connections")]
    dropped: u64,
}

fn collect(config: &Config) -> Result<Readings, Error> {
    let has = |extra: &str| config.extra.iter().any(|name| name == extra);
    let readings = page(config).map(|(connections, requests, queue)| {
        // A busy nginx may count on between its two numbers.
        let dropped = has("dropped").then(|| Dropped { dropped: requests.accepts.saturating_sub(requests.handled) });
        connections.samples() + requests.samples() + queue.samples() + dropped.samples()
    });
    if has("up") { up("nginx.up.up", readings) } else { readings }
}

/// Gets the numbers from `uri`, or, where it has its default, from the URL of the four settings after it.
fn page(config: &Config) -> Result<(Connections, Requests, Queue), Error> {
    let Config { uri, scheme, host, port, path, .. } = config;
    let bracketed = if host.contains(':') && !host.starts_with('[') { &format!("[{host}]") } else { host };
    let parts = format!("{scheme}://{bracketed}:{port}/{}", path.strip_prefix('/').unwrap_or(path));
    let of_parts = if scheme == "https" { "`scheme`, `host` and `port`" } else { "`host` and `port`" };
    let has_uri = !uri.is_empty() && uri != DEFAULT_URI;
    let (url, setting, settings) = if has_uri { (uri, "uri", "`uri`") } else { (&parts, "path", of_parts) };
    let request = http::get(url).header("user-agent", "mackerel-plugin-nginx").follow(10);
    let request = config.header.iter().fold(request, http::Request::header_lines);
    let response = request.send().map_err(|failure| failure.check(settings))?;
    let read = response.text().ok().filter(|_| response.status / 100 == 2).and_then(parse);
    let sent = |name: &str| request.has_header(name).unwrap_or(false);
    read.ok_or_else(|| wrong(&http::page(url), setting, &response, &sent))
}

/// Reads the page of nginx, OpenResty or Tengine (which has a fourth counter, the request time). `None` if it is any other page.
fn parse(page: &str) -> Option<(Connections, Requests, Queue)> {
    let mut lines = page.trim_start().lines();
    let connections = lines.next()?.strip_prefix("Active connections:")?.trim_ascii().parse().ok()?;
    lines.next()?; // the headings of the next line: "server accepts handled requests"
    let mut counters = lines.next()?.split_ascii_whitespace().map_while(|word| word.parse().ok());
    let requests = Requests { accepts: counters.next()?, handled: counters.next()?, requests: counters.next()? };
    let mut words = lines.next()?.split_ascii_whitespace();
    let mut state = |label| if words.next()? == label { words.next()?.parse().ok() } else { None };
    let queue = Queue { reading: state("Reading:")?, writing: state("Writing:")?, waiting: state("Waiting:")? };
    Some((Connections { connections }, requests, queue))
}

/// Why it is not the page, and which setting to check. The official plugin only says "cannot get values".
fn wrong(page: &str, setting: &str, response: &http::Response, sent: &dyn Fn(&str) -> bool) -> Error {
    let location = format!("set `{setting}` to a location with stub_status");
    let speaks_tls = || response.text().is_ok_and(|text| text.contains("HTTP request was sent to HTTPS port"));
    let looks = match response.looks() {
        http::Looks::Text(begins) if begins.starts_with("Active ") => "is a truncated or garbled stub_status page",
        http::Looks::Text(begins) => &format!("is not a stub_status page, it begins with {begins:?}"),
        looks => &looks.to_string(),
    };
    let cure = match response.status {
        200..=299 => return failed!("{page} {looks}: {location}"),
        400 if speaks_tls() && setting == "uri" => "the server speaks TLS, use https in `uri`",
        400 if speaks_tls() => "the server speaks TLS, set `scheme` to https",
        401 if sent("authorization") => "the server refused the user name and password in `header` or `uri`",
        401 => "user name and password required, write them into `uri`, or `Authorization: ...` into `header`",
        403 => "add an `allow` line with this host's address to its location block",
        404 if sent("host") => &format!("{location}, or set another `Host` in `header`"),
        404 => &format!("{location}, or set `Host` in `header` to the name of its server block"),
        status => return failed!("{page} answers {status}, which stub_status never does: {location}"),
    };
    misconfigured!("{page} answers {}: {cure}", response.status)
}
