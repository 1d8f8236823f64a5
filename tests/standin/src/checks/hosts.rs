//! The checks below `/api/v0/hosts`: a host's description, its status and its retirement.
//!
//! A description may have unknown fields: Mackerel's documents leave `meta` open.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::field::Field;
use super::{Refusal, is_segment};

/// The statuses that a host can have.
pub(crate) const STATUSES: [&str; 4] = ["working", "standby", "maintenance", "poweroff"];

/// The longest memo of a check.
const LONGEST_MEMO: usize = 250;

/// Checks the body of `POST /api/v0/hosts` and `PUT /api/v0/hosts/<id>`.
pub(crate) fn check_description(body: &Value) -> Result<(), Refusal> {
    let body = Field::body(body);
    let name = body.required("name")?;
    name.ensure(!name.string()?.is_empty(), "must not be empty")?;
    check_meta(&body.required("meta")?)?;
    if let Some(label) = body.optional("displayName")? {
        label.string()?;
    }
    // The documents allow null here, which clears what was registered.
    if let Some(identifier) = body.optional("customIdentifier")?.filter(|field| !field.is_null()) {
        identifier.string()?;
    }
    if let Some(interfaces) = body.optional("interfaces")?.filter(|field| !field.is_null()) {
        interfaces.elements()?.try_for_each(|interface| check_interface(&interface))?;
    }
    if let Some(roles) = body.optional("roleFullnames")? {
        roles.elements()?.try_for_each(|role| check_role(&role))?;
    }
    if let Some(checks) = body.optional("checks")? {
        checks.elements()?.try_for_each(|check| check_check(&check))?;
    }
    Ok(())
}

/// The status in the body of `POST /api/v0/hosts/<id>/status`.
pub(crate) fn status(body: &Value) -> Result<String, Refusal> {
    let field = Field::body(body).required("status")?;
    let status = field.string()?;
    field.ensure(STATUSES.contains(&status), &format!("must be one of {}", STATUSES.join(", ")))?;
    Ok(status.to_owned())
}

/// Checks the body of `POST /api/v0/hosts/<id>/retire`: `{}` in the documents, `null` from the official agent.
pub(crate) fn check_retirement(body: &Value) -> Result<(), Refusal> {
    let field = Field::body(body);
    if field.is_null() { Ok(()) } else { field.only(&[]) }
}

fn check_meta(meta: &Field<'_>) -> Result<(), Refusal> {
    for key in ["agent-name", "agent-version", "agent-revision"] {
        meta.optional(key)?.map(|field| field.string()).transpose()?;
    }
    if let Some(kernel) = meta.optional("kernel")? {
        check_strings(&kernel)?;
    }
    if let Some(cpus) = meta.optional("cpu")? {
        cpus.elements()?.try_for_each(|cpu| check_strings(&cpu))?;
    }
    if let Some(memory) = meta.optional("memory")? {
        memory.members()?.try_for_each(|size| check_kilobytes(&size))?;
    }
    if let Some(devices) = meta.optional("block_device")? {
        devices.members()?.try_for_each(|device| check_strings(&device))?;
    }
    if let Some(filesystems) = meta.optional("filesystem")? {
        filesystems.members()?.try_for_each(|filesystem| check_filesystem(&filesystem))?;
    }
    if let Some(cloud) = meta.optional("cloud")? {
        cloud.required("provider")?.string()?;
        cloud.required("metadata")?.members()?.for_each(drop);
    }
    Ok(())
}

fn check_strings(object: &Field<'_>) -> Result<(), Refusal> {
    object.members()?.try_for_each(|member| member.string().map(drop))
}

fn check_kilobytes(size: &Field<'_>) -> Result<(), Refusal> {
    size.ensure(size.string()?.strip_suffix("kB").is_some_and(is_digits), "must be digits and `kB`")
}

fn check_filesystem(filesystem: &Field<'_>) -> Result<(), Refusal> {
    for key in ["kb_size", "kb_used", "kb_available"] {
        filesystem.required(key)?.integer()?;
    }
    filesystem.required("mount")?.string()?;
    let percent = filesystem.required("percent_used")?;
    percent.ensure(percent.string()?.strip_suffix('%').is_some_and(is_digits), "must be digits and `%`")
}

fn check_interface(interface: &Field<'_>) -> Result<(), Refusal> {
    let name = interface.required("name")?;
    name.ensure(!name.string()?.is_empty(), "must not be empty")?;
    if let Some(addresses) = interface.optional("ipv4Addresses")? {
        for address in addresses.elements()? {
            address.ensure(address.string()?.parse::<Ipv4Addr>().is_ok(), "must be an IPv4 address")?;
        }
    }
    if let Some(addresses) = interface.optional("ipv6Addresses")? {
        for address in addresses.elements()? {
            address.ensure(address.string()?.parse::<Ipv6Addr>().is_ok(), "must be an IPv6 address")?;
        }
    }
    match interface.optional("macAddress")? {
        Some(mac) => mac.ensure(mac.string()?.split(':').all(is_hex_pair), "must be pairs of hex digits joined by `:`"),
        None => Ok(()),
    }
}

