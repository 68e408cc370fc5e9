//! The built-in blocking HTTPS client: ureq over the system's OpenSSL. It starts no threads and
//! keeps connections alive. It sends requests and returns responses, and decides nothing about
//! ACME.
//!
//! RFC 9110, RFC 9112.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Request as Message, Response, header};
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Body, Error, Proxy};

use super::connect::{ConnectionFactory, SyncResolver, host_and_port, proxy_for};
use super::options::{HttpOptions, IpVersion};
use super::proxy;
use super::sent::{Failure, HttpResponse, Limits, MAX_BODY, Sent};
use super::tls::OpensslConnector;
use super::tls_config::TlsConfig;
use crate::engine::{Method, Reply, Request};
use crate::error::{Error as AcmeError, Result as AcmeResult};

/// Timeout of connecting: TCP, the proxy and TLS together. A third of the whole if that is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum timeout of one request. ureq adds it to the clock, which must not overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Number of idle connections to a host that are kept for the next request.
const MAX_IDLE: usize = 2;
/// Size of a buffer for the largest header. A connection has two of these, one below TLS and one
/// above.
const INPUT_BUFFER: usize = 80 * 1024;
/// Size of a buffer for the longest line of a request's header; bodies pass in pieces. A connection
/// has two of these.
const OUTPUT_BUFFER: usize = 16 * 1024;

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
///         todo!("have the web server respond")
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
    tls_config: Arc<TlsConfig>,
    ip_version: IpVersion,
    timeout: Duration,
    connect_timeout: Duration,
    connections_made: Arc<AtomicUsize>,
    /// Id of the process that owns the connections; 0 before the first request.
    process: Arc<AtomicU32>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Creates a client without connections. Reads the files that the options name; the error names
    /// the option and the file, and the reason.
    pub fn new(options: &HttpOptions) -> AcmeResult<HttpClient> {
        let tls_config = Arc::new(TlsConfig::read(options)?);
        let wrong_proxy = |why| AcmeError::invalid_argument(format!("proxy: {why}"));
        let proxy = match &options.proxy {
            Some(url) => Some(proxy::parse(url).map_err(wrong_proxy)?),
            None if options.proxy_from_env => proxy::from_env().map_err(wrong_proxy)?,
            None => None,
        };
        let timeout = options.request_timeout.min(LONGEST_TIMEOUT);
        Ok(HttpClient::new_with(tls_config, proxy, options.ip_version, timeout, MAX_IDLE))
    }

    /// Creates a client that keeps `kept` idle connections to a host, and twice as many in total.
    fn new_with(
        tls_config: Arc<TlsConfig>,
        proxy: Option<Proxy>,
        ip_version: IpVersion,
        timeout: Duration,
        kept: usize,
    ) -> HttpClient {
        let connect_timeout = CONNECT_TIMEOUT.max(timeout / 3);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy) // also if `None`, because ureq's default is the environment's proxy
            .user_agent("") // these three fields are sent only if the caller sets them
            .accept("")
            .accept_encoding("")
            .timeout_global(Some(timeout))
            .timeout_connect(Some(connect_timeout))
            .max_response_header_size(crate::header::MAX_SIZE)
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_idle_connections(kept * 2)
            .max_idle_connections_per_host(kept)
            .build();
        let resolver = SyncResolver { ip_version };
        let factory =
            ConnectionFactory::new(OpensslConnector::new(tls_config.clone(), true), resolver);
        let connections_made = factory.connections_made.clone();
        let connector = factory.chain(OpensslConnector::new(tls_config.clone(), false));
        let agent = Agent::with_parts(config, connector, resolver);
        HttpClient {
            agent,
            tls_config,
            ip_version,
            timeout,
            connect_timeout,
            connections_made,
            process: Arc::new(AtomicU32::new(0)),
        }
    }

    /// Creates a client with the same options and its own connections. It keeps `kept` idle connections
    /// to a host.
    #[cfg(unix)]
    pub(crate) fn separate(&self, kept: usize) -> HttpClient {
        let proxy = self.agent.config().proxy().cloned();
        HttpClient::new_with(self.tls_config.clone(), proxy, self.ip_version, self.timeout, kept)
    }

    /// Whether this process owns the connections. In a child of fork() they belong to the parent,
    /// which continues to use them, and a thread that exists only in the parent may hold a lock.
    #[cfg(unix)]
    fn is_of_this_process(&self) -> bool {
        let this = std::process::id();
        let first = self.process.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire);
        first.map_or_else(|owner| owner == this, |_| true)
    }

    /// Whether both clients connect with the same options.
    #[cfg(unix)]
    pub(crate) fn connects_as(&self, other: &HttpClient) -> bool {
        self.timeout == other.timeout
            && self.ip_version == other.ip_version
            && self.agent.config().proxy() == other.agent.config().proxy()
            && self.tls_config.is_same(&other.tls_config)
    }

    /// Closes all connections permanently: running requests fail at once, later ones too. Only a
    /// name resolution or a TCP connect continues until it ends.
    #[cfg(unix)]
    pub(crate) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Sends a request of an operation, and passes to `reply` the response or the reason
    /// of the failure. Blocks for the options' timeout at most.
    pub fn send(&self, request: &Request, reply: &Reply<'_>) {
        // A response that exceeds a limit ends the request; the operation knows that already.
        if let Err(error) = self.feed(request, reply) {
            debug!("the response to request {}: {error}", request.id);
        }
    }

    /// As [`HttpClient::send`]. Fails if the operation does not accept the response.
    pub(crate) fn feed(&self, request: &Request, reply: &Reply<'_>) -> AcmeResult<()> {
        self.perform(request, reply).feed(reply)
    }

    /// Sends a request, and returns its response or the failure for the caller to feed to `reply`.
    pub(crate) fn perform(&self, request: &Request, reply: &Reply<'_>) -> Sent {
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // The operation's own time limit applies, too.
        let limit = self.timeout.min(reply.time_left());
        Sent(self.send_within(limit, request.method, request.url(), &headers, &request.body))
    }

    /// Sends one request; the error says why there is no response.
    #[cfg(test)]
    pub(crate) fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpResponse, String> {
        self.send_within(self.timeout, method, url, headers, body).map_err(Failure::why)
    }

    /// Sends one request and reads the whole response. Redirects and refusals are responses, too.
    /// The error is one line with what failed and why.
    ///
    /// The peer may have closed a kept connection: a GET is then sent again on a new connection. A
    /// POST is never sent twice, because the peer may have acted on it.
    fn send_within(
        &self,
        limit: Duration,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpResponse, Failure> {
        #[cfg(unix)]
        if !self.is_of_this_process() {
            return self.separate(0).send_within(limit, method, url, headers, body);
        }
        let mut request = Message::builder().method(method.as_str()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|error| format!("cannot send this: {error}"))?;
        let mut host = host_and_port(request.uri());
        if let Some(proxy) = proxy_for(self.agent.config(), request.uri()) {
            host += &format!(" through the proxy {}", host_and_port(proxy.uri()));
        }

        let response = match method {
            Method::Get => self.get(request, limit),
            Method::Post => {
                let request = self.agent.configure_request(request.map(|()| body));
                self.agent.run(request.timeout_global(Some(limit)).build())
            }
        };
        let limits = Limits { connecting: self.connect_timeout, request: limit };
        let asking = format!("asking {host}");
        let (head, mut body) =
            response.map_err(|error| Failure::new(&asking, &limits, error))?.into_parts();
        let reading = format!("reading the response of {host}");
        check(head.status.as_u16(), &head.headers)
            .map_err(|why| Failure::Unusable(format!("{reading}: {why}")))?;
        let body = body.with_config().limit(MAX_BODY).read_to_vec();
        let fields = head.headers.iter();
        Ok(HttpResponse {
            status: head.status.as_u16(),
            headers: fields.map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect(),
            body: body.map_err(|error| Failure::new(&reading, &limits, error))?,
        })
    }

    fn get(&self, request: Message<()>, limit: Duration) -> Result<Response<Body>, Error> {
        let start = Instant::now();
        let connections_before = self.connections_made.load(Ordering::Relaxed);
        let first = self.agent.configure_request(request.clone());
        let response = self.agent.run(first.timeout_global(Some(limit)).build());
        let kept = self.connections_made.load(Ordering::Relaxed) == connections_before;
        if !(kept && response.as_ref().is_err_and(is_closed)) {
            return response;
        }
        let again = self.agent.configure_request(request);
        let again = again.timeout_global(Some(limit.saturating_sub(start.elapsed())));
        self.agent.run(again.max_idle_age(Duration::ZERO).build())
    }
}

