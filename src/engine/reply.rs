//! The answer to a request, fed in by the host piece by piece.

#[cfg(feature = "http")]
use std::time::Duration;

use super::io::Io;
use super::response::PartialResponse;
use crate::error::{Error, ErrorKind, Result};
use crate::problem::printable;

#[cfg(feature = "http")]
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Feeds the answer to one request into an operation: header fields, body, then the end - or that
/// none came. An answer that is no longer wanted (the operation was canceled) is accepted and
/// ignored.
pub struct Reply<'a> {
    io: &'a Io,
    request_id: u64,
}

impl<'a> Reply<'a> {
    pub(super) fn new(io: &'a Io, request_id: u64) -> Reply<'a> {
        Reply { io, request_id }
    }

    /// One header field. Pass them all: what does not matter is not kept.
    pub fn header(&self, name: &[u8], value: &[u8]) -> Result<()> {
        self.receive(|partial| partial.header(name, value))
    }

    /// Some bytes of the body.
    pub fn body(&self, data: &[u8]) -> Result<()> {
        self.receive(|partial| partial.body(data))
    }

    /// The answer is complete and had this HTTP status. Redirects are answers too.
    pub fn end(&self, http_status: u16) -> Result<()> {
        if !(200..=599).contains(&http_status) {
            return Err(Error::invalid_argument(format!(
                "{http_status} is not the status of a final HTTP answer (200 to 599)"
            )));
        }
        self.finish(Ok(http_status))
    }

    /// An answer came, but is of no use: it breaks a limit, say. It is not asked for again.
    pub fn unusable(&self, why: &str) -> Result<()> {
        self.receive(|_| Err(Error::protocol(printable(why, 500))))
    }

    /// No answer came, and none will until something changes on this side. It is not asked for again.
    pub fn hopeless(&self, why: &str) -> Result<()> {
        let why = format!("no answer: {}", printable(why, 500));
        let error = Error::new(ErrorKind::Transport, why).hopeless();
        self.receive(|_| Err(error))
    }

    /// How long the operation has left; a day when it is not limited.
    #[cfg(feature = "http")]
    pub(crate) fn time_left(&self) -> Duration {
        let effects = self.io.effects();
        effects.deadline.map_or(A_DAY, |deadline| deadline.since(effects.now)).min(A_DAY)
    }

    /// No complete answer came, and why.
    pub fn failed(&self, why: &str) -> Result<()> {
        self.finish(Err(why))
    }

    // Every way to feed an answer is one of these two: the host is woken at its end.

    fn receive(&self, add: impl FnOnce(&mut PartialResponse) -> Result<()>) -> Result<()> {
        let received = self.io.effects().receive(self.request_id, add);
        if received.is_err() {
            self.io.wake(); // that was the end of the answer
        }
        received
    }

    fn finish(&self, end: Result<u16, &str>) -> Result<()> {
        let ended = self.io.effects().end_response(self.request_id, end);
        self.io.wake();
        ended
    }
}
