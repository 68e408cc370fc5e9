//! The threads that send requests: each sends one request after the other, from the CAs in turn.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::driven::{Driven, DriverOptions};
use super::ready_queue::{OperationWaker, ReadyQueue};
use super::threads::{Spawn, Threads};
use crate::engine::{Request, StoreAccess};
use crate::transport::HttpClient;
use crate::transport::sent::Sent;

/// A job of the threads.
pub(super) enum Job {
    /// A request to send for an operation.
    Send {
        operation: Arc<dyn Driven>,
        waker: Arc<OperationWaker>,
        http: HttpClient,
        request: Arc<Request>,
    },
    /// An access of an operation to its store.
    Access(Arc<StoreAccess>),
    /// Other work that may block.
    Call(Box<dyn FnOnce() + Send>),
}

impl Job {
    /// The queue of the job: the CA's host and port. All stores share one.
    fn queue(&self) -> (&str, u16) {
        match self {
            Job::Send { request, .. } => (request.host(), request.port()),
            Job::Access(_) | Job::Call(_) => ("", 0),
        }
    }

    /// Ends a job that no thread can do.
    fn fail(self, why: &str) {
        match self {
            Job::Send { operation, request, .. } => {
                let _ = operation.reply(request.id).failed(why);
            }
            Job::Access(access) => access.fail(why),
            Job::Call(_) => log::warn!("{why}"),
        }
    }
}

/// Sends requests; the threads pass the responses directly to the operations.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    limits: DriverOptions,
    linger: Duration,
    ready: Arc<ReadyQueue>,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// One queue for each CA that has requests.
    queues: VecDeque<HostQueue>,
    /// Number of threads.
    threads: usize,
    /// One client for each set of options, so that operations share connections.
    clients: Vec<HttpClient>,
    stopped: bool,
}

struct HostQueue {
    host: String,
    port: u16,
    waiting: VecDeque<Job>,
    /// Number of requests that are being sent.
    under_way: usize,
}

impl Pool {
    pub(super) fn new(
        limits: DriverOptions,
        ready: Arc<ReadyQueue>,
        spawn: Spawn,
        linger: Duration,
    ) -> Pool {
        let (state, work) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { limits, linger, ready, state, work });
        Pool { shared, threads: Threads::new(spawn) }
    }

    /// Queues a request, and starts a thread if one is needed and allowed.
    pub(super) fn submit(&self, job: Job) {
        let limits = &self.shared.limits;
        let mut state = self.shared.state();
        state.put(job);
        let idle = state.threads.saturating_sub(state.under_way());
        let startable = state.startable(limits.max_requests_per_ca);
        if startable > idle && state.threads < limits.max_threads {
            let shared = self.shared.clone();
            match self.threads.start(Box::new(move || shared.work())) {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    let unsent = std::mem::take(&mut state.queues);
                    drop(state);
                    for job in unsent.into_iter().flat_map(|queue| queue.waiting) {
                        job.fail(&format!("no thread can be started: {error}"));
                    }
                    return;
                }
                Err(error) => log::warn!("no other thread can be started: {error}"),
            }
        }
        self.shared.work.notify_one();
    }

    /// Whether this CA's queue is short enough to begin another operation.
    pub(super) fn has_capacity(&self, host: &str, port: u16) -> bool {
        let state = self.shared.state();
        let queue = state.queues.iter().find(|queue| queue.is_for(host, port));
        // As many waiting requests as running ones keep every thread busy.
        queue.is_none_or(|queue| {
            queue.waiting.len() + queue.under_way < 2 * self.shared.limits.max_requests_per_ca
        })
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.shared.state().threads > 0
    }

    /// Ends the threads, and waits for them. Running requests fail at once.
    pub(super) fn stop(&self) {
        let mut state = self.shared.state();
        state.stopped = true;
        let unsent = std::mem::take(&mut state.queues);
        let clients = std::mem::take(&mut state.clients);
        drop(state);
        drop(unsent);
        self.shared.work.notify_all();
        clients.iter().for_each(HttpClient::shut_down);
        self.threads.join();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a thread: sends requests until it was idle for `linger`.
    fn work(&self) {
        let mut state = self.state();
        while !state.stopped {
            if let Some(job) = state.take(self.limits.max_requests_per_ca) {
                let (host, port) = job.queue();
                let queue = (host.to_owned(), port);
                let kept = match &job {
                    Job::Send { http, .. } => {
                        Some(state.client(http, self.limits.max_requests_per_ca))
                    }
                    _ => None,
                };
                drop(state);
                self.perform(job, kept, &queue);
                state = self.state();
                continue;
            }
            let waited = self.work.wait_timeout(state, self.linger);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.startable(self.limits.max_requests_per_ca) == 0 {
                break;
            }
        }
        state.threads -= 1;
        if state.threads == 0 {
            // Close idle connections now: without a thread nothing else would, until the next
            // request.
            let clients = std::mem::take(&mut state.clients);
            drop(state);
            drop(clients);
        }
    }

    fn perform(&self, job: Job, kept: Option<HttpClient>, queue: &(String, u16)) {
        let job = match job {
            Job::Call(call) => {
                let called = panic::catch_unwind(AssertUnwindSafe(call));
                called.unwrap_or_else(std::mem::forget);
                self.state().done((&queue.0, queue.1));
                self.ready.notify();
                return;
            }
            job => job,
        };
        let sent = panic::catch_unwind(AssertUnwindSafe(|| match &job {
            Job::Send { operation, waker, http, request } => {
                let reply = operation.reply(request.id);
                let http = kept.as_ref().unwrap_or(http);
                (!waker.is_gone()).then(|| http.perform(request, &reply))
            }
            // Also if the operation has left the driver: what it holds must not be lost.
            Job::Access(access) => {
                access.perform();
                None
            }
            Job::Call(_) => None,
        }));
        let sent = sent.unwrap_or_else(|bug| {
            // Dropping the payload could panic again.
            std::mem::forget(bug);
            Some(Sent::lost("a bug in the HTTP client"))
        });
        // First, so that a poll that follows the response finds capacity for another request.
        self.state().done((&queue.0, queue.1));
        if let (Job::Send { operation, request, .. }, Some(sent)) = (job, sent) {
            // A response that exceeds a limit has ended the request already.
            let _ = sent.feed(&operation.reply(request.id));
        }
        self.ready.notify();
    }
}

