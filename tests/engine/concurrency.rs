//! Concurrent requests, concurrent operations, and threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use acme_micro::engine::{Operation, OrderOptions, Request, Step};
use acme_micro::{ErrorKind, Time};

use super::script::{Pace, START, Script};

fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n}.example.org")).collect()
}

fn obtain(ca: &mut Script, count: usize) {
    let issued = ca.order(OrderOptions::new(many(count))).unwrap();
    assert_eq!(issued.chain.names().len(), count);
    assert_eq!(ca.count("POST /authz/*"), count);
    assert_eq!(ca.count("POST /chall/*"), count);
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn a_host_that_keeps_polling_gets_several_requests_at_once() {
    let mut ca = Script::new();
    ca.pace = Pace::Eager;
    obtain(&mut ca, 10);
    assert!((2..=16).contains(&ca.most_at_once), "{}", ca.most_at_once);
    assert!(ca.rounds < 22, "{} rounds", ca.rounds);
    assert!(ca.transcript.len() <= 28 + 6, "{:?}", ca.transcript);
}

#[test]
fn o32_a_hundred_names_take_far_fewer_than_a_hundred_rounds() {
    let mut ca = Script::new();
    ca.pace = Pace::Eager;
    obtain(&mut ca, 100);
    assert!((8..=16).contains(&ca.most_at_once), "{}", ca.most_at_once);
    assert!(ca.rounds <= 40, "{} rounds", ca.rounds);
    assert!(ca.transcript.len() <= 208 + 40, "{} requests", ca.transcript.len());
}

#[test]
fn o32_a_blocking_host_needs_no_more_requests_for_a_hundred_names() {
    let mut ca = Script::new();
    obtain(&mut ca, 100);
    assert_eq!(ca.transcript.len(), 4 + 100 + 100 + 4);
    assert_eq!(ca.count("GET /new-nonce"), 1);
}

#[test]
fn a_thousand_names_work() {
    let mut ca = Script::new();
    ca.pace = Pace::Eager;
    obtain(&mut ca, 1000);
    assert!(ca.rounds < 300, "{} rounds", ca.rounds);
}

#[test]
fn an_order_for_one_name_has_one_request_at_a_time() {
    let mut ca = Script::new();
    ca.pace = Pace::Eager;
    obtain(&mut ca, 1);
    assert_eq!((ca.most_at_once, ca.transcript.len()), (1, 10));
}

#[test]
fn responses_may_arrive_in_any_order() {
    for seed in 0..30 {
        let mut ca = Script::new();
        ca.pace = Pace::Shuffled(seed);
        obtain(&mut ca, 20);
        assert!(ca.transcript.len() <= 48 + 20, "{}: {}", seed, ca.transcript.len());
    }
}

#[test]
fn responses_may_arrive_in_any_order_with_half_of_the_nonces_refused() {
    for seed in 0..20 {
        let mut ca = Script::new();
        ca.pace = Pace::Shuffled(seed);
        ca.ca.refused_nonces = 50;
        let issued = ca.order(OrderOptions::new(many(12))).unwrap();
        assert_eq!(issued.chain.names().len(), 12);
    }
}

#[test]
fn one_failed_request_ends_the_others_and_cleans_up() {
    for pace in [Pace::Eager, Pace::Shuffled(3)] {
        for what in ["POST /authz/7", "POST /chall/7/http-01"] {
            let mut ca = Script::new();
            ca.pace = pace;
            ca.on(what).problem(403, "unauthorized");
            let error = ca.order(OrderOptions::new(many(20))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Problem, "{what}");
            assert_eq!(ca.count("POST /finalize/1"), 0);
            assert_eq!(ca.count(what), 1);
        }
    }
}

#[test]
fn concurrent_requests_fetch_a_missing_directory_once() {
    for (pace, refused) in [(Pace::Eager, 0), (Pace::Shuffled(1), 0), (Pace::Eager, 2)] {
        let mut ca = Script::new();
        ca.on("POST /authz/1").nth(1).problem(403, "unauthorized");
        let operation = ca.client.obtain(OrderOptions::new(many(20))).unwrap();
        ca.run(&operation).map(drop).unwrap_err();
        let mut options = OrderOptions::new(many(20));
        options.order_url = operation.order_url();
        assert!(options.order_url.is_some());
        // A meaningless response brings a nonce, and makes the next operation doubt the directory.
        ca.on("POST /order/1").nth(1).then(|_, response| response.body = b"<html>".to_vec());
        let operation = ca.client.abandon_order("https://ca.example/order/1").unwrap();
        ca.run(&operation).unwrap_err();
        ca.forget();
        ca.pace = pace;
        ca.on("GET /directory").times(refused).lose_request();
        ca.order(options).unwrap();
        assert_eq!(ca.transcript[0], "POST /order/1");
        assert_eq!(ca.count("GET /directory"), 1 + refused as usize, "{:?}", ca.transcript);
        assert_eq!(ca.count("POST /new-order"), 0, "{:?}", ca.transcript);
    }
}

/// Does what a simple host does at one step; `None`: the operation has ended.
fn advance<T>(ca: &mut Script, operation: &Operation<T>, now: &mut i64) -> Option<()> {
    match operation.poll(Time::from_millis(*now)).unwrap() {
        Step::Request(request) => reply(ca, operation, &request),
        Step::Wait(delay) => *now += delay.unwrap().as_millis() as i64,
        Step::Publish(_) => operation.published(Ok(())).unwrap(),
        Step::Unpublish(_) => {}
        _ => return None,
    }
    Some(())
}

fn reply<T>(ca: &mut Script, operation: &Operation<T>, request: &Request) {
    let response = ca.respond_to(request).unwrap();
    let reply = operation.reply(request.id);
    for (name, value) in &response.headers {
        reply.header(name.as_bytes(), value).unwrap();
    }
    reply.body(&response.body).unwrap();
    reply.end(response.status).unwrap();
}

/// Returns an operation whose authorizations are valid from the beginning, so it publishes nothing.
fn authorized(ca: &mut Script, name: &str) -> Operation<acme_micro::engine::Issued> {
    ca.ca.authorized.push(name.to_owned());
    ca.client.obtain(OrderOptions::new([name])).unwrap()
}

#[test]
fn operations_of_one_client_take_turns() {
    let mut ca = Script::with_account();
    let mut operations: Vec<_> =
        (0..50).map(|n| authorized(&mut ca, &format!("n{n}.example.org"))).collect();
    let (mut now, mut rounds) = (START, 0);
    while !operations.is_empty() {
        operations.retain(|operation| advance(&mut ca, operation, &mut now).is_some());
        rounds += 1;
        assert!(rounds < 1000);
    }
    assert_eq!(ca.ca.orders.len(), 51);
    assert!(ca.ca.orders.iter().all(|order| order.finalizes == 1));
}

#[test]
fn n14_operations_of_one_client_run_in_threads() {
    let mut ca = Script::with_account();
    let operations: Vec<_> =
        (0..40).map(|n| authorized(&mut ca, &format!("n{n}.example.org"))).collect();
    let client = ca.client.clone();
    let ca = Mutex::new(SendScript(ca));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(operation) = operations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut now = START;
                    loop {
                        let step = operation.poll(Time::from_millis(now)).unwrap();
                        match step {
                            Step::Request(request) => {
                                reply(&mut ca.lock().unwrap().0, operation, &request);
                            }
                            Step::Wait(delay) => now += delay.unwrap().as_millis() as i64,
                            Step::Done => break,
                            step => panic!("{step:?}"),
                        }
                    }
                    assert!(operation.take().is_some());
                }
            });
        }
    });
    assert_eq!(client.account_url().as_deref(), Some("https://ca.example/account/1"));
    assert_eq!(ca.lock().unwrap().0.ca.orders.len(), 41);
}

