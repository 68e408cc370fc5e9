//! Any number of operations inside an event loop that has no HTTP client.
//!
//! A [`Driver`] sends the requests of its operations on a few threads of its own. An event loop
//! sees one file descriptor: when it is readable, call [`Driver::next_event`] until that returns
//! `None`. Everything else happens on the loop's thread, inside that call.
//!
//! [`Operation::published`], [`Operation::signed`] and [`Operation::cancel`] may be called on any
//! thread and at any time. They make the descriptor readable.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use acme_micro::driver::{Driver, DriverOptions, Event};
//! use acme_micro::engine::{Client, OrderOptions};
//! use acme_micro::{HttpClient, HttpOptions};
//!
//! # fn poll(_: impl std::os::fd::AsFd) {}
//! # fn f(client: Client, names: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
//! let http = HttpClient::new(&HttpOptions::default())?;
//! let mut driver = Driver::new(&DriverOptions::default())?;
//! for name in names {
//!     let operation = Arc::new(client.obtain(OrderOptions::new([name]))?);
//!     driver.add(operation.clone(), &http, operation)?;
//! }
//! while driver.len() > 0 {
//!     poll(&driver); // for reading, among whatever else your loop waits for
//!     while let Some((operation, event)) = driver.next_event() {
//!         match event {
//!             Event::Publish(challenges) => {
//!                 // Put them in place, now or later, and then:
//!                 operation.published(Ok(()))?;
//!             }
//!             Event::Unpublish(challenges) => {} // remove the same ones
//!             Event::Sign(_) => {} // only for keys outside the process
//!             Event::Done(Ok(())) => {
//!                 let issued = operation.take();
//!             }
//!             Event::Done(Err(why)) => eprintln!("{why}"),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod driven;
mod pool;
mod ready_queue;
mod slab;
mod threads;
mod timer_thread;
mod timers;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

use crate::clock::SteadyClock;
use crate::engine::{Challenge, Operation, Request, Step, ToSign};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::HttpClient;

use driven::Driven;
pub use driven::DriverOptions;
use pool::{Job, Pool};
use ready_queue::{OperationWaker, ReadyQueue};
use slab::{Key, Slab};
use timer_thread::TimerThread;
use timers::Timers;

#[cfg(feature = "capi")]
pub(crate) use threads::Body;
use threads::Spawn;
pub(crate) use threads::spawn;

/// Maximum time that a row of calls of [`Driver::next_event`] takes, apart from the end of one
/// poll. The remaining work waits until the host's loop calls again.
const LONGEST_STRETCH: Duration = Duration::from_millis(1);

/// Timeout of an idle thread. ureq keeps idle connections as long.
pub(crate) const LINGER: Duration = Duration::from_secs(15);

/// An event of one operation.
#[derive(Debug)]
pub enum Event {
    /// Publish all of these, then call [`Operation::published`], at any time and on any thread.
    Publish(Arc<[Challenge]>),
    /// Remove the same challenges. Comes before success, failure and cancellation alike.
    Unpublish(Arc<[Challenge]>),
    /// Sign this with the key that is outside the process, then call [`Operation::signed`], at any
    /// time and on any thread.
    Sign(Arc<ToSign>),
    /// The operation has finished and left the driver. After success [`Operation::take`] returns
    /// its result.
    Done(Result<()>),
}

/// Runs operations; see the [module](self). Each event comes with the payload, of type `P`, that
/// was added with its operation.
///
/// The file descriptor ([`AsFd`]) is readable when [`Driver::next_event`] has work to do. It works
/// with level-triggered and with edge-triggered loops.
///
/// Dropping a driver interrupts its requests and waits for its threads. Only a running name
/// resolution or TCP connect cannot be interrupted. Operations that are still in the driver are
/// dropped as they are. To remove their challenges, call [`Driver::cancel_all`] and take events
/// until [`Driver::len`] is 0.
///
/// A child of fork() cannot use the driver: the threads stay in the parent.
pub struct Driver<P> {
    ready: Arc<ReadyQueue>,
    timer_thread: TimerThread,
    pool: Pool,
    timers: Timers,
    operations: Slab<Entry<P>>,
    /// Operations that have not begun, by CA.
    waiting: Vec<Waiting>,
    /// Start of the current row of calls of [`Driver::next_event`].
    stretch: Option<Instant>,
    /// The time at which the descriptor becomes readable without an event.
    alarm: Option<Instant>,
}

