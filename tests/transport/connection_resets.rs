//! Connections are reset at every request of an issuance, and at every moment of a request. A
//! strict CA at the other end records which requests arrive, and how often.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use acme_micro::engine::{Challenge, OrderOptions, Reply, Request};
use acme_micro::{AcmeError, ErrorKind, Host, HttpClient, HttpOptions, run};
use openssl::ssl::{SslAcceptor, SslStream};

use super::Folder;
use super::ca::Response;
use super::script::{Script, label};
use super::tls::{DAY, acceptor, certify, is_for};

/// The moment of the reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// Before the request: the connection is dead already, or dies at once.
    Before,
    /// A part of the request has arrived.
    WithinRequest,
    /// The whole request has arrived, and the CA has not done the work.
    BeforeWork,
    /// The CA has done the work, and has sent no response.
    BeforeResponse,
    /// The CA has sent the header of the response.
    AfterHeader,
    /// The CA has sent the header and half of the body.
    WithinBody,
}

const CUTS: [Cut; 6] = [
    Cut::Before,
    Cut::WithinRequest,
    Cut::BeforeWork,
    Cut::BeforeResponse,
    Cut::AfterHeader,
    Cut::WithinBody,
];

/// Number of requests of an issuance with a new account, and number of its newOrder, counted from
/// 1.
const REQUESTS: u32 = 10;
const NEW_ORDER: u32 = 4;

/// A CA whose connections are reset.
pub struct Ca {
    pub script: Mutex<Script>,
    /// The request that the client is sending: the received bytes must be the same.
    asked: Mutex<Option<Arc<Request>>>,
    seen: Mutex<u32>,
    /// The connection while it is kept for another request.
    kept: Mutex<Option<TcpStream>>,
    open: AtomicUsize,
    /// The request at which connections are reset; with `for_ever`, the first one.
    at: u32,
    for_ever: bool,
    cut: Cut,
}

impl Ca {
    /// Whether the request with this number is reset in this way.
    fn cuts(&self, number: u32, cut: Cut) -> bool {
        cut == self.cut && (number == self.at || self.for_ever && number > self.at)
    }

    /// Counts a request and returns its number.
    fn next(&self) -> u32 {
        let mut seen = self.seen.lock().unwrap();
        *seen += 1;
        *seen
    }

    /// Whether the next request is reset before it arrives. It counts although the CA never
    /// receives it.
    fn cuts_next(&self) -> bool {
        let next = *self.seen.lock().unwrap() + 1;
        self.cuts(next, Cut::Before) && self.next() == next
    }

    /// Records the request that the client is about to send.
    fn expect(&self, request: Arc<Request>) {
        *self.asked.lock().unwrap() = Some(request);
        let mut kept = self.kept.lock().unwrap();
        if kept.is_some() && self.cuts_next() {
            // Wakes the thread that reads from the connection; that thread closes it.
            kept.take().unwrap().shutdown(Shutdown::Read).unwrap();
            drop(kept);
            while self.open.load(Ordering::SeqCst) > 0 {
                thread::yield_now();
            }
        }
    }

    /// Serves a connection until it ends or has to be reset.
    fn serve(&self, acceptor: &SslAcceptor, mut tcp: TcpStream) -> io::Result<()> {
        // The client takes this server for a proxy, because the CA's name cannot be resolved.
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte)?;
            line.extend(byte);
        }
        assert!(line.starts_with(b"CONNECT ca.example:443 "));
        tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let kept = tcp.try_clone()?;
        let mut tls = BufReader::new(acceptor.accept(tcp).map_err(io::Error::other)?);
        if self.cuts_next() {
            return Ok(());
        }
        *self.kept.lock().unwrap() = Some(kept);
        loop {
            tls.read_exact(&mut [0; 4])?;
            let number = self.next();
            if self.cuts(number, Cut::WithinRequest) || !self.respond(&mut tls, number)? {
                return Ok(());
            }
        }
    }

    /// Responds to a request whose first four bytes have been read; `false`: only a part was sent.
    fn respond(&self, tls: &mut BufReader<SslStream<TcpStream>>, number: u32) -> io::Result<bool> {
        let (mut line, mut length) = (String::new(), 0);
        let mut first = String::new();
        while tls.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if first.is_empty() {
                first = line.clone();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        tls.read_exact(&mut body)?;
        let request = self.asked.lock().unwrap().clone().unwrap();
        let path = request.url().strip_prefix("https://ca.example").unwrap();
        assert!(first.ends_with(&format!("{path} HTTP/1.1\r\n")), "{first} is not for {path}");
        assert_eq!(body, request.body);
        if self.cuts(number, Cut::BeforeWork) {
            return Ok(false);
        }
        let response = {
            let mut script = self.script.lock().unwrap();
            script.transcript.push(label(&request));
            script.respond_to(&request).unwrap()
        };
        let (header, body) = written(&response);
        let parts = match () {
            () if self.cuts(number, Cut::BeforeResponse) => Vec::new(),
            () if self.cuts(number, Cut::AfterHeader) => vec![&header[..]],
            () if self.cuts(number, Cut::WithinBody) => vec![&header[..], &body[..body.len() / 2]],
            () => vec![&header[..], body],
        };
        for part in &parts {
            tls.get_mut().write_all(part)?;
        }
        // A response without a body is complete after its header.
        Ok(parts.concat().len() == header.len() + body.len())
    }
}

