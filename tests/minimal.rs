//! The smallest program with automatic HTTPS, on a server with OpenSSL. docs/guides/first-certificate.md shows the lines
//! between the marks; its test in tests/docs counts them.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, process};

use openssl::pkey::PKey;
use openssl::ssl::{NameType, SniError, SslAcceptor, SslMethod, SslRef};
use openssl::x509::X509;

// --- begin: automatic HTTPS ---
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use acme_micro::engine::{Client, ClientOptions, KeepOptions, OrderOptions};
use acme_micro::manager::{Manager, ManagerOptions, Served};
use acme_micro::{AcmeError, DirectoryStore, HttpClient, HttpOptions, keep_fresh};

/// Keeps a certificate for this name fresh: `Served::find` returns it, `Client::http01_answer` is for port 80.
fn automatic_https(ca: &str, folder: &str, name: &str) -> Result<(Client, Arc<Served>), AcmeError> {
    let mut options = ClientOptions::with_store(ca, Arc::new(DirectoryStore::open(folder)?))?;
    options.terms_agreed = true; // you have read the CA's terms of service and agree
    let client = Client::new(options)?;
    let mut manager = Manager::new(&client, ManagerOptions::default())?;
    manager.add(KeepOptions::new(OrderOptions::new([name])))?;
    let served = manager.served();
    let mut http = HttpClient::new(&HttpOptions::default())?;
    thread::spawn(move || keep_fresh(&mut manager, &mut http, |_| ControlFlow::Continue(())));
    Ok((client, served))
}
// --- end ---

/// The web server of the program: it responds to the CA on the port of http-01.
fn serve_http(client: Client) {
    let port = env("PEBBLE_HTTP_PORT").parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap_or_default();
            let answer = match client.http01_answer(path) {
                Some(body) => format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
                None => "HTTP/1.0 404 Not Found\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
}

/// Gives a handshake the certificate of its server name.
fn choose(ssl: &mut SslRef, served: &Served) -> Option<()> {
    let (chain, key) = served.find(ssl.servername(NameType::HOST_NAME)?)?;
    let mut chain = X509::stack_from_pem(chain.pem().as_bytes()).ok()?.into_iter();
    ssl.set_certificate(&*chain.next()?).ok()?;
    chain.try_for_each(|issuer| ssl.add_chain_cert(issuer)).ok()?;
    ssl.set_private_key(&*PKey::private_key_from_pem(key.to_pem().ok()?.as_bytes()).ok()?).ok()
}

/// The HTTPS server of the program. Returns its port.
fn serve_https(served: Arc<Served>) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor
        .set_servername_callback(move |ssl, _| choose(ssl, &served).ok_or(SniError::ALERT_FATAL));
    let (acceptor, listener) = (acceptor.build(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(acceptor.accept(stream.unwrap()));
        }
    });
    port
}

fn env(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run this test with make test-rust, beside Pebble")
    })
}

/// Returns what the openssl command prints about the server's certificate for this name; `None`: it has none.
fn certificate(port: u16, name: &str) -> Option<String> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", name]);
    client.args(["-CAfile", &env("PEBBLE_ROOT"), "-verify_return_error", "-verify_hostname", name]);
    let output = client.stdin(Stdio::null()).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_smallest_server_has_a_certificate() {
    let folder = env::temp_dir().join(format!("acme-minimal-{}", process::id()));
    let name = "rust.minimal.test";
    let (client, served) =
        automatic_https(&env("ACME_DIRECTORY"), folder.to_str().unwrap(), name).unwrap();
    serve_http(client);
    let port = serve_https(served);
    let mut tries = 0;
    let shown = loop {
        match certificate(port, name) {
            Some(shown) => break shown,
            None if tries == 3000 => panic!("no certificate is served"),
            None => thread::sleep(Duration::from_millis(100)),
        }
        tries += 1;
    };
    assert!(shown.contains("Verification: OK"), "{shown}");
    assert!(folder.join(format!("{name}.chain.pem")).exists());
    fs::remove_dir_all(folder).unwrap();
}
