//! The library's only error type: what was tried, on what, why it failed, and whether and when a
//! retry makes sense.

use std::fmt;
use std::time::Duration;

use crate::problem::Problem;
use crate::text::printable;
use crate::time::Time;
use crate::url;

/// Maximum length of a URL in an error: that of every valid URL.
const MAX_URL: usize = 4096;
/// Maximum length of a URL in a message.
const MAX_SHOWN_URL: usize = 500;

/// The kind of an [`Error`]. Each kind is one of the C API's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is missing, out of range or malformed. Nothing was sent.
    InvalidArgument,
    /// The object's state does not allow the call.
    Misuse,
    /// The library lacks this feature, or the CA does not offer it.
    Unsupported,
    /// The library caught a bug of its own.
    Panic,
    /// Input is not valid PEM, DER or base64url.
    Parse,
    /// A cryptographic operation failed.
    Crypto,
    /// No HTTP response: name resolution, TCP, TLS or the timeout of one request.
    Transport,
    /// The CA's response violates RFC 8555 or exceeds a limit.
    Protocol,
    /// The operation's own time limit ran out.
    Timeout,
    /// A URL or redirect was refused: not https, or on a host that was not allowed.
    Policy,
    /// The CA failed: `serverInternal` or HTTP status 5xx, in a response, a challenge or an order.
    /// A retry may help.
    Server,
    /// The CA refused with a problem document that no other kind describes.
    Problem,
    /// The CA refused for now; see [`Error::retry_at`].
    RateLimited,
    /// The CA requires agreement to its terms of service.
    Terms,
    /// The CA requires an external account binding.
    EabRequired,
    /// The account is unknown, deactivated or revoked.
    Account,
    /// The CA tried a challenge and it failed; see [`Error::identifier`].
    Challenge,
    /// The order became invalid, or the CA rejects one of its names.
    Order,
    /// The CA issued another certificate than the requested one.
    Certificate,
    /// The host program could not do its part, such as publishing a challenge; or the system has no
    /// thread or descriptor left for a driver.
    Host,
    /// The operation was canceled.
    Canceled,
    /// A store could not read or write a record, or a record cannot be used. Its old content is unchanged.
    Store,
    /// Another program or thread has changed the same record of a store meanwhile.
    Conflict,
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

/// An error of the library.
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

