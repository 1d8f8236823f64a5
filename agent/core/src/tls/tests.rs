//! Connections with a server whose certificate is this or that.

use std::sync::Mutex;

use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wasaba_testing::authority::{Authority, Form, Limit, SelfSigned, Unusual, Validity};

use super::anchors::Anchors;
use super::places::Nothing;
use super::roots::{Read, Roots};
use super::*;
use crate::paths::patient;

/// Whether the handshake of a client with this trust succeeds when it connects to `localhost`.
async fn agree(trust: &Trust, server: TlsAcceptor) -> bool {
    agree_with(Client::new(trust.clone()).config().await.unwrap(), server).await
}

async fn agree_with(config: Arc<ClientConfig>, server: TlsAcceptor) -> bool {
    agree_as(config, server, "localhost").await
}

async fn agree_as(config: Arc<ClientConfig>, server: TlsAcceptor, name: &str) -> bool {
    let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(config);
    let client = connector.connect(ServerName::try_from(name).unwrap().to_owned(), near);
    let (client, server) = tokio::join!(client, accepted(server, far));
    client.is_ok() && server
}

/// With TLS 1.3 a client learns only when it reads that its certificate was refused; the server knows at once.
async fn accepted(server: TlsAcceptor, stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    server.accept(stream).await.is_ok()
}

fn trusting(authority: &Authority, verification: Verification) -> Trust {
    Trust { verification, authority: Some(authority.file()), identity: None }
}

#[tokio::test]
async fn a_private_authority_is_trusted_for_the_right_name_only() {
    let authority = Authority::new();
    let full = trusting(&authority, Verification::Full);
    assert!(agree(&full, authority.server("localhost", false)).await);
    assert!(!agree(&full, authority.server("elsewhere", false)).await, "another name");
    assert!(!agree(&full, Authority::new().server("localhost", false)).await, "another authority");
    assert!(!agree(&Trust::default(), authority.server("localhost", false)).await, "the machine's authorities");
}

#[tokio::test]
async fn an_authority_is_believed_only_within_what_its_certificate_allows() {
    use Limit::{Between, Early, Expired, Servers, Signing, Unsaid, Use};
    for limit in [Signing, Unsaid, Use, Servers, Expired, Early] {
        let authority = Authority::limited(Some(limit));
        let full = trusting(&authority, Verification::Full);
        assert!(!agree(&full, authority.server("localhost", false)).await, "{limit:?}");
    }
    for (limit, expected) in [(None, true), (Some(Between), false)] {
        let authority = Authority::limited(limit);
        let full = trusting(&authority, Verification::Full);
        assert!(agree(&full, authority.server("localhost", false)).await);
        let below = Unusual::below(&authority, None, "localhost");
        assert_eq!(agree(&full, below.server(&rustls::version::TLS13)).await, expected, "{limit:?}");
    }
}

#[tokio::test]
async fn a_servers_key_that_may_only_sign_certificates_is_refused() {
    let authority = Authority::new();
    assert!(!agree(&trusting(&authority, Verification::Full), authority.signer("localhost")).await);
}

#[tokio::test]
async fn without_the_name_any_name_is_accepted_and_without_verification_any_certificate() {
    let authority = Authority::new();
    let any_name = trusting(&authority, Verification::Authority);
    assert!(agree(&any_name, authority.server("elsewhere", false)).await);
    assert!(!agree(&any_name, Authority::new().server("localhost", false)).await, "another authority");
    let none = Trust { verification: Verification::None, ..Trust::default() };
    assert!(agree(&none, authority.server("elsewhere", false)).await);
}

#[tokio::test]
async fn a_client_certificate_is_presented_to_a_server_that_requires_one() {
    let authority = Authority::new();
    let without = trusting(&authority, Verification::Full);
    assert!(!agree(&without, authority.server("localhost", true)).await);
    let with = Trust { identity: Some(authority.identity("agent")), ..without };
    assert!(agree(&with, authority.server("localhost", true)).await);
}

