//! TLS: which servers the client trusts, and which versions it uses. The test has its own TLS
//! server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use acme_micro::{AcmeError, ErrorKind, HttpOptions};
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::select_next_proto;
use openssl::ssl::{AlpnError, SslAcceptor, SslAcceptorBuilder, SslMethod, SslVersion};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name};

use super::{Folder, options, register_at};

pub const DAY: i64 = 86_400;

/// A certificate and its key.
pub struct Pair {
    pub key: PKey<Private>,
    pub certificate: X509,
}

/// Creates a certificate, self-signed unless `issuer` is given, valid for these seconds from now.
pub fn certify(
    name: &str,
    issuer: Option<&Pair>,
    (from, until): (i64, i64),
    change: impl FnOnce(&mut X509Builder),
) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let now = acme_micro::Time::now().as_millis().div_euclid(1000);
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now + from).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + until).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    change(&mut builder);
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Pair { certificate: builder.build(), key }
}

fn is_ca(builder: &mut X509Builder) {
    builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
}

pub fn is_for(builder: &mut X509Builder, dns: &[&str], ip: &[&str]) {
    let mut names = SubjectAlternativeName::new();
    for name in dns {
        names.dns(name);
    }
    for address in ip {
        names.ip(address);
    }
    let names = names.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
}

/// Returns a certificate for this machine's address, valid for a day.
fn sound() -> Pair {
    certify("server", None, (-DAY, DAY), |builder| is_for(builder, &[], &["127.0.0.1"]))
}

pub fn acceptor(pair: &Pair) -> SslAcceptorBuilder {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&pair.key).unwrap();
    acceptor.set_certificate(&pair.certificate).unwrap();
    acceptor
}

/// A server, and counts of what it has seen of the client.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Starts a server that sends this response to every request and then ends the TLS connection.
    fn answering(acceptor: SslAcceptorBuilder, response: Vec<u8>) -> Server {
        let acceptor = acceptor.build();
        Server::start(move |tcp, requests| {
            let Ok(mut stream) = acceptor.accept(tcp) else { return };
            if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                requests.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(&response);
                let _ = stream.shutdown();
            }
        })
    }

    fn start(serve: impl Fn(TcpStream, &AtomicUsize) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (count, seen) = (connections.clone(), requests.clone());
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                serve(tcp, &seen);
            }
        });
        Server { port, connections, requests }
    }

    /// Requests the directory and returns the failure.
    fn ask(&self, host: &str, roots: Option<PathBuf>) -> AcmeError {
        self.ask_by(host, &options(|o| o.extra_ca_file = roots))
    }

    fn ask_by(&self, host: &str, options: &HttpOptions) -> AcmeError {
        register_at(&format!("https://{host}:{}/directory", self.port), options).unwrap_err()
    }

    fn seen(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.requests.load(Ordering::SeqCst))
    }
}

fn roots(folder: &Folder, root: &Pair) -> Option<PathBuf> {
    Some(folder.file("roots.pem", root.certificate.to_pem().unwrap()))
}

const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn h25_k01_an_untrusted_server_gets_no_request_and_no_second_try() {
    let ca = |name: &str, change: &dyn Fn(&mut X509Builder)| {
        certify(name, None, (-DAY, DAY), |builder| {
            is_ca(builder);
            change(builder);
        })
    };
    let (plain, other) = (ca("CA", &|_| {}), ca("another CA", &|_| {}));
    // Name constraints (RFC 5280 section 4.2.1.10): names in example.org only.
    let limited = ca("limited CA", &|builder| {
        let value = [&b"\x30\x11\xa0\x0f\x30\x0d\x82\x0b"[..], b"example.org"].concat();
        let value = Asn1OctetString::new_from_bytes(&value).unwrap();
        let oid = Asn1Object::from_str("2.5.29.30").unwrap();
        builder.append_extension(X509Extension::new_from_der(&oid, true, &value).unwrap()).unwrap();
    });
    let leaf = |issuer: Option<&Pair>, life: (i64, i64), name: &str| {
        certify("leaf", issuer, life, |builder| is_for(builder, &[name], &[]))
    };
    let day = (-DAY, DAY);
    for (leaf, root, why) in [
        (leaf(None, day, "localhost"), &plain, "self-signed certificate"),
        (leaf(Some(&plain), (-2 * DAY, -DAY), "localhost"), &plain, "certificate has expired"),
        (leaf(Some(&plain), (DAY, 2 * DAY), "localhost"), &plain, "certificate is not yet valid"),
        (leaf(Some(&plain), day, "other.example"), &plain, "hostname mismatch"),
        (leaf(Some(&plain), day, "*"), &plain, "hostname mismatch"),
        (leaf(Some(&other), day, "localhost"), &limited, "unable to get local issuer certificate"),
        (leaf(Some(&limited), day, "localhost"), &limited, "permitted subtree violation"),
    ] {
        let folder = Folder::new(&format!("distrust-{}", why.len()));
        let server = Server::answering(acceptor(&leaf), EMPTY.to_vec());
        let error = server.ask("localhost", roots(&folder, root));
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Transport, "{text}");
        assert!(text.contains(&format!("certificate verify failed: {why}")), "{text}: not {why}");
        assert!(error.is_permanent());
        assert_eq!(server.seen(), (1, 0), "{why}: connections, requests");
        let by_time = why.contains("expired") || why.contains("not yet valid");
        let year = acme_micro::Time::now().to_string()[..4].to_owned();
        let clock = text.contains(&format!("check the clock, which says {year}"));
        assert_eq!(clock, by_time, "{text}");
    }
}

