//! The built-in blocking HTTPS client: ureq over the system's OpenSSL. It starts no threads and
//! keeps connections alive; what it may ask, and what answers mean, others decide.
//!
//! RFC 9110, RFC 9112.

use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderMap, Request, Response, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectProxyConnector, ConnectionDetails, Connector};
use ureq::unversioned::transport::{NextTimeout, TcpConnector};
use ureq::{Agent, Body, Error, Proxy, ProxyProtocol, Timeout};

use crate::engine::Method;
use crate::tls::OpensslConnector;

/// For TCP, the proxy and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// ureq adds the time limit to the clock, which must not overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The largest body of an answer.
const MAX_BODY: u64 = 1024 * 1024;
/// The largest header of an answer.
const MAX_HEADER: usize = 64 * 1024;
/// Holds the largest header. A connection has two of these, one below TLS and one above.
const INPUT_BUFFER: usize = 80 * 1024;
/// Holds the longest line of a request's header; bodies go through in pieces. Two as well.
const OUTPUT_BUFFER: usize = 16 * 1024;
/// Addresses tried of one host: what ureq's list of them holds.
const MAX_ADDRESSES: usize = 16;

/// How an [`HttpClient`] connects.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// A PEM file of CA certificates to trust. `None`: those that the system trusts, or that
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub ca_file: Option<PathBuf>,
    /// Whether to go through the proxy that `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` name, but
    /// for hosts in `NO_PROXY`.
    pub proxy_from_env: bool,
    /// The limit for one request, from name resolution to the last byte of the answer. Name
    /// resolution itself is not interrupted: the system's resolver has its own time limits.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions { ca_file: None, proxy_from_env: false, timeout: Duration::from_secs(30) }
    }
}

/// An HTTP client. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: Agent,
    timeout: Duration,
    connections_made: Arc<AtomicUsize>,
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The HTTP status, 200 to 599.
    pub status: u16,
    /// Names in lower case, and values as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