#[tokio::test]
async fn a_client_certificate_of_version_1_is_presented_with_its_own_key_alone() {
    let authority = Authority::new();
    let own = Unusual::new("agent", Form::Version1, Validity::Now, Some(&authority));
    let file = |name: &str, content: &[u8]| {
        let file = authority.folder().join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let certificate = file("agent.pem", &pem::tests::file("CERTIFICATE", &own.certificate));
    let trust = |key: &str| {
        let identity = Some((certificate.clone(), file("agent.key", key.as_bytes())));
        Trust { identity, ..trusting(&authority, Verification::Full) }
    };
    let config = Client::new(trust(&own.key())).config().await.unwrap();
    assert!(config.client_auth_cert_resolver.has_certs());
    assert!(agree(&trust(&own.key()), authority.server("localhost", false)).await);
    let other = Unusual::new("agent", Form::Version1, Validity::Now, Some(&authority)).key();
    let error = Client::new(trust(&other)).config().await.unwrap_err();
    assert!(error.contains("is not that of the certificate"), "{error}");
}

#[test]
fn an_encrypted_key_is_called_encrypted() {
    let authority = Authority::new();
    let (certificate, key) = authority.identity("agent");
    for text in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-256-CBC,00\r\n\r\nMAAA\r\n\
         -----END RSA PRIVATE KEY-----\r\n",
    ] {
        std::fs::write(&key, text).unwrap();
        let trust = Trust { identity: Some((certificate.clone(), key.clone())), ..Trust::default() };
        let problems = check(&trust).unwrap_err();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.contains("agent.key") && problem.contains("is encrypted"), "{problem}");
        assert!(problem.contains("openssl pkey -in"), "{problem}");
    }
}

#[tokio::test]
async fn a_file_whose_file_system_does_not_answer_is_named_and_holds_nothing_up() {
    let (authority, other) = (Authority::new(), Authority::new());
    let trust = Trust { identity: Some(other.identity("agent")), ..trusting(&authority, Verification::Full) };
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hang = move |_: &Path| released.recv().is_ok();
    patient::ask(&other.folder().join("any"), std::time::Duration::from_millis(1), hang).unwrap_err();
    let problems = check(&trust).unwrap_err();
    assert_eq!(problems.len(), 2, "only those of its folder: {problems:?}");
    for (problem, file) in problems.iter().zip(["agent.pem", "agent.key"]) {
        assert!(problem.contains(file) && problem.contains("its file system does not answer"), "{problem}");
    }
    let error = Client::new(trust).config().await.unwrap_err();
    assert!(error.contains("agent.pem") && error.contains("agent.key") && !error.contains("ca.pem"), "{error}");
    release.send(()).unwrap();
}

#[tokio::test]
async fn a_servers_certificate_is_seen_whether_or_not_it_is_trusted() {
    let authority = Authority::new();
    for trust in [trusting(&authority, Verification::Full), Trust::default()] {
        let seen = Seen::default();
        let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        let connector = TlsConnector::from(Arc::new(Client::new(trust.clone()).watched(&seen).await.unwrap()));
        let client = connector.connect(ServerName::try_from("localhost").unwrap(), near);
        let (client, _) = tokio::join!(client, accepted(authority.server("localhost", false), far));
        assert_eq!(client.is_ok(), trust.authority.is_some());
        // DER begins with a sequence.
        assert!(seen.chain().first().is_some_and(|certificate| certificate.starts_with(&[0x30])), "{seen:?}");
    }
}

