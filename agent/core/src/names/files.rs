//! `/etc/hosts` and `/etc/resolv.conf`, read as glibc reads them (hosts(5), resolv.conf(5)).

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use super::{Unresolved, zone};
use crate::paths::system;

/// The most that is read of `hosts`; lists of servers that block advertisements have some megabytes.
const MOST_HOSTS_BYTES: u64 = 64 << 20;

/// The most that is read of `resolv.conf`.
const MOST_CONFIG_BYTES: u64 = 1 << 20;

/// The most addresses that `hosts` can give one name.
const MOST_ADDRESSES: usize = 128;

/// The most name servers; the others are ignored.
const MOST_SERVERS: usize = 3;

/// The most domains to append.
const MOST_DOMAINS: usize = 32;

/// How names are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) servers: Vec<SocketAddr>,
    /// Without a trailing dot.
    pub(super) domains: Vec<String>,
    /// A name with fewer dots is tried with a domain first.
    pub(super) ndots: usize,
    /// How long one server may take.
    pub(super) timeout: Duration,
    /// How often all of them are asked.
    pub(super) attempts: u32,
    /// Whether each question begins with another server.
    pub(super) rotates: bool,
    /// Whether datagrams are not used.
    pub(super) only_tcp: bool,
    pub(super) only_v4: bool,
}

/// The addresses that the file at `path` has for `name`, from all of its lines; none if it is missing.
pub(super) fn hosts(path: &Path, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
    let opened = match system::open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Unresolved::file(name, path, &error)),
    };
    let mut file = BufReader::new(opened.file.take(MOST_HOSTS_BYTES));
    let (mut line, mut found) = (Vec::new(), Vec::new());
    while file.read_until(b'\n', &mut line).map_err(|error| Unresolved::file(name, path, &error))? > 0 {
        found.extend(in_line(&String::from_utf8_lossy(&line), name));
        if found.len() == MOST_ADDRESSES {
            break;
        }
        line.clear();
    }
    Ok(found)
}

/// The address in a line of `hosts` that has `name`.
fn in_line(line: &str, name: &str) -> Option<IpAddr> {
    let line = line.split('#').next()?;
    let mut words = line.split_whitespace();
    let address = words.next()?;
    let without_dot = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let name = without_dot(name);
    // Most lines are of other names.
    words.any(|known| without_dot(known) == name).then(|| address.parse().ok())?
}

/// The configuration in the file at `path`, or what holds without one.
pub(super) fn config(path: &Path, port: u16, name: &str) -> Result<Config, Unresolved> {
    let text = match system::read(path, MOST_CONFIG_BYTES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Unresolved::file(name, path, &error)),
    };
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(parse(&text, port, &own, |variable| std::env::var(variable).ok(), zone::index_of))
}

/// `own` is this host's name, whose domain is the default; `variable` reads the environment, `index` knows interfaces.
fn parse(
    text: &str,
    port: u16,
    own: &str,
    variable: impl Fn(&str) -> Option<String>,
    index: impl Fn(&str) -> Option<u32>,
) -> Config {
    let mut config = Config {
        servers: Vec::new(),
        domains: domains(own.split_once('.').map_or("", |(_, domain)| domain)),
        ndots: 1,
        timeout: Duration::from_secs(5),
        attempts: 2,
        rotates: false,
        only_tcp: false,
        only_v4: false,
    };
    // A keyword begins its line; that excludes comments.
    for (keyword, rest) in text.lines().filter_map(|line| line.split_once([' ', '\t'])) {
        let rest = rest.split(['#', ';']).next().unwrap_or_default();
        match keyword {
            "nameserver" if config.servers.len() < MOST_SERVERS => {
                // For glibc, too, only the first word counts.
                let address = rest.split_whitespace().next().unwrap_or_default();
                config.servers.extend(server(address, port, &index));
            }
            "search" => config.domains = domains(rest),
            "domain" => config.domains = domains(rest.split_whitespace().next().unwrap_or_default()),
            "options" => config.take(rest),
            _ => {}
        }
    }
    if config.servers.is_empty() {
        config.servers.push((Ipv4Addr::LOCALHOST, port).into());
    }
    if let Some(own) = variable("LOCALDOMAIN") {
        config.domains = domains(&own);
    }
    if let Some(options) = variable("RES_OPTIONS") {
        config.take(&options);
    }
    config
}

