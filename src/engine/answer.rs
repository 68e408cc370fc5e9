//! The answer to a request, fed in by the host piece by piece.

#[cfg(feature = "http")]
use std::time::Duration;

use super::io::Io;
use crate::error::{Error, ErrorKind, Result};
use crate::header::Headers;
use crate::text::printable;

#[cfg(feature = "http")]
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// The largest body of any answer: a chain of ten certificates or an order of a thousand names is
/// far smaller.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    headers: Headers,
    body: Vec<u8>,
}

impl Gathering {
    pub(super) fn header(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        self.headers
            .add(name, value)
            .map_err(|_| Error::protocol("the header of the CA's answer is too large"))
    }

    pub(super) fn body(&mut self, data: &[u8]) -> Result<()> {
        let too_large = || Error::protocol("the CA's answer is larger than 1 MiB");
        if data.len() > MAX_BODY.saturating_sub(self.body.len()) {
            return Err(too_large());
        }
        // The size is the server's choice: running out of memory must be an error here.
        self.body.try_reserve(data.len()).map_err(|_| too_large())?;
        self.body.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn end(self, status: u16) -> Response {
        Response { status, headers: self.headers, body: self.body }
    }
}

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
        self.gather(|gathering| gathering.header(name, value))
    }

    /// Some bytes of the body.
    pub fn body(&self, data: &[u8]) -> Result<()> {
        self.gather(|gathering| gathering.body(data))
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
        self.gather(|_| Err(Error::protocol(printable(why, 500))))
    }

    /// No answer came, and none will until something changes on this side. It is not asked for again.
    pub fn failed_for_good(&self, why: &str) -> Result<()> {
        let why = format!("no answer: {}", printable(why, 500));
        let error = Error::new(ErrorKind::Transport, why).permanent();
        self.gather(|_| Err(error))
    }

    /// How long the operation has left; a day when it is not limited.
    #[cfg(feature = "http")]
    pub(crate) fn time_left(&self) -> Duration {
        let desk = self.io.desk();
        desk.deadline.map_or(A_DAY, |deadline| deadline.since(desk.now)).min(A_DAY)
    }

    /// No complete answer came, and why.
    pub fn failed(&self, why: &str) -> Result<()> {
        self.finish(Err(why))
    }

    // Every way to feed an answer is one of these two: the host is woken at its end.

    fn gather(&self, add: impl FnOnce(&mut Gathering) -> Result<()>) -> Result<()> {
        let gathered = self.io.desk().gather(self.request_id, add);
        if gathered.is_err() {
            self.io.wake(); // that was the end of the answer
        }
        gathered
    }

    fn finish(&self, end: Result<u16, &str>) -> Result<()> {
        let ended = self.io.desk().end_answer(self.request_id, end);
        self.io.wake();
        ended
    }
}
