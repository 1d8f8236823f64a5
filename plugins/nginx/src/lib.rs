//! nginx' connections and requests, from the page that its `stub_status` directive makes.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-nginx`; what is beyond them is in `extra`.

mod page;
mod stub_status;
mod target;

use wasaba_plugin::{Error, Graph, Metric, Plugin, Sample, Setting, Settings, Unit, http};

use stub_status::StubStatus;
use target::Target;

wasaba_plugin::export!(describe, collect);

/// What `extra` may add.
const UP: &str = "up";
const DROPPED: &str = "dropped";

/// As many as the official plugin follows.
const REDIRECTS: u32 = 10;

fn describe() -> Plugin {
    Plugin::new("nginx", env!("CARGO_PKG_VERSION"), "connections and requests of nginx, from its stub_status page")
        .setting(Setting::url("uri").help("the whole address of the status page, in place of the four below"))
        .setting(Setting::text("scheme").default("http").help("http or https"))
        .setting(Setting::host("host").default("localhost").help("where nginx listens"))
        .setting(Setting::port("port").default("8080").help("where nginx listens"))
        .setting(Setting::text("path").default("/nginx_status").help("the location with stub_status"))
        .setting(
            // A secret, since it may be an authorization.
            Setting::secret("header").repeatable().help("`Name: value`, sent with the request; Host is a virtual host"),
        )
        .setting(Setting::tls_skip_verify("tls-skip-verify").default("false").help("accept any certificate"))
        .setting(Setting::text("extra").repeatable().help(
            "what the official plugin has not: `up` (whether nginx answers), `dropped` (connections not handled)",
        ))
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
        .graphs_by_settings(extra_graphs)
}

fn extra_graphs(settings: &Settings) -> Vec<Graph> {
    let chosen = |extra: &str| settings.all("extra").any(|chosen| chosen == extra);
    let mut graphs = Vec::new();
    if chosen(UP) {
        graphs
            .push(Graph::new("nginx.up", "Nginx up", Unit::Integer).metric(Metric::gauge("up", "Up (1: yes, 0: no)")));
    }
    if chosen(DROPPED) {
        let metric = Metric::per_minute("dropped", "Dropped connections");
        graphs.push(Graph::new("nginx.dropped", "Nginx dropped connections", Unit::Float).metric(metric));
    }
    graphs
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    let extra = settings.some_of("extra", &[UP, DROPPED])?;
    let collected = status(settings).map(|status| samples(&status, &extra));
    if extra.contains(&UP) { wasaba_plugin::up("nginx.up.up", collected) } else { collected }
}

fn status(settings: &Settings) -> Result<StubStatus, Error> {
    let target = Target::of(settings)?;
    let headers = target.headers(settings);
    let mut request = http::get(&target.url);
    for (name, value) in headers.iter() {
        request = request.header(name, value);
    }
    let response = request.follow(REDIRECTS).map_err(|error| explain(&target, error))?;
    page::read(&target, &headers, &response)
}

/// A capability's error with what was asked, and which setting to look at. What TLS says is the operator's to mend.
fn explain(target: &Target, error: http::Error) -> Error {
    let Target { url, shown, setting, .. } = target;
    let (scheme, place) = match (*setting, url.starts_with("https")) {
        ("uri", _) => ("`uri`", "`uri`"),
        (_, true) => ("`scheme`", "`scheme`, `host` and `port`"),
        _ => ("`scheme`", "`host` and `port`"),
    };
    match error {
        http::Error::Unreachable(text) if text.contains("fatal alert") => Error::Misconfigured(format!(
            "{shown}: {text}: look at {scheme}, and at `certificate` and `key` of `tls` in the plugin's table"
        )),
        http::Error::Unreachable(text) if text.contains("certificate") => Error::Misconfigured(format!(
            "{shown}: {text}; name its authority under `tls` in the plugin's table: `tls = {{ authority = \"/path/of/ca.pem\" }}`"
        )),
        // How TLS calls an answer that is none.
        http::Error::Unreachable(text) if text.contains("InvalidContentType") => {
            Error::Misconfigured(format!("{shown}: {text}; does it speak TLS? see {scheme}"))
        }
        http::Error::Unreachable(text) => Error::Unreachable(format!("{shown}: {text}: look at {place}")),
        http::Error::Failed(text) => Error::Failed(format!("{shown}: {text}: look at {place}")),
        other @ (http::Error::Denied(_) | http::Error::Invalid(_)) => other.into(),
    }
}

