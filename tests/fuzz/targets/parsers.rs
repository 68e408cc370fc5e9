//! Input from the CA.

use std::time::Duration;

use serde_json::Value;

use crate::base64url::is_base64url;
use crate::engine::UrlPolicy;
use crate::error::{Error, ErrorKind};
use crate::header::Headers;
use crate::pki::{
    CertificateChain, ChainPreference, Key, KeyType, KnownIssuers, RequestedKey, SigningRequest,
};
use crate::problem::Problem;
use crate::resource::account::Account;
use crate::resource::authorization::Authorization;
use crate::resource::directory::Directory;
use crate::resource::identifier::Identifier;
use crate::resource::order::Order;
use crate::resource::order_list::OrderList;
use crate::resource::renewal_info::RenewalInfo;
use crate::resource::{self, Resource};
use crate::text::printable;
use crate::time::{self, Time};
use crate::url::Url;

/// 2026-11-24T14:24:05Z.
const NOW: Time = Time::from_millis(1_795_530_245_000);

/// Checks that an error is typed and fits in one line of a log.
pub fn check_error(error: &Error) {
    assert!(!matches!(error.kind(), ErrorKind::Panic | ErrorKind::Misuse), "{error:?}");
    check_text(&error.to_string(), 16 * 1024);
}

fn check_text(text: &str, most: usize) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() <= most, "{} bytes: {text}", text.len());
}

fn read<T: Resource>(data: &[u8]) -> Option<T> {
    resource::parse("a resource", data).inspect_err(check_error).ok()
}

pub fn problem(data: &[u8]) {
    let Some(problem) = Problem::parse(data) else { return };
    let members = |json: &str| assert!(serde_json::from_str::<Value>(json).unwrap().is_object());
    members(problem.json());
    let nested = problem.subproblems();
    assert!(nested.len() <= 100);
    for text in [problem.detail(), problem.instance(), problem.identifier()] {
        check_text(text.unwrap_or_default(), 16 * 1024);
    }
    check_text(problem.type_urn(), 16 * 1024);
    assert!(problem.help_url().is_none_or(|url| url.starts_with("https://")));
    for status in [400, 403, 429, 500] {
        problem.is_permanent(status);
    }
    let error = Error::refused(problem.clone(), 400);
    check_error(&error);
    assert_eq!(error.problem(), Some(&problem));
    for sub in nested {
        members(sub.json());
    }
}

pub fn directory(data: &[u8]) {
    let Some(directory) = read::<Directory>(data) else { return };
    let required = [directory.new_nonce(), directory.new_account(), directory.new_order()];
    let complete = required.iter().all(Result::is_ok);
    assert_eq!(directory.clone().check().inspect_err(check_error).is_ok(), complete);
    for (_, description) in directory.profiles() {
        check_text(description, 16 * 1024);
    }
    directory.external_account_required();
    directory.terms_of_service();
    for optional in [directory.revoke_cert().err(), directory.new_authz().err()] {
        optional.iter().for_each(check_error);
    }
}

pub fn order(data: &[u8]) {
    read::<Account>(data);
    read::<OrderList>(data);
    let Some(order) = read::<Order>(data) else { return };
    let distinct = order.distinct_authorizations();
    assert!(distinct.len() <= order.authorizations.len());
    assert_eq!(distinct.is_empty(), order.authorizations.is_empty());
    let own: Vec<Identifier> = order.identifiers.iter().map(Identifier::canonical).collect();
    assert!(order.check_identifiers(&own).is_ok());
    let other = [Identifier::from_name("other.example").unwrap()];
    if let Err(error) = order.check_identifiers(&other) {
        check_error(&error);
    }
}

pub fn authorization(data: &[u8]) {
    let Some(authorization) = read::<Authorization>(data) else { return };
    let named = authorization.ordered_identifier();
    assert_eq!(named.canonical(), named.canonical().canonical());
    for challenge in &authorization.challenges {
        match challenge.checked_token() {
            Ok(token) => assert!(is_base64url(token) && (22..=512).contains(&token.len())),
            Err(error) => check_error(&error),
        }
        match challenge.issuer_domain_name() {
            Ok(name) => assert!(name.is_ascii() && name.len() <= 253 && !name.contains(' ')),
            Err(error) => check_error(&error),
        }
    }
}

pub fn renewal_info(data: &[u8]) {
    let Some(info) = read::<RenewalInfo>(data) else { return };
    assert!(info.window.start < info.window.end);
}

/// A header, one field per line.
pub fn header(data: &[u8]) {
    let mut headers = Headers::default();
    let mut size = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        size += name.len() + value.len();
        assert!(headers.add(name, value).is_ok() || size > 60_000 || data.len() > 128);
    }
    if let Some(nonce) = headers.nonce() {
        assert!(is_base64url(nonce) && nonce.len() <= 512);
    }
    for relation in ["alternate", "next", "help", "up"] {
        let links = headers.links(relation, 8);
        assert!(links.len() <= 8 && !links.iter().any(|link| link.contains('>')));
    }
    if let Some(value) = headers.last("retry-after") {
        let delay = time::retry_after(value, headers.last("date"), NOW);
        assert!(delay.is_none_or(|delay| delay <= Duration::from_secs(30 * 24 * 3600)));
    }
}

/// Two lines: the value of Retry-After, and of Date.
pub fn date(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(time) = time::http_date(first) {
        // A time that is formatted and parsed again stays the same.
        assert_eq!(Time::from_rfc3339(&time.to_string()), Some(time), "{first}");
    }
    if let Some(time) = Time::from_rfc3339(first) {
        let seconds = Time::from_millis(time.as_millis().div_euclid(1000) * 1000);
        let again = Time::from_rfc3339(&time.to_string());
        assert!(again.is_none_or(|again| again == seconds), "{first}");
    }
    let delay = time::retry_after(first, Some(second), NOW);
    assert!(delay.is_none_or(|delay| delay <= Duration::from_secs(30 * 24 * 3600)));
    let delay = time::retry_after(first, None, NOW);
    assert!(delay.is_none_or(|delay| delay <= Duration::from_secs(30 * 24 * 3600)));
}

