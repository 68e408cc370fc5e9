//! TLS for the built-in HTTP client, by the same OpenSSL as the rest of the cryptography.
//!
//! RFC 8446; RFC 9525 (host names and addresses in certificates).

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::ssl::{self, ErrorCode, HandshakeError, MidHandshakeSslStream, Ssl, SslContext};
use openssl::ssl::{SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::X509VerifyResult;
use openssl::x509::verify::X509CheckFlags;
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers};
use ureq::unversioned::transport::{NextTimeout, Transport, TransportAdapter};

use super::roots::Roots;
use super::steady_timeouts::SteadyTimeouts;
use super::tls_config::TlsConfig;
use crate::error::reasons;
use crate::time::Time;

/// The text of every [`Error::Tls`]: the peer or the network ended the connection without a TLS
/// close_notify. It is not an [`Error::Io`], because ureq takes some of these for the regular end
/// of a body without a length, and an attacker can cut a connection anywhere.
const CUT: &str = "the connection was cut (unexpected EOF)";

/// Maximum number of bytes to read for one request: twice the largest body. It limits the parts
/// that ureq does not: interim responses (1xx), trailers and the framing of chunks.
const MAX_RECEIVED: usize = 2 * 1024 * 1024;

/// Maximum number of bytes of a request to collect: those of one TLS record (RFC 8446 section 5.1).
const MAX_RECORD: usize = 16 * 1024;

/// Numbers of OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
const TIME_ERRORS: [i32; 2] = [9, 10];

/// Numbers of OpenSSL's verdicts if no root is known that leads to the certificate: its
/// X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, _DEPTH_ZERO_SELF_SIGNED_CERT, _SELF_SIGNED_CERT_IN_CHAIN,
/// _UNABLE_TO_GET_ISSUER_CERT_LOCALLY and _UNABLE_TO_VERIFY_LEAF_SIGNATURE.
const ISSUER_ERRORS: [i32; 5] = [2, 18, 19, 20, 21];

/// A failure that a retry does not fix, and could make worse, until something changes on this
/// side.
#[derive(Debug)]
pub(crate) struct PermanentFailure(pub String);

impl fmt::Display for PermanentFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PermanentFailure {}

/// Wraps connections for https URLs in TLS. The first connection finds the system's roots (its
/// store, or `SSL_CERT_FILE` and `SSL_CERT_DIR`).
pub(crate) struct OpensslConnector {
    tls_config: Arc<TlsConfig>,
    anonymous: bool,
    /// The context of the last connection, and its roots.
    context: Mutex<Option<(Arc<Roots>, SslContext)>>,
}

impl OpensslConnector {
    /// `anonymous`: do not send the client certificate.
    pub(crate) fn new(tls_config: Arc<TlsConfig>, anonymous: bool) -> OpensslConnector {
        OpensslConnector { tls_config, anonymous, context: Mutex::new(None) }
    }

    /// Returns the context for a new connection. It is another one after a file of roots was
    /// replaced.
    fn context(&self) -> Result<SslContext, ErrorStack> {
        let roots = self.tls_config.roots();
        let mut last = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((its_roots, context)) if Arc::ptr_eq(its_roots, &roots) => Ok(context.clone()),
            _ => {
                let context = new_context(&self.tls_config, &roots, self.anonymous)?;
                *last = Some((roots, context.clone()));
                Ok(context)
            }
        }
    }

    /// Prepares a TLS connection that accepts only a certificate for `host`.
    fn prepare(&self, host: &str) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&*self.context()?)?;
        ssl.param_mut().set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        match host.parse::<IpAddr>() {
            Ok(address) => ssl.param_mut().set_ip(address)?,
            Err(_) => {
                ssl.param_mut().set_host(host)?;
                ssl.set_hostname(host)?; // RFC 6066 section 3: names only, never an address
            }
        }
        Ok(ssl)
    }

    /// Returns why the peer's certificate is not trusted; `None` if it is.
    fn distrust(&self, verdict: X509VerifyResult) -> Option<String> {
        let why = format!("certificate verify failed: {}", verdict.error_string());
        let more = match verdict.as_raw() {
            0 => return None,
            raw if TIME_ERRORS.contains(&raw) => {
                Some(format!("check the clock, which says {}", Time::now()))
            }
            raw if ISSUER_ERRORS.contains(&raw) => self.tls_config.lack(),
            _ => None,
        };
        Some(more.map_or(why.clone(), |more| format!("{why}; {more}")))
    }
}

