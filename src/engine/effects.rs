//! The effects that a flow has requested, and what the host has replied so far: plain data.
//!
//! A flow *adds* an effect (a request, a signature, challenges). A poll *issues* it to the host as a
//! `Step`, once. The host's reply stays here until the flow takes it. `io` is how a flow waits for it.

mod host;

use std::sync::Arc;
use std::time::Duration;

use super::challenge::Challenge;
use super::response::{PartialResponse, Response};
use super::step::{Method, Request, ToSign};
use super::store_access::StoreAccess;
use super::transcript::Transcript;
use crate::error::Result;
use crate::pki::Key;
use crate::time::Time;
use crate::url::Url;

/// The effects of one operation.
pub(super) struct Effects {
    /// The host's clock at the last poll. It can jump.
    clock: Time,
    /// The flow's time. It goes forward from poll to poll, also when the host's clock is set back.
    pub now: Time,
    pub timeout: Duration,
    /// The end of the operation. The first poll sets it; the time that publishing takes is added.
    pub deadline: Option<Time>,
    /// The earliest time that a part of the flow waits for. Each poll collects it anew.
    wake: Option<Time>,
    /// A part of the flow has produced something that an already polled part may be waiting for.
    pub needs_repoll: bool,
    /// The public state, such as `"order"`.
    pub state: &'static str,
    pub order_url: Option<String>,
    pub cancellation_is_noted: bool,
    /// Spare requests are not issued before this time: the last one failed.
    pub spare_after: Time,
    /// The time of the latest retry that is planned after a failed request.
    pub next_retry: Time,
    /// Whether retries go on for longer: an order exists, or challenges are published.
    pub is_patient: bool,
    /// Whether this operation has fetched the directory itself.
    pub knows_directory: bool,
    /// Whether a part of the flow is fetching the directory now.
    pub fetches_directory: bool,
    /// State of the generator of jitter.
    pub random: u64,
    last_id: u64,
    requests: Vec<Outstanding>,
    signings: Vec<Signing>,
    /// Ids of issued requests and signatures that the flow no longer waits for. Their replies are ignored.
    discarded: Vec<u64>,
    accesses: Vec<Access>,
    pub solving: Option<Solving>,
    /// The transcript, if the log wants one.
    pub transcript: Option<Box<Transcript>>,
}

/// A request whose response the flow awaits.
struct Outstanding {
    request: Arc<Request>,
    /// Whether it is issued only when the host has nothing else to send.
    spare: bool,
    issued: bool,
    partial: PartialResponse,
    response: Option<Result<Response>>,
}

/// A signature that the flow awaits.
struct Signing {
    to_sign: Arc<ToSign>,
    issued: bool,
    signature: Option<Result<Vec<u8>, String>>,
}

/// An access to a store whose end the flow awaits.
struct Access {
    access: Arc<StoreAccess>,
    issued: bool,
}

/// Challenges that the host publishes or removes.
pub(super) struct Solving {
    pub challenges: Arc<[Challenge]>,
    /// `true`: publish; `false`: remove.
    pub publish: bool,
    pub issued_at: Option<Time>,
    /// The payloads of the responses, for the challenge types that take one from the host.
    pub payloads: Vec<Option<Vec<u8>>>,
    pub outcome: Option<Result<(), String>>,
}

impl Effects {
    /// `seed` feeds the jitter of delays: the same seed and the same replies give the same run.
    pub(super) fn new(timeout: Duration, seed: u64) -> Effects {
        Effects {
            clock: Time::default(),
            now: Time::default(),
            timeout,
            deadline: None,
            wake: None,
            needs_repoll: false,
            state: "new",
            order_url: None,
            cancellation_is_noted: false,
            spare_after: Time::from_millis(i64::MIN),
            next_retry: Time::from_millis(i64::MIN),
            is_patient: false,
            knows_directory: false,
            fetches_directory: false,
            random: seed,
            last_id: 0,
            requests: Vec::new(),
            signings: Vec::new(),
            discarded: Vec::new(),
            accesses: Vec::new(),
            solving: None,
            transcript: None,
        }
    }
}

