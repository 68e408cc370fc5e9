//! Programs written for acme-micro 0.14 build unchanged and work, against a real CA (Pebble).
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
    Account, AcmeError, Certificate, Directory, DirectoryUrl, ErrorKind, RevocationReason, api,
    create_p256_key, create_p384_key, create_rsa_key,
};
use openssl::pkey::{PKey, Private};

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run these tests with `make test-rust`, beside Pebble")
    })
}

/// Answers http-01 for all tests: they run in one process, and Pebble asks on one port.
fn published() -> &'static Mutex<HashMap<String, String>> {
    static PUBLISHED: Mutex<Option<&'static Mutex<HashMap<String, String>>>> = Mutex::new(None);
    let mut slot = PUBLISHED.lock().unwrap();
    slot.get_or_insert_with(|| {
        let table: &'static Mutex<HashMap<String, String>> = Box::leak(Box::default());
        let port: u16 = env("PEBBLE_HTTP_PORT").parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, table);
            }
        });
        table
    })
}

fn answer(mut stream: TcpStream, table: &Mutex<HashMap<String, String>>) -> std::io::Result<()> {
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

/// What the openssl command line says of the chain, and of each name.
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
        assert!(text.contains(&format!("DNS:{name}")), "{text}");
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
    assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----"), "not in the form of 0.14");

    let account = directory.load_account(&pem, contact).unwrap();
    assert_eq!(account.acme_private_key_pem().unwrap(), pem);
    let names = ["compat.test", "www.compat.test"];
    let cert = request_cert(&account, &names).unwrap();
    verify(&cert, &names);
    assert!(cert.valid_days_left().unwrap() > 1);
    assert_eq!(cert.certificate().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(cert.private_key().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!cert.certificate_der().unwrap().is_empty());
    assert!(!cert.private_key_der().unwrap().is_empty());
    let again =
        Certificate::parse(cert.private_key().to_owned(), cert.certificate().to_owned()).unwrap();
    assert_eq!(again, cert);
    assert!(!format!("{cert:?}").contains("PRIVATE"), "Debug shows the key");

    account.revoke_certificate(&cert, RevocationReason::Superseded).unwrap();
    // What is so already is no failure.
    account.revoke_certificate(&cert, RevocationReason::Superseded).unwrap();
}

#[test]
fn a_wildcard_by_dns() {
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
    assert!(typed.problem().is_some());
}

#[test]
fn refusals_keep_the_typed_error() {
    let account = directory().register_account(Vec::new()).unwrap();
    let error = account.new_order("blocked-domain.example", &[]).err().unwrap();
    let typed = error.downcast_ref::<AcmeError>().unwrap();
    assert_eq!(typed.problem().and_then(|p| p.name()), Some("rejectedIdentifier"));
    let error = Directory::from_url(DirectoryUrl::Other("http://ca.example/")).err().unwrap();
    assert_eq!(error.downcast_ref::<AcmeError>().unwrap().kind(), ErrorKind::Policy);
    let error = directory().load_account("no key", Vec::new()).err().unwrap();
    assert_eq!(error.to_string(), "Failed to read PEM");
}

/// Does not run: it is there to compile. Each public item of 0.14 with its signature.
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
    fn traits() {
        fn shared<T: Clone + Send + Sync>() {}
        fn data<T: std::fmt::Debug + Clone + PartialEq + Eq>() {}
        shared::<Directory>();
        shared::<Account>();
        data::<Certificate>();
        data::<api::ApiAuth>();
        let _ = api::ApiOrder::default();
        let _: acme_micro::Error = api::ApiProblem::default().into();
        let _ = RevocationReason::AACompromise as usize;
        let _ = Arc::new(DirectoryUrl::LetsEncryptStaging.clone());
    }
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
    let order: api::ApiOrder =
        serde_json::from_str(r#"{"status":"ready","identifiers":[]}"#).unwrap();
    assert!(order.is_status_ready() && order.finalize.is_empty());
    let json = serde_json::to_value(&order).unwrap();
    assert_eq!(json["notBefore"], serde_json::Value::Null);
    let problem: api::ApiProblem = serde_json::from_str(
        r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"no","status":400}"#,
    )
    .unwrap();
    assert!(problem.is_bad_nonce());
    assert_eq!(problem.to_string(), "urn:ietf:params:acme:error:badNonce: no");
    assert_eq!(serde_json::to_string(&api::ApiEmptyString).unwrap(), r#""""#);
    assert_eq!(serde_json::to_string(&api::ApiEmptyObject).unwrap(), "{}");
}
