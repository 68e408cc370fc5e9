//! Malformed, incomplete and missing responses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use acme_micro::{AcmeError, ErrorKind, HttpOptions};

use super::{options, register_at};

/// Starts a server that runs `serve` on every connection once a request has come, and counts the
/// connections.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = count.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counting.fetch_add(1, Ordering::SeqCst);
            let serve = serve.clone();
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                serve(stream);
            });
        }
    });
    (address, count)
}

/// For servers that never finish. All others get the default timeout, which a busy machine can meet.
fn short() -> HttpOptions {
    options(|o| o.timeout = Duration::from_secs(1))
}

/// Returns an address that refuses connections as long as the socket lives. The socket is bound and
/// does not listen, so no other test or program can get the port meanwhile.
pub fn closed_port() -> (SocketAddr, socket2::Socket) {
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    holder.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    (holder.local_addr().unwrap().as_socket().unwrap(), holder)
}

/// Requests the directory of such a server; returns the failure and the number of attempts.
fn outcome(
    options: &HttpOptions,
    serve: impl Fn(TcpStream) + Clone + Send + 'static,
) -> (AcmeError, usize) {
    let (address, count) = server(serve);
    let error = register_at(&format!("http://{address}/directory"), options).unwrap_err();
    (error, count.load(Ordering::SeqCst))
}

fn response_outcome(response: impl Into<Vec<u8>>) -> (AcmeError, usize) {
    let response = response.into();
    outcome(&HttpOptions::default(), move |mut stream| {
        let _ = stream.write_all(&response);
    })
}

/// Checks that the response counts as lost: the client sends the request four times.
fn is_lost((error, tries): &(AcmeError, usize), why: &str) {
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    assert!(error.to_string().contains(why), "{error}: not {why}");
    assert_eq!((*tries, error.is_permanent()), (4, false), "{error}");
}

/// Checks that the response is refused without a second attempt: another one would be the same.
fn is_no_http((error, tries): &(AcmeError, usize), why: &str) {
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains(why), "{error}: not {why}");
    assert_eq!(*tries, 1, "{error}");
}

/// Runs all checks at the same time: each takes several attempts with delays.
fn at_once(checks: Vec<Box<dyn FnOnce() + Send>>) {
    thread::scope(|scope| checks.into_iter().for_each(|check| drop(scope.spawn(check))));
}

#[test]
fn h01_an_unreachable_server_is_a_transport_error() {
    let (closed, _holder) = closed_port();
    let no_name = "a".repeat(64); // a label has at most 63
    let tries = [
        (format!("https://{closed}/d"), "Connection refused".to_owned()),
        (format!("https://{no_name}/d"), format!("name resolution of {no_name}: ")),
        ("https://nowhere.invalid/d".to_owned(), "name resolution of nowhere.invalid: ".to_owned()),
        // No host has the last address of a network (RFC 919): the system has no route, or no
        // permission.
        ("https://255.255.255.255/d".to_owned(), "connecting to 255.255.255.255: ".to_owned()),
    ];
    at_once(
        tries
            .map(|(url, why)| -> Box<dyn FnOnce() + Send> {
                Box::new(move || {
                    let error = register_at(&url, &HttpOptions::default()).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
                    assert!(error.to_string().contains(&why), "{error}: not {why}");
                    assert!(!error.is_permanent());
                    assert_eq!(error.url(), Some(&*url));
                })
            })
            .into(),
    );
    // A response without a byte in it.
    is_lost(&response_outcome(""), "the connection was closed too early");
}

/// Returns an address where connecting never ends: its queue is full, and the server accepts
/// nothing.
pub fn black_hole(address: &str) -> (SocketAddr, [socket2::Socket; 2]) {
    let address: SocketAddr = address.parse().unwrap();
    let new = || {
        let domain = socket2::Domain::for_address(address);
        socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap()
    };
    let (listener, first) = (new(), new());
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    first.connect(&address).unwrap();
    (address.as_socket().unwrap(), [listener, first])
}

#[test]
fn h05_a_body_shorter_than_its_length_counts_as_lost() {
    at_once(vec![
        Box::new(|| {
            let cut = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}";
            is_lost(&response_outcome(cut), "the connection was closed too early");
        }),
        Box::new(|| {
            let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}";
            is_lost(&response_outcome(cut), "the connection was closed too early");
        }),
        Box::new(|| {
            let cut = "HTTP/1.1 200 OK\r\nContent-Le";
            is_lost(&response_outcome(cut), "the connection was closed too early");
        }),
    ]);
}

