//! Proxies: their URLs, and the CONNECT request of HTTP proxies.
//!
//! RFC 9110 section 9.3.6 (CONNECT), RFC 7617 (Basic). SOCKS is in `socks`.

use std::io::{self, ErrorKind, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::{Proxy, ProxyProtocol};

use crate::text::printable;

/// Maximum size of a proxy's response to CONNECT.
const MAX_RESPONSE: usize = 16 * 1024;

/// A host behind the proxy. The proxy resolves its name.
pub(crate) struct Target<'a> {
    /// Name or address; an IPv6 address has no brackets.
    pub host: &'a str,
    pub port: u16,
}

/// Reads a proxy's URL. The error says what is wrong, and quotes nothing of the URL: it may contain
/// a password.
pub(crate) fn parse(url: &str) -> Result<Proxy, &'static str> {
    let (scheme, rest) =
        url.split_once("://").ok_or("is no URL: it has no scheme such as http://")?;
    let known = ["http", "https", "socks5", "socks5h", "socks4a"];
    if !known.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Err("has a scheme that is none of http, https, socks5, socks5h and socks4a");
    }
    if rest.strip_suffix('/').unwrap_or(rest).contains(['/', '?', '#']) {
        return Err("has a path; a proxy is a host and a port");
    }
    let proxy = Proxy::new(url).map_err(
        |_| "is no URL, or has a user or password that would have to be percent-encoded UTF-8",
    )?;
    if proxy.host().is_empty() {
        return Err("has no host");
    }
    if proxy.uri().port_u16().is_none_or(|port| port == 0) {
        return Err("has no port");
    }
    check(&proxy)?;
    Ok(proxy)
}

/// Returns the proxy in `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, if there is one.
pub(crate) fn from_env() -> Result<Option<Proxy>, &'static str> {
    let proxy = Proxy::try_from_env();
    proxy.as_ref().map_or(Ok(()), check)?;
    Ok(proxy)
}

/// Checks that the proxy's protocol can carry its user and password.
fn check(proxy: &Proxy) -> Result<(), &'static str> {
    let (user, password) =
        (proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https if user.contains(':') => {
            Err("has a user with a colon, which HTTP's Basic authentication cannot carry")
        }
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h
            if user.is_empty() != password.is_empty() =>
        {
            Err("has a user or a password without the other, which SOCKS5 cannot carry")
        }
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h if user.len().max(password.len()) > 255 => {
            Err("has a user or password of more than 255 bytes, which SOCKS5 cannot carry")
        }
        ProxyProtocol::Socks4A if proxy.password().is_some() => {
            Err("has a password, which SOCKS4a cannot carry")
        }
        ProxyProtocol::Socks4A if user.contains('\0') => Err("has a user with a NUL in it"),
        ProxyProtocol::Socks4 => Err("is a SOCKS4 proxy; SOCKS4a and SOCKS5 are supported"),
        _ => Ok(()),
    }
}

