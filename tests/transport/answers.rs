//! What the client makes of answers that no sound server gives, and of none at all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use acme_micro::{AcmeError, ErrorKind, HttpOptions};

use super::{options, register_at};

/// Does this with every connection when a request has come, and counts them.
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

fn short() -> HttpOptions {
    options(|o| o.request_timeout = Duration::from_secs(1))
}

/// How asking a server like that for its directory ends, and after how many tries.
fn outcome(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> (AcmeError, usize) {
    let (address, count) = server(serve);
    let error = register_at(&format!("http://{address}/directory"), &short()).unwrap_err();
    (error, count.load(Ordering::SeqCst))
}

fn answered(answer: impl Into<Vec<u8>>) -> (AcmeError, usize) {
    let answer = answer.into();
    outcome(move |mut stream| {
        let _ = stream.write_all(&answer);
    })
}

/// It is as good as lost: asked again three times.
fn is_lost((error, tries): &(AcmeError, usize), why: &str) {
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    assert!(error.to_string().contains(why), "{error}: not {why}");
    assert_eq!((*tries, error.is_permanent()), (4, false), "{error}");
}

/// An answer came, and there is no sense in asking for another one like it.
fn is_no_http((error, tries): &(AcmeError, usize), why: &str) {
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains(why), "{error}: not {why}");
    assert_eq!(*tries, 1, "{error}");
}

/// All at once: each is tried several times, with delays.
fn at_once(checks: Vec<Box<dyn FnOnce() + Send>>) {
    thread::scope(|scope| checks.into_iter().for_each(|check| drop(scope.spawn(check))));
}

#[test]
fn h01_nobody_is_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let no_name = "a".repeat(64); // a label has at most 63
    let tries = [
        (format!("https://{free}/d"), "Connection refused".to_owned()),
        (format!("https://{no_name}/d"), format!("name resolution of {no_name}: ")),
        ("https://nowhere.invalid/d".to_owned(), "name resolution of nowhere.invalid: ".to_owned()),
        // No host has the last address of a network (RFC 919): no route, or no permission.
        ("https://255.255.255.255/d".to_owned(), "connecting to 255.255.255.255: ".to_owned()),
    ];
    at_once(
        tries
            .map(|(url, why)| -> Box<dyn FnOnce() + Send> {
                Box::new(move || {
                    let error = register_at(&url, &short()).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
                    assert!(error.to_string().contains(&why), "{error}: not {why}");
                    assert!(!error.is_permanent());
                    assert_eq!(error.url(), Some(&*url));
                })
            })
            .into(),
    );
    // An answer without a byte in it.
    is_lost(&answered(""), "the connection was closed too early");
}

/// An address at which connecting never ends: its queue is full, and nobody takes from it.
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
fn h05_a_body_that_ends_before_its_length() {
    at_once(vec![
        Box::new(|| {
            let cut = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}";
            is_lost(&answered(cut), "the connection was closed too early");
        }),
        Box::new(|| {
            let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}";
            is_lost(&answered(cut), "the connection was closed too early");
        }),
        Box::new(|| {
            let cut = "HTTP/1.1 200 OK\r\nContent-Le";
            is_lost(&answered(cut), "the connection was closed too early");
        }),
    ]);
}

#[test]
fn h02_h07_h08_nothing_or_next_to_nothing_comes() {
    // The limit is for the whole of a request: a byte now and then does not move it.
    let drip = |start: &'static [u8]| {
        let dripping = move |mut stream: TcpStream| {
            let mut byte = stream.write_all(start);
            while byte.is_ok() {
                thread::sleep(Duration::from_millis(50));
                byte = stream.write_all(b"x");
            }
        };
        is_lost(&outcome(dripping), "timeout, not done within 1 s");
    };
    let silent = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0]); // until the client gives up
    };
    at_once(vec![
        Box::new(|| {
            let (address, _full) = black_hole("127.0.0.1:0");
            let error = register_at(&format!("https://{address}/d"), &short()).unwrap_err();
            assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Transport, false));
            let why = "timeout, no connection within 1 s";
            assert!(error.to_string().contains(why), "{error}");
        }),
        Box::new(move || is_lost(&outcome(silent), "timeout, not done within 1 s")),
        Box::new(move || drip(b"HTTP/1.1 200 ")),
        Box::new(move || drip(b"HTTP/1.1 200 OK\r\nX: ")),
        Box::new(move || drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")),
        Box::new(move || drip(b"HTTP/1.1 200 OK\r\n\r\n")),
    ]);
}

#[test]
fn h09_chunks_that_are_none() {
    for (chunks, why) in [
        ("FFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("-1\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("0x2\r\n{}\r\n0\r\n\r\n", "cannot be read as a number"),
        ("2\r\n{}0\r\n\r\n", "expected crlf"),
        ("2\r\n{}  \r\n0\r\n\r\n", "expected crlf"),
        ("00000000000000000000000002\r\n{}\r\n0\r\n\r\n", "expected crlf"),
    ] {
        let answer = ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat();
        let (closed, is_closed) = mpsc::channel();
        let serve = move |mut stream: TcpStream| {
            let _ = stream.write_all(answer.as_bytes());
            let _ = closed.send(stream.read(&mut [0]).unwrap_or(0));
        };
        is_no_http(&outcome(serve), why);
        // Nothing more is said on a connection whose state nobody knows.
        assert_eq!(is_closed.recv_timeout(Duration::from_secs(10)), Ok(0), "{chunks:?}");
    }
}

#[test]
fn h10_lengths_that_leave_a_choice() {
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
        is_no_http(&answered(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{{}}")), why);
    }
}

#[test]
fn h11_an_answer_that_is_too_large_is_not_asked_for_again() {
    let body = vec![b' '; (1 << 20) + 1];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let field = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(10 << 20));
    is_no_http(&answered([head.as_bytes(), &body].concat()), "larger than 1 MiB");
    is_no_http(&answered(field), "larger than 64 KiB");
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X:\r\n".repeat(10_000));
    is_no_http(&answered(fields), "too many headers");
}

#[test]
fn h12_what_is_compressed_is_not_unpacked() {
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n");
        let answer = format!("{head}Content-Length: 2\r\n\r\n{{}}");
        is_no_http(&answered(answer), "compressed, which was not asked for");
    }
}

#[test]
fn h32_another_protocol() {
    for answer in [
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
        is_no_http(&answered(answer), "");
    }
    // HTTP/1.0 is understood: what is wrong is that this is no directory.
    let old = "HTTP/1.0 200 OK\r\n\r\n{\"newNonce\":7}";
    is_no_http(&answered(old), "the directory has no newNonce");
}
