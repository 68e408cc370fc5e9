//! The issued certificate, which has to be the one that was ordered. RFC 8555 sections 7.4.2, 9.1,
//! 11.4.

use acme_micro::engine::{Issued, OrderOptions};
use acme_micro::{AcmeError, CertificateChain, ErrorKind, Key, KeyType};
use openssl::asn1::Asn1Integer;
use openssl::bn::BigNum;
use openssl::pkey::{PKey, Public};
use openssl::x509::X509Builder;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use serde_json::json;

use super::ca::Response;
use super::log;
use super::pki::{self, Contents, Shape};
use super::script::{START, Script};

/// Runs an issuance at a CA that creates its chains with `make`.
fn issue(
    make: impl Fn(&PKey<Public>, &[&str]) -> Vec<u8> + Send + 'static,
) -> Result<Script, AcmeError> {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(make);
    let issued = ca.obtain(&["example.org", "www.example.org"])?;
    assert!(!issued.chain.pem().contains("PRIVATE") && !issued.chain.pem().contains('\r'));
    Ok(ca)
}

/// Runs an issuance at a CA whose correct chain, as text, is spoiled by `change`.
fn edited(change: impl Fn(String) -> String + Send + 'static) -> Result<Script, AcmeError> {
    issue(move |key, names| {
        change(String::from_utf8(pki::sound_chain(key, names)).unwrap()).into_bytes()
    })
}

fn refused(outcome: Result<Script, AcmeError>, what: &str) -> AcmeError {
    let error = outcome.err().unwrap_or_else(|| panic!("accepted: {what}"));
    assert_eq!(error.kind(), ErrorKind::Certificate, "{what}: {error}");
    assert!(error.url().is_some_and(|url| url.contains("/cert/")), "{what}: {error}");
    error
}

#[test]
fn c01_a_certificate_for_another_key_is_refused() {
    let error = refused(
        issue(|_, names| pki::sound_chain(&pki::public(&pki::new_key()), names)),
        "another key",
    );
    assert!(error.to_string().contains("key"), "{error}");
}

#[test]
fn c02_a_certificate_for_other_names_is_refused() {
    let named: [&'static [&'static str]; 6] = [
        &["example.org"],
        &["example.org", "www.example.org", "extra.example"],
        &["*.example.org", "example.org"],
        &["example.org", "www.example.net"],
        &["example.org", "192.0.2.1"],
        &[],
    ];
    for names in named {
        let error = refused(issue(move |key, _| pki::sound_chain(key, names)), &names.join(" "));
        assert!(error.to_string().contains("instead of"), "{error}");
    }
}

#[test]
fn c02_a_certificate_with_its_name_in_the_subject_only_is_refused() {
    let outcome = issue(|key, names| {
        let contents = Contents { subject: names[0], ..Contents::default() };
        pki::pem(&[&pki::leaf(key, &contents)])
    });
    refused(outcome, "common name only");
}

#[test]
fn c02_names_in_another_case_are_the_same() {
    issue(|key, _| pki::sound_chain(key, &["WWW.example.org", "Example.ORG"])).unwrap();
}

#[test]
fn c03_a_private_key_anywhere_in_the_response_is_refused() {
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    let odd = "-----begin rsa private key-----\nAAAA\n-----end rsa private key-----\n";
    for block in [key, odd] {
        refused(edited(move |pem| format!("{block}{pem}")), "before");
        refused(edited(move |pem| format!("{pem}{block}")), "after");
        let between = edited(move |pem| {
            pem.replacen(
                "-----END CERTIFICATE-----\n",
                &format!("-----END CERTIFICATE-----\n{block}"),
                1,
            )
        });
        refused(between, "between");
    }
}

