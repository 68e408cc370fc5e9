//! The built-in blocking HTTPS client: ureq over the system's OpenSSL. It starts no threads and
//! keeps connections alive; what it may ask, and what answers mean, others decide. How a connection
//! comes about is in `dial`, `proxy` and `tls`.
//!
//! RFC 9110, RFC 9112.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Request as Message, Response, header};
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Body, Error, Proxy, Timeout};

use crate::credentials::Credentials;
use crate::dial::{Dialer, SyncResolver, place, proxy_for};
use crate::engine::{Method, Reply, Request};
use crate::error::{Error as AcmeError, Result as AcmeResult};
use crate::proxy;
use crate::tls::{Hopeless, OpensslConnector};

pub use crate::dial::IpVersion;

/// For one request, unless the options say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For TCP, the proxy and TLS together; a third of the whole if that is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// ureq adds the time limit to the clock, which must not overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Connections to a host that are kept for the next request.
const KEPT: usize = 2;
/// The largest body of an answer.
const MAX_BODY: u64 = 1024 * 1024;
/// The largest header of an answer.
const MAX_HEADER: usize = 64 * 1024;
/// Holds the largest header. A connection has two of these, one below TLS and one above.
const INPUT_BUFFER: usize = 80 * 1024;
/// Holds the longest line of a request's header; bodies go through in pieces. Two as well.
const OUTPUT_BUFFER: usize = 16 * 1024;

/// How an [`HttpClient`] connects.
///
/// ```
/// use acme_micro::{HttpClient, HttpOptions};
///
/// let mut options = HttpOptions::default();
/// options.proxy = Some("socks5://proxy.example:1080".to_owned());
/// let http = HttpClient::new(&options)?;
/// # Ok::<(), acme_micro::AcmeError>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// A PEM file of CA certificates to trust instead of those that the system trusts, or that
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub ca_file: Option<PathBuf>,
    /// A directory of CA certificates to trust instead of the system's, as `openssl rehash` makes
    /// it: PEM files under hashed names. With `ca_file` both are trusted. It is looked into while
    /// connecting.
    pub ca_dir: Option<PathBuf>,
    /// A PEM file of CA certificates to trust besides the system's, or besides `ca_file` and
    /// `ca_dir`.
    pub extra_ca_file: Option<PathBuf>,
    /// A PEM file: the certificate to show to a CA that asks for one (TLS client authentication),
    /// and those that lead from it to a root. Goes with `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// A PEM file: the certificate's key, without a passphrase.
    pub client_key_file: Option<PathBuf>,
    /// A proxy to go through: `http://`, `https://` (CONNECT; TLS to the proxy), `socks5://`,
    /// `socks5h://` (the same) or `socks4a://`, then `user:password@` if it wants them
    /// (percent-encoded), and `host:port`. It resolves the names of hosts behind it. No error and no
    /// `Debug` shows the password.
    pub proxy: Option<String>,
    /// Whether to go through the proxy that `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` name, but
    /// for hosts in `NO_PROXY`. Without effect when `proxy` is set.
    pub proxy_from_env: bool,
    /// Which addresses of the CA, or of the proxy, are connected to.
    pub ip_version: IpVersion,
    /// The limit for one request, from name resolution to the last byte of the answer; 30 seconds
    /// unless set. Connecting gets 10 seconds of it, or a third if that is more. Name resolution
    /// itself is not interrupted: the system's resolver has its own time limits.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            ca_file: None,
            ca_dir: None,
            extra_ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            proxy: None,
            proxy_from_env: false,
            ip_version: IpVersion::Any,
            timeout: TIMEOUT,
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("ca_file", &self.ca_file)
            .field("ca_dir", &self.ca_dir)
            .field("extra_ca_file", &self.extra_ca_file)
            .field("client_cert_file", &self.client_cert_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "not shown"))
            .field("proxy_from_env", &self.proxy_from_env)
            .field("ip_version", &self.ip_version)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The built-in HTTP client: blocking, without threads of its own. Clones share its connections.