struct Entry<P> {
    payload: P,
    operation: Arc<dyn Driven>,
    http: HttpClient,
    waker: Arc<OperationWaker>,
    clock: SteadyClock,
    /// The operation's earliest time in [`Timers`].
    timer: Option<Instant>,
}

struct Waiting {
    host: String,
    port: u16,
    keys: VecDeque<Key>,
}

impl<P: Clone> Driver<P> {
    /// Creates a driver without operations, threads or connections.
    pub fn new(options: &DriverOptions) -> Result<Driver<P>> {
        Driver::with_threads(options, spawn, LINGER)
    }

    /// Creates a driver whose threads are started by `spawn`, and end after they were idle for
    /// `linger`.
    pub(crate) fn with_threads(
        options: &DriverOptions,
        spawn: Spawn,
        linger: Duration,
    ) -> Result<Driver<P>> {
        if options.max_threads == 0 || options.max_requests_per_ca == 0 {
            return Err(Error::invalid_argument(
                "max_threads and max_requests_per_ca must be at least 1",
            ));
        }
        let ready = Arc::new(ReadyQueue::new().map_err(|error| no_more("descriptors", &error))?);
        Ok(Driver {
            timer_thread: TimerThread::new(ready.clone(), spawn, linger),
            pool: Pool::new(*options, ready.clone(), spawn, linger),
            ready,
            timers: Timers::default(),
            operations: Slab::new(),
            waiting: Vec::new(),
            stretch: None,
            alarm: None,
        })
    }

