//! A small, correct, scripted CA without a network: RFC 8555 section 7 as far as issuance needs it.
//! It fails the test at every request that a strict server would refuse.

use std::collections::HashSet;

use acme_micro::engine::{Method, Request};
use acme_micro::{SigningRequest, Time};
use openssl::pkey::{PKey, Public};
use openssl::x509::X509Req;
use serde_json::{Value, json};

use super::jws::{self, Jws};
use super::pki;
use super::script::START;

pub const BASE: &str = "https://ca.example";
pub const TERMS: &str = "https://ca.example/terms-2026";

/// An HTTP response on its way to the engine.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Whether a fresh `Replay-Nonce` is added.
    pub nonce: bool,
    /// Whether the connection breaks in the middle of the body.
    pub cut: bool,
}

impl Response {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response { status, headers: Vec::new(), body: body.into(), nonce: true, cut: false }
    }

    pub fn json(status: u16, value: &Value) -> Response {
        Response::new(status, value.to_string()).header("Content-Type", "application/json")
    }

    pub fn problem(status: u16, name: &str) -> Response {
        let type_ = format!("urn:ietf:params:acme:error:{name}");
        let detail = format!("the detail of {name}");
        Response::new(status, json!({"type": type_, "detail": detail}).to_string())
            .header("Content-Type", "application/problem+json")
    }

    pub fn header(mut self, name: &str, value: &str) -> Response {
        self.set(name, value);
        self
    }

    pub fn without_nonce(mut self) -> Response {
        self.nonce = false;
        self
    }

    /// Replaces a header field.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }

    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Changes the JSON of the body.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.body).expect("the body to edit is JSON");
        change(&mut value);
        self.body = value.to_string().into_bytes();
    }
}

/// A signed request whose signature has been verified.
pub struct Post {
    pub jws: Jws,
    /// Payload as JSON; `None` for POST-as-GET.
    pub json: Option<Value>,
}

pub struct Authorization {
    pub name: String,
    pub wildcard: bool,
    /// Whether it also covers the names below its own (RFC 9444).
    pub subdomains: bool,
    pub status: &'static str,
    pub token: String,
    /// Type of the challenge that the client has responded to.
    pub responded: Option<String>,
    /// Payload of that response.
    pub payload: Value,
    /// Number of accepted responses to a challenge of this authorization.
    pub responses: u32,
    fetches_left: u32,
    /// End of its validation; used with [`Ca::validation_takes`].
    validated_at: i64,
    error: Option<Value>,
}

pub struct Order {
    pub names: Vec<String>,
    pub authorizations: Vec<usize>,
    /// Key to be certified; set by finalize.
    pub key: Option<PKey<Public>>,
    pub finalizes: u32,
    fetches_left: u32,
    pub invalid: bool,
    /// Reason for which it is invalid.
    pub error: Option<Value>,
    pub chain: Option<Vec<u8>>,
}

struct Account {
    jwk: Value,
    /// Previous key: a client that has not heard of the change may still sign with it.
    former: Option<Value>,
    changed_at: i64,
    deactivated: bool,
}

type Issue = Box<dyn Fn(&PKey<Public>, &[&str]) -> Vec<u8> + Send>;

