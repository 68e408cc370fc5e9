//! The built-in HTTP client: proxies, trusted roots, IP versions, timeouts, and responses. The
//! tests use real sockets, with a real CA (Pebble) at the other end where possible.
//!
//! The tests register accounts at Pebble and order nothing there, so they do not depend on its
//! profiles or on reused authorizations. The client repeats requests whose nonce Pebble refuses.
#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::indexing_slicing
)]

mod clocks;
mod connection_resets;
mod responses;
mod sockets;
mod tls;

// The scripted CA of tests/engine, behind real sockets.
#[path = "../engine/ca.rs"]
#[allow(dead_code)]
mod ca;
#[path = "../engine/jws.rs"]
#[allow(dead_code)]
mod jws;
#[path = "../engine/log.rs"]
#[allow(dead_code)]
mod log;
#[path = "../engine/pki.rs"]
#[allow(dead_code)]
mod pki;
#[path = "../engine/script.rs"]
#[allow(dead_code)]
mod script;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use acme_micro::engine::{Challenge, Client, ClientOptions, OrderOptions, Reply, Request};
use acme_micro::{
    AcmeError, Directory, DirectoryUrl, ErrorKind, Host, HttpClient, HttpOptions, IpVersion, Key,
    KeyType, run,
};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run these tests with `make test-rust`, beside Pebble")
    })
}

// --- a program that registers an account ------------------------------------------------------------

struct Program {
    http: HttpClient,
}

impl Host for Program {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        self.http.send(request, reply);
    }

    fn publish(&mut self, _: &[Challenge]) -> Result<(), String> {
        Err("there is nothing to publish".to_owned())
    }

    fn unpublish(&mut self, _: &[Challenge]) {}
}

/// Registers an account at the CA with this directory.
fn register_at(directory: &str, options: &HttpOptions) -> Result<(), AcmeError> {
    let mut ca = ClientOptions::new(directory, Key::generate(KeyType::P256)?);
    ca.terms_agreed = true;
    ca.allow_http_loopback = true;
    let client = Client::new(ca)?;
    run(&client.register(), &mut Program { http: HttpClient::new(options)? })?;
    assert!(client.account_url().is_some());
    Ok(())
}

fn register(options: &HttpOptions) -> Result<(), AcmeError> {
    register_at(&env("ACME_DIRECTORY"), options)
}

fn options(change: impl FnOnce(&mut HttpOptions)) -> HttpOptions {
    let mut options = HttpOptions::default();
    options.ca_file = Some(env("ACME_CA_FILE").into());
    change(&mut options);
    options
}

/// Returns the CA as "host:port".
fn ca() -> String {
    env("ACME_DIRECTORY").split('/').nth(2).unwrap().to_owned()
}

// --- proxies ----------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Connect,
    Socks5,
    Socks4a,
}

/// The behaviour of a proxy that is asked to connect to the CA.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Willing,
    Refusing,
    Silent,
    /// Responds one byte after the other, without an end.
    Dripping,
}

