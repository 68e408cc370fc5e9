//! Keys and secrets: which keys are refused, what is signed with them, and that no output shows
//! them.

use std::path::Path;

use acme_micro::engine::{Client, ClientOptions, OrderOptions, Step};
use acme_micro::{AcmeError, ErrorKind, ExternalAccount, Key, KeyType, SigningRequest, Time};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder};
use serde_json::{Value, json};

use super::ca::{BASE, Response};
use super::jws::{decode, encode};
use super::log;
use super::script::{START, Script};

// --- S03: output ----------------------------------------------------------------------------------

/// Secrets, and the forms in which output could show them.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<String>)>);

impl Secrets {
    /// Adds each 32 bytes of a secret, or all of a shorter one, in each usual form.
    fn add(&mut self, name: &str, secret: &[u8]) {
        let mut forms = vec![String::from_utf8_lossy(secret).into_owned()];
        for window in secret.windows(secret.len().min(32)) {
            let hex: String = window.iter().map(|byte| format!("{byte:02x}")).collect();
            // The part of the base64 that does not depend on the bytes around it.
            let whole = &window[..window.len() / 3 * 3];
            let base64 = openssl::base64::encode_block(whole).trim_end_matches('=').to_owned();
            let url = base64.replace('+', "-").replace('/', "_");
            let list = format!("{window:?}");
            let list = list.trim_matches(['[', ']']).to_owned();
            forms.extend([hex.to_uppercase(), hex, base64, url, list]);
        }
        self.0.push((name.to_owned(), forms));
    }

    fn add_key(&mut self, name: &str, key: &Key) {
        let private = key.private_key().unwrap();
        let raw = match private.ec_key() {
            Ok(ec) => ec.private_key().to_vec_padded(key.kind_width()).unwrap(),
            Err(_) => private.raw_private_key().unwrap(),
        };
        self.add(name, &raw);
        // The key inside PEM: each line that contains a part of it.
        let pem = key.to_pem().unwrap();
        let lines: Vec<String> = pem.lines().skip(1).take(2).map(str::to_owned).collect();
        self.0.push((format!("{name} as PEM"), lines));
    }

    fn check(&self, text: &str) {
        for (name, forms) in &self.0 {
            for form in forms.iter().filter(|form| form.len() > 8) {
                assert!(!text.contains(form.as_str()), "{name} is shown, as {form}: {text}");
            }
        }
    }
}

trait Width {
    fn kind_width(&self) -> i32;
}

impl Width for Key {
    fn kind_width(&self) -> i32 {
        if self.kind() == KeyType::P384 { 48 } else { 32 }
    }
}

#[test]
fn s03_the_search_finds_a_secret_in_each_form() {
    let secret: Vec<u8> = (100..148).collect();
    let mut secrets = Secrets::default();
    secrets.add("test", &secret);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let shifted = [b"x", &secret[..]].concat();
    for text in [
        hex.to_uppercase(),
        format!("{secret:?}"),
        encode(&secret),
        encode(&shifted),
        openssl::base64::encode_block(&shifted),
        format!("key {hex} end"),
    ] {
        let found = std::panic::catch_unwind(|| secrets.check(&text));
        assert!(found.is_err(), "{text}");
    }
    secrets.check(&encode(&[7; 64]));
}

/// Runs the whole life of an account, with and without faults, and collects all output.
#[test]
fn s03_logs_errors_and_debug_output_show_no_secret() {
    log::begin();
    let mac: Vec<u8> = (0..48).map(|n: u8| n.wrapping_mul(37).wrapping_add(11)).collect();
    for fault in FAULTS {
        let account = ExternalAccount::new("kid-1", &encode(&mac)).unwrap();
        let mut ca = Script::with(|options| options.external_account = Some(account));
        ca.ca.eab = Some(("kid-1".to_owned(), mac.clone()));
        fault(&mut ca);
        let certificate_key = Key::generate(KeyType::P384).unwrap();
        let new_key = Key::generate(KeyType::Ed25519).unwrap();
        let mut secrets = Secrets::default();
        secrets.add("the EAB key", &mac);
        secrets.add_key("the account's key", &ca.account_key);
        secrets.add_key("the certificate's key", &certificate_key);
        secrets.add_key("the new key", &new_key);
        let mut shown: Vec<String> = log::taken();

        let mut options = OrderOptions::new(["example.org", "www.example.org"]);
        options.key = Some(certificate_key.clone());
        shown.push(format!("{options:?}"));
        let (steps, outcome) = run_showing(&mut ca, options, &mut secrets);
        shown.extend(steps);
        match outcome {
            Ok(issued) => shown.push(format!("{issued:?}")),
            Err(error) => shown.extend([format!("{error:?}"), error.to_string()]),
        }
        let change = ca.client.change_key(&new_key);
        match ca.run(&change) {
            Ok(done) => shown.push(format!("{done:?}")),
            Err(error) => shown.extend([format!("{error:?}"), error.to_string()]),
        }
        shown.extend(std::mem::take(&mut ca.log));
        shown.extend(log::taken());
        for value in [&ca.account_key, &certificate_key, &new_key] {
            shown.push(format!("{value:?} {:?}", value.thumbprint()));
        }
        assert!(shown.len() > 8, "{shown:?}");
        for text in &shown {
            secrets.check(text);
        }
    }
}

