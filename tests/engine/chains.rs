//! The rest of a chain: the issuers of a certificate, and alternate chains. RFC 8555 section 7.4.2.

use acme_micro::engine::{Issued, OrderOptions};
use acme_micro::{AcmeError, ChainPreference, ErrorKind};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::X509;

use super::ca::Response;
use super::log;
use super::pki::{self, Contents};
use super::script::Script;

fn leaf(key: &PKey<Public>, names: &[&str]) -> X509 {
    pki::leaf(key, &Contents { names, ..Contents::default() })
}

/// Runs an issuance at a CA that creates its chains with `make`.
fn issue(make: impl Fn(&PKey<Public>, &[&str]) -> Vec<u8> + Send + 'static) -> Outcome {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(make);
    ca.obtain(&["example.org"])
}

type Outcome = Result<Issued, AcmeError>;

fn refused(outcome: Outcome, what: &str) -> AcmeError {
    let error = outcome.err().unwrap_or_else(|| panic!("accepted: {what}"));
    assert_eq!(error.kind(), ErrorKind::Certificate, "{what}: {error}");
    error
}

/// Returns a CA certificate with this key, signed by the root.
fn authority(key: &PKey<Private>, subject: &str, digest: MessageDigest) -> X509 {
    let contents = Contents { subject, is_ca: true, digest, ..Contents::default() };
    let root = pki::root();
    pki::certificate(key, &contents, root.certificate.subject_name(), &root.key)
}

#[test]
fn c08_each_certificate_is_issued_by_the_next_one() {
    type Chain = fn(X509) -> Vec<X509>;
    let (middle, root) = (&pki::intermediate().certificate, &pki::root().certificate);
    let outcome = |chain: Chain| {
        issue(move |key, names| {
            let chain = chain(leaf(key, names));
            pki::pem(&chain.iter().collect::<Vec<_>>())
        })
    };
    let cases: [(&str, Chain); 8] = [
        ("leaf, root", |leaf| vec![leaf, pki::root().certificate.clone()]),
        ("intermediate first", |leaf| vec![pki::intermediate().certificate.clone(), leaf]),
        ("root first", |leaf| {
            let (middle, root) = (&pki::intermediate().certificate, &pki::root().certificate);
            vec![root.clone(), middle.clone(), leaf]
        }),
        ("leaf twice", |leaf| vec![leaf.clone(), leaf, pki::intermediate().certificate.clone()]),
        ("a stranger in between", |leaf| {
            let stranger = authority(&pki::new_key(), "Stranger", MessageDigest::sha256());
            vec![leaf, stranger, pki::intermediate().certificate.clone()]
        }),
        ("a stranger at the end", |leaf| {
            let stranger = authority(&pki::new_key(), "Stranger", MessageDigest::sha256());
            vec![leaf, pki::intermediate().certificate.clone(), stranger]
        }),
        ("the right key under another name", |leaf| {
            let key = &pki::intermediate().key;
            vec![leaf, authority(key, "Another Name", MessageDigest::sha256())]
        }),
        ("the right name with another key", |leaf| {
            let key = pki::new_key();
            vec![leaf, authority(&key, "Test Intermediate", MessageDigest::sha256())]
        }),
    ];
    for (what, chain) in cases {
        refused(outcome(chain), what);
    }
    let whole = outcome(|leaf| {
        vec![leaf, pki::intermediate().certificate.clone(), pki::root().certificate.clone()]
    });
    let ders = whole.unwrap().chain.ders().to_vec();
    assert_eq!(ders[1..], [middle.to_der().unwrap(), root.to_der().unwrap()]);
}

#[test]
fn c09_a_thousand_certificates_and_a_huge_one_are_refused() {
    let many = issue(|key, names| {
        let root = pki::root().certificate.to_pem().unwrap();
        [pki::sound_chain(key, names), root.repeat(1000)].concat()
    });
    assert!(refused(many, "a thousand").to_string().contains("more than 10"));
    let huge = |size: usize| {
        issue(move |key, names| {
            let shape: pki::Shape = match size {
                250 => |b| pki::extend(b, "1.2.3.4", false, &vec![5; 250 * 1024]),
                _ => |b| pki::extend(b, "1.2.3.4", false, &vec![5; 300 * 1024]),
            };
            let leaf = pki::leaf(key, &Contents { names, shape, ..Contents::default() });
            pki::pem(&[&leaf, &pki::intermediate().certificate])
        })
    };
    huge(250).unwrap();
    assert!(refused(huge(300), "300 KiB").to_string().contains("larger than 256 KiB"));
}

