//! A simulated CA: all of RFC 8555 and RFC 9773 that clients use, for any number of accounts, under
//! a virtual clock. It is stricter than a real CA: a request that no correct client sends fails the
//! run. The CA itself is correct; faults happen on the way to it ([`super::faults`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use acme_micro::engine::{Method, Request};
use acme_micro::{CertificateChain, SigningRequest, Time};
use openssl::pkey::{PKey, Public};
use openssl::x509::X509Req;
use serde_json::{Value, json};

use super::jws::{self, Jws};
use super::pki;
use super::rng::Rng;

pub const BASE: &str = "https://ca.example";

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
pub const DAY: i64 = 24 * HOUR;

/// Maximum number of failed validations of one name per account and hour, as at Let's Encrypt.
const FAILURES_AN_HOUR: usize = 5;

/// Maximum number of new orders of an account in this time, and of certificates for exactly the same names, as at
/// Let's Encrypt. Renewals with renewal information are exempt from both.
const ORDERS: (usize, i64) = (300, 3 * HOUR);
const DUPLICATES: (usize, i64) = (5, 7 * DAY);

/// The CA that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Any CA that RFC 8555 allows; its own parts never fail.
    Any,
    /// Let's Encrypt's server.
    Boulder,
    /// Smallstep's server, with its short certificates.
    StepCa,
}

/// The behaviour in which CAs differ.
pub struct Policy {
    /// Validity of the certificates in milliseconds.
    pub lifetime: i64,
    /// Milliseconds from the response to a challenge to the end of its validation, and from
    /// finalize to the certificate.
    pub validation: i64,
    pub processing: i64,
    /// Retry-After of pending resources in seconds.
    pub retry_after: Option<i64>,
    /// Milliseconds for which a valid authorization is used again; 0: never.
    pub reuse: i64,
    /// Whether newOrder returns an unfinished order for the same names again, as Boulder does.
    pub reuses_orders: bool,
    pub renewal_info: bool,
    /// Retry-After of renewal information in seconds.
    pub renewal_info_each: i64,
    /// Whether it limits orders and duplicates as Let's Encrypt does.
    pub limits: bool,
    /// Whether it offers keyChange, and newAuthz.
    pub key_change: bool,
    pub pre_authorization: bool,
    /// Whether a challenge stays pending during its validation and a second response is a conflict.
    pub validates_in_silence: bool,
    /// Milliseconds for which the old key of an account counts after a change.
    pub caches_keys_for: i64,
    /// One in this many validations and finalizations fails by a fault of the CA (0: none), and one
    /// in this many requests meets an unavailable part of it.
    pub own_faults: u64,
    pub outages: u64,
}

impl Policy {
    pub fn of(profile: Profile, rng: &mut Rng) -> Policy {
        match profile {
            Profile::Any => Policy::any(rng),
            Profile::Boulder => Policy {
                lifetime: *rng.pick(&[6 * DAY, 45 * DAY, 90 * DAY]),
                validation: *rng.pick(&[300, 4 * SECOND, 9 * SECOND, 30 * SECOND]),
                processing: *rng.pick(&[700, 15 * SECOND]),
                retry_after: None,
                reuse: *rng.pick(&[7 * HOUR, 30 * DAY]),
                reuses_orders: true,
                renewal_info: true,
                renewal_info_each: 21_600,
                limits: false,
                key_change: true,
                pre_authorization: false,
                validates_in_silence: true,
                caches_keys_for: 5 * SECOND,
                own_faults: 40,
                outages: 100,
            },
            Profile::StepCa => Policy {
                lifetime: *rng.pick(&[300 * SECOND, DAY]),
                validation: 0,
                processing: 0,
                retry_after: None,
                reuse: 0,
                reuses_orders: false,
                renewal_info: false,
                key_change: false,
                pre_authorization: false,
                outages: 100,
                ..Policy::any(rng)
            },
        }
    }

