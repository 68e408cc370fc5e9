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

// As in 0.14. What a panic left half done is not seen: shared state is changed under locks, a step at
// a time, and whole between the steps; a broken connection is not used again.
impl UnwindSafe for Runner {}
impl RefUnwindSafe for Runner {}

impl Runner {
    pub(super) fn new(client: Client, http: HttpClient) -> Runner {
        Runner { client, http }
    }

    /// The same connections for another account. What is known of the CA stays known.
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
        let operation = self.client.start(crate::engine::TIME_LIMIT, flow);
        blocking::run(&operation, &mut Sender(&self.http)).map_err(to_anyhow)?;
        let none = || Error::new(ErrorKind::Panic, "a flow without a result");
        Ok(operation.take().ok_or_else(none)?)
    }
}

/// An error as callers of 0.14 know it: a refusal reads `type: detail`, as the CA says it (RFC 8555
/// section 6.7). Inside are the problem, as [`ApiProblem`], and the whole error.
pub(super) fn to_anyhow(error: Error) -> anyhow::Error {
    match error.problem().map(ApiProblem::from) {
        Some(problem) => anyhow::Error::new(error).context(problem),
        None => error.into(),
    }
}

/// Sends requests. The API of 0.14 publishes challenges itself, so no flow of it asks for that.
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