/// The flow's side.
impl Effects {
    /// Adds a request and returns its id.
    pub(super) fn add_request(
        &mut self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        spare: bool,
    ) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let request = Arc::new(Request { id, method, url, headers, body });
        let partial = PartialResponse::default();
        let outstanding = Outstanding { request, spare, issued: false, partial, response: None };
        // Usually there is only one request. A program can have a hundred thousand orders in
        // flight, so no room is reserved for more.
        self.requests.reserve_exact(1);
        self.requests.push(outstanding);
        id
    }

    pub(super) fn add_challenges(&mut self, challenges: Arc<[Challenge]>, publish: bool) {
        self.state = if publish { "publish" } else { "unpublish" };
        let payloads = challenges.iter().map(|_| None).collect();
        self.solving =
            Some(Solving { challenges, publish, issued_at: None, payloads, outcome: None });
    }

    /// Adds a signature by `key` over `input` and returns its id.
    pub(super) fn add_signing(&mut self, key: &Key, input: &[u8]) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let to_sign = Arc::new(ToSign { id, key: key.clone(), input: input.to_vec() });
        self.signings.push(Signing { to_sign, issued: false, signature: None });
        id
    }

    pub(super) fn add_access(&mut self, access: Arc<StoreAccess>) {
        self.accesses.push(Access { access, issued: false });
    }

    /// Removes an access that the flow no longer awaits.
    pub(super) fn forget_access(&mut self, access: &Arc<StoreAccess>) {
        self.accesses.retain(|known| !Arc::ptr_eq(&known.access, access));
    }

    pub(super) fn take_signature(&mut self, id: u64) -> Option<Result<Vec<u8>, String>> {
        let at = self.signings.iter().position(|signing| signing.to_sign.id == id)?;
        let signature = self.signings.get_mut(at)?.signature.take()?;
        self.signings.remove(at);
        Some(signature)
    }

    /// Drops challenges that were not issued yet: the host has nothing to remove. Returns whether it
    /// did.
    pub(super) fn withdraw_challenges(&mut self) -> bool {
        let not_issued = self.solving.as_ref().is_some_and(|solving| solving.issued_at.is_none());
        if not_issued {
            self.solving = None;
        }
        not_issued
    }

    /// Removes a request or a signature that the flow no longer awaits. A reply that still comes is
    /// ignored.
    pub(super) fn forget(&mut self, id: u64) {
        let (requests, signings) = (&self.requests, &self.signings);
        let sent = requests.iter().any(|o| o.request.id == id && o.issued && o.response.is_none());
        let signed =
            signings.iter().any(|s| s.to_sign.id == id && s.issued && s.signature.is_none());
        if sent || signed {
            self.discarded.push(id);
        }
        self.requests.retain(|outstanding| outstanding.request.id != id);
        self.signings.retain(|signing| signing.to_sign.id != id);
    }

    pub(super) fn wake_at(&mut self, time: Time) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// Issues no spare request before this time.
    pub(super) fn delay_spares_until(&mut self, time: Time) {
        self.spare_after = self.spare_after.max(time);
    }

    /// Makes retries go on for longer from now on: challenges are published, and a CA that restarts
    /// must not make their validation fail.
    pub(super) fn begin_patience(&mut self, now: Time) {
        self.is_patient = true;
        self.next_retry = now;
    }

    /// Records a planned retry. `Session::settle` sends no request before it.
    pub(super) fn delay_retries_until(&mut self, time: Time) {
        self.next_retry = self.next_retry.max(time);
    }

    pub(super) fn is_publishing(&self) -> bool {
        self.solving.as_ref().is_some_and(|solving| solving.publish && solving.outcome.is_none())
    }

    /// Moves the deadline by the time that publishing took.
    pub(super) fn resume_deadline(&mut self) {
        let took = self.solving.as_ref().and_then(|s| s.issued_at).map(|at| self.now.since(at));
        self.deadline = self.deadline.map(|deadline| deadline.after(took.unwrap_or_default()));
        self.solving = None;
    }

    pub(super) fn is_issued(&self, id: u64) -> bool {
        self.requests.iter().any(|o| o.request.id == id && o.issued)
    }

    pub(super) fn take_response(&mut self, id: u64) -> Option<Result<Response>> {
        let at = self.requests.iter().position(|outstanding| outstanding.request.id == id)?;
        let response = self.requests.get_mut(at)?.response.take()?;
        self.requests.remove(at);
        Some(response)
    }
}