/// `^[A-Za-z0-9][-_A-Za-z0-9]*:\s*[A-Za-z0-9][-_A-Za-z0-9]*$`, like the official agent's own check.
fn check_role(role: &Field<'_>) -> Result<(), Refusal> {
    let is_name = |text: &str| is_segment(text) && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let parts = role.string()?.split_once(':');
    let fits = parts.is_some_and(|(service, role)| is_name(service) && is_name(role.trim_start()));
    role.ensure(fits, "must be `service:role`, each of A-Z a-z 0-9 _ -")
}

fn check_check(check: &Field<'_>) -> Result<(), Refusal> {
    let name = check.required("name")?;
    name.ensure(is_segment(name.string()?), "must match [a-zA-Z0-9_-]+")?;
    match check.optional("memo")? {
        Some(memo) => memo.ensure(memo.string()?.chars().count() <= LONGEST_MEMO, "must have at most 250 characters"),
        None => Ok(()),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hex_pair(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host() -> Value {
        json!({
            "name": "box",
            "displayName": "a box",
            "customIdentifier": null,
            "meta": {
                "agent-name": "wasaba/0.1.0", "agent-version": "0.1.0", "agent-revision": "abc1234",
                "kernel": {"name": "Linux"},
                "cpu": [{"cores": "1"}],
                "memory": {"total": "24684096kB"},
                "block_device": {"vda": {"size": "1"}},
                "filesystem": {"/dev/vda": {
                    "kb_size": 3, "kb_used": 1, "kb_available": 2, "percent_used": "22%", "mount": "/",
                }},
                "cloud": {"provider": "ec2", "metadata": {"instance-id": "i-1"}},
            },
            "interfaces": [{
                "name": "eth0", "ipv4Addresses": ["192.0.2.2"], "ipv6Addresses": ["fe80::1"],
                "macAddress": "02:fc:00:00:00:01",
            }],
            "roleFullnames": ["Svc:role", "Svc: spaced"],
            "checks": [{"name": "ok", "memo": "a memo"}, {"name": "plain"}],
        })
    }

    /// The refusal of a host that is valid except for the value at a JSON pointer.
    fn refusal(pointer: &str, value: Value) -> String {
        let mut host = host();
        *host.pointer_mut(pointer).unwrap() = value;
        let refusal = check_description(&host).unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.message
    }

    #[test]
    fn a_valid_host_is_accepted() {
        assert_eq!(check_description(&host()), Ok(()));
        assert_eq!(check_description(&json!({"name": "box", "meta": {}, "interfaces": null})), Ok(()));
    }

    #[test]
    fn a_host_without_a_name_is_refused() {
        assert_eq!(check_description(&json!({"meta": {}})).unwrap_err().message, "name is missing");
        assert_eq!(refusal("/name", json!("")), "name must not be empty");
        assert_eq!(refusal("/name", json!(1)), "name must be a string");
        assert_eq!(check_description(&json!([])).unwrap_err().message, "the body must be an object");
    }

    #[test]
    fn a_host_without_meta_is_refused() {
        assert_eq!(check_description(&json!({"name": "box"})).unwrap_err().message, "meta is missing");
        assert_eq!(refusal("/meta", json!([])), "meta must be an object");
    }

    #[test]
    fn a_label_or_an_identifier_of_another_type_is_refused() {
        assert_eq!(refusal("/displayName", json!(1)), "displayName must be a string");
        assert_eq!(refusal("/customIdentifier", json!(1)), "customIdentifier must be a string");
    }

    #[test]
    fn a_field_of_meta_with_the_wrong_type_is_refused_with_its_path() {
        assert_eq!(refusal("/meta/agent-name", json!(1)), "meta.agent-name must be a string");
        assert_eq!(refusal("/meta/agent-version", json!(1)), "meta.agent-version must be a string");
        assert_eq!(refusal("/meta/agent-revision", json!(1)), "meta.agent-revision must be a string");
        assert_eq!(refusal("/meta/kernel", json!("Linux")), "meta.kernel must be an object");
        assert_eq!(refusal("/meta/kernel/name", json!(6)), "meta.kernel.name must be a string");
        assert_eq!(refusal("/meta/cpu", json!({})), "meta.cpu must be an array");
        assert_eq!(refusal("/meta/cpu/0/cores", json!(1)), "meta.cpu[0].cores must be a string");
        assert_eq!(refusal("/meta/block_device/vda", json!("")), "meta.block_device.vda must be an object");
        assert_eq!(refusal("/meta/block_device/vda/size", json!(1)), "meta.block_device.vda.size must be a string");
        assert_eq!(refusal("/meta/cloud/provider", json!(1)), "meta.cloud.provider must be a string");
        assert_eq!(refusal("/meta/cloud/metadata", json!(1)), "meta.cloud.metadata must be an object");
    }

    #[test]
    fn memory_that_is_not_in_kilobytes_is_refused() {
        for size in ["1", "kB", "1 kB", "1.5kB", "-1kB", "1KB"] {
            assert_eq!(refusal("/meta/memory/total", json!(size)), "meta.memory.total must be digits and `kB`");
        }
        assert_eq!(refusal("/meta/memory/total", json!(1)), "meta.memory.total must be a string");
    }

    #[test]
    fn a_filesystem_with_a_wrong_field_is_refused() {
        let at = |key: &str| format!("/meta/filesystem/~1dev~1vda/{key}");
        for key in ["kb_size", "kb_used", "kb_available"] {
            let message = format!(r#"meta.filesystem["/dev/vda"].{key} must be an integer"#);
            assert_eq!(refusal(&at(key), json!("1")), message);
            assert_eq!(refusal(&at(key), json!(1.5)), message);
        }
        assert_eq!(refusal(&at("mount"), json!(1)), r#"meta.filesystem["/dev/vda"].mount must be a string"#);
        for percent in ["22", "%", "-", "22.5%"] {
            let message = r#"meta.filesystem["/dev/vda"].percent_used must be digits and `%`"#;
            assert_eq!(refusal(&at("percent_used"), json!(percent)), message);
        }
        let bare = refusal("/meta/filesystem/~1dev~1vda", json!({}));
        assert_eq!(bare, r#"meta.filesystem["/dev/vda"].kb_size is missing"#);
    }

    #[test]
    fn an_interface_with_an_invalid_address_is_refused() {
        assert_eq!(refusal("/interfaces", json!({})), "interfaces must be an array");
        assert_eq!(refusal("/interfaces/0", json!({})), "interfaces[0].name is missing");
        assert_eq!(refusal("/interfaces/0/name", json!("")), "interfaces[0].name must not be empty");
        for (kind, key, bad) in [
            ("IPv4", "ipv4Addresses", ["192.0.2.2/24", "fe80::1"]),
            ("IPv6", "ipv6Addresses", ["fe80::1/64", "192.0.2.2"]),
        ] {
            for address in bad {
                let message = refusal(&format!("/interfaces/0/{key}"), json!([address]));
                assert_eq!(message, format!("interfaces[0].{key}[0] must be an {kind} address"));
            }
        }
        for mac in ["", "0:1", "02-fc", "02:fg"] {
            let message = refusal("/interfaces/0/macAddress", json!(mac));
            assert_eq!(message, "interfaces[0].macAddress must be pairs of hex digits joined by `:`", "{mac}");
        }
    }

    #[test]
    fn a_role_without_a_service_is_refused() {
        for role in ["role", ":role", "Svc:", "-Svc:role", "Svc:_role", "Svc:ro le", "Svc :role", "a:b:c"] {
            let message = refusal("/roleFullnames/1", json!(role));
            assert!(message.starts_with("roleFullnames[1] must be `service:role`"), "{role}: {message}");
        }
        assert_eq!(refusal("/roleFullnames", json!(null)), "roleFullnames must be an array");
    }

    #[test]
    fn a_check_without_a_valid_name_is_refused() {
        assert_eq!(refusal("/checks/1", json!({})), "checks[1].name is missing");
        assert_eq!(refusal("/checks/1/name", json!("a b")), "checks[1].name must match [a-zA-Z0-9_-]+");
        assert_eq!(refusal("/checks/0/memo", json!(1)), "checks[0].memo must be a string");
        let long = refusal("/checks/0/memo", json!("あ".repeat(251)));
        assert_eq!(long, "checks[0].memo must have at most 250 characters");
    }

    #[test]
    fn an_unknown_status_is_refused() {
        for good in STATUSES {
            assert_eq!(status(&json!({"status": good})), Ok(good.to_owned()));
        }
        let message = "status must be one of working, standby, maintenance, poweroff";
        assert_eq!(status(&json!({"status": "asleep"})), Err(Refusal::new(400, message)));
        assert_eq!(status(&json!({})).unwrap_err().message, "status is missing");
        assert_eq!(status(&json!(null)).unwrap_err().message, "the body must be an object");
    }

    #[test]
    fn a_retirement_has_an_empty_body() {
        assert_eq!(check_retirement(&json!(null)), Ok(()));
        assert_eq!(check_retirement(&json!({})), Ok(()));
        assert!(check_retirement(&json!({"why": "old"})).is_err());
        assert!(check_retirement(&json!("now")).is_err());
    }
}