#[test]
fn h27_an_address_is_verified_as_an_address() {
    let folder = Folder::new("by-address");
    let pair = sound();
    let server = Server::answering(acceptor(&pair), EMPTY.to_vec());
    let error = server.ask("127.0.0.1", roots(&folder, &pair));
    assert!(error.to_string().contains("the directory has no newNonce"), "{error}");
    let name =
        certify("127.0.0.1", None, (-DAY, DAY), |b| is_for(b, &["127.0.0.1"], &["127.0.0.2"]));
    let server = Server::answering(acceptor(&name), EMPTY.to_vec());
    let error = server.ask("127.0.0.1", roots(&folder, &name));
    assert!(error.to_string().contains("IP address mismatch"), "{error}");
    assert_eq!(server.seen(), (1, 0));
}

#[test]
fn h26_old_versions_and_weak_ciphers_are_refused() {
    let old = |version, ciphers: &'static str| {
        let folder = Folder::new(&format!("old-{version:?}-{ciphers}").replace([':', '@'], ""));
        let pair = sound();
        let mut acceptor = acceptor(&pair);
        acceptor.set_cipher_list(ciphers).unwrap();
        acceptor.set_min_proto_version(None).unwrap();
        acceptor.set_max_proto_version(Some(version)).unwrap();
        let server = Server::answering(acceptor, EMPTY.to_vec());
        let error = server.ask("127.0.0.1", roots(&folder, &pair));
        assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
        assert!(error.to_string().contains("TLS with 127.0.0.1: "), "{error}");
        assert_eq!(server.seen(), (4, 0), "{error}");
    };
    thread::scope(|scope| {
        for (version, ciphers) in [
            (SslVersion::TLS1, "ALL:@SECLEVEL=0"),
            (SslVersion::TLS1_1, "ALL:@SECLEVEL=0"),
            (SslVersion::TLS1_2, "eNULL:@SECLEVEL=0"),
            (SslVersion::TLS1_2, "aNULL:@SECLEVEL=0"),
        ] {
            scope.spawn(move || old(version, ciphers));
        }
    });
}

#[test]
fn h26_an_endless_handshake_ends_in_a_timeout() {
    // The server sends HelloRequest again and again, which a client ignores during a handshake.
    let server =
        Server::start(
            |mut tcp, _| {
                while tcp.write_all(&b"\x16\x03\x03\0\x04\0\0\0\0".repeat(100)).is_ok() {}
            },
        );
    let error = server.ask_by("127.0.0.1", &options(|o| o.timeout = Duration::from_secs(1)));
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    assert!(error.to_string().contains("TLS with 127.0.0.1: "), "{error}");
}

#[test]
fn h32_a_server_with_http_2_only_is_reported() {
    let folder = Folder::new("alpn");
    let pair = sound();
    let mut acceptor = acceptor(&pair);
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let server = Server::answering(acceptor, EMPTY.to_vec());
    let error = server.ask("127.0.0.1", roots(&folder, &pair));
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    assert!(error.to_string().contains("no application protocol"), "{error}");
    assert_eq!(server.seen().1, 0);
}

#[test]
fn h11_h09_an_endless_response_is_not_read_to_its_end() {
    let folder = Folder::new("floods");
    let pair = sound();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (response, why) in [
        ("HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000), "no end"),
        ("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100_000), "no end"),
        (format!("{chunked}0\r\n{}\r\n", "X: y\r\n".repeat(1_000_000)), "no end"),
        (format!("{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(1_000_000)), ""),
    ] {
        let server = Server::answering(acceptor(&pair), [response.as_bytes(), EMPTY].concat());
        let error = server.ask("127.0.0.1", roots(&folder, &pair));
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(why), "{error}: not {why}");
        assert_eq!(server.seen(), (1, 1));
    }
}
