//! The response to a request, fed in by the host part by part.

#[cfg(feature = "http")]
use std::time::Duration;

use super::io::Io;
use super::response::PartialResponse;
use crate::error::{Error, ErrorKind, Result};
use crate::text::printable;

#[cfg(feature = "http")]
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Feeds the response to one request into an operation: header fields, body, then the end, or the
/// reason why there is no response. A response that the operation no longer awaits (it was canceled)
/// is accepted and ignored.
pub struct Reply<'a> {
    io: &'a Io,
    request_id: u64,
}

impl<'a> Reply<'a> {
    pub(super) fn new(io: &'a Io, request_id: u64) -> Reply<'a> {
        Reply { io, request_id }
    }

    /// Adds one header field. Pass all of them: the fields that ACME does not use are not kept.
    pub fn header(&self, name: &[u8], value: &[u8]) -> Result<()> {
        self.receive(|partial| partial.header(name, value))
    }

    /// Adds some bytes of the body.
    pub fn body(&self, data: &[u8]) -> Result<()> {
        self.receive(|partial| partial.body(data))
    }

    /// Ends the response: it is complete and had this HTTP status. Redirects are responses too.
    pub fn end(&self, http_status: u16) -> Result<()> {
        if !(200..=599).contains(&http_status) {
            return Err(Error::invalid_argument(format!(
                "{http_status} is not the status of a final HTTP response (200 to 599)"
            )));
        }
        self.finish(Ok(http_status))
    }

    /// Fails the request: a response came but cannot be used, for example because it exceeds a limit.
    /// The request is not sent again.
    pub fn unusable(&self, why: &str) -> Result<()> {
        self.receive(|_| Err(Error::protocol(printable(why, 500))))
    }

    /// Fails the request: no response came, and none will until something changes on this side. The
    /// request is not sent again.
    pub fn failed_for_good(&self, why: &str) -> Result<()> {
        let why = format!("no response: {}", printable(why, 500));
        let error = Error::new(ErrorKind::Transport, why).permanent();
        self.receive(|_| Err(error))
    }

    /// Time until the operation's deadline; at most a day.
    #[cfg(feature = "http")]
    pub(crate) fn time_left(&self) -> Duration {
        let effects = self.io.effects();
        effects.deadline.map_or(A_DAY, |deadline| deadline.since(effects.now)).min(A_DAY)
    }

    /// Fails the request: no complete response came, and why. The operation may send it again.
    pub fn failed(&self, why: &str) -> Result<()> {
        self.finish(Err(why))
    }

    // Every way to feed a response ends in one of these two. Both wake the host at its end.

    fn receive(&self, add: impl FnOnce(&mut PartialResponse) -> Result<()>) -> Result<()> {
        let received = self.io.effects().receive(self.request_id, add);
        if received.is_err() {
            self.io.wake(); // the error has ended the response
        }
        received
    }

    fn finish(&self, end: Result<u16, &str>) -> Result<()> {
        let ended = self.io.effects().end_response(self.request_id, end);
        self.io.wake();
        ended
    }
}
