//! The platform: the distribution, recognized by its files in `/etc`.
//!
//! Order, names and versions are those of the official agent, so that a host keeps its platform when the agent is replaced.

use std::path::Path;

use crate::roots;

/// `Debian`, `12.11`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

/// Gets a file's text and the folder `etc`; gives the platform's short name and its version, each empty if unknown.
type Rule = fn(&str, &Path) -> (String, String);

/// The first of these files that exists and is not empty decides.
const RULES: &[(&str, Rule)] = &[
    ("oracle-release", |text, _| ("oracle".into(), release(text))),
    ("enterprise-release", |text, _| ("oracle".into(), release(text))),
    ("slackware-version", |text, _| ("slackware".into(), text.to_lowercase().replacen("slackware ", "", 1))),
    ("debian_version", debian),
    ("neokylin-release", |text, etc| os_release(&roots::read(&etc.join("os-release")).unwrap_or(text.into()), etc)),
    ("redhat-release", |text, _| (red_hat(text), release(text))),
    ("system-release", |text, _| (red_hat(text), release(text))),
    ("gentoo-release", |text, _| ("gentoo".into(), release(text))),
    ("SuSE-release", |text, _| suse(text)),
    ("arch-release", |_, etc| ("arch".into(), lsb(etc).1)),
    ("alpine-release", |text, _| ("alpine".into(), first_line(text))),
    ("os-release", os_release),
    ("lsb-release", |_, etc| lsb(etc)),
];

/// `None` if no file names one.
pub(super) fn detect(etc: &Path) -> Option<Platform> {
    let (short, version) = RULES.iter().find_map(|(file, rule)| {
        let text = roots::read(&etc.join(file)).ok()?;
        (!text.trim().is_empty()).then(|| rule(&text, etc))
    })?;
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Some(Platform { name: filled(full_name(short.trim()))?, version: filled(&version) })
}

/// The distribution's own spelling; an unknown name is kept.
fn full_name(short: &str) -> &str {
    const FULL: [(&str, &str); 22] = [
        ("debian", "Debian"),
        ("ubuntu", "Ubuntu"),
        ("linuxmint", "Linux Mint"),
        ("raspbian", "Raspbian"),
        ("fedora", "Fedora"),
        ("oracle", "Oracle Linux"),
        ("enterpriseenterprise", "Oracle Enterprise Linux"),
        ("centos", "CentOS"),
        ("redhat", "Red Hat Enterprise Linux"),
        ("scientific", "Scientific Linux"),
        ("amazon", "Amazon Linux"),
        ("xenserver", "XenServer"),
        ("cloudlinux", "CloudLinux"),
        ("ibm_powerkvm", "IBM PowerKVM"),
        ("suse", "SUSE Linux Enterprise Server"),
        ("opensuse", "openSUSE"),
        ("gentoo", "Gentoo Linux"),
        ("slackware", "Slackware"),
        ("arch", "Arch Linux"),
        ("exherbo", "Exherbo"),
        ("alpine", "Alpine Linux"),
        ("coreos", "CoreOS"),
    ];
    FULL.iter().find(|(name, _)| *name == short).map_or(short, |(_, full)| full)
}

/// Distributions based on Debian keep its file, and have their own name in another one.
fn debian(text: &str, etc: &Path) -> (String, String) {
    match lsb(etc) {
        (id, release) if ["ubuntu", "linuxmint"].contains(&&*id) => (id, release),
        // Raspberry Pi OS calls itself Debian; only this program reveals it. It is beside `etc` in a frozen machine, too.
        _ if etc.with_file_name("usr/bin/raspi-config").exists() => ("raspbian".into(), first_line(text)),
        _ => ("debian".into(), first_line(text)),
    }
}