/// Creates the context of connections. Not by `SslConnector`, which always reads the system's
/// roots.
fn new_context(
    tls_config: &TlsConfig,
    roots: &Arc<Roots>,
    anonymous: bool,
) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::PEER);
    // The system's configuration may require more than this, which then applies.
    if builder.min_proto_version() != Some(SslVersion::TLS1_3) {
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    }
    // TLS 1.2: refuse a new handshake in the middle of a response.
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    builder.set_alpn_protos(b"\x08http/1.1")?;
    tls_config.apply(&mut builder, roots, anonymous)?;
    Ok(builder.build())
}

/// Boxed, so that the code for nested transport types exists only once.
impl Connector<Box<dyn Transport>> for OpensslConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<Box<dyn Transport>>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(transport));
        }
        let host = bare(details.uri.host().unwrap_or_default());
        let failed = |reason: String| Error::Other(format!("TLS with {host}: {reason}").into());

        // OpenSSL takes an empty name for any name, and a leading dot for all subdomains.
        if host.is_empty() || host.starts_with('.') {
            return Err(failed("this is not a host name".to_owned()));
        }
        let ssl = self.prepare(host).map_err(|error| failed(reasons(&error)))?;
        let steady = SteadyTimeouts(transport);
        let mut adapter = TransportAdapter::new(steady, details.current_time.clone());
        adapter.set_timeout(time_left(details));
        forget_old_errors();
        let stream = match ssl.connect(adapter) {
            Ok(stream) => stream,
            Err(HandshakeError::SetupFailure(error)) => return Err(failed(reasons(&error))),
            Err(HandshakeError::Failure(tried) | HandshakeError::WouldBlock(tried)) => {
                // A retry would not make the peer trusted.
                return Err(match self.distrust(tried.ssl().verify_result()) {
                    Some(why) => {
                        Error::Other(PermanentFailure(format!("TLS with {host}: {why}")).into())
                    }
                    None => failed(why_failed(tried)),
                });
            }
        };
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let unsent = Vec::new();
        Ok(Some(Box::new(TlsTransport { stream, buffers, unsent, has_read: false, received: 0 })))
    }
}

/// Returns a URL's host as in certificates: no brackets around an IPv6 address, no final dot.
pub(crate) fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Returns the rest of the connect timeout, which began before TCP, for the handshake.
pub(crate) fn time_left(details: &ConnectionDetails) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Duration::Exact(limit), Instant::Exact(start), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        let left = limit.saturating_sub(now.saturating_duration_since(start));
        timeout.after = Duration::Exact(left);
    }
    timeout
}

/// Returns why a handshake failed, unless it was the peer's certificate.
fn why_failed<S>(tried: MidHandshakeSslStream<S>) -> String {
    match from_ssl(tried.into_error()) {
        Error::Timeout(_) => "timeout during the handshake".to_owned(),
        Error::Tls(_) => "the connection was closed during the handshake".to_owned(),
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Returns the error of the transport below unchanged, except that a cut connection is [`CUT`].
fn from_ssl(error: ssl::Error) -> Error {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.into_io_error().map(Error::from) {
        Ok(Error::Io(error)) => match error.kind() {
            ConnectionAborted | ConnectionReset | UnexpectedEof => Error::Tls(CUT),
            _ => Error::Io(error),
        },
        Ok(error) => error,
        // For a cut connection OpenSSL has its own message or no message, depending on its version.
        Err(error) => match error.ssl_error().map(reasons) {
            Some(reason) if reason.contains("unexpected eof") => Error::Tls(CUT),
            Some(reason) => Error::Io(io::Error::other(reason)),
            None => Error::Tls(CUT),
        },
    }
}

/// Empties the thread's queue of OpenSSL errors, which the host program may use, too. Otherwise
/// OpenSSL reports an old error as the reason of a failed read or write.
fn forget_old_errors() {
    drop(ErrorStack::get());
}

impl fmt::Debug for OpensslConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslConnector").finish_non_exhaustive()
    }
}

/// A connection in TLS.
struct TlsTransport {
    stream: SslStream<TransportAdapter<SteadyTimeouts>>,
    buffers: LazyBuffers,
    /// The part of a request that waits for the rest: header and body go out in one record.
    unsent: Vec<u8>,
    /// Whether something was read since the connection was last found open.
    has_read: bool,
    /// Number of bytes read since the last write.
    received: usize,
}

