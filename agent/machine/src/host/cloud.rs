//! The cloud: what the metadata service of EC2, Google Compute Engine or Azure says about this machine, and the identifier by
//! which Mackerel knows it.
//!
//! The services are asked as the official agent asks them, and never through a proxy. What once was found stays: a service that
//! is slow later does not make this machine another one.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::roots::Roots;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How often Google's and Azure's services are asked if they do not answer.
const TRIES: usize = 2;

/// How long between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a token of EC2 is asked for.
const TOKEN_SECONDS: &str = "21600";

/// More is not read of an answer.
const MOST_BYTES: usize = 1 << 20;

/// Where EC2 and Azure answer; and Google, in whose network there is this name.
const LINK_LOCAL: &str = "http://169.254.169.254";
const GOOGLE: &str = "http://metadata.google.internal.";

/// Which cloud is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloudPlatform {
    /// Whichever answers.
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
    /// The one that a configuration calls `word`.
    ///
    /// # Errors
    /// There is none; the text says which there are.
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
    /// What Mackerel shows.
    pub metadata: BTreeMap<&'static str, String>,
    /// The name that Mackerel knows this machine by.
    #[serde(skip)]
    pub custom_identifier: Option<String>,
}

/// What was found last, as long as the same services are asked.
#[derive(Debug, Default)]
pub struct Found(Mutex<Option<(Asked, Cloud)>>);

/// Which services are asked, and where.
type Asked = (CloudPlatform, Option<String>);

impl Found {
    /// As [`detect`]; a service that is slow now does not make this machine another one.
    pub async fn detect(&self, platform: CloudPlatform, roots: &Roots) -> Option<Cloud> {
        self.or_last((platform, roots.metadata.clone()), detect(platform, roots).await)
    }

    fn or_last(&self, asked: Asked, found: Option<Cloud>) -> Option<Cloud> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What others said counts no more.
        let known = last.take().filter(|(before, _)| *before == asked).map(|(_, cloud)| cloud);
        let cloud = found.or(known);
        *last = cloud.clone().map(|cloud| (asked, cloud));
        cloud
    }
}

/// Asks the services that `platform` names.
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
            let mut answers = FuturesUnordered::<Pin<Box<dyn Future<Output = Option<Cloud>> + Send>>>::new();
            if is_ec2_machine(&roots.sys) {
                answers.push(Box::pin(service.ec2()));
            }
            if let Some(tries) = tries(&roots.sys, "product_name", "Google") {
                answers.push(Box::pin(service.gce(tries)));
            }
            if let Some(tries) = tries(&roots.sys, "sys_vendor", "Microsoft") {
                answers.push(Box::pin(service.azure(tries)));
            }
            // The first that answers; the others are left alone.
            while let Some(answer) = answers.next().await {
                if answer.is_some() {
                    return answer;
                }
            }
            None
        }
    }
}

/// Whether the machine's UUID begins with `ec2`, in either order of its first bytes. Without one it is none: others need not be
/// asked, which would take its time where nobody answers.
fn is_ec2_machine(sys: &Path) -> bool {
    let files = ["hypervisor/uuid", "devices/virtual/dmi/id/product_uuid"];
    let uuids = files.iter().filter_map(|file| std::fs::read_to_string(sys.join(file)).ok());
    uuids.into_iter().any(|uuid| {
        let uuid = uuid.trim().to_ascii_lowercase();
        let turned = [6, 4, 2, 0].map(|at| uuid.get(at..at + 2).unwrap_or_default()).concat();
        uuid.starts_with("ec2") || turned.starts_with("ec2")
    })
}

