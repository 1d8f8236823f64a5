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
use serde::Serialize;
use serde_json::Value;

use crate::roots;
use crate::roots::Roots;

/// How often a request to Google's or Azure's service is sent until there is a response.
const TRIES: usize = 2;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// The lifetime that is requested for a token of EC2.
const TOKEN_SECONDS: &str = "21600";

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

/// Sends the requests. The program gives it, so that this room needs no HTTP client.
pub trait Client: Send + Sync {
    /// The text of the response; `Ok(None)` if it is not 200, too long, or not UTF-8. Neither proxies nor redirects are followed.
    ///
    /// # Errors
    /// No complete response in time.
    fn text<'a>(
        &'a self,
        request: Request<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send + 'a>>;
}

/// A request without a body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Whether it is a PUT; otherwise it is a GET.
    pub is_put: bool,
    /// Absolute; the scheme is http.
    pub url: &'a str,
    /// Names and values.
    pub headers: Headers<'a>,
}

/// Names and values.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// The last result, for as long as the same services are queried.
#[derive(Debug, Default)]
pub struct Found(Mutex<Option<(Query, Cloud)>>);

/// The services that are queried, and where.
type Query = (CloudPlatform, Option<String>);

impl Found {
    /// As [`detect`], or the last result if no service responds now.
    pub async fn detect(&self, platform: CloudPlatform, roots: &Roots, client: &dyn Client) -> Option<Cloud> {
        self.or_last((platform, roots.metadata.clone()), detect(platform, roots, client).await)
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
pub async fn detect(platform: CloudPlatform, roots: &Roots, client: &dyn Client) -> Option<Cloud> {
    let service = Service::new(roots, client);
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

/// Whether the firmware names Amazon EC2, or the machine's UUID begins with `ec2`, in either byte order: only root may read the UUID of
/// a newer instance, and an older one has no such name. Another machine is not queried: that would only wait for timeouts.
fn is_ec2_machine(sys: &Path) -> bool {
    let vendors = ["sys_vendor", "board_vendor"].map(|file| roots::read(&sys.join("class/dmi/id").join(file)));
    if vendors.into_iter().flatten().any(|vendor| vendor.trim() == "Amazon EC2") {
        return true;
    }
    let files = ["hypervisor/uuid", "devices/virtual/dmi/id/product_uuid"];
    let uuids = files.iter().filter_map(|file| roots::read(&sys.join(file)).ok());
    uuids.into_iter().any(|uuid| {
        let uuid = uuid.trim().to_ascii_lowercase();
        let swapped = [6, 4, 2, 0].map(|at| uuid.get(at..at + 2).unwrap_or_default()).concat();
        uuid.starts_with("ec2") || swapped.starts_with("ec2")
    })
}

/// How often the service of `maker` is tried: never if the firmware names another maker, once if it names none, as in containers.
fn tries(sys: &Path, file: &str, maker: &str) -> Option<usize> {
    let named = roots::read(&sys.join("class/dmi/id").join(file)).unwrap_or_default();
    match named.trim() {
        "" => Some(1),
        named => named.starts_with(maker).then_some(TRIES),
    }
}

struct Service<'a> {
    link_local: String,
    google: String,
    client: &'a dyn Client,
}

impl<'a> Service<'a> {
    fn new(roots: &Roots, client: &'a dyn Client) -> Self {
        let base = |default: &str| roots.metadata.clone().unwrap_or_else(|| default.to_owned());
        Self { link_local: base(LINK_LOCAL), google: base(GOOGLE), client }
    }

    async fn text(&self, url: &str, headers: Headers<'_>) -> Result<Option<String>, String> {
        self.client.text(Request { is_put: false, url, headers }).await
    }

    /// As [`Client::text`], tried again if there is no response, and if `retries_refusal` also after a response without a text.
    async fn with_tries(&self, tries: usize, retries_refusal: bool, url: &str, headers: Headers<'_>) -> Option<String> {
        for attempt in 1..=tries {
            match self.text(url, headers).await {
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
        let token =
            self.client.text(Request { is_put: true, url: &token_url, headers: &lifetime }).await.ok().flatten();
        let headers = token.as_deref().map(|token| ("X-aws-ec2-metadata-token", token));
        let headers = headers.as_slice();
        let partition = self.with_tries(3, true, &format!("{base}/services/partition"), headers).await?;
        if !partition.starts_with("aws") {
            return None;
        }
        let mut metadata = BTreeMap::new();
        for key in KEYS {
            // A missing key is empty; a failed request makes the whole result unusable.
            let text = self.text(&format!("{base}/{key}"), headers).await.ok()?;
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
            let text = self.text(&url(&path), &headers).await.ok()?;
            metadata.insert(key, text.unwrap_or_default());
        }
        Some(Cloud {
            provider: "AzureVM",
            metadata,
            custom_identifier: Some(format!("{id}.virtual_machine.azure.microsoft.com")),
        })
    }
}

#[cfg(test)]
mod tests {
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

    /// A metadata service that responds to a request line and its headers; `None` is 404. It keeps the request lines.
    struct Fake<F>(F, Mutex<Vec<String>>);

    impl<F: Fn(&str, &str) -> Option<String> + Send + Sync> Client for Fake<F> {
        fn text<'a>(
            &'a self,
            request: Request<'a>,
        ) -> Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send + 'a>> {
            let path = request.url.strip_prefix("http://fake").unwrap();
            let line = format!("{} {path}", if request.is_put { "put" } else { "get" });
            let headers = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>();
            let answer = (self.0)(&line, &headers);
            self.1.lock().unwrap().push(line);
            Box::pin(async { Ok(answer) })
        }
    }

    fn service<F: Fn(&str, &str) -> Option<String> + Send + Sync>(answer: F) -> (Roots, Fake<F>) {
        (Roots { metadata: Some("http://fake".to_owned()), ..Roots::default() }, Fake(answer, Mutex::default()))
    }

    #[tokio::test]
    async fn ec2_is_queried_with_a_token() {
        let (roots, client) = service(|line, head| match line.split_once(' ').unwrap() {
            ("put", "/latest/api/token") if head.contains("X-aws-ec2-metadata-token-ttl-seconds: 21600\n") => {
                Some("token".into())
            }
            ("get", path) if head.contains("X-aws-ec2-metadata-token: token\n") => {
                match path.strip_prefix("/latest/meta-data/")? {
                    "services/partition" => Some("aws".into()),
                    "instance-id" => Some("i-0123".into()),
                    "public-ipv4" => None,
                    key => Some(format!("<{key}>")),
                }
            }
            _ => None,
        });
        let cloud = detect(CloudPlatform::Ec2, &roots, &client).await.unwrap();
        assert_eq!((cloud.provider, cloud.custom_identifier.as_deref()), ("ec2", Some("i-0123.ec2.amazonaws.com")));
        assert_eq!(cloud.metadata.len(), 11);
        assert_eq!((cloud.metadata["public-ipv4"].as_str(), cloud.metadata["ami-id"].as_str()), ("", "<ami-id>"));
    }

    #[tokio::test]
    async fn ec2_without_tokens_is_queried_without_one() {
        let (roots, client) = service(|line, head| {
            assert!(!head.contains("metadata-token:"));
            match line {
                "get /latest/meta-data/services/partition" => Some("aws-cn".into()),
                "get /latest/meta-data/instance-id" => Some("i-1".into()),
                _ => None,
            }
        });
        let cloud = detect(CloudPlatform::Ec2, &roots, &client).await.unwrap();
        assert_eq!(cloud.custom_identifier.as_deref(), Some("i-1.ec2.amazonaws.com"));
    }

    #[tokio::test]
    async fn google_is_queried_once_for_everything() {
        let (roots, client) = service(|line, head| {
            let is_expected =
                line == "get /computeMetadata/v1?recursive=true" && head.contains("Metadata-Flavor: Google\n");
            is_expected.then(|| {
                r#"{"instance":{"hostname":"gce-1.internal","id":4567890123456789123,"machineType":"projects/1/machineTypes/g1-small",
                "zone":"projects/1/zones/asia-east1-a"},"project":{"projectId":"example"}}"#.into()
            })
        });
        let cloud = detect(CloudPlatform::Gce, &roots, &client).await.unwrap();
        let shown = serde_json::to_string(&cloud).unwrap();
        let expected = r#"{"provider":"gce","metadata":{"hostname":"gce-1.internal","instance-id":"4567890123456789123","instance-type":"g1-small","projectId":"example","zone":"asia-east1-a"}}"#;
        assert_eq!(shown, expected);
        assert_eq!(cloud.custom_identifier.as_deref(), Some("4567890123456789123.gce.cloud.google.com"));
        assert_eq!(client.1.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn azure_is_queried_key_by_key_and_detected() {
        let (roots, client) = service(|line, head| {
            let path =
                line.strip_prefix("get /metadata/instance/")?.strip_suffix("?api-version=2017-04-02&format=text")?;
            head.contains("Metadata: true\n").then(|| format!("<{path}>"))
        });
        let cloud = detect(CloudPlatform::AzureVm, &roots, &client).await.unwrap();
        assert_eq!((cloud.provider, cloud.metadata.len()), ("AzureVM", 9));
        assert_eq!(cloud.metadata["privateIpAddress"], "<network/interface/0/ipv4/ipAddress/0/privateIpAddress>");
        assert_eq!(cloud.custom_identifier.as_deref(), Some("<compute/vmId>.virtual_machine.azure.microsoft.com"));
        assert_eq!(detect(CloudPlatform::Auto, &roots, &client).await.unwrap().provider, "AzureVM");
    }

    #[tokio::test]
    async fn only_the_cloud_that_made_the_machine_is_queried() {
        let (roots, client) = service(|_, _| None);
        let sys = tempfile::tempdir().unwrap();
        let dmi = sys.path().join("class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        let roots = Roots { sys: sys.path().into(), ..roots };
        for (product, vendor, expected) in [
            ("Google Compute Engine\n", "Google\n", &["/computeMetadata"] as &[&str]),
            ("Virtual Machine\n", "Microsoft Corporation\n", &["/metadata/instance"]),
            ("ThinkPad\n", "LENOVO\n", &[]),
        ] {
            std::fs::write(dmi.join("product_name"), product).unwrap();
            std::fs::write(dmi.join("sys_vendor"), vendor).unwrap();
            assert_eq!(detect(CloudPlatform::Auto, &roots, &client).await, None);
            let sent = std::mem::take(&mut *client.1.lock().unwrap());
            assert_eq!(sent.len(), expected.len(), "{product}: {sent:?}");
            assert!(sent.iter().zip(expected).all(|(line, path)| line.contains(path)), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn the_platform_none_sends_no_request() {
        let (roots, client) = service(|_, _| Some("x".into()));
        assert_eq!(detect(CloudPlatform::None, &roots, &client).await, None);
        assert!(client.1.lock().unwrap().is_empty());
    }

    #[test]
    fn an_instance_whose_uuid_only_root_may_read_is_recognized_by_the_names_in_its_firmware() {
        for (file, vendor, expected) in [
            ("sys_vendor", "Amazon EC2\n", true),
            ("board_vendor", "Amazon EC2\n", true),
            ("sys_vendor", "Amazon\n", false),
            ("chassis_vendor", "Amazon EC2\n", false),
        ] {
            let sys = tempfile::tempdir().unwrap();
            let dmi = sys.path().join("class/dmi/id");
            std::fs::create_dir_all(&dmi).unwrap();
            std::fs::write(dmi.join(file), vendor).unwrap();
            assert_eq!(is_ec2_machine(sys.path()), expected, "{file} {vendor}");
        }
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