impl State {
    fn put(&mut self, job: Job) {
        let (host, port) = job.queue();
        match self.queues.iter_mut().find(|queue| queue.is_for(host, port)) {
            Some(queue) => queue.waiting.push_back(job),
            None => {
                let host = host.to_owned();
                self.queues.push_back(HostQueue {
                    host,
                    port,
                    waiting: [job].into(),
                    under_way: 0,
                });
            }
        }
    }

    /// Takes the next request that may be sent. Its queue goes to the end of the row.
    fn take(&mut self, per_ca: usize) -> Option<Job> {
        let at = self.queues.iter().position(|queue| queue.startable(per_ca) > 0)?;
        let mut queue = self.queues.remove(at)?;
        let job = queue.waiting.pop_front();
        queue.under_way += 1;
        self.queues.push_back(queue);
        job
    }

    fn done(&mut self, (host, port): (&str, u16)) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.is_for(host, port)) {
            queue.under_way -= 1;
        }
        self.queues.retain(|queue| queue.under_way > 0 || !queue.waiting.is_empty());
    }

    /// Returns the number of requests that could be sent now, given enough threads.
    fn startable(&self, per_ca: usize) -> usize {
        self.queues.iter().map(|queue| queue.startable(per_ca)).sum()
    }

    fn under_way(&self) -> usize {
        self.queues.iter().map(|queue| queue.under_way).sum()
    }

    /// Returns the client that connects as `like` does; it keeps `kept` idle connections to a CA.
    fn client(&mut self, like: &HttpClient, kept: usize) -> HttpClient {
        if let Some(client) = self.clients.iter().find(|client| client.connects_as(like)) {
            return client.clone();
        }
        let client = like.separate(kept);
        self.clients.push(client.clone());
        client
    }
}

impl HostQueue {
    fn is_for(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host == host
    }

    fn startable(&self, per_ca: usize) -> usize {
        self.waiting.len().min(per_ca.saturating_sub(self.under_way))
    }
}