#[tokio::test]
async fn a_session_that_the_machines_authorities_believed_is_not_resumed() {
    let server = Authority::new().server("localhost", false);
    let of_plugins = ClientConfig::clone(&Client::default().config().await.unwrap());
    for mut config in [verifying().unwrap(), of_plugins] {
        // Any certificate, since this machine has no authority of tests.
        let all = Verifier { believed: Believed::All, any_name: true, seen: None };
        config.dangerous().set_certificate_verifier(Arc::new(all));
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
            let client = connector.connect(ServerName::try_from("localhost").unwrap(), near);
            let (client, server) = tokio::join!(client, server.accept(far));
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            // Behind what a session could be resumed with.
            server.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn a_file_without_a_certificate_or_key_is_named() {
    let authority = Authority::new();
    let empty = authority.folder().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let (certificate, key) = authority.identity("agent");
    for (trust, file) in [
        (Trust { authority: Some(empty.clone()), ..Trust::default() }, &empty),
        (Trust { identity: Some((empty.clone(), key.clone())), ..Trust::default() }, &empty),
        (Trust { identity: Some((certificate.clone(), certificate.clone())), ..Trust::default() }, &certificate),
        (Trust { authority: Some("/no/such".into()), ..Trust::default() }, &PathBuf::from("/no/such")),
    ] {
        let error = check(&trust).unwrap_err().concat();
        assert!(error.contains(&file.display().to_string()) && error.contains("PEM"), "{error}");
        assert!(error.contains("; repair it, or name another as `"), "{error}");
    }
}

#[tokio::test]
async fn all_files_that_cannot_be_used_are_named_at_once_and_a_pair_that_does_not_belong_together_with_both() {
    let authority = Authority::new();
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(|name| authority.folder().join(name));
    let missing =
        Trust { authority: Some(ca.clone()), identity: Some((certificate.clone(), key.clone())), ..Trust::default() };
    std::fs::write(&certificate, "nothing").unwrap();
    let problems = check(&missing).unwrap_err();
    let shown = [&ca, &certificate, &key].map(|file| format!("`{}`", file.display()));
    assert!(problems.len() == 3 && problems.iter().zip(&shown).all(|(why, file)| why.contains(file)), "{problems:?}");
    let said = Client::new(missing).config().await.unwrap_err();
    assert!(shown.iter().all(|file| said.contains(file)), "{said}");
    let (certificate, _) = authority.identity("agent");
    let other = Authority::new();
    let (_, key) = other.identity("agent");
    let pair = Trust { identity: Some((certificate.clone(), key.clone())), ..Trust::default() };
    let expected = format!(
        "the private key in `{}` is not that of the certificate in `{}`: name two files that belong together",
        key.display(),
        certificate.display()
    );
    assert_eq!(check(&pair).unwrap_err(), [expected]);
}

#[test]
fn a_file_of_some_megabytes_of_authorities_is_read_and_one_for_other_purposes_alone_is_refused() {
    let authority = Authority::new();
    let pem = std::fs::read_to_string(authority.file()).unwrap();
    std::fs::write(authority.file(), format!("{}{pem}", "# comment\n".repeat(300_000))).unwrap();
    check(&trusting(&authority, Verification::Full)).unwrap();
    let mail = authority.folder().join("mail.pem");
    // As `openssl x509 -addtrust emailProtection` writes it.
    std::fs::write(&mail, include_str!("mail.pem")).unwrap();
    let error = check(&naming(&mail, Verification::Full)).unwrap_err().concat();
    assert!(error.contains("trusted for other purposes than servers"), "{error}");
}

/// A trust in the certificate in this file, as the operator names it.
fn naming(file: &Path, verification: Verification) -> Trust {
    Trust { verification, authority: Some(file.to_owned()), identity: None }
}

#[tokio::test]
async fn a_servers_own_certificate_that_is_named_is_believed_for_its_name_and_no_other_is() {
    for is_authority in [true, false] {
        let own = SelfSigned::new("localhost", is_authority, Validity::Now);
        for verification in [Verification::Full, Verification::Authority] {
            let trust = naming(&own.file(), verification);
            assert!(agree(&trust, own.server()).await, "{verification:?}, authority: {is_authority}");
            let other = SelfSigned::new("localhost", is_authority, Validity::Now);
            assert!(!agree(&trust, other.server()).await, "another certificate of the same name");
        }
        assert!(!agree(&Trust::default(), own.server()).await, "it is not named");
        for (validity, why) in [(Validity::Past, "expired"), (Validity::Future, "not valid yet")] {
            let own = SelfSigned::new("localhost", is_authority, validity);
            assert!(!agree(&naming(&own.file(), Verification::Full), own.server()).await, "{why}");
            assert!(!agree(&naming(&own.file(), Verification::Authority), own.server()).await, "{why}");
        }
        let elsewhere = SelfSigned::new("elsewhere", is_authority, Validity::Now);
        assert!(!agree(&naming(&elsewhere.file(), Verification::Full), elsewhere.server()).await, "another name");
        assert!(agree(&naming(&elsewhere.file(), Verification::Authority), elsewhere.server()).await, "any name");
    }
}

#[tokio::test]
async fn naming_a_servers_certificate_makes_no_other_of_its_authority_believed() {
    let authority = Authority::new();
    let (certificate, _) = authority.identity("localhost");
    let trust = naming(&certificate, Verification::Full);
    assert!(!agree(&trust, authority.server("localhost", false)).await);
}

#[tokio::test]
async fn files_are_read_again_only_when_they_have_changed() {
    let authority = Authority::new();
    let client = Client::new(trusting(&authority, Verification::Full));
    let first = client.config().await.unwrap();
    assert!(Arc::ptr_eq(&first, &client.config().await.unwrap()));
    let other = Authority::new();
    std::fs::copy(other.file(), authority.file()).unwrap();
    let second = client.config().await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &client.config().await.unwrap()));
    std::fs::remove_file(authority.file()).unwrap();
    assert!(client.config().await.unwrap_err().contains("ca.pem"));
}

