//! nginx' connections and requests, from the page that its `stub_status` directive makes.
//!
//! Same settings, metrics and graphs as the official `mackerel-plugin-nginx`; what is beyond them is in `extra`. [`parts`]
//! says what is collected, [`target`] where the page is, [`page`] reads it.

mod page;
mod parts;
mod stub_status;
mod target;

use wasaba_plugin::{Error, Part, Plugin, Sample, Setting, Settings, Values, http};

use parts::{PARTS, Read};
use stub_status::StubStatus;
use target::Target;

wasaba_plugin::export!(describe, collect);

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
        .setting(PARTS.setting())
        .graphs_by_settings(|settings| PARTS.graphs(settings))
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    PARTS.collect(settings, |parts| Ok(values(&status(settings)?, parts)))
}

fn values(status: &StubStatus, parts: &[&Part<Read>]) -> Values {
    let mut values = Values::new();
    for part in parts {
        values.extend((part.read)(status).into_iter().map(|(name, number)| (name.to_owned(), number as f64)));
    }
    values
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

#[cfg(test)]
mod tests {
    use super::*;

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
