//! A manager with many certificates: what an idle one costs, and what the manager does not do. `make bench-manager`
//! prints the figures of docs/performance.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]
// Prints how long it takes.
#![allow(clippy::disallowed_methods)]
// Counts the bytes of the heap.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use acme_micro::engine::{Client, ClientOptions, KeepOptions, OrderOptions};
use acme_micro::manager::{Act, Manager, ManagerOptions};
use acme_micro::store::{MemoryStore, Store, Versioned};
use acme_micro::{AcmeError, Key, KeyType, Time};
use base64::Engine;

struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes all calls on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED.fetch_add(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
    manager_at(DIRECTORY, store.clone())
}

fn manager_at(directory: &str, store: Arc<dyn Store>) -> Manager {
    let mut options = ClientOptions::with_store(directory, store).unwrap();
    options.terms_agreed = true;
    Manager::new(&Client::new(options).unwrap(), ManagerOptions::default()).unwrap()
}

fn add(manager: &mut Manager, name: String) {
    manager.add(KeepOptions::new(OrderOptions::new([name]))).unwrap();
}

/// A store that has a certificate of each of this many sites, with the moments of their renewals.
fn store_of(count: usize, renew_at: impl Fn(usize) -> i64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    for n in 0..count {
        let name = name(n);
        let record_name = format!("certificate/ca.example_directory/{name}");
        store.put(&record_name, 0, Some(record(&name, renew_at(n)).as_bytes())).unwrap();
    }
    store
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
    let store = store_of(count, |n| NOW + DAY + n as i64);
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

/// The number of allocations of a call.
fn allocations(call: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    call();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn certificates_that_are_not_due_cost_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = 10_000;
    let store = store_of(count, |n| NOW + if n < 1000 { 2 * DAY } else { 30 * DAY });
    let mut manager = manager(&store);
    (0..count).for_each(|n| add(&mut manager, name(n)));
    settle(&mut manager, NOW);
    let idle = |manager: &mut Manager, now: i64| {
        assert!(matches!(manager.poll(Time::from_millis(now)), Act::Wait(_)));
    };
    // All are checked again after a day: one that is due costs a place in the queue.
    assert_eq!(allocations(|| idle(&mut manager, NOW + 1)), 0);
    let due = allocations(|| assert_eq!(settle(&mut manager, NOW + DAY).1, 10));
    assert!(due < 2000, "{due} allocations for 10,000 that are due, ten of which begin");
    assert_eq!(allocations(|| idle(&mut manager, NOW + DAY + 1)), 0, "with 9,990 in the queue");
}

/// A store that counts.
struct Counted {
    records: Arc<MemoryStore>,
    reads: AtomicUsize,
    writes: AtomicUsize,
}

impl Store for Counted {
    fn get(&self, name: &str) -> Result<Option<Versioned>, AcmeError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.records.get(name)
    }
    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64, AcmeError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.records.put(name, expected, value)
    }
    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, AcmeError> {
        self.records.list(prefix, after, limit)
    }
}

#[test]
fn a_start_reads_each_record_once_and_writes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = 2000;
    let records = store_of(count, |_| NOW + 2 * DAY);
    let store = Arc::new(Counted { records, reads: 0.into(), writes: 0.into() });
    let mut manager = manager_at(DIRECTORY, store.clone());
    (0..count).for_each(|n| add(&mut manager, name(n)));
    settle(&mut manager, NOW);
    let (reads, writes) =
        (store.reads.load(Ordering::Relaxed), store.writes.load(Ordering::Relaxed));
    assert_eq!((reads, writes), (count + 1, 0), "and the account");
}

/// Cancels each attempt at once, so that it begins again; returns how many began in this time.
fn begun_within(manager: &mut Manager, from: i64, until: i64) -> usize {
    let (mut now, mut begun) = (from, 0);
    while now < until {
        let mut running = Vec::new();
        let wait = loop {
            match manager.poll(Time::from_millis(now)) {
                Act::Load(job) => manager.loaded(job.perform(), Time::from_millis(now)),
                Act::Attempt(ticket, operation) => running.push((ticket, operation)),
                Act::Tell(event) => panic!("{event:?}"),
                Act::Ask(name) => panic!("{name}"),
                Act::Wait(wait) => break wait,
            }
        };
        assert!(running.len() <= 10, "{} attempts at the same time", running.len());
        begun += running.len();
        now += if running.is_empty() { wait.as_millis() as i64 } else { 1000 };
        for (ticket, operation) in running {
            operation.cancel();
            let error = operation.poll(Time::from_millis(now)).expect_err("it is canceled");
            manager.finished(ticket, Err(error), Time::from_millis(now));
        }
    }
    begun
}