#[tokio::test]
async fn an_authority_that_is_installed_later_is_believed_by_the_same_client_after_a_failure() {
    static INSTALLED: Mutex<Vec<CertificateDer<'static>>> = Mutex::new(Vec::new());
    fn load() -> Result<Read, Nothing> {
        let mut anchors = Anchors::of_roots(webpki_roots::TLS_SERVER_ROOTS);
        INSTALLED.lock().unwrap().iter().for_each(|certificate| anchors.add(certificate.clone()).unwrap());
        Ok(Read { anchors, unread: Vec::new() })
    }
    static ROOTS: Roots = Roots::new(load);
    let authority = Authority::new();
    let verifier = Arc::new(Verifier { believed: Believed::Machine(&ROOTS), any_name: false, seen: None });
    let config = builder().unwrap().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let config = Arc::new(config);
    let server = || authority.server("localhost", false);
    ROOTS.make_ready().unwrap();
    *INSTALLED.lock().unwrap() = vec![CertificateDer::from_pem_file(authority.file()).unwrap()];
    assert!(!agree_with(Arc::clone(&config), server()).await, "those that were read before");
    while !agree_with(Arc::clone(&config), server()).await {
        tokio::task::yield_now().await;
    }
    assert!(!agree_with(config, Authority::new().server("localhost", false)).await, "another authority");
}

#[tokio::test]
async fn a_servers_own_certificate_is_believed_where_the_machine_has_it() {
    static OWN: OnceLock<CertificateDer<'static>> = OnceLock::new();
    static ROOTS: Roots = Roots::new(|| {
        let mut anchors = Anchors::new();
        anchors.add(OWN.get().unwrap().clone()).unwrap();
        Ok(Read { anchors, unread: Vec::new() })
    });
    let own = SelfSigned::new("localhost", true, Validity::Now);
    OWN.set(CertificateDer::from_pem_file(own.file()).unwrap()).unwrap();
    let verifier = Arc::new(Verifier { believed: Believed::Machine(&ROOTS), any_name: false, seen: None });
    let config = builder().unwrap().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let config = Arc::new(config);
    assert!(!agree_with(Arc::clone(&config), own.server()).await, "they were not read");
    ROOTS.make_ready().unwrap();
    assert!(agree_with(Arc::clone(&config), own.server()).await);
    assert!(!agree_with(config, SelfSigned::new("localhost", true, Validity::Now).server()).await, "another one");
}