fn samples(status: &StubStatus, extra: &[&str]) -> Vec<Sample> {
    let StubStatus { connections, accepts, handled, requests, reading, writing, waiting } = *status;
    let official = [
        ("nginx.connections.connections", connections),
        ("nginx.requests.accepts", accepts),
        ("nginx.requests.handled", handled),
        ("nginx.requests.requests", requests),
        ("nginx.queue.reading", reading),
        ("nginx.queue.writing", writing),
        ("nginx.queue.waiting", waiting),
    ];
    // A busy nginx counts on between its two numbers.
    let dropped = ("nginx.dropped.dropped", accepts.saturating_sub(handled));
    let chosen = extra.contains(&DROPPED).then_some(dropped);
    official.into_iter().chain(chosen).map(|(name, value)| Sample::new(name, value as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: StubStatus =
        StubStatus { connections: 1, accepts: 20, handled: 3, requests: 4, reading: 5, writing: 6, waiting: 7 };

    fn in_graphs(settings: &Settings) -> Vec<String> {
        let graphs = describe().into_graphs(settings);
        let names = graphs
            .iter()
            .flat_map(|graph| graph.metrics.iter().map(move |metric| format!("{}.{}", graph.name, metric.name)));
        names.collect()
    }

    fn posted(extra: &[&str]) -> Vec<String> {
        samples(&STATUS, extra).into_iter().map(|sample| sample.name).collect()
    }

    #[test]
    fn each_of_the_seven_metrics_stands_in_a_graph() {
        assert_eq!(posted(&[]).len(), 7);
        assert_eq!(in_graphs(&Settings::default()), posted(&[]));
    }

    #[test]
    fn an_extra_has_its_graph_only_where_it_is_chosen() {
        let dropped = Settings::from([("extra", "dropped")]);
        assert_eq!(in_graphs(&dropped), posted(&["dropped"]));
        assert_eq!(samples(&STATUS, &["dropped"]).pop(), Some(Sample::new("nginx.dropped.dropped", 17)));
        let both = in_graphs(&Settings::from([("extra", "up"), ("extra", "dropped")]));
        assert_eq!(both.get(7..), Some(&["nginx.up.up".to_owned(), "nginx.dropped.dropped".to_owned()][..]));
    }

    #[test]
    fn more_handled_than_accepted_connections_are_no_dropped_ones() {
        let raced = StubStatus { accepts: 2, handled: 3, ..STATUS };
        assert_eq!(samples(&raced, &["dropped"]).pop(), Some(Sample::new("nginx.dropped.dropped", 0)));
    }

    #[test]
    fn a_refusal_passes_on_as_it_is_and_silence_is_told_with_what_was_asked() {
        let target = Target::of(&Settings::from([("uri", "https://bob:hunter2@a/s?hunter2")])).unwrap();
        let refusal = "no grant for http://b:80; to grant it, write `allow = [\"http://b:80\"]` into the table";
        assert_eq!(explain(&target, http::Error::Denied(refusal.into())), Error::Denied(refusal.into()));
        let silent = explain(&target, http::Error::Unreachable("no answer".into()));
        assert_eq!(silent, Error::Unreachable("https://a/s: no answer: look at `uri`".into()));
        let stranger = explain(&target, http::Error::Unreachable("invalid peer certificate: UnknownIssuer".into()));
        assert!(matches!(&stranger, Error::Misconfigured(text) if text.contains("`tls = { authority")), "{stranger:?}");
    }

    #[test]
    fn what_tls_says_is_the_operators_to_mend_and_every_error_names_a_setting() {
        let target = |scheme| {
            Target::of(&Settings::from([("scheme", scheme), ("host", "a"), ("port", "1"), ("path", "/")])).unwrap()
        };
        let why = |scheme, text: &str| explain(&target(scheme), http::Error::Unreachable(text.to_owned()));
        for (error, setting) in [
            (why("https", "received fatal alert: CertificateRequired"), "`certificate` and `key`"),
            (why("https", "invalid peer certificate: UnknownIssuer"), "authority"),
            (why("https", "received corrupt message of type InvalidContentType"), "see `scheme`"),
        ] {
            assert!(matches!(&error, Error::Misconfigured(text) if text.contains(setting)), "{error:?}");
        }
        let refused = why("http", "Connection refused");
        assert_eq!(refused, Error::Unreachable("http://a:1/: Connection refused: look at `host` and `port`".into()));
        let eof = why("https", "tls handshake eof");
        assert!(
            matches!(&eof, Error::Unreachable(text) if text.ends_with("look at `scheme`, `host` and `port`")),
            "{eof:?}"
        );
        let cut = explain(&target("http"), http::Error::Failed("end of file before message length reached".into()));
        assert!(matches!(&cut, Error::Failed(text) if text.ends_with("look at `host` and `port`")), "{cut:?}");
    }
}
