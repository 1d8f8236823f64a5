//! A plugin that uses everything in the contract once: each export, each function of each capability. `tests/contract` keeps its
//! component of each release as a fossil.

use std::time::Duration;

use wasaba_plugin::files::File;
use wasaba_plugin::tcp::{Connection, TlsOptions};
use wasaba_plugin::{
    Documents, Error, Graph, Metric, Plugin, Reach, Readings, Report, Sample, Setting, Settings, Unit, call, crypto,
    files, http, kv, log,
};

wasaba_plugin::export!(describe, metrics: collect, checks: check, metadata: about);

fn describe() -> Plugin {
    Plugin::new("everything", env!("CARGO_PKG_VERSION"), "uses everything in the contract once")
        .reaches([Reach::Http, Reach::Tcp, Reach::Unix, Reach::File])
        .attribute("license", "Apache-2.0")
        .attribute("homepage", "https://example.com/everything")
        .attribute("interval-seconds", "60")
        .attribute("timeout-seconds", "10")
        .attribute("agent", "0.1.0")
        .setting(Setting::url("url").required().help("a page to get"))
        .setting(Setting::host("host").default("localhost").help("an echo server"))
        .setting(Setting::port("port").of_host("host").default("7").help("an echo server"))
        .setting(Setting::endpoint("endpoint").repeatable().help("servers that are not there"))
        .setting(Setting::unix_socket("socket").required().help("another echo server"))
        .setting(Setting::file("file").required().help("a file to read"))
        .setting(Setting::text("text").default("text").repeatable().help("any text"))
        .setting(Setting::secret("token").help("a secret"))
        .setting(Setting::integer("integer").default("-1").help("a whole number"))
        .setting(Setting::number("number").default("0.5").help("a number"))
        .setting(Setting::boolean("boolean").default("true").help("yes or no"))
        .setting(Setting::duration("patience").default("5s").help("how long to wait"))
        .setting(Setting::tls_skip_verify("tls-skip-verify").default("false").help("accept any certificate"))
        .setting(
            Setting::tls_mode("sslmode").alias("verify-full", "full").default("verify-full").help("how TLS is used"),
        )
        .graph(
            Graph::new("everything.done", "Everything", Unit::Integer)
                .metric(Metric::gauge("http", "Status of the page"))
                .metric(Metric::gauge("tcp", "Echoed bytes").stacked())
                .metric(Metric::gauge("unix", "Echoed bytes").stacked())
                .metric(Metric::gauge("file", "Length of the file"))
                .metric(Metric::gauge("calls", "Calls so far"))
                .metric(Metric::gauge("then", "A minute ago")),
        )
        .graph(
            Graph::new("everything.rates.#", "Rates", Unit::BytesPerSecond)
                .metric(Metric::per_minute("minute", "Per minute"))
                .metric(Metric::per_minute_32("wraps", "Per minute"))
                .metric(Metric::delta("delta", "Since the last call"))
                .metric(Metric::per_second("*", "Per second").scale(8.0)),
        )
}