/// A proxy on a port of this machine, which records the targets that clients ask for.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    tries: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy. `wants` is "user:password", or a user for SOCKS4a, or empty.
    fn start(kind: Kind, wants: &'static str, mood: Mood) -> Proxy {
        Proxy::with(kind, wants, mood, Ok)
    }

    /// Starts a proxy that speaks with its clients through what `wrap` returns, such as TLS.
    fn with<S: Read + Write>(
        kind: Kind,
        wants: &'static str,
        mood: Mood,
        wrap: impl Fn(TcpStream) -> io::Result<S> + Send + Sync + 'static,
    ) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, wrap) = (asked.clone(), Arc::new(wrap));
        let tries = Arc::new(AtomicUsize::new(0));
        let count = tries.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (seen, wrap) = (seen.clone(), wrap.clone());
                thread::spawn(move || {
                    let raw = tcp.try_clone()?;
                    serve(kind, wants, mood, raw, wrap(tcp)?, &seen)
                });
            }
        });
        Proxy { port, asked, tries }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    kind: Kind,
    wants: &str,
    mood: Mood,
    raw: TcpStream,
    mut client: impl Read + Write,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    match mood {
        Mood::Silent => loop {
            client.read_exact(&mut [0])?;
        },
        Mood::Dripping => {
            client.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            loop {
                client.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        Mood::Willing | Mood::Refusing => {}
    }
    let allowed = mood == Mood::Willing;
    let target = match kind {
        Kind::Connect => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte)?;
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let given = head.lines().find_map(|l| l.strip_prefix("Proxy-Authorization: Basic "));
            let given = given.map(|b| openssl::base64::decode_block(b).unwrap());
            let mut words = head.split(' ');
            assert_eq!(words.next(), Some("CONNECT"));
            let target = words.next().unwrap().to_owned();
            if given.as_deref().unwrap_or_default() != wants.as_bytes() {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")?;
                return Ok(());
            }
            client.write_all(match allowed {
                true => b"HTTP/1.1 200 OK\r\n\r\n",
                false => b"HTTP/1.1 403 Forbidden\r\n\r\n",
            })?;
            target
        }
        Kind::Socks5 => {
            let mut head = [0; 2];
            client.read_exact(&mut head)?;
            assert_eq!(head[0], 5);
            let mut methods = vec![0; head[1].into()];
            client.read_exact(&mut methods)?;
            let method = if wants.is_empty() { 0 } else { 2 };
            if !methods.contains(&method) {
                return client.write_all(&[5, 0xff]);
            }
            client.write_all(&[5, method])?;
            if method == 2 {
                client.read_exact(&mut [0])?;
                let given = format!("{}:{}", counted(&mut client)?, counted(&mut client)?);
                client.write_all(&[1, u8::from(given != wants)])?;
            }
            let mut request = [0; 4];
            client.read_exact(&mut request)?;
            assert_eq!(request[..3], [5, 1, 0]);
            let host = match request[3] {
                1 => ipv4(&mut client)?,
                3 => counted(&mut client)?,
                other => panic!("address type {other}"),
            };
            let target = format!("{host}:{}", port(&mut client)?);
            client.write_all(&[5, if allowed { 0 } else { 2 }, 0, 1, 0, 0, 0, 0, 0, 0])?;
            target
        }
        Kind::Socks4a => {
            let mut head = [0; 2];
            client.read_exact(&mut head)?;
            assert_eq!(head, [4, 1]);
            let (port, address) = (port(&mut client)?, ipv4(&mut client)?);
            let user = until_nul(&mut client)?;
            let host = if address == "0.0.0.1" { until_nul(&mut client)? } else { address };
            let response = match (user == wants, allowed) {
                (true, true) => 90,
                (true, false) => 91,
                (false, _) => 93,
            };
            client.write_all(&[0, response, 0, 0, 0, 0, 0, 0])?;
            if response == 93 {
                return Ok(());
            }
            format!("{host}:{port}")
        }
    };
    if allowed {
        asked.lock().unwrap().push(target.clone());
        // Only the proxy knows names that are no addresses, and all of them lead to the CA.
        let known = target.starts_with("127.0.0.1:");
        relay(raw, client, TcpStream::connect(if known { target } else { ca() })?)?;
    }
    Ok(())
}

fn counted(stream: &mut impl Read) -> io::Result<String> {
    let mut size = [0];
    stream.read_exact(&mut size)?;
    let mut text = vec![0; size[0].into()];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text).unwrap())
}

fn until_nul(stream: &mut impl Read) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte {
            [0] => return Ok(text),
            [byte] => text.push(byte.into()),
        }
    }
}

fn ipv4(stream: &mut impl Read) -> io::Result<String> {
    let mut address = [0; 4];
    stream.read_exact(&mut address)?;
    Ok(std::net::Ipv4Addr::from(address).to_string())
}

fn port(stream: &mut impl Read) -> io::Result<u16> {
    let mut port = [0; 2];
    stream.read_exact(&mut port)?;
    Ok(u16::from_be_bytes(port))
}

