//! Authorizations ahead of an order, for subdomains, and their deactivation; and the
//! list of orders. RFC 8555 sections 7.1.2.1, 7.4.1 and 7.5.2; RFC 9444.

use acme_micro::ErrorKind;
use acme_micro::engine::{AuthorizeOptions, ChallengeType, OrderOptions};
use serde_json::json;

use super::script::Script;

fn ca_with_new_authz() -> Script {
    let mut ca = Script::new();
    ca.ca.pre_authorizes = true;
    ca
}

fn authorize(
    ca: &mut Script,
    options: AuthorizeOptions,
) -> Result<Vec<String>, acme_micro::AcmeError> {
    let operation = ca.client.authorize(options)?;
    ca.run(&operation)
}

#[test]
fn names_are_validated_ahead_of_an_order() {
    let mut ca = ca_with_new_authz();
    ca.ca.validation_fetches = 2;
    let urls = authorize(&mut ca, AuthorizeOptions::new(["a.example", "192.0.2.7"])).unwrap();
    assert_eq!(urls, ["https://ca.example/authz/1", "https://ca.example/authz/2"]);
    assert!(ca.published("http-01 a.example") && ca.published("http-01 192.0.2.7"));
    assert_eq!(ca.count("POST /new-authz"), 2);
    assert!(ca.ca.authorizations.iter().all(|a| a.status == "valid"));
    assert_eq!(ca.count("POST /new-order"), 0);
}

#[test]
fn a_name_with_a_valid_authorization_is_not_validated_again() {
    let mut ca = ca_with_new_authz();
    ca.ca.authorized = vec!["a.example".to_owned()];
    authorize(&mut ca, AuthorizeOptions::new(["a.example"])).unwrap();
    assert!(!ca.published("*"));
}

#[test]
fn a_name_that_fails_validation_is_reported_with_the_reason() {
    let mut ca = ca_with_new_authz();
    ca.ca.failing = vec!["b.example".to_owned()];
    let error = authorize(&mut ca, AuthorizeOptions::new(["a.example", "b.example"])).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("b.example")));
    assert!(error.to_string().contains("cannot reach b.example"), "{error}");
}

#[test]
fn names_that_newauthz_cannot_take_are_refused_before_any_request() {
    for (names, subdomains, why) in [
        (vec!["*.example.org"], false, "wildcard"),
        (vec!["192.0.2.7"], true, "below"),
        (vec![], false, "names"),
        (vec!["a.example", "a.example"], false, "twice"),
    ] {
        let mut ca = ca_with_new_authz();
        let mut options = AuthorizeOptions::new(names);
        options.challenge_types = vec![ChallengeType::Dns01, ChallengeType::Http01];
        options.subdomains = subdomains;
        let error = authorize(&mut ca, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(why), "{error}");
        assert!(ca.transcript.is_empty());
    }
}

#[test]
fn a_missing_newauthz_or_subdomain_authorization_is_reported() {
    let mut ca = Script::new();
    let error = authorize(&mut ca, AuthorizeOptions::new(["a.example"])).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Unsupported, true));
    assert!(error.to_string().contains("newAuthz"), "{error}");
    let mut ca = ca_with_new_authz();
    let mut options = AuthorizeOptions::new(["a.example"]);
    options.subdomains = true;
    let error = authorize(&mut ca, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(ca.count("POST /new-authz"), 0);
}

#[test]
fn an_authorization_for_another_identifier_is_refused() {
    let mut ca = ca_with_new_authz();
    ca.ca.authorized = vec!["a.example".to_owned(), "b.example".to_owned()];
    ca.on("POST /new-authz").nth(2).edit(|a| a["identifier"]["value"] = json!("a.example"));
    let error = authorize(&mut ca, AuthorizeOptions::new(["a.example", "b.example"])).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Protocol, Some("b.example")));
    // An authorization for the name alone does not cover its subdomains.
    let mut ca = ca_with_new_authz();
    ca.ca.subdomains = true;
    ca.on("POST /new-authz").edit(|a| a["subdomainAuthAllowed"] = json!(false));
    let mut options = AuthorizeOptions::new(["a.example"]);
    options.subdomains = true;
    let error = authorize(&mut ca, options).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Protocol, Some("a.example")));
}

#[test]
fn a_lost_response_to_a_challenge_is_sent_again() {
    let mut ca = ca_with_new_authz();
    ca.on("POST /chall/*").nth(1).lose_request();
    authorize(&mut ca, AuthorizeOptions::new(["a.example"])).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 2);
}

#[test]
fn a_refusal_of_newauthz_names_the_identifier() {
    let mut ca = ca_with_new_authz();
    ca.on("POST /new-authz").problem(403, "rejectedIdentifier");
    let error = authorize(&mut ca, AuthorizeOptions::new(["a.example"])).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Order, Some("a.example")));
}

