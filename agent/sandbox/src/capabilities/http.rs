//! `http`: requests to granted origins, made by the agent. Redirects are not followed; a name is resolved once, each of its
//! addresses checked, and only a checked one connected to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use url::{Position, Url};
use wasaba_core::secret::Secret;
use wasaba_core::text::printable;
use wasaba_core::tls;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::blocking::Blocking;
use super::connect;
use super::exchange::{Sent, Stopped, Timeouts, exchange};
use super::gate::{Gate, bounded};
use super::grants::{Grants, invalid_url};
use super::memory::Share;
use super::meter::Meter;
use super::script::{self, Script};
use super::types::{Handle, secret};
use crate::contract::wire::http::{self as contract, Error};
use crate::failure::{Failure, Kind, TlsFault};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Headers that belong to the connection, which is the agent's.
const CONNECTION_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header belongs to the connection.
pub(super) fn is_of_connection(name: &str) -> bool {
    CONNECTION_HEADERS.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The methods that a plugin may use.
pub(super) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The most headers of a request, and the most bytes of their names and values.
pub(super) const MOST_HEADERS: usize = 100;
pub(super) const MOST_HEADER_BYTES: usize = 64 << 10;

/// The most bytes of a URL, and of a `host` header. Servers take no longer ones.
pub(super) const MOST_URL_BYTES: usize = 8 << 10;

/// The most bytes of a method, and of a header's name.
pub(super) const MOST_WORD_BYTES: usize = 1_024;

/// How much of a URL is in an error, so that its reason is seen.
const SHOWN_URL_BYTES: usize = 400;

/// What one header of a response takes besides its texts.
pub(super) const HEADER_BYTES: usize = 64;

/// A request that a plugin makes; the contract's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    /// Of the memory limit: of its URL and as many headers as there may be, and of its body.
    _share: Arc<Share>,
    body_share: Option<Arc<Share>>,
}

/// A response; the contract's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug)]
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// Of the memory limit.
    pub(super) share: Share,
}

/// What the requests of one instance may do.
pub(super) struct OfInstance {
    pub(super) gate: Gate,
    blocking: Blocking,
    meter: Arc<Meter>,
    pub(super) body_bytes: usize,
}

impl OfInstance {
    pub(super) fn new(gate: Gate, blocking: Blocking, meter: Arc<Meter>, body_bytes: usize) -> Self {
        Self { gate, blocking, meter, body_bytes }
    }
}

/// All that this capability sees of a call.
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) connections: &'a connect::OfCall,
    /// The call's requests, responses and secrets are in it.
    pub(super) table: &'a mut ResourceTable,
    pub(super) script: Option<&'a Script>,
}

/// A header for a request: a name that is not the connection's, and a value that cannot smuggle a second header. The value may be a
/// secret: neither it nor its length is in an error.
///
/// # Errors
/// The name is invalid or the connection's, or the value is invalid.
pub fn header(name: &str, value: impl AsRef<[u8]>) -> Result<(HeaderName, HeaderValue), Failure> {
    bounded("header's name", name, MOST_WORD_BYTES)?;
    let invalid = || Failure::new(Kind::Invalid, format!("invalid header {name:?}"));
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
    if CONNECTION_HEADERS.contains(&parsed.as_str()) {
        let why = format!("the header `{parsed}` belongs to the connection and cannot be set");
        return Err(Failure::new(Kind::Invalid, why));
    }
    Ok((parsed, HeaderValue::from_bytes(value.as_ref()).map_err(|_| invalid())?))
}

impl Response {
    /// A response whose body is in `share`, and then its headers, too.
    fn new(
        status: u16,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
        mut share: Share,
    ) -> Result<Self, wasmtime::Error> {
        let bytes = headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_BYTES);
        share.resize(body.len() + bytes.sum::<usize>())?;
        Ok(Self { status, headers, body, share })
    }
}