/// Returns the header and the body of a response as sent.
fn written(response: &Response) -> (Vec<u8>, &[u8]) {
    let mut header = format!("HTTP/1.1 {} X\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        header.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let length = response.body.len();
    match response.status {
        204 => header.extend(b"\r\n"),
        _ => header.extend(format!("Content-Length: {length}\r\n\r\n").into_bytes()),
    }
    (header, &response.body)
}

struct Program {
    http: HttpClient,
    ca: Arc<Ca>,
}

impl Host for Program {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        self.ca.expect(request.clone());
        self.http.send(request, reply);
    }

    fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String> {
        self.ca.script.lock().unwrap().publish(challenges);
        Ok(())
    }

    fn unpublish(&mut self, challenges: &[Challenge]) {
        self.ca.script.lock().unwrap().unpublish(challenges);
    }
}

/// The result of an issuance, the CA afterwards, and the order's URL to resume it.
pub struct Outcome {
    pub result: Result<(), AcmeError>,
    pub ca: Arc<Ca>,
    order_url: Option<String>,
}

/// Resets no connection.
pub const NOWHERE: (u32, Cut, bool) = (u32::MAX, Cut::Before, false);

/// Orders a certificate from a CA that resets connections: at this request, at this moment, once or
/// for ever.
pub fn issue(
    identity: &(SslAcceptor, PathBuf),
    script: Script,
    (at, cut, for_ever): (u32, Cut, bool),
) -> Outcome {
    let ca = Arc::new(Ca {
        script: Mutex::new(script),
        asked: Mutex::default(),
        seen: Mutex::default(),
        kept: Mutex::default(),
        open: AtomicUsize::new(0),
        at,
        for_ever,
        cut,
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let (serving, acceptor) = (ca.clone(), identity.0.clone());
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            // Makes closing the socket reset the connection.
            socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
            serving.open.fetch_add(1, Ordering::SeqCst);
            let _ = serving.serve(&acceptor, tcp);
            *serving.kept.lock().unwrap() = None;
            serving.open.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let mut options = HttpOptions::default();
    options.proxy = Some(proxy);
    options.ca_file = Some(identity.1.clone());
    let mut program = Program { http: HttpClient::new(&options).unwrap(), ca: ca.clone() };
    let client = ca.script.lock().unwrap().client.clone();
    let operation = client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let result = run(&operation, &mut program).map(|()| assert!(operation.take().is_some()));
    Outcome { result, ca, order_url: operation.order_url() }
}

/// Returns a server's identity for "ca.example", and the file that makes it trusted.
pub fn identity(folder: &Folder) -> (SslAcceptor, PathBuf) {
    // Long enough for a clock that runs too fast; see clocks.rs.
    let valid = (-DAY, 365 * DAY);
    let pair = certify("CA", None, valid, |builder| is_for(builder, &["ca.example"], &[]));
    (acceptor(&pair).build(), folder.file("ca.pem", pair.certificate.to_pem().unwrap()))
}

/// Runs all resets at all requests at the same time: most of the time is spent waiting.
fn everywhere(name: &str, for_ever: bool, check: impl Fn(&str, u32, &Outcome) + Sync) {
    let folder = Folder::new(name);
    let identity = identity(&folder);
    thread::scope(|scope| {
        for (at, cut) in (1..=REQUESTS).flat_map(|at| CUTS.map(|cut| (at, cut))) {
            let (identity, check) = (&identity, &check);
            scope.spawn(move || {
                let outcome = issue(identity, Script::new(), (at, cut, for_ever));
                let script = outcome.ca.script.lock().unwrap();
                let place = format!("{cut:?} at {at}: {:?}", script.transcript);
                // The CA has done no work twice.
                assert!(script.ca.accounts_made <= 1, "{place}");
                assert!(script.ca.orders.len() <= 2, "{place}");
                let responses: u32 = script.ca.authorizations.iter().map(|a| a.responses).sum();
                assert!(responses <= 1, "{place}");
                let finalizes: u32 = script.ca.orders.iter().map(|order| order.finalizes).sum();
                assert!(finalizes <= 1, "{place}");
                // Every published record was removed.
                let mut up = HashMap::new();
                for event in &script.events {
                    let (what, name) = event.split_once(' ').unwrap();
                    *up.entry(name).or_insert(0) += if what == "PUBLISH" { 1 } else { -1 };
                }
                assert!(up.values().all(|count| *count == 0), "{place}");
                drop(script);
                check(&place, at, &outcome);
            });
        }
    });
}

#[test]
fn h04_one_reset_anywhere_still_gives_the_certificate() {
    everywhere("cut-once", false, |place, at, outcome| {
        outcome.result.as_ref().unwrap_or_else(|error| panic!("{place}: {error}"));
        let seen = *outcome.ca.seen.lock().unwrap();
        assert!((REQUESTS..REQUESTS + 10).contains(&seen), "{place}: {seen} requests");
        let extra = outcome.ca.script.lock().unwrap().ca.orders.len() - 1;
        assert!(extra == 0 || at == NEW_ORDER, "{place}: another order");
    });
}

#[test]
fn h04_lasting_resets_end_with_transport_and_keep_the_order() {
    everywhere("cut-for-ever", true, |place, at, outcome| {
        let Err(error) = &outcome.result else { panic!("{place}: issued") };
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Transport, false), "{place}");
        assert!(error.url().is_some(), "{place}");
        let known = outcome.order_url.as_deref().is_some_and(|url| url.contains("/order/"));
        assert_eq!(known, at > NEW_ORDER, "{place}");
        let seen = *outcome.ca.seen.lock().unwrap();
        // If there is an order, the client tries for half a minute, with a fresh nonce each time.
        assert!(seen < at + 40, "{place}: {seen} requests");
    });
}