#[test]
fn one_authorization_covers_its_subdomains() {
    let mut ca = ca_with_new_authz();
    ca.ca.subdomains = true;
    let mut options = AuthorizeOptions::new(["example.org"]);
    options.challenge_types = vec![ChallengeType::Dns01];
    options.subdomains = true;
    authorize(&mut ca, options).unwrap();
    ca.forget();
    let mut options = OrderOptions::new(["a.example.org", "b.example.org"]);
    options.ancestor_domain = Some("Example.org".to_owned());
    options.challenge_types = vec![ChallengeType::Dns01];
    let issued = ca.order(options).unwrap();
    assert_eq!(issued.chain.names(), ["a.example.org", "b.example.org"]);
    assert_eq!(ca.ca.authorizations.len(), 1, "the ancestor's authorization is used again");
    assert!(!ca.events.iter().any(|event| event.starts_with("PUBLISH")));
}

#[test]
fn an_order_is_authorized_by_the_ancestor_of_its_names() {
    let mut ca = Script::new();
    ca.ca.subdomains = true;
    let mut options = OrderOptions::new(["a.example.org", "*.b.example.org", "other.example"]);
    options.ancestor_domain = Some("example.org".to_owned());
    options.challenge_types = vec![ChallengeType::Dns01];
    ca.order(options).unwrap();
    let ups: Vec<_> = ca.events.iter().filter(|event| event.starts_with("PUBLISH")).collect();
    assert_eq!(ups, ["PUBLISH dns-01 example.org", "PUBLISH dns-01 other.example"]);
}

#[test]
fn an_ancestor_without_subdomain_authorization_is_refused() {
    let mut ca = Script::new();
    ca.ca.subdomains = true;
    ca.on("POST /authz/*").edit(|authorization| authorization["subdomainAuthAllowed"] = json!(0));
    let mut options = OrderOptions::new(["a.example.org"]);
    options.ancestor_domain = Some("example.org".to_owned());
    options.challenge_types = vec![ChallengeType::Dns01];
    let error = ca.order(options.clone()).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Protocol, Some("example.org")));
    // A CA that does not offer subdomain authorizations gets no order.
    let mut ca = Script::new();
    let error = ca.order(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(ca.count("POST /new-order"), 0);
}

#[test]
fn an_ancestor_and_a_challenge_type_of_one_name_exclude_each_other() {
    let mut options = OrderOptions::new(["a.example.org"]);
    options.ancestor_domain = Some("example.org".to_owned());
    options.challenge_by_name = vec![("a.example.org".to_owned(), ChallengeType::Dns01)];
    let mut ca = Script::new();
    let error = ca.order(options).unwrap_err();
    let name = Some("a.example.org");
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::InvalidArgument, name));
    assert!(ca.transcript.is_empty());
}