/// The result of functions that can fail with an [`Error`].
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

    /// Makes the error for a refusal of the CA: a problem document with an HTTP status.
    pub(crate) fn refused(problem: Problem, http_status: u16) -> Error {
        let kind = match ErrorKind::of(&problem) {
            ErrorKind::Problem if http_status >= 500 => ErrorKind::Server,
            kind => kind,
        };
        Error::new(kind, problem.to_string()).with_problem(problem).with_http_status(http_status)
    }

    /// Names what was tried, unless a function closer to the cause has already done so.
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

    /// Adds an earlier error, for an error that ended the retries after it.
    #[must_use]
    pub(crate) fn after(mut self, earlier: &Error) -> Error {
        self.0.reason = format!("{}; before that: {earlier}", self.0.reason);
        self
    }

    /// Adds a note to the reason, in parentheses.
    #[must_use]
    pub(crate) fn noting(mut self, what: &str) -> Error {
        self.0.reason = format!("{} ({what})", self.0.reason);
        self
    }

    /// Adds words to the reason.
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

    /// Marks the error as permanent, if its kind is not: the same input will fail again.
    #[must_use]
    pub(crate) fn permanent(mut self) -> Error {
        self.0.permanent = true;
        self
    }

    /// Marks that the request was not sent, because there was no directory or no nonce for it.
    #[must_use]
    pub(crate) fn unsent(mut self) -> Error {
        self.0.unsent = true;
        self
    }

    pub(crate) fn is_unsent(&self) -> bool {
        self.0.unsent
    }

    /// Names a page that helps the user, unless one is named already. Ignores all but https URLs.
    #[must_use]
    pub(crate) fn with_help(mut self, url: &str) -> Error {
        // The query may be longer than a URL for a request may be.
        let path = url.split('?').next().unwrap_or(url);
        if url.starts_with("https://") && crate::url::Url::parse(path).is_ok() {
            self.0.help.get_or_insert_with(|| url.to_owned());
        }
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The reason alone, without what was tried, the URL and the name.
    pub(crate) fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The URL of the failed request, if there is one.
    pub fn url(&self) -> Option<&str> {
        self.0.url.as_deref()
    }

    /// The DNS name or IP address concerned, if it is a single one.
    pub fn identifier(&self) -> Option<&str> {
        self.0.identifier.as_deref()
    }

    /// The CA's problem document (RFC 8555 section 6.7), if it sent one.
    pub fn problem(&self) -> Option<&Problem> {
        self.0.problem.as_ref()
    }

    /// HTTP status of the response that caused the error.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// The earliest time worth a retry, if the CA named one (Retry-After).
    pub fn retry_at(&self) -> Option<Time> {
        self.0.retry_at
    }

    /// URL of a page that helps the user: the CA's terms, a form that unpauses the account, or an
    /// explanation of limits. It is from the problem's `instance`, its detail, or a link of the
    /// response. Untrusted.
    pub fn help_url(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Whether the same request will fail again until its input changes. `false`: a retry may help.
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
                | ErrorKind::Canceled
                | ErrorKind::Store
                | ErrorKind::Conflict => false,
            }
    }

    /// Whether it is unknown if the request took effect: there was no response, or the response
    /// leaves it open.
    pub(crate) fn is_lost(&self) -> bool {
        let broken = matches!(self.0.http_status, Some(408 | 500..=599));
        let refused = self.0.kind == ErrorKind::RateLimited || self.is_problem("badNonce");
        !self.0.permanent
            && !self.0.unsent
            && (self.0.kind == ErrorKind::Transport || broken && !refused)
    }

    /// Whether the CA's response cannot be read: the request may have taken effect.
    pub(crate) fn is_unread(&self) -> bool {
        self.0.kind == ErrorKind::Protocol && !self.0.unsent
    }

    /// Whether a challenge or an order failed by a fault of the CA.
    pub(crate) fn is_ca_fault(&self) -> bool {
        self.0.kind == ErrorKind::Server && self.0.http_status.is_none()
    }

    /// Whether it is a refusal with this ACME error type, such as `badNonce`.
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
            // Round up to the next second: a try within this one may be too early.
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
    if let Some(why) = missing_provider(errors) {
        return why;
    }
    let reasons: Vec<_> = errors.errors().iter().filter_map(|error| error.reason()).collect();
    if reasons.is_empty() { "OpenSSL gives no reason".to_owned() } else { reasons.join(", ") }
}

/// Returns the reason if no provider of OpenSSL has the algorithm: OpenSSL itself says "unsupported".
fn missing_provider(errors: &openssl::error::ErrorStack) -> Option<String> {
    let algorithm = |error: &openssl::error::Error| {
        let (_, details) = error.data()?.split_once("Algorithm (")?;
        details.split(' ').next().map(str::to_owned)
    };
    let algorithm = errors.errors().iter().find_map(algorithm)?;
    Some(format!(
        "OpenSSL has no provider for {algorithm}; check its configuration file (openssl.cnf, or the \
         one that OPENSSL_CONF names) and its FIPS mode"
    ))
}

impl From<openssl::error::ErrorStack> for Error {
    fn from(stack: openssl::error::ErrorStack) -> Error {
        let reason = || {
            let first = stack.errors().first();
            format!("OpenSSL: {}", first.and_then(|e| e.reason()).unwrap_or("unknown error"))
        };
        Error::new(ErrorKind::Crypto, missing_provider(&stack).unwrap_or_else(reason))
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
