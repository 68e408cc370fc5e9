//! The threads that send requests: each takes one after the other, from the CAs in turn.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::inbox::{Inbox, Link};
use super::threads::{Spawn, Threads};
use super::{Driven, DriverOptions};
use crate::engine::Request;
use crate::http::{Answer, HttpClient};

/// A request to be sent for an operation.
pub(super) struct Job {
    pub operation: Arc<dyn Driven>,
    pub link: Arc<Link>,
    pub http: HttpClient,
    pub request: Arc<Request>,
}

/// Sends requests; answers go straight to the operations.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    limits: DriverOptions,
    linger: Duration,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// One for each CA that is being asked something.
    lanes: VecDeque<Lane>,
    /// How many threads there are.
    threads: usize,
    /// One for each way to connect, so that connections are shared as far as they can be.
    clients: Vec<HttpClient>,
    stopped: bool,
}

struct Lane {
    host: String,
    port: u16,
    waiting: VecDeque<Job>,
    /// How many requests are being sent.
    under_way: usize,
}

impl Pool {
    pub(super) fn new(
        limits: DriverOptions,
        inbox: Arc<Inbox>,
        spawn: Spawn,
        linger: Duration,
    ) -> Pool {
        let (state, work) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { limits, linger, inbox, state, work });
        Pool { shared, threads: Threads::new(spawn) }
    }

    /// Has a request sent.
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
                    let unsent = std::mem::take(&mut state.lanes);
                    drop(state);
                    for job in unsent.into_iter().flat_map(|lane| lane.waiting) {
                        let why = format!("no thread can be started: {error}");
                        let _ = job.operation.reply(job.request.id).failed(&why);
                    }
                    return;
                }
                Err(error) => log::warn!("no other thread can be started: {error}"),
            }
        }
        self.shared.work.notify_one();
    }

    /// Is it worth giving this CA more to do?
    pub(super) fn has_room(&self, host: &str, port: u16) -> bool {
        let state = self.shared.state();
        let lane = state.lanes.iter().find(|lane| lane.is_for(host, port));
        // As many again as are under way: no thread runs dry.
        lane.is_none_or(|lane| {
            lane.waiting.len() + lane.under_way < 2 * self.shared.limits.max_requests_per_ca
        })
    }

    #[cfg(test)]
    pub(super) fn is_going(&self) -> bool {
        self.shared.state().threads > 0
    }

    /// Ends the threads. Requests under way fail at once.
    pub(super) fn stop(&self) {
        let mut state = self.shared.state();
        state.stopped = true;
        let unsent = std::mem::take(&mut state.lanes);
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

    /// What a thread does all its life.
    fn work(&self) {
        let mut state = self.state();
        while !state.stopped {
            if let Some(job) = state.take(self.limits.max_requests_per_ca) {
                let http = state.client(&job.http, self.limits.max_requests_per_ca);
                drop(state);
                self.send(&job, &http);
                drop(job);
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
            // Nobody would close them before the next request.
            let clients = std::mem::take(&mut state.clients);
            drop(state);
            drop(clients);
        }
    }

    fn send(&self, job: &Job, http: &HttpClient) {
        let reply = job.operation.reply(job.request.id);
        let wanted = || (!job.link.is_gone()).then(|| http.fetch(&job.request, &reply));
        let answer = panic::catch_unwind(AssertUnwindSafe(wanted)).unwrap_or_else(|bug| {
            // Dropping it could panic again.
            std::mem::forget(bug);
            Some(Answer::none("a bug in the HTTP client"))
        });
        // First of all: whoever hears of the answer may find room for another request.
        self.state().done(job.request.host(), job.request.port());
        if let Some(answer) = answer {
            // What breaks a limit has ended the answer.
            let _ = answer.feed(&reply);
        }
        self.inbox.nudge();
    }
}

impl State {
    fn put(&mut self, job: Job) {
        let (host, port) = (job.request.host(), job.request.port());
        match self.lanes.iter_mut().find(|lane| lane.is_for(host, port)) {
            Some(lane) => lane.waiting.push_back(job),
            None => {
                let host = host.to_owned();
                self.lanes.push_back(Lane { host, port, waiting: [job].into(), under_way: 0 });
            }
        }
    }

    /// The next request that may be sent. Its lane goes to the end of the row.
    fn take(&mut self, per_ca: usize) -> Option<Job> {
        let at = self.lanes.iter().position(|lane| lane.startable(per_ca) > 0)?;
        let mut lane = self.lanes.remove(at)?;
        let job = lane.waiting.pop_front();
        lane.under_way += 1;
        self.lanes.push_back(lane);
        job
    }

    fn done(&mut self, host: &str, port: u16) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.is_for(host, port)) {
            lane.under_way -= 1;
        }
        self.lanes.retain(|lane| lane.under_way > 0 || !lane.waiting.is_empty());
    }

    /// How many requests could be sent now if there were threads enough.
    fn startable(&self, per_ca: usize) -> usize {
        self.lanes.iter().map(|lane| lane.startable(per_ca)).sum()
    }

    fn under_way(&self) -> usize {
        self.lanes.iter().map(|lane| lane.under_way).sum()
    }

    /// The client of ours that connects as `like` does; it keeps so many connections to a CA.
    fn client(&mut self, like: &HttpClient, kept: usize) -> HttpClient {
        if let Some(client) = self.clients.iter().find(|client| client.connects_as(like)) {
            return client.clone();
        }
        let client = like.apart(kept);
        self.clients.push(client.clone());
        client
    }
}

impl Lane {
    fn is_for(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host == host
    }

    fn startable(&self, per_ca: usize) -> usize {
        self.waiting.len().min(per_ca.saturating_sub(self.under_way))
    }
}