/// A URL or a relative reference from the CA, and a directory's URL.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let policy = UrlPolicy::new("https://ca.example/dir", &[], false).unwrap();
    let from = policy.directory().join(&text);
    for text in [&*text, &from] {
        let Ok(url) = policy.check(text).inspect_err(check_error) else { continue };
        assert_eq!(url.as_str(), text);
        // The host as a very simple parser finds it.
        let rest = text.get(..8).filter(|s| s.eq_ignore_ascii_case("https://")).map(|_| &text[8..]);
        let rest = rest.unwrap_or_else(|| panic!("not https: {text}"));
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap();
        let host = authority.split(':').next().unwrap();
        assert!(host.eq_ignore_ascii_case("ca.example"), "{text}");
        assert_eq!(url.host(), "ca.example");
        assert!(url.port() != 0 && url.path().starts_with('/'));
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(policy.check(&url.join("/x")).unwrap().path(), "/x");
    }
    if let Ok(policy) = UrlPolicy::new(&text, &[], true) {
        let url = policy.directory();
        assert!(policy.check(url.as_str()).is_ok());
        let http = url.as_str().get(..7).is_some_and(|s| s.eq_ignore_ascii_case("http://"));
        let loopback = url.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        assert!(!http || loopback || url.host() == "localhost", "{text}");
    }
    let _ = Url::parse(&text);
}

/// A name that a certificate is for.
pub fn name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    printable(&text, 80);
    match Identifier::from_name(&text) {
        Ok(name) => {
            let again = Identifier::from_name(&name.value);
            // "ip" and "dns" are their own canonical form; a device's name has its type in front.
            assert!(name.is_of_device() || again.unwrap() == name, "{text}");
            assert!(name.value.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(name.value.len() <= 255);
            if name.type_ == "dns" {
                let sound = |b: u8| b.is_ascii_alphanumeric() && !b.is_ascii_uppercase();
                let host = name.value.strip_prefix("*.").unwrap_or(&name.value);
                assert!(host.bytes().all(|b| sound(b) || b == b'-' || b == b'.'), "{text}");
                assert!(host.split('.').all(|label| (1..=63).contains(&label.len())), "{text}");
            }
        }
        Err(error) => check_error(&error),
    }
}

pub fn chain(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = ChainPreference::key_identifier(text);
    }
    // Known issuers, and a leaf's key that is not decoded, change nothing.
    let known = KnownIssuers::default();
    let issued = || CertificateChain::parse_issued(data, &known);
    let chain = match CertificateChain::parse(data) {
        Ok(chain) => chain,
        Err(error) => {
            assert!(issued().is_err());
            return check_error(&error);
        }
    };
    let any_key = || Key::generate(KeyType::P256).unwrap().public_key().clone();
    let own_key = chain.public_key();
    let asked = RequestedKey::new(own_key.unwrap_or_else(|_| any_key())).unwrap();
    let seen = |chain: &CertificateChain| {
        let verdict = chain.verify(&asked, chain.names(), NOW);
        let verdict = verdict.map_err(|error| error.to_string());
        (chain.pem().to_owned(), chain.names().to_vec(), chain.key_type(), verdict)
    };
    // The first verifies the issuers, so the second knows them.
    for _ in 0..2 {
        assert_eq!(seen(&issued().unwrap()), seen(&chain));
    }
    assert!((1..=10).contains(&chain.ders().len()));
    let again = CertificateChain::parse(chain.pem().as_bytes()).unwrap();
    assert_eq!(again.ders(), chain.ders());
    assert_eq!(again.pem(), chain.pem());
    let _ = (chain.serial(), chain.fingerprint(), chain.key_type(), chain.root_name());
    let id = chain.renewal_id();
    assert!(id.is_none_or(|id| id.split('.').count() == 2 && !id.contains(['/', '='])));
    for names in [chain.names().to_vec(), vec!["example.org".to_owned()]] {
        if let Err(error) = chain.verify(&asked, &names, NOW) {
            check_error(&error);
        }
    }
}

pub fn key(data: &[u8]) {
    // The file sets the number of hashing rounds for a passphrase, so an encrypted input can take
    // long.
    if data.windows(9).any(|window| window.eq_ignore_ascii_case(b"encrypted")) {
        return;
    }
    match Key::parse(data) {
        Ok(key) => {
            assert_eq!(key.thumbprint().len(), 43);
            let signature = key.sign(b"input").unwrap();
            assert_eq!(key.accept(b"input", &signature).unwrap(), signature);
            let again = Key::parse(key.to_pem().unwrap().as_bytes()).unwrap();
            assert_eq!(again.thumbprint(), key.thumbprint());
        }
        Err(error) => check_error(&error),
    }
    match Key::external(data) {
        Ok(key) => {
            assert_eq!(key.thumbprint().len(), 43);
            assert!(key.is_external() && key.to_pem().is_err());
            assert!(key.accept(b"input", &data[..data.len().min(64)]).is_err());
        }
        Err(error) => check_error(&error),
    }
}

pub fn csr(data: &[u8]) {
    match SigningRequest::parse(data) {
        Ok(request) => {
            let again = SigningRequest::parse(request.der()).unwrap();
            assert_eq!(again.der(), request.der());
            assert_eq!(again.names(), request.names());
        }
        Err(error) => check_error(&error),
    }
}
