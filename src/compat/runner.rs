//! Runs flows to their end with the built-in HTTP client.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::api::ApiProblem;
use crate::blocking::{self, Host};
use crate::engine::{Challenge, Client, Reply, Request, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::HttpClient;

/// A client of the engine, and the connections that its requests go over.
#[derive(Clone)]
pub(super) struct Runner {
    client: Client,
    http: HttpClient,
}

// As in 0.14. A panic leaves no half-finished state: shared state changes under locks, in steps,
// and is complete between the steps. A broken connection is not used again.
impl UnwindSafe for Runner {}
impl RefUnwindSafe for Runner {}

impl Runner {
    pub(super) fn new(client: Client, http: HttpClient) -> Runner {
        Runner { client, http }
    }

    /// Returns a runner for another account, with the same connections. The new client has the CA's
    /// directory already.
    pub(super) fn with_client(&self, client: Client) -> Runner {
        client.learn_from(&self.client);
        Runner { client, http: self.http.clone() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs a flow. It ends after 600 seconds, whatever the CA does.
    pub(super) fn run<T, F>(&self, flow: impl FnOnce(Session) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let operation = self.client.start(crate::engine::limits::DEFAULT_TIMEOUT, flow);
        blocking::run(&operation, &mut Sender(&self.http)).map_err(to_anyhow)?;
        let none = || Error::new(ErrorKind::Panic, "a flow without a result");
        Ok(operation.take().ok_or_else(none)?)
    }
}

/// Returns an error in the form of 0.14: a refusal reads `type: detail` (RFC 8555 section 6.7).
/// Inside are the problem, as [`ApiProblem`], and the whole error.
pub(super) fn to_anyhow(error: Error) -> anyhow::Error {
    match error.problem().map(ApiProblem::from) {
        Some(problem) => anyhow::Error::new(error).context(problem),
        None => error.into(),
    }
}

/// A host that only sends requests: with the API of 0.14 the caller publishes challenges.
struct Sender<'a>(&'a HttpClient);

impl Host for Sender<'_> {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        self.0.send(request, reply);
    }

    fn publish(&mut self, _: &[Challenge]) -> Result<(), String> {
        Err("nothing publishes challenges here".to_owned())
    }

    fn unpublish(&mut self, _: &[Challenge]) {}
}