/// Makes the error for a refused user and password. It is permanent: a retry could lock the user
/// out.
pub(crate) fn denied(why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

/// Makes the error for any other refusal of a proxy.
pub(crate) fn refused(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}

/// Sends CONNECT and reads the response's header.
pub(super) fn connect(
    stream: &mut (impl Read + Write),
    credentials: Option<(&str, &str)>,
    target: &Target<'_>,
) -> io::Result<()> {
    let Target { host, port } = target;
    let host = if host.contains(':') { format!("[{host}]") } else { (*host).to_owned() };
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some((user, password)) = credentials {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        request += &format!("Proxy-Authorization: Basic {encoded}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes())?;

    // Read byte by byte: the bytes after the header are the host's.
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        if response.len() == MAX_RESPONSE {
            return Err(refused("its response has no end"));
        }
        let mut byte = [0];
        read(stream, &mut byte)?;
        response.extend(byte);
    }
    let line = response.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    match line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        Some("407") if credentials.is_some() => Err(denied("it refused the user and password")),
        Some("407") => Err(denied("it wants a user and a password")),
        _ => Err(refused(format!("it refused: {}", printable(&line, 80)))),
    }
}

/// Fills the buffer.
pub(crate) fn read(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<()> {
    stream.read_exact(buffer).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => refused("it closed the connection"),
        _ => error,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use super::*;

    /// A peer that sends given bytes, and records the bytes that it receives.
    pub(crate) struct Peer {
        says: Cursor<Vec<u8>>,
        pub heard: Vec<u8>,
    }

    impl Peer {
        pub(crate) fn saying(says: impl Into<Vec<u8>>) -> Peer {
            Peer { says: Cursor::new(says.into()), heard: Vec::new() }
        }

        /// Returns the bytes that it has not sent yet.
        pub(crate) fn rest(mut self) -> Vec<u8> {
            let mut rest = Vec::new();
            self.says.read_to_end(&mut rest).unwrap();
            rest
        }
    }

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // In the smallest pieces.
            let some = buffer.len().min(1);
            self.says.read(&mut buffer[..some])
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOST: Target<'_> = Target { host: "ca.example", port: 443 };

    #[test]
    fn urls_of_proxies() {
        for (url, host, port) in [
            ("http://proxy:3128", "proxy", 3128),
            ("HTTPS://proxy:8443/", "proxy", 8443),
            ("socks5://127.0.0.1:1080", "127.0.0.1", 1080),
            ("socks5h://[::1]:1", "[::1]", 1),
            ("socks4a://user@proxy:65535", "proxy", 65535),
        ] {
            let proxy = parse(url).unwrap_or_else(|why| panic!("{url} {why}"));
            assert_eq!((proxy.host(), proxy.port()), (host, port));
        }
        let proxy = parse("http://us%3Aer%40home:p%C3%A4ss%2F%25:@proxy:1");
        assert_eq!(
            proxy.unwrap_err(),
            "has a user with a colon, which HTTP's Basic authentication \
                                        cannot carry"
        );
        let proxy = parse("socks5://us%3Aer%40home:p%C3%A4ss%2F%25@proxy:1").unwrap();
        assert_eq!((proxy.username(), proxy.password()), (Some("us:er@home"), Some("päss/%")));
    }

    #[test]
    fn what_is_no_url_of_a_proxy() {
        let long = format!("socks5://u:{}@proxy:1", "a".repeat(256));
        for (url, why) in [
            ("", "no scheme"),
            ("proxy:3128", "no scheme"),
            ("ftp://proxy:1", "none of http"),
            ("socks://proxy:1", "none of http"),
            ("socks4://proxy:1", "none of http"),
            ("http://", "is no URL"),
            ("http://:3128", "no host"),
            ("http://user@:3128", "no host"),
            ("http://proxy", "no port"),
            ("http://proxy:0", "no port"),
            ("http://proxy:99999", ""),
            ("http://proxy:1/path", "path"),
            ("http://proxy:1?q", "path"),
            ("http://proxy:1#f", "path"),
            ("http://proxy:1//", "path"),
            ("http://user:pass word@proxy:1", "percent-encoded"),
            ("http://user:pass\r\n@proxy:1", "percent-encoded"),
            ("http://user:%ff@proxy:1", "percent-encoded UTF-8"),
            (&long, "255 bytes"),
            ("socks4a://user:password@proxy:1", "password"),
            ("socks4a://us%00er@proxy:1", "NUL"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn connect_sends_host_and_credentials_and_reads_no_further_than_the_header() {
        let answer = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nTLS";
        let mut peer = Peer::saying(answer);
        connect(&mut peer, None, &HOST).unwrap();
        let said = "CONNECT ca.example:443 HTTP/1.1\r\nHost: ca.example:443\r\n\r\n";
        assert_eq!(peer.heard, said.as_bytes());
        assert_eq!(peer.rest(), b"TLS");

        let mut peer = Peer::saying("HTTP/1.0 200\r\n\r\n");
        let target = Target { host: "2001:db8::1", port: 14000 };
        connect(&mut peer, Some(("Aladdin", "open sesame")), &target).unwrap();
        // The example of RFC 7617 section 2.
        let said = "CONNECT [2001:db8::1]:14000 HTTP/1.1\r\nHost: [2001:db8::1]:14000\r\n\
                    Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert_eq!(String::from_utf8(peer.heard).unwrap(), said);
    }

    #[test]
    fn h29_why_a_proxy_refuses() {
        let endless = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"a".repeat(1 << 20);
        let wants = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        for (answer, why) in [
            (
                "HTTP/1.1 403 Not \u{1b}[31m you\r\n\r\n",
                "refused: HTTP/1.1 403 Not \\u{1b}[31m you",
            ),
            ("HTTP/1.1 2000 OK\r\n\r\n", "refused: "),
            ("HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\n\r\n", "refused: "),
            ("SSH-2.0-OpenSSH\r\n\r\n", "refused: SSH-2.0-OpenSSH"),
            ("\r\n\r\n", "refused: "),
            ("HTTP/1.1 200 OK\r\n", "closed the connection"),
            ("", "closed the connection"),
            (wants, "it wants a user and a password"),
            (&endless, "no end"),
        ] {
            let error = connect(&mut Peer::saying(answer), None, &HOST).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let given = Some(("user", "secret"));
        let error = connect(&mut Peer::saying(wants), given, &HOST).unwrap_err();
        assert_eq!(error.to_string(), "it refused the user and password");
    }
}
