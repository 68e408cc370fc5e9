//! Opens connections for TLS to run on: to the host, or through the proxy. Resolves names.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ArrayVec, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, NextTimeout};
use ureq::unversioned::transport::{TcpConnector, Transport, TransportAdapter};
use ureq::{Error, Proxy, ProxyProtocol, Timeout};

use super::options::IpVersion;
use super::proxy::{self, Target};
use super::socks::{socks4a, socks5};
use super::tls::{OpensslConnector, PermanentFailure, bare, time_left};

/// Maximum number of addresses to try of one host: the size of ureq's list.
const MAX_ADDRESSES: usize = 16;

/// Timeout of one address before the next one is tried: long enough to send a lost SYN again.
/// (RFC 8305 tries the next address concurrently and sooner, which needs threads or `unsafe`.)
const ADDRESS_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(1500);

/// Opens connections, directly or through a proxy.
pub(crate) struct ConnectionFactory {
    tcp: TcpConnector,
    /// TLS to the proxy itself.
    tls: OpensslConnector,
    resolver: SyncResolver,
    pub connections_made: Arc<AtomicUsize>,
}

impl ConnectionFactory {
    pub(crate) fn new(tls: OpensslConnector, resolver: SyncResolver) -> ConnectionFactory {
        ConnectionFactory {
            tcp: TcpConnector::default(),
            tls,
            resolver,
            connections_made: Arc::default(),
        }
    }

    fn through(
        &self,
        proxy: &Proxy,
        details: &ConnectionDetails,
    ) -> Result<Box<dyn Transport>, Error> {
        let addresses = self.resolver.resolve_all(proxy.host(), proxy.port())?;
        let to_proxy = ConnectionDetails { uri: proxy.uri(), ..from_now(details, addresses) };
        let transport = self.direct(&to_proxy, "connecting to the proxy")?;
        let transport =
            self.tls.connect(&to_proxy, Some(transport))?.ok_or(Error::ConnectionFailed)?;

        let uri = details.uri;
        let default_port = if details.needs_tls() { 443 } else { 80 };
        let target = Target {
            host: bare(uri.host().unwrap_or_default()),
            port: uri.port_u16().unwrap_or(default_port),
        };
        let mut stream = TransportAdapter::new(transport, details.current_time.clone());
        stream.set_timeout(time_left(details));
        tunnel(&mut stream, proxy, &target).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let proxy = host_and_port(proxy.uri());
                Error::Other(PermanentFailure(format!("asking the proxy {proxy}: {error}")).into())
            }
            _ => named("asking the proxy", proxy.uri(), error.into()),
        })?;
        Ok(stream.into_inner())
    }

    fn direct(
        &self,
        details: &ConnectionDetails,
        doing: &str,
    ) -> Result<Box<dyn Transport>, Error> {
        self.first(details).map_err(|error| named(doing, details.uri, error))
    }

    /// Connects to the first address that accepts. Tries every address with a short timeout; then
    /// retries those that timed out with the time that is left.
    fn first(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, Error> {
        let [_, _, ..] = *details.addrs else { return self.one_of(details) };
        let (mut silent, mut refusal) = (none(), None);
        for address in details.addrs.iter() {
            let mut only = none();
            only.push(*address);
            let mut attempt = from_now(details, only);
            attempt.timeout.after =
                Duration::Exact(ADDRESS_TIMEOUT.min(*attempt.timeout.after / 2));
            match self.one_of(&attempt) {
                Ok(transport) => return Ok(transport),
                Err(Error::Timeout(_)) => silent.push(*address),
                Err(error) => refusal = Some(error),
            }
        }
        match refusal {
            Some(refusal) if silent.is_empty() => Err(refusal),
            _ => self.one_of(&from_now(details, silent)),
        }
    }

    fn one_of(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, Error> {
        if details.timeout.after.is_zero() {
            return Err(Error::Timeout(Timeout::Connect)); // for ureq, no time is a second
        }
        match self.tcp.connect(details, None::<()>) {
            Ok(Some(Either::B(transport))) => Ok(Box::new(transport)),
            Ok(_) => Err(Error::ConnectionFailed),
            // The timeout of the request may have ended first.
            Err(Error::Timeout(_)) => Err(Error::Timeout(Timeout::Connect)),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for ConnectionFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionFactory")
    }
}

impl Connector<()> for ConnectionFactory {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        self.connections_made.fetch_add(1, Ordering::Relaxed);
        match proxy_for(details.config, details.uri) {
            Some(proxy) => self.through(proxy, details).map(Some),
            None => self.direct(details, "connecting to").map(Some),
        }
    }
}

/// Returns the same details, started now, with other addresses.
fn from_now<'a>(
    details: &ConnectionDetails<'a>,
    addrs: ResolvedSocketAddrs,
) -> ConnectionDetails<'a> {
    ConnectionDetails {
        uri: details.uri,
        addrs,
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: (details.current_time)(),
        timeout: time_left(details),
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    }
}