impl HttpClient {
    /// A client without connections yet. The error says what is wrong with the CA file or proxy.
    pub fn new(options: &HttpOptions) -> Result<HttpClient, String> {
        let tls = match &options.ca_file {
            Some(path) => OpensslConnector::trusting(path)?,
            None => OpensslConnector::default(),
        };
        let proxy = if options.proxy_from_env { Proxy::try_from_env() } else { None };
        match proxy.as_ref().map(Proxy::protocol) {
            None | Some(ProxyProtocol::Http | ProxyProtocol::Https) => {}
            // ureq would leave such a proxy out, and connect directly.
            Some(other) => return Err(format!("{other} proxies are not supported")),
        }
        let timeout = options.timeout.min(LONGEST_TIMEOUT);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy) // `None` too: ureq has looked into the environment by itself
            .user_agent("") // none of these three unless the caller says so
            .accept("")
            .accept_encoding("")
            .timeout_global(Some(timeout))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_response_header_size(MAX_HEADER)
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_idle_connections(4)
            .max_idle_connections_per_host(2)
            .build();
        let dialer = Dialer::default();
        let connections_made = dialer.connections_made.clone();
        let agent = Agent::with_parts(config, dialer.chain(tls), SyncResolver);
        Ok(HttpClient { agent, timeout, connections_made })
    }

    /// Sends one request and reads the whole answer. Redirects and refusals are answers; the error
    /// is one line that says what failed and why.
    ///
    /// A kept connection may turn out to be closed by the peer: a GET is then sent once more on a
    /// new one. A POST is never sent twice, since the peer may have acted on it.
    pub fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpAnswer, String> {
        let mut request = Request::builder().method(method.as_str()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|error| format!("cannot send this: {error}"))?;
        let host = place(request.uri());

        let answer = match method {
            Method::Get => self.get(request),
            Method::Post => self.agent.run(request.map(|()| body)),
        };
        let (head, mut body) =
            answer.map_err(|error| self.describe(&format!("asking {host}"), error))?.into_parts();
        let reading = format!("reading the answer of {host}");
        check(head.status.as_u16(), &head.headers).map_err(|e| format!("{reading}: {e}"))?;
        let body = body.with_config().limit(MAX_BODY).read_to_vec();
        let fields = head.headers.iter();
        Ok(HttpAnswer {
            status: head.status.as_u16(),
            headers: fields.map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect(),
            body: body.map_err(|error| self.describe(&reading, error))?,
        })
    }

    fn get(&self, request: Request<()>) -> Result<Response<Body>, Error> {
        let start = Instant::now();
        let connections_before = self.connections_made.load(Ordering::Relaxed);
        let answer = self.agent.run(request.clone());
        let kept = self.connections_made.load(Ordering::Relaxed) == connections_before;
        if !(kept && answer.as_ref().is_err_and(is_closed)) {
            return answer;
        }
        let again = self.agent.configure_request(request);
        let again = again.timeout_global(Some(self.timeout.saturating_sub(start.elapsed())));
        self.agent.run(again.max_idle_age(Duration::ZERO).build())
    }

    /// One line for an error while `doing` something. Errors in connecting name their step already.
    fn describe(&self, doing: &str, error: Error) -> String {
        match error {
            Error::Timeout(Timeout::Connect) => {
                let limit = CONNECT_TIMEOUT.min(self.timeout);
                format!("{doing}: timeout, no connection within {} s", limit.as_secs())
            }
            Error::Timeout(_) => {
                format!("{doing}: timeout, not done within {} s", self.timeout.as_secs())
            }
            Error::BodyExceedsLimit(_) => format!("{doing}: the answer is larger than 1 MiB"),
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

/// Host and port for messages; never the user and password that a proxy's URL may have.
fn place(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Opens what is below TLS: a connection to the host, or through the proxy.
#[derive(Debug, Default)]
struct Dialer {
    proxy: ConnectProxyConnector,
    tcp: TcpConnector,
    connections_made: Arc<AtomicUsize>,
}

type Proxied = <ConnectProxyConnector as Connector<()>>::Out;

impl Connector<()> for Dialer {
    type Out = <TcpConnector as Connector<Proxied>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        self.connections_made.fetch_add(1, Ordering::Relaxed);
        let proxied = self.proxy.connect(details, chained).map_err(|error| {
            let proxy = details.config.proxy().map(|proxy| place(proxy.uri()));
            named(format!("asking the proxy {}", proxy.unwrap_or_default()), error)
        })?;
        self.tcp
            .connect(details, proxied)
            .map_err(|error| named(format!("connecting to {}", place(details.uri)), error))
    }
}

/// The error with what was being done, but for time limits, which are told apart later.
fn named(doing: String, error: Error) -> Error {
    match error {
        Error::Io(error) => Error::Other(format!("{doing}: {error}").into()),
        Error::Protocol(error) => Error::Other(format!("{doing}: {error}").into()),
        Error::ConnectProxyFailed(error) => Error::Other(format!("{doing}: {error}").into()),
        Error::Other(error) => Error::Other(format!("{doing}: {error}").into()),
        error => error,
    }
}

/// The system's resolver, called on the thread that sends. ureq's own starts a thread for each
/// name, which a C program that embeds this library does not expect.
#[derive(Debug)]
struct SyncResolver;

impl Resolver for SyncResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (scheme, authority) =
            uri.scheme().zip(uri.authority()).ok_or_else(|| Error::BadUri(place(uri)))?;
        let name = DefaultResolver::host_and_port(scheme, authority)
            .ok_or_else(|| Error::BadUri(place(uri)))?;
        let found = name.to_socket_addrs().map_err(|error| {
            Error::Other(format!("name resolution of {}: {error}", authority.host()).into())
        })?;
        let mut addresses = self.empty();
        found.take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
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
        client().send(Method::Get, &url, &[], b"")
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
    fn nothing_is_sent_that_the_caller_did_not_give() {
        let (url, seen) = server(vec![vec![OK.to_vec(), OK.to_vec()]]);
        let client = client();
        client.send(Method::Get, &url, &[("User-Agent", "me/1")], b"").unwrap();
        client.send(Method::Post, &url, &[], b"").unwrap();
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
    fn answers_have_limits() {
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
    fn ambiguous_answers_are_refused() {
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
    fn a_get_is_repeated_when_a_kept_connection_is_stale_and_a_post_is_not() {
        for method in [Method::Get, Method::Post] {
            let (url, seen) = server(vec![vec![OK.to_vec(), vec![]], vec![OK.to_vec()]]);
            let client = client();
            client.send(Method::Get, &url, &[], b"").unwrap();
            let second = client.send(method, &url, &[], b"");
            assert_eq!(second.is_ok(), method == Method::Get, "{second:?}");
            let requests = if method == Method::Get { 3 } else { 2 };
            assert_eq!(seen.try_iter().count(), requests);
        }
    }

    #[test]
    fn a_get_is_not_repeated_when_a_new_connection_is_closed() {
        let (url, seen) = server(vec![vec![vec![]], vec![OK.to_vec()]]);
        let error = client().send(Method::Get, &url, &[], b"").unwrap_err();
        assert!(error.ends_with("the connection was closed too early"), "{error}");
        assert_eq!(seen.try_iter().count(), 1);
    }

    #[test]
    fn a_silent_server_ends_in_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_millis(200);
        let client = HttpClient::new(&HttpOptions { timeout, ..HttpOptions::default() }).unwrap();
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
            let start = Instant::now();
            let error = client.send(Method::Post, &url, &[], b"{}").unwrap_err();
            assert!(error.contains("timeout"), "{error}");
            assert!((timeout..timeout * 10).contains(&start.elapsed()));
        }
    }

    #[test]
    fn errors_name_the_step() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = client();
        let no_name = "a".repeat(64); // a label has at most 63
        for (url, error) in [
            (format!("http://{free}/"), format!("connecting to {free}: Connection refused")),
            (format!("http://{no_name}/"), format!("name resolution of {no_name}: ")),
        ] {
            let said = client.send(Method::Get, &url, &[], b"").unwrap_err();
            assert!(said.starts_with(&error), "{said}");
        }
        assert_eq!(place(&Uri::from_static("http://user:secret@proxy:3128")), "proxy:3128");
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
            assert_eq!(client.send(Method::Get, &url, &[], b"").is_ok(), works);
        }
    }
}