/// Forwards bytes both ways until one side ends. `raw` is the socket under `client`. In HTTP one
/// side sends at a time, so one thread can serve both.
fn relay(raw: TcpStream, mut client: impl Read + Write, mut server: TcpStream) -> io::Result<()> {
    for socket in [&raw, &server] {
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    }
    let mut buffer = [0; 1 << 16];
    loop {
        if !pass(&mut client, &mut server, &mut buffer)?
            || !pass(&mut server, &mut client, &mut buffer)?
        {
            return Ok(());
        }
    }
}

/// Forwards the bytes that have arrived; `false` at the end.
fn pass(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read(buffer) {
        Ok(0) => Ok(false),
        Ok(size) => to.write_all(&buffer[..size]).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

#[test]
fn every_kind_of_proxy_leads_to_the_ca() {
    for (kind, wants, url) in [
        (Kind::Connect, "", "http://"),
        (Kind::Connect, "us er:s/ec:ret", "http://us%20er:s%2Fec%3Aret@"),
        (Kind::Socks5, "", "socks5://"),
        (Kind::Socks5, "us:er:secret", "socks5h://us%3Aer:secret@"),
        (Kind::Socks4a, "", "socks4a://"),
        (Kind::Socks4a, "user", "socks4a://user@"),
    ] {
        let proxy = Proxy::start(kind, wants, Mood::Willing);
        let url = format!("{url}127.0.0.1:{}", proxy.port);
        register(&options(|o| o.proxy = Some(url.clone())))
            .unwrap_or_else(|e| panic!("{url}: {e}"));
        // All requests went through the proxy, over one connection.
        assert_eq!(proxy.asked(), [ca()], "{url}");
    }
}

#[test]
fn the_proxy_resolves_names() {
    let name = ca().replace("127.0.0.1", "behind-the-proxy.test");
    let directory = format!("https://{name}/dir");
    thread::scope(|scope| {
        for (kind, scheme) in [
            (Kind::Connect, "http"),
            (Kind::Socks5, "socks5"),
            (Kind::Socks5, "socks5h"),
            (Kind::Socks4a, "socks4a"),
        ] {
            let (name, directory) = (&name, &directory);
            scope.spawn(move || {
                let proxy = Proxy::start(kind, "", Mood::Willing);
                let url = format!("{scheme}://127.0.0.1:{}", proxy.port);
                // Only the name in the CA's certificate is wrong.
                let error = register_at(directory, &options(|o| o.proxy = Some(url))).unwrap_err();
                let why = "certificate verify failed: hostname mismatch";
                assert!(error.to_string().contains(why), "{error}");
                assert_eq!(&proxy.asked()[0], name);
            });
        }
    });
}

#[test]
fn a_proxy_may_use_tls() {
    let folder = Folder::new("tls-proxy");
    let (cert, key) = folder.certificate("proxy", "IP:127.0.0.1");
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_file(&cert, SslFiletype::PEM).unwrap();
    acceptor.set_private_key_file(&key, SslFiletype::PEM).unwrap();
    let acceptor = acceptor.build();
    let wrap = move |tcp| acceptor.accept(tcp).map_err(io::Error::other);
    let proxy = Proxy::with(Kind::Connect, "user:secret", Mood::Willing, wrap);
    let url = format!("https://user:secret@127.0.0.1:{}", proxy.port);

    let error = register(&options(|o| o.proxy = Some(url.clone()))).unwrap_err().to_string();
    assert!(error.contains("TLS with 127.0.0.1: certificate verify failed"), "{error}");
    assert!(proxy.asked().is_empty());
    register(&options(|o| {
        o.proxy = Some(url);
        o.extra_ca_file = Some(cert);
    }))
    .unwrap();
    assert_eq!(proxy.asked(), [ca()]);
}

#[test]
fn h29_s17_a_failing_proxy_is_named_without_its_password() {
    use Mood::{Dripping, Refusing, Silent, Willing};
    let tries = [
        (
            Kind::Connect,
            "u:secret",
            Refusing,
            "http://u:secret@",
            "it refused: HTTP/1.1 403 Forbidden",
        ),
        (Kind::Connect, "u:other", Willing, "http://", "it wants a user and a password"),
        (Kind::Connect, "u:other", Willing, "http://u:secret@", "it refused the user and password"),
        (Kind::Connect, "", Silent, "http://u:secret@", "timeout, not done within 1 s"),
        (Kind::Connect, "", Dripping, "http://u:secret@", "timeout, not done within 1 s"),
        (
            Kind::Socks5,
            "",
            Refusing,
            "socks5://u:secret@",
            "it refused: its rules do not allow this",
        ),
        (Kind::Socks5, "u:other", Willing, "socks5://", "it wants a user and a password"),
        (
            Kind::Socks5,
            "u:other",
            Willing,
            "socks5://u:secret@",
            "it refused the user and password",
        ),
        (Kind::Socks5, "", Silent, "socks5://u:secret@", "timeout, not done within 1 s"),
        (Kind::Socks4a, "", Refusing, "socks4a://", "it refused, or failed to connect"),
        (Kind::Socks4a, "other", Willing, "socks4a://u@", "it refused the user"),
    ];
    // All cases run at the same time: each takes several attempts with delays.
    thread::scope(|scope| {
        for (kind, wants, mood, url, why) in tries {
            scope.spawn(move || {
                let proxy = Proxy::start(kind, wants, mood);
                let place = format!("127.0.0.1:{}", proxy.port);
                let error = register(&options(|o| {
                    o.proxy = Some(format!("{url}{place}"));
                    // The proxies that respond get the default timeout: the machine may be busy.
                    if matches!(mood, Silent | Dripping) {
                        o.timeout = Duration::from_secs(1);
                    }
                }))
                .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
                let text = format!("{error} {error:?}");
                assert!(text.contains(&format!("the proxy {place}: {why}")), "{text}");
                assert!(!text.contains("secret"), "{text}");
                assert!(proxy.asked().is_empty());
                // The client does not repeat refused credentials: that could lock the account.
                let is_denied = why.contains("a password") || why.contains("and password");
                assert_eq!(error.is_permanent(), is_denied, "{text}");
                assert_eq!(proxy.tries.load(Ordering::SeqCst), if is_denied { 1 } else { 4 });
            });
        }
        scope.spawn(|| {
            let (closed, _holder) = responses::closed_port();
            let error = register(&options(|o| o.proxy = Some(format!("http://{closed}"))));
            let error = error.unwrap_err().to_string();
            let why = format!("connecting to the proxy {closed}: Connection refused");
            assert!(error.contains(&why), "{error}");
        });
    });
}

#[test]
fn h29_the_environment_names_a_proxy_for_the_api_of_0_14_only() {
    // The environment belongs to the process, so the test runs again in a child process.
    if std::env::var_os("ALL_PROXY").is_some() {
        return in_an_environment_with_a_proxy();
    }
    let proxy = Proxy::start(Kind::Socks5, "u:secret", Mood::Willing);
    let child = |no_proxy: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "h29_the_environment_names_a_proxy_for_the_api_of_0_14_only"])
            .env("ALL_PROXY", format!("socks5://u:secret@127.0.0.1:{}", proxy.port))
            .env("NO_PROXY", no_proxy)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    };
    child("elsewhere.example");
    assert_eq!(proxy.asked(), [ca()]);
    child(ca().split(':').next().unwrap());
    assert_eq!(proxy.asked().len(), 1);
}

