//! Runs the engine on a transcript: with the recorded polls and responses it has to send
//! the same requests in the same order. The account's key is a fresh one. The certificate is ordered
//! with the recorded CSR, so the recorded certificate is right for its key.

use std::collections::BTreeMap;
use std::{env, fs};

use acme_micro::engine::{
    ChallengeType, Client, ClientOptions, Issued, Operation, OrderOptions, Registered, Renewal,
};
use acme_micro::{CertificateChain, ExternalAccount, Key, KeyType, SigningRequest, Time};
use base64::Engine as _;
use serde_json::Value;

use super::record::recorded;

enum Any {
    Obtain(Operation<Issued>),
    Renew(Operation<Renewal>),
    Register(Operation<Registered>),
}

/// Evaluates an expression with an operation of any type.
macro_rules! with {
    ($any:expr, $operation:ident => $body:expr) => {
        match $any {
            Any::Obtain($operation) => $body,
            Any::Renew($operation) => $body,
            Any::Register($operation) => $body,
        }
    };
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Repeats a transcript, which may be of several operations, and compares the result with it.
pub fn repeat(lines: &[String]) {
    let parsed: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert!(!parsed.is_empty(), "an empty transcript");
    let ((), again) = recorded(|| run(&parsed));
    for (n, (line, again)) in parsed.iter().zip(&again).enumerate() {
        let again: Value = serde_json::from_str(again).unwrap();
        assert_eq!(without_version(line), without_version(&again), "line {}", n + 1);
    }
    assert_eq!(lines.len(), again.len(), "the lines {:?} differ", again.last());
}

/// Removes the version: a later version may repeat what an earlier one recorded.
fn without_version(line: &Value) -> Value {
    let mut line = line.clone();
    line.as_object_mut().unwrap().remove("begin");
    line
}

fn run(lines: &[Value]) {
    let mut clients: BTreeMap<u64, Client> = BTreeMap::new();
    let mut operations: BTreeMap<u64, Any> = BTreeMap::new();
    for line in lines {
        let id = u64::from_str_radix(line["operation"].as_str().unwrap(), 16).unwrap();
        if line.get("begin").is_some() {
            // The operations of one client have consecutive numbers and share its state.
            let client = clients.remove(&id.wrapping_sub(1));
            clients.insert(id, client.unwrap_or_else(|| client_of(line, id)));
        } else if let Some(flow) = line.get("flow") {
            let of_this = lines.iter().filter(|other| other["operation"] == line["operation"]);
            let client = &clients[&id];
            operations.insert(id, start(client, flow.as_str().unwrap(), line, of_this));
        } else {
            let any = operations.get(&id).expect("only whole obtain, renew and register repeat");
            with!(any, operation => go_on(operation, line));
        }
    }
}

fn client_of(begin: &Value, id: u64) -> Client {
    let key = Key::generate(KeyType::P256).unwrap();
    let mut options = ClientOptions::new(begin["directory"].as_str().unwrap(), key);
    options.account_url = text(&begin["account_url"]);
    options.contacts = texts(&begin["contacts"]);
    options.terms_agreed = begin["terms_agreed"] == true;
    options.agreed_terms_url = text(&begin["agreed_terms_url"]);
    if begin["external_account"] == true {
        options.external_account = Some(ExternalAccount::new("id", &"A".repeat(64)).unwrap());
    }
    options.allowed_hosts = texts(&begin["allowed_hosts"]);
    options.allow_http_loopback = begin["allow_http_loopback"] == true;
    options.seed = Some(id.wrapping_sub(1));
    Client::new(options).unwrap()
}

fn start<'a>(
    client: &Client,
    flow: &str,
    line: &Value,
    mut of_this: impl Iterator<Item = &'a Value>,
) -> Any {
    let given = line;
    match flow {
        "register" => return Any::Register(client.register()),
        "find_account" => return Any::Register(client.find_account()),
        _ => {}
    }
    let kind = |name: &Value| ChallengeType::from_name(name.as_str().unwrap()).unwrap();
    let mut options = OrderOptions::new(texts(&given["names"]));
    options.challenge_types =
        given["challenge_types"].as_array().unwrap().iter().map(kind).collect();
    for pair in texts(&given["challenge_by_name"]) {
        let (kind, name) = pair.split_once(' ').unwrap();
        let kind = ChallengeType::from_name(kind).unwrap();
        options.challenge_by_name.push((name.to_owned(), kind));
    }
    options.ancestor_domain = text(&given["ancestor_domain"]);
    options.not_before = given["not_before"].as_i64().map(Time::from_millis);
    options.not_after = given["not_after"].as_i64().map(Time::from_millis);
    options.profile = text(&given["profile"]);
    options.profile_optional = given["profile_optional"] == true;
    let replaces = text(&given["replaces"]);
    options.replaces = replaces.map(|pem| CertificateChain::parse(pem.as_bytes()).unwrap());
    options.order_url = text(&given["order_url"]);
    options.abandon_on_failure = given["abandon_on_failure"] == true;
    assert!(given["chain"].is_null(), "a preferred chain is not repeated");
    let csr = of_this.find_map(|line| line["step"]["request"]["payload"]["csr"].as_str());
    if let Some(csr) = csr {
        let der = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(csr).unwrap();
        options.csr = Some(SigningRequest::parse(&der).unwrap());
    }
    match flow {
        "obtain" => Any::Obtain(client.obtain(options).unwrap()),
        "renew" => Any::Renew(client.renew(options).unwrap()),
        other => panic!("the flow {other} is not repeated"),
    }
}