#[test]
fn c04_c05_c21_c25_anything_but_certificates_in_the_response_is_refused() {
    type Change = fn(String) -> String;
    let changes: [(&str, Change); 12] = [
        ("text before", |pem| format!("subject=CN\n{pem}")),
        ("text after", |pem| format!("{pem}trailing text!\n")),
        ("nothing", |_| String::new()),
        ("white space", |_| " \n\n ".to_owned()),
        ("html", |_| "<html>".to_owned()),
        ("json", |_| r#"{"status":"processing"}"#.to_owned()),
        ("cut", |pem| pem[..pem.len() / 3].to_owned()),
        ("damaged", |pem| pem.replacen("MII", "MIX", 1)),
        ("nul", |pem| pem.replacen('M', "\0", 1)),
        ("a request", |pem| pem.replace("CERTIFICATE", "CERTIFICATE REQUEST")),
        ("eleven", |pem| pem.repeat(6)),
        ("empty block", |pem| {
            format!("{pem}-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
        }),
    ];
    for (what, change) in changes {
        refused(edited(change), what);
    }
}

#[test]
fn c05_an_empty_response_is_requested_again() {
    for empty in ["", " \r\n\n"] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").times(3).respond(Response::new(200, empty));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /cert/1"), 4);
        let mut ca = Script::new();
        ca.on("POST /cert/1").respond(Response::new(200, empty));
        let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
        let error = ca.run(&operation).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        assert_eq!(ca.count("POST /cert/1"), 4);
        assert!(operation.order_url().is_some(), "the order can be resumed");
    }
}

#[test]
fn c06_der_and_pkcs_7_are_refused_and_named() {
    for (shown, body) in [
        ("application/pkix-cert", leaf().to_der().unwrap()),
        ("application/pkcs7-mime", b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7".to_vec()),
        ("application/pkcs7-mime", pem_block("PKCS7", &leaf().to_der().unwrap())),
    ] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").respond(Response::new(200, body).header("Content-Type", shown));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        assert!(error.to_string().contains(shown), "{error}");
    }
}

fn leaf() -> openssl::x509::X509 {
    let contents = Contents { names: &["example.org"], ..Contents::default() };
    pki::leaf(&pki::new_key(), &contents)
}

fn pem_block(label: &str, der: &[u8]) -> Vec<u8> {
    let base64 = openssl::base64::encode_block(der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n").into_bytes()
}

#[test]
fn c07_a_certificate_that_is_not_strict_der_is_refused() {
    let nested = |levels: usize, tag: &[u8]| tag.repeat(levels);
    let sound = leaf().to_der().unwrap();
    assert_eq!(sound[..2], [0x30, 0x82]);
    // The outermost length is indefinite, which BER allows and DER does not.
    let indefinite = [&[0x30, 0x80], &sound[4..], &[0, 0]].concat();
    let long_length = [&[0x30, 0x83, 0], &sound[2..4], &sound[4..]].concat();
    for (what, der) in [
        ("cut", sound[..sound.len() - 1].to_vec()),
        ("followed by a byte", [sound.as_slice(), &[0]].concat()),
        ("followed by another", [sound.as_slice(), &sound].concat()),
        ("of indefinite length", indefinite),
        ("of a length in too many bytes", long_length),
        ("of 2 GiB", [&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff], &sound[4..]].concat()),
        ("of more than 2^64 bytes", [&[0x30, 0x89], [0xff; 9].as_slice(), &sound[4..]].concat()),
        ("nested without end", nested(100_000, &[0x30, 0x80])),
        ("nested in the wrong place", nested(50_000, &[0x30, 0x82, 0xff, 0xff])),
        ("nothing", Vec::new()),
    ] {
        let block = pem_block("CERTIFICATE", &der);
        assert!(CertificateChain::parse(&block).is_err(), "{what}");
        let mut ca = Script::new();
        ca.on("POST /cert/1").respond(Response::new(200, block));
        assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Certificate);
    }
    CertificateChain::parse(&pem_block("CERTIFICATE", &sound)).unwrap();
    for bad in ["A", "AA==AA==", "====", "MIIB"] {
        let block = format!("-----BEGIN CERTIFICATE-----\n{bad}\n-----END CERTIFICATE-----\n");
        assert!(CertificateChain::parse(block.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn c04_line_ends_and_blank_lines_are_normalized() {
    edited(|pem| format!("\r\n{}\r\n", pem.replace('\n', "\r\n"))).unwrap();
    edited(|pem| pem.trim_end().to_owned()).unwrap();
}

#[test]
fn c01_a_misissued_certificate_does_not_cost_a_second_order() {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(|key, _| pki::sound_chain(key, &["other.example"]));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Certificate);
    assert_eq!(
        ca.count("POST /new-order"),
        1,
        "a fresh order follows only if another client finalized"
    );
}

#[test]
fn o23_a_chain_is_requested_again_after_a_server_error() {
    for status in [500, 503] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").nth(1).respond(Response::new(status, ""));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /cert/1"), 2);
    }
}