impl TlsTransport {
    /// Returns the alert with which the peer closed a connection, after a failed write. In TLS 1.3
    /// the peer may refuse our certificate after our side of the handshake is over.
    fn alert_of_peer(&mut self) -> Option<Error> {
        forget_old_errors();
        let alert = self.stream.ssl_read(&mut [0]).err()?;
        alert.ssl_error().map(|alert| Error::Io(io::Error::other(reasons(alert))))
    }

    fn send(&mut self) -> Result<(), Error> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        forget_old_errors();
        let written = self.stream.write_all(&self.unsent);
        self.unsent.clear();
        written.map_err(|error| self.alert_of_peer().unwrap_or_else(|| error.into()))
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // ureq wrote `amount` bytes into this buffer.
        self.unsent.extend_from_slice(self.buffers.output().get(..amount).unwrap_or_default());
        self.received = 0;
        if self.unsent.len() < MAX_RECORD {
            return Ok(());
        }
        self.stream.get_mut().set_timeout(timeout);
        self.send()
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // Sending and reading share the time.
        self.stream.get_mut().set_timeout(timeout);
        self.send()?;
        self.has_read = true;
        forget_old_errors();
        // `Read::read` would report a cut connection as a regular end.
        let amount = match self.stream.ssl_read(self.buffers.input_append_buf()) {
            Ok(amount) => amount,
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => 0,
            Err(error) => return Err(from_ssl(error)),
        };
        self.buffers.input_appended(amount);
        self.received = self.received.saturating_add(amount);
        if self.received > MAX_RECEIVED {
            return Err(Error::BodyExceedsLimit(MAX_RECEIVED as u64));
        }
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Unexpected bytes would be taken for the response to the next request.
        let nothing_decrypted = self.stream.ssl().pending() == 0;
        let below = self.stream.get_mut().get_mut();
        // ureq asks after each response, and again before the next request: once is enough to look
        // at the socket, which takes three system calls.
        let may_wait = std::mem::take(&mut self.has_read);
        nothing_decrypted && below.buffers().input().is_empty() && (may_wait || below.is_open())
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::{env, fs, process, thread};

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslStream};
    use openssl::ssl::{SslVerifyMode, SslVersion};
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509, X509NameBuilder};

    use super::*;
    use crate::engine::Method;
    use crate::transport::client::HttpClient;
    use crate::transport::options::HttpOptions;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const NO_LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nok";

    /// Returns a self-signed certificate for a name or an address.
    fn certificate(host: &str) -> (PKey<Private>, X509) {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "test").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let mut names = SubjectAlternativeName::new();
        match host.parse::<IpAddr>() {
            Ok(_) => names.ip(host),
            Err(_) => names.dns(host),
        };
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        (key, builder.build())
    }

    /// Returns the acceptor of a server, and its certificate.
    fn acceptor(host: &str) -> (SslAcceptorBuilder, X509) {
        let (key, certificate) = certificate(host);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        (acceptor, certificate)
    }

    /// Starts a server that sends these responses on one connection, and then a close_notify or
    /// not. Returns its port and CA file.
    fn server(host: &str, answers: &[&'static [u8]], goodbye: bool) -> (u16, PathBuf) {
        serve(acceptor(host), answers, goodbye, 1)
    }

    fn serve(
        (acceptor, certificate): (SslAcceptorBuilder, X509),
        answers: &[&'static [u8]],
        goodbye: bool,
        connections: usize,
    ) -> (u16, PathBuf) {
        let answers = answers.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ca_file = file(&format!("ca-{port}"), &certificate.to_pem().unwrap());
        let acceptor = acceptor.build();
        thread::spawn(move || {
            for tcp in listener.incoming().take(connections) {
                let Ok(mut stream): Result<SslStream<TcpStream>, _> = acceptor.accept(tcp.unwrap())
                else {
                    continue;
                };
                for answer in &answers {
                    let _ = stream.read(&mut [0; 4096]);
                    // A longer message arrives in several records.
                    for record in answer.chunks(ANSWER.len()) {
                        let _ = stream.write_all(record);
                    }
                }
                if goodbye {
                    let _ = stream.shutdown();
                }
            }
        });
        (port, ca_file)
    }

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = env::temp_dir().join(format!("acme-micro-tls-{}-{name}", process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    fn client(ca_file: PathBuf) -> HttpClient {
        let options = HttpOptions { ca_file: Some(ca_file.clone()), ..HttpOptions::default() };
        let client = HttpClient::new(&options).unwrap();
        fs::remove_file(ca_file).unwrap();
        client
    }

    fn get(host: &str, port: u16, ca_file: PathBuf) -> Result<Vec<u8>, String> {
        let url = format!("https://{host}:{port}/");
        client(ca_file).request(Method::Get, &url, &[], b"").map(|answer| answer.body)
    }

    #[test]
    fn h25_h27_names_and_addresses_are_verified() {
        for (asked, in_certificate) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
            let (port, ca_file) = server(in_certificate, &[ANSWER], true);
            assert_eq!(get(asked, port, ca_file).unwrap(), b"ok");
        }
        for (asked, in_certificate, why) in [
            ("localhost", "example.org", "hostname mismatch"),
            ("localhost", "127.0.0.1", "hostname mismatch"),
            ("127.0.0.1", "localhost", "IP address mismatch"),
        ] {
            let (port, ca_file) = server(in_certificate, &[ANSWER], true);
            let error = get(asked, port, ca_file).unwrap_err();
            assert!(error.contains(&format!("certificate verify failed: {why}")), "{error}");
        }
    }

    #[test]
    fn h25_only_the_given_roots_are_trusted() {
        let (port, its_own) = server("localhost", &[ANSWER], true);
        fs::remove_file(its_own).unwrap();
        let other = file("other", &certificate("localhost").1.to_pem().unwrap());
        let error = get("localhost", port, other).unwrap_err();
        assert!(error.starts_with("TLS with localhost: certificate verify failed: "), "{error}");
    }

    #[test]
    fn h06_a_body_that_is_cut_is_an_error() {
        let (port, ca_file) = server("localhost", &[NO_LENGTH], true);
        assert_eq!(get("localhost", port, ca_file).unwrap(), b"ok");
        // With a length, a close_notify is not necessary.
        let (port, ca_file) = server("localhost", &[ANSWER], false);
        assert_eq!(get("localhost", port, ca_file).unwrap(), b"ok");
        let (port, ca_file) = server("localhost", &[NO_LENGTH], false);
        assert!(get("localhost", port, ca_file).unwrap_err().contains("unexpected EOF"));
    }

    #[test]
    fn h31_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() {
        let (port, ca_file) =
            server("localhost", &[[ANSWER, ANSWER].concat().leak(), ANSWER], true);
        let (client, url) = (client(ca_file), format!("https://localhost:{port}/"));
        assert!(client.request(Method::Get, &url, &[], b"").is_ok());
        // This server takes one connection only.
        assert!(client.request(Method::Get, &url, &[], b"").is_err());
    }

    #[test]
    fn errors_that_the_host_program_left_behind_do_no_harm() {
        let (port, ca_file) = server("localhost", &[ANSWER, NO_LENGTH], true);
        let (client, url) = (client(ca_file), format!("https://localhost:{port}/"));
        for _ in 0..2 {
            X509::from_der(b"not DER").unwrap_err().put();
            assert_eq!(client.request(Method::Get, &url, &[], b"").unwrap().body, b"ok");
        }
    }

    #[test]
    fn a_client_certificate_is_shown_to_those_who_ask() {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let (key, cert) = certificate("client");
            let mut acceptor = acceptor("localhost");
            acceptor.0.set_max_proto_version(Some(version)).unwrap();
            acceptor.0.cert_store_mut().add_cert(cert.clone()).unwrap();
            acceptor.0.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            let (port, ca_file) = serve(acceptor, &[ANSWER, ANSWER], true, 2);
            let pem = [cert.to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap()].concat();
            let with_key = file(&format!("client-{port}"), &pem);
            let options = HttpOptions { ca_file: Some(ca_file.clone()), ..HttpOptions::default() };
            let nobody = HttpClient::new(&options).unwrap();
            let somebody = HttpClient::new(&HttpOptions {
                client_cert_file: Some(with_key.clone()),
                client_key_file: Some(with_key.clone()),
                ..options
            });
            fs::remove_file(ca_file).unwrap();
            fs::remove_file(with_key).unwrap();

            let url = format!("https://localhost:{port}/");
            let error = nobody.request(Method::Get, &url, &[], b"").unwrap_err();
            let why = match version {
                // In TLS 1.2 the server requests the certificate, and refuses the client, during the handshake.
                SslVersion::TLS1_2 => "TLS with localhost: sslv3 alert handshake failure",
                _ => "tlsv13 alert certificate required",
            };
            assert!(error.contains(why), "{error}");
            assert_eq!(somebody.unwrap().request(Method::Get, &url, &[], b"").unwrap().body, b"ok");
        }
    }

    #[test]
    fn hosts_are_verified_without_brackets_and_final_dot() {
        assert_eq!(bare("[::1]"), "::1");
        assert_eq!(bare("example.org."), "example.org");
    }
}