/// The CA's settings, and a record of the requests that it has received.
pub struct Ca {
    pub terms: bool,
    /// Key id and MAC key of the required external account binding.
    pub eab: Option<(String, Vec<u8>)>,
    /// Number of order fetches, after the response to a challenge, until its authorization is
    /// valid.
    pub validation_fetches: u32,
    /// Milliseconds from the response to a challenge to the end of its validation; 0: fetches of
    /// the order decide.
    pub validation_takes: i64,
    /// Whether a challenge stays pending during its validation and a second response gets status
    /// 409, as at Boulder.
    pub validates_in_silence: bool,
    /// Milliseconds for which an account's old key still counts after a change, as at Boulder.
    pub caches_keys_for: i64,
    /// Whether newOrder returns a pending order for the same names again, as at Boulder.
    pub reuses_orders: bool,
    /// Clock in milliseconds since 1970.
    pub now: i64,
    /// Number of order fetches after finalize until the order is valid.
    pub processing_fetches: u32,
    /// Names whose authorizations are valid from the beginning.
    pub authorized: Vec<String>,
    /// Names whose challenges fail; `failure` is the type of the problem.
    pub failing: Vec<String>,
    pub failure: &'static str,
    /// Challenge types that it offers.
    pub offers: Vec<&'static str>,
    /// Suggested renewal window in seconds after the start of the script; `None`: no renewal
    /// information.
    pub renewal_window: Option<(i64, i64)>,
    /// Values of `replaces` in the orders so far.
    pub replaced: Vec<Value>,
    /// Whether it authorizes names ahead of orders (newAuthz).
    pub pre_authorizes: bool,
    /// Whether a name may be authorized by a name above it (RFC 9444).
    pub subdomains: bool,
    /// Number of orders per page of an account's list; 0: it lists no orders.
    pub orders_a_page: usize,
    /// Creates the certificate chain.
    pub issue: Issue,
    /// Number of good nonces that it is going to refuse.
    pub stale_nonces: u32,
    /// Percentage of good nonces that it refuses.
    pub refused_nonces: u64,
    /// Whether it accepts requests signed with a key that is not the account's; the test has rules
    /// for them.
    pub takes_any_key: bool,
    pub accounts_made: u32,
    pub orders: Vec<Order>,
    pub authorizations: Vec<Authorization>,
    pub revoked: Vec<Value>,
    accounts: Vec<Account>,
    nonces: HashSet<String>,
    used: HashSet<String>,
    last_nonce: u64,
    random: u64,
}

impl Default for Ca {
    fn default() -> Ca {
        Ca {
            terms: true,
            eab: None,
            validation_fetches: 0,
            validation_takes: 0,
            validates_in_silence: false,
            caches_keys_for: 0,
            reuses_orders: false,
            now: START,
            processing_fetches: 1,
            authorized: Vec::new(),
            failing: Vec::new(),
            failure: "connection",
            offers: vec!["http-01", "dns-01", "tls-alpn-01"],
            renewal_window: None,
            replaced: Vec::new(),
            pre_authorizes: false,
            subdomains: false,
            orders_a_page: 0,
            issue: Box::new(|key, names| pki::sound_chain(key, names)),
            stale_nonces: 0,
            refused_nonces: 0,
            takes_any_key: false,
            accounts_made: 0,
            orders: Vec::new(),
            authorizations: Vec::new(),
            revoked: Vec::new(),
            accounts: Vec::new(),
            nonces: HashSet::new(),
            used: HashSet::new(),
            last_nonce: 0,
            random: 1,
        }
    }
}

impl Ca {
    /// Returns a CA that behaves like Boulder, Let's Encrypt's server.
    pub fn boulder() -> Ca {
        Ca {
            validates_in_silence: true,
            validation_takes: 1500,
            caches_keys_for: 5000,
            reuses_orders: true,
            ..Ca::default()
        }
    }
}

/// Returns the identifier type of a name. Device identifiers begin with "device-" in these tests.
fn type_of(name: &str) -> &'static str {
    match name.parse::<std::net::IpAddr>() {
        Ok(_) => "ip",
        Err(_) if name.starts_with("device-") => "permanent-identifier",
        Err(_) => "dns",
    }
}

/// Whether the host has published this now: challenge type, identifier, key authorization.
pub type Published<'a> = &'a dyn Fn(&str, &str, &str) -> bool;