#[test]
fn o23_a_certificate_unknown_to_a_replica_is_requested_again() {
    for (status, name) in [(404, "malformed"), (403, "unauthorized")] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").times(3).problem(status, name);
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /cert/1"), 4);
        let mut ca = Script::new();
        ca.on("POST /cert/1").problem(status, name);
        assert_eq!(ca.obtain(&["example.org"]).unwrap_err().http_status(), Some(status));
        assert_eq!(ca.count("POST /cert/1"), 4);
    }
}

/// Returns the contents of a leaf as a correct CA issues it.
fn sound() -> Contents<'static> {
    Contents { names: &["example.org"], ..Contents::default() }
}

/// Runs an issuance whose leaf has these contents.
fn with_leaf(contents: Contents<'static>) -> Result<Issued, AcmeError> {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(move |key, _| {
        pki::pem(&[&pki::leaf(key, &contents), &pki::intermediate().certificate])
    });
    ca.obtain(&["example.org"])
}

fn refused_leaf(contents: Contents<'static>, what: &str) {
    let error = with_leaf(contents).err().unwrap_or_else(|| panic!("accepted: {what}"));
    assert_eq!(error.kind(), ErrorKind::Certificate, "{what}: {error}");
}

#[test]
fn c14_validity_is_judged_by_the_cas_clock_and_without_overflow() {
    const DAY: i64 = 86_400;
    let from_1950 = 631_152_000 + START / 1000;
    let until_9999 = 253_402_300_799 - START / 1000;
    for (what, from, until) in [
        ("expired", -20 * DAY, -10 * DAY),
        ("expired a second ago", -20 * DAY, -1),
        ("expired in 1950", -from_1950 - DAY, -from_1950),
        ("starts in two days", 2 * DAY, 90 * DAY),
        ("starts in 9999", until_9999 - 1, until_9999),
        ("ends before it starts", 3600, -3600),
        ("ends when it starts", -3600, -3600),
    ] {
        refused_leaf(Contents { from, until, ..sound() }, what);
    }
    for (from, until) in [
        (-3600, 1),
        (0, 300),
        (DAY - 60, 2 * DAY),
        (-3600, until_9999),
        (-from_1950, 20 * 365 * DAY),
    ] {
        let issued = with_leaf(Contents { from, until, ..sound() }).unwrap();
        assert_eq!(issued.chain.not_before().as_millis(), START / 1000 * 1000 + from * 1000);
        assert_eq!(issued.chain.not_after().as_millis(), START / 1000 * 1000 + until * 1000);
    }
}

#[test]
fn c16_a_leaf_that_is_a_ca_is_refused() {
    refused_leaf(Contents { is_ca: true, ..sound() }, "a CA");
    let may_sign: Shape = |builder| {
        let usage = KeyUsage::new().critical().digital_signature().key_cert_sign().build();
        builder.append_extension(usage.unwrap()).unwrap();
    };
    refused_leaf(Contents { shape: may_sign, ..sound() }, "it may sign certificates");
    let usual: Shape = |builder| {
        let usage = KeyUsage::new().critical().digital_signature().key_encipherment().build();
        builder.append_extension(usage.unwrap()).unwrap();
        builder.append_extension(BasicConstraints::new().critical().build().unwrap()).unwrap();
    };
    with_leaf(Contents { shape: usual, ..sound() }).unwrap();
}

