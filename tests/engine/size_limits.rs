//! Size limits of responses: each limit is kept once and exceeded by one once.

use acme_micro::{AcmeError, ErrorKind};

use super::script::Script;

const MIB: usize = 1024 * 1024;

/// Runs an issuance with this response padded to `size` bytes, fed in pieces of `chunk` bytes.
fn padded(what: &str, size: usize, chunk: usize) -> Result<Script, AcmeError> {
    let mut ca = Script::new();
    ca.chunk = chunk;
    ca.on(what).nth(1).then(move |_, response| {
        let missing = size - response.body.len();
        response.body.extend(std::iter::repeat_n(b'\n', missing));
    });
    ca.obtain(&["example.org"])?;
    Ok(ca)
}

#[test]
fn a_body_of_one_mebibyte_is_read_and_one_byte_more_is_refused() {
    for what in ["GET /directory", "POST /new-order", "POST /authz/1", "POST /cert/1"] {
        for chunk in [0, 4096, 1_000_000] {
            padded(what, MIB, chunk).unwrap_or_else(|e| panic!("{what} {chunk}: {e}"));
            let error = padded(what, MIB + 1, chunk).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what} {chunk}");
            assert!(error.to_string().contains("1 MiB"), "{error}");
        }
    }
}

#[test]
fn an_oversized_body_is_refused_while_it_is_fed_and_not_requested_again() {
    let mut ca = Script::new();
    ca.chunk = 64 * 1024;
    ca.on("POST /new-order").then(|_, response| response.body = vec![b' '; 10 * MIB]);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(ca.refusals.len(), 1, "the host gets an error and can close the connection");
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn f14_a_header_within_its_limits_is_read_and_one_more_line_or_byte_is_refused() {
    let run = |lines: usize, size: usize| {
        let mut ca = Script::new();
        ca.on("POST /new-order").then(move |_, response| {
            // Leaves room for the Replay-Nonce that the harness adds afterwards.
            let of = |(name, value): &(String, Vec<u8>)| name.len() + value.len();
            let nonce = "Replay-Nonce".len() + "nonce-000000".len();
            let used: usize = response.headers.iter().map(of).sum();
            for _ in response.headers.len() + 1..lines - 1 {
                response.headers.push(("x".to_owned(), Vec::new()));
            }
            let small = lines - response.headers.len() - 1;
            assert_eq!(small, 1);
            let pad: usize = response.headers.iter().map(of).sum::<usize>() + nonce + 1;
            response.headers.push(("x".to_owned(), vec![b'y'; size.saturating_sub(pad)]));
            assert!(used < pad);
        });
        ca.obtain(&["example.org"]).map(|_| ()).map_err(|error| error.kind())
    };
    assert_eq!(run(128, 0), Ok(()));
    assert_eq!(run(129, 0), Err(ErrorKind::Protocol));
    assert_eq!(run(10, 64 * 1024), Ok(()));
    assert_eq!(run(10, 64 * 1024 + 1), Err(ErrorKind::Protocol));
}

#[test]
fn f14_unknown_header_fields_are_ignored() {
    let mut ca = Script::new();
    ca.on("*").then(|_, response| {
        for (name, value) in [
            ("Set-Cookie", &b"a=b"[..]),
            ("Alt-Svc", b"h3=\":443\""),
            ("Refresh", b"0; url=https://evil.example/"),
            ("Link", b"<https://evil.example/>;rel=\"index\""),
            ("Content-Length", b"7"),
            ("X-Binary", b"\xff\x00\xfe"),
            ("\u{fc}", b""),
            ("", b"no name"),
        ] {
            response.headers.push((name.to_owned(), value.to_vec()));
        }
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 10);
}

#[test]
fn names_of_header_fields_are_case_insensitive() {
    let mut ca = Script::new();
    ca.on("POST *").then(|ca, response| {
        let nonce = ca.fresh_nonce();
        response.nonce = false;
        response.headers.push(("rEPLAY-nONCE".to_owned(), format!(" {nonce} ").into_bytes()));
        for (name, _) in &mut response.headers {
            *name = name.to_ascii_uppercase();
        }
        ca.accept_nonce(&nonce);
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 10);
}

#[test]
fn c09_a_chain_has_at_most_ten_certificates() {
    use super::pki::{self, Contents};
    let chain = |length: usize| {
        let mut ca = Script::new();
        ca.ca.issue = Box::new(move |key, names| {
            let mut certificates = vec![pki::leaf(key, &Contents { names, ..Contents::default() })];
            certificates.push(pki::intermediate().certificate.clone());
            while certificates.len() < length {
                // A root is its own issuer, so any number of copies makes a chain.
                certificates.push(pki::root().certificate.clone());
            }
            pki::pem(&certificates.iter().collect::<Vec<_>>())
        });
        ca.obtain(&["example.org"]).map(|issued| issued.chain.ders().len()).map_err(|e| e.kind())
    };
    assert_eq!(chain(10), Ok(10));
    assert_eq!(chain(11), Err(ErrorKind::Certificate));
}