    fn any(rng: &mut Rng) -> Policy {
        Policy {
            lifetime: *rng.pick(&[6 * DAY, 47 * DAY, 90 * DAY, 398 * DAY]),
            validation: *rng.pick(&[0, 300, 4 * SECOND, 40 * SECOND]),
            processing: *rng.pick(&[0, 700, 15 * SECOND, 90 * SECOND]),
            retry_after: *rng.pick(&[None, Some(1), Some(3), Some(20)]),
            reuse: *rng.pick(&[0, HOUR, 30 * DAY]),
            reuses_orders: rng.chance(1, 2),
            renewal_info: rng.chance(2, 3),
            renewal_info_each: 21_600,
            limits: false,
            key_change: true,
            pre_authorization: true,
            validates_in_silence: false,
            caches_keys_for: 0,
            own_faults: 0,
            outages: 0,
        }
    }
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response { status, headers: Vec::new(), body: body.into() }
    }

    pub fn problem(status: u16, name: &str) -> Response {
        let type_ = format!("urn:ietf:params:acme:error:{name}");
        Response::new(
            status,
            json!({"type": type_, "detail": "as the simulation has it"}).to_string(),
        )
        .with("Content-Type", "application/problem+json")
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Response {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Returns the value of a header field if it is a sensible number.
    pub fn seconds(&self, name: &str) -> Option<i64> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found
            .and_then(|(_, value)| value.parse().ok())
            .filter(|seconds| (0..1_000_000_000).contains(seconds))
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

struct Account {
    jwk: Value,
    /// Previous key, and the time of the change.
    former: Option<(Value, i64)>,
    active: bool,
    contact: Value,
}

pub struct Authorization {
    account: usize,
    name: String,
    wildcard: bool,
    status: &'static str,
    expires: i64,
    token: String,
    responded: Option<(&'static str, i64)>,
    error: Option<Value>,
}

pub struct Order {
    pub account: usize,
    pub names: Vec<String>,
    authorizations: Vec<usize>,
    expires: i64,
    replaces: Option<String>,
    /// Time of finalize, and the key of the CSR.
    finalized: Option<(i64, PKey<Public>)>,
    pub issued: Option<CertificateChain>,
    /// Reason for which it is invalid, if its authorizations are not the reason.
    error: Option<Value>,
    /// Identifier of its certificate in renewal information.
    id: Option<String>,
    /// Whether a response about it was falsified: the client's later behaviour proves nothing.
    pub spoiled: bool,
    /// Whether the program has the certificate.
    pub delivered: bool,
}

impl Order {
    /// Whether its certificate has expired, so that fetching it is too late.
    pub fn is_expired(&self, now: i64) -> bool {
        self.issued.as_ref().is_some_and(|chain| chain.not_after() <= Time::from_millis(now))
    }
}

const TYPES: [&str; 3] = ["http-01", "dns-01", "tls-alpn-01"];

/// Whether this is published now: challenge type, name, key authorization.
pub type Published<'a> = &'a dyn Fn(&str, &str, &str) -> bool;

pub struct Ca {
    /// Start of all of its URLs.
    pub base: &'static str,
    pub policy: Policy,
    /// Whether its own parts have stopped failing.
    pub is_calm: bool,
    pub now: i64,
    pub orders: Vec<Order>,
    accounts: Vec<Account>,
    authorizations: Vec<Authorization>,
    /// The authorizations of an account and a name, with or without wildcard.
    by_name: HashMap<(usize, String, bool), Vec<usize>>,
    /// The orders of an account and its names.
    by_names: HashMap<(usize, Vec<String>), Vec<usize>>,
    /// The order of each certificate, by its identifier in renewal information.
    by_id: HashMap<String, usize>,
    /// When authorizations expire, and those that are being validated.
    expiring: BTreeSet<(i64, usize)>,
    validating: BTreeSet<usize>,
    /// The times of orders that count against the limit, of each account, and of the certificates for the same names.
    counted: HashMap<usize, Vec<i64>>,
    duplicates: HashMap<(usize, Vec<String>), Vec<i64>>,
    /// The windows of certificates that were issued before this time are in the past: an incident.
    pub incident: i64,
    /// Certificate identifiers (RFC 9773 section 4.1) that have been replaced.
    replaced: BTreeSet<String>,
    revoked: BTreeSet<Vec<u8>>,
    failures: BTreeMap<(usize, String), Vec<i64>>,
    /// Accounts whose orders were refused for too many failures, and the times.
    refusals: Vec<(usize, i64)>,
    rng: Rng,
    nonces: BTreeSet<String>,
    /// Number of times that a nonce may be refused: the network made it up, or delivered it twice.
    excused: BTreeMap<String, u32>,
    used: BTreeSet<String>,
}

impl Ca {
    pub fn new(profile: Profile, mut rng: Rng, now: i64) -> Ca {
        Ca {
            base: BASE,
            policy: Policy::of(profile, &mut rng),
            is_calm: false,
            now,
            orders: Vec::new(),
            accounts: Vec::new(),
            authorizations: Vec::new(),
            by_name: HashMap::new(),
            by_names: HashMap::new(),
            by_id: HashMap::new(),
            expiring: BTreeSet::new(),
            validating: BTreeSet::new(),
            counted: HashMap::new(),
            duplicates: HashMap::new(),
            incident: i64::MIN,
            replaced: BTreeSet::new(),
            revoked: BTreeSet::new(),
            failures: BTreeMap::new(),
            refusals: Vec::new(),
            rng,
            nonces: BTreeSet::new(),
            excused: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    pub fn fresh_nonce(&mut self) -> String {
        let nonce = jws::encode(&self.rng.bytes::<16>());
        self.nonces.insert(nonce.clone());
        nonce
    }

    /// Returns a nonce that the CA refuses, which the client cannot know.
    pub fn bad_nonce(&mut self) -> String {
        let nonce = match self.rng.chance(1, 2) {
            true => jws::encode(&self.rng.bytes::<16>()),
            false => self.used.first().cloned().unwrap_or_else(|| "abc".to_owned()),
        };
        *self.excused.entry(nonce.clone()).or_default() += 1;
        nonce
    }

    /// Whether the account of this key is active.
    pub fn knows(&self, key: &acme_micro::Key) -> bool {
        let known = |account: &&Account| jws::thumbprint(&account.jwk) == key.thumbprint();
        self.accounts.iter().find(known).is_some_and(|account| account.active)
    }

    pub fn is_revoked(&self, chain: &CertificateChain) -> bool {
        self.revoked.contains(&chain.ders()[0])
    }

    /// Returns the order that a request is about, by its URL.
    pub fn order_of(&self, url: &str) -> Option<usize> {
        let path = url.strip_prefix(self.base)?;
        let mut parts = path.trim_start_matches('/').split('/');
        let (kind, n) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        match kind {
            "order" | "finalize" | "cert" => Some(n),
            "authz" | "chall" => self.orders.iter().rposition(|o| o.authorizations.contains(&n)),
            _ => None,
        }
    }

    /// Whether the challenge with this key authorization is being validated.
    pub fn is_validating(&self, key_authorization: &str) -> bool {
        self.authorizations.iter().any(|authorization| {
            authorization.status == "pending"
                && authorization
                    .responded
                    .is_some_and(|(_, at)| at + self.policy.validation > self.now)
                && key_authorization.starts_with(&authorization.token)
        })
    }

    /// Whether the order at this URL can still lead to a certificate.
    pub fn can_be_resumed(&self, url: &str) -> bool {
        let order = self.order_of(url).filter(|n| *n < self.orders.len());
        order.is_some_and(|n| {
            let order = &self.orders[n];
            !order.spoiled && !order.is_expired(self.now) && self.order_status(n) != "invalid"
        })
    }
}

/// Checks of requests.
impl Ca {
    /// Does what a valid request asks for. `again`: the network has delivered it before.
    pub fn serve(&mut self, request: &Request, again: bool, published: Published<'_>) -> Response {
        self.advance(published);
        let path = request.url().strip_prefix(self.base).expect("a request to another host");
        if request.method == Method::Get {
            assert!(request.body.is_empty(), "a GET with a body");
            return self.get(path);
        }
        let kind = request.headers.iter().find(|(name, _)| *name == "Content-Type");
        assert_eq!(kind.expect("a content type").1, "application/jose+json");
        let jws = Jws::parse(&serde_json::from_slice(&request.body).expect("a JSON body"));
        assert_eq!(jws.header("url"), request.url(), "the signed URL differs from the request's");
        let response = match self.take_nonce(jws.header("nonce"), again) {
            false => Response::problem(400, "badNonce"),
            true => self.post(path, &jws),
        };
        let nonce = self.fresh_nonce();
        response.with("Replay-Nonce", nonce)
    }

    /// Whether the nonce is good. A client that sends one twice, or makes one up, fails the run.
    fn take_nonce(&mut self, nonce: &str, again: bool) -> bool {
        if again {
            return false;
        }
        let fresh = self.nonces.remove(nonce);
        if !fresh {
            let excuses = self.excused.get_mut(nonce);
            let excuses = excuses.unwrap_or_else(|| match self.used.contains(nonce) {
                true => panic!("the nonce {nonce} was sent twice"),
                false => panic!("this CA has not issued the nonce {nonce}"),
            });
            *excuses =
                excuses.checked_sub(1).expect("the nonce is sent more often than it was issued");
        }
        self.used.insert(nonce.to_owned());
        fresh
    }

    fn get(&mut self, path: &str) -> Response {
        match path.split('/').nth(1).unwrap_or_default() {
            "directory" => Response::new(200, self.directory().to_string()),
            "new-nonce" => {
                let nonce = self.fresh_nonce();
                Response::new(204, "").with("Replay-Nonce", nonce)
            }
            "renewal-info" if self.policy.renewal_info => self.renewal_info(path),
            _ => Response::new(404, "<html>"),
        }
    }

    fn directory(&self) -> Value {
        let base = self.base;
        let url = |path: &str| format!("{base}/{path}");
        let renewal_info = self.policy.renewal_info.then(|| url("renewal-info"));
        let new_authz = self.policy.pre_authorization.then(|| url("new-authz"));
        let key_change = self.policy.key_change.then(|| url("key-change"));
        json!({
            "newNonce": url("new-nonce"), "newAccount": url("new-account"),
            "newOrder": url("new-order"), "newAuthz": new_authz,
            "revokeCert": url("revoke"), "keyChange": key_change,
            "renewalInfo": renewal_info, "meta": {"termsOfService": url("terms")},
        })
    }

    fn post(&mut self, path: &str, jws: &Jws) -> Response {
        let base = self.base;
        let payload: Option<Value> = match jws.payload.as_slice() {
            b"" => None,
            payload => Some(serde_json::from_slice(payload).expect("a JSON payload")),
        };
        if !self.is_calm && self.policy.outages > 0 && self.rng.chance(1, self.policy.outages) {
            return Response::problem(500, "serverInternal").with("Retry-After", 60);
        }
        let mut parts = path.split('/').skip(1);
        let what = parts.next().unwrap_or_default();
        let n = parts.next().and_then(|n| n.parse::<usize>().ok());
        if let Some(jwk) = jws.protected.get("jwk") {
            jws.verify(jwk);
            return match (what, &payload) {
                ("new-account", Some(payload)) => self.new_account(jwk.clone(), payload),
                ("revoke", Some(payload)) => self.revoke(None, payload, Some(jwk)),
                _ => panic!("{path} signed with a key that is sent along"),
            };
        }
        let account = jws.header("kid").strip_prefix(self.base);
        let account = account.and_then(|path| path.strip_prefix("/account/"));
        let account: usize = account.and_then(|n| n.parse().ok()).expect("an account's URL");
        assert!(account < self.accounts.len(), "there is no account {account}");
        if !jws.is_by(self.known_key(account)) {
            let type_ = "urn:ietf:params:acme:error:malformed";
            let detail = "Unable to validate JWS :: JWS verification error";
            let problem = json!({"type": type_, "detail": detail});
            return Response::new(400, problem.to_string());
        }
        if !self.accounts[account].active {
            return Response::problem(401, "unauthorized");
        }
        let owned = |owner: usize| assert_eq!(owner, account, "{path} is another account's");
        match (what, n, &payload) {
            ("account", Some(of), None) => {
                owned(of);
                Response::new(200, self.account(of).to_string())
            }
            ("account", Some(of), Some(payload)) => {
                owned(of);
                self.update_account(account, payload)
            }
            ("new-order", None, Some(payload)) => self.new_order(account, payload),
            ("new-authz", None, Some(payload)) => {
                let name = payload["identifier"]["value"].as_str().expect("a name");
                let a = self.authorize(account, name);
                let location = format!("{base}/authz/{a}");
                Response::new(201, self.authorization(a).to_string()).with("Location", location)
            }
            ("key-change", None, Some(payload)) => self.change_key(account, payload),
            ("revoke", None, Some(payload)) => self.revoke(Some(account), payload, None),
            ("orders", Some(of), None) => {
                owned(of);
                let of_account = self.orders.iter().enumerate().filter(|(_, o)| o.account == of);
                let urls: Vec<String> =
                    of_account.map(|(n, _)| format!("{base}/order/{n}")).collect();
                Response::new(200, json!({"orders": urls}).to_string())
            }
            ("authz", Some(a), payload) => {
                owned(self.authorizations[a].account);
                if let Some(payload) = payload {
                    assert_eq!(*payload, json!({"status": "deactivated"}));
                    self.authorizations[a].status = "deactivated";
                }
                let polls = self.authorizations[a].status == "pending";
                self.paced(Response::new(200, self.authorization(a).to_string()), polls)
            }
            ("chall", Some(a), Some(payload)) => {
                owned(self.authorizations[a].account);
                assert_eq!(*payload, json!({}));
                let kind = path.rsplit('/').next().unwrap_or_default();
                self.respond_to_challenge(a, kind)
            }
            ("order", Some(n), None) => {
                owned(self.orders[n].account);
                let status = self.order_status(n);
                let polls = matches!(status, "pending" | "processing");
                self.paced(Response::new(200, self.order(n).to_string()), polls)
            }
            ("finalize", Some(n), Some(payload)) => {
                owned(self.orders[n].account);
                self.finalize(n, payload)
            }
            ("cert", Some(n), None) => {
                owned(self.orders[n].account);
                assert_eq!(self.order_status(n), "valid", "a certificate that is not there yet");
                let chain = self.orders[n].issued.as_ref().expect("a certificate");
                Response::new(200, chain.pem())
                    .with("Content-Type", "application/pem-certificate-chain")
                    .with("Date", httpdate(self.now))
            }
            _ => panic!("no CA expects a POST to {path} with {payload:?}"),
        }
    }

    fn paced(&self, response: Response, polls: bool) -> Response {
        match self.policy.retry_after.filter(|_| polls) {
            Some(seconds) => response.with("Retry-After", seconds),
            None => response,
        }
    }
}

/// Accounts.
impl Ca {
    fn new_account(&mut self, jwk: Value, payload: &Value) -> Response {
        let base = self.base;
        let known = self.accounts.iter().position(|account| account.jwk == jwk);
        let (status, n) = match known {
            Some(n) if !self.accounts[n].active => return Response::problem(401, "unauthorized"),
            Some(n) => (200, n),
            None if payload["onlyReturnExisting"] == true => {
                return Response::problem(400, "accountDoesNotExist");
            }
            None => {
                assert_eq!(payload["termsOfServiceAgreed"], true, "the terms are not agreed to");
                let contact = payload["contact"].clone();
                self.accounts.push(Account { jwk, former: None, active: true, contact });
                (201, self.accounts.len() - 1)
            }
        };
        Response::new(status, self.account(n).to_string())
            .with("Location", format!("{base}/account/{n}"))
    }

    /// Returns the key that counts for an account: for a while after a change, the previous one.
    fn known_key(&self, n: usize) -> &Value {
        let account = &self.accounts[n];
        let cached = account.former.as_ref();
        let cached = cached.filter(|(_, at)| self.now < at + self.policy.caches_keys_for);
        cached.map_or(&account.jwk, |(former, _)| former)
    }

    fn account(&self, n: usize) -> Value {
        let base = self.base;
        let account = &self.accounts[n];
        let status = if account.active { "valid" } else { "deactivated" };
        json!({"status": status, "contact": account.contact, "orders": format!("{base}/orders/{n}")})
    }

    fn update_account(&mut self, n: usize, payload: &Value) -> Response {
        match payload.get("contact") {
            Some(contact) => self.accounts[n].contact = contact.clone(),
            None => {
                assert_eq!(*payload, json!({"status": "deactivated"}));
                self.accounts[n].active = false;
            }
        }
        Response::new(200, self.account(n).to_string())
    }

    /// Changes an account's key (RFC 8555 section 7.3.5).
    fn change_key(&mut self, n: usize, payload: &Value) -> Response {
        let base = self.base;
        let inner = Jws::parse(payload);
        let jwk = inner.protected["jwk"].clone();
        inner.verify(&jwk);
        assert_eq!(inner.header("url"), format!("{base}/key-change"));
        assert!(inner.protected.get("nonce").is_none(), "the inner JWS has no nonce");
        let change: Value = serde_json::from_slice(&inner.payload).expect("a JSON payload");
        assert_eq!(change["account"], format!("{base}/account/{n}"));
        if let Some(other) = self.accounts.iter().position(|account| account.jwk == jwk) {
            let location = format!("{base}/account/{other}");
            return Response::problem(409, "malformed").with("Location", location);
        }
        assert_eq!(change["oldKey"], self.accounts[n].jwk);
        let now = self.now;
        let account = &mut self.accounts[n];
        account.former = Some((std::mem::replace(&mut account.jwk, jwk), now));
        Response::new(200, self.account(n).to_string())
    }

    /// Revokes a certificate (RFC 8555 section 7.6).
    fn revoke(&mut self, account: Option<usize>, payload: &Value, jwk: Option<&Value>) -> Response {
        let der = jws::decode(payload["certificate"].as_str().expect("a certificate"));
        let issued =
            |order: &&Order| order.issued.as_ref().is_some_and(|chain| chain.ders()[0] == der);
        let order = self.orders.iter().find(issued).expect("a certificate that was issued here");
        match jwk {
            Some(jwk) => {
                let (_, key) = order.finalized.as_ref().expect("a finalized order");
                assert!(jws::public_key(jwk).public_eq(key), "revoked with another key");
            }
            None => assert_eq!(account, Some(order.account), "another account's certificate"),
        }
        match self.revoked.insert(der) {
            true => Response::new(200, ""),
            false => Response::problem(400, "alreadyRevoked"),
        }
    }
}

/// Orders.
impl Ca {
    /// Returns the time from which an account may order a name again that has failed too often.
    fn limited_until(&self, account: usize, name: &str) -> Option<i64> {
        let failures = self.failures.get(&(account, name.to_owned()))?;
        let recent = failures.iter().filter(|at| **at > self.now - HOUR);
        let excess = recent.clone().count().checked_sub(FAILURES_AN_HOUR + 1)?;
        recent.clone().nth(excess).map(|at| at + HOUR)
    }

    fn new_order(&mut self, account: usize, payload: &Value) -> Response {
        let base = self.base;
        let identifiers = payload["identifiers"].as_array().expect("identifiers");
        let names: Vec<String> = identifiers
            .iter()
            .map(|identifier| {
                assert_eq!(identifier["type"], "dns");
                identifier["value"].as_str().expect("a name").to_owned()
            })
            .collect();
        let replaces = payload.get("replaces").and_then(Value::as_str).map(str::to_owned);
        // A falsified directory may have announced renewal information to the client.
        let replaces = replaces.filter(|_| self.policy.renewal_info);
        if replaces.as_ref().is_some_and(|id| self.replaced.contains(id)) {
            return Response::problem(409, "alreadyReplaced");
        }
        let now = self.now;
        let limited = |name: &String| self.limited_until(account, bare(name));
        if let Some(until) = names.iter().filter_map(limited).max() {
            self.refusals.retain(|(_, at)| *at > now - HOUR);
            self.refusals.push((account, now));
            let refused = self.refusals.iter().filter(|(whose, _)| *whose == account).count();
            assert!(
                refused <= FAILURES_AN_HOUR,
                "the client keeps ordering a name that fails: {names:?}"
            );
            let wait = (until - now) / SECOND + 1;
            return Response::problem(429, "rateLimited").with("Retry-After", wait);
        }
        let unfinished = |n: &usize| {
            self.orders[*n].replaces == replaces
                && matches!(self.order_status(*n), "pending" | "ready")
        };
        let purpose = (account, names.clone());
        let before = self.by_names.get(&purpose).into_iter().flatten().rev();
        let reused = before.copied().find(unfinished).filter(|_| self.policy.reuses_orders);
        if reused.is_none() && replaces.is_none() && self.policy.limits {
            let recent = |times: Option<&Vec<i64>>, (most, within): (usize, i64)| {
                let recent = times.into_iter().flatten().filter(|at| **at > now - within);
                recent.count() >= most
            };
            if recent(self.counted.get(&account), ORDERS)
                || recent(self.duplicates.get(&purpose), DUPLICATES)
            {
                return Response::problem(429, "rateLimited").with("Retry-After", 3600);
            }
            let counted = self.counted.entry(account).or_default();
            counted.retain(|at| *at > now - ORDERS.1);
            counted.push(now);
        }
        let n = reused.unwrap_or_else(|| {
            self.by_names.entry(purpose).or_default().push(self.orders.len());
            let authorizations = names.iter().map(|name| self.authorize(account, name)).collect();
            self.orders.push(Order {
                account,
                names,
                authorizations,
                expires: now + 7 * DAY,
                replaces,
                finalized: None,
                issued: None,
                error: None,
                id: None,
                spoiled: false,
                delivered: false,
            });
            self.orders.len() - 1
        });
        Response::new(201, self.order(n).to_string()).with("Location", format!("{base}/order/{n}"))
    }

    /// Returns an authorization for this name: a valid one, or a new one.
    fn authorize(&mut self, account: usize, name: &str) -> usize {
        let (now, wildcard) = (self.now, name.starts_with("*."));
        let usable = |a: &&usize| {
            let a = &self.authorizations[**a];
            a.status == "valid" && a.expires > now
        };
        let known = self.by_name.entry((account, bare(name).to_owned(), wildcard)).or_default();
        if let Some(found) = known.iter().rev().find(usable) {
            return *found;
        }
        known.push(self.authorizations.len());
        self.expiring.insert((now + 7 * DAY, self.authorizations.len()));
        let token = jws::encode(&self.rng.bytes::<32>());
        self.authorizations.push(Authorization {
            account,
            name: bare(name).to_owned(),
            wildcard,
            status: "pending",
            expires: now + 7 * DAY,
            token,
            responded: None,
            error: None,
        });
        self.authorizations.len() - 1
    }

    /// Brings validations and orders up to the present.
    fn advance(&mut self, published: Published<'_>) {
        let own_faults = if self.is_calm { 0 } else { self.policy.own_faults };
        while let Some((at, a)) = self.expiring.pop_first() {
            if at > self.now {
                self.expiring.insert((at, a));
                break;
            }
            let authorization = &mut self.authorizations[a];
            if authorization.expires <= self.now
                && matches!(authorization.status, "pending" | "valid")
            {
                authorization.status = "expired";
            }
        }
        let validating: Vec<usize> = self.validating.iter().copied().collect();
        for a in validating {
            let authorization = &mut self.authorizations[a];
            let Some((kind, at)) = authorization.responded else { continue };
            if authorization.status != "pending" {
                self.validating.remove(&a);
                continue;
            }
            if at + self.policy.validation > self.now {
                continue;
            }
            self.validating.remove(&a);
            let account = &self.accounts[authorization.account];
            let thumbprint = jws::thumbprint(&account.jwk);
            let expected = format!("{}.{thumbprint}", authorization.token);
            if own_faults > 0 && self.rng.chance(1, own_faults) {
                authorization.status = "invalid";
                authorization.error = Some(fault_of_its_own("Could not communicate with VA"));
            } else if published(kind, &authorization.name, &expected) {
                authorization.status = "valid";
                // The authorization stays valid for at least as long as an order takes.
                authorization.expires = self.now + self.policy.reuse.max(HOUR);
                self.expiring.insert((authorization.expires, a));
            } else {
                authorization.status = "invalid";
                let type_ = "urn:ietf:params:acme:error:connection";
                let detail = format!("nothing is there{}", ".".repeat(2000));
                authorization.error = Some(json!({"type": type_, "detail": detail}));
                let failed = (authorization.account, authorization.name.clone());
                self.failures.entry(failed).or_default().push(self.now);
            }
        }
    }

    fn order_status(&self, n: usize) -> &'static str {
        let order = &self.orders[n];
        if order.error.is_some() {
            return "invalid";
        }
        if let Some((at, _)) = order.finalized {
            return if at + self.policy.processing > self.now { "processing" } else { "valid" };
        }
        let states = order.authorizations.iter().map(|a| self.authorizations[*a].status);
        let states: Vec<_> = states.collect();
        if order.expires <= self.now || states.iter().any(|s| *s != "pending" && *s != "valid") {
            "invalid"
        } else if states.iter().all(|status| *status == "valid") {
            "ready"
        } else {
            "pending"
        }
    }

    fn order(&self, n: usize) -> Value {
        let base = self.base;
        let (order, status) = (&self.orders[n], self.order_status(n));
        let identifiers: Vec<Value> =
            order.names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let authorizations: Vec<String> =
            order.authorizations.iter().map(|a| format!("{base}/authz/{a}")).collect();
        let mut json = json!({
            "status": status, "expires": Time::from_millis(order.expires).to_string(),
            "identifiers": identifiers, "authorizations": authorizations,
            "finalize": format!("{base}/finalize/{n}"),
        });
        if let Some(error) = &order.error {
            json["error"] = error.clone();
        }
        if status == "valid" {
            json["certificate"] = json!(format!("{base}/cert/{n}"));
        }
        json
    }

    fn authorization(&self, a: usize) -> Value {
        let authorization = &self.authorizations[a];
        let offered = TYPES.iter().filter(|kind| !authorization.wildcard || **kind == "dns-01");
        let challenges: Vec<Value> = offered.map(|kind| self.challenge(a, kind)).collect();
        let mut json = json!({
            "identifier": {"type": "dns", "value": authorization.name},
            "status": authorization.status, "challenges": challenges,
            "expires": Time::from_millis(authorization.expires).to_string(),
        });
        if authorization.wildcard {
            json["wildcard"] = json!(true);
        }
        json
    }

    fn challenge(&self, a: usize, kind: &str) -> Value {
        let base = self.base;
        let authorization = &self.authorizations[a];
        let responded = authorization.responded.is_some_and(|(responded, _)| responded == kind);
        let status = match authorization.status {
            "pending" if responded && !self.policy.validates_in_silence => "processing",
            "valid" | "invalid" if responded => authorization.status,
            _ => "pending",
        };
        let mut json = json!({
            "type": kind, "status": status, "token": authorization.token,
            "url": format!("{base}/chall/{a}/{kind}"),
        });
        if let Some(error) = authorization.error.as_ref().filter(|_| status == "invalid") {
            json["error"] = error.clone();
        }
        json
    }

    fn respond_to_challenge(&mut self, a: usize, kind: &str) -> Response {
        let kind = TYPES.iter().find(|known| **known == kind).expect("a type that was offered");
        let authorization = &mut self.authorizations[a];
        if authorization.status != "pending" {
            return Response::problem(400, "malformed");
        }
        match authorization.responded {
            Some(_) if self.policy.validates_in_silence => {
                return Response::problem(409, "conflict");
            }
            Some(_) => {}
            None => {
                authorization.responded = Some((kind, self.now));
                self.validating.insert(a);
            }
        }
        Response::new(200, self.challenge(a, kind).to_string())
    }

    fn finalize(&mut self, n: usize, payload: &Value) -> Response {
        let base = self.base;
        if self.order_status(n) != "ready" {
            return Response::problem(403, "orderNotReady");
        }
        let der = jws::decode(payload["csr"].as_str().expect("a csr"));
        let request = X509Req::from_der(&der).expect("a csr");
        let key = request.public_key().unwrap();
        assert!(request.verify(&key).unwrap(), "the csr's own signature is wrong");
        let jwk = &self.accounts[self.orders[n].account].jwk;
        assert!(!jws::public_key(jwk).public_eq(&key), "the account's key is to be certified");
        let mut named = SigningRequest::parse(&der).unwrap().names().to_vec();
        let order = &mut self.orders[n];
        let mut ordered = order.names.clone();
        named.sort();
        ordered.sort();
        assert_eq!(named, ordered, "the names of the csr differ from the order's");
        let own_faults = if self.is_calm { 0 } else { self.policy.own_faults };
        if own_faults > 0 && self.rng.chance(1, own_faults) {
            self.orders[n].error = Some(fault_of_its_own("Error finalizing order"));
            return Response::new(200, self.order(n).to_string());
        }
        let order = &mut self.orders[n];
        let backdated = (self.policy.lifetime / 5).min(HOUR);
        let from = (self.now - backdated) / 1000;
        let valid = (from, from + self.policy.lifetime / 1000);
        let serial = self.rng.next() >> 2 | 1 << 61;
        let chain = pki::chain(&key, &order.names, serial, valid);
        let chain = CertificateChain::parse(&chain).unwrap();
        (order.id, order.issued) = (chain.renewal_id(), Some(chain));
        order.finalized = Some((self.now, key));
        if let Some(id) = &order.id {
            self.by_id.insert(id.clone(), n);
        }
        match &order.replaces {
            Some(id) => {
                self.replaced.insert(id.clone());
            }
            None if self.policy.limits => {
                let purpose = (order.account, order.names.clone());
                self.duplicates.entry(purpose).or_default().push(self.now);
            }
            None => {}
        }
        Response::new(200, self.order(n).to_string())
            .with("Location", format!("{base}/order/{n}"))
            .with("Retry-After", self.policy.retry_after.unwrap_or(1))
    }

    fn renewal_info(&mut self, path: &str) -> Response {
        let id = path.rsplit('/').next().unwrap_or_default();
        let order = self.by_id.get(id).map(|n| &self.orders[*n]);
        let chain = order.and_then(|order| order.issued.as_ref());
        let chain = chain.expect("renewal information for a certificate from here");
        let from = chain.not_before().as_millis();
        let life = chain.not_after().as_millis() - from;
        let is_moved = self.is_revoked(chain) || from < self.incident;
        let (start, end) = match is_moved {
            true => (from, from + 1000),
            false => (from + life / 3 * 2, from + life / 10 * 7),
        };
        let [start, end] = [start, end].map(|at| Time::from_millis(at).to_string());
        let window = json!({"suggestedWindow": {"start": start, "end": end}});
        Response::new(200, window.to_string()).with("Retry-After", self.policy.renewal_info_each)
    }

    /// Forgets certificates that expired a while ago, so that years of many fit into memory.
    pub fn forget(&mut self) {
        let long_ago = self.now - 30 * DAY;
        for order in &mut self.orders {
            order.issued =
                order.issued.take().filter(|chain| chain.not_after().as_millis() > long_ago);
        }
    }
}

fn fault_of_its_own(detail: &str) -> Value {
    json!({"type": "urn:ietf:params:acme:error:serverInternal", "detail": detail})
}

fn bare(name: &str) -> &str {
    name.trim_start_matches("*.")
}

/// Returns a date as HTTP writes it (RFC 9110 section 5.6.7).
pub fn httpdate(millis: i64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis as u64);
    httpdate::fmt_http_date(at)
}

#[test]
fn a_name_that_failed_too_often_waits_until_an_hour_has_passed() {
    let mut ca = Ca::new(Profile::Any, Rng(1), 10 * HOUR);
    let failed: Vec<i64> = (0..6).map(|n| 9 * HOUR + n * SECOND + 1).collect();
    ca.failures.insert((0, "a.example".to_owned()), failed[..5].to_vec());
    assert_eq!(ca.limited_until(0, "a.example"), None);
    ca.failures.insert((0, "a.example".to_owned()), failed.clone());
    assert_eq!(ca.limited_until(0, "a.example"), Some(failed[0] + HOUR));
    assert_eq!((ca.limited_until(1, "a.example"), ca.limited_until(0, "b.example")), (None, None));
    ca.now = failed[0] + HOUR;
    assert_eq!(ca.limited_until(0, "a.example"), None);
}
