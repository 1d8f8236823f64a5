//! Where the page is.

use wasaba_plugin::{Error, Settings};

/// What the four settings are by default, as one URL.
pub(crate) const DEFAULT_URI: &str = "http://localhost:8080/nginx_status";

/// The address of the status page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// To be requested. A user name and password that the operator wrote are not in it: the agent sends them.
    pub(crate) url: String,
    /// The URL for messages: without the query, which may have a token.
    pub(crate) shown: String,
    /// The setting that says where the page is: `uri` or `path`.
    pub(crate) setting: &'static str,
}

impl Target {
    /// `uri`, or, where it has its default, the URL from the four other settings, which are the same by default.
    ///
    /// # Errors
    /// An unknown scheme.
    pub(crate) fn of(settings: &Settings) -> Result<Self, Error> {
        if let Some(uri) = settings.get("uri").filter(|uri| !uri.is_empty() && *uri != DEFAULT_URI) {
            return Ok(Self { shown: shown(uri), url: uri.to_owned(), setting: "uri" });
        }
        let scheme = settings.one_of("scheme", &["http", "https"])?;
        let host = settings.text("host")?;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let path = settings.text("path")?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = format!("{scheme}://{host}:{}{slash}{path}", settings.text("port")?);
        Ok(Self { shown: shown(&url), url, setting: "path" })
    }
}

fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<const N: usize>(settings: [(&str, &str); N]) -> Target {
        Target::of(&Settings::from(settings)).unwrap()
    }

    #[test]
    fn the_url_is_assembled_as_in_the_official_plugin() {
        assert_eq!(
            target([("scheme", "https"), ("host", "web"), ("port", "12345"), ("path", "/s")]).url,
            "https://web:12345/s"
        );
        let six = [("scheme", "http"), ("host", "::1"), ("port", "80"), ("path", "s")];
        assert_eq!(target(six).url, "http://[::1]:80/s");
        let whole = [("uri", "http://a/b?c"), ("scheme", "https"), ("host", "web"), ("port", "1"), ("path", "/s")];
        assert_eq!((target(whole).url.as_str(), target(whole).shown.as_str()), ("http://a/b?c", "http://a/b"));
        let default = [("uri", DEFAULT_URI), ("scheme", "https"), ("host", "web"), ("port", "1"), ("path", "/s")];
        assert_eq!(target(default).url, "https://web:1/s", "the operator wrote the others");
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        let parts = [("scheme", "ftp"), ("host", "web"), ("port", "1"), ("path", "/s")];
        let error = Target::of(&Settings::from(parts)).unwrap_err();
        assert!(matches!(&error, Error::Misconfigured(text) if text.contains("ftp")), "{error:?}");
    }
}