/// Refuses ambiguous responses.
fn check(status: u16, headers: &HeaderMap) -> Result<(), String> {
    if !(200..=599).contains(&status) {
        return Err(format!("{status} is not the status of a final response"));
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

/// Whether the peer has closed the connection, or the network has lost it.
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

    /// Starts a server without TLS. Each connection sends these responses, one for each request; an
    /// empty one closes it. Requests come out of the channel.
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

    /// Returns the response to one GET.
    fn get(answer: &[u8]) -> Result<HttpResponse, String> {
        let (url, _seen) = server(vec![vec![answer.to_vec()]]);
        client().request(Method::Get, &url, &[], b"")
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
        client.request(Method::Get, &url, &[("User-Agent", "me/1")], b"").unwrap();
        client.request(Method::Post, &url, &[], b"").unwrap();
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
        assert!(get(&body((1 << 20) + 1)).unwrap_err().contains("response is larger than 1 MiB"));
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
            client.request(Method::Get, &url, &[], b"").unwrap();
            let second = client.request(method, &url, &[], b"");
            assert_eq!(second.is_ok(), method == Method::Get, "{second:?}");
            let requests = if method == Method::Get { 3 } else { 2 };
            assert_eq!(seen.try_iter().count(), requests);
        }
    }

    #[test]
    fn a_get_is_not_repeated_when_a_new_connection_is_closed() {
        let (url, seen) = server(vec![vec![vec![]], vec![OK.to_vec()]]);
        let error = client().request(Method::Get, &url, &[], b"").unwrap_err();
        assert!(error.ends_with("the connection was closed too early"), "{error}");
        assert_eq!(seen.try_iter().count(), 1);
    }

    #[test]
    fn h08_a_silent_server_ends_in_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_millis(200);
        let client =
            HttpClient::new(&HttpOptions { request_timeout: timeout, ..HttpOptions::default() })
                .unwrap();
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
            let start = Instant::now();
            let error = client.request(Method::Post, &url, &[], b"{}").unwrap_err();
            assert!(error.contains("timeout"), "{error}");
            assert!(start.elapsed() >= timeout);
        }
    }

    #[test]
    fn h01_errors_name_the_step() {
        // A socket that is bound and does not listen refuses connections, and keeps its port reserved.
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
            let said = client.request(Method::Get, &url, &[], b"").unwrap_err();
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
            let options = HttpOptions { request_timeout: timeout, ..HttpOptions::default() };
            let client = HttpClient::new(&options).unwrap();
            assert_eq!(client.request(Method::Get, &url, &[], b"").is_ok(), works);
        }
    }
}
