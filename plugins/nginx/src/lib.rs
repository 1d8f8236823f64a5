//! nginx's connections and requests, from the page of its `stub_status` directive.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-nginx`; `extra` adds more. `parts` lists what is
//! collected, `target` says where the page is, `page` reads it. `offline` does without a server.

pub mod offline;
mod page;
mod parts;
mod stub_status;
mod target;

use wasaba_plugin::http::{self, RequestFailure, TlsFault};
use wasaba_plugin::{Error, Part, Plugin, Reach, Sample, Setting, Settings, Values};

use parts::{PARTS, Read};
use stub_status::StubStatus;
use target::Target;

wasaba_plugin::export!(describe, collect);

/// As many as the official plugin follows at most.
const REDIRECTS: u32 = 10;

fn describe() -> Plugin {
    Plugin::new("nginx", env!("CARGO_PKG_VERSION"), "connections and requests of nginx, from its stub_status page")
        .reaches([Reach::Http])
        .attribute("license", "Apache-2.0")
        .setting(
            Setting::url("uri")
                .default(target::DEFAULT_URI)
                .help("the full URL of the status page, in place of the four below"),
        )
        .setting(Setting::text("scheme").default("http").help("http or https"))
        .setting(Setting::host("host").default("localhost").help("where nginx listens"))
        .setting(Setting::port("port").of_host("host").default("8080").help("where nginx listens"))
        .setting(Setting::text("path").default("/nginx_status").help("the location with stub_status"))
        .setting(
            // A secret, since it may hold a password.
            Setting::secret("header").repeatable().help("`Name: value`, sent with the request; Host is a virtual host"),
        )
        .setting(Setting::tls_skip_verify("tls-skip-verify").default("false").help("accept any certificate"))
        .setting(PARTS.setting())
        .graphs_by_settings(|settings| PARTS.graphs(settings))
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    PARTS.collect(settings, |parts| Ok(values(&status(settings)?, parts)))
}

fn values(status: &StubStatus, parts: &[&Part<Read>]) -> Values {
    let mut values = Values::with_capacity(8);
    for part in parts {
        for (name, number) in (part.read)(status) {
            values.push((name.to_owned(), number as f64));
        }
    }
    values
}

fn status(settings: &Settings) -> Result<StubStatus, Error> {
    let target = Target::of(settings)?;
    let mut request = http::get(&target.url).header("user-agent", "mackerel-plugin-nginx");
    for lines in settings.secrets("header") {
        request = request.header_lines(lines);
    }
    let response = request.clone().follow(REDIRECTS).map_err(|error| explain(&target, error))?;
    let sent = |name: &str| request.has_header(name).unwrap_or(false);
    page::read(&target, &sent, &response)
}

/// The capability's error with the URL and the setting to check. TLS errors are the operator's to fix.
fn explain(target: &Target, RequestFailure { error, tls }: RequestFailure) -> Error {
    let Target { url, shown, setting, .. } = target;
    let (scheme, settings) = match (*setting, url.starts_with("https")) {
        ("uri", _) => ("`uri`", "`uri`"),
        (_, true) => ("`scheme`", "`scheme`, `host` and `port`"),
        _ => ("`scheme`", "`host` and `port`"),
    };
    match error {
        Error::Unauthorized(text) if tls == Some(TlsFault::Alert) => Error::Misconfigured(format!(
            "{shown}: {text}: check {scheme}, and `certificate` and `key` of `tls` in the plugin's table"
        )),
        Error::Unauthorized(text) if tls == Some(TlsFault::Certificate) => Error::Misconfigured(format!(
            "{shown}: {text}; name its authority under `tls` in the plugin's table: `tls = {{ authority = \"/path/to/ca.pem\" }}`"
        )),
        Error::Unauthorized(text) => Error::Misconfigured(format!("{shown}: {text}: check {settings}")),
        Error::Failed(text) if tls == Some(TlsFault::NotTls) => {
            Error::Misconfigured(format!("{shown}: {text}; does it speak TLS? check {scheme}"))
        }
        Error::Unreachable(text) => Error::Unreachable(format!("{shown}: {text}: check {settings}")),
        Error::Timeout(text) => Error::Timeout(format!("{shown}: {text}: check {settings}")),
        Error::Failed(text) => Error::Failed(format!("{shown}: {text}: check {settings}")),
        Error::TooLarge(text) => Error::TooLarge(format!("{shown}: {text}: check {settings}")),
        // A setting that was passed on unchecked.
        Error::Invalid(text) => Error::Misconfigured(text),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_unchanged_and_a_missing_answer_names_the_url_and_the_setting() {
        let target = Target::of(&Settings::from([("uri", "https://a/s?hunter2")])).unwrap();
        let refusal = "no grant for http://b:80; to grant it, write `allow = [\"http://b:80\"]` into the table";
        assert_eq!(explain(&target, Error::Denied(refusal.into()).into()), Error::Denied(refusal.into()));
        let silent = explain(&target, Error::Unreachable("no answer".into()).into());
        assert_eq!(silent, Error::Unreachable("https://a/s: no answer: check `uri`".into()));
        let expired = explain(&target, Error::Unauthorized("it expired".into()).into());
        assert_eq!(expired, Error::Misconfigured("https://a/s: it expired: check `uri`".into()));
    }

    #[test]
    fn tls_errors_are_the_operators_to_fix_and_every_error_names_a_setting() {
        let target = |scheme| {
            Target::of(&Settings::from([("scheme", scheme), ("host", "a"), ("port", "1"), ("path", "/")])).unwrap()
        };
        let why = |scheme, of: fn(String) -> Error, text: &str| explain(&target(scheme), of(text.to_owned()).into());
        let of_tls = |error: fn(String) -> Error, tls| {
            explain(&target("https"), RequestFailure { error: error("why".to_owned()), tls: Some(tls) })
        };
        for (error, setting) in [
            (of_tls(Error::Unauthorized, TlsFault::Alert), "`certificate` and `key`"),
            (of_tls(Error::Unauthorized, TlsFault::Certificate), "authority"),
            (of_tls(Error::Failed, TlsFault::NotTls), "check `scheme`"),
        ] {
            assert!(matches!(&error, Error::Misconfigured(text) if text.contains(setting)), "{error:?}");
        }
        let refused = why("http", Error::Unreachable, "Connection refused");
        assert_eq!(refused, Error::Unreachable("http://a:1/: Connection refused: check `host` and `port`".into()));
        let eof = why("https", Error::Unreachable, "tls handshake eof");
        assert!(
            matches!(&eof, Error::Unreachable(text) if text.ends_with("check `scheme`, `host` and `port`")),
            "{eof:?}"
        );
        let cut = explain(&target("http"), Error::Failed("end of file before message length reached".into()).into());
        assert!(matches!(&cut, Error::Failed(text) if text.ends_with("check `host` and `port`")), "{cut:?}");
    }
}