fn in_an_environment_with_a_proxy() {
    let directory = env("ACME_DIRECTORY");
    Directory::from_url(DirectoryUrl::Other(&directory)).unwrap();
    register(&options(|_| {})).unwrap(); // goes straight to the CA
}

#[test]
fn the_api_of_0_14_takes_an_http_client() {
    let proxy = Proxy::start(Kind::Connect, "", Mood::Willing);
    let http = HttpClient::new(&options(|o| {
        o.proxy = Some(format!("http://127.0.0.1:{}", proxy.port));
    }))
    .unwrap();
    let directory = env("ACME_DIRECTORY");
    let directory = Directory::from_url_with(DirectoryUrl::Other(&directory), http).unwrap();
    directory.register_account(Vec::new()).unwrap();
    assert_eq!(proxy.asked(), [ca()]);
}

// --- roots ------------------------------------------------------------------------------------------

/// A temporary folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("acme-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Creates a self-signed certificate and its key.
    fn certificate(&self, name: &str, host: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (self.0.join(format!("{name}.pem")), self.0.join(format!("{name}.key")));
        let [cert_path, key_path] = [&cert, &key].map(|path| path.to_str().unwrap());
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=test",
            "-addext",
            &format!("subjectAltName={host}"),
            "-keyout",
            key_path,
            "-out",
            cert_path,
        ]);
        (cert, key)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
}