    /// Adds an operation. Its requests are sent with the options of `http`, over connections of the
    /// driver. The operation has not been polled before, or is between two steps.
    ///
    /// It begins when its CA has capacity, so its time limit does not run while thousands of
    /// operations are before it.
    pub fn add<T: Send + 'static>(
        &mut self,
        operation: Arc<Operation<T>>,
        http: &HttpClient,
        payload: P,
    ) -> Result<()> {
        self.timer_thread.start().map_err(|error| no_more("threads", &error))?;
        let (host, port) = operation.ca();
        let (ready, http) = (self.ready.clone(), http.clone());
        let driven: Arc<dyn Driven> = operation.clone();
        let key = self.operations.insert(|key| {
            let waker = Arc::new(OperationWaker::new(key, ready));
            driven.set_waker(Some(waker.clone().into()));
            let clock = SteadyClock::new();
            Entry { payload, operation: driven, http, waker, clock, timer: None }
        });
        let key = key.ok_or_else(|| Error::new(ErrorKind::Host, "too many operations"))?;
        match self.waiting.iter_mut().find(|w| w.port == port && w.host == host) {
            Some(waiting) => waiting.keys.push_back(key),
            None => self.waiting.push(Waiting { host: host.to_owned(), port, keys: [key].into() }),
        }
        self.ready.notify();
        Ok(())
    }

    /// Returns the number of operations in the driver.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether the driver has no operations.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cancels every operation. Their last events come without waiting for running requests.
    pub fn cancel_all(&self) {
        self.operations.values().for_each(|entry| entry.operation.cancel());
    }

    /// Advances operations until one of them has an event for the caller. `None`: call again when
    /// the descriptor is readable. If work is left, it is readable already.
    pub fn next_event(&mut self) -> Option<(P, Event)> {
        let start = *self.stretch.get_or_insert_with(Instant::now);
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(start) >= LONGEST_STRETCH {
                self.ready.stay_readable();
                break;
            }
            while let Some((at, key)) = self.timers.take_due(now) {
                self.fire(at, key);
            }
            match self.ready.pop() {
                Some(key) => {
                    if let Some(event) = self.poll_operation(key) {
                        return Some(event);
                    }
                }
                None if self.begin_another() => {}
                None => break,
            }
        }
        self.stretch = None;
        let operations = &self.operations;
        self.timers.tidy(operations.len(), |at, key| {
            operations.get(key).is_some_and(|entry| entry.timer == Some(at))
        });
        self.set_timer();
        None
    }

    fn set_timer(&mut self) {
        self.alarm = self.alarm.filter(|at| *at > Instant::now()); // it rings once
        self.timer_thread.set(self.timers.earliest().into_iter().chain(self.alarm).min());
    }

    /// Makes the descriptor readable after this time, once; `None`: never. With this, a program on the driver can
    /// be the host of a manager, whose [`Act::Wait`](crate::manager::Act::Wait) it ends.
    pub fn set_alarm(&mut self, after: Option<Duration>) -> Result<()> {
        if after == Some(Duration::ZERO) {
            self.ready.notify();
        }
        let after = after.filter(|after| !after.is_zero());
        if after.is_some() && self.alarm.is_none() {
            self.timer_thread.start().map_err(|error| no_more("threads", &error))?;
        }
        self.alarm = after.and_then(|after| Instant::now().checked_add(after));
        self.set_timer();
        Ok(())
    }

    /// Does work that may block on a thread, such as [`LoadJob::perform`](crate::manager::LoadJob::perform). The
    /// descriptor is readable afterwards.
    pub fn call(&self, work: Box<dyn FnOnce() + Send>) {
        self.pool.submit(Job::Call(work));
    }

    /// Returns a function that makes the descriptor readable, for any thread.
    pub fn notifier(&self) -> Box<dyn Fn() + Send + Sync> {
        let ready = self.ready.clone();
        Box::new(move || ready.notify())
    }

    fn fire(&mut self, at: Instant, key: Key) {
        if let Some(entry) = self.operations.get_mut(key).filter(|entry| entry.timer == Some(at)) {
            entry.timer = None;
            entry.waker.wake_by_ref();
        }
    }

    /// Begins an operation whose CA has capacity; returns whether there was one.
    fn begin_another(&mut self) -> bool {
        let pool = &self.pool;
        let waiting = self.waiting.iter_mut().find(|w| pool.has_capacity(&w.host, w.port));
        let Some(key) = waiting.and_then(|waiting| waiting.keys.pop_front()) else { return false };
        self.waiting.retain(|waiting| !waiting.keys.is_empty());
        if let Some(entry) = self.operations.get(key) {
            entry.waker.wake_by_ref();
        }
        true
    }

    /// Polls one operation until it waits, or has an event.
    fn poll_operation(&mut self, key: Key) -> Option<(P, Event)> {
        let Driver { operations, pool, timers, .. } = self;
        let entry = operations.get_mut(key)?;
        entry.waker.begin_poll();
        let event = loop {
            match entry.operation.poll(entry.clock.now()) {
                Ok(Step::Request(request)) => pool.submit(entry.send(request)),
                Ok(Step::Store(access)) => pool.submit(Job::Access(access)),
                Ok(Step::Wait(delay)) => {
                    entry.wake_after(delay, timers, key);
                    return None;
                }
                Ok(Step::Sign(to_sign)) => break Event::Sign(to_sign),
                Ok(Step::Publish(challenges)) => break Event::Publish(challenges),
                Ok(Step::Unpublish(challenges)) => break Event::Unpublish(challenges),
                Ok(Step::Done) => break Event::Done(Ok(())),
                Err(error) => break Event::Done(Err(error)),
            }
        };
        if !matches!(event, Event::Done(_)) {
            // Poll again soon: the operation may have more work meanwhile.
            entry.waker.wake_by_ref();
            return Some((entry.payload.clone(), event));
        }
        let entry = operations.remove(key)?;
        entry.leave();
        if self.is_empty() {
            self.timers = Timers::default();
            if self.alarm.is_none() {
                self.timer_thread.pause();
            }
        }
        Some((entry.payload, event))
    }
}

