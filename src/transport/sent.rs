//! A request that was sent: its response, or the failure.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::{Error, Timeout};

use super::tls::PermanentFailure;
use crate::engine::Reply;
use crate::error::Result as AcmeResult;

/// Maximum size of a response's body, as in the engine.
pub(super) const MAX_BODY: u64 = crate::engine::limits::MAX_BODY as u64;

/// Timeouts of one request, for messages.
pub(super) struct Limits {
    pub connecting: Duration,
    pub request: Duration,
}

/// A complete response, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct HttpResponse {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Names in lower case, and unchanged values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// The response to a request of an operation, or the failure.
pub(crate) struct Sent(pub(super) Result<HttpResponse, Failure>);

impl Sent {
    /// A request without a response, with the reason.
    #[cfg(unix)]
    pub(crate) fn lost(why: &str) -> Sent {
        Sent(Err(why.to_owned().into()))
    }

    /// Passes the response or the failure to the operation. Fails if the operation does
    /// not accept it.
    pub(crate) fn feed(self, reply: &Reply<'_>) -> AcmeResult<()> {
        let response = match self.0 {
            Ok(response) => response,
            Err(failure) => return failure.feed(reply),
        };
        for (name, value) in &response.headers {
            reply.header(name.as_bytes(), value)?;
        }
        reply.body(&response.body)?;
        reply.end(response.status)
    }
}

/// Why there is no usable response, in one line.
pub(super) enum Failure {
    /// No response came. A retry may get one.
    Lost(String),
    /// The response is not HTTP, or larger than a CA has reason to send.
    Unusable(String),
    /// A retry would fail, too: the peer's certificate is not trusted, or a proxy refuses the user
    /// and password.
    Permanent(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Lost(why)
    }
}

impl Failure {
    /// Describes an error while `doing` something. Errors in connecting name their step already.
    pub(super) fn new(doing: &str, limits: &Limits, error: Error) -> Failure {
        let failure = match &error {
            Error::BodyExceedsLimit(_) | Error::LargeResponseHeader(..) | Error::Protocol(_) => {
                Failure::Unusable
            }
            Error::Other(error) if error.is::<PermanentFailure>() => Failure::Permanent,
            _ => Failure::Lost,
        };
        failure(reason(doing, limits, error))
    }

    fn feed(&self, reply: &Reply<'_>) -> AcmeResult<()> {
        match self {
            Failure::Lost(why) => reply.failed(why),
            Failure::Unusable(why) => reply.unusable(why),
            Failure::Permanent(why) => reply.failed_for_good(why),
        }
    }

    #[cfg(test)]
    pub(super) fn why(self) -> String {
        match self {
            Failure::Lost(why) | Failure::Unusable(why) | Failure::Permanent(why) => why,
        }
    }
}

/// Describes an error in one line.
fn reason(doing: &str, limits: &Limits, error: Error) -> String {
    match error {
        Error::Timeout(Timeout::Connect) => {
            let limit = limits.connecting.min(limits.request);
            format!("{doing}: timeout, no connection within {} s", limit.as_secs())
        }
        Error::Timeout(_) => {
            format!("{doing}: timeout, not done within {} s", limits.request.as_secs())
        }
        Error::BodyExceedsLimit(MAX_BODY) => {
            format!("{doing}: the response is larger than 1 MiB")
        }
        Error::BodyExceedsLimit(_) => format!("{doing}: the response has no end"),
        Error::LargeResponseHeader(..) => {
            format!("{doing}: the header of the response is larger than 64 KiB")
        }
        Error::Io(e) if e.kind() == ErrorKind::UnexpectedEof => {
            format!("{doing}: the connection was closed too early")
        }
        Error::Io(error) => format!("{doing}: {error}"),
        Error::Protocol(error) => format!("{doing}: not HTTP/1.1: {error}"),
        Error::Other(error) => error.to_string(),
        error => format!("{doing}: {error}"),
    }
}