impl Request {
    /// A request without headers and body, of which `share` is in the call's memory.
    pub(super) fn new(method: String, url: String, share: Share) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, _share: Arc::new(share), body_share: None }
    }

    /// Gives it a body, which is in `share`.
    pub(super) fn set_body(&mut self, body: Vec<u8>, share: Share) {
        (self.body, self.body_share) = (Some(body), Some(Arc::new(share)));
    }

    /// Sets a header in place of those with its name: a request never has two, of which a server might believe the other.
    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Failure> {
        // Before it is inserted: a plugin that ignores the error must not add more.
        let others = self.headers.iter().filter(|(other, _)| **other != name);
        let sizes =
            others.chain([(&name, &value)]).map(|(name, value)| name.as_str().len().saturating_add(value.len()));
        let (number, bytes) = sizes.fold((0, 0_usize), |(number, sum), size| (number + 1, sum.saturating_add(size)));
        if number > MOST_HEADERS || bytes > MOST_HEADER_BYTES {
            let most = MOST_HEADER_BYTES >> 10;
            let why = format!("the request has more than {MOST_HEADERS} headers, or more than {most} KiB of them");
            return Err(Failure::new(Kind::Invalid, why));
        }
        self.headers.insert(name, value);
        Ok(())
    }

    /// Sets a header of the plugin's own; `host` needs the operator's explicit choice.
    pub(super) fn set_own(&mut self, gate: &Gate, name: &str, value: impl AsRef<[u8]>) -> Result<(), Failure> {
        let (name, parsed) = header(name, &value)?;
        if name == HOST {
            let value = String::from_utf8_lossy(value.as_ref());
            bounded("header `host`", &value, MOST_URL_BYTES)?;
            gate.check(|grants| grants.check_virtual_host(&value))?;
        }
        self.set(name, parsed)
    }

    /// Sets a header of which `prefix` is not a secret; no secret says to which host a request is.
    fn set_secret(&mut self, name: &str, prefix: &str, secret: &Secret) -> Result<(), Failure> {
        let (name, mut value) = header(name, format!("{prefix}{}", secret.reveal()))?;
        if name == HOST {
            return Err(Failure::new(Kind::Invalid, "the header `host` cannot be a secret"));
        }
        value.set_sensitive(true);
        self.set(name, value)
    }

    /// Sets the headers in the lines that the operator wrote. They are a secret: an error says which line it is, not what is in it.
    fn set_lines(&mut self, lines: &Secret) -> Result<(), Failure> {
        for (number, line) in lines.reveal().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let refused =
                |what: &str| Failure::new(Kind::Invalid, format!("line {} of the headers {what}", number + 1));
            let Some((name, value)) = line.split_once(':') else {
                return Err(refused("is invalid; write `name: value`"));
            };
            if is_of_connection(name.trim()) {
                return Err(refused("sets a header that belongs to the connection and cannot be set"));
            }
            let (name, mut value) =
                header(name.trim(), value.trim()).map_err(|_| refused("is invalid; write `name: value`"))?;
            value.set_sensitive(true);
            self.set(name, value)?;
        }
        Ok(())
    }

    /// Its URL.
    fn parsed_url(&self) -> Result<Url, Failure> {
        bounded("URL", &self.url, MOST_URL_BYTES)?;
        Url::parse(&self.url)
            .map_err(|error| Failure::new(Kind::Invalid, format!("invalid URL: {}", invalid_url(error, &self.url))))
    }

    /// As a script sees it.
    fn shown(&self, headers: &HeaderMap) -> script::Request {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        script::Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: self.body.clone(),
        }
    }
}

/// The value of `authorization` for `user:password` (RFC 7617).
fn basic(user_and_password: &Secret) -> Result<HeaderValue, Failure> {
    let text = format!("Basic {}", base64(user_and_password.reveal().as_bytes()));
    let (_, mut value) = header("authorization", &text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().zip([16, 8, 0]).map(|(byte, shift)| u32::from(*byte) << shift).sum::<u32>();
        let digit = |shift: &u32| DIGITS.get((bits >> shift & 63) as usize).copied().map_or('=', char::from);
        let digits = [18, 12, 6, 0].iter().take(three.len() + 1).map(digit);
        text.extend(digits.chain(std::iter::repeat('=')).take(4));
    }
    text
}

/// What sends a request: all of a view but its table, which cannot be shared while it waits. Both doors to HTTP send with it.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) connections: &'a connect::OfCall,
    pub(super) script: Option<&'a Script>,
}

/// A request that was found to be granted.
pub(super) struct Granted {
    request: Request,
    method: Method,
    url: Url,
}

impl Granted {
    /// The request.
    pub(super) fn request_mut(&mut self) -> &mut Request {
        &mut self.request
    }
}