/// Checks of requests.
impl Ca {
    /// Checks a request as a strict server does. Returns its JWS for a POST.
    pub fn check(&mut self, request: &Request) -> Option<Post> {
        let header = |name: &str| {
            let mut all = request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let value = all.next().map(|(_, value)| value.as_str());
            assert!(all.next().is_none(), "the header field {name} occurs twice");
            value
        };
        for (name, _) in &request.headers {
            let known = ["User-Agent", "Accept-Language", "Content-Type"];
            assert!(known.contains(name), "unexpected header field {name}");
        }
        let agent = header("User-Agent").expect("a User-Agent (RFC 8555 section 6.1)");
        assert!(agent.contains("acme-micro/"), "{agent}");
        assert!(
            request.url().to_lowercase().contains(&format!("//{}", request.host())),
            "{}",
            request.url()
        );
        if request.method == Method::Get {
            assert!(request.body.is_empty() && header("Content-Type").is_none());
            return None;
        }
        assert_eq!(header("Content-Type"), Some("application/jose+json"));
        let body: Value = serde_json::from_slice(&request.body).expect("a JSON body");
        let jws = Jws::parse(&body);
        assert_eq!(jws.header("url"), request.url(), "the signed URL differs from the request's");
        let nonce = jws.header("nonce").to_owned();
        assert!(self.used.insert(nonce.clone()), "the nonce {nonce} was sent twice");
        assert!(self.nonces.remove(&nonce), "this CA has not issued the nonce {nonce}");
        let mut names: Vec<&str> =
            jws.protected.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        match jws.protected.get("jwk") {
            Some(jwk) => {
                assert_eq!(names, ["alg", "jwk", "nonce", "url"]);
                jws.verify(jwk);
            }
            None => {
                assert_eq!(names, ["alg", "kid", "nonce", "url"]);
                let account = self.account(jws.header("kid"));
                let is_former = account.former.as_ref().is_some_and(|former| jws.is_by(former));
                if !is_former && !self.takes_any_key {
                    jws.verify(&account.jwk);
                }
            }
        }
        let json = match jws.payload.as_slice() {
            b"" => None,
            payload => Some(serde_json::from_slice(payload).expect("a JSON payload")),
        };
        Some(Post { jws, json })
    }

    fn account(&self, url: &str) -> &Account {
        let number = url.strip_prefix("https://ca.example/account/").expect("an account's URL");
        let number: usize = number.parse().expect("an account's number");
        self.accounts.get(number - 1).unwrap_or_else(|| panic!("there is no account {url}"))
    }

    /// Adds an account, as an earlier run of the client would have, and returns its URL.
    pub fn add_account(&mut self, jwk: Value) -> String {
        self.accounts.push(Account { jwk, former: None, changed_at: 0, deactivated: false });
        format!("{BASE}/account/{}", self.accounts.len())
    }

    pub fn fresh_nonce(&mut self) -> String {
        self.last_nonce += 1;
        let nonce = format!("nonce-{:06}", self.last_nonce);
        self.nonces.insert(nonce.clone());
        nonce
    }

    /// Accepts a nonce that a test issued by itself, even if it has been used before.
    pub fn accept_nonce(&mut self, nonce: &str) {
        self.used.remove(nonce);
        self.nonces.insert(nonce.to_owned());
    }

    /// Starts another series of nonces, to tell two CAs apart.
    pub fn count_nonces_from(&mut self, n: u64) {
        self.last_nonce = n;
    }

    pub fn refuses_nonce(&mut self) -> bool {
        if let Some(left) = self.stale_nonces.checked_sub(1) {
            self.stale_nonces = left;
            return true;
        }
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % 100 < self.refused_nonces
    }
}

