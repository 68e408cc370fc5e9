//! The one error of the library: what was tried, on what, why it failed, and whether and when it
//! makes sense to try again.

use std::fmt;
use std::time::Duration;

use crate::problem::Problem;
use crate::text::printable;
use crate::time::Time;
use crate::url;

/// Characters kept of a URL: all of one that may be asked. Others are the CA's text like any other.
const MAX_URL: usize = 4096;
/// Characters of it in a message.
const MAX_SHOWN_URL: usize = 500;

/// What kind of failure an [`Error`] is. Maps one to one to the C API's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is missing, out of range or malformed. Nothing was sent.
    InvalidArgument,
    /// The call does not fit the state of what it was made on.
    Misuse,
    /// Not compiled in, or not offered by this CA.
    Unsupported,
    /// A bug in the library was caught.
    Panic,
    /// Input is not valid PEM, DER or base64url.
    Parse,
    /// A cryptographic operation failed.
    Crypto,
    /// No HTTP answer: name resolution, TCP, TLS or the time limit of one request.
    Transport,
    /// The CA's answer breaks RFC 8555 or exceeds a limit.
    Protocol,
    /// The operation's own time limit ran out.
    Timeout,
    /// A URL or redirect was refused: not https, or on a host that was not allowed.
    Policy,
    /// The CA failed: `serverInternal` or HTTP status 5xx, in an answer, a challenge or an order. A
    /// retry may help.
    Server,
    /// The CA refused with a problem document that no other kind describes.
    Problem,
    /// The CA refused for now; see [`Error::retry_at`].
    RateLimited,
    /// The CA's terms of service are not agreed to.
    Terms,
    /// The CA wants an external account binding.
    EabRequired,
    /// The account is unknown, deactivated or revoked.
    Account,
    /// The CA tried a challenge and it failed; see [`Error::identifier`].
    Challenge,
    /// The order became invalid or names something that the CA rejects.
    Order,
    /// The CA issued something that is not the certificate that was asked for.
    Certificate,
    /// The host program could not do its part, such as publishing a challenge; or the system has no
    /// thread or descriptor left for a driver.
    Host,
    /// The operation was canceled.
    Canceled,
}

impl ErrorKind {
    /// Returns the kind of failure that a problem document describes.
    pub(crate) fn of(problem: &Problem) -> ErrorKind {
        match problem.name() {
            Some("rateLimited") => ErrorKind::RateLimited,
            Some("userActionRequired" | "agreementRequired") => ErrorKind::Terms,
            Some("externalAccountRequired") => ErrorKind::EabRequired,
            Some("accountDoesNotExist") => ErrorKind::Account,
            Some("rejectedIdentifier" | "unsupportedIdentifier") => ErrorKind::Order,
            Some("serverInternal") => ErrorKind::Server,
            _ => ErrorKind::Problem,
        }
    }
}

/// What went wrong.
///
/// Its text reads: what was tried, on what, why it failed, and when a retry makes sense:
/// `creating the order at https://ca.example/new-order: rateLimited: too many certificates, retry
/// after 2026-12-01T03:04:05Z`.
#[derive(Clone)]
pub struct Error(Box<Details>);

#[derive(Clone)]
struct Details {
    kind: ErrorKind,
    reason: String,
    doing: Option<&'static str>,
    url: Option<String>,
    identifier: Option<String>,
    problem: Option<Problem>,
    http_status: Option<u16>,
    retry_at: Option<Time>,
    help: Option<String>,
    permanent: bool,
    unsent: bool,
}