impl Sender<'_> {
    /// Asks the grants for a request, before anything is done for it.
    ///
    /// # Errors
    /// It is refused, which is counted, or makes no sense.
    pub(super) fn granted(self, request: Request) -> Result<Granted, Failure> {
        let gate = &self.instance.gate;
        let invalid = |why: String| Failure::new(Kind::Invalid, why);
        let url = request.parsed_url()?;
        bounded("method", &request.method, MOST_WORD_BYTES)?;
        gate.check(|grants| grants.check_url(&url))?;
        if !METHODS.contains(&request.method.as_str()) {
            return Err(invalid(format!("invalid method {:?}: use one of {}", request.method, METHODS.join(", "))));
        }
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        Ok(Granted { request, method, url })
    }

    /// Sends a granted request, and reads the whole response.
    ///
    /// # Errors
    /// It failed, or the call's memory is used up.
    pub(super) async fn send(self, granted: Granted, timeouts: Timeouts) -> Result<Response, Stopped> {
        let page = page(&granted.url);
        self.sent(granted, timeouts).await.map_err(|stopped| match stopped {
            Stopped::Failed(failure) => failure.at(&page).into(),
            exceeded @ Stopped::Exceeded(_) => exceeded,
        })
    }

    async fn sent(self, granted: Granted, timeouts: Timeouts) -> Result<Response, Stopped> {
        let OfInstance { gate, blocking, meter, body_bytes } = self.instance;
        let Granted { request, method, url } = granted;
        let mut share = self.connections.budget.hold(0).map_err(Stopped::Exceeded)?;
        let mut headers = request.headers.clone();
        if let Some(user) =
            Grants::credentials_for(gate.grants(), &url).filter(|_| !headers.contains_key(AUTHORIZATION))
        {
            headers.insert(AUTHORIZATION, basic(user)?);
        }
        if let Some(script) = self.script {
            let unreachable = |why| Failure::new(Kind::Unreachable, why);
            let script::Response { status, headers, body } =
                script.fetch(&request.shown(&headers)).map_err(unreachable)?;
            if body.len() > *body_bytes {
                return Err(too_large(*body_bytes).into());
            }
            let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
            return Response::new(status, headers, body, share).map_err(Stopped::Exceeded);
        }
        let _slot = self.connections.slot()?;
        if let Some(body) = &request.body {
            meter.sent_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
        let sent = Sent { method, url: &url, headers, body: request.body };
        let sending = exchange(sent, (*body_bytes, &mut share), timeouts, gate, blocking);
        let (status, headers, body) = self.connections.patience.wait(None, sending).await??;
        meter.received_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Response::new(status, headers.collect(), body, share).map_err(Stopped::Exceeded)
    }
}

/// A URL as errors name it: without a user and a query, which may be secret.
fn page(url: &Url) -> String {
    let page = format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPath]);
    printable(&page, SHOWN_URL_BYTES)
}

/// The failure of a response whose body has more bytes than this.
pub(super) fn too_large(most: usize) -> Failure {
    Failure::new(Kind::TooLarge, format!("the response is larger than {most} bytes (limit `body_kib`)"))
}

impl contract::Host for View<'_> {
    async fn send(&mut self, request: Resource<Request>) -> Result<Result<Resource<Response>, Error>> {
        let View { instance, connections, script, .. } = *self;
        let request = self.table.get(&request)?.clone();
        let sender = Sender { instance, connections, script };
        let granted = match sender.granted(request) {
            Ok(granted) => granted,
            Err(failure) => return Ok(Err(failure.into())),
        };
        match sender.send(granted, Timeouts::default()).await {
            Ok(response) => Ok(Ok(self.table.push(response)?)),
            Err(Stopped::Failed(failure)) => Ok(Err(failure.into())),
            Err(Stopped::Exceeded(error)) => Err(error),
        }
    }
}

