//! A plugin that uses everything in the contract once: each export, each function of each capability. `tests/contract` keeps its
//! component of each release as a fossil.

use std::time::Duration;

use wasaba_plugin::tcp::Connection;
use wasaba_plugin::{
    Error, Graph, Metric, Plugin, Report, Sample, Setting, Settings, Unit, crypto, files, http, kv, log,
};

wasaba_plugin::export!(describe, metrics: collect, checks: check, metadata: about);

fn describe() -> Plugin {
    Plugin::new("everything", env!("CARGO_PKG_VERSION"), "uses everything in the contract once")
        .setting(Setting::url("url").required().help("a page to get"))
        .setting(Setting::host("host").default("localhost").help("an echo server"))
        .setting(Setting::port("port").default("7").help("an echo server"))
        .setting(Setting::unix_socket("socket").required().help("another echo server"))
        .setting(Setting::file("file").required().help("a file to read"))
        .setting(Setting::text("text").default("text").repeatable().help("any text"))
        .setting(Setting::secret("token").help("a secret"))
        .setting(Setting::integer("integer").default("-1").help("a whole number"))
        .setting(Setting::number("number").default("0.5").help("a number"))
        .setting(Setting::boolean("boolean").default("true").help("yes or no"))
        .setting(Setting::duration("patience").default("5s").help("how long to wait"))
        .setting(Setting::tls_skip_verify("tls-skip-verify").default("false").help("accept any certificate"))
        .setting(Setting::tls_mode("sslmode").default("verify-full").help("how TLS is used"))
        .graph(
            Graph::new("everything.done", "Everything", Unit::Integer)
                .metric(Metric::gauge("http", "Status of the page"))
                .metric(Metric::gauge("tcp", "Echoed bytes").stacked())
                .metric(Metric::gauge("unix", "Echoed bytes").stacked())
                .metric(Metric::gauge("file", "Length of the file"))
                .metric(Metric::gauge("calls", "Calls so far")),
        )
        .graph(
            Graph::new("everything.rates.#", "Rates", Unit::BytesPerSecond)
                .metric(Metric::per_minute("minute", "Per minute"))
                .metric(Metric::per_second("*", "Per second").scale(8.0)),
        )
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    log::debug("debug");
    log::info("info");
    log::warning("warning");
    let page = http::get(settings.text("url")?).header("accept", "*/*").follow(1)?;
    let tcp = Connection::connect(settings.text("host")?, settings.parsed("port")?)?;
    Connection::connect_within(settings.text("host")?, settings.parsed("port")?, Duration::from_secs(5)).map(drop)?;
    let unix = Connection::connect_unix(settings.text("socket")?)?;
    let file = settings.text("file")?;
    let content = files::read(file)?;
    if files::read_from(file, 0, 1)?.len().min(content.len()) != content.len().min(1) {
        return Err(Error::Failed("a part of the file differs from the whole".into()));
    }
    let calls = kv::get("calls").and_then(|bytes| bytes.first().copied()).unwrap_or(0).saturating_add(1);
    kv::set("calls", [calls])?;
    kv::set("gone", "soon")?;
    kv::delete("gone");
    if kv::keys() != ["calls"] {
        return Err(Error::Failed(format!("unexpected keys: {:?}", kv::keys())));
    }
    let key = crypto::pbkdf2_hmac_sha256(b"password", b"salt", 2)?;
    if (key.len(), crypto::saslprep("I\u{ad}X").as_deref()) != (32, Some("IX")) {
        return Err(Error::Failed("wrong result of PBKDF2 or SASLprep".into()));
    }
    Ok(vec![
        Sample::new("everything.done.http", f64::from(page.status)),
        Sample::new("everything.done.tcp", echoed(&tcp)?),
        Sample::new("everything.done.unix", echoed(&unix)?),
        Sample::new("everything.done.file", files::size(file)? as f64),
        Sample::new("everything.done.calls", f64::from(calls)),
        Sample::new("everything.rates.a.minute", f64::from(calls)),
        Sample::new("everything.rates.a.second", f64::from(calls)),
    ])
}

/// How many bytes an echo server sends back.
fn echoed(connection: &Connection) -> Result<f64, Error> {
    connection.set_timeout(Duration::from_secs(5));
    connection.send(b"everything")?;
    connection.finish()?;
    let mut bytes = 0;
    loop {
        match connection.receive(4)?.len() {
            0 => return Ok(f64::from(bytes)),
            some => bytes += u32::try_from(some).unwrap_or(0),
        }
    }
}

fn check(settings: &Settings) -> Report {
    match http::request("HEAD", settings.get("url").unwrap_or_default()).send() {
        Ok(answer) if answer.status == 200 => Report::ok("the page is there"),
        Ok(answer) if answer.status < 500 => Report::warning(format!("the page answers {}", answer.status)),
        Ok(answer) => Report::critical(format!("the page answers {}", answer.status)),
        Err(error) => Error::from(error).into(),
    }
}

fn about(settings: &Settings) -> Result<String, Error> {
    // Never called, but it links the function for TLS.
    if settings.get("text") == Some("tls") {
        Connection::connect(settings.text("host")?, settings.parsed("port")?)?.start_tls(None)?;
    }
    Ok(format!("{{\"texts\":{}}}", settings.all("text").count()))
}
