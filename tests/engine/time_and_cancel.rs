//! The clock, the timeout, cancellation, and unnecessary polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Wake;

use std::time::Duration;

use acme_micro::engine::{OrderOptions, Reply, Step};
use acme_micro::{AcmeError, ErrorKind, Key, KeyType, Time};

use super::script::{Interference, Moment, Pace, START, Script};

const HOUR: i64 = 3_600_000;

#[test]
fn the_timeout_ends_the_operation_and_removes_everything() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = u32::MAX;
    let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Timeout, false));
    assert!(error.to_string().contains("600 s"), "{error}");
    assert_eq!(ca.elapsed().as_secs(), 600);
    assert_eq!(ca.events.iter().filter(|e| e.starts_with("UNPUBLISH")).count(), 2);
}

#[test]
fn a_shorter_timeout_holds_to_the_millisecond() {
    let mut ca = Script::new();
    ca.ca.validation_fetches = u32::MAX;
    let mut options = OrderOptions::new(["example.org"]);
    options.time_limit = Duration::from_millis(12_345);
    assert_eq!(ca.order(options).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(ca.elapsed().as_millis(), 12_345);
}

#[test]
fn a_huge_timeout_does_no_harm() {
    let mut ca = Script::new();
    let mut options = OrderOptions::new(["example.org"]);
    options.time_limit = Duration::MAX;
    ca.order(options).unwrap();
}

#[test]
fn the_reason_of_a_failure_survives_the_timeout() {
    let mut ca = Script::new();
    let limited = super::ca::Response::problem(429, "rateLimited").header("Retry-After", "50");
    ca.on("POST /new-order").respond(limited);
    let mut options = OrderOptions::new(["example.org"]);
    options.time_limit = Duration::from_secs(20);
    let error = ca.order(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("rateLimited"), "{error}");
}

#[test]
fn t11_the_timeout_does_not_include_publishing() {
    let mut ca = Script::with_account();
    ca.publishing_takes = Duration::from_secs(2 * 3600);
    ca.obtain(&["example.org"]).unwrap();
    assert!(ca.elapsed() > Duration::from_secs(2 * 3600));
    // The rest of the timeout holds afterwards.
    let mut ca = Script::with_account();
    ca.publishing_takes = Duration::from_secs(2 * 3600);
    ca.ca.validation_fetches = u32::MAX;
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(ca.elapsed().as_secs(), 2 * 3600 + 600);
}

/// Moves the clock at the n-th moment of an issuance.
fn jump(at: usize, by: i64) -> (Script, Result<(), ErrorKind>) {
    let mut ca = Script::new();
    ca.ca.validation_fetches = 3;
    ca.interfere = Some(Box::new(move |n, _| match n == at {
        true => Interference::MoveClock(by),
        false => Interference::Nothing,
    }));
    let outcome = ca.obtain(&["example.org"]).map(|_| ()).map_err(|error| error.kind());
    (ca, outcome)
}

fn moments() -> usize {
    let (ca, outcome) = jump(usize::MAX, 0);
    outcome.unwrap();
    assert!(ca.moments > 20);
    ca.moments
}

#[test]
fn k04_k09_a_clock_set_back_at_any_moment_does_no_harm() {
    for at in 0..moments() {
        for by in [-1, -60_000, -HOUR, -240 * HOUR, -START - 10 * HOUR] {
            let (ca, outcome) = jump(at, by);
            outcome.unwrap_or_else(|kind| panic!("{by} at {at}: {kind:?}: {:?}", ca.events));
            let waited: u64 = ca.delays.iter().sum();
            assert!(waited < 10_000, "{by} at {at}: {:?}", ca.delays);
        }
    }
}

#[test]
fn k04_a_clock_set_forward_a_little_does_no_harm() {
    for at in 0..moments() {
        for by in [1, 1000, 60_000, 599_000 / 2] {
            let (_, outcome) = jump(at, by);
            outcome.unwrap_or_else(|kind| panic!("{by} at {at}: {kind:?}"));
        }
    }
}

#[test]
fn k04_k06_a_clock_set_forward_beyond_the_timeout_ends_the_operation_cleanly() {
    for at in 1..moments() {
        for by in [HOUR, 240 * HOUR, i64::MAX / 2] {
            let (ca, outcome) = jump(at, by);
            match outcome {
                Ok(()) | Err(ErrorKind::Timeout) => {}
                Err(kind) => panic!("{by} at {at}: {kind:?}"),
            }
            assert!(ca.transcript.len() <= 14, "no burst: {:?}", ca.transcript);
        }
    }
}

#[test]
fn k02_k03_a_clock_at_the_ends_of_time_does_no_harm() {
    for now in [i64::MIN, -1, 0, i64::MAX - 100_000] {
        let mut ca = Script::new();
        ca.now = now;
        let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
        assert!(matches!(operation.poll(Time::from_millis(now)), Ok(Step::Request(_))));
    }
    let mut ca = Script::new();
    ca.now = -40 * 365 * 24 * HOUR;
    ca.obtain(&["example.org"]).unwrap();
}

/// Cancels an issuance at its n-th moment.
fn cancel(at: usize, pace: Pace) -> (Script, Option<ErrorKind>, bool) {
    let mut ca = Script::new();
    ca.pace = pace;
    ca.ca.validation_fetches = 3;
    let hit = Arc::new(AtomicBool::new(false));
    let seen = hit.clone();
    ca.interfere = Some(Box::new(move |n, _| match n == at {
        true => {
            seen.store(true, Ordering::Relaxed);
            Interference::Cancel
        }
        false => Interference::Nothing,
    }));
    let outcome = ca.obtain(&["a.example", "b.example", "c.example", "d.example", "e.example"]);
    (ca, outcome.err().map(|error| error.kind()), hit.load(Ordering::Relaxed))
}

#[test]
fn o34_canceling_at_any_moment_ends_the_operation_and_removes_everything() {
    for pace in [Pace::Blocking, Pace::Eager, Pace::Shuffled(5)] {
        let mut canceled = 0;
        for at in 0.. {
            let (ca, kind, hit) = cancel(at, pace);
            if !hit {
                assert_eq!(kind, None);
                break;
            }
            // A cancellation at the last moments is too late: the certificate is there.
            match kind {
                Some(kind) => assert_eq!(kind, ErrorKind::Canceled, "at {at}: {:?}", ca.events),
                None => assert_eq!(ca.transcript.last().unwrap(), "POST /cert/1", "at {at}"),
            }
            canceled += usize::from(kind.is_some());
        }
        assert!(canceled > 30, "{pace:?}: {canceled}");
    }
}

#[test]
fn o34_the_next_run_resumes_an_order_that_was_canceled_at_any_moment() {
    for at in 0.. {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 3;
        let mut options = OrderOptions::new(["a.example", "b.example"]);
        options.key = Some(Key::generate(KeyType::P256).unwrap());
        ca.interfere = Some(Box::new(move |n, _| match n == at {
            true => Interference::Cancel,
            false => Interference::Nothing,
        }));
        let operation = ca.client.obtain(options.clone()).unwrap();
        let outcome = ca.run(&operation);
        if ca.moments <= at {
            assert!(at > 30 && outcome.is_ok(), "{at}");
            break;
        }
        options.order_url = operation.order_url();
        let known = options.order_url.is_some();
        let orders = ca.ca.orders.len();
        ca.interfere = None;
        let issued = ca.order(options).unwrap_or_else(|error| panic!("after {at}: {error}"));
        // Only an order whose URL the host has never learned is lost.
        assert_eq!(ca.ca.orders.len(), orders + usize::from(!known), "after {at}");
        assert!(ca.ca.orders.len() <= 2 && ca.ca.accounts_made == 1);
        assert_eq!(issued.chain.names().len(), 2);
        let finalizes: u32 = ca.ca.orders.iter().map(|order| order.finalizes).sum();
        assert_eq!(finalizes, 1, "after {at}");
    }
}

#[test]
fn canceling_sends_no_further_request() {
    for at in 0..7 {
        let mut ca = Script::new();
        ca.ca.authorized.push("example.org".to_owned());
        let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
        let mut now = ca.now;
        let mut left = at;
        let error = loop {
            if left == 0 {
                operation.cancel();
            }
            match operation.poll(Time::from_millis(now)) {
                Ok(Step::Request(request)) => {
                    assert!(left > 0, "a request after the operation was canceled");
                    left -= 1;
                    let response = ca.respond_to(&request).unwrap();
                    let reply = operation.reply(request.id);
                    for (name, value) in &response.headers {
                        reply.header(name.as_bytes(), value).unwrap();
                    }
                    reply.body(&response.body).unwrap();
                    reply.end(response.status).unwrap();
                }
                Ok(Step::Wait(delay)) => now += delay.unwrap().as_millis() as i64,
                Ok(step) => panic!("{step:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Canceled, "{at}: {error}");
    }
}

#[test]
fn canceling_twice_or_after_the_end_does_no_harm() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    ca.run(&operation).unwrap();
    operation.cancel();
    operation.cancel();
    assert!(matches!(operation.poll(Time::from_millis(ca.now)), Ok(Step::Done)));
    let operation = ca.client.obtain(OrderOptions::new(["www.example.org"])).unwrap();
    operation.cancel();
    operation.cancel();
    assert_eq!(ca.run(&operation).unwrap_err().kind(), ErrorKind::Canceled);
}

#[test]
fn t11_canceling_during_a_publication_accepts_the_late_report() {
    let mut ca = Script::new();
    ca.extra_polls = 2;
    ca.interfere = Some(Box::new(|_, moment| match moment {
        Moment::WhilePublishing => Interference::Cancel,
        _ => Interference::Nothing,
    }));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(ca.count("POST /chall/*"), 0);
    assert_eq!(ca.events.last().unwrap(), "UNPUBLISH http-01 example.org");
}

#[test]
fn the_next_operation_works_after_a_cancellation() {
    let mut ca = Script::new();
    ca.interfere = Some(Box::new(|n, _| match n {
        12 => Interference::Cancel,
        _ => Interference::Nothing,
    }));
    assert_eq!(ca.obtain(&["a.example"]).unwrap_err().kind(), ErrorKind::Canceled);
    ca.interfere = None;
    ca.obtain(&["b.example"]).unwrap();
}

#[test]
fn spurious_polls_and_responses_in_pieces_change_nothing() {
    let reference = {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 3;
        ca.obtain(&["example.org"]).unwrap();
        (ca.events, ca.delays)
    };
    for (extra_polls, chunk) in [(3, 0), (1, 1), (3, 7), (10, 1000)] {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 3;
        (ca.extra_polls, ca.chunk) = (extra_polls, chunk);
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!((ca.events, ca.delays), reference, "{extra_polls} {chunk}");
    }
}

#[test]
fn spurious_polls_change_no_outcome_of_many_names_or_failures() {
    for seed in 0..20 {
        let mut ca = Script::with(|options| options.seed = Some(seed));
        ca.pace = Pace::Shuffled(seed);
        ca.extra_polls = (seed % 4) as u32;
        ca.chunk = (seed % 3) as usize * 50;
        ca.ca.refused_nonces = seed % 3 * 20;
        ca.on("POST /authz/3").times(2).lose_response();
        ca.on("POST /chall/5/http-01").nth(1).lose_request();
        ca.on("POST /finalize/1").nth(1).lose_response();
        let names: Vec<String> = (0..9).map(|n| format!("n{n}.example")).collect();
        ca.order(OrderOptions::new(names)).unwrap();
        assert_eq!(ca.ca.orders[0].finalizes, 1);
    }
}

#[test]
fn k07_an_early_poll_returns_the_rest_of_the_wait_and_no_request() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = 2;
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let mut now = START;
    loop {
        match operation.poll(Time::from_millis(now)).unwrap() {
            Step::Request(request) => {
                if request.url().contains("/chall/") {
                    operation.reply(request.id).failed("lost").unwrap();
                    continue;
                }
                let response = ca.respond_to(&request).unwrap();
                let reply = operation.reply(request.id);
                for (name, value) in &response.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&response.body).unwrap();
                reply.end(response.status).unwrap();
            }
            Step::Publish(_) => operation.published(Ok(())).unwrap(),
            Step::Wait(Some(delay)) => {
                let delay = delay.as_millis() as i64;
                for early in 1..delay {
                    let step = operation.poll(Time::from_millis(now + early)).unwrap();
                    let Step::Wait(Some(left)) = step else { panic!("{early}: {step:?}") };
                    assert_eq!(left.as_millis() as i64, delay - early);
                }
                now += delay;
                break;
            }
            step => panic!("{step:?}"),
        }
    }
    assert!(matches!(operation.poll(Time::from_millis(now)), Ok(Step::Request(_))));
}

#[test]
fn k08_an_operation_that_is_not_polled_for_a_month_ends_cleanly() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = u32::MAX;
    ca.interfere = Some(Box::new(|n, moment| match moment {
        Moment::BeforePoll if n == 8 => Interference::MoveClock(30 * 24 * HOUR),
        _ => Interference::Nothing,
    }));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Timeout);
    assert!(ca.transcript.len() < 8, "{:?}", ca.transcript);
    // The client does not use a nonce that the CA issued a month ago.
    ca.now += 30 * 24 * HOUR;
    ca.interfere = None;
    ca.forget();
    ca.ca.validation_fetches = 0;
    ca.obtain(&["www.example.org"]).unwrap();
    assert_eq!(ca.transcript[0], "GET /new-nonce");
}