type Fault = fn(&mut Script);

const FAULTS: [Fault; 9] = [
    |_| {},
    |ca| ca.ca.failing.push("www.example.org".to_owned()),
    |ca| ca.on("POST /new-account").problem(403, "externalAccountRequired"),
    |ca| ca.on("POST /new-account").respond(Response::new(400, "echo ".repeat(50))),
    |ca| ca.on("POST /finalize*").problem(400, "badCSR"),
    |ca| ca.on("POST /new-order").problem(500, "serverInternal"),
    |ca| ca.on("POST /key-change").problem(409, "malformed"),
    |ca| ca.on("POST /challenge*").lose_response(),
    |ca| ca.publishing = Err("the zone is locked".to_owned()),
];

/// Runs an order as [`Script::order`] does, and collects each step as text.
fn run_showing(
    ca: &mut Script,
    options: OrderOptions,
    secrets: &mut Secrets,
) -> (Vec<String>, Result<acme_micro::engine::Issued, AcmeError>) {
    let operation = match ca.client.obtain(options) {
        Ok(operation) => operation,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut shown = Vec::new();
    let mut now = START;
    for _ in 0..1000 {
        let step = match operation.poll(Time::from_millis(now)) {
            Ok(step) => step,
            Err(error) => return (shown, Err(error)),
        };
        // A request is collected without its body, which is signed and meant for the CA.
        match &step {
            Step::Request(request) => {
                shown.push(format!("{:?} {}", request.method, request.url()));
                let reply = operation.reply(request.id);
                match ca.respond_to(request) {
                    Err(why) => reply.failed(why).unwrap(),
                    Ok(response) => {
                        for (name, value) in &response.headers {
                            reply.header(name.as_bytes(), value).unwrap();
                        }
                        reply.body(&response.body).unwrap();
                        reply.end(response.status).unwrap();
                    }
                }
            }
            Step::Wait(delay) => now += delay.unwrap().as_millis() as i64,
            Step::Publish(challenges) => {
                for challenge in challenges.iter() {
                    let authorization = challenge.key_authorization();
                    secrets.add("a key authorization", authorization.as_bytes());
                    let digest = openssl::sha::sha256(authorization.as_bytes());
                    secrets.add("a key authorization's digest", &digest);
                }
                ca.publish(challenges);
                operation.published(ca.publishing.clone()).unwrap();
            }
            Step::Unpublish(challenges) => ca.unpublish(challenges),
            Step::Done => return (shown, Ok(operation.take().unwrap())),
            _ => {}
        }
        shown.push(format!("{step:?}"));
    }
    panic!("the operation does not end");
}

// --- S06, S07, S08: accepted keys --------------------------------------------------------------------

fn refusal(data: &[u8]) -> ErrorKind {
    Key::parse(data).unwrap_err().kind()
}

fn pem(key: PKey<Private>) -> Vec<u8> {
    key.private_key_to_pem_pkcs8().unwrap()
}

/// Returns an RSA key with these numbers, consistent or not; `rest` has the others.
fn rsa(rest: &Rsa<Private>, n: &str, e: u32, d: &str, p: &str, q: &str) -> PKey<Private> {
    let number = |hex: &str| BigNum::from_hex_str(hex).unwrap();
    let e = BigNum::from_u32(e).unwrap();
    let own = |n: &openssl::bn::BigNumRef| n.to_owned().unwrap();
    let builder = RsaPrivateKeyBuilder::new(number(n), e, number(d)).unwrap();
    let builder = builder.set_factors(number(p), number(q)).unwrap();
    let (dp, dq, qi) = (rest.dmp1().unwrap(), rest.dmq1().unwrap(), rest.iqmp().unwrap());
    PKey::from_rsa(builder.set_crt_params(own(dp), own(dq), own(qi)).unwrap().build()).unwrap()
}

fn hex(number: &openssl::bn::BigNumRef) -> String {
    number.to_hex_str().unwrap().to_string()
}

#[test]
fn s06_weak_and_odd_keys_are_refused_before_they_are_used() {
    for bits in [512, 1024, 2040, 2056, 8200] {
        if bits < 4000 {
            let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
            assert_eq!(refusal(&pem(key)), ErrorKind::Unsupported, "{bits}");
        } else {
            // Creating such a key takes minutes: its public half is enough.
            let mut n = BigNum::new().unwrap();
            n.set_bit(bits as i32 - 1).unwrap();
            n.set_bit(0).unwrap();
            let e = BigNum::from_u32(65537).unwrap();
            let key = PKey::from_rsa(Rsa::from_public_components(n, e).unwrap()).unwrap();
            let refused = Key::external(&key.public_key_to_der().unwrap()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{bits}");
        }
    }
    for curve in [Nid::SECP224R1, Nid::SECP256K1, Nid::BRAINPOOL_P256R1] {
        let key = EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
        assert_eq!(refusal(&pem(PKey::from_ec_key(key).unwrap())), ErrorKind::Unsupported);
    }
    let ed448 = PKey::generate_ed448().unwrap();
    assert_eq!(refusal(&pem(ed448)), ErrorKind::Unsupported);
    let x25519 = PKey::generate_x25519().unwrap();
    assert_eq!(refusal(&pem(x25519)), ErrorKind::Unsupported);
}

#[test]
fn s06_rsa_keys_with_inconsistent_numbers_are_refused() {
    let good = Rsa::generate(2048).unwrap();
    let (n, d) = (hex(good.n()), hex(good.d()));
    let (p, q) = (hex(good.p().unwrap()), hex(good.q().unwrap()));
    Key::parse(&pem(rsa(&good, &n, 65537, &d, &p, &q))).unwrap();
    let even = |hex: &str| format!("{}0", &hex[..hex.len() - 1]);
    for (what, key) in [
        ("e = 1", rsa(&good, &n, 1, "01", &p, &q)),
        ("e even", rsa(&good, &n, 65536, &d, &p, &q)),
        ("n even", rsa(&good, &even(&n), 65537, &d, &p, &q)),
        ("n is not p * q", rsa(&good, &n, 65537, &d, &p, &even(&q))),
        ("d of another key", rsa(&good, &n, 65537, &hex(Rsa::generate(2048).unwrap().d()), &p, &q)),
    ] {
        assert_eq!(refusal(&pem(key)), ErrorKind::Crypto, "{what}");
    }
    // Only the public half of a key outside the process is known.
    for (n, e) in [(n.clone(), 1), (n.clone(), 65536), (even(&n), 65537)] {
        let (n, e) = (BigNum::from_hex_str(&n).unwrap(), BigNum::from_u32(e).unwrap());
        let public = PKey::from_rsa(Rsa::from_public_components(n, e).unwrap()).unwrap();
        let refused = Key::external(&public.public_key_to_der().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Crypto);
    }
}

/// Returns a prime as Infineon's RSALib chose them: k * M + (65537^a mod M), M being a product of
/// primes.
fn roca_prime(context: &mut BigNumContext) -> BigNum {
    let mut m = BigNum::from_u32(1).unwrap();
    let is_prime = |n: u32| (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0);
    for prime in (2..=701).filter(|n| is_prime(*n)) {
        m.mul_word(prime).unwrap();
    }
    let mut range = BigNum::new().unwrap();
    range.lshift(&BigNum::from_u32(1).unwrap(), 1024 - m.num_bits()).unwrap();
    loop {
        let (mut a, mut k) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        range.rand_range(&mut k).unwrap();
        m.rand_range(&mut a).unwrap();
        let mut power = BigNum::new().unwrap();
        power.mod_exp(&BigNum::from_u32(65537).unwrap(), &a, &m, context).unwrap();
        let (mut product, mut prime) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        product.checked_mul(&k, &m, context).unwrap();
        prime.checked_add(&product, &power).unwrap();
        if prime.num_bits() == 1024
            && prime.is_bit_set(1022)
            && prime.is_prime(20, context).unwrap()
        {
            return prime;
        }
    }
}

#[test]
fn s06_keys_with_the_roca_weakness_are_refused() {
    let mut context = BigNumContext::new().unwrap();
    let (p, q) = (roca_prime(&mut context), roca_prime(&mut context));
    let mut n = BigNum::new().unwrap();
    n.checked_mul(&p, &q, &mut context).unwrap();
    assert_eq!(n.num_bits(), 2048);
    let e = BigNum::from_u32(65537).unwrap();
    let public = PKey::from_rsa(Rsa::from_public_components(n, e).unwrap()).unwrap();
    let error = Key::external(&public.public_key_to_der().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Crypto);
    assert!(error.to_string().contains("CVE-2017-15361"), "{error}");
    for _ in 0..3 {
        Key::generate(KeyType::Rsa2048).unwrap();
    }
}

/// Returns the PKCS#8 of a P-256 key with this scalar and this uncompressed public point.
fn p256(scalar: &[u8], point: &[u8]) -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| {
        let length = content.len();
        let length = if length < 128 { vec![length as u8] } else { vec![0x81, length as u8] };
        [&[tag][..], &length, content].concat()
    };
    let public = element(0xa1, &element(3, &[&[0], point].concat()));
    let private = [&[2, 1, 1][..], &element(4, scalar), &public].concat();
    let curve = [
        0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        3, 1, 7,
    ];
    let octets = element(4, &element(0x30, &private));
    element(0x30, &[&[2, 1, 0][..], &curve, &octets].concat())
}

#[test]
fn s06_ec_keys_off_the_curve_or_without_a_scalar_are_refused() {
    let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let scalar = key.private_key().to_vec_padded(32).unwrap();
    let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
    let mut context = BigNumContext::new().unwrap();
    let point = key.public_key().to_bytes(key.group(), form, &mut context).unwrap();
    Key::parse(&p256(&scalar, &point)).unwrap();
    let mut off = point.clone();
    off[64] ^= 1;
    let other = EcKey::generate(key.group()).unwrap();
    let other = other.public_key().to_bytes(key.group(), form, &mut context).unwrap();
    for (what, data) in [
        ("not on the curve", p256(&scalar, &off)),
        ("the point of another key", p256(&scalar, &other)),
        ("zero", p256(&[0; 32], &point)),
        ("the point at infinity", p256(&scalar, &[0])),
        ("beyond the order", p256(&[0xff; 32], &point)),
    ] {
        let refused = refusal(&data);
        assert!(matches!(refused, ErrorKind::Crypto | ErrorKind::Parse), "{what}: {refused:?}");
    }
}

#[test]
fn s06_a_kind_of_key_that_the_ca_refuses_is_reported() {
    let mut ca = Script::with(|options| {
        options.account_key = Key::generate(KeyType::Ed25519).unwrap();
    });
    ca.on("POST /new-account").problem(400, "badSignatureAlgorithm");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert!(is_problem(&error, "badSignatureAlgorithm") && error.is_permanent(), "{error}");
    assert_eq!(ca.count("POST /new-account"), 1);
    let mut ca = Script::new();
    ca.on("POST /finalize*").problem(400, "badCSR");
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(Key::generate(KeyType::Ed25519).unwrap());
    assert!(is_problem(&ca.order(options).unwrap_err(), "badCSR"));
}

fn is_problem(error: &AcmeError, name: &str) -> bool {
    error.to_string().contains(name)
}

#[test]
fn s07_the_accounts_key_is_not_certified() {
    let ca = Script::new();
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(ca.account_key.clone());
    let error = ca.client.obtain(options).err().unwrap();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::InvalidArgument, true));
    // The same key is refused when it is parsed once more.
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(Key::parse(ca.account_key.to_pem().unwrap().as_bytes()).unwrap());
    assert_eq!(ca.client.obtain(options).err().unwrap().kind(), ErrorKind::InvalidArgument);
    let mut options = OrderOptions::new(["example.org"]);
    let names = ["example.org".to_owned()];
    options.csr = Some(SigningRequest::create(&ca.account_key, &names).unwrap());
    assert_eq!(ca.client.obtain(options).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(ca.transcript.len(), 0);
}

