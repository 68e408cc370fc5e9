//! Records what operations do, through the log.

use std::cell::RefCell;
use std::env;
use std::sync::Arc;

use acme_micro::engine::{
    Challenge, ChallengeType, Client, ClientOptions, Operation, OrderOptions, Reply, Request, Step,
};
use acme_micro::{AcmeError, ExternalAccount, Host, HttpClient, HttpOptions, Key, KeyType, run};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "acme_micro::transcript"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            assert_eq!(record.level(), log::Level::Trace);
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Returns the value of `body`, and the transcript of this thread's operations meanwhile.
pub fn recorded<T>(body: impl FnOnce() -> T) -> (T, Vec<String>) {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    LINES.take();
    let value = body();
    (value, LINES.take())
}

fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name}: run tests beside tests/pebble/with_pebble.py"))
}

/// A host that sends by the built-in client, publishes at Pebble's DNS server, and records secrets.
struct Recorder {
    http: HttpClient,
    secrets: Vec<String>,
    lose: Option<&'static str>,
}

impl Host for Recorder {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        match self.lose.take_if(|part| request.url().contains(*part)) {
            Some(_) => reply.failed("the cable was cut").unwrap(),
            None => self.http.send(request, reply),
        }
    }

    fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String> {
        for challenge in challenges {
            self.secrets.push(challenge.token().to_owned());
            self.secrets.push(challenge.key_authorization().to_owned());
            let body = serde_json::json!({
                "host": format!("{}.", challenge.dns_name().unwrap()),
                "value": challenge.dns_value().unwrap(),
            });
            let to = format!("{}/set-txt", variable("PEBBLE_CHALLTESTSRV"));
            let said = std::process::Command::new("curl")
                .args(["-sSf", "-d", &body.to_string(), &to])
                .status()
                .unwrap();
            assert!(said.success());
        }
        Ok(())
    }

    fn unpublish(&mut self, _: &[Challenge]) {}
}

/// Runs an issuance at Pebble; returns its transcript, and the secrets that it must not contain.
fn issuance(lose: Option<&'static str>) -> (Vec<String>, Vec<String>) {
    let key = Key::generate(KeyType::P256).unwrap();
    let certificate_key = Key::generate(KeyType::P384).unwrap();
    let mut options = ClientOptions::new(variable("ACME_DIRECTORY"), key.clone());
    options.terms_agreed = true;
    options.contacts = vec!["mailto:admin@example.org".to_owned()];
    let mut order = OrderOptions::new(["transcript.example.org", "www.transcript.example.org"]);
    order.challenge_types = vec![ChallengeType::Dns01];
    order.key = Some(certificate_key.clone());
    let mut host = Recorder {
        http: HttpClient::new(&HttpOptions::default()).unwrap(),
        secrets: vec![key.thumbprint().to_owned()],
        lose,
    };
    let (outcome, lines) = recorded(|| {
        let client = Client::new(options).unwrap();
        let operation: Operation<_> = client.obtain(order).unwrap();
        run(&operation, &mut host).map(|()| operation.take().unwrap())
    });
    let outcome: Result<_, AcmeError> = outcome;
    assert!(outcome.is_ok(), "{outcome:?}");
    for key in [&key, &certificate_key] {
        let pem = key.to_pem().unwrap();
        host.secrets.extend(pem.lines().filter(|line| line.len() > 30).map(str::to_owned));
    }
    (lines, host.secrets)
}

/// Writes the transcript to the folder in the variable ACME_RECORD, if it is set.
fn keep(name: &str, lines: &[String]) {
    if let Ok(folder) = env::var("ACME_RECORD") {
        std::fs::write(format!("{folder}/{name}.jsonl"), lines.join("\n") + "\n").unwrap();
    }
}