fn domains(text: &str) -> Vec<String> {
    // One dot before a domain is not part of it, for glibc either.
    let without_dots = |domain: &str| {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        domain.strip_prefix('.').unwrap_or(domain).to_owned()
    };
    text.split_whitespace().map(without_dots).take(MOST_DOMAINS).collect()
}

fn server(text: &str, port: u16, index: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return text.parse().ok().map(|address: IpAddr| (address, port).into());
    };
    Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, port, 0, zone::number(scope, index)?).into())
}

impl Config {
    fn take(&mut self, options: &str) {
        for option in options.split_whitespace() {
            let (word, number) = option.split_once(':').unwrap_or((option, ""));
            // The bounds are glibc's.
            match (word, number.parse::<u32>()) {
                ("ndots", Ok(number)) => self.ndots = number.min(15) as usize,
                ("timeout", Ok(number)) => self.timeout = Duration::from_secs(number.clamp(1, 30).into()),
                ("attempts", Ok(number)) => self.attempts = number.clamp(1, 5),
                ("rotate", _) => self.rotates = true,
                ("use-vc", _) => self.only_tcp = true,
                ("no-aaaa", _) => self.only_v4 = true,
                _ => {}
            }
        }
    }
}

/// What must hold for every line of `hosts` and every `resolv.conf`: for the fuzz target.
pub(super) fn check(text: &str) {
    let config = parse(text, 53, "box.example", |_| Some(text.to_owned()), |_| Some(1));
    assert!((1..=MOST_SERVERS).contains(&config.servers.len()) && config.domains.len() <= MOST_DOMAINS);
    assert!(config.timeout <= Duration::from_secs(30) && (1..=5).contains(&config.attempts) && config.ndots <= 15);
    for line in text.lines().filter(|line| !line.contains('#')) {
        let address = line.split_whitespace().next().and_then(|address| address.parse::<IpAddr>().ok());
        assert_eq!(in_line(&format!("{line} web.example"), "WEB.example"), address, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Config {
        parse(text, 53, "box", |_| None, |name| (name == "eth0").then_some(7))
    }

    fn servers(text: &str) -> Vec<String> {
        parsed(text).servers.iter().map(ToString::to_string).collect()
    }

    fn found(hosts: &str, name: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, hosts).unwrap();
        super::hosts(&path, name).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_found_in_hosts_in_any_spelling_on_all_of_its_lines() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1\tWeb.Example Web # old\n::1 web\n#10.0.0.2 web\nnonsense web\n\
                     fe80::1%eth0 web\n10.0.0.3 other webs\n10.0.0.4 WEB web\r\n10.0.0.5 dotted.";
        assert_eq!(found(hosts, "web"), ["10.0.0.1", "::1", "10.0.0.4"]);
        for spelling in ["wEB.eXAMPLE", "web.example", "web.example."] {
            assert_eq!(found(hosts, spelling), ["10.0.0.1"], "{spelling}");
        }
        assert_eq!(found(hosts, "DOTTED"), ["10.0.0.5"]);
        for other in ["old", "we", "10.0.0.1", "example", ""] {
            assert!(found(hosts, other).is_empty(), "{other}");
        }
    }

    #[test]
    fn bytes_in_hosts_that_are_not_text_and_a_missing_file_hide_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        assert_eq!(hosts(&path, "web").unwrap(), [] as [IpAddr; 0]);
        std::fs::write(&path, b"10.0.0.1 \xff\xfe web\n10.0.0.2 web # caf\xe9\n").unwrap();
        assert_eq!(hosts(&path, "web").unwrap(), [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from));
    }

    #[test]
    fn both_files_are_read_through_links_of_any_user_and_with_further_names() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (real, twin, link) = (folder.path().join("real"), folder.path().join("twin"), folder.path().join("link"));
        std::fs::write(&real, "10.0.0.1 web\nnameserver 10.0.0.2\n").unwrap();
        std::fs::hard_link(&real, &twin).unwrap();
        symlink("twin", &link).unwrap();
        // As systemd-resolved's folder and a store that users build are, anyone else may add to it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(hosts(&link, "web").unwrap(), [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(config(&link, 53, "web").unwrap().servers, [SocketAddr::from(([10, 0, 0, 2], 53))]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let errors = [
            hosts(folder.path(), "web").map(drop).unwrap_err(),
            config(folder.path(), 53, "web").map(drop).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains(&folder.path().display().to_string()) && text.contains("`web`"), "{text}");
        }
    }

    #[test]
    fn three_servers_of_either_family_are_taken_and_without_any_this_machine_is_asked() {
        let text = "# nameserver 10.0.0.9\n;nameserver 10.0.0.9\n nameserver 10.0.0.9\nnameserver 10.0.0.1 # first\n\
                    nameserver nonsense\nnameserver fe80::1%eth0\nnameserver\tfe80::2%9\nnameserver fe80::3%none\n\
                    nameserver 10.0.0.4\n";
        assert_eq!(servers(text), ["10.0.0.1:53", "[fe80::1%7]:53", "[fe80::2%9]:53"]);
        let further = "nameserver 10.0.0.1 of the office\nnameserver fe80::1%eth0\tsecond\nnameserver no 10.0.0.3\n";
        assert_eq!(servers(further), ["10.0.0.1:53", "[fe80::1%7]:53"]);
        for empty in ["", "\n\n", "search example\n", "nameserver\n", "nameservers 10.0.0.1\n"] {
            assert_eq!(servers(empty), ["127.0.0.1:53"], "{empty}");
        }
        let folder = tempfile::tempdir().unwrap();
        let missing = config(&folder.path().join("resolv.conf"), 53, "web").unwrap();
        assert_eq!(missing.servers, ["127.0.0.1:53".parse::<SocketAddr>().unwrap()]);
    }

    #[test]
    fn the_last_search_or_domain_counts_and_else_the_domain_of_the_host() {
        assert_eq!(parsed("domain old.example\nsearch a.example. b.example # c\n").domains, ["a.example", "b.example"]);
        assert_eq!(parsed("search a.example\ndomain b.example c.example\n").domains, ["b.example"]);
        assert!(parsed("").domains.is_empty() && parsed("search .\n").domains == [""]);
        assert_eq!(parsed("search .lab .a.example. b.example\n").domains, ["lab", "a.example", "b.example"]);
        let own = |variable: Option<&str>| {
            parse("", 53, "box.corp.example", |_| variable.map(str::to_owned), |_| None).domains
        };
        assert_eq!(own(None), ["corp.example"]);
        assert_eq!(own(Some("x y")), ["x", "y"], "LOCALDOMAIN");
    }

    #[test]
    fn options_are_those_of_glibc_within_its_bounds() {
        let Config { ndots, timeout, attempts, rotates, only_tcp, only_v4, .. } = parsed("");
        assert_eq!((ndots, timeout.as_secs(), attempts), (1, 5, 2));
        assert!(!rotates && !only_tcp && !only_v4);
        let config = parsed("options ndots:5 timeout:1\noptions attempts:3 rotate use-vc no-aaaa edns0 ndots:x\n");
        assert_eq!((config.ndots, config.timeout.as_secs(), config.attempts), (5, 1, 3));
        assert!(config.rotates && config.only_tcp && config.only_v4);
        let config = parsed("options ndots:99 timeout:99 attempts:99\n");
        assert_eq!((config.ndots, config.timeout.as_secs(), config.attempts), (15, 30, 5));
        let config = parsed("options ndots:0 timeout:0 attempts:0\n");
        assert_eq!((config.ndots, config.timeout.as_secs(), config.attempts), (0, 1, 1));
        let config =
            parse("options ndots:2\n", 53, "box", |name| (name == "RES_OPTIONS").then(|| "ndots:3".into()), |_| None);
        assert_eq!(config.ndots, 3);
    }
}
