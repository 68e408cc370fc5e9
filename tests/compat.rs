//! Programs written for acme-micro 0.14 build unchanged and work, against a real CA (Pebble).
//!
//! Each test has an account of its own, so Pebble reuses no authorization. Certificates have to be valid
//! for two days at least, as in each of Pebble's profiles. The library repeats requests whose nonce
//! Pebble refuses.
#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme_micro::order::{Auth, CertOrder, Challenge, CsrOrder, NewOrder};
use acme_micro::{
    Account, AcmeError, Certificate, Directory, DirectoryUrl, ErrorKind, Key, KeyType,
    RevocationReason, Time, api, create_p256_key, create_p384_key, create_rsa_key,
    tls_alpn_certificate,
};
use openssl::asn1::Asn1Time;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{AlpnError, SslAcceptor, SslMethod, select_next_proto};
use openssl::x509::X509;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run these tests with `make test-rust`, beside Pebble")
    })
}

/// Serves http-01 for all tests: they share one process and Pebble's one port.
fn published() -> &'static Mutex<HashMap<String, String>> {
    static PUBLISHED: Mutex<Option<&'static Mutex<HashMap<String, String>>>> = Mutex::new(None);
    let mut slot = PUBLISHED.lock().unwrap();
    slot.get_or_insert_with(|| {
        let table: &'static Mutex<HashMap<String, String>> = Box::leak(Box::default());
        let port: u16 = env("PEBBLE_HTTP_PORT").parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve_http_01(stream, table);
            }
        });
        table
    })
}

