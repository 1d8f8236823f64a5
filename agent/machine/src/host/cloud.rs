//! The cloud: what the metadata service of EC2, Google Compute Engine or Azure says about this machine, and its identifier on
//! Mackerel.
//!
//! The services are queried as by the official agent, and never through a proxy. What was found once is kept: a slow service later
//! does not turn this machine into another host.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::roots::Roots;

/// The limit of one request: connecting, sending, and the whole response.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How often a request to Google's or Azure's service is sent until there is a response.
const TRIES: usize = 2;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// The lifetime that is requested for a token of EC2.
const TOKEN_SECONDS: &str = "21600";

/// The longest response; the largest that is real, Google's whole tree, has some ten kilobytes.
const MOST_BYTES: usize = 1 << 20;

/// The address of EC2's and Azure's services, and the name of Google's, which only its own networks resolve.
const LINK_LOCAL: &str = "http://169.254.169.254";
const GOOGLE: &str = "http://metadata.google.internal.";

/// The cloud whose service is queried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloudPlatform {
    /// The one that responds.
    #[default]
    Auto,
    /// None.
    None,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
    /// Azure's virtual machines.
    AzureVm,
}

impl CloudPlatform {
    /// The platform called `word` in a configuration.
    ///
    /// # Errors
    /// An unknown word; the message lists the valid ones.
    pub fn named(word: &str) -> Result<Self, String> {
        Ok(match word {
            "" | "auto" => Self::Auto,
            "none" => Self::None,
            "ec2" => Self::Ec2,
            "gce" => Self::Gce,
            "azurevm" => Self::AzureVm,
            _ => return Err("must be one of auto, none, ec2, gce, azurevm".to_owned()),
        })
    }
}

/// What a cloud says about this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cloud {
    /// `ec2`, `gce` or `AzureVM`.
    pub provider: &'static str,
    /// The values that Mackerel shows.
    pub metadata: BTreeMap<&'static str, String>,
    /// The identifier of this machine on Mackerel.
    #[serde(skip)]
    pub custom_identifier: Option<String>,
}

/// The last result, for as long as the same services are queried.
#[derive(Debug, Default)]
pub struct Found(Mutex<Option<(Query, Cloud)>>);

/// The services that are queried, and where.
type Query = (CloudPlatform, Option<String>);

impl Found {
    /// As [`detect`], or the last result if no service responds now.
    pub async fn detect(&self, platform: CloudPlatform, roots: &Roots) -> Option<Cloud> {
        self.or_last((platform, roots.metadata.clone()), detect(platform, roots).await)
    }

    fn or_last(&self, query: Query, found: Option<Cloud>) -> Option<Cloud> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A result of other services is dropped.
        let known = last.take().filter(|(before, _)| *before == query).map(|(_, cloud)| cloud);
        let cloud = found.or(known);
        *last = cloud.clone().map(|cloud| (query, cloud));
        cloud
    }
}

/// Queries the services that `platform` names.
pub async fn detect(platform: CloudPlatform, roots: &Roots) -> Option<Cloud> {
    if platform == CloudPlatform::None {
        return None;
    }
    let service = Service::new(roots);
    match platform {
        CloudPlatform::None => None,
        CloudPlatform::Ec2 => service.ec2().await,
        CloudPlatform::Gce => service.gce(TRIES).await,
        CloudPlatform::AzureVm => service.azure(TRIES).await,
        CloudPlatform::Auto => {
            let mut clouds = FuturesUnordered::<Pin<Box<dyn Future<Output = Option<Cloud>> + Send>>>::new();
            if is_ec2_machine(&roots.sys) {
                clouds.push(Box::pin(service.ec2()));
            }
            if let Some(tries) = tries(&roots.sys, "product_name", "Google") {
                clouds.push(Box::pin(service.gce(tries)));
            }
            if let Some(tries) = tries(&roots.sys, "sys_vendor", "Microsoft") {
                clouds.push(Box::pin(service.azure(tries)));
            }
            // The first one wins; the other requests are dropped.
            while let Some(cloud) = clouds.next().await {
                if cloud.is_some() {
                    return cloud;
                }
            }
            None
        }
    }
}

