//! The door against a name server that misbehaves.

use wasaba_testing::name_server::{NameServer, WAYS, Zone};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const ZONE: Zone = Zone { v4: Ipv4Addr::new(127, 9, 0, 1), v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1) };

/// A machine with name servers of its own.
struct Machine {
    folder: tempfile::TempDir,
    servers: Vec<NameServer>,
    places: Places,
}

impl Machine {
    /// With this many name servers, at 127.0.0.1 and the following addresses.
    fn with_servers(count: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = |host: u8, port| NameServer::start((Ipv4Addr::new(127, 0, 0, host), port).into(), ZONE);
        // A port that is free at all of them.
        let servers = std::iter::repeat_with(|| {
            let first = start(1, 0).unwrap();
            let port = first.address().port();
            let others = (2..=count).map(|host| start(host, port).ok());
            std::iter::once(Some(first)).chain(others).collect::<Option<Vec<_>>>()
        });
        let servers = servers.take(100).flatten().next().unwrap();
        let places = Places {
            hosts: folder.path().join("hosts"),
            config: folder.path().join("resolv.conf"),
            port: servers[0].address().port(),
        };
        let machine = Self { folder, servers, places };
        machine.configure("");
        machine
    }

    /// Writes `resolv.conf`: its servers, a short time for each question, and these lines.
    fn configure(&self, lines: &str) {
        let servers = self.servers.iter().map(|server| format!("nameserver {}\n", server.address().ip()));
        let servers = servers.collect::<String>();
        std::fs::write(
            self.folder.path().join("resolv.conf"),
            format!("{servers}options timeout:1 attempts:1\n{lines}"),
        )
        .unwrap();
    }

    /// The addresses of a name, as texts.
    async fn find(&self, name: &str) -> Result<Vec<String>, String> {
        let found = self.places.lookup(name).await.map_err(|error| error.to_string())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }
}

/// The questions for both families.
fn both(name: &str) -> [String; 2] {
    [format!("{name} A"), format!("{name} AAAA")]
}

/// How many addresses this way of answering gives.
fn count(way: &str) -> usize {
    match way {
        "good" | "truncated" | "chain" | "backwards" | "stray" => 1,
        "many" => 31,
        _ => 0,
    }
}