///
/// [`HttpClient::send`] is what a [`Host`](crate::Host) needs:
///
/// ```no_run
/// use std::sync::Arc;
/// use acme_micro::engine::{Challenge, Client, ClientOptions, Reply, Request};
/// use acme_micro::{Host, HttpClient, HttpOptions, Key, KeyType, run};
///
/// struct Program { http: HttpClient }
///
/// impl Host for Program {
///     fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
///         self.http.send(request, reply);
///     }
///     fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String> {
/// #       drop(challenges);
///         todo!("have the web server answer")
///     }
///     fn unpublish(&mut self, _: &[Challenge]) {}
/// }
///
/// # fn main() -> Result<(), acme_micro::AcmeError> {
/// let mut options = HttpOptions::default();
/// options.extra_ca_file = Some("/etc/ssl/our-ca.pem".into());
/// let mut host = Program { http: HttpClient::new(&options)? };
///
/// let key = Key::generate(KeyType::P256)?;
/// let client = Client::new(ClientOptions::new("https://ca.example/directory", key))?;
/// run(&client.register(), &mut host)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpClient {
    agent: Agent,
    credentials: Arc<Credentials>,
    ip_version: IpVersion,
    timeout: Duration,
    connect_timeout: Duration,
    connections_made: Arc<AtomicUsize>,
    /// The process that the connections are of; 0: there has been no request yet.
    process: Arc<AtomicU32>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct HttpAnswer {
    /// The HTTP status, 200 to 599.
    pub status: u16,
    /// Names in lower case, and values as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// The answer to a request of an operation, or why there is none.
pub(crate) struct Answer(Result<HttpAnswer, Failure>);

impl Answer {
    /// There is none.
    #[cfg(unix)]
    pub(crate) fn none(why: &str) -> Answer {
        Answer(Err(why.to_owned().into()))
    }

    /// The error says that the answer was not taken.
    pub(crate) fn feed(self, reply: &Reply<'_>) -> AcmeResult<()> {
        let answer = match self.0 {
            Ok(answer) => answer,
            Err(failure) => return failure.tell(reply),
        };
        for (name, value) in &answer.headers {
            reply.header(name.as_bytes(), value)?;
        }
        reply.body(&answer.body)?;
        reply.end(answer.status)
    }
}

/// Why there is no answer.
enum Failure {
    /// It may come when it is asked for again.
    Lost(String),
    /// There is one, but it is not HTTP, or larger than any that a CA has reason to send.
    Unusable(String),
    /// The peer is not whom we trust, or a proxy does not take the user and password.
    Hopeless(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Lost(why)
    }
}

impl Failure {
    fn tell(&self, reply: &Reply<'_>) -> AcmeResult<()> {
        match self {
            Failure::Lost(why) => reply.failed(why),
            Failure::Unusable(why) => reply.unusable(why),
            Failure::Hopeless(why) => reply.hopeless(why),
        }
    }

    #[cfg(test)]
    fn why(self) -> String {
        match self {
            Failure::Lost(why) | Failure::Unusable(why) | Failure::Hopeless(why) => why,
        }
    }
}

impl HttpClient {
    /// A client without connections yet. Reads the files that the options name; the error says which
    /// option and file is wrong, and why.
    pub fn new(options: &HttpOptions) -> AcmeResult<HttpClient> {
        let credentials = Arc::new(Credentials::read(options)?);
        let wrong_proxy = |why| AcmeError::invalid_argument(format!("proxy: {why}"));
        let proxy = match &options.proxy {
            Some(url) => Some(proxy::parse(url).map_err(wrong_proxy)?),
            None if options.proxy_from_env => proxy::from_env().map_err(wrong_proxy)?,
            None => None,
        };
        let timeout = options.timeout.min(LONGEST_TIMEOUT);
        Ok(HttpClient::connecting(credentials, proxy, options.ip_version, timeout, KEPT))
    }

    /// Keeps so many connections to a host, and twice as many in all.
    fn connecting(
        credentials: Arc<Credentials>,
        proxy: Option<Proxy>,
        ip_version: IpVersion,
        timeout: Duration,
        kept: usize,
    ) -> HttpClient {
        let connect_timeout = CONNECT_TIMEOUT.max(timeout / 3);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy) // `None` too: ureq has looked into the environment by itself
            .user_agent("") // none of these three unless the caller says so
            .accept("")
            .accept_encoding("")
            .timeout_global(Some(timeout))
            .timeout_connect(Some(connect_timeout))
            .max_response_header_size(MAX_HEADER)
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_idle_connections(kept * 2)
            .max_idle_connections_per_host(kept)
            .build();
        let resolver = SyncResolver { ip_version };
        let dialer = Dialer::new(OpensslConnector::new(credentials.clone(), true), resolver);
        let connections_made = dialer.connections_made.clone();
        let connector = dialer.chain(OpensslConnector::new(credentials.clone(), false));
        let agent = Agent::with_parts(config, connector, resolver);
        HttpClient {
            agent,
            credentials,
            ip_version,
            timeout,
            connect_timeout,
            connections_made,
            process: Arc::new(AtomicU32::new(0)),
        }
    }

    /// A client that connects in the same way, over connections of its own; it keeps so many of
    /// them to a host.
    #[cfg(unix)]
    pub(crate) fn apart(&self, kept: usize) -> HttpClient {
        let proxy = self.agent.config().proxy().cloned();
        HttpClient::connecting(self.credentials.clone(), proxy, self.ip_version, self.timeout, kept)
    }

    /// Are the connections of this process? In a child that fork() made after a first request they are
    /// the parent's, which goes on with them; and a lock may be held by a thread that is not there.
    #[cfg(unix)]
    fn is_of_this_process(&self) -> bool {
        let this = std::process::id();
        let first = self.process.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire);
        first.map_or_else(|owner| owner == this, |_| true)
    }

    /// Would both connect in the same way?
    #[cfg(unix)]
    pub(crate) fn connects_as(&self, other: &HttpClient) -> bool {
        self.timeout == other.timeout
            && self.ip_version == other.ip_version
            && self.agent.config().proxy() == other.agent.config().proxy()
            && self.credentials.are_those_of(&other.credentials)
    }

    /// Closes all connections, for good: requests under way fail at once, later ones too. Only
    /// while a name is being resolved, or TCP is connecting, does a request go on until that ends.
    #[cfg(unix)]
    pub(crate) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Sends a request of an operation and feeds the answer to `reply`, or that there is none and
    /// why. Blocks for the options' time limit at most.
    pub fn send(&self, request: &Request, reply: &Reply<'_>) {
        // What is fed may break a limit, which ends the answer: the operation knows then.
        if let Err(error) = self.feed(request, reply) {
            debug!("the answer to request {}: {error}", request.id);
        }
    }

    /// As [`HttpClient::send`]; the error says that the answer was not taken.
    pub(crate) fn feed(&self, request: &Request, reply: &Reply<'_>) -> AcmeResult<()> {
        self.fetch(request, reply).feed(reply)
    }

    /// Sends a request; the answer is fed to `reply` later.
    pub(crate) fn fetch(&self, request: &Request, reply: &Reply<'_>) -> Answer {
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // Not beyond the operation's own limit.
        let limit = self.timeout.min(reply.time_left());
        Answer(self.ask_within(limit, request.method, request.url(), &headers, &request.body))
    }

    /// The answer, or why there is none.
    #[cfg(test)]
    pub(crate) fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpAnswer, String> {
        self.ask_within(self.timeout, method, url, headers, body).map_err(Failure::why)
    }

    /// Sends one request and reads the whole answer. Redirects and refusals are answers; the error
    /// is one line that says what failed and why.
    ///
    /// A kept connection may turn out to be closed by the peer: a GET is then sent once more on a
    /// new one. A POST is never sent twice, since the peer may have acted on it.
    fn ask_within(
        &self,
        limit: Duration,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpAnswer, Failure> {
        #[cfg(unix)]
        if !self.is_of_this_process() {
            return self.apart(0).ask_within(limit, method, url, headers, body);
        }
        let mut request = Message::builder().method(method.as_str()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|error| format!("cannot send this: {error}"))?;
        let mut host = place(request.uri());
        if let Some(proxy) = proxy_for(self.agent.config(), request.uri()) {
            host += &format!(" through the proxy {}", place(proxy.uri()));
        }

        let answer = match method {
            Method::Get => self.get(request, limit),
            Method::Post => {
                let request = self.agent.configure_request(request.map(|()| body));
                self.agent.run(request.timeout_global(Some(limit)).build())
            }
        };
        let asking = format!("asking {host}");
        let (head, mut body) =
            answer.map_err(|error| self.describe(&asking, limit, error))?.into_parts();
        let reading = format!("reading the answer of {host}");
        check(head.status.as_u16(), &head.headers)
            .map_err(|why| Failure::Unusable(format!("{reading}: {why}")))?;
        let body = body.with_config().limit(MAX_BODY).read_to_vec();
        let fields = head.headers.iter();
        Ok(HttpAnswer {
            status: head.status.as_u16(),
            headers: fields.map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect(),
            body: body.map_err(|error| self.describe(&reading, limit, error))?,
        })
    }

    fn get(&self, request: Message<()>, limit: Duration) -> Result<Response<Body>, Error> {
        let start = Instant::now();
        let connections_before = self.connections_made.load(Ordering::Relaxed);
        let first = self.agent.configure_request(request.clone());
        let answer = self.agent.run(first.timeout_global(Some(limit)).build());
        let kept = self.connections_made.load(Ordering::Relaxed) == connections_before;
        if !(kept && answer.as_ref().is_err_and(is_closed)) {
            return answer;
        }
        let again = self.agent.configure_request(request);
        let again = again.timeout_global(Some(limit.saturating_sub(start.elapsed())));
        self.agent.run(again.max_idle_age(Duration::ZERO).build())
    }

    /// One line for an error while `doing` something. Errors in connecting name their step already.
    fn describe(&self, doing: &str, limit: Duration, error: Error) -> Failure {
        let failure = match &error {
            Error::BodyExceedsLimit(_) | Error::LargeResponseHeader(..) | Error::Protocol(_) => {
                Failure::Unusable
            }
            Error::Other(error) if error.is::<Hopeless>() => Failure::Hopeless,
            _ => Failure::Lost,
        };
        failure(self.reason(doing, limit, error))
    }

    fn reason(&self, doing: &str, limit: Duration, error: Error) -> String {
        match error {
            Error::Timeout(Timeout::Connect) => {
                let limit = self.connect_timeout.min(limit);
                format!("{doing}: timeout, no connection within {} s", limit.as_secs())
            }
            Error::Timeout(_) => {
                format!("{doing}: timeout, not done within {} s", limit.as_secs())
            }
            Error::BodyExceedsLimit(MAX_BODY) => {
                format!("{doing}: the answer is larger than 1 MiB")
            }
            Error::BodyExceedsLimit(_) => format!("{doing}: the answer has no end"),
            Error::LargeResponseHeader(..) => {
                format!("{doing}: the header of the answer is larger than 64 KiB")
            }
            Error::Io(e) if e.kind() == ErrorKind::UnexpectedEof => {
                format!("{doing}: the connection was closed too early")
            }
            Error::Io(error) => format!("{doing}: {error}"),
            Error::Protocol(error) => format!("{doing}: not HTTP/1.1: {error}"),
            Error::Other(error) => error.to_string(),
            error => format!("{doing}: {error}"),
        }
    }
}