/// Alternates the addresses of both IP versions (RFC 8305 section 4), so that one version without a
/// route does not delay the other for long.
fn alternate(addresses: Vec<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turn = false;
    std::iter::from_fn(move || {
        turn = !turn;
        match turn {
            true => first.next().or_else(|| second.next()),
            false => second.next().or_else(|| first.next()),
        }
    })
}

/// Returns an empty list of addresses.
fn none() -> ResolvedSocketAddrs {
    ArrayVec::from_fn(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
}

/// Asks the proxy at the other end of `stream` to connect it to `target`.
pub(crate) fn tunnel(
    stream: &mut (impl Read + Write),
    through: &Proxy,
    target: &Target<'_>,
) -> io::Result<()> {
    let credentials = through.username().map(|user| (user, through.password().unwrap_or_default()));
    match through.protocol() {
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h => socks5(stream, credentials, target),
        ProxyProtocol::Socks4A => socks4a(stream, credentials.map_or("", |(user, _)| user), target),
        _ => proxy::connect(stream, credentials, target),
    }
}

/// Returns the proxy for this URL, if there is one.
pub(crate) fn proxy_for<'a>(config: &'a Config, uri: &Uri) -> Option<&'a Proxy> {
    config.proxy().filter(|proxy| !proxy.is_no_proxy(uri))
}

/// Returns host and port for messages, without the user and password that a proxy's URL may have.
pub(crate) fn host_and_port(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Adds the current step to an error, but not to a timeout, which `Failure::new` describes.
fn named(doing: &str, uri: &Uri, error: Error) -> Error {
    match error {
        Error::Io(error) => Error::Other(format!("{doing} {}: {error}", host_and_port(uri)).into()),
        error => error,
    }
}

/// The system's resolver, called on the sending thread. ureq's own resolver starts a thread for
/// each name, which a C program that embeds this library does not expect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncResolver {
    pub ip_version: IpVersion,
}

impl SyncResolver {
    fn resolve_all(self, host: &str, port: u16) -> Result<ResolvedSocketAddrs, Error> {
        let failed = |why: &str| Error::Other(format!("name resolution of {host}: {why}").into());
        // Only URLs have brackets around an IPv6 address.
        let found = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        let found = found.map_err(|error| failed(&error.to_string()))?;
        let wanted = |address: &SocketAddr| match self.ip_version {
            IpVersion::Any => true,
            IpVersion::V4 => address.is_ipv4(),
            IpVersion::V6 => address.is_ipv6(),
        };
        let mut addresses = none();
        alternate(found.filter(wanted).collect())
            .take(MAX_ADDRESSES)
            .for_each(|address| addresses.push(address));
        match (addresses.is_empty(), self.ip_version) {
            (false, _) => Ok(addresses),
            (true, IpVersion::Any) => Err(failed("no address")),
            (true, IpVersion::V4) => Err(failed("no IPv4 address, and only those are wanted")),
            (true, IpVersion::V6) => Err(failed("no IPv6 address, and only those are wanted")),
        }
    }
}