/// Responses to requests.
impl Ca {
    /// Does what the request asks for and returns the response.
    pub fn serve(&mut self, path: &str, post: Option<&Post>, published: Published<'_>) -> Response {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |text: &str| text.parse::<usize>().map_or(0, |n| n.wrapping_sub(1));
        let Some(post) = post else {
            return match path {
                "/directory" => Response::json(200, &self.directory()).without_nonce(),
                "/new-nonce" => Response::new(204, ""),
                _ if path.starts_with("/renewal-info/") => self.renewal_info().without_nonce(),
                _ => Response::new(404, "<html>").without_nonce(),
            };
        };
        let is_registration = path == "/new-account";
        assert_eq!(post.jws.protected.get("jwk").is_some(), is_registration, "{path}");
        let kid = post.jws.protected["kid"].as_str();
        if kid.is_some_and(|kid| self.account(kid).deactivated) {
            return Response::problem(401, "unauthorized");
        }
        if kid.is_some_and(|kid| self.has_old_key_in_cache(kid, post)) {
            let detail = "Unable to validate JWS :: JWS verification error";
            let mut response = Response::problem(400, "malformed");
            response.edit(|problem| problem["detail"] = json!(detail));
            return response;
        }
        match (parts.as_slice(), &post.json) {
            (["account", _], None) => Response::json(200, &json!({"status": "valid"})),
            (["account", n], Some(payload)) => {
                assert_eq!(kid, Some(format!("{BASE}/account/{n}").as_str()));
                let deactivated = payload["status"] == "deactivated";
                assert!(deactivated || payload["contact"].is_array(), "{payload}");
                self.accounts[number(n)].deactivated |= deactivated;
                let status = if deactivated { "deactivated" } else { "valid" };
                Response::json(200, &json!({"status": status, "contact": payload["contact"]}))
            }
            (["new-account"], Some(payload)) => self.new_account(post, payload),
            (["new-order"], Some(payload)) => self.new_order(payload),
            (["revoke"], Some(payload)) => {
                self.revoked.push(payload.clone());
                Response::new(200, "")
            }
            (["new-authz"], Some(payload)) => self.new_authorization(payload),
            (["key-change"], Some(payload)) => self.change_key(post, payload),
            (["orders", page], None) if self.orders_a_page > 0 => self.list_orders(number(page)),
            (["authz", n], Some(payload)) if number(n) < self.authorizations.len() => {
                assert_eq!(*payload, json!({"status": "deactivated"}));
                self.authorizations[number(n)].status = "deactivated";
                Response::json(200, &self.authorization(number(n)))
            }
            (["authz", n], None) if number(n) < self.authorizations.len() => {
                if self.orders.iter().all(|order| !order.authorizations.contains(&number(n))) {
                    self.advance_authorization(number(n));
                }
                Response::json(200, &self.authorization(number(n)))
            }
            (["chall", n, kind], Some(payload)) if number(n) < self.authorizations.len() => {
                let plain = !["onion-csr-01", "device-attest-01"].contains(kind);
                assert_eq!(
                    plain,
                    *payload == json!({}),
                    "the response to {kind} has the payload {payload}"
                );
                self.authorizations[number(n)].payload = payload.clone();
                self.respond_to_challenge(number(n), kind, post, published)
            }
            (["order", n], None) if number(n) < self.orders.len() => {
                self.advance_order(number(n));
                Response::json(200, &self.order(number(n)))
            }
            (["finalize", n], Some(payload)) if number(n) < self.orders.len() => {
                self.finalize(number(n), payload)
            }
            (["cert", n], None)
                if self.orders.get(number(n)).is_some_and(|o| o.chain.is_some()) =>
            {
                let chain = self.orders[number(n)].chain.clone().unwrap();
                // The certificate's dates count from the CA's clock; the client's clock may be
                // wrong.
                Response::new(200, chain)
                    .header("Content-Type", "application/pem-certificate-chain")
                    .header("Date", "Tue, 24 Nov 2026 14:24:05 GMT")
            }
            (_, payload) => panic!("no strict server expects a POST to {path} with {payload:?}"),
        }
    }

    fn has_old_key_in_cache(&self, kid: &str, post: &Post) -> bool {
        let account = self.account(kid);
        let is_cached = self.now < account.changed_at + self.caches_keys_for;
        is_cached && account.former.as_ref().is_some_and(|former| !post.jws.is_by(former))
    }