/// Refuses answers that could be understood in more than one way.
fn check(status: u16, headers: &HeaderMap) -> Result<(), String> {
    if !(200..=599).contains(&status) {
        return Err(format!("{status} is not the status of a final answer"));
    }
    let coding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err("it is compressed, which was not asked for".to_owned());
    }
    // RFC 9112 section 6.3: "ought to be handled as an error".
    if headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err("it has both Transfer-Encoding and Content-Length".to_owned());
    }
    Ok(())
}

/// Has the peer closed the connection, or the network lost it?
fn is_closed(error: &Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        Error::Io(error) => {
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        Error::Tls(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A server without TLS. Each connection gives these answers, one for each request; an empty
    /// one closes it. Requests come out of the channel.
    fn server(connections: Vec<Vec<Vec<u8>>>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (requests, seen) = mpsc::channel();
        thread::spawn(move || {
            for answers in connections {
                let mut stream = listener.accept().unwrap().0;
                for answer in answers {
                    let mut request = Vec::new();
                    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                        let mut some = [0; 4096];
                        let amount = stream.read(&mut some).unwrap();
                        assert_ne!(amount, 0, "the client closed the connection");
                        request.extend_from_slice(&some[..amount]);
                    }
                    requests.send(String::from_utf8(request).unwrap()).unwrap();
                    if answer.is_empty() {
                        break;
                    }
                    let _ = stream.write_all(&answer);
                }
            }
        });
        (url, seen)
    }

    fn client() -> HttpClient {
        HttpClient::new(&HttpOptions::default()).unwrap()
    }

    /// The answer to one GET.
    fn get(answer: &[u8]) -> Result<HttpAnswer, String> {
        let (url, _seen) = server(vec![vec![answer.to_vec()]]);
        client().ask(Method::Get, &url, &[], b"")
    }

    #[test]
    fn redirects_and_refusals_are_answers() {
        let found = get(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
        let found = found.unwrap();
        assert_eq!(found.status, 302);
        assert!(found.headers.contains(&("location".to_owned(), b"/x".to_vec())));
        let refused = get(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((refused.status, refused.body), (403, b"no".to_vec()));
    }

    #[test]
    fn h12_nothing_is_sent_that_the_caller_did_not_give() {
        let (url, seen) = server(vec![vec![OK.to_vec(), OK.to_vec()]]);
        let client = client();
        client.ask(Method::Get, &url, &[("User-Agent", "me/1")], b"").unwrap();
        client.ask(Method::Post, &url, &[], b"").unwrap();
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        assert_eq!(
            seen.recv().unwrap(),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: me/1\r\n\r\n")
        );
        assert_eq!(
            seen.recv().unwrap(),
            format!("POST / HTTP/1.1\r\ncontent-length: 0\r\nhost: {host}\r\n\r\n")
        );
    }

    #[test]
    fn h11_answers_have_limits() {
        let body = |size| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            [head.into_bytes(), vec![b'a'; size]].concat()
        };
        assert_eq!(get(&body(1 << 20)).unwrap().body.len(), 1 << 20);
        assert!(get(&body((1 << 20) + 1)).unwrap_err().contains("answer is larger than 1 MiB"));
        let header = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 70_000]].concat();
        assert!(get(&header).unwrap_err().contains("larger than 64 KiB"));
    }

    #[test]
    fn h05_h10_h12_ambiguous_answers_are_refused() {
        for (fields, why) in [
            ("Content-Encoding: gzip\r\nContent-Length: 0", "compressed"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0", "both"),
            ("Content-Length: 1\r\nContent-Length: 2", "conflicting"),
        ] {
            let error = get(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(get(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").is_err());
    }

    #[test]
    fn h31_a_get_is_repeated_when_a_kept_connection_is_stale_and_a_post_is_not() {
        for method in [Method::Get, Method::Post] {
            let (url, seen) = server(vec![vec![OK.to_vec(), vec![]], vec![OK.to_vec()]]);
            let client = client();
            client.ask(Method::Get, &url, &[], b"").unwrap();
            let second = client.ask(method, &url, &[], b"");
            assert_eq!(second.is_ok(), method == Method::Get, "{second:?}");
            let requests = if method == Method::Get { 3 } else { 2 };
            assert_eq!(seen.try_iter().count(), requests);
        }
    }

    #[test]
    fn a_get_is_not_repeated_when_a_new_connection_is_closed() {
        let (url, seen) = server(vec![vec![vec![]], vec![OK.to_vec()]]);
        let error = client().ask(Method::Get, &url, &[], b"").unwrap_err();
        assert!(error.ends_with("the connection was closed too early"), "{error}");
        assert_eq!(seen.try_iter().count(), 1);
    }

    #[test]
    fn h08_a_silent_server_ends_in_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_millis(200);
        let client = HttpClient::new(&HttpOptions { timeout, ..HttpOptions::default() }).unwrap();
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
            let start = Instant::now();
            let error = client.ask(Method::Post, &url, &[], b"{}").unwrap_err();
            assert!(error.contains("timeout"), "{error}");
            assert!(start.elapsed() >= timeout);
        }
    }

    #[test]
    fn h01_errors_name_the_step() {
        // Bound and not listening: it refuses connections, and no other test can get its port.
        let closed =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let free = closed.local_addr().unwrap().as_socket().unwrap();
        let client = client();
        let no_name = "a".repeat(64); // a label has at most 63
        for (url, error) in [
            (format!("http://{free}/"), format!("connecting to {free}: Connection refused")),
            (format!("http://{no_name}/"), format!("name resolution of {no_name}: ")),
        ] {
            let said = client.ask(Method::Get, &url, &[], b"").unwrap_err();
            assert!(said.starts_with(&error), "{said}");
        }
    }

    #[test]
    fn clients_may_be_shared_by_threads() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<HttpClient>();
    }

    #[test]
    fn any_timeout_will_do() {
        let (url, _seen) = server(vec![vec![OK.to_vec()]]);
        for (timeout, works) in [(Duration::ZERO, false), (Duration::MAX, true)] {
            let options = HttpOptions { timeout, ..HttpOptions::default() };
            let client = HttpClient::new(&options).unwrap();
            assert_eq!(client.ask(Method::Get, &url, &[], b"").is_ok(), works);
        }
    }
}