/// Creates a directory with this certificate, as `openssl rehash` does.
fn hashed(folder: &Folder, certificate: &Path) -> PathBuf {
    let dir = folder.0.join("hashed");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(certificate, dir.join("a root.pem")).unwrap();
    openssl(&["rehash", dir.to_str().unwrap()]);
    dir
}

#[test]
fn roots_come_from_a_file_a_directory_and_an_extra_file() {
    let pebble = PathBuf::from(env("ACME_CA_FILE"));
    let (ours, others) = (Folder::new("roots-ours"), Folder::new("roots-others"));
    let (other, _) = others.certificate("other", "DNS:other.example");
    let (our_dir, other_dir) = (hashed(&ours, &pebble), hashed(&others, &other));
    // Pebble's root is one of the system's here: see SSL_CERT_FILE in tests/pebble/with_pebble.py.
    let tries = [
        (None, None, None, true),
        (None, None, Some(&other), true), // the system's roots stay trusted
        (None, Some(&our_dir), None, true),
        (None, Some(&our_dir), Some(&other), true),
        (Some(&other), None, None, false),
        (Some(&other), None, Some(&pebble), true),
        (Some(&other), Some(&our_dir), None, true),
        (None, Some(&other_dir), None, false),
        (None, Some(&other_dir), Some(&pebble), true),
        (None, Some(&other_dir), Some(&other), false),
    ];
    thread::scope(|scope| {
        for (file, dir, extra, works) in tries {
            scope.spawn(move || {
                let registered = register(&options(|o| {
                    o.ca_file = file.cloned();
                    o.ca_dir = dir.cloned();
                    o.extra_ca_file = extra.cloned();
                }));
                match registered {
                    Ok(()) => assert!(works, "{file:?} {dir:?} {extra:?}"),
                    Err(error) => {
                        let text = error.to_string();
                        assert!(!works && text.contains("certificate verify failed"), "{text}");
                    }
                }
            });
        }
    });
}

