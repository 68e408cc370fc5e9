//! SOCKS: the handshake with the proxy before the connection is the host's.
//!
//! RFC 1928 (SOCKS5), RFC 1929 (user and password); SOCKS4a as its authors describe it.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use super::proxy::{Target, denied, read, refused};

const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
/// Error for a host's name whose length does not fit into one byte.
const TOO_LONG: &str = "the host's name has more than 255 bytes";

/// Speaks SOCKS5. The proxy resolves names.
pub(crate) fn socks5(
    stream: &mut (impl Read + Write),
    credentials: Option<(&str, &str)>,
    target: &Target<'_>,
) -> io::Result<()> {
    stream.write_all(match credentials {
        Some(_) => &[5, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        None => &[5, 1, NO_AUTHENTICATION],
    })?;
    let mut choice = [0; 2];
    read(stream, &mut choice)?;
    match (choice, credentials) {
        ([5, NO_AUTHENTICATION], _) => {}
        ([5, USER_AND_PASSWORD], Some((user, password))) => {
            authenticate(stream, user, password)?;
        }
        ([5, 0xff], Some(_)) => {
            return Err(denied("it requires another authentication than a user and a password"));
        }
        ([5, 0xff], None) => return Err(denied("it wants a user and a password")),
        _ => return Err(refused("it does not speak SOCKS5")),
    }

    let mut request = vec![5, 1, 0];
    match target.host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Err(_) => {
            request.push(3);
            counted(&mut request, target.host)?;
        }
    }
    request.extend(target.port.to_be_bytes());
    stream.write_all(&request)?;

    let mut answer = [0; 4];
    read(stream, &mut answer)?;
    let [version, reply, _, kind] = answer;
    match (version, reply) {
        (5, 0) => {}
        (5, reply) => return Err(refused(format!("it refused: {}", meaning(reply)))),
        _ => return Err(refused("it does not speak SOCKS5")),
    }
    // Skip the address and the port that the proxy connects from.
    let size = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let mut size = [0];
            read(stream, &mut size)?;
            usize::from(size[0])
        }
        _ => return Err(refused("it does not speak SOCKS5")),
    };
    read(stream, &mut vec![0; size + 2])
}

/// Sends user and password (RFC 1929).
fn authenticate(stream: &mut (impl Read + Write), user: &str, password: &str) -> io::Result<()> {
    let mut request = vec![1];
    counted(&mut request, user)?;
    counted(&mut request, password)?;
    stream.write_all(&request)?;
    let mut answer = [0; 2];
    read(stream, &mut answer)?;
    match answer {
        [_, 0] => Ok(()),
        _ => Err(denied("it refused the user and password")),
    }
}

fn counted(request: &mut Vec<u8>, text: &str) -> io::Result<()> {
    request.push(u8::try_from(text.len()).map_err(|_| refused(TOO_LONG))?);
    request.extend(text.bytes());
    Ok(())
}

/// Returns the meaning of a reply (RFC 1928 section 6).
fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "its rules do not allow this connection",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "for a reason that RFC 1928 does not define",
    }
}