/// How often this maker's service is asked: not at all if the firmware names another maker, once if it names none, as in containers.
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

    /// The text at `url`; `Ok(None)` if there is none.
    async fn text(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Option<String>, String> {
        tokio::time::timeout(TIMEOUT, text(method, url, headers)).await.unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    /// As [`Service::text`], again if there is no answer. An answer that says no is one, unless `insists`.
    async fn with_tries(&self, tries: usize, insists: bool, url: &str, headers: &[(&str, &str)]) -> Option<String> {
        for attempt in 1..=tries {
            match self.text(Method::GET, url, headers).await {
                Ok(Some(text)) => return Some(text),
                Ok(None) if insists => {}
                Ok(None) => return None,
                Err(error) => tracing::debug!("no answer of the cloud's metadata service: {}", error),
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
        let wanted = [("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        // Version 1 of the service knows no tokens.
        let token = self.text(Method::PUT, &token_url, &wanted).await.ok().flatten();
        let headers = token.as_deref().map(|token| ("X-aws-ec2-metadata-token", token));
        let headers = headers.as_slice();
        let partition = self.with_tries(3, true, &format!("{base}/services/partition"), headers).await?;
        if !partition.starts_with("aws") {
            return None;
        }
        let mut metadata = BTreeMap::new();
        for key in KEYS {
            // What it does not have is empty; one that breaks off says nothing of this machine at all.
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
        let answer = serde_json::from_str::<Value>(&text).ok()?;
        let at = |path: &str| match answer.pointer(path) {
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

/// One request on a connection of its own. Redirects and proxies are not followed.
async fn text(method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Option<String>, String> {
    fn text(error: impl std::error::Error) -> String {
        error.to_string()
    }
    let url = url.parse::<Uri>().map_err(text)?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(80))).await.map_err(text)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // It ends with the sender.
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(HOST, url.authority().map_or("", |authority| authority.as_str()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(text)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_was_found_stays_while_the_same_service_is_slow_and_goes_when_another_is_asked() {
        let cloud = |provider| Cloud { provider, metadata: BTreeMap::new(), custom_identifier: None };
        let asked = |platform, base: &str| (platform, Some(base.to_owned()));
        let found = Found::default();
        assert_eq!(found.or_last(asked(CloudPlatform::Ec2, "a"), Some(cloud("ec2"))), Some(cloud("ec2")));
        assert_eq!(found.or_last(asked(CloudPlatform::Ec2, "a"), None), Some(cloud("ec2")));
        assert_eq!(found.or_last(asked(CloudPlatform::Gce, "a"), None), None);
        assert_eq!(found.or_last(asked(CloudPlatform::Ec2, "a"), None), None, "it was forgotten");
        assert_eq!(found.or_last(asked(CloudPlatform::Auto, "a"), Some(cloud("gce"))), Some(cloud("gce")));
        assert_eq!(found.or_last(asked(CloudPlatform::Auto, "b"), None), None);
        found.or_last(asked(CloudPlatform::Auto, "a"), Some(cloud("gce")));
        assert_eq!(found.or_last((CloudPlatform::None, None), None), None);
    }

    /// A metadata service: the answer to a request line with its head; none is 404. And what it was asked.
    async fn service(
        answer: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
    ) -> (Roots, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
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
        (Roots { metadata: Some(base), ..Roots::default() }, asked)
    }

    #[tokio::test]
    async fn ec2_is_asked_with_a_token() {
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
    async fn ec2_without_tokens_is_asked_without() {
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
    async fn google_tells_everything_at_once() {
        let (roots, asked) = service(|line, head| {
            let asked = line == "get /computemetadata/v1?recursive=true" && head.contains("metadata-flavor: google");
            asked.then(|| {
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
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn azure_is_asked_key_by_key_and_found_by_itself() {
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
    async fn whoever_did_not_make_the_machine_is_not_asked() {
        let (roots, asked) = service(|_, _| None).await;
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
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            assert_eq!(asked.len(), expected.len(), "{product}: {asked:?}");
            assert!(asked.iter().zip(expected).all(|(line, path)| line.contains(path)), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn with_none_nobody_is_asked() {
        let (roots, asked) = service(|_, _| Some("x".into())).await;
        assert_eq!(detect(CloudPlatform::None, &roots).await, None);
        assert!(asked.lock().unwrap().is_empty());
    }

    #[test]
    fn a_uuid_of_ec2_is_known_in_either_order() {
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