/// The result of everything that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error(Box::new(Details {
            kind,
            reason: reason.into(),
            doing: None,
            url: None,
            identifier: None,
            problem: None,
            http_status: None,
            retry_at: None,
            help: None,
            permanent: false,
            unsent: false,
        }))
    }

    pub(crate) fn invalid_argument(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, reason)
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Protocol, reason)
    }

    /// The CA's refusal: a problem document under an HTTP status.
    pub(crate) fn refused(problem: Problem, http_status: u16) -> Error {
        let kind = match ErrorKind::of(&problem) {
            ErrorKind::Problem if http_status >= 500 => ErrorKind::Server,
            kind => kind,
        };
        Error::new(kind, problem.to_string()).with_problem(problem).with_http_status(http_status)
    }

    /// Names what was tried, unless something closer to the cause has already been named.
    #[must_use]
    pub(crate) fn doing(mut self, doing: &'static str) -> Error {
        self.0.doing.get_or_insert(doing);
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, url: &str) -> Error {
        self.0.url.get_or_insert_with(|| url::shown(url, MAX_URL));
        self
    }

    #[must_use]
    pub(crate) fn about(mut self, identifier: &str) -> Error {
        self.0.identifier.get_or_insert_with(|| identifier.to_owned());
        self
    }

    /// Adds what went wrong before, for an error that ended the tries to mend that.
    #[must_use]
    pub(crate) fn after(mut self, earlier: &Error) -> Error {
        self.0.reason = format!("{}; before that: {earlier}", self.0.reason);
        self
    }

    /// Adds something to the reason that helps to understand it.
    #[must_use]
    pub(crate) fn noting(mut self, what: &str) -> Error {
        self.0.reason = format!("{} ({what})", self.0.reason);
        self
    }

    /// Adds to the reason.
    #[must_use]
    pub(crate) fn because(mut self, more: &str) -> Error {
        self.0.reason = format!("{} {more}", self.0.reason);
        self
    }

    #[must_use]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    #[must_use]
    pub(crate) fn with_problem(mut self, problem: Problem) -> Error {
        if let Some(identifier) = problem.only_identifier() {
            self = self.about(&identifier);
        }
        if let Some(url) = problem.help_url() {
            self = self.with_help(url);
        }
        self.0.problem = Some(problem);
        self
    }

    #[must_use]
    pub(crate) fn with_http_status(mut self, status: u16) -> Error {
        self.0.http_status = Some(status);
        self
    }

    #[must_use]
    pub(crate) fn with_retry_at(mut self, time: Option<Time>) -> Error {
        self.0.retry_at = time.or(self.0.retry_at);
        self
    }

    /// Says that the same input will fail again, where the kind of failure does not.
    #[must_use]
    pub(crate) fn permanent(mut self) -> Error {
        self.0.permanent = true;
        self
    }

    /// Says that what was to be done has not been asked for: there was no directory, or no nonce, to
    /// ask with.
    #[must_use]
    pub(crate) fn unsent(mut self) -> Error {
        self.0.unsent = true;
        self
    }

    pub(crate) fn is_unsent(&self) -> bool {
        self.0.unsent
    }

    /// Names a page that helps, unless a better one is known. What is no https URL is left out.
    #[must_use]
    pub(crate) fn with_help(mut self, url: &str) -> Error {
        // The query may be longer than that of a URL to ask.
        let place = url.split('?').next().unwrap_or(url);
        if url.starts_with("https://") && crate::url::Url::parse(place).is_ok() {
            self.0.help.get_or_insert_with(|| url.to_owned());
        }
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The bare reason, without what was tried, where and for whom.
    pub(crate) fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The URL that was asked, if it is about one.
    pub fn url(&self) -> Option<&str> {
        self.0.url.as_deref()
    }

    /// The DNS name or IP address concerned, if it is about one.
    pub fn identifier(&self) -> Option<&str> {
        self.0.identifier.as_deref()
    }

    /// The CA's problem document (RFC 8555 section 6.7), when it sent one.
    pub fn problem(&self) -> Option<&Problem> {
        self.0.problem.as_ref()
    }

    /// HTTP status of the answer that caused it.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// The earliest time worth a retry, when the CA named one (Retry-After).
    pub fn retry_at(&self) -> Option<Time> {
        self.0.retry_at
    }

    /// A page for a person who wants it to work: terms to agree to, a pause to lift, limits
    /// explained. From the problem's `instance`, its detail, or a link of the answer. Untrusted.
    pub fn help_url(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Will the same request fail again until its input changes? `false`: a retry may help.
    pub fn is_permanent(&self) -> bool {
        self.0.permanent
            || match self.0.kind {
                ErrorKind::InvalidArgument
                | ErrorKind::Misuse
                | ErrorKind::Unsupported
                | ErrorKind::Panic
                | ErrorKind::Parse
                | ErrorKind::Policy
                | ErrorKind::Terms
                | ErrorKind::EabRequired
                | ErrorKind::Account => true,
                ErrorKind::Problem | ErrorKind::Order | ErrorKind::Challenge => {
                    let status = self.0.http_status.unwrap_or(0);
                    match &self.0.problem {
                        Some(problem) => problem.is_permanent(status),
                        None => crate::problem::is_permanent_status(status),
                    }
                }
                ErrorKind::Crypto
                | ErrorKind::Transport
                | ErrorKind::Protocol
                | ErrorKind::Timeout
                | ErrorKind::RateLimited
                | ErrorKind::Server
                | ErrorKind::Certificate
                | ErrorKind::Host
                | ErrorKind::Canceled => false,
            }
    }

    /// No answer, or one that says nothing about whether the request took effect: the CA may or
    /// may not have done what was asked.
    pub(crate) fn is_lost(&self) -> bool {
        let broken = matches!(self.0.http_status, Some(408 | 500..=599));
        let refused = self.0.kind == ErrorKind::RateLimited || self.is_problem("badNonce");
        !self.0.permanent
            && !self.0.unsent
            && (self.0.kind == ErrorKind::Transport || broken && !refused)
    }

    /// Did the CA make a challenge or an order fail by a fault of its own?
    pub(crate) fn is_ca_fault(&self) -> bool {
        self.0.kind == ErrorKind::Server && self.0.http_status.is_none()
    }

    /// Is it a refusal with this ACME error type, such as `badNonce`?
    pub(crate) fn is_problem(&self, name: &str) -> bool {
        self.0.problem.as_ref().is_some_and(|problem| problem.name() == Some(name))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        if let Some(doing) = details.doing {
            f.write_str(doing)?;
            if let Some(url) = &details.url {
                write!(f, " at {}", printable(url, MAX_SHOWN_URL))?;
            }
            if let Some(identifier) = &details.identifier {
                write!(f, " for {identifier}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&details.reason)?;
        match details.retry_at {
            // Up to the next second: a try within this one may be too early.
            Some(time) => write!(f, ", retry after {}", time.after(Duration::from_millis(999))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// Returns OpenSSL's reasons without its error numbers, functions and source lines.
#[cfg(feature = "http")]
pub(crate) fn reasons(errors: &openssl::error::ErrorStack) -> String {
    let reasons: Vec<_> = errors.errors().iter().filter_map(|error| error.reason()).collect();
    if reasons.is_empty() { "OpenSSL gives no reason".to_owned() } else { reasons.join(", ") }
}

impl From<openssl::error::ErrorStack> for Error {
    fn from(stack: openssl::error::ErrorStack) -> Error {
        let reason = stack.errors().first().and_then(|e| e.reason()).unwrap_or("unknown error");
        Error::new(ErrorKind::Crypto, format!("OpenSSL: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_step_the_place_the_reason_and_the_time() {
        let error = Error::new(ErrorKind::RateLimited, "rateLimited: too many certificates")
            .doing("creating the order")
            .at("https://ca.example/new-order")
            .about("example.org")
            .with_retry_at(Some(Time::from_millis(1_796_094_244_001)))
            .doing("something further away");
        assert_eq!(
            error.to_string(),
            "creating the order at https://ca.example/new-order for example.org: rateLimited: \
             too many certificates, retry after 2026-12-01T03:04:05Z"
        );
    }
}