#[test]
fn s08_keys_are_read_in_every_usual_form() {
    let key = Key::generate(KeyType::P256).unwrap();
    let other = Key::generate(KeyType::P256).unwrap();
    let private = key.private_key().unwrap();
    let (ec, pkcs8) = (private.ec_key().unwrap(), key.to_pem().unwrap());
    let sec1 = String::from_utf8(ec.private_key_to_pem().unwrap()).unwrap();
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let bag = "Bag Attributes\n    friendlyName: x\n    localKeyID: 01 02\nKey Attributes: <No Attributes>\n";
    let certificate =
        acme_micro::tls_alpn_certificate("example.org", &[0; 32], &key, Time::from_millis(START));
    let certificate = certificate.unwrap().pem().to_owned();
    for (what, data) in [
        ("PKCS#8", pkcs8.as_bytes().to_vec()),
        ("SEC 1", sec1.clone().into_bytes()),
        ("SEC 1 as openssl ecparam -genkey writes it", format!("{parameters}{sec1}").into_bytes()),
        ("CRLF", pkcs8.replace('\n', "\r\n").into_bytes()),
        ("as openssl pkcs12 writes it", format!("{bag}{}", *pkcs8).into_bytes()),
        ("a certificate before", format!("{certificate}{}", *pkcs8).into_bytes()),
        ("a certificate after", format!("{}{certificate}", *pkcs8).into_bytes()),
        ("no line at its end", pkcs8.trim_end().as_bytes().to_vec()),
        ("PKCS#8 DER", private.private_key_to_pkcs8().unwrap()),
        ("SEC 1 DER", ec.private_key_to_der().unwrap()),
    ] {
        let read = Key::parse(&data).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(read.thumbprint(), key.thumbprint(), "{what}");
    }
    let rsa = Rsa::generate(2048).unwrap();
    for data in [rsa.private_key_to_pem().unwrap(), rsa.private_key_to_der().unwrap()] {
        assert_eq!(Key::parse(&data).unwrap().kind(), KeyType::Rsa2048);
    }
    // RFC 8410 section 10.3: PKCS#8 of version 2, which includes the public key.
    let v2 = "-----BEGIN PRIVATE KEY-----\n\
              MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
              oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
              Z9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PRIVATE KEY-----\n";
    match Key::parse(v2.as_bytes()) {
        // OpenSSL 3.5 and later read it; no version may read it as another key.
        Ok(key) => assert_eq!(key.kind(), KeyType::Ed25519),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Parse),
    }
    // A text with two keys is refused: it is unclear which one is meant.
    for two in [
        format!("{}{}", *pkcs8, *other.to_pem().unwrap()),
        format!("{}{certificate}{sec1}", *other.to_pem().unwrap()),
        format!("{}{}", *pkcs8, *pkcs8),
    ] {
        assert_eq!(refusal(two.as_bytes()), ErrorKind::InvalidArgument);
    }
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    for data in [
        private.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap(),
        ec.private_key_to_pem_passphrase(cipher, b"secret").unwrap(),
    ] {
        let error = Key::parse(&data).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("encrypted"), "{error}");
        Key::parse_encrypted(&data, "secret").unwrap();
    }
    let encrypted_der = private.private_key_to_pkcs8_passphrase(cipher, b"secret").unwrap();
    assert_eq!(refusal(&encrypted_der), ErrorKind::Parse);
    assert_eq!(refusal(&private.public_key_to_pem().unwrap()), ErrorKind::Parse);
}