fn serve_http_01(
    mut stream: TcpStream,
    table: &Mutex<HashMap<String, String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (status, body) = match table.lock().unwrap().get(&path) {
        Some(proof) => ("200 OK", proof.clone()),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// POSTs JSON to Pebble's challenge test server.
fn challtestsrv(path: &str, json: &str) {
    let url = env("PEBBLE_CHALLTESTSRV");
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap();
    let length = json.len();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains(" 200 "), "{text}");
}

/// Verifies the chain, the names and the key with the openssl command.
fn verify(cert: &Certificate, names: &[&str]) {
    let file = std::env::temp_dir().join(format!(
        "compat-{}-{}.pem",
        std::process::id(),
        names[0].replace('*', "_")
    ));
    std::fs::write(&file, cert.certificate()).unwrap();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = file.to_str().unwrap();
    openssl(&["verify", "-CAfile", &env("PEBBLE_ROOT"), "-untrusted", path, path]);
    let text = openssl(&["x509", "-in", path, "-noout", "-ext", "subjectAltName"]);
    for name in names {
        let kind = if name.parse::<std::net::IpAddr>().is_ok() { "IP Address" } else { "DNS" };
        assert!(text.contains(&format!("{kind}:{name}")), "{text}");
    }
    let public = openssl(&["x509", "-in", path, "-noout", "-pubkey"]);
    let key = PKey::private_key_from_pem(cert.private_key().as_bytes()).unwrap();
    assert_eq!(public.as_bytes(), key.public_key_to_pem().unwrap());
    std::fs::remove_file(file).unwrap();
}

fn directory() -> Directory {
    Directory::from_url(DirectoryUrl::Other(&env("ACME_DIRECTORY"))).unwrap()
}

/// The program of the crate's own tutorial.
fn request_cert(account: &Account, names: &[&str]) -> acme_micro::Result<Certificate> {
    let mut new_order = account.new_order(names[0], &names[1..])?;
    let csr_order = loop {
        if let Some(csr_order) = new_order.confirm_validations() {
            break csr_order;
        }
        for auth in new_order.authorizations()? {
            if !auth.need_challenge() {
                continue;
            }
            let challenge = auth.http_challenge().unwrap();
            let proof = challenge.http_proof()?;
            let path = format!("/.well-known/acme-challenge/{}", challenge.http_token());
            published().lock().unwrap().insert(path, proof);
            challenge.validate(Duration::from_millis(100))?;
        }
        new_order.refresh()?;
    };
    let key = create_p384_key()?;
    csr_order.finalize_pkey(key, Duration::from_millis(100))?.download_cert()
}

#[test]
fn the_program_of_the_tutorial_gets_a_certificate() {
    let directory = directory();
    assert!(directory.api_directory().newOrder.starts_with("https://"));
    let contact = vec!["mailto:you@example.org".to_owned()];
    let account = directory.register_account(contact.clone()).unwrap();
    assert!(account.api_account().is_status_valid());
    let pem = account.acme_private_key_pem().unwrap();
    assert!(
        pem.starts_with("-----BEGIN EC PRIVATE KEY-----"),
        "the key is not in the format of 0.14"
    );

    let account = directory.load_account(&pem, contact).unwrap();
    assert_eq!(account.acme_private_key_pem().unwrap(), pem);
    let names = ["compat.test", "www.compat.test"];
    let cert = request_cert(&account, &names).unwrap();
    verify(&cert, &names);
    assert!(cert.valid_days_left().unwrap() > 1);
    assert_eq!(cert.certificate().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(cert.private_key().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!cert.certificate_der().unwrap().is_empty());
    openssl::ec::EcKey::private_key_from_der(&cert.private_key_der().unwrap()).expect("SEC 1");
    let again =
        Certificate::parse(cert.private_key().to_owned(), cert.certificate().to_owned()).unwrap();
    assert_eq!(again, cert);
    assert!(!format!("{cert:?}").contains("PRIVATE"), "Debug shows the key");

    account.revoke_certificate(&cert, RevocationReason::Superseded).unwrap();
    // Revoking a revoked certificate succeeds.
    account.revoke_certificate(&cert, RevocationReason::Superseded).unwrap();
}

#[test]
fn a_wildcard_is_validated_by_dns_01() {
    let account = directory().register_account(Vec::new()).unwrap();
    let mut order = account.new_order("*.wild.test", &["wild.test"]).unwrap();
    assert!(!order.is_validated() && order.confirm_validations().is_none());
    for auth in order.authorizations().unwrap() {
        assert_eq!(auth.domain_name(), "wild.test");
        let challenge = auth.dns_challenge().unwrap();
        assert!(challenge.need_validate());
        let proof = challenge.dns_proof().unwrap();
        let name = "_acme-challenge.wild.test.";
        challtestsrv("/set-txt", &format!(r#"{{"host":"{name}","value":"{proof}"}}"#));
        challenge.validate(Duration::from_millis(100)).unwrap();
        challtestsrv("/clear-txt", &format!(r#"{{"host":"{name}"}}"#));
    }
    order.refresh().unwrap();
    let key = create_p256_key().unwrap().private_key_to_pem_pkcs8().unwrap();
    let key = String::from_utf8(key).unwrap();
    let order = order.confirm_validations().unwrap();
    let cert = order.finalize(&key, Duration::ZERO).unwrap().download_cert().unwrap();
    assert_eq!(cert.private_key(), key);
    verify(&cert, &["*.wild.test", "wild.test"]);
}

/// Serves this certificate to clients of tls-alpn-01 (RFC 8737).
fn serve_tls_alpn_01(name: &str, digest: &[u8; 32]) {
    let key = Key::generate(KeyType::P256).unwrap();
    let now = Time::from(std::time::SystemTime::now());
    let chain = tls_alpn_certificate(name, digest, &key, now).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&X509::from_pem(chain.pem().as_bytes()).unwrap()).unwrap();
    acceptor.set_private_key(key.private_key().unwrap()).unwrap();
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x0aacme-tls/1", offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let acceptor = acceptor.build();
    let port: u16 = env("PEBBLE_TLS_PORT").parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = acceptor.accept(stream);
        }
    });
}

#[test]
fn a_name_is_validated_by_tls_alpn_01() {
    let account = directory().register_account(Vec::new()).unwrap();
    let mut order = account.new_order("alpn.test", &[]).unwrap();
    let auth = order.authorizations().unwrap().remove(0);
    let challenge = auth.tls_alpn_challenge().unwrap();
    serve_tls_alpn_01(auth.domain_name(), &challenge.tls_alpn_proof().unwrap());
    challenge.validate(Duration::from_millis(100)).unwrap();
    // A second response to a validated challenge is not a failure.
    challenge.validate(Duration::from_millis(100)).unwrap();
    order.refresh().unwrap();
    let order = order.confirm_validations().unwrap();
    let cert = order.finalize_pkey(create_p256_key().unwrap(), Duration::ZERO).unwrap();
    verify(&cert.download_cert().unwrap(), &["alpn.test"]);
}

#[test]
fn accounts_with_other_kinds_of_keys_get_certificates_for_addresses() {
    for key in [create_rsa_key(2048).unwrap(), create_p384_key().unwrap()] {
        let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let account = directory().load_account(&pem, Vec::new()).unwrap();
        let kept = account.acme_private_key_pem().unwrap();
        assert_eq!(kept.starts_with("-----BEGIN EC PRIVATE KEY-----"), key.ec_key().is_ok());
        assert!(PKey::private_key_from_pem(kept.as_bytes()).unwrap().public_eq(&key));
        let cert = request_cert(&account, &["127.0.0.1"]).unwrap();
        verify(&cert, &["127.0.0.1"]);
    }
}

#[test]
fn a_failed_validation_says_why() {
    published();
    let account = directory().register_account(Vec::new()).unwrap();
    let order = account.new_order("nothing-there.test", &[]).unwrap();
    let auth = order.authorizations().unwrap().remove(0);
    let error = auth.http_challenge().unwrap().validate(Duration::ZERO).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("Validation failed: \"Failed: "), "{text}");
    let typed = error.downcast_ref::<AcmeError>().expect("the typed error inside");
    assert_eq!(typed.kind(), ErrorKind::Challenge);
    assert_eq!(typed.identifier(), Some("nothing-there.test"));
    let problem = error.downcast_ref::<api::ApiProblem>().expect("the problem inside");
    assert_eq!(typed.problem().map(|problem| problem.type_urn()), Some(&*problem._type));
    let quoted = format!("{:?}", format!("Failed: {}", problem.detail.as_deref().unwrap()));
    assert_eq!(text, format!("Validation failed: {quoted}"));
}

#[test]
fn refusals_keep_the_typed_error() {
    let account = directory().register_account(Vec::new()).unwrap();
    let error = account.new_order("blocked-domain.example", &[]).err().unwrap();
    let typed = error.downcast_ref::<AcmeError>().unwrap();
    assert_eq!(typed.problem().and_then(|p| p.name()), Some("rejectedIdentifier"));
    let problem = error.downcast_ref::<api::ApiProblem>().unwrap();
    assert_eq!(error.to_string(), problem.to_string());
    assert!(error.to_string().starts_with("urn:ietf:params:acme:error:rejectedIdentifier: "));
    let error = Directory::from_url(DirectoryUrl::Other("http://ca.example/")).err().unwrap();
    assert_eq!(error.downcast_ref::<AcmeError>().unwrap().kind(), ErrorKind::Policy);
    let error = directory().load_account("no key", Vec::new()).err().unwrap();
    assert_eq!(error.to_string(), "Failed to read PEM");
    assert_eq!(error.downcast_ref::<AcmeError>().unwrap().kind(), ErrorKind::Parse);
}

type Asked = Arc<Mutex<Vec<String>>>;

/// Starts a CA for cases that Pebble cannot produce. `says(path, n)` returns the body of the n-th
/// response at that path, and its Retry-After in seconds; `None`: the CA closes the connection.
/// Returns the directory's URL, and the list of requested paths.
fn scripted_ca<F>(says: F) -> (String, Asked)
where
    F: Fn(&str, usize) -> Option<(String, u32)> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (directory, asked) = (format!("{base}/directory"), Asked::default());
    let log = asked.clone();
    std::thread::spawn(move || {
        for (n, mut stream) in listener.incoming().flatten().enumerate() {
            let path = read_request(&stream).unwrap();
            log.lock().unwrap().push(path.clone());
            let before = log.lock().unwrap().iter().filter(|p| **p == path).count();
            let Some((body, wait)) = says(&path, before) else { continue };
            let (body, wait) = (body.replace("BASE", &base), format!("Retry-After: {wait}\r\n"));
            let wait = if wait.contains(" 0") { "" } else { &wait };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nReplay-Nonce: bm9uY2U{n}\r\n\
                 Location: {base}/order\r\n{wait}Content-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    (directory, asked)
}

fn read_request(stream: &TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(path)
}

/// Returns the responses of any CA, except orders and authorizations.
fn usual(path: &str) -> String {
    match path {
        "/directory" => {
            r#"{"newNonce":"BASE/nonce","newAccount":"BASE/account","newOrder":"BASE/order"}"#
        }
        "/account" => r#"{"status":"valid","contact":null}"#,
        _ => "{}",
    }
    .to_owned()
}

fn order(status: &str, more: &str) -> String {
    format!(
        r#"{{"status":"{status}","identifiers":[{{"type":"dns","value":"a.test"}}],
        "authorizations":["BASE/authz"],"finalize":"BASE/finalize"{more}}}"#
    )
}

fn authorization(status: &str) -> String {
    format!(
        r#"{{"status":"{status}","identifier":{{"type":"dns","value":"a.test"}},"challenges":
        [{{"type":"dns-persist-01","url":"BASE/p","status":"pending"}},{{"type":"http-01",
        "url":"BASE/challenge","status":"pending","token":"aaaaaaaaaaaaaaaaaaaaaaaaa"}}]}}"#
    )
}

