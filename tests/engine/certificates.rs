//! What the CA issues, and whether it is what was asked for. RFC 8555 sections 7.4.2, 9.1, 11.4.

use acme_micro::{AcmeError, ErrorKind};
use openssl::pkey::{PKey, Public};

use super::ca::Answer;
use super::pki::{self, Contents};
use super::script::Script;

/// The outcome at a CA that issues like this.
fn issue(
    make: impl Fn(&PKey<Public>, &[&str]) -> Vec<u8> + Send + 'static,
) -> Result<Script, AcmeError> {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(make);
    let issued = ca.obtain(&["example.org", "www.example.org"])?;
    assert!(!issued.chain.pem().contains("PRIVATE") && !issued.chain.pem().contains('\r'));
    Ok(ca)
}

/// The chain as a sound CA makes it, as text to be spoiled.
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
fn c03_a_private_key_anywhere_in_the_answer_is_refused() {
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
fn c04_c05_c21_c25_anything_but_certificates_in_the_answer_is_refused() {
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
fn c06_der_instead_of_pem_is_refused() {
    let outcome = issue(|key, names| {
        pki::leaf(key, &Contents { names, ..Contents::default() }).to_der().unwrap()
    });
    refused(outcome, "DER");
}

#[test]
fn c04_line_ends_and_blank_lines_are_normalized() {
    edited(|pem| format!("\r\n{}\r\n", pem.replace('\n', "\r\n"))).unwrap();
    edited(|pem| pem.trim_end().to_owned()).unwrap();
}

#[test]
fn c08_a_chain_whose_certificates_do_not_sign_each_other_is_refused() {
    let unrelated = issue(|key, names| {
        let leaf = pki::leaf(key, &Contents { names, ..Contents::default() });
        pki::pem(&[&leaf, &pki::root().certificate])
    });
    refused(unrelated, "leaf, root");
    let reversed = issue(|key, names| {
        let leaf = pki::leaf(key, &Contents { names, ..Contents::default() });
        pki::pem(&[&pki::intermediate().certificate, &leaf])
    });
    refused(reversed, "intermediate first");
    let twice = issue(|key, names| {
        let leaf = pki::leaf(key, &Contents { names, ..Contents::default() });
        pki::pem(&[&leaf, &leaf, &pki::intermediate().certificate])
    });
    refused(twice, "leaf twice");
}

#[test]
fn a_chain_with_its_root_and_a_leaf_alone_are_accepted() {
    issue(|key, names| {
        let leaf = pki::leaf(key, &Contents { names, ..Contents::default() });
        pki::pem(&[&leaf, &pki::intermediate().certificate, &pki::root().certificate])
    })
    .unwrap();
    issue(|key, names| pki::pem(&[&pki::leaf(key, &Contents { names, ..Contents::default() })]))
        .unwrap();
}

#[test]
fn c01_a_misissued_certificate_does_not_cost_a_second_order() {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(|key, _| pki::sound_chain(key, &["other.example"]));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Certificate);
    assert_eq!(ca.count("POST /new-order"), 1, "we finalized that order ourselves");
}

#[test]
fn o23_a_chain_that_is_not_there_yet_is_asked_for_again() {
    for status in [500, 503] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").nth(1).answer(Answer::new(status, ""));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /cert/1"), 2);
    }
}

#[test]
fn o23_a_certificate_that_a_replica_does_not_know_yet_is_asked_for_again() {
    let mut ca = Script::new();
    ca.on("POST /cert/1").nth(1).problem(404, "malformed");
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn c14_a_certificate_that_has_expired_is_refused() {
    let outcome = issue(|key, names| {
        let contents =
            Contents { names, from: -20 * 86_400, until: -10 * 86_400, ..Contents::default() };
        pki::pem(&[&pki::leaf(key, &contents), &pki::intermediate().certificate])
    });
    refused(outcome, "expired");
}

#[test]
fn c16_a_certificate_that_is_itself_a_ca_is_refused() {
    let outcome = issue(|key, names| {
        let contents = Contents { names, is_ca: true, ..Contents::default() };
        pki::pem(&[&pki::leaf(key, &contents), &pki::intermediate().certificate])
    });
    refused(outcome, "a CA");
}