// --- S10 to S15: signed data -------------------------------------------------------------------------

#[test]
fn s10_every_signature_has_its_own_ecdsa_nonce() {
    let rounds = 10_000;
    let key = Key::generate(KeyType::P256).unwrap();
    let names = ["example.org".to_owned()];
    let mut seen = std::collections::HashSet::new();
    for _ in 0..rounds {
        // The request is the same each time: only the nonce of ECDSA differs.
        let der = SigningRequest::create(&key, &names).unwrap().der().to_vec();
        let signature = &der[der.len() - 76..];
        let at = signature.windows(2).position(|pair| pair[0] == 2 && pair[1] >= 30).unwrap();
        let r = signature[at + 2..at + 2 + usize::from(signature[at + 1])].to_vec();
        assert!(seen.insert(r), "an ECDSA nonce was used twice");
    }
}

#[test]
fn s11_everything_signed_names_its_url_and_its_nonce() {
    let mac = [7; 32];
    let account = ExternalAccount::new("kid-1", &encode(&mac)).unwrap();
    let mut ca = Script::with(|options| options.external_account = Some(account));
    ca.ca.eab = Some(("kid-1".to_owned(), mac.to_vec()));
    ca.obtain(&["example.org"]).unwrap();
    let change = ca.client.change_key(&Key::generate(KeyType::P256).unwrap());
    ca.run(&change).unwrap();
    let (mut outer, mut inner) = (0, Vec::new());
    for body in ca.bodies.iter().filter(|body| !body.is_empty()) {
        let jws: Value = serde_json::from_slice(body).unwrap();
        let header = header(&jws);
        assert!(header["url"].as_str().unwrap().starts_with(BASE));
        assert!(header["nonce"].is_string() && header["alg"] == "ES256");
        assert!(header["jwk"].is_object() != header["kid"].is_string());
        assert_eq!(header.as_object().unwrap().len(), 4);
        outer += 1;
        let Ok(payload) =
            serde_json::from_slice::<Value>(&decode(jws["payload"].as_str().unwrap()))
        else {
            continue;
        };
        if payload["externalAccountBinding"].is_object() {
            inner.push(("EAB", self::header(&payload["externalAccountBinding"])));
        }
        if payload["protected"].is_string() {
            inner.push(("key change", self::header(&payload)));
        }
    }
    assert!(outer > 8);
    assert_eq!(inner.len(), 2);
    for (what, header) in inner {
        assert!(header["nonce"].is_null() && header["url"].is_string(), "{what}: {header}");
        let expected = if what == "EAB" { ("HS256", true) } else { ("ES256", false) };
        assert_eq!((header["alg"].as_str().unwrap(), header["kid"].is_string()), expected);
        assert!(header["jwk"].is_object() != header["kid"].is_string());
    }
}

