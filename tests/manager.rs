//! A manager with many certificates: what an idle one costs, and what the manager does not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]
// Prints how long a start takes.
#![allow(clippy::disallowed_methods)]
// Counts the bytes of the heap.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use acme_micro::Time;
use acme_micro::engine::{Client, ClientOptions, KeepOptions, OrderOptions};
use acme_micro::manager::{Act, Manager, ManagerOptions};
use acme_micro::store::{MemoryStore, Store};
use base64::Engine;

struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes all calls on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The bytes are those of one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DIRECTORY: &str = "https://ca.example/directory";
const DAY: i64 = 86_400_000;
const NOW: i64 = 1_795_530_245_000;

/// A name of 30 bytes.
fn name(n: usize) -> String {
    format!("site{n:0>18}.example")
}

/// The record of a certificate whose renewal is not due.
fn record(name: &str, renew_at: i64) -> String {
    let digest = openssl::sha::sha256(name.as_bytes());
    let names = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest[..12]);
    let end = NOW + 60 * DAY;
    format!(
        r#"{{"format":1,"ca":"{DIRECTORY}","key":"{key}","chain":"{chain}","schedule":{{"renew_at_ms":{renew_at},
        "check_again_at_ms":{check},"failures":0,"renewals":0,"not_after_ms":{end},"names":"{names}"}}}}"#,
        key = "k".repeat(240),
        chain = "c".repeat(3000),
        check = NOW + DAY,
    )
}

fn manager(store: &Arc<MemoryStore>) -> Manager {
    let store: Arc<dyn Store> = store.clone();
    let mut options = ClientOptions::with_store(DIRECTORY, store).unwrap();
    options.terms_agreed = true;
    Manager::new(&Client::new(options).unwrap(), ManagerOptions::default()).unwrap()
}

fn add(manager: &mut Manager, name: String) {
    manager.add(KeepOptions::new(OrderOptions::new([name]))).unwrap();
}

/// Does what the manager asks for until it waits; returns the wait, and the names of attempts.
fn settle(manager: &mut Manager, now: i64) -> (Duration, usize) {
    let mut attempts = 0;
    loop {
        match manager.poll(Time::from_millis(now)) {
            Act::Load(job) => manager.loaded(job.perform(), Time::from_millis(now)),
            Act::Attempt(..) => attempts += 1,
            Act::Tell(event) => panic!("{event:?}"),
            Act::Ask(name) => panic!("{name}"),
            Act::Wait(wait) => return (wait, attempts),
        }
    }
}

#[test]
fn an_idle_certificate_costs_160_bytes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = 100_000;
    let store = Arc::new(MemoryStore::new());
    for n in 0..count {
        let (name, renew_at) = (name(n), NOW + DAY + n as i64);
        let record_name = format!("certificate/ca.example_directory/{name}");
        store.put(&record_name, 0, Some(record(&name, renew_at).as_bytes())).unwrap();
    }
    let before = USED.load(Ordering::Relaxed);
    let begin = Instant::now();
    let mut manager = manager(&store);
    for n in 0..count {
        add(&mut manager, name(n));
    }
    let (wait, attempts) = settle(&mut manager, NOW);
    println!("ready after {:?}", begin.elapsed());
    assert_eq!((manager.len(), attempts), (count, 0));
    assert_eq!(wait, Duration::from_secs(60), "until the store is looked at for changes");
    let each = (USED.load(Ordering::Relaxed) - before) / count;
    println!("{each} bytes of heap for each certificate");
    assert!(each <= 160, "{each}");

    // When their moment comes, a few run at the same time.
    let (_, attempts) = settle(&mut manager, NOW + 2 * DAY);
    assert_eq!(attempts, 10);
}

#[test]
fn names_are_found_in_whatever_spelling_and_a_removed_one_is_not() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut manager = manager(&Arc::new(MemoryStore::new()));
    let mut options = KeepOptions::new(OrderOptions::new(["example.org", "www.example.org"]));
    options.name = Some("Web Server".to_owned());
    manager.add(options).unwrap();
    add(&mut manager, "bücher.example".to_owned());
    let status = |manager: &Manager, name: &str| manager.status(Some(name), Time::from_millis(NOW));
    for name in ["web server", "XN--bcher-kva.example.", "Bücher.example"] {
        assert!(status(&manager, name).unwrap().contains("loading"), "{name}");
    }
    assert!(status(&manager, "example.org").is_err(), "it is stored under another name");
    assert!(manager.remove("WEB SERVER") && !manager.remove("web server"));
    assert_eq!(manager.len(), 1);
    assert!(manager.renew_now("web server").is_err());
}

#[test]
fn the_same_options_change_nothing_and_other_names_are_ordered_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let store = Arc::new(MemoryStore::new());
    let record_name = "certificate/ca.example_directory/example.org";
    store.put(record_name, 0, Some(record("example.org", NOW + DAY).as_bytes())).unwrap();
    let mut manager = manager(&store);
    // More than are read at the start, so that only the schedule counts.
    for n in 0..1000 {
        let name = name(n);
        let record_name = format!("certificate/ca.example_directory/{name}");
        store.put(&record_name, 0, Some(record(&name, NOW + DAY).as_bytes())).unwrap();
        add(&mut manager, name);
    }
    add(&mut manager, "example.org".to_owned());
    assert_eq!(settle(&mut manager, NOW).1, 0);
    add(&mut manager, "example.org".to_owned());
    assert_eq!((settle(&mut manager, NOW).1, manager.len()), (0, 1001));
    let names = ["example.org", "www.example.org"];
    manager.add(KeepOptions::new(OrderOptions::new(names))).unwrap();
    assert_eq!((settle(&mut manager, NOW).1, manager.len()), (1, 1001));
}

#[test]
fn a_moment_that_only_a_wrong_clock_can_have_made_counts_as_now() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |next: i64| {
        let store = Arc::new(MemoryStore::new());
        let value = record("example.org", NOW + DAY)
            .replace("\"failures\":0", &format!("\"next_try_ms\":{next},\"failures\":1"));
        let record_name = "certificate/ca.example_directory/example.org";
        store.put(record_name, 0, Some(value.as_bytes())).unwrap();
        let mut manager = manager(&store);
        add(&mut manager, "example.org".to_owned());
        manager
    };
    for (next, attempts) in
        [(NOW + 30 * DAY, 0), (NOW + 4000 * DAY, 1), (i64::MAX, 1), (i64::MIN, 1)]
    {
        assert_eq!(settle(&mut failed(next), NOW).1, attempts, "{next}");
    }
    // The clock is ahead, a moment is made, and the clock is set back.
    let mut manager = failed(NOW + 4001 * DAY);
    assert_eq!(settle(&mut manager, NOW + 4000 * DAY).1, 0);
    assert_eq!(settle(&mut manager, NOW).1, 1);
}