/// A script that threads share: the test sets no rules, so nothing in it is bound to a thread.
struct SendScript(Script);

#[test]
fn y03_a_client_may_be_dropped_before_its_operations() {
    let mut ca = Script::with_account();
    let operation = authorized(&mut ca, "example.org");
    ca.client = Script::new().client;
    ca.run(&operation).unwrap();
}

#[test]
fn y02_concurrent_polls_of_one_operation_are_misuse_and_repeat_no_request() {
    let ca = Script::new();
    for _ in 0..20 {
        let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
        let requests = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        match operation.poll(Time::from_millis(START)) {
                            Ok(Step::Request(_)) => {
                                requests.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(Step::Wait(_)) => {}
                            Ok(step) => panic!("{step:?}"),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Misuse),
                        }
                    }
                });
            }
        });
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn y05_polling_from_within_a_poll_is_misuse_and_does_no_harm() {
    let mut ca = Script::new();
    let operation = Arc::new(ca.client.obtain(OrderOptions::new(["example.org"])).unwrap());
    let busy = operation.clone();
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let meddle = move |_: &str| {
        let error = busy.poll(Time::from_millis(START)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(busy.take().is_none());
        busy.state();
        count.fetch_add(1, Ordering::Relaxed);
    };
    super::log::with(meddle, || ca.run(&operation)).unwrap();
    assert!(refused.load(Ordering::Relaxed) > 0, "nothing was logged, so nothing was tested");
}