fn header(jws: &Value) -> Value {
    serde_json::from_slice(&decode(jws["protected"].as_str().unwrap())).unwrap()
}

/// Lists the places where the library signs: a new place has to be reviewed and added.
#[test]
fn s11_only_the_listed_places_sign() {
    let mut places = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let signs = |line: &&str| {
                !line.trim_start().starts_with("//")
                    && [".sign(", "::sign(", "Signer::new", ".sign_oneshot"]
                        .iter()
                        .any(|call| line.contains(call))
            };
            let count = code.lines().filter(signs).count();
            if count > 0 {
                let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                places.push(format!("{} {count}", name.display()));
            }
        }
    }
    places.sort();
    assert_eq!(places, SIGNS, "review the changed places: S11 in the catalogue");
}

const SIGNS: [&str; 9] = [
    "src/blocking.rs 1",        // asks the host
    "src/engine/exchange.rs 3", // requests
    "src/engine/finalize.rs 1", // the certificate's request
    "src/engine/key_change.rs 1",
    "src/jose/eab.rs 1",
    "src/pki/csr.rs 1",
    "src/pki/key.rs 1",
    "src/pki/signature.rs 4", // the function that signs, and the check of the host's signatures
    "src/pki/tls_alpn.rs 1",  // a certificate for tls-alpn-01, with the host's key for it
];

