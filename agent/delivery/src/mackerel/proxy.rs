//! The proxy: which one leads to Mackerel, found as Go's programs find it: that of the configuration, else the environment's, and none
//! for a host that `NO_PROXY` names.

use official::no_proxy::is_direct;
use official::proxy::ProxyAddress;
use url::Url;
use wasaba_core::secret::Secret;

use super::FatalError;

/// The proxy on the way to Mackerel. It has no `Debug`: there may be a password in it.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) address: ProxyAddress,
    /// Where it is written: the key or the variable.
    pub(super) source: &'static str,
}

/// The proxy on the way to `base`, if there is one: `given` by the configuration, or the environment's.
pub(super) fn proxy_to(
    base: &Url,
    given: Option<&Secret>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, FatalError> {
    let set = |name: &'static str| variable(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    let either = |names: [&'static str; 2]| names.into_iter().find_map(set);
    let is_https = base.scheme() == "https";
    let names = if is_https { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let configured =
        given.map(|given| (if is_https { "`https_proxy`" } else { "`http_proxy`" }, given.reveal().to_owned()));
    let of_environment = || {
        let (name, value) = either(names)?;
        Some((in_words(name), value))
    };
    let Some((source, written)) = configured.or_else(of_environment) else { return Ok(None) };
    let no_proxy = either(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
    if base.host_str().is_some_and(|host| is_direct(host, base.port_or_known_default(), &no_proxy)) {
        return Ok(None);
    }
    let address = ProxyAddress::parse(&written).map_err(|why| FatalError(format!("{source} {why}")))?;
    Ok(Some(Proxy { address, source }))
}

fn in_words(variable: &str) -> &'static str {
    match variable {
        "HTTPS_PROXY" => "the environment variable HTTPS_PROXY",
        "https_proxy" => "the environment variable https_proxy",
        "HTTP_PROXY" => "the environment variable HTTP_PROXY",
        _ => "the environment variable http_proxy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_proxy_wins_over_the_environments_and_that_of_another_scheme_is_ignored() {
        let found = |base: &str, given: Option<&str>, variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            let proxy = proxy_to(&Url::parse(base).unwrap(), given.map(Secret::new).as_ref(), variable).unwrap();
            proxy.map(|Proxy { address, source }| format!("{} of {source}", address.url))
        };
        let both = [("HTTP_PROXY", "http://h"), ("https_proxy", "http://s"), ("ALL_PROXY", "http://all")];
        let of = |url: &str, source: &str| Some(format!("{url} of {source}"));
        assert_eq!(found("https://mackerel", None, &both), of("http://s", "the environment variable https_proxy"));
        assert_eq!(found("http://mackerel", None, &both), of("http://h", "the environment variable HTTP_PROXY"));
        assert_eq!(found("http://mackerel", Some("p:1"), &both), of("http://p:1", "`http_proxy`"));
        assert_eq!(found("https://mackerel", None, &both[..1]), None);
        assert_eq!(found("https://mackerel", None, &both[2..]), None, "Go does not read ALL_PROXY");
        let second = found("http://mackerel", None, &[("HTTP_PROXY", ""), ("http_proxy", "x")]);
        assert_eq!(second, of("http://x", "the environment variable http_proxy"));
        let exempt = [("HTTP_PROXY", "http://h"), ("no_proxy", "mackerel")];
        assert_eq!(found("http://mackerel", None, &exempt), None);
        assert_eq!(found("http://mackerel", Some("p:1"), &exempt), None);
        assert_eq!(found("http://localhost:1", Some("p:1"), &[]), None);
    }

    #[test]
    fn an_invalid_proxy_is_named_by_where_it_is_written_unless_nothing_goes_through_it() {
        let variable = |name: &str| match name {
            "HTTPS_PROXY" => Some("\"http://me:hunter2@proxy:8080\"".to_owned()),
            "NO_PROXY" => Some("inside".to_owned()),
            _ => None,
        };
        let error = |base: &str, given: Option<Secret>| {
            let found = proxy_to(&Url::parse(base).unwrap(), given.as_ref(), variable);
            found.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let quoted = "the environment variable HTTPS_PROXY is in quotes: write it without them";
        assert_eq!(error("https://mackerel", None), quoted);
        let given = error("https://mackerel", Some(Secret::new("socks5://me:hunter2@proxy")));
        assert!(given.starts_with("`https_proxy` must be the address of an HTTP proxy"), "{given}");
        assert_eq!(error("https://inside", None) + &error("http://mackerel", None), "");
    }
}