impl Resolver for SyncResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if proxy_for(config, uri).is_some() {
            return Ok(none()); // the proxy resolves it
        }
        let port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        self.resolve_all(uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(port))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // the tests' server is a thread

    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::transport::options::HttpOptions;
    use crate::transport::tls_config::TlsConfig;

    #[test]
    fn a_place_has_no_password() {
        assert_eq!(host_and_port(&Uri::from_static("http://user:secret@proxy:3128")), "proxy:3128");
        assert_eq!(host_and_port(&Uri::from_static("http://u:secret@[::1]:1")), "[::1]:1");
    }

    #[test]
    fn only_addresses_of_the_wanted_version_are_found() {
        let resolve_all = |host, ip_version| {
            let found = SyncResolver { ip_version }.resolve_all(host, 1);
            found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        for version in [IpVersion::Any, IpVersion::V4] {
            assert_eq!(resolve_all("127.0.0.1", version).unwrap(), ["127.0.0.1:1"]);
        }
        for version in [IpVersion::Any, IpVersion::V6] {
            assert_eq!(resolve_all("[::1]", version).unwrap(), ["[::1]:1"]);
        }
        for (host, version, lacks) in
            [("[::1]", IpVersion::V4, "IPv4"), ("127.0.0.1", IpVersion::V6, "IPv6")]
        {
            let error = resolve_all(host, version).unwrap_err().to_string();
            assert!(error.contains(&format!("name resolution of {host}: no {lacks} address")));
        }
    }

    /// A resolver that returns these addresses for every name.
    #[derive(Debug)]
    struct Fixed(Vec<SocketAddr>);

    impl Resolver for Fixed {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            let mut addresses = none();
            self.0.iter().for_each(|address| addresses.push(*address));
            Ok(addresses)
        }
    }

    /// Sends one GET to a host that has these addresses.
    fn get(addresses: &[SocketAddr], limit: std::time::Duration) -> Result<(), Error> {
        let config = ureq::config::Config::builder()
            .proxy(None)
            .timeout_connect(Some(limit))
            .timeout_global(Some(limit))
            .build();
        let tls_config = Arc::new(TlsConfig::read(&HttpOptions::default()).unwrap());
        let tls = OpensslConnector::new(tls_config, true);
        let factory = ConnectionFactory::new(tls, SyncResolver { ip_version: IpVersion::Any });
        let agent = ureq::Agent::with_parts(config, factory, Fixed(addresses.to_vec()));
        agent.get("http://ca.example/").call().map(|_| ())
    }

    /// Returns an address at which connecting never ends: its queue is full, and no program
    /// accepts.
    fn black_hole() -> (SocketAddr, [socket2::Socket; 2]) {
        let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let (listener, first) = (new().unwrap(), new().unwrap());
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        first.connect(&address).unwrap();
        (address.as_socket().unwrap(), [listener, first])
    }

    #[test]
    fn h03_an_address_that_leads_nowhere_does_not_hold_up_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let works = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let (silent, _full) = black_hole();
        // A socket that is bound and does not listen refuses connections, and keeps its port reserved.
        let closed =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let refuses = closed.local_addr().unwrap().as_socket().unwrap();
        let unreachable = SocketAddr::from(([255, 255, 255, 255], 443));
        // ureq's own code would try the first address for 20 of these 30 seconds.
        let start = Instant::now();
        get(&[silent, works], Duration::from_secs(30)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        for others in [&[refuses][..], &[unreachable], &[unreachable, refuses, refuses]] {
            get(&[others, &[works]].concat(), Duration::from_secs(30)).unwrap();
            get(&[&[works], others].concat(), Duration::from_secs(30)).unwrap();
        }
        // If no address works, the timeout holds, and the error has the refusal.
        let start = Instant::now();
        let limit = Duration::from_millis(400);
        let error = get(&[silent, refuses, silent, silent], limit).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        assert!(start.elapsed() < limit * 10, "{:?}", start.elapsed());
        let error = get(&[unreachable, refuses], Duration::from_secs(30)).unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }

    #[test]
    fn h03_both_ip_versions_have_their_turns() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let [a, b, c] = ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"].map(address);
        let [x, y] = ["192.0.2.1:1", "192.0.2.2:1"].map(address);
        for (given, tried) in [
            (vec![a, b, c, x, y], vec![a, x, b, y, c]),
            (vec![x, y, a], vec![x, a, y]),
            (vec![a, b], vec![a, b]),
            (vec![], vec![]),
        ] {
            assert_eq!(alternate(given).collect::<Vec<_>>(), tried);
        }
    }
}
