//! A plugin that tells its secrets on every way out of it, and stores a value. Its setting `how` says by which ways. Only the tests
//! use it.

use wasaba_plugin::{
    Documents, Error, Graph, Metric, Plugin, Reach, Readings, Report, Sample, Setting, Settings, Unit, http, kv, log,
};

wasaba_plugin::export!(describe, metrics: collect, checks: check, metadata: about);

fn describe() -> Plugin {
    Plugin::new("leaky", env!("CARGO_PKG_VERSION"), "tells its secrets")
        .reaches([Reach::Http])
        .setting(Setting::text("how").default("answer").help("answer, error, crash or keep"))
        .setting(Setting::text("table").default("leaky").help("the name of its table"))
        .setting(Setting::secret("token").help("a secret"))
        .setting(Setting::secret("pin").help("a secret of digits"))
        .graph(Graph::new("leaky", "Leaky", Unit::Float).metric(Metric::gauge("*", "%1")))
}

/// Tells the log, asks for what is not granted, and fails in the way that was asked for.
fn token(settings: &Settings) -> Result<String, Error> {
    let token = settings.secret("token").ok_or_else(|| Error::Misconfigured("`token` is not set".into()))?.reveal()?;
    log::warning(format!("the log: {token}"));
    http::get(format!("http://{token}.example/{token}")).send().map_err(|_| ()).err();
    match settings.text("how")? {
        "error" => Err(Error::Failed(format!("the error: {token}"))),
        "crash" => {
            use std::io::Write;
            writeln!(std::io::stderr(), "the crash: {token}").ok();
            std::process::abort()
        }
        _ => Ok(token),
    }
}

fn collect(settings: &Settings) -> Result<Readings, Error> {
    if settings.text("how")? == "keep" {
        let kept = u32::try_from(kv::keys("").len()).unwrap_or(u32::MAX);
        kv::set("kept", "value")?;
        return Ok(Readings { samples: vec![Sample::new("leaky.kept", kept)], problems: Vec::new() });
    }
    let token = token(settings)?;
    Ok(Readings {
        samples: vec![Sample::new("leaky.good", 1), Sample::new(format!("leaky.{token}"), 1), Sample::new(&token, 1)],
        problems: vec![(format!("the target: {token}"), Error::Failed(format!("the problem: {token}")))],
    })
}

fn check(settings: &Settings) -> Result<Vec<Report>, Error> {
    let token = token(settings)?;
    Ok(vec![Report::warning(format!("the message: {token}")), Report::ok("named").named(token)])
}

fn about(settings: &Settings) -> Result<Documents, Error> {
    let (token, table) = (token(settings)?, settings.text("table")?);
    let pin = settings.secret("pin").ok_or_else(|| Error::Misconfigured("`pin` is not set".into()))?.reveal()?;
    let json = format!("{{\"text\":\"the document: {token}\",\"{token}\":[\"{token}\"],\"number\":{pin}}}");
    Ok(Documents {
        documents: vec![(String::new(), json), (format!("{table}-{token}"), "{}".to_owned())],
        problems: vec![(token.clone(), Error::Failed(token))],
    })
}
