//! Responses with a status of success whose body cannot be read. The CA has done the work, so nothing that
//! it made may be lost. RFC 8555 sections 7.3 to 7.6.

use acme_micro::engine::{OrderOptions, RevocationReason};
use acme_micro::{AcmeError, CertificateChain, ErrorKind, Key, KeyType};

use super::ca::Response;
use super::pki;
use super::script::{Script, make_account};

/// Statuses and bodies in place of a resource.
const BODIES: [(u16, &[u8]); 13] = [
    (200, b""),
    (201, b""),
    (202, b""),
    (204, b""),
    (200, b" \r\n"),
    (200, b"OK"),
    (200, b"null"),
    (200, b"[]"),
    (200, b"{}"),
    (200, b"\"valid\""),
    (200, b"{\"status\":\"val"),
    (200, b"\xff\xfe\x00"),
    (200, b"<!DOCTYPE html><title>OK</title>"),
];

/// Replaces status and body of the first response to this request; the CA does the work.
fn spoil(ca: &mut Script, what: &str, (status, body): (u16, &'static [u8])) {
    ca.on(what).nth(1).then(move |_, response| {
        (response.status, response.body) = (status, body.to_vec());
    });
}

/// Runs `run` once for each body, in place of the body of the first response to `what`.
fn each(what: &str, run: impl Fn(&mut Script) -> Result<(), AcmeError>) {
    for body in BODIES {
        let mut ca = Script::new();
        make_account(&mut ca.ca, &ca.account_key);
        spoil(&mut ca, what, body);
        let outcome = run(&mut ca);
        assert!(outcome.is_ok(), "{what}, {body:?}: {outcome:?} {:?}", ca.transcript);
    }
}

#[test]
fn o35_r32_an_order_whose_finalize_response_cannot_be_read_is_fetched_again() {
    for processing_fetches in [0, 1, 3] {
        each("POST /finalize/1", |ca| {
            ca.ca.processing_fetches = processing_fetches;
            ca.obtain(&["example.org"])?;
            assert_eq!((ca.ca.orders.len(), ca.ca.orders[0].finalizes), (1, 1));
            Ok(())
        });
    }
}

#[test]
fn o35_r32_a_finalize_response_beyond_the_limits_does_not_lose_the_order() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").then(|_, response| response.body = vec![b' '; 1024 * 1024 + 1]);
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!((ca.ca.orders.len(), ca.ca.orders[0].finalizes), (1, 1));
}

#[test]
fn o35_r32_a_ca_that_never_finalizes_ends_the_operation_and_the_order_can_be_resumed() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").respond(Response::new(200, ""));
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let error = ca.run(&operation).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("is not an order"), "{error}");
    assert!(ca.count("POST /finalize/1") <= 5, "{:?}", ca.transcript);
    assert_eq!(operation.order_url().as_deref(), Some("https://ca.example/order/1"));
}

#[test]
fn o35_r32_a_finalized_order_that_cannot_be_read_is_fetched_again() {
    for (status, body) in BODIES {
        let mut ca = Script::new();
        ca.ca.processing_fetches = 2;
        ca.on("POST /order/1").nth(2).then(move |_, response| {
            (response.status, response.body) = (status, body.to_vec());
        });
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!((ca.ca.orders.len(), ca.ca.orders[0].finalizes), (1, 1));
    }
    let mut ca = Script::new();
    ca.on("POST /order/1").from(2).then(|_, response| response.body.clear());
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("is not an order"), "{error}");
    assert_eq!(ca.count("POST /order/1"), 5);
}

#[test]
fn o35_r32_a_new_order_whose_response_cannot_be_read_is_found_at_its_location() {
    each("POST /new-order", |ca| {
        let issued = ca.obtain(&["example.org"])?;
        assert_eq!(issued.order_url, "https://ca.example/order/1");
        assert_eq!((ca.count("POST /new-order"), ca.ca.orders.len()), (1, 1));
        Ok(())
    });
    // Without Location nothing leads to the order.
    let mut ca = Script::new();
    ca.on("POST /new-order").then(|_, response| {
        response.body.clear();
        response.remove("Location");
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn o35_r32_a_new_account_whose_response_cannot_be_read_is_at_its_location() {
    for body in BODIES {
        let mut ca = Script::new();
        spoil(&mut ca, "POST /new-account", body);
        let registered = ca.register().unwrap();
        assert_eq!(registered.url, "https://ca.example/account/1");
        assert_eq!((ca.count("POST /new-account"), ca.ca.accounts_made), (1, 1));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.ca.accounts_made, 1);
    }
}

#[test]
fn o35_r32_a_response_to_a_challenge_is_sent_once_whatever_the_ca_returns() {
    each("POST /chall/1/http-01", |ca| {
        ca.obtain(&["example.org"])?;
        assert_eq!(ca.count("POST /chall/1/http-01"), 1);
        Ok(())
    });
    let mut ca = Script::new();
    ca.on("POST /chall/*").then(|_, response| response.body = vec![b' '; 1024 * 1024 + 1]);
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn o35_r32_what_the_ca_has_done_to_an_account_counts() {
    each("POST /account/1", |ca| {
        let contacts = vec!["mailto:new@example.org".to_owned()];
        let operation = ca.client.update_contacts(contacts)?;
        ca.run(&operation)
    });
    each("POST /account/1", |ca| {
        let operation = ca.client.deactivate_account();
        ca.run(&operation)
    });
    each("POST /key-change", |ca| {
        let new = Key::generate(KeyType::P256).unwrap();
        let operation = ca.client.change_key(&new);
        ca.run(&operation)?;
        assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());
        Ok(())
    });
}

#[test]
fn o35_r32_a_revocation_and_a_deactivated_authorization_count() {
    let leaf = pki::leaf(&pki::new_key(), &pki::Contents::default());
    let chain =
        CertificateChain::parse(&pki::pem(&[&leaf, &pki::intermediate().certificate])).unwrap();
    each("POST /revoke", |ca| {
        let operation = ca.client.revoke(&chain, RevocationReason::Superseded, None)?;
        ca.run(&operation)?;
        assert_eq!(ca.ca.revoked.len(), 1);
        Ok(())
    });
    for (status, body) in BODIES {
        let mut ca = Script::new();
        ca.on("POST /order/1").problem(400, "malformed");
        ca.obtain(&["example.org"]).unwrap_err();
        ca.ca.authorizations[0].status = "pending";
        ca.on("POST /authz/1").nth(2).then(move |_, response| {
            (response.status, response.body) = (status, body.to_vec());
        });
        let url = "https://ca.example/authz/1";
        let operation = ca.client.deactivate_authorization(url).unwrap();
        ca.run(&operation).unwrap();
        assert_eq!(ca.ca.authorizations[0].status, "deactivated");
    }
}
