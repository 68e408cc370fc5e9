//! A host dies at any request of an issuance. Another one goes on with what the first one had
//! stored before each request: its keys and the order's URL.

use acme_micro::engine::{Challenge, Client, ClientOptions, Issued, Operation, OrderOptions, Step};
use acme_micro::{Key, KeyType, Time};

use super::ca::BASE;
use super::script::{Script, label};

/// The moment of a host's death: before it sends its n-th request, or after the CA has done the
/// work and before the response arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Before(usize),
    After(usize),
}

/// State that survives the host's death.
struct Left {
    /// The request at which it died.
    at: String,
    order_url: Option<String>,
}

/// Runs until the host dies; its published records are gone with it. `None`: the operation has come
/// to its end.
fn run_until(ca: &mut Script, operation: &Operation<Issued>, death: Death) -> Option<Left> {
    let mut sent = 0;
    let mut up: Vec<Challenge> = Vec::new();
    loop {
        match operation.poll(Time::from_millis(ca.now)).unwrap() {
            Step::Request(request) => {
                sent += 1;
                let left = Left { at: label(&request), order_url: operation.order_url() };
                if death == Death::Before(sent) {
                    ca.unpublish(&up);
                    return Some(left);
                }
                let response = ca.respond_to(&request).unwrap();
                if death == Death::After(sent) {
                    ca.unpublish(&up);
                    return Some(left);
                }
                let reply = operation.reply(request.id);
                for (name, value) in &response.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&response.body).unwrap();
                reply.end(response.status).unwrap();
            }
            Step::Wait(delay) => ca.now += delay.unwrap().as_millis() as i64,
            Step::Publish(challenges) => {
                ca.publish(&challenges);
                up = challenges.to_vec();
                operation.published(Ok(())).unwrap();
            }
            Step::Unpublish(challenges) => {
                ca.unpublish(&challenges);
                up.clear();
            }
            Step::Done => return None,
            step => panic!("an unknown step: {step:?}"),
        }
    }
}

/// Starts another process of the same host, which has only the account's key.
fn start_again(ca: &mut Script, seed: u64) {
    let mut options = ClientOptions::new(format!("{BASE}/directory"), ca.account_key.clone());
    options.terms_agreed = true;
    options.seed = Some(seed);
    ca.client = Client::new(options).unwrap();
}

fn order_with(key: &Key, order_url: Option<String>) -> OrderOptions {
    let mut options = OrderOptions::new(["example.org", "www.example.org"]);
    options.key = Some(key.clone());
    options.order_url = order_url;
    options
}

#[test]
fn x01_x03_x04_x10_a_host_dies_at_each_request_and_another_goes_on() {
    let key = Key::generate(KeyType::P256).unwrap();
    let mut deaths = 0;
    for death in (1..).flat_map(|n| [Death::Before(n), Death::After(n)]) {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 1;
        let operation = ca.client.obtain(order_with(&key, None)).unwrap();
        let Some(left) = run_until(&mut ca, &operation, death) else { break };
        drop(operation);
        deaths += 1;
        // The response to newOrder names the order: a death before it arrives costs that order. No
        // other death does.
        let is_forgotten = left.at == "POST /new-order" && matches!(death, Death::After(_));
        assert_eq!(left.order_url.is_none(), ca.ca.orders.is_empty() || is_forgotten, "{death:?}");

        start_again(&mut ca, 8);
        let issued = ca.order(order_with(&key, left.order_url)).unwrap();
        assert_eq!(issued.key.unwrap().thumbprint(), key.thumbprint(), "{death:?}");
        assert_eq!(ca.ca.accounts_made, 1, "{death:?}");
        assert_eq!(ca.ca.orders.len(), 1 + usize::from(is_forgotten), "{death:?} at {}", left.at);
        let finalizes: Vec<u32> = ca.ca.orders.iter().map(|order| order.finalizes).collect();
        assert_eq!(finalizes.iter().sum::<u32>(), 1, "{death:?}: {finalizes:?}");
    }
    // Directory, nonce, account, order; authorization and challenge for each name; a fetch of the
    // order, finalize, another fetch, the certificate.
    assert_eq!(deaths, 2 * 12);
}

#[test]
fn x14_a_host_that_dies_over_and_over_creates_one_order() {
    let key = Key::generate(KeyType::P256).unwrap();
    let mut ca = Script::new();
    let mut order_url = None;
    for n in 0..30 {
        start_again(&mut ca, n);
        let operation = ca.client.obtain(order_with(&key, order_url)).unwrap();
        // Directory, nonce and account come first, and a fetch of the order when there is one.
        let left = run_until(&mut ca, &operation, Death::Before(5)).unwrap();
        assert!(n == 0 || left.at.starts_with("POST /authz/"), "{}", left.at);
        order_url = left.order_url;
    }
    start_again(&mut ca, 100);
    ca.order(order_with(&key, order_url)).unwrap();
    assert_eq!((ca.ca.orders.len(), ca.ca.accounts_made), (1, 1));
}

#[test]
fn x12_two_copies_of_a_snapshot_get_one_certificate() {
    let key = Key::generate(KeyType::P256).unwrap();
    for n in 5..=12 {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 1;
        let operation = ca.client.obtain(order_with(&key, None)).unwrap();
        let left = run_until(&mut ca, &operation, Death::Before(n)).unwrap();
        drop(operation);
        // The scripted CA accepts no nonce twice, and expects the same account key from both
        // copies.
        let chains: Vec<String> = (0..2)
            .map(|_| {
                start_again(&mut ca, 8);
                let issued = ca.order(order_with(&key, left.order_url.clone())).unwrap();
                issued.chain.pem().to_owned()
            })
            .collect();
        assert_eq!(chains[0], chains[1], "at {}", left.at);
        assert_eq!((ca.ca.orders.len(), ca.ca.orders[0].finalizes), (1, 1));
        // A copy with another certificate key does not finalize again: it creates a new order.
        start_again(&mut ca, 8);
        let other = Key::generate(KeyType::P256).unwrap();
        ca.order(order_with(&other, left.order_url)).unwrap();
        assert_eq!((ca.ca.orders.len(), ca.ca.orders[0].finalizes), (2, 1));
    }
}

#[test]
fn x11_an_order_lost_with_its_account_is_replaced() {
    let key = Key::generate(KeyType::P256).unwrap();
    let mut ca = Script::new();
    let operation = ca.client.obtain(order_with(&key, None)).unwrap();
    let left = run_until(&mut ca, &operation, Death::Before(5)).unwrap();
    start_again(&mut ca, 8);
    ca.on("POST /order/1").problem(400, "accountDoesNotExist");
    ca.on("POST /new-order").nth(1).problem(400, "accountDoesNotExist");
    ca.order(order_with(&key, left.order_url)).unwrap();
    assert_eq!(ca.count("POST /new-account"), 2);
    assert_eq!(ca.count("POST /new-order"), 2);
}