#[test]
fn a_thousand_new_names_stay_within_the_limit_of_lets_encrypt() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let url = "https://acme-v02.api.letsencrypt.org/directory";
    let mut manager = manager_at(url, Arc::new(MemoryStore::new()));
    (0..1000).for_each(|n| add(&mut manager, name(n)));
    // A CA that has no limits gets all of them, ten at a time; 300 in three hours are the limit of this one.
    let hours = 3 * 3_600_000;
    for n in 0..4 {
        let begun = begun_within(&mut manager, NOW + n * hours, NOW + (n + 1) * hours);
        assert!((200..=240).contains(&begun), "{begun} orders in three hours");
    }
    let mut manager = manager_at(DIRECTORY, Arc::new(MemoryStore::new()));
    (0..1000).for_each(|n| add(&mut manager, name(n)));
    assert!(begun_within(&mut manager, NOW, NOW + 120_000) >= 1000);
}

/// The time that this thread has run, in steps of some milliseconds.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Prints the time of a call, divided by a number of things.
fn measure<T>(what: &str, each: u32, call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = call();
    println!("{what}: {:?}", begin.elapsed() / each);
    result
}

#[test]
#[ignore = "prints times: make bench-manager"]
fn figures() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count: usize = 100_000;
    // The first 1,000 are due after an hour, the others much later.
    let store = store_of(count, |n| NOW + if n < 1000 { DAY / 24 } else { DAY + n as i64 });
    let before = USED.load(Ordering::Relaxed);
    let begin = cpu_time();
    let mut manager = manager(&store);
    (0..count).for_each(|n| add(&mut manager, name(n)));
    settle(&mut manager, NOW);
    println!("CPU time until all schedules wait: {:?}", cpu_time() - begin);
    println!("heap for each, bytes: {}", (USED.load(Ordering::Relaxed) - before) / count);
    measure("the same options again, for each", count as u32, || {
        (0..count).for_each(|n| add(&mut manager, name(n)));
    });
    let poll = |manager: &mut Manager, now: i64| match manager.poll(Time::from_millis(now)) {
        Act::Wait(_) => {}
        _ => panic!("something is due"),
    };
    settle(&mut manager, NOW + 60_000);
    measure("a poll when nothing is due", 1_000_000, || {
        (0..1_000_000).for_each(|_| poll(&mut manager, NOW + 60_000));
    });
    // Just before, so that the poll has nothing to read.
    let now = NOW + DAY / 24;
    settle(&mut manager, now - 1000);
    let begun = measure("a poll that takes 1,000 that are due, for each of them", 1000, || {
        manager.poll(Time::from_millis(now))
    });
    assert!(matches!(begun, Act::Attempt(..)));
    assert_eq!(settle(&mut manager, now).1, 9, "ten at the same time");
    measure("a poll while 990 wait in the queue", 1_000_000, || {
        (0..1_000_000).for_each(|_| poll(&mut manager, now));
    });
}

#[test]
fn an_account_of_the_program_s_own_stays_beside_one_in_the_store() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (own, other) =
        (Key::generate(KeyType::P256).unwrap(), Key::generate(KeyType::P256).unwrap());
    let store = Arc::new(MemoryStore::new());
    let account = serde_json::json!({
        "format": 1, "ca": DIRECTORY, "key": other.to_pem().unwrap().as_str(),
        "url": "https://ca.example/account/2",
    });
    store.put("account/ca.example_directory", 0, Some(account.to_string().as_bytes())).unwrap();
    let mut options = ClientOptions::new(DIRECTORY, own.clone());
    options.account_url = Some("https://ca.example/account/1".to_owned());
    options.store = Some(store);
    options.is_own_account = true;
    let client = Client::new(options).unwrap();
    let mut manager = Manager::new(&client, ManagerOptions::default()).unwrap();
    assert_eq!(settle(&mut manager, NOW).1, 0);
    let token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let answer = manager.http01_answer(&format!("/.well-known/acme-challenge/{token}"));
    assert_eq!(answer, Some(format!("{token}.{}", own.thumbprint())));
}