/// Runs an issuance whose chain is a single leaf with this link to its issuer; the body at
/// `/issuer` is `issuer`.
fn alone(link: Option<&str>, issuer: impl Into<Vec<u8>>) -> (Script, Outcome, Vec<String>) {
    let mut ca = Script::new();
    ca.ca.issue = Box::new(|key, names| pki::pem(&[&leaf(key, names)]));
    if let Some(link) = link.map(str::to_owned) {
        ca.on("POST /cert/1").then(move |_, response| response.set("Link", &link));
    }
    ca.on("POST /issuer").respond(Response::new(200, issuer));
    let (outcome, lines) = log::lines(|| ca.obtain(&["example.org"]));
    (ca, outcome, lines)
}

#[test]
fn c10_a_single_leaf_is_completed_through_the_link_to_its_issuer() {
    let middle = pki::pem(&[&pki::intermediate().certificate]);
    for link in ["<https://ca.example/issuer>;rel=\"up\"", "</issuer>; rel=up"] {
        let (ca, outcome, _) = alone(Some(link), middle.clone());
        assert_eq!(outcome.unwrap().chain.ders().len(), 2, "{link}");
        assert_eq!(ca.count("POST /issuer"), 1);
    }
    // The links lead from issuer to issuer up to the root.
    let mut ca = Script::new();
    ca.ca.issue = Box::new(|key, names| pki::pem(&[&leaf(key, names)]));
    ca.on("POST /cert/1").then(|_, response| response.set("Link", "</issuer/1>;rel=up"));
    let issuer = Response::new(200, middle.clone());
    ca.on("POST /issuer/1").respond(issuer.header("Link", "</issuer/2>;rel=up"));
    let root = Response::new(200, pki::pem(&[&pki::root().certificate]));
    ca.on("POST /issuer/2").respond(root);
    assert_eq!(ca.obtain(&["example.org"]).unwrap().chain.ders().len(), 3);
    // A leaf without a link to its issuer is returned alone.
    let (_, outcome, lines) = alone(None, "");
    assert_eq!(outcome.unwrap().chain.ders().len(), 1);
    assert!(lines.iter().any(|l| l.starts_with("WARN") && l.contains("without its issuer")));
    // The client follows no link when the chain is complete.
    let mut ca = Script::new();
    ca.on("POST /cert/1").then(|_, response| response.set("Link", "</issuer>;rel=up"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /issuer"), 0);
}

#[test]
fn c11_a_bad_link_to_the_issuer_loses_no_certificate() {
    let stranger = authority(&pki::new_key(), "Test Intermediate", MessageDigest::sha256());
    for (link, issuer) in [
        ("<https://ca.example/cert/1>;rel=up", ""),
        ("<http://ca.example/issuer>;rel=up", ""),
        ("<https://169.254.169.254/issuer>;rel=up", ""),
        ("<https://evil.example/issuer>;rel=up", ""),
        ("<file:///etc/passwd>;rel=up", ""),
        ("<>;rel=up", ""),
        ("issuer;rel=up", ""),
        ("</issuer>;rel=up", "<html>"),
        ("</issuer>;rel=up", std::str::from_utf8(&pki::pem(&[&stranger])).unwrap()),
    ] {
        let (ca, outcome, _) = alone(Some(link), issuer);
        assert_eq!(outcome.unwrap().chain.ders().len(), 1, "{link}");
        assert!(ca.count("POST /cert/1") + ca.count("POST /issuer") <= 2, "{:?}", ca.transcript);
    }
    // Two links lead to each other; other links lead to a fresh URL each time.
    let looping = |next: fn(usize) -> usize| {
        let mut ca = Script::new();
        ca.ca.issue = Box::new(|key, names| pki::pem(&[&leaf(key, names)]));
        ca.on("POST /cert/1").then(|_, response| response.set("Link", "</issuer/0>;rel=up"));
        for n in 0..50 {
            let certificate = match n {
                0 => &pki::intermediate().certificate,
                _ => &pki::root().certificate,
            };
            let link = format!("</issuer/{}>;rel=up", next(n));
            let response = Response::new(200, pki::pem(&[certificate])).header("Link", &link);
            ca.on(&format!("POST /issuer/{n}")).respond(response);
        }
        let issued = ca.obtain(&["example.org"]).unwrap();
        (ca.count("POST /issuer/*"), issued.chain.ders().len())
    };
    assert_eq!(looping(|n| 1 - n.min(1)), (2, 3));
    assert_eq!(looping(|n| n + 1), (9, 10));
}

/// Orders with this preferred root, at a CA that names alternate chains in these links.
fn preferring(root: &str, links: &[&str]) -> (Script, Issued, Vec<String>) {
    let mut ca = Script::new();
    let links: Vec<String> = links.iter().map(|link| (*link).to_owned()).collect();
    ca.on("POST /cert/1").then(move |_, response| {
        for link in &links {
            response.headers.push(("Link".to_owned(), link.as_bytes().to_vec()));
        }
    });
    ca.on("POST /other/*").respond(Response::problem(400, "malformed"));
    let mut options = OrderOptions::new(["example.org"]);
    options.chain = Some(ChainPreference::Root(root.to_owned()));
    let (issued, lines) = log::lines(|| ca.order(options));
    (ca, issued.unwrap(), lines)
}

#[test]
fn c11_links_to_alternate_chains_are_followed_up_to_a_limit() {
    // As many links as one header can hold.
    let many: Vec<String> =
        (0..2000).map(|n| format!("</other/{n}>;rel=alternate")).collect::<Vec<_>>();
    let many = many.join(", ");
    assert!(many.len() < 60_000);
    for (links, most) in [
        (vec!["<https://ca.example/cert/1>;rel=alternate"], 0),
        (vec!["</other/1>;rel=alternate", "<https://ca.example/other/1>;rel=\"alternate\""], 1),
        (vec!["<http://ca.example/other/1>;rel=alternate"], 0),
        (vec!["<https://169.254.169.254/x>;rel=alternate"], 0),
        (vec!["<https://[fe80::1]/x>;rel=alternate", "<https://evil.example/>;rel=alternate"], 0),
        (vec!["<", "><", "<;rel=alternate", "rel=alternate;<x>", ",,,;;;", "<x>;rel"], 0),
        (vec![many.as_str()], 8),
    ] {
        let (ca, issued, lines) = preferring("Another Root", &links);
        assert!(!issued.preference_met);
        assert_eq!(ca.count("POST /cert/1"), 1);
        assert_eq!(ca.count("POST /other/*"), most, "{:?}", links.first());
        let left_out = lines.iter().filter(|line| line.contains("leaving out an alternate"));
        assert!(left_out.count() >= most);
        let hosts = ca.transcript.iter().filter(|line| line.contains("https://")).count();
        assert_eq!(hosts, 0, "{:?}", ca.transcript);
    }
    // A client without a preference ignores any number of links.
    let mut ca = Script::new();
    ca.on("POST /cert/1").then(move |_, response| response.set("Link", &many));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /other/*"), 0);
}

/// Returns a chain for this key and these names that leads to "Another Root".
fn leading_elsewhere(key: &PKey<Public>, names: &[&str]) -> Vec<u8> {
    let root_key = pki::new_key();
    let subject = pki::name("Another Root");
    let contents = Contents { subject: "Another Root", is_ca: true, ..Contents::default() };
    let root = pki::certificate(&root_key, &contents, &subject, &root_key);
    let contents = Contents { names, ..Contents::default() };
    pki::pem(&[&pki::certificate(key, &contents, &subject, &root_key), &root])
}

/// Orders with the preferred root "Another Root"; `make` creates the alternate chain at `/other/1`.
fn with_other(make: impl Fn(&PKey<Public>) -> Vec<u8> + Send + 'static) -> (Issued, Vec<String>) {
    let mut ca = Script::new();
    ca.on("POST /cert/1").then(|_, response| response.set("Link", "</other/1>;rel=alternate"));
    ca.on("POST /other/1")
        .make(move |ca| Response::new(200, make(ca.orders[0].key.as_ref().unwrap())));
    let mut options = OrderOptions::new(["example.org"]);
    options.chain = Some(ChainPreference::Root("Another Root".to_owned()));
    let (issued, lines) = log::lines(|| ca.order(options));
    (issued.unwrap(), lines)
}

#[test]
fn c12_an_alternate_chain_for_another_key_or_name_is_ignored() {
    type Make = fn(&PKey<Public>) -> Vec<u8>;
    let cases: [(&str, Make); 4] = [
        ("another key", |_| leading_elsewhere(&pki::public(&pki::new_key()), &["example.org"])),
        ("another name", |key| leading_elsewhere(key, &["evil.example"])),
        ("one name more", |key| leading_elsewhere(key, &["example.org", "evil.example"])),
        ("a private key", |key| {
            let key_block = pki::new_key().private_key_to_pem_pkcs8().unwrap();
            [leading_elsewhere(key, &["example.org"]), key_block].concat()
        }),
    ];
    for (what, make) in cases {
        let (issued, lines) = with_other(make);
        assert!(!issued.preference_met, "{what}");
        assert_eq!(issued.chain.root_name().as_deref(), Some("Test Root"), "{what}");
        let warned = |line: &&String| {
            line.starts_with("WARN") && line.contains("leaving out an alternate chain")
        };
        assert_eq!(lines.iter().filter(warned).count(), 1, "{what}: {lines:?}");
    }
}

#[test]
fn c13_the_preferred_chain_is_chosen_if_there_is_one() {
    let (issued, _) = with_other(|key| leading_elsewhere(key, &["example.org"]));
    assert!(issued.preference_met);
    assert_eq!(issued.chain.root_name().as_deref(), Some("Another Root"));
    // The CA's default chain matches: the client fetches no alternate chain.
    let (ca, issued, _) = preferring("Test Root", &["</other/1>;rel=alternate"]);
    assert!(issued.preference_met && ca.count("POST /other/*") == 0);
    // No chain matches: the client keeps the CA's default chain and logs a warning.
    let (_, issued, lines) = preferring("No Root", &[]);
    assert!(!issued.preference_met);
    let told = r#"WARN: none of the CA's chains has Root("No Root"): its own choice stays"#;
    assert!(lines.iter().any(|line| line.contains(told)), "{lines:?}");
    assert_eq!(issued.chain.root_name().as_deref(), Some("Test Root"));
}

#[test]
fn c18_weak_signatures_and_keys_are_refused() {
    let sha1 = MessageDigest::sha1();
    let outcome = issue(move |key, names| {
        let leaf = pki::leaf(key, &Contents { names, digest: sha1, ..Contents::default() });
        pki::pem(&[&leaf, &pki::intermediate().certificate])
    });
    assert!(refused(outcome, "the leaf").to_string().contains("weak signature"));
    let outcome = issue(move |key, names| {
        let weak = authority(&pki::intermediate().key, "Test Intermediate", sha1);
        pki::pem(&[&leaf(key, names), &weak])
    });
    assert!(refused(outcome, "its issuer").to_string().contains("weak signature"));
    // A root's own signature is not judged: the root is trusted because it is known.
    issue(move |key, names| {
        let (subject, digest) = ("Test Root", sha1);
        let contents = Contents { subject, is_ca: true, digest, ..Contents::default() };
        let root = pki::root();
        let name = root.certificate.subject_name();
        let weak = pki::certificate(&root.key, &contents, name, &root.key);
        pki::pem(&[&leaf(key, names), &pki::intermediate().certificate, &weak])
    })
    .unwrap();
    // OpenSSL makes MD5 signatures with RSA keys only.
    let by_rsa = |bits: u32, digest: MessageDigest| {
        issue(move |key, names| {
            let rsa = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
            let middle = authority(&rsa, "RSA", MessageDigest::sha256());
            let contents = Contents { names, digest, ..Contents::default() };
            let leaf = pki::certificate(key, &contents, middle.subject_name(), &rsa);
            pki::pem(&[&leaf, &middle])
        })
    };
    by_rsa(2048, MessageDigest::sha256()).unwrap();
    refused(by_rsa(2048, MessageDigest::md5()), "MD5");
    refused(by_rsa(1024, MessageDigest::sha256()), "1024 bits");
}