impl<P> Entry<P> {
    fn send(&self, request: Arc<Request>) -> Job {
        let (operation, waker) = (self.operation.clone(), self.waker.clone());
        Job::Send { operation, waker, http: self.http.clone(), request }
    }

    fn wake_after(&mut self, delay: Option<Duration>, timers: &mut Timers, key: Key) {
        // A time that the clock cannot represent never comes.
        let Some(at) = delay.and_then(|delay| Instant::now().checked_add(delay)) else { return };
        // If an earlier timer is set, the poll at that time returns the remaining delay.
        if self.timer.is_none_or(|timer| at < timer) {
            self.timer = Some(at);
            timers.set(at, key);
        }
    }

    /// Detaches the operation from the driver.
    fn leave(&self) {
        self.operation.set_waker(None);
        self.waker.leave();
    }
}

impl<P> AsFd for Driver<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

impl<P> Drop for Driver<P> {
    fn drop(&mut self) {
        self.operations.values().for_each(Entry::leave);
        self.pool.stop();
        self.timer_thread.stop();
    }
}

fn no_more(what: &str, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Host, format!("the system has no {what} for a driver: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::engine::{Client, ClientOptions, Registered};
    use crate::pki::{Key, KeyType};
    use crate::transport::HttpOptions;

    const LIMITS: DriverOptions = DriverOptions { max_threads: 8, max_requests_per_ca: 3 };

    fn client(listener: &TcpListener) -> Client {
        let url = format!("http://{}/directory", listener.local_addr().unwrap());
        let mut options = ClientOptions::new(url, Key::generate(KeyType::P256).unwrap());
        options.allow_http_loopback = true;
        Client::new(options).unwrap()
    }

    fn http() -> HttpClient {
        HttpClient::new(&HttpOptions::default()).unwrap()
    }

    /// Runs a CA that responds to every request with 404. Returns the number of connections to it.
    fn ca_without_anything(listener: TcpListener) -> Arc<AtomicUsize> {
        fn serve(mut connection: TcpStream) {
            let mut request = Vec::new();
            let mut some = [0; 4096];
            while let Ok(amount @ 1..) = connection.read(&mut some) {
                request.extend_from_slice(&some[..amount]);
                if request.ends_with(b"\r\n\r\n") {
                    request.clear();
                    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                    connection.write_all(answer).unwrap();
                }
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                counter.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || serve(connection.unwrap()));
            }
        });
        count
    }

    fn next(driver: &mut Driver<usize>) -> (usize, Event) {
        loop {
            match driver.next_event() {
                Some(event) => return event,
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Returns all events until no operation is left.
    fn run(driver: &mut Driver<usize>) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        while !driver.is_empty() {
            events.push(next(driver));
        }
        events
    }

    /// Lets the driver begin as many operations as its limits allow, with a CA that hangs.
    fn begin(driver: &mut Driver<usize>, operations: &[Arc<Operation<Registered>>]) {
        let begun = || operations.iter().filter(|op| op.state() == "directory").count();
        // For each request in flight, the driver begins one more operation, whose request waits.
        while begun() < 2 * LIMITS.max_requests_per_ca {
            assert!(driver.next_event().is_none());
        }
        for _ in 0..100 {
            assert!(driver.next_event().is_none());
        }
        assert_eq!(begun(), 2 * LIMITS.max_requests_per_ca);
    }

    fn add(driver: &mut Driver<usize>, client: &Client, n: usize) -> Arc<Operation<Registered>> {
        let operation = Arc::new(client.register());
        driver.add(operation.clone(), &http(), n).unwrap();
        operation
    }

    #[test]
    fn every_operation_comes_back_once_over_few_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&listener);
        let connections = ca_without_anything(listener);
        let mut driver = Driver::new(&LIMITS).unwrap();
        for n in 0..500 {
            add(&mut driver, &client, n);
        }
        assert_eq!(driver.len(), 500);
        let mut seen: Vec<usize> = run(&mut driver)
            .into_iter()
            .map(|(n, event)| match event {
                Event::Done(Err(error)) if error.kind() == ErrorKind::Problem => n,
                event => panic!("{n}: {event:?}"),
            })
            .collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..500));
        assert!(driver.next_event().is_none());
        // Each operation has its own HttpClient, but all of them connect with the same options.
        assert!((1..=3).contains(&connections.load(Ordering::Relaxed)));
    }

    #[test]
    fn a_ca_that_hangs_is_asked_so_many_times_at_once_and_dropping_does_not_wait_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&listener);
        // If each drop waited for the timeout of 30 seconds, the test would exceed its time limit.
        for _ in 0..20 {
            let mut driver = Driver::new(&LIMITS).unwrap();
            let operations: Vec<_> = (0..20).map(|n| add(&mut driver, &client, n)).collect();
            begin(&mut driver, &operations);
            let accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err());
            listener.set_nonblocking(false).unwrap();
            drop(driver);
            drop(accepted);
        }
    }

    #[test]
    fn canceled_operations_end_whatever_they_wait_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&listener);
        let mut driver = Driver::new(&LIMITS).unwrap();
        let operations: Vec<_> = (0..10).map(|n| add(&mut driver, &client, n)).collect();
        begin(&mut driver, &operations);
        let _under_way = listener.accept().unwrap();
        thread::spawn(move || operations[9].cancel()).join().unwrap();
        assert!(matches!(next(&mut driver), (9, Event::Done(Err(_)))));
        driver.cancel_all();
        let events = run(&mut driver);
        assert_eq!(events.len(), 9);
        for (n, event) in events {
            let Event::Done(Err(error)) = event else { panic!("{n}: {event:?}") };
            assert_eq!(error.kind(), ErrorKind::Canceled);
        }
    }

    #[test]
    fn the_time_is_kept() {
        // A socket that is bound and does not listen refuses connections, and keeps its port reserved.
        let closed =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let listener = TcpListener::from(closed);
        let client = client(&listener); // every try fails, and each retry has a delay
        let mut driver = Driver::new(&LIMITS).unwrap();
        add(&mut driver, &client, 7);
        let events = run(&mut driver);
        let [(7, Event::Done(Err(error)))] = &events[..] else { panic!("{events:?}") };
        assert_eq!(error.kind(), ErrorKind::Transport);
    }

    #[test]
    fn threads_and_connections_end_when_there_is_nothing_to_do_and_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&listener);
        let connections = ca_without_anything(listener);
        let linger = Duration::from_millis(50);
        let mut driver = Driver::with_threads(&LIMITS, spawn, linger).unwrap();
        for round in 1..=3 {
            add(&mut driver, &client, round);
            assert!(driver.timer_thread.is_running());
            assert_eq!(run(&mut driver).len(), 1);
            while driver.timer_thread.is_running() || driver.pool.is_running() {
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(connections.load(Ordering::Relaxed), round);
        }
    }

    #[test]
    fn a_driver_moves_between_threads_and_may_not_be_idle_for_ever() {
        fn send<T: Send>() {}
        send::<Driver<usize>>();
        for options in [
            DriverOptions { max_threads: 0, ..LIMITS },
            DriverOptions { max_requests_per_ca: 0, ..LIMITS },
        ] {
            let error = Driver::<usize>::new(&options).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