#[test]
fn s12_an_account_key_signs_nothing_for_another_ca() {
    for member in ["newAccount", "newOrder", "keyChange", "revokeCert"] {
        let mut ca = Script::new();
        ca.on("GET /directory").edit(move |directory| {
            directory[member] = json!("https://other-ca.example/acme/new-order");
        });
        let _ = ca.obtain(&["example.org"]);
        let change = ca.client.change_key(&Key::generate(KeyType::P256).unwrap());
        let _ = ca.run(&change);
        for (request, body) in ca.transcript.iter().zip(&ca.bodies) {
            assert!(!request.contains("other-ca"), "{request}");
            if let Ok(jws) = serde_json::from_slice::<Value>(body) {
                assert!(header(&jws)["url"].as_str().unwrap().starts_with(BASE));
            }
        }
        let refused = match member {
            "newAccount" | "newOrder" => ca.obtain(&["example.org"]).map(|_| ()),
            "keyChange" => {
                let change = ca.client.change_key(&Key::generate(KeyType::P256).unwrap());
                ca.run(&change)
            }
            _ => continue,
        };
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Policy, "{member}");
    }
    // The client checks a URL in Location, too.
    let mut ca = Script::new();
    ca.on("POST /new-order").then(|_, response| {
        response.set("Location", "https://other-ca.example/order/1");
    });
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Policy);
}