fn scripted_order(url: &str) -> NewOrder {
    let directory = Directory::from_url(DirectoryUrl::Other(url)).unwrap();
    assert_eq!(directory.api_directory().keyChange, "");
    directory.register_account(Vec::new()).unwrap().new_order("a.test", &[]).unwrap()
}

fn count(asked: &Asked, path: &str) -> usize {
    asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
}

#[test]
fn lost_requests_are_sent_again_and_retry_after_is_obeyed() {
    let (url, asked) = scripted_ca(|path, n| match (path, n) {
        ("/challenge" | "/finalize", 1) => None,
        ("/authz", 1) => Some((authorization("pending"), 0)),
        ("/authz", 2) => Some((authorization("pending"), 0)),
        ("/authz", 3) => Some((authorization("pending"), 2)),
        ("/authz", _) => Some((authorization("valid"), 0)),
        // newOrder; a fetch after the lost finalize; the response to the second finalize; polls.
        ("/order", 1 | 2) => Some((order("ready", ""), 0)),
        ("/finalize", _) => Some((order("processing", ""), 0)),
        ("/order", 3) => Some((order("processing", ""), 0)),
        ("/order", 4) => Some((order("valid", ""), 0)),
        ("/order", _) => Some((order("valid", r#","certificate":"BASE/cert""#), 0)),
        _ => Some((usual(path), 0)),
    });
    let new_order = scripted_order(&url);
    let auth = new_order.authorizations().unwrap().remove(0);
    assert_eq!(auth.api_auth().challenges[0].token, "", "a challenge without a token");
    let start = std::time::Instant::now();
    auth.http_challenge().unwrap().validate(Duration::ZERO).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(2), "faster than the CA asked for");
    assert_eq!((count(&asked, "/challenge"), count(&asked, "/authz")), (2, 4));

    let csr_order = new_order.confirm_validations().unwrap();
    let done = csr_order.finalize_pkey(create_p256_key().unwrap(), Duration::ZERO).unwrap();
    assert!(done.api_order().certificate.is_some());
    assert_eq!((count(&asked, "/finalize"), count(&asked, "/order")), (2, 5));
}

#[test]
fn an_order_that_becomes_invalid_says_why() {
    let (url, _) = scripted_ca(|path, n| match (path, n) {
        ("/order", 1) => Some((order("ready", ""), 0)),
        ("/order", _) => {
            let type_ = "urn:ietf:params:acme:error:caa";
            let error = format!(r#","error":{{"type":"{type_}","detail":"forbidden"}}"#);
            Some((order("invalid", &error), 0))
        }
        ("/finalize", _) => Some((order("processing", ""), 0)),
        _ => Some((usual(path), 0)),
    });
    let order = scripted_order(&url).confirm_validations().unwrap();
    let key = create_p256_key().unwrap();
    let error = order.finalize_pkey(key, Duration::ZERO).err().unwrap();
    assert_eq!(error.to_string(), r#"Order is in status: Some("invalid")"#);
    assert_eq!(error.downcast_ref::<AcmeError>().unwrap().kind(), ErrorKind::Order);
    let problem = error.downcast_ref::<api::ApiProblem>().unwrap();
    assert_eq!(problem.detail.as_deref(), Some("forbidden"));
}

#[test]
fn certificates_are_read_as_before() {
    let key = create_rsa_key(2048).unwrap();
    let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let ending_in = |seconds: i64| {
        let now = Time::from(std::time::SystemTime::now()).as_millis() / 1000;
        let mut builder = X509::builder().unwrap();
        builder.set_not_before(&Asn1Time::from_unix(now - 1_000_000).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(now + seconds).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
        let cert = String::from_utf8(builder.build().to_pem().unwrap()).unwrap();
        // `openssl x509 -text` puts text before the certificate; 0.14 accepted that.
        Certificate::parse(pem.clone(), format!("some text\n{cert}")).unwrap()
    };
    let day = 24 * 3600;
    // Days are truncated towards zero.
    for (seconds, days) in
        [(90 * day - 60, 89), (day - 60, 0), (60 - day, 0), (-60 - day, -1), (-3 * day, -3)]
    {
        assert_eq!(ending_in(seconds).valid_days_left().unwrap(), days, "{seconds}");
    }
    let der = ending_in(day).private_key_der().unwrap();
    assert_eq!(der, key.rsa().unwrap().private_key_to_der().unwrap(), "PKCS#1");
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(cipher, b"x").unwrap();
    let encrypted = String::from_utf8(encrypted).unwrap();
    let cert = ending_in(day).certificate().to_owned();
    assert!(
        Certificate::parse(encrypted, cert.clone()).is_err(),
        "the library does not ask for a passphrase"
    );
    assert!(Certificate::parse("no key".to_owned(), cert).is_err());
    assert!(Certificate::parse(pem, "no certificate".to_owned()).is_err());
}

/// Names each public item of 0.14 with its signature. This function has to compile; no test calls it.
#[allow(dead_code, clippy::type_complexity)]
fn signatures() {
    type R<T> = acme_micro::Result<T, acme_micro::Error>;
    let _: fn(DirectoryUrl<'_>) -> R<Directory> = Directory::from_url;
    let _: fn(&Directory, Vec<String>) -> R<Account> = Directory::register_account;
    let _: fn(&Directory, &str, Vec<String>) -> R<Account> = Directory::load_account;
    let _: fn(&Directory) -> &api::ApiDirectory = Directory::api_directory;
    let _: fn(&Account) -> R<String> = Account::acme_private_key_pem;
    let _: fn(&Account, &str, &[&str]) -> R<NewOrder> = Account::new_order;
    let _: fn(&Account, &Certificate, RevocationReason) -> R<()> = Account::revoke_certificate;
    let _: fn(&Account) -> &api::ApiAccount = Account::api_account;
    let _: fn() -> R<PKey<Private>> = create_p256_key;
    let _: fn() -> R<PKey<Private>> = create_p384_key;
    let _: fn(u32) -> R<PKey<Private>> = create_rsa_key;
    let _: fn(String, String) -> R<Certificate> = Certificate::parse;
    let _: fn(&Certificate) -> &str = Certificate::private_key;
    let _: fn(&Certificate) -> R<Vec<u8>> = Certificate::private_key_der;
    let _: fn(&Certificate) -> &str = Certificate::certificate;
    let _: fn(&Certificate) -> R<Vec<u8>> = Certificate::certificate_der;
    let _: fn(&Certificate) -> R<i64> = Certificate::valid_days_left;
    let _: fn(&Auth) -> &str = Auth::domain_name;
    let _: fn(&Auth) -> bool = Auth::need_challenge;
    let _: fn(&Auth) -> &api::ApiAuth = Auth::api_auth;
    let _: fn(&NewOrder) -> bool = NewOrder::is_validated;
    let _: fn(&NewOrder) -> Option<CsrOrder> = NewOrder::confirm_validations;
    let _: fn(&mut NewOrder) -> R<()> = NewOrder::refresh;
    let _: fn(&NewOrder) -> R<Vec<Auth>> = NewOrder::authorizations;
    let _: fn(&NewOrder) -> &api::ApiOrder = NewOrder::api_order;
    let _: fn(CsrOrder, &str, Duration) -> R<CertOrder> = CsrOrder::finalize;
    let _: fn(CsrOrder, PKey<Private>, Duration) -> R<CertOrder> = CsrOrder::finalize_pkey;
    let _: fn(&CsrOrder) -> &api::ApiOrder = CsrOrder::api_order;
    let _: fn(CertOrder) -> R<Certificate> = CertOrder::download_cert;
    let _: fn(&CertOrder) -> &api::ApiOrder = CertOrder::api_order;
    fn challenges(auth: &Auth) {
        if let Some(challenge) = auth.http_challenge() {
            let _: (&str, R<String>) = (challenge.http_token(), challenge.http_proof());
            fn unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>(_: &T) {}
            unwind_safe(&challenge);
            any(&challenge);
        }
        if let Some(challenge) = auth.dns_challenge() {
            let _: R<String> = challenge.dns_proof();
            any(&challenge);
        }
        if let Some(challenge) = auth.tls_alpn_challenge() {
            let _: R<[u8; 32]> = challenge.tls_alpn_proof();
            any(&challenge);
        }
    }
    fn any<A>(challenge: &Challenge<A>) {
        let _: bool = challenge.need_validate();
        let _: R<()> = challenge.validate(Duration::ZERO);
        let _: &api::ApiChallenge = challenge.api_challenge();
    }
    fn traits(auth: Auth) {
        fn shared<T: Clone + Send + Sync>() {}
        fn unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
        unwind_safe::<(Directory, Account, Certificate, RevocationReason, DirectoryUrl<'_>)>();
        unwind_safe::<(NewOrder, CsrOrder, CertOrder, Auth)>();
        fn sent<T: Send + Sync + Unpin>() {}
        sent::<(NewOrder, CsrOrder, CertOrder, Auth, Certificate, RevocationReason)>();
        fn data<T: std::fmt::Debug + Clone + PartialEq + Eq>() {}
        fn api<T>()
        where
            T: std::fmt::Debug + Clone + PartialEq + Eq + Serialize + DeserializeOwned,
        {
        }
        fn api_default<T: Default>() {
            let _ = T::default();
        }
        shared::<Directory>();
        shared::<Account>();
        data::<Certificate>();
        let _ = format!("{auth:?} {:?}", DirectoryUrl::LetsEncryptStaging.clone());
        macro_rules! each {
            ($check:ident: $($name:ident)+) => { $($check::<api::$name>();)+ };
        }
        each!(api: ApiProblem ApiSubproblem ApiDirectory ApiDirectoryMeta ApiAccount ApiOrder);
        each!(api: ApiIdentifier ApiAuth ApiChallenge ApiFinalize ApiRevocation);
        each!(api_default: ApiProblem ApiSubproblem ApiDirectory ApiDirectoryMeta ApiAccount);
        each!(api_default: ApiOrder);
        let _: anyhow::Error = acme_micro::Error::from(api::ApiProblem::default());
        let _: acme_micro::Result<()> = anyhow::Result::Ok(());
    }
}

/// Compiles and does not run: each field of the structs of `api` with its type, and each method.
#[allow(dead_code)]
fn api_fields(text: String, some: Option<String>, flag: Option<bool>, url: DirectoryUrl<'_>) {
    use api::*;
    let (t, o) = (|| text.clone(), || some.clone());
    let identifier = ApiIdentifier { _type: t(), value: t() };
    let _: bool = identifier.is_type_dns();
    let subproblem =
        ApiSubproblem { _type: t(), detail: o(), identifier: Some(identifier.clone()) };
    let problem = ApiProblem { _type: t(), detail: o(), subproblems: Some(vec![subproblem]) };
    let _: [fn(&ApiProblem) -> bool; 2] =
        [ApiProblem::is_bad_nonce, ApiProblem::is_jwt_verification_error];
    let meta = ApiDirectoryMeta {
        termsOfService: o(),
        website: o(),
        caaIdentities: Some(vec![t()]),
        externalAccountRequired: flag,
    };
    let _: bool = meta.externalAccountRequired();
    let _ = ApiDirectory {
        newNonce: t(),
        newAccount: t(),
        newOrder: t(),
        newAuthz: o(),
        revokeCert: t(),
        keyChange: t(),
        meta: Some(meta),
    };
    let _ = ApiAccount { status: o(), contact: vec![t()], termsOfServiceAgreed: flag, orders: o() };
    let _: [fn(&ApiAccount) -> bool; 4] = [
        ApiAccount::is_status_valid,
        ApiAccount::is_status_deactivated,
        ApiAccount::is_status_revoked,
        ApiAccount::termsOfServiceAgreed,
    ];
    let order = ApiOrder {
        status: o(),
        expires: o(),
        identifiers: vec![identifier.clone()],
        notBefore: o(),
        notAfter: o(),
        error: Some(problem.clone()),
        authorizations: Some(vec![t()]),
        finalize: t(),
        certificate: o(),
    };
    let _: Vec<&str> = order.domains();
    let _: [fn(&ApiOrder) -> bool; 5] = [
        ApiOrder::is_status_pending,
        ApiOrder::is_status_ready,
        ApiOrder::is_status_processing,
        ApiOrder::is_status_valid,
        ApiOrder::is_status_invalid,
    ];
    let challenge = ApiChallenge {
        url: t(),
        _type: t(),
        status: t(),
        token: t(),
        validated: o(),
        error: Some(problem),
    };
    let _: [fn(&ApiChallenge) -> bool; 4] = [
        ApiChallenge::is_status_pending,
        ApiChallenge::is_status_processing,
        ApiChallenge::is_status_valid,
        ApiChallenge::is_status_invalid,
    ];
    let challenges = vec![challenge];
    let _ = ApiAuth { identifier, status: o(), expires: o(), challenges, wildcard: flag };
    let _: [fn(&ApiAuth) -> bool; 7] = [
        ApiAuth::is_status_pending,
        ApiAuth::is_status_valid,
        ApiAuth::is_status_invalid,
        ApiAuth::is_status_deactivated,
        ApiAuth::is_status_expired,
        ApiAuth::is_status_revoked,
        ApiAuth::wildcard,
    ];
    let _: [fn(&ApiAuth) -> Option<&ApiChallenge>; 3] =
        [ApiAuth::http_challenge, ApiAuth::dns_challenge, ApiAuth::tls_alpn_challenge];
    let _ = (ApiFinalize { csr: t() }, ApiRevocation { certificate: t(), reason: 1usize });
    match url {
        DirectoryUrl::LetsEncrypt | DirectoryUrl::LetsEncryptStaging => {}
        DirectoryUrl::Other(url) => _ = url.len(),
    }
}

#[test]
fn the_reasons_for_a_revocation_keep_their_numbers() {
    use RevocationReason::*;
    let numbers = [
        Unspecified as usize,
        KeyCompromise as usize,
        CACompromise as usize,
        AffiliationChanged as usize,
        Superseded as usize,
        CessationOfOperation as usize,
        CertificateHold as usize,
        RemoveFromCRL as usize,
        PrivilegeWithdrawn as usize,
        AACompromise as usize,
    ];
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]);
}

/// Checks that a value stays the same when it is written and read.
fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
}

#[test]
fn api_structs_are_read_tolerantly_and_written_as_before() {
    let auth: api::ApiAuth = serde_json::from_str(
        r#"{"identifier":{"type":"dns","value":"example.org"},"status":"pending","x":1,
        "challenges":[{"type":"dns-persist-01","url":"https://ca/c","status":"pending",
        "issuer-domain-names":["ca.example"]}]}"#,
    )
    .unwrap();
    assert_eq!(auth.challenges[0].token, "");
    assert!(auth.http_challenge().is_none() && auth.is_status_pending() && !auth.wildcard());
    again(&auth);
    let order: api::ApiOrder =
        serde_json::from_str(r#"{"status":"ready","identifiers":[]}"#).unwrap();
    assert!(order.is_status_ready() && order.finalize.is_empty());
    again(&order);
    let account: api::ApiAccount =
        serde_json::from_str(r#"{"status":"valid","contact":null}"#).unwrap();
    assert!(account.contact.is_empty() && account.is_status_valid());
    again(&account);
    assert_eq!(serde_json::to_string(&account).unwrap(), r#"{"status":"valid","contact":[]}"#);
    let directory: api::ApiDirectory = serde_json::from_str(
        r#"{"newNonce":"n","newAccount":"a","newOrder":"o","keyChange":null}"#,
    )
    .unwrap();
    assert_eq!((directory.keyChange.as_str(), directory.revokeCert.as_str()), ("", ""));
    again(&directory);
    let json = serde_json::to_value(&order).unwrap();
    assert_eq!(json["notBefore"], serde_json::Value::Null);
    let problem: api::ApiProblem = serde_json::from_str(
        r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"no","status":400}"#,
    )
    .unwrap();
    assert!(problem.is_bad_nonce());
    again(&problem);
    let error = acme_micro::Error::from(problem.clone());
    assert_eq!(error.downcast_ref::<api::ApiProblem>(), Some(&problem));
    assert_eq!(error.to_string(), problem.to_string());
    assert_eq!(problem.to_string(), "urn:ietf:params:acme:error:badNonce: no");
    assert_eq!(serde_json::to_string(&api::ApiEmptyString).unwrap(), r#""""#);
    assert_eq!(serde_json::to_string(&api::ApiEmptyObject).unwrap(), "{}");
}
