//! Opens what is below TLS: a connection to the host, or through the proxy. Resolves names.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, NextTimeout};
use ureq::unversioned::transport::{TcpConnector, Transport, TransportAdapter};
use ureq::{Error, Proxy};

use crate::proxy::{self, Target};
use crate::tls::{OpensslConnector, bare, time_left};

/// Addresses tried of one host: what ureq's list of them holds.
const MAX_ADDRESSES: usize = 16;

/// Which addresses are connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// All, in the order in which the system's resolver gives them.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Opens connections.
pub(crate) struct Dialer {
    tcp: TcpConnector,
    /// For proxies that are spoken to in TLS.
    tls: OpensslConnector,
    resolver: SyncResolver,
    pub connections_made: Arc<AtomicUsize>,
}

impl Dialer {
    pub(crate) fn new(tls: OpensslConnector, resolver: SyncResolver) -> Dialer {
        Dialer { tcp: TcpConnector::default(), tls, resolver, connections_made: Arc::default() }
    }

    fn through(
        &self,
        proxy: &Proxy,
        details: &ConnectionDetails,
    ) -> Result<Box<dyn Transport>, Error> {
        let to_proxy = ConnectionDetails {
            uri: proxy.uri(),
            addrs: self.resolver.look_up(proxy.host(), proxy.port())?,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: (details.current_time)(),
            timeout: time_left(details),
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
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
        proxy::tunnel(&mut stream, proxy, &target).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let proxy = place(proxy.uri());
                Error::Other(Denied(format!("asking the proxy {proxy}: {error}")).into())
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
        let transport = self.tcp.connect(details, None::<()>);
        match transport.map_err(|error| named(doing, details.uri, error))? {
            Some(Either::B(transport)) => Ok(Box::new(transport)),
            _ => Err(Error::ConnectionFailed),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}

impl Connector<()> for Dialer {
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

/// A proxy does not take the user and password.
#[derive(Debug)]
pub(crate) struct Denied(String);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Denied {}

/// The proxy on the way to this URL, if there is one.
pub(crate) fn proxy_for<'a>(config: &'a Config, uri: &Uri) -> Option<&'a Proxy> {
    config.proxy().filter(|proxy| !proxy.is_no_proxy(uri))
}

/// Host and port for messages; never the user and password that a proxy's URL may have.
pub(crate) fn place(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The error with what was being done, but for time limits, which are told apart later.
fn named(doing: &str, uri: &Uri, error: Error) -> Error {
    match error {
        Error::Io(error) => Error::Other(format!("{doing} {}: {error}", place(uri)).into()),
        error => error,
    }
}

/// The system's resolver, called on the thread that sends. ureq's own starts a thread for each
/// name, which a C program that embeds this library does not expect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncResolver {
    pub ip_version: IpVersion,
}

impl SyncResolver {
    fn look_up(self, host: &str, port: u16) -> Result<ResolvedSocketAddrs, Error> {
        let failed = |why: &str| Error::Other(format!("name resolution of {host}: {why}").into());
        // An IPv6 address stands in brackets in URLs only.
        let found = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        let found = found.map_err(|error| failed(&error.to_string()))?;
        let wanted = |address: &SocketAddr| match self.ip_version {
            IpVersion::Any => true,
            IpVersion::V4 => address.is_ipv4(),
            IpVersion::V6 => address.is_ipv6(),
        };
        let mut addresses = self.empty();
        found.filter(wanted).take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
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
            return Ok(self.empty()); // the proxy resolves it
        }
        let port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        self.look_up(uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_no_password() {
        assert_eq!(place(&Uri::from_static("http://user:secret@proxy:3128")), "proxy:3128");
        assert_eq!(place(&Uri::from_static("http://u:secret@[::1]:1")), "[::1]:1");
    }

    #[test]
    fn only_addresses_of_the_wanted_version_are_found() {
        let look_up = |host, ip_version| {
            let found = SyncResolver { ip_version }.look_up(host, 1);
            found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        for version in [IpVersion::Any, IpVersion::V4] {
            assert_eq!(look_up("127.0.0.1", version).unwrap(), ["127.0.0.1:1"]);
        }
        for version in [IpVersion::Any, IpVersion::V6] {
            assert_eq!(look_up("[::1]", version).unwrap(), ["[::1]:1"]);
        }
        for (host, version, lacks) in
            [("[::1]", IpVersion::V4, "IPv4"), ("127.0.0.1", IpVersion::V6, "IPv6")]
        {
            let error = look_up(host, version).unwrap_err().to_string();
            assert!(error.contains(&format!("name resolution of {host}: no {lacks} address")));
        }
    }
}