/// `CentOS Linux release 7.9.2009 (Core)` is centos.
fn red_hat(text: &str) -> String {
    let text = text.to_lowercase();
    if text.contains("red hat") {
        return "redhat".into();
    }
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// `CentOS Linux release 7.9.2009 (Core)` is 7.9.2009.
fn release(text: &str) -> String {
    let text = text.to_lowercase();
    if text.contains("rawhide") {
        return "rawhide".into();
    }
    let number = text.split_once("release ").map_or("", |(_, number)| number);
    number.chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect()
}

/// `VERSION = 11` and `PATCHLEVEL = 4` are 11.4.
fn suse(text: &str) -> (String, String) {
    let name = if text.to_lowercase().contains("opensuse") { "opensuse" } else { "suse" };
    let parts = ["VERSION", "PATCHLEVEL"].map(|key| value(text, key)).into_iter().flatten();
    (name.into(), parts.collect::<Vec<_>>().join("."))
}

fn os_release(text: &str, _: &Path) -> (String, String) {
    let id = value(text, "ID").unwrap_or_default();
    let id = if id == "amzn" { "amazon".into() } else { id };
    (id, value(text, "VERSION_ID").unwrap_or_default())
}

/// The name, in lower case, and the version in lsb-release.
fn lsb(etc: &Path) -> (String, String) {
    let text = roots::read(&etc.join("lsb-release")).unwrap_or_default();
    let id = value(&text, "DISTRIB_ID").unwrap_or_default().to_lowercase();
    (id, value(&text, "DISTRIB_RELEASE").unwrap_or_default())
}

/// The value of `key=value`, `key="value"` or `key = value`.
fn value(text: &str, key: &str) -> Option<String> {
    let assigned = |line: &str| line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.to_owned()));
    let (_, value) = text.lines().filter_map(assigned).find(|(name, _)| name == key)?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in /etc, and what is in them.
    type Files<'etc> = &'etc [(&'etc str, &'etc str)];

    fn named(files: Files<'_>) -> Option<(String, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        for (name, text) in files {
            let path = etc.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        detect(&etc).map(|platform| (platform.name, platform.version))
    }

    #[test]
    fn each_distribution_is_recognized() {
        let ubuntu = "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\n";
        let amazon = "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nID=\"amzn\"\nVERSION_ID=\"2023\"\n";
        let cases: [(Files<'_>, &str, &str); 16] = [
            (&[("debian_version", "12.11\n"), ("os-release", "ID=debian\nVERSION_ID=\"12\"\n")], "Debian", "12.11"),
            (&[("debian_version", "trixie/sid\n"), ("lsb-release", ubuntu)], "Ubuntu", "24.04"),
            (&[("debian_version", "12.5\n"), ("../usr/bin/raspi-config", "")], "Raspbian", "12.5"),
            (&[("redhat-release", "CentOS Linux release 7.9.2009 (Core)\n")], "CentOS", "7.9.2009"),
            (&[("redhat-release", "Red Hat Enterprise Linux release 9.4 (Plow)\n")], "Red Hat Enterprise Linux", "9.4"),
            (&[("redhat-release", "AlmaLinux release 9.3 (Shamrock)\n")], "almalinux", "9.3"),
            (
                &[("oracle-release", "Oracle Linux Server release 8.9\n"), ("redhat-release", "x")],
                "Oracle Linux",
                "8.9",
            ),
            (&[("redhat-release", "Fedora release 41 (Rawhide)\n")], "Fedora", "rawhide"),
            (&[("system-release", "Amazon Linux release 2 (Karoo)\n"), ("os-release", amazon)], "Amazon Linux", "2"),
            (&[("os-release", amazon)], "Amazon Linux", "2023"),
            (
                &[("SuSE-release", "SUSE Linux 11\nVERSION = 11\nPATCHLEVEL = 4\n")],
                "SUSE Linux Enterprise Server",
                "11.4",
            ),
            (&[("os-release", "ID='arch'\n"), ("arch-release", "")], "Arch Linux", ""),
            (&[("alpine-release", "3.20.1\n"), ("os-release", "ID=alpine\n")], "Alpine Linux", "3.20.1"),
            (&[("os-release", "ID=\"rocky\"\nVERSION_ID=\"9.4\"\n")], "rocky", "9.4"),
            (&[("slackware-version", "Slackware 15.0\n")], "Slackware", "15.0"),
            (&[("gentoo-release", "Gentoo Base System release 2.15\n")], "Gentoo Linux", "2.15"),
        ];
        for (files, name, version) in cases {
            let version = Some(version.to_owned()).filter(|version| !version.is_empty());
            assert_eq!(named(files), Some((name.to_owned(), version)), "{files:?}");
        }
    }

    #[test]
    fn an_unknown_platform_has_no_name() {
        for files in [&[][..], &[("redhat-release", "\n")], &[("os-release", "garbage\n=\n\0")]] {
            assert_eq!(named(files), None, "{files:?}");
        }
    }
}