    pub fn directory(&self) -> Value {
        let mut meta = json!({"externalAccountRequired": self.eab.is_some()});
        if self.terms {
            meta["termsOfService"] = json!(TERMS);
        }
        let url = |path: &str| format!("{BASE}/{path}");
        if self.subdomains {
            meta["subdomainAuthAllowed"] = json!(true);
        }
        let renewal_info = self.renewal_window.map(|_| url("renewal-info"));
        let new_authz = if self.pre_authorizes { json!(url("new-authz")) } else { Value::Null };
        json!({
            "newAuthz": new_authz, "renewalInfo": renewal_info,
            "newNonce": url("new-nonce"), "newAccount": url("new-account"),
            "newOrder": url("new-order"), "revokeCert": url("revoke"),
            "keyChange": url("key-change"), "meta": meta, "tomorrow": {"x": [1]},
        })
    }

    fn new_account(&mut self, post: &Post, payload: &Value) -> Response {
        let jwk = &post.jws.protected["jwk"];
        let mut shown = json!({"status": "valid", "contact": payload["contact"]});
        if self.orders_a_page > 0 {
            shown["orders"] = json!(format!("{BASE}/orders/1"));
        }
        let known = self.accounts.iter().position(|account| account.jwk == *jwk);
        if let Some(n) = known {
            let url = format!("{BASE}/account/{}", n + 1);
            return Response::json(200, &shown).header("Location", &url);
        }
        if payload["onlyReturnExisting"] == true {
            return Response::problem(400, "accountDoesNotExist");
        }
        if self.terms && payload["termsOfServiceAgreed"] != true {
            return Response::problem(403, "userActionRequired");
        }
        if let Some((key_id, mac_key)) = &self.eab {
            let Some(binding) = payload.get("externalAccountBinding") else {
                return Response::problem(403, "externalAccountRequired");
            };
            let binding = Jws::parse(binding);
            binding.verify_mac(mac_key);
            let header = json!({"alg": "HS256", "kid": key_id, "url": post.jws.header("url")});
            assert_eq!(binding.protected, header);
            assert_eq!(serde_json::from_slice::<Value>(&binding.payload).unwrap(), *jwk);
        }
        self.accounts_made += 1;
        let url = self.add_account(jwk.clone());
        Response::json(201, &shown).header("Location", &url)
    }

    fn renewal_info(&self) -> Response {
        let (start, end) = self.renewal_window.expect("renewal information");
        let date = |after: i64| Time::from_millis(START + after * 1000).to_string();
        let window = json!({"start": date(start), "end": date(end)});
        Response::json(200, &json!({"suggestedWindow": window})).header("Retry-After", "21600")
    }

    fn new_order(&mut self, payload: &Value) -> Response {
        if let Some(replaces) = payload.get("replaces") {
            assert!(
                self.renewal_window.is_some(),
                "replaces is sent to a CA without renewal information"
            );
            self.replaced.push(replaces.clone());
        }
        let identifiers = payload["identifiers"].as_array().expect("identifiers");
        let ordered: Vec<&str> =
            identifiers.iter().filter_map(|identifier| identifier["value"].as_str()).collect();
        let same = (0..self.orders.len())
            .find(|n| self.orders[*n].names == ordered && self.order_status(*n) == "pending");
        if let Some(n) = same.filter(|_| self.reuses_orders) {
            return Response::json(201, &self.order(n))
                .header("Location", &format!("{BASE}/order/{}", n + 1));
        }
        let mut names = Vec::new();
        let mut authorizations = Vec::new();
        for identifier in identifiers {
            let name = identifier["value"].as_str().unwrap();
            assert_eq!(identifier["type"], type_of(name));
            names.push(name.to_owned());
            let ancestor = identifier["ancestorDomain"].as_str();
            assert!(ancestor.is_none() || self.subdomains);
            let authorized_name = ancestor.unwrap_or(name);
            let known = |a: &Authorization| {
                a.name == authorized_name && (a.subdomains || a.status == "valid")
            };
            let known = self.authorizations.iter().position(known).filter(|_| self.subdomains);
            authorizations.push(match known {
                Some(number) => number,
                None => self.add_authorization(authorized_name, ancestor.is_some()),
            });
        }
        let (key, chain, fetches_left) = (None, None, 0);
        let (finalizes, invalid, error) = (0, false, None);
        self.orders.push(Order {
            names,
            authorizations,
            key,
            finalizes,
            fetches_left,
            invalid,
            error,
            chain,
        });
        let number = self.orders.len();
        Response::json(201, &self.order(number - 1))
            .header("Location", &format!("{BASE}/order/{number}"))
    }

