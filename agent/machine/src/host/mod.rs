//! The host's description, which is posted to Mackerel when this machine is registered, and every hour after that.
//!
//! The shape is that of the official agent. A part that cannot be read is omitted; there is no error.

mod block_device;
pub mod cloud;
mod cpu;
mod filesystem;
mod host_links;
pub mod ids;
mod interfaces;
mod kernel;
mod memory;
mod platform;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::mounts::prober::Prober;
use crate::roots::Roots;

/// The part of the description that comes from the agent and its configuration, not from the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The `User-Agent`: `wasaba/0.1.0 (Revision abc1234)`.
    pub agent_name: String,
    /// `0.1.0`.
    pub agent_version: String,
    /// `abc1234`.
    pub agent_revision: String,
    /// The name that Mackerel shows in place of the host name.
    pub display_name: Option<String>,
    /// `service:role` each.
    pub roles: Vec<String>,
    /// The checks that report for this host; not those with a custom identifier.
    pub checks: Vec<Check>,
    /// What the cloud says about this machine.
    pub cloud: Option<cloud::Cloud>,
}

/// A check, as it is posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name in the configuration.
    pub name: String,
    /// Its `memo` in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
}

/// The body of the requests that register a host and that update it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    meta: Meta,
    interfaces: Option<Vec<interfaces::Interface>>,
    role_fullnames: Vec<String>,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_identifier: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Meta {
    #[serde(rename = "agent-revision")]
    agent_revision: String,
    #[serde(rename = "agent-version")]
    agent_version: String,
    #[serde(rename = "agent-name")]
    agent_name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    block_device: block_device::BlockDevices,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpu: Vec<cpu::Cpu>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    filesystem: filesystem::Filesystems,
    kernel: kernel::Kernel,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    memory: memory::Memory,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud: Option<cloud::Cloud>,
}

/// Describes this machine. It reads some dozens of files and the size of each file system; one that newly hangs costs two
/// seconds. So call it where blocking is allowed.
#[must_use]
pub fn describe(roots: &Roots, identity: &Identity) -> Description {
    let unfrozen = Unfrozen {
        uname: kernel::Uname::of(roots),
        links: interfaces::links(roots),
        prober: Prober::of_this_process(),
    };
    assemble(roots, identity, unfrozen)
}

/// What comes from system calls instead of files, so that roots alone cannot freeze it.
struct Unfrozen {
    uname: kernel::Uname,
    links: Vec<interfaces::Link>,
    prober: Prober,
}

fn assemble(roots: &Roots, identity: &Identity, unfrozen: Unfrozen) -> Description {
    let Unfrozen { uname, links, prober } = unfrozen;
    let identity = identity.clone();
    let custom_identifier = identity.cloud.as_ref().and_then(|cloud| cloud.custom_identifier.clone());
    Description {
        name: uname.nodename.clone(),
        display_name: identity.display_name,
        meta: Meta {
            agent_revision: identity.agent_revision,
            agent_version: identity.agent_version,
            agent_name: identity.agent_name,
            block_device: block_device::read(&roots.sys),
            cpu: cpu::read(roots),
            filesystem: filesystem::read(roots, prober),
            kernel: kernel::kernel(uname, platform::detect(&roots.etc)),
            memory: memory::read(roots),
            cloud: identity.cloud,
        },
        interfaces: Some(interfaces::interfaces(links)).filter(|interfaces| !interfaces.is_empty()),
        role_fullnames: identity.roles,
        checks: identity.checks,
        custom_identifier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::prober;
    use crate::roots::frozen;

    fn unfrozen() -> Unfrozen {
        let text = |text: &str| text.to_owned();
        let uname = kernel::Uname {
            name: text("Linux"),
            nodename: text("frozen.example.com"),
            release: text("5.15.0-107-generic"),
            version: text("#117-Ubuntu SMP Fri Apr 26 12:26:49 UTC 2024"),
            machine: text("x86_64"),
        };
        let link = |name: &str, mac: Option<&str>, addresses: &[&str]| interfaces::Link {
            name: text(name),
            mac: mac.map(text),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let links = vec![
            link("lo", None, &["127.0.0.1", "::1"]),
            link("eth0", Some("02:fc:00:00:00:01"), &["fe80::fc:ff:fe00:1", "192.0.2.10", "fd00::2", "192.0.2.9"]),
            link("docker0", Some("02:42:b1:44:c4:af"), &["172.17.0.1"]),
            link("eth1", Some("02:fc:00:00:00:02"), &[]),
            link("tun0", None, &["10.8.0.2"]),
        ];
        Unfrozen { uname, links, prober: prober::frozen() }
    }

    #[test]
    fn the_frozen_machine_gives_the_golden_description() {
        let identity = Identity {
            agent_name: "wasaba/0.1.0 (Revision abc1234)".to_owned(),
            agent_version: "0.1.0".to_owned(),
            agent_revision: "abc1234".to_owned(),
            display_name: Some("Frozen".to_owned()),
            roles: vec!["Svc:role".to_owned()],
            checks: vec![
                Check { name: "ok".to_owned(), memo: Some("memo ok".to_owned()) },
                Check { name: "plain".to_owned(), memo: None },
            ],
            cloud: Some(cloud::Cloud {
                provider: "ec2",
                metadata: BTreeMap::from([("instance-id", "i-1234".to_owned())]),
                custom_identifier: Some("i-1234.ec2.amazonaws.com".to_owned()),
            }),
        };
        frozen::assert_golden("golden.host.json", &assemble(&frozen::roots(), &identity, unfrozen()));
    }

    #[test]
    fn what_cannot_be_read_is_omitted() {
        let empty = tempfile::tempdir().unwrap();
        let description =
            assemble(&frozen::all_in(empty.path()), &Identity::default(), Unfrozen { links: Vec::new(), ..unfrozen() });
        assert_eq!(
            serde_json::to_string(&description).unwrap(),
            concat!(
                r#"{"name":"frozen.example.com","meta":{"agent-revision":"","agent-version":"","agent-name":"","kernel":{"#,
                r##""machine":"x86_64","name":"Linux","os":"GNU/Linux","release":"5.15.0-107-generic","##,
                r##""version":"#117-Ubuntu SMP Fri Apr 26 12:26:49 UTC 2024"}},"##,
                r#""interfaces":null,"roleFullnames":[],"checks":[]}"#
            )
        );
    }

    #[test]
    fn this_machine_can_be_described() {
        let description = describe(&Roots::default(), &Identity::default());
        assert!(!description.name.is_empty());
        assert_eq!(description.meta.cpu.len(), std::thread::available_parallelism().unwrap().get());
        assert!(description.meta.memory.contains_key("total"));
    }
}