/// Speaks SOCKS4a. The proxy resolves names; the protocol has no password.
pub(crate) fn socks4a(
    stream: &mut (impl Read + Write),
    user: &str,
    target: &Target<'_>,
) -> io::Result<()> {
    let (address, name) = match target.host.parse() {
        Ok(IpAddr::V4(address)) => (address.octets(), None),
        Ok(IpAddr::V6(_)) => return Err(refused("SOCKS4a cannot carry an IPv6 address")),
        // This invalid address means that a name follows.
        Err(_) => ([0, 0, 0, 1], Some(target.host)),
    };
    let mut request = vec![4, 1];
    request.extend(target.port.to_be_bytes());
    request.extend(address);
    request.extend(user.bytes());
    request.push(0);
    if let Some(name) = name {
        request.extend(name.bytes());
        request.push(0);
    }
    stream.write_all(&request)?;

    let mut answer = [0; 8];
    read(stream, &mut answer)?;
    match answer {
        [0, 90, ..] => Ok(()),
        [0, 91, ..] => Err(refused("it refused, or failed to connect")),
        [0, 92 | 93, ..] => Err(refused("it refused the user")),
        _ => Err(refused("it does not speak SOCKS4a")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::proxy::tests::Peer;

    const HOST: Target<'_> = Target { host: "ca.example", port: 443 };
    const OPEN: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

    fn all(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn socks5_byte_for_byte() {
        let by_name: &[u8] = b"\x05\x01\0\x03\x0aca.example\x01\xbb";
        let mut peer = Peer::saying(all(&[&[5, 0], &OPEN, b"TLS"]));
        socks5(&mut peer, None, &HOST).unwrap();
        assert_eq!(peer.heard, all(&[&[5, 1, 0], by_name]));
        assert_eq!(peer.rest(), b"TLS");

        let mut peer = Peer::saying(all(&[&[5, 2], &[1, 0], &OPEN]));
        socks5(&mut peer, Some(("user", "")), &HOST).unwrap();
        assert_eq!(peer.heard, all(&[&[5, 2, 0, 2], b"\x01\x04user\0", by_name]));

        // A proxy that requires no password does not get it; its reply may have a name as its
        // address.
        let mut peer = Peer::saying(all(&[&[5, 0], b"\x05\0\0\x03\x03abc\0\x01", b"TLS"]));
        let host = Target { host: "192.0.2.1", port: 80 };
        socks5(&mut peer, Some(("user", "secret")), &host).unwrap();
        assert_eq!(peer.heard, all(&[&[5, 2, 0, 2], &[5, 1, 0, 1, 192, 0, 2, 1, 0, 80]]));
        assert_eq!(peer.rest(), b"TLS");

        let mut peer = Peer::saying(all(&[&[5, 0, 5, 0, 0, 4], &[9; 18], b"TLS"]));
        let host = Target { host: "2001:db8::1", port: 80 };
        socks5(&mut peer, None, &host).unwrap();
        let address = b"\x05\x01\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50";
        assert_eq!(peer.heard, all(&[&[5, 1, 0], address]));
        assert_eq!(peer.rest(), b"TLS");
    }

    #[test]
    fn why_socks5_refuses() {
        let given = Some(("user", "secret"));
        for (answer, credentials, why) in [
            (&b""[..], None, "closed the connection"),
            (b"\x05", None, "closed the connection"),
            (b"\x05\0\x05\0\0\x01\0\0", None, "closed the connection"),
            (b"HTTP/1.1 400 Bad Request", None, "does not speak SOCKS5"),
            (b"\x05\xff", None, "it wants a user and a password"),
            (b"\x05\x02", None, "does not speak SOCKS5"), // it was not offered
            (b"\x05\x01", given, "does not speak SOCKS5"),
            (b"\x05\xff", given, "another authentication"),
            (b"\x05\x02\x01\x01", given, "it refused the user and password"),
            (b"\x05\0\x05\x02\0\x01\0\0\0\0\0\0", None, "rules do not allow"),
            (b"\x05\0\x05\x05\0\x01\0\0\0\0\0\0", None, "it refused: connection refused"),
            (b"\x05\0\x05\xee\0\x01\0\0\0\0\0\0", None, "RFC 1928 does not define"),
            (b"\x05\0\x05\0\0\x07\0\0\0\0\0\0", None, "does not speak SOCKS5"),
        ] {
            let error = socks5(&mut Peer::saying(answer), credentials, &HOST).unwrap_err();
            assert!(error.to_string().contains(why), "{answer:?}: {error}");
        }
        let long = "a".repeat(256);
        let host = Target { host: &long, port: 443 };
        let error = socks5(&mut Peer::saying([5, 0]), None, &host).unwrap_err();
        assert_eq!(error.to_string(), TOO_LONG);
    }

    #[test]
    fn socks4a_byte_for_byte() {
        let open: &[u8] = &[0, 90, 1, 2, 3, 4, 5, 6];
        let mut peer = Peer::saying(all(&[open, b"TLS"]));
        socks4a(&mut peer, "", &HOST).unwrap();
        assert_eq!(peer.heard, b"\x04\x01\x01\xbb\0\0\0\x01\0ca.example\0");
        assert_eq!(peer.rest(), b"TLS");

        let mut peer = Peer::saying(open);
        socks4a(&mut peer, "user", &Target { host: "192.0.2.1", port: 80 }).unwrap();
        assert_eq!(peer.heard, b"\x04\x01\0\x50\xc0\0\x02\x01user\0");
    }

    #[test]
    fn why_socks4a_refuses() {
        for (answer, why) in [
            (&[0, 91, 0, 0, 0, 0, 0, 0][..], "failed to connect"),
            (&[0, 93, 0, 0, 0, 0, 0, 0], "refused the user"),
            (&[4, 90, 0, 0, 0, 0, 0, 0], "does not speak SOCKS4a"),
            (&[0, 90, 0], "closed the connection"),
        ] {
            let error = socks4a(&mut Peer::saying(answer), "", &HOST).unwrap_err();
            assert!(error.to_string().contains(why), "{answer:?}: {error}");
        }
        let mut peer = Peer::saying([0, 90, 0, 0, 0, 0, 0, 0]);
        let error = socks4a(&mut peer, "", &Target { host: "::1", port: 1 }).unwrap_err();
        assert!(error.to_string().contains("IPv6") && peer.heard.is_empty(), "{error}");
    }
}