    /// Changes an account's key (RFC 8555 section 7.3.5).
    fn change_key(&mut self, post: &Post, payload: &Value) -> Response {
        let inner = Jws::parse(payload);
        let new = inner.protected["jwk"].clone();
        inner.verify(&new);
        assert_eq!(inner.header("url"), post.jws.header("url"));
        assert!(inner.protected.get("nonce").is_none());
        let url = post.jws.header("kid").to_owned();
        let asked: Value = serde_json::from_slice(&inner.payload).unwrap();
        if let Some(other) = self.accounts.iter().position(|account| account.jwk == new) {
            return Response::problem(409, "malformed")
                .header("Location", &format!("{BASE}/account/{}", other + 1));
        }
        assert_eq!(asked, json!({"account": url, "oldKey": self.account(&url).jwk}));
        let number: usize = url.rsplit('/').next().unwrap().parse().unwrap();
        let account = &mut self.accounts[number - 1];
        account.former = Some(std::mem::replace(&mut account.jwk, new));
        account.changed_at = self.now;
        Response::json(200, &json!({"status": "valid"}))
    }

    fn new_authorization(&mut self, payload: &Value) -> Response {
        let identifier = &payload["identifier"];
        let name = identifier["value"].as_str().expect("an identifier");
        assert!(!name.starts_with("*."), "newAuthz takes no wildcard");
        let subdomains = identifier["subdomainAuthAllowed"] == true;
        assert!(!subdomains || self.subdomains);
        let number = self.add_authorization(name, subdomains);
        Response::json(201, &self.authorization(number))
            .header("Location", &format!("{BASE}/authz/{}", number + 1))
    }

    fn add_authorization(&mut self, name: &str, subdomains: bool) -> usize {
        let number = self.authorizations.len();
        self.authorizations.push(Authorization {
            name: name.trim_start_matches("*.").to_owned(),
            wildcard: name.starts_with("*."),
            subdomains,
            status: if self.authorized.iter().any(|p| p == name) { "valid" } else { "pending" },
            token: format!("token-of-authorization-{:06}", number + 1),
            responded: None,
            payload: Value::Null,
            responses: 0,
            fetches_left: 0,
            validated_at: 0,
            error: None,
        });
        number
    }

    fn list_orders(&self, page: usize) -> Response {
        let urls: Vec<String> =
            (1..=self.orders.len()).map(|n| format!("{BASE}/order/{n}")).collect();
        let mut pages = urls.chunks(self.orders_a_page).skip(page);
        let response = Response::json(200, &json!({"orders": pages.next().unwrap_or_default()}));
        match pages.next() {
            None => response,
            Some(_) => {
                response.header("Link", &format!("<{BASE}/orders/{}>; rel=\"next\"", page + 2))
            }
        }
    }

    /// Advances validation and processing by one step: this happens at each fetch of an order.
    fn advance_order(&mut self, n: usize) {
        for a in self.orders[n].authorizations.clone() {
            self.advance_authorization(a);
        }
        let order = &mut self.orders[n];
        order.fetches_left = order.fetches_left.saturating_sub(1);
    }