impl contract::HostRequest for View<'_> {
    async fn new(&mut self, method: String, url: String) -> Result<Resource<Request>> {
        let share = self.connections.budget.hold(method.len() + url.len() + MOST_HEADER_BYTES)?;
        Ok(self.table.push(Request::new(method, url, share))?)
    }

    async fn set_header(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: String,
    ) -> Result<Result<(), Error>> {
        let set = self.table.get_mut(&request)?.set_own(&self.instance.gate, &name, &value);
        Ok(set.map_err(Error::from))
    }

    async fn set_header_secret(
        &mut self,
        request: Resource<Request>,
        name: String,
        prefix: String,
        handle: Resource<Handle>,
    ) -> Result<Result<(), Error>> {
        let secret = secret(self.table, &handle)?;
        Ok(self.table.get_mut(&request)?.set_secret(&name, &prefix, &secret).map_err(Error::from))
    }

    async fn set_basic_auth(
        &mut self,
        request: Resource<Request>,
        user: String,
        password: Resource<Handle>,
    ) -> Result<Result<(), Error>> {
        let both = Secret::new(format!("{user}:{}", secret(self.table, &password)?.reveal()));
        let request = self.table.get_mut(&request)?;
        Ok(basic(&both).and_then(|value| request.set(AUTHORIZATION, value)).map_err(Error::from))
    }

    async fn set_header_lines(
        &mut self,
        request: Resource<Request>,
        lines: Resource<Handle>,
    ) -> Result<Result<(), Error>> {
        let lines = secret(self.table, &lines)?;
        Ok(self.table.get_mut(&request)?.set_lines(&lines).map_err(Error::from))
    }

    async fn has_header(&mut self, request: Resource<Request>, name: String) -> Result<bool> {
        let request = self.table.get(&request)?;
        // The agent sends a user of the URL itself.
        let url = request.parsed_url().ok();
        let is_of_url = || url.is_some_and(|url| self.instance.gate.grants().credentials_for(&url).is_some());
        Ok(request.headers.contains_key(&name) || (name.eq_ignore_ascii_case("authorization") && is_of_url()))
    }

    async fn set_body(&mut self, request: Resource<Request>, body: Vec<u8>) -> Result<()> {
        let share = self.connections.budget.hold(body.len())?;
        self.table.get_mut(&request)?.set_body(body, share);
        Ok(())
    }

    async fn drop(&mut self, request: Resource<Request>) -> Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl contract::HostResponse for View<'_> {
    async fn status(&mut self, response: Resource<Response>) -> Result<u16> {
        Ok(self.table.get(&response)?.status)
    }

    async fn headers(&mut self, response: Resource<Response>) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(self.table.get(&response)?.headers.clone())
    }

    async fn body(&mut self, response: Resource<Response>) -> Result<Result<Vec<u8>, Error>> {
        Ok(Ok(self.table.get(&response)?.body.clone()))
    }

    async fn drop(&mut self, response: Resource<Response>) -> Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