#[test]
fn responses_and_cancellation_wake_the_waiter() {
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count::default());
    let woken = || count.0.swap(0, Ordering::Relaxed) > 0;
    let operation = Script::new().client.register();
    operation.set_waker(Some(count.clone().into()));
    let Step::Request(request) = operation.poll(Time::from_millis(START)).unwrap() else {
        panic!("no request")
    };
    operation.reply(request.id).header(b"a", b"b").unwrap();
    assert!(!woken());
    operation.reply(request.id).failed("no network").unwrap();
    assert!(woken());
    assert!(operation.published(Ok(())).is_err() && operation.signed(9, Ok(vec![])).is_err());
    assert!(matches!(operation.poll(Time::from_millis(START)).unwrap(), Step::Wait(Some(_))));
    woken();
    operation.cancel();
    assert!(woken());
    operation.set_waker(Some(count.clone().into()));
    assert!(woken());
    operation.set_waker(None);
    operation.cancel();
    assert!(!woken());

    // All ways in which a response can end.
    type End = fn(&Reply<'_>) -> Result<(), AcmeError>;
    let ends: [End; 5] = [
        |reply| reply.end(200),
        |reply| reply.failed("no network"),
        |reply| reply.unusable("it is upside down"),
        |reply| reply.hopeless("the proxy says no"),
        |reply| reply.body(&vec![0; 1024 * 1024 + 1]),
    ];
    for (n, end) in ends.iter().enumerate() {
        let operation = Script::new().client.register();
        operation.set_waker(Some(count.clone().into()));
        let Step::Request(request) = operation.poll(Time::from_millis(START)).unwrap() else {
            panic!("no request")
        };
        assert!(!woken());
        let _ = end(&operation.reply(request.id));
        assert!(woken(), "{n}");
    }
}