#[test]
fn h28_unreadable_and_mismatched_files_are_refused_by_name() {
    let folder = Folder::new("bad-files");
    let (cert, key) = folder.certificate("good", "DNS:good.example");
    let (_, other_key) = folder.certificate("other", "DNS:other.example");
    let encrypted = folder.0.join("encrypted.key");
    openssl(&[
        "pkey",
        "-aes256",
        "-passout",
        "pass:x",
        "-in",
        key.to_str().unwrap(),
        "-out",
        encrypted.to_str().unwrap(),
    ]);
    let text = folder.file("text", "hello");
    let empty = folder.file("empty", "");
    let broken =
        folder.file("broken", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let nowhere = folder.0.join("nowhere");
    let colon = folder.0.join("a:b");
    fs::rename(hashed(&folder, &cert), &colon).unwrap();

    type Field = fn(&mut HttpOptions, &Path);
    let certificates: [(&str, Field); 3] = [
        ("ca_file", |o, path| o.ca_file = Some(path.into())),
        ("extra_ca_file", |o, path| o.extra_ca_file = Some(path.into())),
        ("client_cert_file", |o, path| o.client_cert_file = Some(path.into())),
    ];
    let refused = |name: &str, path: &Path, why: &str, change: &dyn Fn(&mut HttpOptions)| {
        let error = HttpClient::new(&options(change)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let wanted = format!("{name} {}: {why}", path.display());
        assert!(error.to_string().starts_with(&wanted), "{error} is not: {wanted}");
    };
    for (name, set) in certificates {
        for (path, why) in [
            (&nowhere, "No such file or directory"),
            (&folder.0, "Is a directory"),
            (&empty, "is empty"),
            (&text, "is not PEM"),
            (&key, "has no certificate in it"),
            (&broken, "has a certificate that cannot be read"),
        ] {
            refused(name, path, why, &|o| {
                o.client_key_file = (name == "client_cert_file").then(|| key.clone());
                set(o, path);
            });
        }
    }
    for (path, why) in [
        (&nowhere, "No such file or directory"),
        (&text, "Not a directory"),
        (&folder.0, "has no certificate under a hashed name; run openssl rehash on it"),
        (&colon, "has a colon in its name"),
    ] {
        refused("ca_dir", path, why, &|o| o.ca_dir = Some(path.clone()));
    }
    for (path, why) in [
        (&nowhere, "No such file or directory"),
        (&text, "not a private key"),
        (&cert, "not a private key"),
        (&encrypted, "the key is encrypted with a passphrase"),
        (&other_key, "is not the key of the first certificate in client_cert_file"),
    ] {
        refused("client_key_file", path, why, &|o| {
            o.client_cert_file = Some(cert.clone());
            o.client_key_file = Some(path.clone());
        });
    }
    for half in [
        options(|o| o.client_cert_file = Some(cert.clone())),
        options(|o| o.client_key_file = Some(key.clone())),
    ] {
        let error = HttpClient::new(&half).unwrap_err().to_string();
        assert_eq!(error, "client_cert_file and client_key_file go together");
    }
    let error = HttpClient::new(&options(|o| o.proxy = Some("http://u:secret@p".to_owned())));
    assert_eq!(error.unwrap_err().to_string(), "proxy: has no port");
    // Ten thousand roots are accepted.
    let [cert_pem, pebble] =
        [&cert, &env("ACME_CA_FILE").into()].map(|path| fs::read(path).unwrap());
    let many = folder.file("many", [cert_pem.repeat(10_000), pebble].concat());
    register(&options(|o| o.ca_file = Some(many))).unwrap();
    // Valid files: two separate ones, and one with both.
    let both = folder.file("both", [fs::read(&key).unwrap(), fs::read(&cert).unwrap()].concat());
    for (cert, key) in [(&cert, &key), (&both, &both)] {
        HttpClient::new(&options(|o| {
            o.client_cert_file = Some(cert.clone());
            o.client_key_file = Some(key.clone());
        }))
        .unwrap();
    }
}

#[test]
fn s17_secrets_are_not_shown() {
    let options = options(|o| o.proxy = Some("http://user:secret@proxy:1".to_owned()));
    let shown = format!("{options:?} {:?}", HttpClient::new(&options).unwrap());
    assert!(!shown.contains("secret") && !shown.contains("user"), "{shown}");
}

// --- addresses and time -----------------------------------------------------------------------------

/// Forwards every connection to the CA, and counts connections.
fn forward(listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            thread::spawn(|| relay(client.try_clone()?, client, TcpStream::connect(ca())?));
        }
    });
    count
}