/// The failure of a connection with this text: of the kind `other`, unless TLS is the reason.
pub(super) fn failure_of(error: &(dyn std::error::Error + 'static), other: Kind, text: impl Into<String>) -> Failure {
    match tls::error_of(error) {
        Some(error) => of_handshake(error, text),
        None => Failure::new(other, text),
    }
}

/// Who has to act: the operator, if one side does not trust the other's certificate.
fn of_handshake(error: &rustls::Error, text: impl Into<String>) -> Failure {
    use rustls::Error as Tls;
    let fault = match error {
        // With another fault, naming its authority would not help.
        Tls::InvalidCertificate(_) if !tls::lacks_authority(error) => None,
        Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented => Some(TlsFault::Certificate),
        Tls::AlertReceived(_) => Some(TlsFault::Alert),
        Tls::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Some(TlsFault::NotTls),
        _ => None,
    };
    Failure { tls: fault, ..Failure::new(kind_of_handshake(error), text) }
}

fn kind_of_handshake(error: &rustls::Error) -> Kind {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Kind::Unauthorized,
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired,
        ) => Kind::Unauthorized,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use wasaba_core::setting::Reach;

    use super::contract::{Host, HostRequest, HostResponse};
    use super::*;
    use crate::capabilities::grants::Origin;
    use crate::capabilities::memory::Budget;
    use crate::capabilities::script::HttpAnswer;

    fn request() -> Request {
        let share = Budget::new(100, Arc::default()).hold(9).unwrap();
        Request::new("GET".into(), "http://a/".into(), share)
    }

    fn granting(entry: &str) -> Grants {
        let mut grants = Grants { place: "[plugin.metrics.web]".into(), reach: Reach::ALL, ..Grants::default() };
        grants.allow(entry).unwrap();
        grants
    }

    fn gate(grants: Grants) -> Gate {
        Gate::new(Arc::new(grants), Arc::default())
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        for name in CONNECTION_HEADERS {
            let refused = request().set_own(&Gate::default(), &name.to_uppercase(), "x").unwrap_err();
            assert!(refused.kind == Kind::Invalid && refused.text.contains(name), "{refused:?}");
        }
    }

    #[test]
    fn a_header_cannot_smuggle_a_second_one_and_its_value_is_not_in_the_error() {
        let refused = request().set_own(&Gate::default(), "authorization", "hunter2\r\nx: y").unwrap_err();
        assert!(refused.text.contains("authorization") && !refused.text.contains("hunter2"), "{refused:?}");
    }

    #[test]
    fn no_part_of_a_secret_is_in_the_error_about_a_header_that_is_one() {
        for secret in ["Top Hunter2@1: x", "hunter2", "x: hunter2\u{7f}\u{1}", "connection: hunter2", "a: b\n: hunter2"]
        {
            let secret = Secret::new(secret);
            let refused = request().set_lines(&secret).unwrap_err();
            assert!(refused.kind == Kind::Invalid && refused.text.starts_with("line "), "{refused:?}");
            assert!(
                !refused.text.to_lowercase().contains("hunter2") && !refused.text.contains("connection:"),
                "{refused:?}"
            );
            if let Err(refused) = request().set_secret("x-token", "Bearer ", &secret) {
                assert!(!refused.text.contains("hunter2"), "{refused:?}");
            }
            let refused = request().set_secret("Host", "", &Secret::new("pa\"ss.hunter2")).unwrap_err();
            assert_eq!(refused.text, "the header `host` cannot be a secret");
        }
    }

    #[test]
    fn a_virtual_host_needs_the_operators_word_and_there_is_never_a_second_one() {
        let refused = request().set_own(&Gate::default(), "Host", "virtual").unwrap_err();
        assert!(refused.kind == Kind::Denied && refused.text.contains("`virtual_host = \"virtual\"`"), "{refused:?}");
        let granted = gate(Grants { virtual_host: Some("virtual".into()), ..Grants::default() });
        let mut request = request();
        request.set_own(&granted, "Host", "virtual").unwrap();
        // In the operator's own lines it is the operator's explicit choice; the last one counts.
        request.set_lines(&Secret::new("HOST: own\nX-A: 1\r\n\nx-a:2:3")).unwrap();
        let all = |name| request.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("host"), all("x-a")), (vec!["own"], vec!["2:3"]));
    }

    #[test]
    fn a_request_has_a_bounded_number_and_size_of_headers() {
        let mut request = request();
        let mut set = |number: usize| request.set_own(&Gate::default(), &format!("x-{number}"), "");
        (0..MOST_HEADERS).for_each(|number| set(number).unwrap());
        for number in MOST_HEADERS..40_000 {
            assert!(set(number).unwrap_err().text.contains("100 headers"));
        }
        set(0).unwrap();
        assert_eq!(request.headers.len(), MOST_HEADERS, "what is refused is not kept");
        let mut request = self::request();
        let half = "y".repeat(MOST_HEADER_BYTES / 2);
        request.set_own(&Gate::default(), "x", &half).unwrap();
        let refused = request.set_own(&Gate::default(), "z", &half).unwrap_err();
        assert!(refused.text.contains("64 KiB") && request.headers.len() == 1, "{refused:?}");
        request.set_own(&Gate::default(), "x", &half).unwrap();
        let lines = (0..=MOST_HEADERS).map(|number| format!("x-{number}: y\n")).collect::<String>();
        assert!(self::request().set_lines(&Secret::new(lines)).unwrap_err().text.contains("100 headers"));
    }

    #[test]
    fn base64_matches_the_vectors_of_its_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    /// What a view looks at.
    struct State {
        instance: OfInstance,
        meter: Arc<Meter>,
        connections: connect::OfCall,
        table: ResourceTable,
        script: Option<Script>,
    }

    impl State {
        fn new(grants: Grants, body_bytes: usize) -> Self {
            let meter = Arc::<Meter>::default();
            let gate = Gate::new(Arc::new(grants), Arc::clone(&meter));
            Self {
                instance: OfInstance::new(gate, Blocking::default(), Arc::clone(&meter), body_bytes),
                meter,
                connections: connect::OfCall::new(1, Duration::from_secs(10), Budget::new(64 << 20, Arc::default())),
                table: ResourceTable::new(),
                script: None,
            }
        }

        fn view(&mut self) -> View<'_> {
            let Self { instance, connections, table, script, .. } = self;
            View { instance, connections, table, script: script.as_ref() }
        }

        /// Sends a request and returns the body of its response.
        async fn fetch(&mut self, method: &str, url: &str) -> Result<Vec<u8>, Error> {
            let mut view = self.view();
            let request = view.new(method.to_owned(), url.to_owned()).await.unwrap();
            let response = view.send(request).await.unwrap()?;
            view.body(response).await.unwrap()
        }
    }

    #[tokio::test]
    async fn an_origin_that_was_not_granted_is_denied_counted_and_never_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut state = State::new(granting("http://127.0.0.1:1"), 100);
        let refused = state.fetch("GET", &format!("http://127.0.0.1:{port}/")).await.unwrap_err();
        assert!(refused.kind == "denied" && refused.message.contains("allow = "), "{refused:?}");
        assert_eq!(state.meter.refusals(), 1);
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "it was connected to");
    }

    #[tokio::test]
    async fn what_a_plugin_holds_of_requests_and_answers_counts_as_its_memory_until_it_drops_that() {
        let answer = || HttpAnswer {
            method: "GET".into(),
            url: "http://a/".into(),
            request_headers: Vec::new(),
            request_body: None,
            response: Ok(script::Response { status: 200, headers: Vec::new(), body: vec![0; 10_000] }),
        };
        let mut state = State::new(granting("http://a:80"), 10_000);
        let mut script = Script::default();
        script.http.extend((0..100).map(|_| answer()));
        state.script = Some(script);
        state.connections.budget = Budget::new(MOST_HEADER_BYTES * 2, Arc::default());
        let mut view = state.view();
        let id = view.new("GET".to_owned(), "http://a/".to_owned()).await.unwrap().rep();
        let request = || Resource::new_borrow(id);
        assert!(view.new("GET".to_owned(), "http://a/".to_owned()).await.is_err(), "a second one is too much");
        assert!(view.set_body(request(), vec![0; MOST_HEADER_BYTES]).await.is_err());
        let mut held = Vec::new();
        while let Ok(response) = view.send(request()).await {
            held.push(response.unwrap());
        }
        assert_eq!(held.len(), 6, "of ten kilobytes each");
        for response in held {
            HostResponse::drop(&mut view, response).await.unwrap();
        }
        assert!(view.send(request()).await.is_ok());
    }

    #[tokio::test]
    async fn an_error_names_the_page_without_its_query_and_a_refusal_names_the_grant_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut state = State::new(granting(&format!("http://127.0.0.1:{port}")), 100);
        let down = state.fetch("GET", &format!("http://127.0.0.1:{port}/a/b?token=hunter2#c")).await.unwrap_err();
        assert_eq!(down.message, format!("http://127.0.0.1:{port}/a/b: Connection refused"));
        let denied = state.fetch("GET", "http://elsewhere/a?token=hunter2").await.unwrap_err();
        assert!(denied.message.starts_with("no grant for http://elsewhere:80; "), "{}", denied.message);
    }

    #[tokio::test]
    async fn an_odd_method_is_refused() {
        for method in ["CONNECT", "TRACE", "get", "PURGE", ""] {
            let refused = State::new(granting("http://127.0.0.1:1"), 9).fetch(method, "http://127.0.0.1:1/").await;
            let refused = refused.unwrap_err();
            assert!(refused.kind == "invalid" && refused.message.contains("OPTIONS"), "{method}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn an_encrypted_page_is_fetched_only_from_a_server_whose_authority_the_operator_named() {
        let authority = wasaba_testing::authority::Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = authority.server("127.0.0.1", false);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-raw: \xff\r\n\r\nok").await.unwrap();
                stream.shutdown().await.ok();
            }
        });
        let (entry, url) = (format!("https://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}/"));
        let mut trusting = granting(&entry);
        trusting.trust.authority = Some(authority.file());
        let mut state = State::new(trusting, 100);
        let mut view = state.view();
        let request = view.new("GET".into(), url.clone()).await.unwrap();
        let response = view.send(request).await.unwrap().unwrap().rep();
        let response = || Resource::new_borrow(response);
        assert_eq!(view.body(response()).await.unwrap().unwrap(), b"ok");
        let headers = view.headers(response()).await.unwrap();
        assert!(headers.contains(&("x-raw".into(), vec![0xff])), "{headers:?}");
        let stranger = State::new(granting(&entry), 100).fetch("GET", &url).await.unwrap_err();
        assert!(stranger.kind == "unauthorized" && stranger.message.contains("certificate"), "{stranger:?}");
        assert!(
            stranger.message.contains("install its authority into /etc/ssl/certs, or set SSL_CERT_FILE"),
            "{stranger:?}"
        );
        assert_eq!(stranger.attributes, [("tls".to_owned(), "certificate".to_owned())]);
    }

    #[tokio::test]
    async fn each_request_makes_and_verifies_a_connection_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let mut kept = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                kept.push(stream);
            }
        };
        let mut state = State::new(granting(&format!("http://127.0.0.1:{port}")), 100);
        let url = format!("http://127.0.0.1:{port}/");
        let fetch = async {
            for _ in 0..2 {
                assert_eq!(state.fetch("GET", &url).await.unwrap(), b"ok");
            }
        };
        // The server keeps both open, and a second request on the first would wait for ever.
        tokio::join!(serve, fetch);
    }

    #[tokio::test]
    async fn a_server_that_sends_only_informational_responses_fails_its_own_request_alone() {
        let listeners =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let [flood, honest] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let [flooding, serving] = listeners;
        tokio::spawn(async move {
            let heads = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(500);
            while let Ok((mut stream, _)) = flooding.accept().await {
                while stream.write_all(&heads).await.is_ok() {}
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = serving.accept().await {
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        });
        let of = |address| (State::new(granting(&format!("http://{address}")), 100), format!("http://{address}/"));
        let ((mut one, bad), (mut other, good)) = (of(flood), of(honest));
        let (failed, fetched) = tokio::join!(one.fetch("GET", &bad), other.fetch("GET", &good));
        assert_eq!(fetched.unwrap(), b"ok");
        let failed = failed.unwrap_err();
        let said = failed.message.contains("nothing but informational responses");
        assert!(failed.kind == "unreachable" && said, "{failed:?}");
    }

    #[tokio::test]
    async fn an_informational_response_before_the_final_one_is_skipped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..read]).to_ascii_lowercase()
        };
        let mut state = State::new(granting(&format!("http://{address}")), 100);
        let url = format!("http://{address}/a%20b?c=|#d");
        let (request, fetched) = tokio::join!(serve, state.fetch("POST", &url));
        assert_eq!(fetched.unwrap(), b"ok");
        let lines = request.trim_end().split("\r\n").collect::<std::collections::BTreeSet<_>>();
        let host = format!("host: {address}");
        let expected = ["post /a%20b?c=| http/1.1", "accept: */*", &host];
        assert_eq!(lines, expected.into());
    }

    #[tokio::test]
    async fn an_error_of_tls_says_in_a_word_what_went_wrong() {
        let of = |error: rustls::Error| {
            let carried = io::Error::other(error);
            let Error { kind, attributes, .. } = failure_of(&carried, Kind::Unreachable, "x").into();
            (kind, attributes.into_iter().map(|(key, word)| format!("{key}={word}")).collect::<Vec<_>>().concat())
        };
        let alert = |alert| rustls::Error::AlertReceived(alert);
        for (error, kind, word) in [
            (alert(rustls::AlertDescription::CertificateRequired), "unauthorized", "tls=alert"),
            (alert(rustls::AlertDescription::HandshakeFailure), "failed", "tls=alert"),
            (rustls::Error::NoCertificatesPresented, "unauthorized", "tls=certificate"),
            (rustls::CertificateError::UnknownIssuer.into(), "unauthorized", "tls=certificate"),
            (rustls::CertificateError::Expired.into(), "unauthorized", ""),
            (rustls::InvalidMessage::InvalidContentType.into(), "failed", "tls=not-tls"),
            (rustls::Error::DecryptError, "failed", ""),
        ] {
            assert_eq!(of(error.clone()), (kind.to_owned(), word.to_owned()), "{error:?}");
        }
        let other: Error = failure_of(&io::Error::other("x"), Kind::Unreachable, "x").into();
        assert_eq!((other.kind.as_str(), other.attributes.len()), ("unreachable", 0));
    }

    #[tokio::test]
    async fn a_script_stands_in_for_the_network_but_not_for_grants_and_limits() {
        let answer = |url: &str, bytes| HttpAnswer {
            method: "GET".into(),
            url: url.into(),
            request_headers: Vec::new(),
            request_body: None,
            response: Ok(script::Response { status: 200, headers: Vec::new(), body: vec![0; bytes] }),
        };
        let mut script = Script::default();
        script.http.extend([answer("http://a/", 8), answer("http://a/big", 9)]);
        let mut state = State::new(granting("http://a:80"), 8);
        state.script = Some(script);
        assert_eq!(state.fetch("GET", "http://a/").await.unwrap().len(), 8);
        let large = state.fetch("GET", "http://a/big").await.unwrap_err();
        assert!(large.kind == "too-large" && large.message.contains("`body_kib`"), "{large:?}");
        assert_eq!(state.fetch("GET", "http://b/").await.unwrap_err().kind, "denied");
    }

    #[tokio::test]
    async fn secrets_reach_the_server_and_a_user_of_a_url_only_where_no_other_is_set() {
        let mut grants = granting("http://a:80");
        let origin = Origin::of_url("http://a").unwrap();
        grants.credentials.push((origin, Secret::new("bob:p@ss")));
        let mut script = Script::default();
        for (path, header) in
            [("/url", "Basic Ym9iOnBAc3M="), ("/bearer", "Bearer hunter2"), ("/basic", "Basic bWU6aHVudGVyMg==")]
        {
            script.http.push(HttpAnswer {
                method: "GET".into(),
                url: format!("http://a{path}"),
                request_headers: vec![("authorization".into(), header.into())],
                request_body: None,
                response: Ok(script::Response { status: 200, headers: Vec::new(), body: Vec::new() }),
            });
        }
        let mut state = State::new(grants, 8);
        state.script = Some(script);
        let handle = state.table.push(Handle(Secret::new("hunter2"))).unwrap().rep();
        let handle = || Resource::new_borrow(handle);
        for path in ["url", "bearer", "basic"] {
            let mut view = state.view();
            let request = view.new("GET".into(), format!("http://a/{path}")).await.unwrap().rep();
            let request = || Resource::new_borrow(request);
            match path {
                "bearer" => {
                    let (name, prefix) = ("Authorization".to_owned(), "Bearer ".to_owned());
                    view.set_header_secret(request(), name, prefix, handle()).await.unwrap().unwrap();
                }
                "basic" => view.set_basic_auth(request(), "me".into(), handle()).await.unwrap().unwrap(),
                _ => {}
            }
            assert!(view.has_header(request(), "AUTHORIZATION".into()).await.unwrap(), "{path}");
            assert!(!view.has_header(request(), "host".into()).await.unwrap());
            assert_eq!(view.send(request()).await.unwrap().map(drop).map_err(|error| error.message), Ok(()));
        }
        assert_eq!(state.script.unwrap().deviations(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_url_a_method_and_a_header_are_refused_by_their_length_before_they_are_read() {
        let mut state = State::new(granting("http://a:80"), 8);
        let long = |begin: &str| format!("{begin}{}", "a".repeat(8_000_000 - begin.len()));
        let refused = state.fetch("GET", &long("http://a/")).await.unwrap_err();
        assert_eq!(
            (refused.kind.as_str(), refused.message.as_str()),
            ("invalid", "a URL of 8000000 bytes, more than 8192")
        );
        let refused = state.fetch(&long("GET"), "http://a/").await.unwrap_err();
        assert_eq!(refused.message, "a method of 8000000 bytes, more than 1024");
        let set = |name: &str, value: &str| request().set_own(&Gate::default(), name, value).unwrap_err().text;
        assert_eq!(set(&long("x-"), ""), "a header's name of 8000000 bytes, more than 1024");
        assert_eq!(set("host", &long("h")), "a header `host` of 8000000 bytes, more than 8192");
        let mut grants = granting("http://a:80");
        grants.credentials.push((Origin::of_url("http://a").unwrap(), Secret::new("bob:p@ss")));
        let mut state = State::new(grants, 8);
        let mut view = state.view();
        let mut has_user = async |url: String| {
            let request = view.new("GET".into(), url).await.unwrap();
            view.has_header(request, "authorization".into()).await.unwrap()
        };
        assert!(has_user("http://a/".into()).await);
        assert!(!has_user(long("http://a/")).await, "it is not sent");
    }
}