fn records(name: &str, lose: Option<&'static str>) {
    let (lines, secrets) = issuance(lose);
    let text = lines.join("\n");
    assert!(secrets.len() >= 9, "the issuance has secrets to look for");
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "{secret} is in the transcript");
    }
    // With its quotation mark: three letters alone occur by chance in the base64 of certificates.
    for absent in ["signature", "PRIVATE", "protected", "\"mac"] {
        assert!(!text.contains(absent), "{absent} is in the transcript");
    }
    assert!(text.contains("BEGIN CERTIFICATE") && text.contains(r#""csr":"#));
    keep(name, &lines);
    super::replay::repeat(&lines);
}

#[test]
fn an_issuance_is_recorded_without_secrets_and_repeated_without_a_ca() {
    records("pebble", None);
}

#[test]
fn an_issuance_with_a_lost_response_is_recorded_and_repeated() {
    records("pebble-lost-answer", Some("order-plz"));
}

/// Pebble, as these tests start it, neither asks for bindings nor quotes key authorizations.
#[test]
fn bindings_and_quoted_key_authorizations_are_left_out() {
    let key = Key::generate(KeyType::P256).unwrap();
    let thumbprint = key.thumbprint().to_owned();
    let mac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let mut options = ClientOptions::new("https://ca.example/directory", key);
    options.external_account = Some(ExternalAccount::new("kid-1", mac_key).unwrap());
    options.terms_agreed = true;
    options.seed = Some(1);
    let token = "LoqXcYV8q5ONbJQxbmR7SC";
    let problem = format!(r#"{{"detail":"\"{token}.{thumbprint}\" is of {thumbprint}"}}"#);
    let directory = r#"{"newNonce":"https://ca.example/n","newAccount":"https://ca.example/a",
                        "newOrder":"https://ca.example/o"}"#;
    let ((), lines) = recorded(|| {
        let operation = Client::new(options).unwrap().register();
        let now = acme_micro::Time::from_millis(1_795_530_245_000);
        for (n, (status, body)) in
            [(200, directory), (204, ""), (403, &problem)].into_iter().enumerate()
        {
            operation.poll(now).unwrap();
            let reply = operation.reply(n as u64 + 1);
            reply.header(b"Replay-Nonce", b"nonce").unwrap();
            reply.body(body.as_bytes()).unwrap();
            reply.end(status).unwrap();
        }
        assert_eq!(operation.poll(now).unwrap_err().http_status(), Some(403));
    });
    let text = lines.join("\n");
    assert!(text.contains(r#""externalAccountBinding":"redacted"#), "{text}");
    assert!(text.contains(r#"\"redacted\" is of redacted"#), "{text}");
    for secret in [mac_key, token, &thumbprint, "kid-1", "a2lkLTE", "signature"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    keep("refused-account", &lines);
    super::replay::repeat(&lines);
}

/// The detail of a problem often has the URL that the CA has requested.
#[test]
fn tokens_quoted_by_the_ca_are_left_out() {
    let token = "LoqXcYV8q5ONbJQxbmR7SC";
    let directory = r#"{"newNonce":"https://ca.example/n","newAccount":"https://ca.example/a",
                        "newOrder":"https://ca.example/o"}"#;
    let order = r#"{"status":"pending","identifiers":[{"type":"dns","value":"a.example"}],
                    "authorizations":["https://ca.example/z"],"finalize":"https://ca.example/f"}"#;
    let challenge = format!(
        r#"{{"type":"http-01","status":"pending","url":"https://ca.example/c","token":"{token}"}}"#
    );
    let authorization = format!(
        r#"{{"status":"pending","identifier":{{"type":"dns","value":"a.example"}},
             "challenges":[{challenge}]}}"#
    );
    let problem = format!(
        r#"{{"type":"urn:ietf:params:acme:error:unauthorized",
             "detail":"http://a.example/.well-known/acme-challenge/{token}: 404"}}"#
    );
    let mut options =
        ClientOptions::new("https://ca.example/directory", Key::generate(KeyType::P256).unwrap());
    options.terms_agreed = true;
    let ((), lines) = recorded(|| {
        let operation =
            Client::new(options).unwrap().obtain(OrderOptions::new(["a.example"])).unwrap();
        let now = acme_micro::Time::from_millis(1_795_530_245_000);
        let responses = [
            (200, directory),
            (204, ""),
            (201, "{}"),
            (201, order),
            (200, &authorization),
            (403, &problem),
        ];
        for (n, (status, body)) in responses.into_iter().enumerate() {
            while let Ok(Step::Publish(_)) = operation.poll(now) {
                operation.published(Ok(())).unwrap();
            }
            let reply = operation.reply(n as u64 + 1);
            reply.header(b"Replay-Nonce", format!("nonce{n}").as_bytes()).unwrap();
            reply.header(b"Location", format!("https://ca.example/l{n}").as_bytes()).unwrap();
            reply.body(body.as_bytes()).unwrap();
            reply.end(status).unwrap();
        }
    });
    let text = lines.join("\n");
    assert!(text.contains("acme-challenge/redacted-redacted-redacted: 404"), "{text}");
    assert!(!text.contains(token), "{text}");
}