/// Whether the machine's UUID begins with `ec2`, in either byte order. A machine without one is not queried: that would only wait
/// for timeouts.
fn is_ec2_machine(sys: &Path) -> bool {
    let files = ["hypervisor/uuid", "devices/virtual/dmi/id/product_uuid"];
    let uuids = files.iter().filter_map(|file| std::fs::read_to_string(sys.join(file)).ok());
    uuids.into_iter().any(|uuid| {
        let uuid = uuid.trim().to_ascii_lowercase();
        let swapped = [6, 4, 2, 0].map(|at| uuid.get(at..at + 2).unwrap_or_default()).concat();
        uuid.starts_with("ec2") || swapped.starts_with("ec2")
    })
}

/// How often the service of `maker` is tried: never if the firmware names another maker, once if it names none, as in containers.
fn tries(sys: &Path, file: &str, maker: &str) -> Option<usize> {
    let named = std::fs::read_to_string(sys.join("class/dmi/id").join(file)).unwrap_or_default();
    match named.trim() {
        "" => Some(1),
        named => named.starts_with(maker).then_some(TRIES),
    }
}

struct Service {
    link_local: String,
    google: String,
}

impl Service {
    fn new(roots: &Roots) -> Self {
        let base = |default: &str| roots.metadata.clone().unwrap_or_else(|| default.to_owned());
        Self { link_local: base(LINK_LOCAL), google: base(GOOGLE) }
    }

    /// The text at `url`, within [`TIMEOUT`]; see [`text`].
    async fn text(&self, method: Method, url: &str, headers: Headers<'_>) -> Result<Option<String>, String> {
        text(method, url, headers, tokio::time::sleep(TIMEOUT)).await
    }