    fn advance_authorization(&mut self, a: usize) {
        if self.validation_takes > 0 {
            return;
        }
        let authorization = &mut self.authorizations[a];
        if authorization.responded.is_some() && authorization.status == "pending" {
            match authorization.fetches_left.checked_sub(1) {
                Some(left) => authorization.fetches_left = left,
                None => self.decide(a),
            }
        }
    }

    /// Ends the validations whose time is over.
    pub fn validate_until_now(&mut self) {
        if self.validation_takes == 0 {
            return;
        }
        for a in 0..self.authorizations.len() {
            let authorization = &self.authorizations[a];
            let is_over = self.now >= authorization.validated_at;
            if authorization.responded.is_some() && authorization.status == "pending" && is_over {
                self.decide(a);
            }
        }
    }

    /// Whether a challenge for this name is being validated now.
    pub fn is_validating(&self, name: &str) -> bool {
        let mut ours = self.authorizations.iter().filter(|a| a.name == name);
        ours.any(|a| a.responded.is_some() && a.status == "pending")
    }

    fn decide(&mut self, a: usize) {
        let authorization = &mut self.authorizations[a];
        if self.failing.contains(&authorization.name) {
            authorization.status = "invalid";
            authorization.error = Some(json!({
                "type": format!("urn:ietf:params:acme:error:{}", self.failure),
                "detail": format!("cannot reach {}", authorization.name), "status": 400,
            }));
        } else {
            authorization.status = "valid";
        }
    }

