//! The proxy: which one leads to Mackerel, found as Go's programs find it: that of the configuration, else the environment's, and none
//! for a host that `NO_PROXY` names.

use official::no_proxy::is_direct;
use url::Url;
use wasaba_core::secret::Secret;

/// The address of the proxy on the way to `base`, if there is one: `given` by the configuration, or the environment's.
pub(super) fn proxy_to(
    base: &Url,
    given: Option<&Secret>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Secret> {
    let either = |names: [&str; 2]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let names = if base.scheme() == "https" { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let proxy = given.cloned().or_else(|| either(names).map(Secret::new))?;
    let no_proxy = either(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    let is_direct = base.host_str().is_some_and(|host| is_direct(host, base.port_or_known_default(), &no_proxy));
    (!is_direct).then_some(proxy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_proxy_wins_over_the_environments_and_that_of_another_scheme_is_ignored() {
        let found = |base: &str, given: Option<&str>, variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            proxy_to(&Url::parse(base).unwrap(), given.map(Secret::new).as_ref(), variable)
                .map(|proxy| proxy.reveal().to_owned())
        };
        let both = [("HTTP_PROXY", "http://h"), ("https_proxy", "http://s"), ("ALL_PROXY", "http://all")];
        assert_eq!(found("https://mackerel", None, &both).as_deref(), Some("http://s"));
        assert_eq!(found("http://mackerel", None, &both).as_deref(), Some("http://h"));
        assert_eq!(found("http://mackerel", Some("p:1"), &both).as_deref(), Some("p:1"));
        assert_eq!(found("https://mackerel", None, &both[..1]), None);
        assert_eq!(found("https://mackerel", None, &both[2..]), None, "Go does not read ALL_PROXY");
        assert_eq!(found("http://mackerel", None, &[("HTTP_PROXY", ""), ("http_proxy", "x")]).as_deref(), Some("x"));
        let exempt = [("HTTP_PROXY", "http://h"), ("no_proxy", "mackerel")];
        assert_eq!(found("http://mackerel", None, &exempt), None);
        assert_eq!(found("http://mackerel", Some("p:1"), &exempt), None);
        assert_eq!(found("http://localhost:1", Some("p:1"), &[]), None);
    }
}