fn collect(settings: &Settings) -> Result<Readings, Error> {
    log::debug("debug");
    log::info("info");
    log::warning("warning");
    let mut request = http::get(settings.text("url")?).header("accept", "*/*");
    if let Some(token) = settings.secret("token") {
        request = request.header_secret("x-token", "token ", token).basic_auth("me", token).header_lines(token);
    }
    if !request.has_header("Accept")? {
        return Err(Error::Failed("the request has no header".into()));
    }
    let page = request.follow(1).send()?;
    let tcp = Connection::connect(settings.text("host")?, settings.parsed("port")?)?;
    Connection::connect_within(settings.text("host")?, settings.parsed("port")?, Duration::from_secs(5)).map(drop)?;
    let unix = Connection::connect_unix(settings.text("socket")?)?;
    let size = file_size(settings)?;
    let calls = kv::get("calls").and_then(|bytes| bytes.first().copied()).unwrap_or(0).saturating_add(1);
    kv::set("calls", [calls])?;
    kv::set("gone", "soon")?;
    kv::delete("gone");
    kv::set_for("calls.last", [calls], Duration::from_secs(60))?;
    if kv::keys("c") != ["calls", "calls.last"] {
        return Err(Error::Failed(format!("unexpected keys: {:?}", kv::keys(""))));
    }
    let minute = call::minute();
    if call::remaining() > Duration::from_secs(60)
        || !minute.is_multiple_of(60)
        || call::limit("samples") != Some(1_000)
        || call::agent_version().is_empty()
        || !call::has("tcp")
        || call::has("everything")
    {
        return Err(Error::Failed("the call does not know what it is".into()));
    }
    let mut samples = vec![
        Sample::new("everything.done.http", page.status),
        Sample::new("everything.done.tcp", echoed(&tcp, settings)?),
        Sample::new("everything.done.unix", echoed(&unix, settings)?),
        Sample::new("everything.done.file", size),
        Sample::new("everything.done.calls", calls).label("kind", "calls"),
        Sample::new("everything.done.then", calls).at(minute - 60),
    ];
    for kind in ["minute", "second", "wraps", "delta"] {
        samples.push(Sample::new(format!("everything.rates.a.{kind}"), u64::from(calls)));
    }
    let problems = settings.endpoints("endpoint").filter_map(|(host, port)| {
        let error = Connection::connect(host, port).err()?;
        Some((format!("{host}:{port}"), error))
    });
    Ok(Readings { problems: problems.collect(), samples })
}

/// The size of the file, which is read whole and in parts.
fn file_size(settings: &Settings) -> Result<u64, Error> {
    let path = settings.text("file")?;
    let (whole, file) = (files::read(path, 1 << 20)?, File::open(path)?);
    let stat = file.stat()?;
    if stat.size != whole.len() as u64 || stat.id == 0 || whole.first() != file.read_at(0, 1)?.first() {
        return Err(Error::Failed("a part of the file differs from the whole".into()));
    }
    Ok(stat.size)
}

/// How many bytes an echo server sends back.
fn echoed(connection: &Connection, settings: &Settings) -> Result<f64, Error> {
    connection.set_timeout(Duration::from_secs(5));
    if !connection.is_local() {
        return Err(Error::Failed("the echo server is not on this machine".into()));
    }
    connection.send(b"everything")?;
    if let Some(token) = settings.secret("token") {
        connection.send_secret(b"<", token, b">")?;
    }
    connection.finish()?;
    let mut bytes = 0;
    loop {
        match connection.receive(4)?.len() {
            0 => return Ok(f64::from(bytes)),
            some => bytes += u32::try_from(some).unwrap_or(0),
        }
    }
}

fn check(settings: &Settings) -> Result<Vec<Report>, Error> {
    let answer = http::request("HEAD", settings.text("url")?).body(Vec::new()).send()?;
    let page = match answer.status {
        200 => Report::ok("the page is there"),
        status @ 0..500 => Report::warning(format!("the page answers {status}")),
        status => Report::critical(format!("the page answers {status}")),
    };
    Ok(vec![page, Report::unknown("nothing is known of it").named("else")])
}

fn about(settings: &Settings) -> Result<Documents, Error> {
    // Never called, but it links the functions.
    if settings.get("text") == Some("never") {
        let token = settings.secret("token").ok_or_else(|| Error::Misconfigured("`token` is not set".into()))?;
        let connection = Connection::connect(settings.text("host")?, settings.parsed("port")?)?;
        connection.start_tls(TlsOptions { server_name: Some("localhost"), alpn: &["h2"] })?;
        let proof = crypto::scram_sha256(token, b"salt", 4_096, "")?;
        let md5 = crypto::postgres_md5(token, "me", &proof.server_signature);
        return Ok(format!("{:?}", token.reveal()? + &md5).into());
    }
    let own = format!("{{\"texts\":{}}}", settings.all("text").count());
    Ok(Documents {
        documents: vec![(String::new(), own), ("all-more".to_owned(), "[]".to_owned())],
        problems: Vec::new(),
    })
}