#[test]
fn invalid_ancestors_are_refused() {
    for ancestor in ["example.net", "a.example.org", "*.example.org", "192.0.2.7", "ple.org", ""] {
        let mut ca = Script::new();
        ca.ca.subdomains = true;
        let mut options = OrderOptions::new(["a.example.org"]);
        options.ancestor_domain = Some(ancestor.to_owned());
        let error = ca.order(options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{ancestor}");
        assert!(ca.transcript.is_empty());
    }
}

#[test]
fn an_abandoned_order_leaves_nothing_pending() {
    let mut ca = Script::new();
    ca.publishing = Err("no such zone".to_owned());
    ca.ca.authorized = vec!["c.example".to_owned()];
    let error = ca.obtain(&["a.example", "b.example", "c.example"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    let states =
        |ca: &Script| -> Vec<&str> { ca.ca.authorizations.iter().map(|a| a.status).collect() };
    assert_eq!(states(&ca), ["pending", "pending", "valid"], "the order can be resumed");
    let operation = ca.client.abandon_order("https://ca.example/order/1").unwrap();
    ca.run(&operation).unwrap();
    assert_eq!(states(&ca), ["deactivated", "deactivated", "valid"]);
    // A second call has nothing left to do.
    ca.forget();
    let operation = ca.client.abandon_order("https://ca.example/order/1").unwrap();
    ca.run(&operation).unwrap();
    assert_eq!(ca.count("POST /order/1"), 1);
    assert_eq!(ca.transcript.len(), 4);
}

#[test]
fn o18_abandon_on_failure_leaves_nothing_pending() {
    for (abandon, state) in [(true, "deactivated"), (false, "pending")] {
        let mut ca = Script::new();
        ca.publishing = Err("no such zone".to_owned());
        let mut options = OrderOptions::new(["a.example", "b.example"]);
        options.abandon_on_failure = abandon;
        let error = ca.order(options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host, "the original failure is reported");
        assert!(ca.ca.authorizations.iter().all(|a| a.status == state), "{abandon}");
    }
    // A failure that a later attempt may repair deactivates nothing.
    let mut ca = Script::new();
    ca.on("POST /order/1").then(|_, response| response.set("Retry-After", "100000"));
    ca.ca.validation_fetches = u32::MAX;
    let mut options = OrderOptions::new(["a.example"]);
    options.abandon_on_failure = true;
    assert_eq!(ca.order(options).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(ca.ca.authorizations[0].status, "pending");
    // A refused deactivation does not keep the other authorizations pending.
    let mut ca = Script::new();
    ca.publishing = Err("no such zone".to_owned());
    ca.on("POST /authz/2").from(2).problem(403, "unauthorized");
    let mut options = OrderOptions::new(["a.example", "b.example", "c.example"]);
    options.abandon_on_failure = true;
    assert_eq!(ca.order(options).unwrap_err().kind(), ErrorKind::Host);
    let states: Vec<_> = ca.ca.authorizations.iter().map(|a| a.status).collect();
    assert_eq!(states, ["deactivated", "pending", "deactivated"]);
    // The deactivation may fail, too: the original failure is reported.
    let mut ca = Script::new();
    ca.publishing = Err("no such zone".to_owned());
    ca.on("POST /authz/1").from(2).problem(500, "serverInternal");
    let mut options = OrderOptions::new(["a.example", "b.example"]);
    options.abandon_on_failure = true;
    assert_eq!(ca.order(options).unwrap_err().kind(), ErrorKind::Host);
}

#[test]
fn one_authorization_is_deactivated() {
    let mut ca = Script::new();
    ca.obtain(&["a.example"]).unwrap();
    let url = "https://ca.example/authz/1";
    let operation = ca.client.deactivate_authorization(url).unwrap();
    ca.run(&operation).unwrap();
    assert_eq!(ca.ca.authorizations[0].status, "deactivated");
    for bad in ["", "http://ca.example/authz/1", "https://evil.example/authz/1", "/authz/1"] {
        let refused = [
            ca.client.deactivate_authorization(bad).map(|_| ()),
            ca.client.abandon_order(bad).map(|_| ()),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }
}

#[test]
fn the_orders_of_an_account_are_listed_page_by_page() {
    for page in [1, 2, 10] {
        let mut ca = Script::new();
        ca.ca.orders_a_page = page;
        for name in ["a.example", "b.example", "c.example"] {
            ca.obtain(&[name]).unwrap();
        }
        let operation = ca.client.orders();
        let urls = ca.run(&operation).unwrap();
        let all: Vec<String> = (1..=3).map(|n| format!("https://ca.example/order/{n}")).collect();
        assert_eq!(urls, all);
        assert_eq!(ca.count("POST /orders/*"), 3usize.div_ceil(page));
    }
}

#[test]
fn a16_a_list_of_orders_with_bad_links_ends() {
    let list = |change: fn(&mut super::ca::Response)| {
        let mut ca = Script::new();
        ca.ca.orders_a_page = 1;
        ca.obtain(&["a.example"]).unwrap();
        ca.on("POST /orders/*").then(move |_, response| change(response));
        let operation = ca.client.orders();
        let outcome = ca.run(&operation);
        (outcome, ca)
    };
    // Its pages lead in a circle.
    let (outcome, ca) =
        list(|response| response.set("Link", r#"<https://ca.example/orders/1>; rel="next""#));
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(ca.count("POST /orders/1"), 100);
    // Its links lead to other hosts.
    let (outcome, _) =
        list(|response| response.set("Link", r#"<https://evil.example/orders/1>; rel="next""#));
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Policy);
    let (outcome, _) = list(|response| {
        response.edit(|list| list["orders"] = json!(["https://evil.example/order/1"]))
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Policy);
    // The page is not a JSON object.
    let (outcome, _) = list(|response| response.body = b"[]".to_vec());
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn the_link_to_the_next_page_may_be_relative() {
    let mut ca = Script::new();
    ca.ca.orders_a_page = 1;
    for name in ["a.example", "b.example"] {
        ca.obtain(&[name]).unwrap();
    }
    ca.on("POST /orders/1").then(|_, response| response.set("Link", "</orders/2>;rel=\"next\""));
    let operation = ca.client.orders();
    assert_eq!(ca.run(&operation).unwrap().len(), 2);
}

#[test]
fn a_missing_list_of_orders_is_reported() {
    let mut ca = Script::new();
    ca.obtain(&["a.example"]).unwrap();
    let operation = ca.client.orders();
    let error = ca.run(&operation).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Unsupported, true));
}

#[test]
fn a04_an_account_that_the_ca_has_lost_is_registered_once_more_for_an_authorization() {
    let mut ca = ca_with_new_authz();
    ca.register().unwrap();
    ca.on("POST /new-authz").nth(1).problem(400, "accountDoesNotExist");
    let operation = ca.client.authorize(AuthorizeOptions::new(["example.org"])).unwrap();
    ca.run(&operation).unwrap();
    assert_eq!((ca.count("POST /new-account"), ca.count("POST /new-authz")), (2, 2));
    ca.on("POST /new-authz").problem(400, "accountDoesNotExist");
    let operation = ca.client.authorize(AuthorizeOptions::new(["www.example.org"])).unwrap();
    let error = ca.run(&operation).unwrap_err();
    assert_eq!((error.kind(), ca.count("POST /new-account")), (ErrorKind::Account, 3));
}