/// Whether each version of TLS agrees with a server that has this certificate, when just `trusted` is named.
async fn agrees(server: &Unusual, trusted: &CertificateDer<'static>, name: &str, any_name: bool) -> bool {
    let mut anchors = Anchors::new();
    anchors.add(trusted.clone()).unwrap();
    let verifier = Verifier { believed: Believed::Named(Arc::new(anchors)), any_name, seen: None };
    let config =
        builder().unwrap().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    let config = Arc::new(config);
    let mut agreed = [false; 2];
    for (agreed, version) in agreed.iter_mut().zip([&rustls::version::TLS12, &rustls::version::TLS13]) {
        *agreed = agree_as(Arc::clone(&config), server.server(version), name).await;
    }
    assert!(agreed[0] == agreed[1], "TLS 1.2 and 1.3 differ: {agreed:?}");
    agreed[0]
}

#[tokio::test]
async fn a_certificate_of_an_old_form_is_believed_for_its_common_name_if_it_or_its_authority_is_named() {
    let authority = Authority::new();
    let root = CertificateDer::from_pem_file(authority.file()).unwrap();
    let other = CertificateDer::from_pem_file(Authority::new().file()).unwrap();
    for form in [Form::CommonName, Form::Authority, Form::Version1] {
        for signer in [Some(&authority), None] {
            let server = |name, validity| Unusual::new(name, form, validity, signer);
            let own = server("localhost", Validity::Now);
            let case = format!("{form:?}, signed by an authority: {}", signer.is_some());
            assert!(agrees(&own, &own.certificate, "localhost", false).await, "{case}");
            assert_eq!(agrees(&own, &root, "localhost", false).await, signer.is_some(), "{case}");
            assert!(!agrees(&own, &other, "localhost", false).await, "{case}: another authority of that name");
            assert!(!agrees(&own, &own.certificate, "elsewhere", false).await, "{case}: another name");
            assert!(!agrees(&own, &own.certificate, "127.0.0.1", false).await, "{case}: an address");
            assert!(agrees(&own, &own.certificate, "elsewhere", true).await, "{case}: any name");
            for validity in [Validity::Past, Validity::Future] {
                let own = server("localhost", validity);
                assert!(!agrees(&own, &own.certificate, "localhost", true).await, "{case}: {validity:?}");
                assert!(!agrees(&own, &root, "localhost", true).await, "{case}: {validity:?}");
            }
            let many = server("*.corp.example", Validity::Now);
            assert!(agrees(&many, &many.certificate, "web.corp.example", false).await, "{case}");
            assert!(!agrees(&many, &many.certificate, "a.web.corp.example", false).await, "{case}");
            let address = server("127.0.0.1", Validity::Now);
            assert!(agrees(&address, &address.certificate, "127.0.0.1", false).await, "{case}");
            assert!(!agrees(&address, &address.certificate, "127.0.0.2", false).await, "{case}");
        }
    }
}

#[tokio::test]
async fn a_common_name_does_not_count_beside_other_names_or_below_an_authority_that_limits_names() {
    let authority = Authority::new();
    let root = CertificateDer::from_pem_file(authority.file()).unwrap();
    let free = Unusual::below(&authority, None, "localhost");
    assert!(agrees(&free, &root, "localhost", false).await);
    let limited = Unusual::below(&authority, Some("corp.example"), "localhost");
    assert!(!agrees(&limited, &root, "localhost", false).await);
    assert!(agrees(&limited, &root, "localhost", true).await);
    let other = Unusual::new("localhost", Form::OtherName, Validity::Now, Some(&authority));
    assert!(agrees(&other, &root, "other.example", false).await);
    assert!(!agrees(&other, &root, "localhost", false).await);
}