#[test]
fn h02_h07_h08_a_silent_or_slow_server_ends_in_a_timeout() {
    // The timeout covers the whole request: a byte now and then does not extend it.
    let drip = |start: &'static [u8]| {
        let dripping = move |mut stream: TcpStream| {
            let mut byte = stream.write_all(start);
            while byte.is_ok() {
                thread::sleep(Duration::from_millis(50));
                byte = stream.write_all(b"x");
            }
        };
        is_lost(&outcome(&short(), dripping), "timeout, not done within 1 s");
    };
    let silent = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0]); // until the client closes the connection
    };
    at_once(vec![
        Box::new(|| {
            let (address, _full) = black_hole("127.0.0.1:0");
            let error = register_at(&format!("https://{address}/d"), &short()).unwrap_err();
            assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Transport, false));
            let why = "timeout, no connection within 1 s";
            assert!(error.to_string().contains(why), "{error}");
        }),
        Box::new(move || is_lost(&outcome(&short(), silent), "timeout, not done within 1 s")),
        Box::new(move || drip(b"HTTP/1.1 200 ")),
        Box::new(move || drip(b"HTTP/1.1 200 OK\r\nX: ")),
        Box::new(move || drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")),
        Box::new(move || drip(b"HTTP/1.1 200 OK\r\n\r\n")),
    ]);
}

#[test]
fn h09_malformed_chunks_are_refused() {
    for (chunks, why) in [
        ("FFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("-1\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("0x2\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("2\r\n{}0\r\n\r\n", "expected crlf"),
        ("2\r\n{}  \r\n0\r\n\r\n", "expected crlf"),
        ("00000000000000000000000002\r\n{}\r\n0\r\n\r\n", "expected crlf"),
    ] {
        let response = ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat();
        let (closed, is_closed) = mpsc::channel();
        let serve = move |mut stream: TcpStream| {
            let _ = stream.write_all(response.as_bytes());
            let _ = closed.send(stream.read(&mut [0]).unwrap_or(0));
        };
        is_no_http(&outcome(&HttpOptions::default(), serve), why);
        // The client closes a connection whose state is unknown.
        assert_eq!(is_closed.recv_timeout(Duration::from_secs(60)), Ok(0), "{chunks:?}");
    }
}

#[test]
fn h10_ambiguous_lengths_are_refused() {
    for (fields, why) in [
        ("Content-Length: 1\r\nContent-Length: 2", "conflicting"),
        ("Content-Length: 1, 2", ""),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2", "both"),
        ("Content-Length: -1", "not a number"),
        ("Content-Length: 100000000000000000000", "not a number"),
        ("Content-Length: 0x2", "not a number"),
        ("Content-Length: two", "not a number"),
        ("Content-Length : 2", ""),
        ("Content-Length:\r\n 2", ""),
    ] {
        is_no_http(&response_outcome(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{{}}")), why);
    }
}

#[test]
fn h11_a_response_that_is_too_large_is_not_requested_again() {
    let body = vec![b' '; (1 << 20) + 1];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let field = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(10 << 20));
    is_no_http(&response_outcome([head.as_bytes(), &body].concat()), "larger than 1 MiB");
    is_no_http(&response_outcome(field), "larger than 64 KiB");
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X:\r\n".repeat(10_000));
    is_no_http(&response_outcome(fields), "too many headers");
}

#[test]
fn h12_a_compressed_response_is_refused() {
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n");
        let response = format!("{head}Content-Length: 2\r\n\r\n{{}}");
        is_no_http(&response_outcome(response), "compressed, which was not asked for");
    }
}

#[test]
fn h32_other_protocols_are_refused() {
    for response in [
        &b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..], // SETTINGS of HTTP/2
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\nX: \x01\r\n\r\n",
        b"HTTP/1.1 099 Too Low\r\n\r\n",
        b"HTTP/1.1 600 Too High\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    ] {
        is_no_http(&response_outcome(response), "");
    }
    // The client understands HTTP/1.0: the error is about the content of the directory.
    let old = "HTTP/1.0 200 OK\r\n\r\n{\"newNonce\":7}";
    is_no_http(&response_outcome(old), "the directory has no newNonce");
}