    pub fn order_status(&self, n: usize) -> &'static str {
        let order = &self.orders[n];
        let mut states = order.authorizations.iter().map(|a| self.authorizations[*a].status);
        if order.invalid || states.clone().any(|s| s != "pending" && s != "valid") {
            "invalid"
        } else if order.key.is_some() {
            if order.fetches_left > 0 { "processing" } else { "valid" }
        } else if states.all(|status| status == "valid") {
            "ready"
        } else {
            "pending"
        }
    }

    pub fn order(&self, n: usize) -> Value {
        let (order, status) = (&self.orders[n], self.order_status(n));
        let identifiers: Vec<Value> =
            order.names.iter().map(|name| json!({"type": type_of(name), "value": name})).collect();
        let urls: Vec<String> =
            order.authorizations.iter().map(|a| format!("{BASE}/authz/{}", a + 1)).collect();
        let mut json = json!({
            "status": status, "expires": "2026-12-01T00:00:00Z", "identifiers": identifiers,
            "authorizations": urls, "finalize": format!("{BASE}/finalize/{}", n + 1),
        });
        if let Some(error) = &order.error {
            json["error"] = error.clone();
        }
        if status == "valid" {
            json["certificate"] = json!(format!("{BASE}/cert/{}", n + 1));
        }
        json
    }

    fn challenge(&self, a: usize, kind: &str) -> Value {
        let authorization = &self.authorizations[a];
        let responded = authorization.responded.as_deref() == Some(kind);
        let status = match authorization.status {
            "pending" if responded && !self.validates_in_silence => "processing",
            "valid" | "invalid" if !responded => "pending",
            status => status,
        };
        let mut json = json!({
            "type": kind, "status": status, "token": authorization.token,
            "url": format!("{BASE}/chall/{}/{kind}", a + 1),
        });
        match kind {
            "dns-persist-01" => {
                json["token"] = Value::Null;
                json["issuer-domain-names"] = json!(["ca.example"]);
                json["accounturi"] = json!(format!("{BASE}/account/1"));
            }
            "onion-csr-01" => {
                json["token"] = Value::Null;
                json["nonce"] = json!("bI6/MRqV4gw=");
            }
            _ => {}
        }
        if let Some(error) = authorization.error.as_ref().filter(|_| responded) {
            json["error"] = error.clone();
        }
        json
    }

    pub fn authorization(&self, a: usize) -> Value {
        let authorization = &self.authorizations[a];
        let kind = type_of(&authorization.name);
        let by_dns = |offer: &&&'static str| offer.starts_with("dns-") || **offer == "onion-csr-01";
        let offers = self.offers.iter().filter(|offer| !authorization.wildcard || by_dns(offer));
        let challenges: Vec<Value> = offers.map(|offer| self.challenge(a, offer)).collect();
        let mut json = json!({
            "identifier": {"type": kind, "value": authorization.name},
            "status": authorization.status, "challenges": challenges,
        });
        if authorization.wildcard {
            json["wildcard"] = json!(true);
        }
        if authorization.subdomains {
            json["subdomainAuthAllowed"] = json!(true);
        }
        json
    }

    fn respond_to_challenge(
        &mut self,
        a: usize,
        kind: &str,
        post: &Post,
        published: Published<'_>,
    ) -> Response {
        let jwk = &self.account(post.jws.header("kid")).jwk;
        let authorization = &self.authorizations[a];
        assert!(self.offers.contains(&kind), "{kind} was not offered");
        let key_authorization = match kind {
            "dns-persist-01" | "onion-csr-01" => String::new(),
            _ => format!("{}.{}", authorization.token, jws::thumbprint(jwk)),
        };
        assert!(
            published(kind, &authorization.name, &key_authorization),
            "the {kind} challenge for {} gets a response and is not published",
            authorization.name
        );
        let authorization = &mut self.authorizations[a];
        if authorization.status != "pending" {
            return Response::problem(400, "malformed");
        }
        if authorization.responded.is_some() && self.validates_in_silence {
            let mut response = Response::problem(409, "conflict");
            let detail = "Unable to update challenge :: failed to mark authz as processing: \
                          Authorization is already being validated.";
            response.edit(|problem| problem["detail"] = json!(detail));
            return response;
        }
        authorization.responses += 1;
        if authorization.responded.is_none() {
            authorization.responded = Some(kind.to_owned());
            authorization.validated_at = self.now + self.validation_takes;
            if self.validation_takes > 0 {
                return Response::json(200, &self.challenge(a, kind));
            }
            authorization.fetches_left = self.validation_fetches;
            match authorization.fetches_left.checked_sub(1) {
                Some(left) => authorization.fetches_left = left,
                None => self.decide(a),
            }
        }
        Response::json(200, &self.challenge(a, kind))
    }

    fn finalize(&mut self, n: usize, payload: &Value) -> Response {
        let der = jws::decode(payload["csr"].as_str().expect("a csr"));
        let request = X509Req::from_der(&der).expect("a csr");
        let key = request.public_key().unwrap();
        assert!(request.verify(&key).unwrap(), "the csr's own signature is wrong");
        let mut named = SigningRequest::parse(&der).unwrap().names().to_vec();
        let mut ordered = self.orders[n].names.clone();
        ordered.retain(|name| type_of(name) != "permanent-identifier");
        named.sort();
        ordered.sort();
        assert_eq!(named, ordered, "the names of the csr differ from the order's");
        self.orders[n].finalizes += 1;
        if self.order_status(n) != "ready" {
            return Response::problem(403, "orderNotReady");
        }
        let names: Vec<&str> = ordered.iter().map(String::as_str).collect();
        let chain = (self.issue)(&key, &names);
        let order = &mut self.orders[n];
        (order.key, order.chain) = (Some(key), Some(chain));
        order.fetches_left = self.processing_fetches;
        Response::json(200, &self.order(n)).header("Location", &format!("{BASE}/order/{}", n + 1))
    }

    /// Finalizes an order with this key, as another run of the client would have.
    pub fn finalize_with(&mut self, n: usize, key: PKey<Public>) {
        let names: Vec<String> = self.orders[n].names.clone();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chain = (self.issue)(&key, &names);
        let order = &mut self.orders[n];
        (order.key, order.chain) = (Some(key), Some(chain));
        order.fetches_left = self.processing_fetches;
        for a in order.authorizations.clone() {
            self.authorizations[a].status = "valid";
        }
    }
}
