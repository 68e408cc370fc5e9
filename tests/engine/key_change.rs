//! Changing the account's key, also when the response is lost. RFC 8555 section 7.3.5.

use acme_micro::engine::{Client, ClientOptions};
use acme_micro::{AcmeError, ErrorKind, Key, KeyType};

use super::ca::Response;
use super::script::{Script, make_account};

const ACCOUNT: &str = "https://ca.example/account/1";

fn registered() -> (Script, Key) {
    let mut ca = Script::new();
    ca.register().unwrap();
    ca.forget();
    (ca, Key::generate(KeyType::P256).unwrap())
}

fn change(ca: &mut Script, new: &Key) -> Result<(), AcmeError> {
    let operation = ca.client.change_key(new);
    ca.run(&operation)
}

/// Restarts the client with this key, and with the account's URL if the program stored it.
fn restart(ca: &mut Script, key: &Key, url: Option<&str>) {
    let mut options = ClientOptions::new("https://ca.example/directory", key.clone());
    options.account_url = url.map(str::to_owned);
    ca.client = Client::new(options).unwrap();
}

fn find(ca: &mut Script) -> Result<String, AcmeError> {
    let operation = ca.client.find_account();
    ca.run(&operation).map(|found| found.url)
}

#[test]
fn a_key_change_gives_the_account_the_new_key() {
    let (mut ca, new) = registered();
    let old = ca.account_key.clone();
    change(&mut ca, &new).unwrap();
    assert_eq!(ca.transcript, ["POST /key-change", "POST /account/1"]);
    assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());
    ca.obtain(&["example.org"]).unwrap();
    restart(&mut ca, &old, None);
    assert_eq!(find(&mut ca).unwrap_err().kind(), ErrorKind::Account);
    restart(&mut ca, &new, None);
    assert_eq!(find(&mut ca).unwrap(), ACCOUNT);
}

#[test]
fn a11_after_a_lost_response_the_client_asks_which_key_the_ca_knows() {
    let (mut ca, new) = registered();
    ca.on("POST /key-change").nth(1).lose_response();
    change(&mut ca, &new).unwrap();
    let asked = ["POST /key-change", "GET /new-nonce", "POST /new-account", "POST /account/1"];
    assert_eq!(ca.transcript, asked);
    assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());

    let (mut ca, new) = registered();
    ca.on("POST /key-change").nth(1).lose_request();
    change(&mut ca, &new).unwrap();
    assert_eq!(ca.count("POST /key-change"), 2);
    assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());
}

#[test]
fn a11_a_second_change_with_the_old_key_settles_a_crash() {
    // The CA has changed the key or not; the program has stored the account's URL or not.
    for (reached, url) in
        [(true, Some(ACCOUNT)), (true, None), (false, Some(ACCOUNT)), (false, None)]
    {
        let (mut ca, new) = registered();
        let old = ca.account_key.clone();
        if reached {
            change(&mut ca, &new).unwrap();
        }
        restart(&mut ca, &old, url);
        if reached && url.is_some() {
            // A strict CA refuses a signature by a key that is not the account's.
            ca.on("POST /key-change").problem(403, "unauthorized");
        }
        change(&mut ca, &new).unwrap_or_else(|error| panic!("{reached} {url:?}: {error}"));
        assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());
        restart(&mut ca, &new, None);
        assert_eq!(find(&mut ca).unwrap(), ACCOUNT);
    }
}

#[test]
fn a12_a_key_of_another_account_is_refused_and_the_old_key_stays() {
    for (status, name) in
        [(409, "malformed"), (409, "conflict"), (400, "malformed"), (403, "unauthorized")]
    {
        let (mut ca, new) = registered();
        let old = ca.account_key.clone();
        make_account(&mut ca.ca, &new);
        ca.on("POST /key-change").problem(status, name);
        let error = change(&mut ca, &new).unwrap_err();
        assert_eq!(error.http_status(), Some(status), "{error}");
        assert!(status != 409 || error.kind() == ErrorKind::Account);
        assert_eq!(ca.client.account_url().as_deref(), Some(ACCOUNT));
        assert_eq!(ca.client.account_key().thumbprint(), old.thumbprint());
        ca.obtain(&["example.org"]).unwrap();
    }
    // The scripted CA refuses such a key by itself.
    let (mut ca, new) = registered();
    make_account(&mut ca.ca, &new);
    let error = change(&mut ca, &new).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Account, true));
    assert!(error.to_string().contains("belongs to https://ca.example/account/2"), "{error}");
    assert_eq!(ca.count("POST /key-change"), 1);
}

#[test]
fn the_same_key_and_a_ca_without_key_change_are_refused() {
    let (mut ca, _) = registered();
    let same = ca.account_key.clone();
    assert_eq!(change(&mut ca, &same).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(ca.transcript.is_empty());
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|directory| directory["keyChange"] = serde_json::json!(null));
    ca.register().unwrap();
    let new = Key::generate(KeyType::P256).unwrap();
    assert_eq!(change(&mut ca, &new).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn the_old_key_stays_until_the_ca_returns_the_account() {
    for body in ["", "<html>sign in</html>", "[]"] {
        let mut ca = Script::with_account();
        ca.on("POST /key-change").respond(Response::new(200, body));
        let new = Key::generate(KeyType::P256).unwrap();
        let operation = ca.client.change_key(&new);
        let error = ca.run(&operation).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        ca.obtain(&["still.example"]).unwrap();
    }
}