/// A token of another CA gets a key authorization with this account's key, which that CA does not
/// know.
#[test]
fn s13_a_key_authorization_belongs_to_one_account() {
    let published = |script: &mut Script| {
        let operation = script.client.obtain(OrderOptions::new(["example.org"])).unwrap();
        let mut now = START;
        loop {
            match operation.poll(Time::from_millis(now)).unwrap() {
                Step::Request(request) => {
                    let response = script.respond_to(&request).unwrap();
                    let reply = operation.reply(request.id);
                    for (name, value) in &response.headers {
                        reply.header(name.as_bytes(), value).unwrap();
                    }
                    reply.body(&response.body).unwrap();
                    reply.end(response.status).unwrap();
                }
                Step::Wait(delay) => now += delay.unwrap().as_millis() as i64,
                Step::Publish(challenges) => return challenges[0].key_authorization().to_owned(),
                other => panic!("{other:?}"),
            }
        }
    };
    let (mut one, mut other) = (Script::new(), Script::new());
    assert_ne!(one.account_key.thumbprint(), other.account_key.thumbprint());
    let (a, b) = (published(&mut one), published(&mut other));
    assert_eq!(a.split('.').nth(1), Some(one.account_key.thumbprint()));
    assert_eq!(b.split('.').nth(1), Some(other.account_key.thumbprint()));
    // An account and its key are not used at another CA.
    let mut options =
        ClientOptions::new("https://other.example/directory", one.account_key.clone());
    options.account_url = one.client.account_url();
    let error = Client::new(options).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(text.contains("ca.example") && text.contains("other.example"), "{text}");
    assert!(!text.contains("allowed_hosts"), "{text}");
}

#[test]
fn s14_an_eab_key_is_sent_with_new_account_only() {
    let mac = [7; 32];
    let account = ExternalAccount::new("kid-1", &encode(&mac)).unwrap();
    let mut ca = Script::with(|options| options.external_account = Some(account));
    ca.ca.eab = Some(("kid-1".to_owned(), mac.to_vec()));
    ca.obtain(&["example.org"]).unwrap();
    ca.obtain(&["www.example.org"]).unwrap();
    let bound: Vec<&str> = std::iter::zip(&ca.transcript, &ca.bodies)
        .filter(|(_, body)| {
            serde_json::from_slice::<Value>(body).is_ok_and(|jws| {
                let payload = decode(jws["payload"].as_str().unwrap());
                String::from_utf8_lossy(&payload).contains("externalAccountBinding")
            })
        })
        .map(|(request, _)| request.as_str())
        .collect();
    assert_eq!(bound, ["POST /new-account"]);
}

/// The library compares no secrets, so no timing can reveal them: their types cannot be compared.
#[test]
fn s15_secrets_are_not_compared() {
    trait Incomparable<A> {
        fn is() {}
    }
    impl<T: ?Sized> Incomparable<()> for T {}
    struct Comparable;
    impl<T: ?Sized + PartialEq> Incomparable<Comparable> for T {}
    // This does not compile when a type can be compared: two implementations would apply.
    <Key as Incomparable<_>>::is();
    <ExternalAccount as Incomparable<_>>::is();
}

#[test]
fn s17_a_url_with_a_password_is_not_shown() {
    let key = Key::generate(KeyType::P256).unwrap();
    let options = ClientOptions::new("https://user:hunter2@ca.example/dir", key);
    let error = Client::new(options).err().unwrap();
    assert!(!format!("{error} {error:?} {:?}", error.url()).contains("hunter2"), "{error:?}");
    for url in ["https://user:hunter2@evil.example/x", "https://user:hunter2@ca.example/x"] {
        for (what, member, value) in [
            ("GET /directory", "newNonce", json!(url)),
            ("POST /new-order", "authorizations", json!([url])),
        ] {
            let mut ca = Script::new();
            ca.on(what).edit(move |json| json[member] = value.clone());
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Policy);
            let shown = format!("{error} {error:?} {:?}", error.url());
            assert!(!shown.contains("hunter2"), "{member} {url}: {shown}");
        }
    }
}