#[test]
fn an_ip_version_restricts_the_addresses() {
    for (bind, wanted, other, lacks) in [
        ("127.0.0.1:0", IpVersion::V4, IpVersion::V6, "IPv6"),
        ("[::1]:0", IpVersion::V6, IpVersion::V4, "IPv4"),
    ] {
        let Ok(listener) = TcpListener::bind(bind) else {
            eprintln!("this machine has no {bind}");
            continue;
        };
        let directory = format!("https://{}/dir", listener.local_addr().unwrap());
        let connections = forward(listener);
        register_at(&directory, &options(|o| o.ip_version = wanted)).unwrap();
        register_at(&directory, &options(|_| {})).unwrap();
        assert_eq!(connections.load(Ordering::Relaxed), 2);
        let error = register_at(&directory, &options(|o| o.ip_version = other)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transport);
        let why = format!("no {lacks} address, and only those are wanted");
        assert!(error.to_string().contains(&why), "{error}");
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }
    // With a proxy the restriction is about the proxy's address: the proxy connects to the CA in
    // its own way.
    let proxy = Proxy::start(Kind::Connect, "", Mood::Willing);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let by = |ip_version| {
        let proxy = Some(url.clone());
        register(&options(|o| (o.proxy, o.ip_version) = (proxy, ip_version)))
    };
    by(IpVersion::V4).unwrap();
    let error = by(IpVersion::V6).unwrap_err().to_string();
    assert!(error.contains("name resolution of 127.0.0.1: no IPv6 address"), "{error}");
}

#[test]
fn the_timeout_of_an_operation_limits_its_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/directory", listener.local_addr().unwrap());
    let mut ca = ClientOptions::new(url, Key::generate(KeyType::P256).unwrap());
    ca.allow_http_loopback = true;
    let client = Client::new(ca).unwrap();
    let mut order = OrderOptions::new(["example.org"]);
    order.time_limit = Duration::from_secs(2);
    let mut program = Program { http: HttpClient::new(&HttpOptions::default()).unwrap() };
    let error = run(&client.obtain(order).unwrap(), &mut program).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("limit of 2 s") && text.contains("not done within 2 s"), "{text}");
}

// --- a response without an end ----------------------------------------------------------------------

/// Name of the test, and the variable with the server's URL for its child process.
const FLOOD: (&str, &str) = ("d12_an_endless_response_costs_two_mebibytes_at_most", "FLOOD_URL");

#[test]
fn d12_an_endless_response_costs_two_mebibytes_at_most() {
    // Memory belongs to the process, so the client runs alone in a child process.
    if let Ok(url) = std::env::var(FLOOD.1) {
        return is_flooded(&url);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = sent.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sending = sending.clone();
            thread::spawn(move || flood(stream.unwrap(), &sending));
        }
    });
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", FLOOD.0])
        .env(FLOOD.1, url)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    // Beyond 1 MiB the kernel holds data between client and server.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent > 1 << 20 && sent < 64 << 20, "{sent} bytes were taken");
}

/// Responds as the path asks, until the client closes the connection.
fn flood(mut stream: TcpStream, sent: &AtomicUsize) {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let (head, piece, pieces) = match request[..length].starts_with(b"GET /chunked") {
        true => ("Transfer-Encoding: chunked".to_owned(), chunk.as_str(), 1 << 20),
        false if request.starts_with(b"GET /small") => ("Content-Length: 1".to_owned(), " ", 1),
        false => (format!("Content-Length: {}", (1 << 20) + 1), " ", (1 << 20) + 1),
    };
    let mut response = io::BufWriter::new(stream);
    let mut send = |text: &str| response.write_all(text.as_bytes());
    if send(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).is_err() {
        return;
    }
    for _ in 0..pieces {
        if send(piece).is_err() {
            return;
        }
        sent.fetch_add(piece.len(), Ordering::SeqCst);
    }
    let _ = response.flush();
}

fn is_flooded(url: &str) {
    let ask = |path: &str, why: &str| {
        let error = register_at(&format!("{url}{path}"), &HttpOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    ask("/small", "not a directory"); // allocates what only the first request needs
    let before = peak();
    for path in ["/sized", "/chunked", "/chunked"] {
        ask(path, "larger than 1 MiB");
        let grown = peak() - before;
        assert!(grown <= 2048, "{path}: {grown} KiB more");
    }
}

/// Returns the peak memory of this process in KiB.
fn peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