    /// As [`Service::text`], tried again if there is no response, and if `retries_refusal` also after a response without a text.
    async fn with_tries(&self, tries: usize, retries_refusal: bool, url: &str, headers: Headers<'_>) -> Option<String> {
        for attempt in 1..=tries {
            match self.text(Method::GET, url, headers).await {
                Ok(Some(text)) => return Some(text),
                Ok(None) if retries_refusal => {}
                Ok(None) => return None,
                Err(error) => tracing::debug!("no response from the cloud metadata service: {error}"),
            }
            if attempt < tries {
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    async fn ec2(&self) -> Option<Cloud> {
        const KEYS: [&str; 11] = [
            "instance-id",
            "instance-type",
            "placement/availability-zone",
            "security-groups",
            "ami-id",
            "hostname",
            "local-hostname",
            "public-hostname",
            "local-ipv4",
            "public-ipv4",
            "reservation-id",
        ];
        let base = format!("{}/latest/meta-data", self.link_local);
        let token_url = format!("{}/latest/api/token", self.link_local);
        let lifetime = [("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        // Version 1 of the service has no tokens.
        let token = self.text(Method::PUT, &token_url, &lifetime).await.ok().flatten();
        let headers = token.as_deref().map(|token| ("X-aws-ec2-metadata-token", token));
        let headers = headers.as_slice();
        let partition = self.with_tries(3, true, &format!("{base}/services/partition"), headers).await?;
        if !partition.starts_with("aws") {
            return None;
        }
        let mut metadata = BTreeMap::new();
        for key in KEYS {
            // A missing key is empty; a failed request makes the whole result unusable.
            let text = self.text(Method::GET, &format!("{base}/{key}"), headers).await.ok()?;
            metadata.insert(key, text.unwrap_or_default());
        }
        let instance = metadata.get("instance-id").filter(|id| !id.is_empty());
        let custom_identifier = instance.map(|id| format!("{id}.ec2.amazonaws.com"));
        Some(Cloud { provider: "ec2", metadata, custom_identifier })
    }

    async fn gce(&self, tries: usize) -> Option<Cloud> {
        let url = format!("{}/computeMetadata/v1?recursive=true", self.google);
        let text = self.with_tries(tries, false, &url, &[("Metadata-Flavor", "Google")]).await?;
        let tree = serde_json::from_str::<Value>(&text).ok()?;
        let at = |path: &str| match tree.pointer(path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let last = |path: &str| at(path).rsplit('/').next().unwrap_or_default().to_owned();
        let id = at("/instance/id");
        let metadata = BTreeMap::from([
            ("hostname", at("/instance/hostname")),
            ("instance-id", id.clone()),
            ("instance-type", last("/instance/machineType")),
            ("zone", last("/instance/zone")),
            ("projectId", at("/project/projectId")),
        ]);
        let custom_identifier = (!id.is_empty()).then(|| format!("{id}.gce.cloud.google.com"));
        Some(Cloud { provider: "gce", metadata, custom_identifier })
    }

    async fn azure(&self, tries: usize) -> Option<Cloud> {
        const COMPUTE: [(&str, &str); 7] = [
            ("location", "location"),
            ("imageReferenceOffer", "offer"),
            ("osSystemType", "osType"),
            ("imageReferencePublisher", "publisher"),
            ("imageReferenceSku", "sku"),
            ("vmID", "vmId"),
            ("virtualMachineSizeType", "vmSize"),
        ];
        const ADDRESS: &str = "network/interface/0/ipv4/ipAddress/0";
        let headers = [("Metadata", "true")];
        let url =
            |path: &str| format!("{}/metadata/instance/{path}?api-version=2017-04-02&format=text", self.link_local);
        let id = self.with_tries(tries, false, &url("compute/vmId"), &headers).await.filter(|id| !id.is_empty())?;
        let mut metadata = BTreeMap::new();
        let compute = COMPUTE.map(|(key, path)| (key, format!("compute/{path}")));
        let addresses = ["privateIpAddress", "publicIpAddress"].map(|key| (key, format!("{ADDRESS}/{key}")));
        for (key, path) in compute.into_iter().chain(addresses) {
            let text = self.text(Method::GET, &url(&path), &headers).await.ok()?;
            metadata.insert(key, text.unwrap_or_default());
        }
        Some(Cloud {
            provider: "AzureVM",
            metadata,
            custom_identifier: Some(format!("{id}.virtual_machine.azure.microsoft.com")),
        })
    }
}

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];

/// The text at `url`, requested over a connection of its own; neither proxies nor redirects are followed. `Ok(None)` if the response is
/// not 200, longer than [`MOST_BYTES`], or not UTF-8.
///
/// # Errors
/// No complete response before `deadline`. The connection is then closed.
async fn text(
    method: Method,
    url: &str,
    headers: Headers<'_>,
    deadline: impl Future<Output = ()>,
) -> Result<Option<String>, String> {
    tokio::select! {
        text = exchange(method, url, headers) => text,
        () = deadline => Err(format!("timed out after {TIMEOUT:?}")),
    }
}

async fn exchange(method: Method, url: &str, headers: Headers<'_>) -> Result<Option<String>, String> {
    fn text(error: impl std::error::Error) -> String {
        error.to_string()
    }
    let url = url.parse::<Uri>().map_err(text)?;
    let (host, port) = destination(&url)?;
    let stream = TcpStream::connect((host, port)).await.map_err(text)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // The connection is closed when this set is dropped, also by the deadline.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().uri(path).header(HOST, host_header(&url));
    if method == Method::PUT {
        // hyper does not send the length of an empty body.
        request = request.header(CONTENT_LENGTH, 0);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.method(method).body(Empty::<Bytes>::new()).map_err(text)?;
    let response = sender.send_request(request).await.map_err(text)?;
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    match Limited::new(response.into_body(), MOST_BYTES).collect().await {
        Ok(body) => Ok(String::from_utf8(body.to_bytes().into()).ok()),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The host, an IPv6 address without its brackets, and the port.
fn destination(url: &Uri) -> Result<(&str, u16), String> {
    match (url.scheme_str(), url.host()) {
        (Some("http"), Some(host)) => Ok((host.trim_matches(['[', ']']), url.port_u16().unwrap_or(80))),
        _ => Err(format!("unsupported address {:?}: it must begin with http://", url.to_string())),
    }
}

/// The host as the header has it: without a user, with the port if the address has one.
fn host_header(url: &Uri) -> String {
    let host = url.host().unwrap_or_default();
    url.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_result_is_kept_while_the_same_service_is_slow_and_dropped_when_another_is_queried() {
        let cloud = |provider| Cloud { provider, metadata: BTreeMap::new(), custom_identifier: None };
        let query = |platform, base: &str| (platform, Some(base.to_owned()));
        let found = Found::default();
        assert_eq!(found.or_last(query(CloudPlatform::Ec2, "a"), Some(cloud("ec2"))), Some(cloud("ec2")));
        assert_eq!(found.or_last(query(CloudPlatform::Ec2, "a"), None), Some(cloud("ec2")));
        assert_eq!(found.or_last(query(CloudPlatform::Gce, "a"), None), None);
        assert_eq!(found.or_last(query(CloudPlatform::Ec2, "a"), None), None, "it was dropped");
        assert_eq!(found.or_last(query(CloudPlatform::Auto, "a"), Some(cloud("gce"))), Some(cloud("gce")));
        assert_eq!(found.or_last(query(CloudPlatform::Auto, "b"), None), None);
        found.or_last(query(CloudPlatform::Auto, "a"), Some(cloud("gce")));
        assert_eq!(found.or_last((CloudPlatform::None, None), None), None);
    }

    /// A metadata service that responds to a request line and its head; `None` is 404. And the request lines that it got.
    async fn service(
        answer: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
    ) -> (Roots, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    let Some(head) = head(&mut stream).await else { return };
                    let line = head.lines().next().unwrap().trim_end_matches(" http/1.1").to_owned();
                    log.lock().unwrap().push(line.clone());
                    let (status, body) = match answer(&line, &head) {
                        Some(body) => ("200 OK", body),
                        None => ("404 Not Found", String::new()),
                    };
                    let text = format!(
                        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(text.as_bytes()).await.ok();
                });
            }
        });
        (Roots { metadata: Some(base), ..Roots::default() }, requests)
    }

    /// The head of a request in lower case; none if there is none.
    async fn head(stream: &mut TcpStream) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        Some(String::from_utf8(head).unwrap().to_ascii_lowercase())
    }

    /// The text at a service that gives this response, and the head that it got.
    async fn text_of(method: Method, response: String) -> (Result<Option<String>, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
        let service = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head(&mut stream).await.unwrap();
            // A client that has read enough hangs up.
            stream.write_all(response.as_bytes()).await.ok();
            head
        };
        tokio::join!(text(method, &url, &[("Metadata", "true")], std::future::pending()), service)
    }

    #[tokio::test]
    async fn a_request_has_its_host_its_headers_and_the_length_of_an_empty_body() {
        for (method, line, length) in [(Method::GET, "get", ""), (Method::PUT, "put", "content-length: 0\r\n")] {
            let response = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntext".to_owned();
            let (text, head) = text_of(method, response).await;
            assert_eq!(text, Ok(Some("text".to_owned())));
            let (first, rest) = head.split_once("host: 127.0.0.1:").unwrap();
            let rest = rest.trim_start_matches(|char: char| char.is_ascii_digit());
            assert_eq!(first, format!("{line} /a?b=c http/1.1\r\n"));
            assert_eq!(rest, format!("\r\n{length}metadata: true\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn a_response_may_be_chunked_and_end_with_the_connection() {
        for rest in ["transfer-encoding: chunked\r\n\r\n4\r\ntext\r\n0\r\n\r\n", "\r\ntext"] {
            let (text, _) = text_of(Method::GET, format!("HTTP/1.1 200 OK\r\n{rest}")).await;
            assert_eq!(text, Ok(Some("text".to_owned())), "{rest}");
        }
    }

    #[tokio::test]
    async fn a_body_above_the_limit_gives_no_text() {
        let response = |bytes: usize| {
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{}\r\n0\r\n\r\n",
                "x".repeat(bytes)
            )
        };
        let (text, _) = text_of(Method::GET, response(MOST_BYTES)).await;
        assert_eq!(text.unwrap().map(|text| text.len()), Some(MOST_BYTES));
        let (text, _) = text_of(Method::GET, response(MOST_BYTES + 1)).await;
        assert_eq!(text, Ok(None));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (roots, requests) = service(|_, _| Some("elsewhere".into())).await;
        let elsewhere = roots.metadata.unwrap();
        let response = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}/x\r\ncontent-length: 0\r\n\r\n");
        let (text, _) = text_of(Method::GET, response).await;
        assert_eq!((text, requests.lock().unwrap().len()), (Ok(None), 0));
    }

    #[tokio::test]
    async fn a_service_that_accepts_and_never_responds_times_out_and_the_connection_is_closed() {
        for begin in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nte"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let (expire, deadline) = tokio::sync::oneshot::channel::<()>();
            let deadline = async { deadline.await.unwrap() };
            let service = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                head(&mut stream).await.unwrap();
                stream.write_all(begin.as_bytes()).await.unwrap();
                expire.send(()).unwrap();
                stream.read_u8().await
            };
            let (text, closed) = tokio::join!(text(Method::GET, &url, &[], deadline), service);
            assert_eq!(text, Err("timed out after 3s".to_owned()));
            assert!(closed.is_err(), "it is closed with the request");
        }
    }

    #[test]
    fn an_address_may_be_ipv6_and_must_be_http() {
        for (url, expected, header) in [
            ("http://169.254.169.254/a", Ok(("169.254.169.254", 80)), "169.254.169.254"),
            ("http://[fd00:ec2::254]:8080/a", Ok(("fd00:ec2::254", 8080)), "[fd00:ec2::254]:8080"),
            ("http://metadata.google.internal./a", Ok(("metadata.google.internal.", 80)), "metadata.google.internal."),
            ("http://me:secret@web/a", Ok(("web", 80)), "web"),
        ] {
            let url = url.parse::<Uri>().unwrap();
            assert_eq!((destination(&url), host_header(&url).as_str()), (expected, header));
        }
        let error = destination(&Uri::from_static("https://web/a")).unwrap_err();
        assert_eq!(error, "unsupported address \"https://web/a\": it must begin with http://");
    }

    #[tokio::test]
    async fn ec2_is_queried_with_a_token() {
        let (roots, _) = service(|line, head| match line.split_once(' ').unwrap() {
            ("put", "/latest/api/token") if head.contains("x-aws-ec2-metadata-token-ttl-seconds: 21600") => {
                Some("token".into())
            }
            ("get", path) if head.contains("x-aws-ec2-metadata-token: token") => {
                match path.strip_prefix("/latest/meta-data/")? {
                    "services/partition" => Some("aws".into()),
                    "instance-id" => Some("i-0123".into()),
                    "public-ipv4" => None,
                    key => Some(format!("<{key}>")),
                }
            }
            _ => None,
        })
        .await;
        let cloud = detect(CloudPlatform::Ec2, &roots).await.unwrap();
        assert_eq!((cloud.provider, cloud.custom_identifier.as_deref()), ("ec2", Some("i-0123.ec2.amazonaws.com")));
        assert_eq!(cloud.metadata.len(), 11);
        assert_eq!((cloud.metadata["public-ipv4"].as_str(), cloud.metadata["ami-id"].as_str()), ("", "<ami-id>"));
    }

    #[tokio::test]
    async fn ec2_without_tokens_is_queried_without_one() {
        let (roots, _) = service(|line, head| {
            assert!(!head.contains("metadata-token:"));
            match line {
                "get /latest/meta-data/services/partition" => Some("aws-cn".into()),
                "get /latest/meta-data/instance-id" => Some("i-1".into()),
                _ => None,
            }
        })
        .await;
        let cloud = detect(CloudPlatform::Ec2, &roots).await.unwrap();
        assert_eq!(cloud.custom_identifier.as_deref(), Some("i-1.ec2.amazonaws.com"));
    }

    #[tokio::test]
    async fn google_is_queried_once_for_everything() {
        let (roots, requests) = service(|line, head| {
            let is_expected = line == "get /computemetadata/v1?recursive=true" && head.contains("metadata-flavor: google");
            is_expected.then(|| {
                r#"{"instance":{"hostname":"gce-1.internal","id":4567890123456789123,"machineType":"projects/1/machineTypes/g1-small",
                "zone":"projects/1/zones/asia-east1-a"},"project":{"projectId":"example"}}"#.into()
            })
        })
        .await;
        let cloud = detect(CloudPlatform::Gce, &roots).await.unwrap();
        let shown = serde_json::to_string(&cloud).unwrap();
        let expected = r#"{"provider":"gce","metadata":{"hostname":"gce-1.internal","instance-id":"4567890123456789123","instance-type":"g1-small","projectId":"example","zone":"asia-east1-a"}}"#;
        assert_eq!(shown, expected);
        assert_eq!(cloud.custom_identifier.as_deref(), Some("4567890123456789123.gce.cloud.google.com"));
        assert_eq!(requests.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn azure_is_queried_key_by_key_and_detected() {
        let (roots, _) = service(|line, head| {
            let path =
                line.strip_prefix("get /metadata/instance/")?.strip_suffix("?api-version=2017-04-02&format=text")?;
            head.contains("metadata: true").then(|| format!("<{path}>"))
        })
        .await;
        let cloud = detect(CloudPlatform::AzureVm, &roots).await.unwrap();
        assert_eq!((cloud.provider, cloud.metadata.len()), ("AzureVM", 9));
        assert_eq!(cloud.metadata["privateIpAddress"], "<network/interface/0/ipv4/ipaddress/0/privateipaddress>");
        assert_eq!(cloud.custom_identifier.as_deref(), Some("<compute/vmid>.virtual_machine.azure.microsoft.com"));
        assert_eq!(detect(CloudPlatform::Auto, &roots).await.unwrap().provider, "AzureVM");
    }

    #[tokio::test]
    async fn only_the_cloud_that_made_the_machine_is_queried() {
        let (roots, requests) = service(|_, _| None).await;
        let sys = tempfile::tempdir().unwrap();
        let dmi = sys.path().join("class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        let roots = Roots { sys: sys.path().into(), ..roots };
        for (product, vendor, expected) in [
            ("Google Compute Engine\n", "Google\n", &["/computemetadata"] as &[&str]),
            ("Virtual Machine\n", "Microsoft Corporation\n", &["/metadata/instance"]),
            ("ThinkPad\n", "LENOVO\n", &[]),
        ] {
            std::fs::write(dmi.join("product_name"), product).unwrap();
            std::fs::write(dmi.join("sys_vendor"), vendor).unwrap();
            assert_eq!(detect(CloudPlatform::Auto, &roots).await, None);
            let sent = std::mem::take(&mut *requests.lock().unwrap());
            assert_eq!(sent.len(), expected.len(), "{product}: {sent:?}");
            assert!(sent.iter().zip(expected).all(|(line, path)| line.contains(path)), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn the_platform_none_sends_no_request() {
        let (roots, requests) = service(|_, _| Some("x".into())).await;
        assert_eq!(detect(CloudPlatform::None, &roots).await, None);
        assert!(requests.lock().unwrap().is_empty());
    }

    #[test]
    fn a_uuid_of_ec2_is_recognized_in_either_byte_order() {
        for (uuid, expected) in [
            ("ec2e1916-9099-7caf-fd21-012345abcdef\n", true),
            ("EC2E1916-9099-7CAF-FD21-012345ABCDEF", true),
            ("45e12aec-dcd1-b213-94ed-012345abcdef", true),
            ("45e12aed-dcd1-b213-94ed-012345abcdef", false),
            ("", false),
        ] {
            let sys = tempfile::tempdir().unwrap();
            std::fs::create_dir(sys.path().join("hypervisor")).unwrap();
            std::fs::write(sys.path().join("hypervisor/uuid"), uuid).unwrap();
            assert_eq!(is_ec2_machine(sys.path()), expected, "{uuid}");
        }
        assert!(!is_ec2_machine(Path::new("/nowhere")));
    }
}