#[test]
fn c17_a_certificate_not_for_servers_is_returned_with_a_warning() {
    let warnings = |shape| {
        let (issued, lines) = log::lines(|| with_leaf(Contents { shape, ..sound() }));
        issued.unwrap();
        lines.into_iter().filter(|line| line.contains("not for servers")).count()
    };
    let client: Shape = |builder| {
        builder.append_extension(ExtendedKeyUsage::new().client_auth().build().unwrap()).unwrap();
    };
    assert_eq!(warnings(client), 1);
    let server: Shape = |builder| {
        builder.append_extension(ExtendedKeyUsage::new().server_auth().build().unwrap()).unwrap();
    };
    assert_eq!(warnings(server), 0);
    // An unknown extension is accepted even if it is critical: the peers that verify the
    // certificate judge it.
    assert_eq!(warnings(|builder| pki::extend(builder, "1.2.3.4", true, &[5, 0])), 0);
}

#[test]
fn c22_odd_serial_numbers_and_a_missing_issuer_key_do_no_harm() {
    fn serial(builder: &mut X509Builder, hex: &str) {
        let number = BigNum::from_hex_str(hex).unwrap();
        builder.set_serial_number(&Asn1Integer::from_bn(&number).unwrap()).unwrap();
    }
    let serials: [(Shape, Option<&[u8]>); 4] = [
        (|b| serial(b, "0"), Some(&[0])),
        (|b| serial(b, "80"), Some(&[0, 0x80])),
        (|b| serial(b, &"7f".repeat(40)), Some(&[0x7f; 40])),
        (|b| serial(b, "-7f"), None),
    ];
    for (shape, bytes) in serials {
        let chain = with_leaf(Contents { shape, ..sound() }).unwrap().chain;
        assert_eq!(chain.serial().ok().as_deref(), bytes);
        assert_eq!(chain.renewal_id().is_some(), bytes.is_some());
    }
    let chain = with_leaf(Contents { names_authority: false, ..sound() }).unwrap().chain;
    assert_eq!(chain.renewal_id(), None);
    // The certificate has no identifier: its lifetime decides, and the new order does not name it.
    let mut ca = Script::new();
    ca.ca.renewal_window = Some((1, 2));
    let operation = ca.client.renewal_info(&chain);
    assert!(!ca.run(&operation).unwrap().from_ca);
    assert_eq!(ca.count("GET /renewal-info/*"), 0);
    let mut options = OrderOptions::new(["example.org"]);
    options.replaces = Some(chain);
    ca.order(options).unwrap();
    assert!(ca.ca.replaced.is_empty());
}