/// Does what the host did; the operation records its own part.
fn go_on<T>(operation: &Operation<T>, line: &Value) {
    if let Some(now) = line.get("poll") {
        let _ = operation.poll(Time::from_millis(now.as_i64().unwrap()));
    } else if let Some(id) = line.get("answer") {
        respond(operation, id.as_u64().unwrap(), line);
    } else if line.get("published").is_some() {
        operation.published(text(&line["failed"]).map_or(Ok(()), Err)).unwrap();
    } else if line.get("respond_with").is_some() {
        let n = line["respond_with"].as_u64().unwrap();
        let _ = operation.respond_with(n as usize, line["payload"].to_string().as_bytes());
    } else if line.get("canceled").is_some() {
        operation.cancel();
    } else {
        panic!("a line that cannot be repeated: {line}");
    }
}

fn respond<T>(operation: &Operation<T>, id: u64, given: &Value) {
    let reply = operation.reply(id);
    if let Some(failed) = given.get("failed") {
        let why = failed["text"].as_str().unwrap();
        let no_response = why.strip_prefix("no response: ");
        let _ = match (failed["permanent"] == true, no_response) {
            (true, Some(why)) => reply.failed_for_good(why),
            (false, Some(why)) => reply.failed(why),
            (_, None) => reply.unusable(why),
        };
        return;
    }
    for header in texts(&given["headers"]) {
        let (name, value) = header.split_once(": ").unwrap();
        reply.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let body = match given["text"].as_str() {
        Some(text) => text.to_owned(),
        None => given["json"].to_string(),
    };
    reply.body(body.as_bytes()).unwrap();
    reply.end(given["status"].as_u64().unwrap() as u16).unwrap();
}

/// Repeats the transcripts of this repository, or the one that ACME_TRANSCRIPT names.
#[test]
fn recorded_transcripts_repeat() {
    let folder = format!("{}/tests/transcript/recorded", env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(folder).unwrap();
    let recorded = files.map(|file| file.unwrap().path().display().to_string()).collect();
    let paths: Vec<String> = env::var("ACME_TRANSCRIPT").map_or(recorded, |path| vec![path]);
    assert!(!paths.is_empty());
    for path in paths {
        println!("{path}"); // shown when it fails
        let text = fs::read_to_string(&path).unwrap();
        repeat(&text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}