#[tokio::test]
async fn what_one_family_has_is_found_whatever_happens_to_the_other() {
    let machine = Machine::with_servers(1);
    for way in WAYS {
        for (name, v4, v6) in [(format!("{way}.good.test"), count(way), 1), (format!("good.{way}.test"), 1, count(way))]
        {
            let found = machine.find(&name).await.unwrap();
            let ours = found.iter().filter(|address| address.contains('.')).count();
            assert_eq!((ours, found.len() - ours), (v4, v6), "{name}: {found:?}");
            assert!(v4 == 0 || found.contains(&ZONE.v4.to_string()), "{name}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_neither_family_has_is_an_error_that_says_why() {
    let machine = Machine::with_servers(1);
    for (way, why) in [
        ("nodata", "DNS has this name, but without an address"),
        ("nowhere", "DNS has this name, but without an address"),
        ("loop", "DNS has this name, but without an address"),
        ("huge", "DNS has this name, but without an address"),
        ("nxdomain", "neither /etc/hosts nor DNS has this name"),
        ("dangling", "neither /etc/hosts nor DNS has this name"),
        ("servfail", "the name server 127.0.0.1 answered SERVFAIL; check `nameserver` in /etc/resolv.conf"),
        ("refused", "answered REFUSED"),
        ("notimp", "answered NOTIMP"),
        ("formerr", "answered FORMERR"),
        ("malformed", "sent an invalid answer"),
        ("silent", "the name server 127.0.0.1 did not answer within 1 s"),
    ] {
        let name = format!("{way}.{way}.test");
        let error = machine.find(&name).await.unwrap_err();
        assert!(error.starts_with(&format!("cannot resolve `{name}`: ")) && error.contains(why), "{error}");
    }
    for invalid in ["", ".", "a..b", "a b", "bücher.test", &"x".repeat(300)] {
        let error = machine.find(invalid).await.unwrap_err();
        assert!(error.ends_with("it is not a valid name of a host"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_fails_is_followed_by_the_next_for_each_family_and_one_that_knows_is_not() {
    let machine = Machine::with_servers(2);
    let asked = |number: usize| machine.servers[number].asked();
    for way in ["servfail", "refused", "notimp", "malformed"] {
        let name = format!("good.{way}.test");
        machine.find(&name).await.unwrap();
        assert_eq!(asked(0), both(&name));
        assert_eq!(asked(1), [format!("{name} AAAA")]);
    }
    for way in ["good", "nodata", "nxdomain", "nowhere"] {
        drop(machine.find(&format!("{way}.{way}.test")).await);
        assert_eq!((asked(0).len(), asked(1).len()), (2, 0), "{way}");
    }
    machine.configure("options attempts:2\n");
    machine.find("servfail.servfail.test").await.unwrap_err();
    assert_eq!((asked(0).len(), asked(1).len()), (4, 4));
}

#[tokio::test]
async fn a_server_that_was_silent_is_asked_last_until_it_answers() {
    let machine = Machine::with_servers(2);
    let asked = || (machine.servers[0].asked().len(), machine.servers[1].asked().len());
    // Longer than whoever asks has time.
    machine.configure("options timeout:30\n");
    tokio::time::timeout(SILENCE * 2, machine.find("silent.silent.test")).await.unwrap_err();
    assert_eq!(asked(), (2, 0));
    machine.find("good.good.test").await.unwrap();
    assert_eq!(asked(), (0, 2));
    machine.find("servfail.servfail.test").await.unwrap_err();
    assert_eq!(asked(), (2, 2), "the last one answers again");
    machine.find("good.good.test").await.unwrap();
    assert_eq!(asked(), (2, 0));
}

#[tokio::test]
async fn a_name_whose_last_part_is_a_number_is_found() {
    let machine = Machine::with_servers(1);
    std::fs::write(&machine.places.hosts, "127.0.0.9 redis.1\n").unwrap();
    assert_eq!(machine.find("redis.1").await.unwrap(), ["127.0.0.9"]);
    machine.configure("search test\n");
    assert_eq!(machine.find("good.good.1").await.unwrap().len(), 2);
}

#[tokio::test]
async fn with_rotate_the_servers_take_turns() {
    let machine = Machine::with_servers(2);
    machine.configure("options rotate\n");
    for _ in 0..4 {
        machine.find("good.good.test").await.unwrap();
    }
    assert!(machine.servers.iter().all(|server| !server.asked().is_empty()));
}

#[tokio::test]
async fn domains_are_appended_before_or_after_the_name_itself_by_its_dots() {
    let machine = Machine::with_servers(1);
    let server = &machine.servers[0];
    machine.configure("search none.test. corp.test\n");
    machine.find("good.good").await.unwrap();
    let expected = ["good.good", "good.good.corp.test", "good.good.none.test"];
    assert_eq!(server.asked(), expected.iter().flat_map(|name| both(name)).collect::<Vec<_>>());
    // As in Kubernetes: even a name that exists is tried with the domains first.
    machine.configure("search none.test also.none.test\noptions ndots:5\n");
    machine.find("good.good.test").await.unwrap();
    assert_eq!(server.asked().len(), 6);
    machine.configure("search corp.test\noptions ndots:5\n");
    machine.find("good.good.test").await.unwrap();
    assert_eq!(server.asked(), both("good.good.test.corp.test"));
    machine.find("good.good.test.").await.unwrap();
    assert_eq!(server.asked(), both("good.good.test"), "a complete name");
    machine.find("good.good.").await.unwrap_err();
    assert_eq!(server.asked(), both("good.good"), "a complete name");
}

#[tokio::test]
async fn a_domain_that_fails_hides_no_other_and_one_whose_servers_are_silent_is_the_last() {
    let machine = Machine::with_servers(1);
    let asked = |names: &[&str]| {
        assert_eq!(machine.servers[0].asked(), names.iter().flat_map(|name| both(name)).collect::<Vec<_>>());
    };
    machine.configure("options ndots:2\nsearch broken.test corp.test\n");
    assert_eq!(machine.find("good.good").await.unwrap().len(), 2);
    asked(&["good.good.broken.test", "good.good.corp.test"]);
    machine.configure("options ndots:2\nsearch mute.test corp.test\n");
    let error = machine.find("good.good").await.unwrap_err();
    asked(&["good.good", "good.good.mute.test"]);
    assert!(error.contains("did not answer within 1 s"), "{error}");
}

#[tokio::test]
async fn hosts_is_asked_first_in_any_spelling_and_a_change_of_either_file_counts_at_once() {
    let machine = Machine::with_servers(1);
    let hosts = |text: &str| std::fs::write(&machine.places.hosts, text).unwrap();
    assert!(machine.find("web").await.is_err());
    hosts("127.0.0.8 other\n2001:db8::7 Web.Example WEB\n127.0.0.7 web\n");
    drop(machine.servers[0].asked());
    let mut found = machine.find("wEb").await.unwrap();
    found.sort();
    assert_eq!(found, ["127.0.0.7", "2001:db8::7"]);
    assert!(machine.servers[0].asked().is_empty());
    hosts("127.0.0.6 web\n");
    assert_eq!(machine.find("web").await.unwrap(), ["127.0.0.6"]);
    assert!(machine.find("good.good").await.is_err());
    machine.configure("search test\n");
    assert_eq!(machine.find("good.good").await.unwrap().len(), 2);
    std::fs::remove_file(&machine.places.config).unwrap();
    assert_eq!(machine.find("good.good.test").await.unwrap().len(), 2, "without the file this machine is asked");
}

#[tokio::test]
async fn localhost_and_addresses_are_never_asked_of_dns() {
    let machine = Machine::with_servers(1);
    for name in ["localhost", "LOCALHOST", "localhost.", "web.localhost", "a.b.LocalHost."] {
        assert_eq!(machine.find(name).await.unwrap(), ["127.0.0.1", "::1"], "{name}");
    }
    for address in ["10.0.0.1", "2001:db8::1"] {
        assert_eq!(machine.find(address).await.unwrap(), [address]);
    }
    std::fs::write(&machine.places.hosts, "127.0.0.3 web.localhost\n").unwrap();
    assert_eq!(machine.find("web.localhost").await.unwrap(), ["127.0.0.3"]);
    assert!(machine.servers[0].asked().is_empty());
}

#[tokio::test]
async fn options_forbid_datagrams_or_the_family() {
    let machine = Machine::with_servers(1);
    machine.configure("options use-vc\n");
    machine.find("good.good.test").await.unwrap();
    assert_eq!(machine.servers[0].asked(), ["good.good.test A tcp", "good.good.test AAAA tcp"]);
    machine.configure("options no-aaaa\n");
    assert_eq!(machine.find("good.good.test").await.unwrap(), [ZONE.v4.to_string()]);
    assert_eq!(machine.servers[0].asked(), ["good.good.test A"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_reason() {
    let machine = Machine::with_servers(1);
    std::fs::write(&machine.places.config, "nameserver 127.0.0.77\noptions attempts:1\n").unwrap();
    let error = machine.find("good.good.test").await.unwrap_err();
    assert!(error.contains("the name server 127.0.0.77 cannot be reached: Connection refused"), "{error}");
}

#[tokio::test]
async fn a_name_is_the_machines_own_if_the_hosts_file_lists_it() {
    let machine = Machine::with_servers(1);
    std::fs::write(&machine.places.hosts, "127.0.1.1\tbox.example Box # old-box\n").unwrap();
    machine.configure("search corp.test\n");
    for name in ["box", "BOX.example", "localhost", "web.localhost"] {
        assert!(machine.places.read(name).unwrap().is_own(), "{name}");
    }
    for name in ["old-box", "good.good.test", "example"] {
        let known = machine.places.read(name).unwrap();
        assert!(!known.is_own() && known.domains() == ["corp.test"], "{name}");
    }
}

/// The next question to a server, and who asks.
async fn question(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = [0; 512];
    let (length, asker) = server.recv_from(&mut bytes).await.unwrap();
    (bytes[..length].to_vec(), asker)
}

/// The answer 10.0.0.`last`.
fn answer(question: &[u8], last: u8) -> Vec<u8> {
    let header = [&question[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last];
    [&header, &question[12..], &record].concat()
}

/// Two servers at the same port, and a machine that asks them.
async fn two_servers(folder: &Path, options: &str) -> (UdpSocket, UdpSocket, Places) {
    let (first, second) = loop {
        let first = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await {
            break (first, second);
        }
    };
    let port = first.local_addr().unwrap().port();
    let places = Places { hosts: folder.join("hosts"), config: folder.join("resolv.conf"), port };
    let text = format!("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions no-aaaa {options}\n");
    std::fs::write(&places.config, text).unwrap();
    (first, second, places)
}

#[tokio::test]
async fn a_silent_server_does_not_cost_its_whole_time_if_another_knows_the_name() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than a name may take.
    let (_silent, second, places) = two_servers(folder.path(), "timeout:30 attempts:1").await;
    let answers = async {
        let (asked, asker) = question(&second).await;
        second.send_to(&answer(&asked, 7), asker).await.unwrap();
    };
    let (found, ()) = tokio::join!(places.lookup("web.test."), answers);
    assert_eq!(found.unwrap(), [IpAddr::from([10, 0, 0, 7])]);
}

#[tokio::test]
async fn that_a_name_does_not_exist_is_not_believed_while_an_earlier_server_still_has_time() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, places) = two_servers(folder.path(), "timeout:30 attempts:1").await;
    let lookup = places.lookup("web.corp.test.");
    tokio::pin!(lookup);
    let both = async { (question(&first).await, question(&second).await) };
    let (slow, (mut missing, asker)) = tokio::select! {
        asked = both => asked,
        early = &mut lookup => panic!("{early:?}"),
    };
    missing[2..4].copy_from_slice(&[0x81, 0x83]);
    second.send_to(&missing, asker).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut lookup).await.is_err());
    first.send_to(&answer(&slow.0, 7), slow.1).await.unwrap();
    assert_eq!(lookup.await.unwrap(), [IpAddr::from([10, 0, 0, 7])]);
}

#[tokio::test]
async fn stray_datagrams_end_no_look_up_and_from_many_on_the_server_is_asked_over_tcp() {
    for (has_tcp, has_answer) in [(false, true), (true, false)] {
        // A port that is free for both.
        let (listener, server) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(server) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, server);
            }
        };
        let address = server.local_addr().unwrap();
        let listener = has_tcp.then_some(listener);
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            hosts: folder.path().join("hosts"),
            config: folder.path().join("resolv.conf"),
            port: address.port(),
        };
        std::fs::write(&places.config, "nameserver 127.0.0.1\noptions timeout:30 attempts:1 no-aaaa\n").unwrap();
        let answers = async {
            let (asked, asker) = question(&server).await;
            let mut wrong = answer(&asked, 9);
            wrong[0] ^= 1;
            for _ in 0..150 {
                server.send_to(&wrong, asker).await.unwrap();
                // So that none is lost.
                tokio::task::yield_now().await;
            }
            if has_answer {
                server.send_to(&answer(&asked, 7), asker).await.unwrap();
            }
            if let Some(listener) = listener {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut asked).await.unwrap();
                let answer = answer(&asked, 7);
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(places.lookup("web.test."), answers);
        assert_eq!(found.unwrap(), [IpAddr::from([10, 0, 0, 7])], "over TCP: {has_tcp}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_after_its_servers_time_is_taken() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (hosts, config) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
    std::fs::write(&config, "nameserver 127.0.0.1\noptions timeout:1 attempts:2 no-aaaa\n").unwrap();
    let places = Places { hosts, config, port: server.local_addr().unwrap().port() };
    let answers_late = async {
        let first = question(&server).await;
        // Only when it is asked again, for which its time must have passed.
        question(&server).await;
        server.send_to(&answer(&first.0, 7), first.1).await.unwrap();
    };
    let (found, ()) = tokio::join!(places.lookup("late.test."), answers_late);
    assert_eq!(found.unwrap(), [IpAddr::from([10, 0, 0, 7])]);
}

#[tokio::test]
async fn the_domains_are_tried_after_a_dotted_name_that_a_server_is_silent_about_or_refers_to_others_for() {
    for refers in [false, true] {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (hosts, config) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
        let lines = "nameserver 127.0.0.1\nsearch corp.test\noptions timeout:1 attempts:1 no-aaaa\n";
        std::fs::write(&config, lines).unwrap();
        let places = Places { hosts, config, port: server.local_addr().unwrap().port() };
        let answers = async {
            let (mut bare, asker) = question(&server).await;
            if refers {
                bare[2..4].copy_from_slice(&[0x81, 0x00]);
                server.send_to(&bare, asker).await.unwrap();
            }
            let (asked, asker) = question(&server).await;
            assert!(asked.len() > bare.len(), "with the domain");
            server.send_to(&answer(&asked, 7), asker).await.unwrap();
        };
        let limit = Duration::from_secs(20);
        let (found, answered) = tokio::join!(places.lookup("web.site"), tokio::time::timeout(limit, answers));
        assert_eq!((found.unwrap(), answered), (vec![IpAddr::from([10, 0, 0, 7])], Ok(())), "refers: {refers}");
    }
}

#[tokio::test]
async fn the_family_that_was_not_waited_for_is_used_where_nothing_accepts_at_the_other() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let (hosts, config) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
    std::fs::write(&config, "nameserver 127.0.0.1\noptions timeout:20 attempts:1\n").unwrap();
    let places = Places { hosts, config, port: server.local_addr().unwrap().port() };
    let record = |asked: &[u8], kind: u8, address: &[u8]| {
        let header = [&asked[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
        let about = [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, u8::try_from(address.len()).unwrap()];
        [&header, &asked[12..], &about, address].concat()
    };
    let answers = async || {
        let mut both = [question(&server).await, question(&server).await];
        // Its type is behind the name.
        both.sort_by_key(|(asked, _)| asked[12 + "web.test".len() + 3]);
        let [(v4, asker), (v6, other)] = both;
        server.send_to(&record(&v4, 1, &[127, 0, 0, 99]), asker).await.unwrap();
        (v6, other)
    };
    let (found, (asked, asker)) = tokio::join!(places.find("web.test."), answers());
    let found = found.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 99])]);
    server.send_to(&record(&asked, 28, &Ipv6Addr::LOCALHOST.octets()), asker).await.unwrap();
    assert_eq!(found.clone().connect(port, |_| Vec::new()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let stream = found.connect(port, |later| later).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    // Where a library connects, the next look-up has both.
    let (first, (asked, asker)) = tokio::join!(places.lookup("web.test."), answers());
    assert_eq!(first.unwrap(), [IpAddr::from([127, 0, 0, 99])]);
    server.send_to(&record(&asked, 28, &Ipv6Addr::LOCALHOST.octets()), asker).await.unwrap();
    assert!(has_more("web.test.").await && !has_more("other.test.").await);
    let (second, _) = tokio::join!(places.lookup("web.test."), answers());
    assert_eq!(second.unwrap(), [IpAddr::from([127, 0, 0, 99]), Ipv6Addr::LOCALHOST.into()]);
}

#[tokio::test]
async fn a_look_up_fails_at_once_while_the_file_system_of_its_files_does_not_answer() {
    let machine = Machine::with_servers(1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hangs = patient::ask(&machine.places.config, Duration::from_millis(1), move |_| released.recv().is_ok());
    assert!(hangs.is_err());
    let error = machine.find("good.good.test").await.unwrap_err();
    assert!(error.contains("its file system does not answer") && error.contains("resolv.conf"), "{error}");
    assert_eq!(machine.find("127.0.0.1").await.unwrap(), ["127.0.0.1"], "an address needs no file");
    release.send(()).unwrap();
    while machine.find("good.good.test").await.is_err() {
        tokio::task::yield_now().await;
    }
}