#[test]
fn c23_names_are_compared_byte_for_byte() {
    /// Adds a subjectAltName extension with these names as dNSName.
    fn names(builder: &mut X509Builder, names: &[&[u8]]) {
        let mut content = Vec::new();
        for name in names {
            content.extend(tlv(0x82, name));
        }
        pki::extend(builder, "2.5.29.17", false, &tlv(0x30, &content));
    }
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x84], length.as_slice(), content]
            .concat()
            .into_iter()
            .enumerate()
            // DER writes a short length in one byte.
            .filter(|(n, _)| content.len() > 127 || !(1..5).contains(n))
            .map(|(_, byte)| byte)
            .collect()
    }
    let shapes: [(&str, Shape); 6] = [
        ("a zero byte", |b| names(b, &[b"example.org\0.evil.example"])),
        ("a zero byte before", |b| names(b, &[b"\0example.org"])),
        ("a dot at its end", |b| names(b, &[b"example.org."])),
        ("a long one besides", |b| names(b, &[b"example.org", &[b'a'; 300]])),
        ("ten thousand", |b| {
            let many: Vec<String> = (0..10_000).map(|n| format!("n{n}.example.org")).collect();
            names(b, &many.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
        }),
        ("an address of five bytes", |b| {
            let both = [tlv(0x82, b"example.org"), tlv(0x87, &[192, 0, 2, 1, 1])].concat();
            pki::extend(b, "2.5.29.17", false, &tlv(0x30, &both));
        }),
    ];
    for (what, shape) in shapes {
        refused_leaf(Contents { names: &[], shape, ..Contents::default() }, what);
    }
    // An internationalized name is certified in A-labels, as it was ordered; in Unicode it is
    // another name.
    let mut ca = Script::new();
    let issued = ca.obtain(&["b\u{fc}cher.example"]).unwrap();
    assert_eq!(issued.chain.names(), ["xn--bcher-kva.example"]);
    let mut ca = Script::new();
    ca.ca.issue = Box::new(|key, _| {
        let shape: Shape = |b| names(b, &["b\u{fc}cher.example".as_bytes()]);
        pki::pem(&[&pki::leaf(key, &Contents { shape, ..Contents::default() })])
    });
    let error = ca.obtain(&["b\u{fc}cher.example"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
}

#[test]
fn c24_must_staple_and_timestamps_are_not_judged() {
    // A TLS feature (RFC 7633) that was not ordered, and malformed SCT lists (RFC 6962).
    let shapes: [Shape; 3] = [
        |b| pki::extend(b, "1.3.6.1.5.5.7.1.24", false, &[0x30, 3, 2, 1, 5]),
        |b| pki::extend(b, "1.3.6.1.4.1.11129.2.4.2", false, &[4, 2, 0xff, 0xff]),
        |b| pki::extend(b, "1.3.6.1.4.1.11129.2.4.3", true, &[5, 0]),
    ];
    for shape in shapes {
        with_leaf(Contents { shape, ..sound() }).unwrap();
    }
    // The order asks for must-staple, and the CA leaves it out.
    let mut options = OrderOptions::new(["example.org"]);
    options.must_staple = true;
    Script::new().order(options).unwrap();
}

#[test]
fn c25_a_resource_instead_of_a_certificate_is_refused() {
    for body in [
        Response::json(200, &json!({"status": "processing"})),
        Response::json(200, &json!({"type": "urn:ietf:params:acme:error:serverInternal"})),
        Response::new(200, "<!DOCTYPE html><title>Welcome</title>"),
    ] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").respond(body);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Certificate | ErrorKind::Server), "{error}");
        assert_eq!(ca.count("POST /new-order"), 1);
        assert_eq!(ca.count("POST /cert/1"), 1);
    }
}

/// Returns a certificate, and the options of an order that replaces it with the same key.
fn to_be_replaced(until: i64) -> (CertificateChain, OrderOptions) {
    let key = Key::generate(KeyType::P256).unwrap();
    let leaf = pki::leaf(key.private_key().unwrap(), &Contents { until, ..sound() });
    let chain = pki::pem(&[&leaf, &pki::intermediate().certificate]);
    let chain = CertificateChain::parse(&chain).unwrap();
    let mut options = OrderOptions::new(["example.org"]);
    (options.key, options.replaces) = (Some(key), Some(chain.clone()));
    (chain, options)
}

#[test]
fn c19_the_old_certificate_is_not_accepted_as_its_replacement() {
    let (old, options) = to_be_replaced(30 * 86_400);
    let mut ca = Script::new();
    ca.ca.issue = Box::new(move |_, _| old.pem().as_bytes().to_vec());
    let error = ca.order(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Certificate);
    assert!(error.to_string().contains("is to be replaced"), "{error}");
    assert_eq!(ca.count("POST /new-order"), 1, "a second order would cost another certificate");
    // A resumed order returns the certificate that it had issued before: one fresh order follows.
    let (old, mut options) = to_be_replaced(30 * 86_400);
    let mut ca = Script::with_account();
    ca.publishing = Err("killed".to_owned());
    let operation = ca.client.obtain(options.clone()).unwrap();
    ca.run(&operation).unwrap_err();
    ca.publishing = Ok(());
    options.order_url = operation.order_url();
    ca.ca.processing_fetches = 0;
    ca.ca.finalize_with(1, pki::public(options.key.as_ref().unwrap().private_key().unwrap()));
    let chain = old.pem().as_bytes().to_vec();
    ca.ca.orders[1].chain = Some(chain);
    let issued = ca.order(options).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/3");
    assert_ne!(issued.chain.fingerprint(), old.fingerprint());
}

#[test]
fn c20_a_certificate_that_expires_before_the_old_one_is_returned_with_a_warning() {
    for (until, expected) in [(30 * 86_400, 0), (300 * 86_400, 1)] {
        let (_, options) = to_be_replaced(until);
        let (issued, lines) = log::lines(|| Script::new().order(options));
        issued.unwrap();
        let warned = lines.iter().filter(|l| l.starts_with("WARN") && l.contains("expires at"));
        assert_eq!(warned.count(), expected, "{lines:?}");
    }
}
