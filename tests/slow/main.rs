//! A Rust program for test_slow.py that obtains a certificate with a webroot from a slow CA. Its
//! environment variables are ACME_DIRECTORY and ACME_CA_FILE, SLOW_WEBROOT and SLOW_CHAIN.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use acme_micro::engine::{Challenge, Client, ClientOptions, OrderOptions, Reply, Request};
use acme_micro::{Host, HttpClient, HttpOptions, Key, KeyType, run};

struct Webroot(HttpClient, PathBuf);

impl Webroot {
    fn file(&self, challenge: &Challenge) -> PathBuf {
        self.1.join(challenge.http_path().expect("http-01").trim_start_matches('/'))
    }
}

impl Host for Webroot {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        self.0.send(request, reply);
    }

    fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String> {
        challenges.iter().try_for_each(|challenge| {
            let file = self.file(challenge);
            let made = fs::create_dir_all(file.parent().unwrap_or(&self.1));
            made.and_then(|()| fs::write(file, challenge.key_authorization()))
                .map_err(|error| error.to_string())
        })
    }

    fn unpublish(&mut self, challenges: &[Challenge]) {
        challenges.iter().for_each(|challenge| fs::remove_file(self.file(challenge)).unwrap());
    }
}

#[test]
fn a_certificate_from_a_slow_ca() {
    let env = |name: &str| env::var(name).unwrap_or_else(|_| panic!("run make test-slow: {name}"));
    let key = Key::generate(KeyType::P256).unwrap();
    let mut options = ClientOptions::new(env("ACME_DIRECTORY"), key);
    options.terms_agreed = true;
    let order = OrderOptions::new(["rust.slow.test"]);
    let operation = Client::new(options).unwrap().obtain(order).unwrap();
    let mut http = HttpOptions::default();
    http.ca_file = Some(env("ACME_CA_FILE").into());
    let mut host = Webroot(HttpClient::new(&http).unwrap(), env("SLOW_WEBROOT").into());
    run(&operation, &mut host).unwrap();
    let issued = operation.take().unwrap();
    fs::write(env("SLOW_CHAIN"), issued.chain.pem()).unwrap();
}
