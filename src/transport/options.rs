//! How the built-in HTTP client connects: roots, client certificate, proxy, IP versions, timeout.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Default timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How an [`HttpClient`](super::HttpClient) connects.
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
    /// A PEM file of CA certificates to trust instead of the system's, and of those in
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`. [`HttpClient::new`](crate::HttpClient::new) reads it; a
    /// new connection reads it again if it was replaced. A file of at most 64 KiB stays in memory,
    /// so the program may delete it, lose the right to read it, or call `chroot()`. Larger files and
    /// the system's roots are read while connecting.
    pub ca_file: Option<PathBuf>,
    /// A directory of CA certificates to trust instead of the system's, as `openssl rehash` makes
    /// it: PEM files under hashed names. With `ca_file` both are trusted. OpenSSL reads the
    /// directory while it connects.
    pub ca_dir: Option<PathBuf>,
    /// A PEM file of CA certificates to trust besides the system's, or besides `ca_file` and
    /// `ca_dir`. Read at the same times as `ca_file`.
    pub extra_ca_file: Option<PathBuf>,
    /// A PEM file with the certificate to send to a CA that asks for one (TLS client
    /// authentication), followed by its intermediate certificates. Requires `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// A PEM file with the key of that certificate, without a passphrase.
    pub client_key_file: Option<PathBuf>,
    /// URL of the proxy to use: `http://`, `https://` (CONNECT; TLS to the proxy), `socks5://`,
    /// `socks5h://` (the same) or `socks4a://`, then `user:password@` if the proxy requires them
    /// (percent-encoded), and `host:port`. The proxy resolves the CA's name. No error and no
    /// `Debug` output contains the password.
    pub proxy: Option<String>,
    /// Whether to use the proxy in `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, except for hosts in
    /// `NO_PROXY`. Has no effect when `proxy` is set.
    pub proxy_from_env: bool,
    /// IP versions of the CA's addresses, or of the proxy's, to connect to.
    pub ip_version: IpVersion,
    /// Timeout of one request, from name resolution to the last byte of the response; default 30
    /// seconds. Connecting takes at most 10 seconds of it, or a third if that is more. Name
    /// resolution itself is not interrupted: the system's resolver has its own timeouts.
    pub request_timeout: Duration,
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
            request_timeout: REQUEST_TIMEOUT,
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
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

/// IP versions to connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// Both: IPv6 and IPv4 addresses alternate, and the first one is the first of the system's
    /// resolver.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}
