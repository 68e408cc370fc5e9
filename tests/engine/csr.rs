//! Signing requests that were made elsewhere. RFC 8555 section 7.4.

use acme_micro::engine::OrderOptions;
use acme_micro::{ErrorKind, Key, KeyType, SigningRequest};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{X509NameBuilder, X509ReqBuilder};

use super::script::Script;

/// Returns a request without a subjectAltName extension.
fn with_subject(common_name: Option<&str>) -> SigningRequest {
    let key = Key::generate(KeyType::P256).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    if let Some(name) = common_name {
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    }
    let mut request = X509ReqBuilder::new().unwrap();
    request.set_subject_name(&subject.build()).unwrap();
    request.set_pubkey(key.public_key()).unwrap();
    request.sign(key.private_key().unwrap(), MessageDigest::sha256()).unwrap();
    SigningRequest::parse(&request.build().to_der().unwrap()).unwrap()
}

fn options(names: &[&str], common_name: Option<&str>) -> OrderOptions {
    let mut options = OrderOptions::new(names.iter().copied());
    options.csr = Some(with_subject(common_name));
    options
}

#[test]
fn o37_r22_a_csr_with_a_common_name_only_is_an_order_for_that_name() {
    for names in [&[][..], &["example.org"], &["EXAMPLE.org."]] {
        let mut ca = Script::new();
        let issued = ca.order(options(names, Some("example.org"))).unwrap();
        assert_eq!(issued.chain.names(), ["example.org"]);
    }
}

#[test]
fn o37_r22_a_csr_without_a_name_is_refused_and_says_why() {
    for (names, common_name, why) in [
        (&[][..], None, "no subjectAltName"),
        (&["example.org"], None, "no subjectAltName"),
        (&[], Some("192.0.2.7"), "no subjectAltName"),
        (&["192.0.2.7"], Some("192.0.2.7"), "no subjectAltName"),
        (&[], Some("Example Inc"), "\"Example Inc\" is neither"),
        (&["www.example.org"], Some("example.org"), "not the names of the order"),
    ] {
        let error = Script::new().client.obtain(options(names, common_name)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(why), "{error}");
    }
}
