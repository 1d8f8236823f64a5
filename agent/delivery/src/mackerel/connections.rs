//! The connections to Mackerel: an HTTP client that keeps them, and another one after the machine's certificate authorities were read
//! again. A connection is verified when it is made, and would outlive an authority that was removed.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::redirect;
use url::Url;
use wasaba_core::{names, tls};

use super::FatalError;
use super::client::chain;

/// The limit for a whole request, as in the official agent.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The limit for connecting, the look-up of the name included; several addresses share it.
const CONNECT: Duration = Duration::from_secs(20);

/// Each redirect is another request.
const MOST_REDIRECTS: usize = 3;

/// What each client is made of.
pub(super) struct Recipe {
    /// The server: only there a redirect is followed.
    pub(super) base: Url,
    /// Those of each request.
    pub(super) headers: HeaderMap,
    pub(super) user_agent: String,
    pub(super) no_keep_alive: bool,
    pub(super) proxy: Option<reqwest::Proxy>,
}

/// The connections of one client of Mackerel's API.
pub(super) struct Connections {
    recipe: Recipe,
    /// With the authorities that its connections were verified by.
    kept: Mutex<(u64, reqwest::Client)>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connections") // a proxy may have a password
    }
}

impl Connections {
    /// Prepares everything, but reads no file and does not connect.
    ///
    /// # Errors
    /// The HTTP library does not accept the recipe.
    pub(super) fn new(recipe: Recipe) -> Result<Self, FatalError> {
        let kept = Mutex::new((recipe.authorities(), recipe.client()?));
        Ok(Self { recipe, kept })
    }

    /// The HTTP client. None of its connections was verified by authorities that were read before the present ones.
    ///
    /// # Errors
    /// As [`Connections::new`].
    pub(super) fn client(&self) -> Result<reqwest::Client, FatalError> {
        self.verified_by(self.recipe.authorities())
    }

    fn verified_by(&self, authorities: u64) -> Result<reqwest::Client, FatalError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != authorities {
            *kept = (authorities, self.recipe.client()?);
        }
        Ok(kept.1.clone())
    }
}

impl Recipe {
    fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// A number that is another one once the authorities were read again; without TLS, nothing is verified.
    fn authorities(&self) -> u64 {
        if self.is_encrypted() { tls::times_read_again() } else { 0 }
    }

    fn client(&self) -> Result<reqwest::Client, FatalError> {
        // reqwest needs a TLS configuration even for plain HTTP.
        let tls = if self.is_encrypted() { tls::verifying() } else { tls::none() };
        let tls = tls.map_err(|error| FatalError(format!("cannot set up TLS: {error}")))?;
        let own_origin = self.base.clone();
        #[expect(clippy::disallowed_methods, reason = "it resolves names by `names`")]
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .dns_resolver(Resolver)
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(if self.no_keep_alive { 0 } else { usize::MAX })
            .default_headers(self.headers.clone())
            .no_proxy() // `Route` finds the proxy
            .user_agent(&self.user_agent)
            // reqwest would send the key to other servers too.
            .redirect(redirect::Policy::custom(move |attempt| {
                // Other redirects turn a POST into a GET, whose answer would say nothing about what was posted.
                let keeps_method = matches!(attempt.status().as_u16(), 307 | 308);
                let is_circle = attempt.previous().contains(attempt.url());
                let is_own = attempt.url().origin() == own_origin.origin();
                if keeps_method && is_own && !is_circle && attempt.previous().len() <= MOST_REDIRECTS {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }))
            .tls_backend_preconfigured(tls);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.build().map_err(|error| FatalError(format!("cannot create an HTTP client: {}", chain(&error))))
    }
}

/// The agent's resolver, for an HTTP client.
#[derive(Clone, Copy, Debug)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = names::lookup(name.as_str()).await?;
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::mackerel::testing;

    #[tokio::test]
    async fn a_connection_is_used_again_until_the_authorities_were_read_again_and_then_never() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(testing::serve_alone(stream));
            }
        });
        let recipe = Recipe {
            base: Url::parse(&base).unwrap(),
            headers: HeaderMap::new(),
            user_agent: "a".to_owned(),
            no_keep_alive: false,
            proxy: None,
        };
        let connections = Connections::new(recipe).unwrap();
        for (authorities, expected) in [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3)] {
            let client = connections.verified_by(authorities).unwrap();
            assert_eq!(client.get(&base).send().await.unwrap().text().await.unwrap(), "{}");
            assert_eq!(made.load(Ordering::SeqCst), expected, "{authorities}");
        }
    }
}
