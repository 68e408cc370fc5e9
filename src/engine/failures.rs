//! Errors for failed authorizations and orders, with the reasons that the CA gives.

use crate::error::{Error, ErrorKind};
use crate::problem::Problem;
use crate::resource::authorization::Authorization;
use crate::resource::order::Order;
use crate::text::printable;

/// Maximum number of failed names whose reasons a message contains. It lists the others without reasons.
const MAX_REASONS: usize = 5;

/// The error for an invalid order, with the reason that the order itself gives.
pub(crate) fn invalid_order(order: &Order, url: &str) -> Error {
    let error = match &order.error {
        Some(problem) => Error::new(kind_for(problem, ErrorKind::Order), problem.to_string())
            .with_problem(problem.clone()),
        None => Error::new(ErrorKind::Order, "the order is invalid, and the CA does not say why"),
    };
    error.doing("waiting for the order").at(url)
}

/// The error for an invalid authorization: the error of its challenge.
pub(crate) fn failure(authorization: &Authorization) -> Error {
    let identifier = printable(&authorization.ordered_identifier().value, 255);
    let failed = authorization.challenges.iter().find(|c| c.error.is_some());
    let error = match failed.and_then(|c| c.error.as_ref().map(|problem| (c, problem))) {
        Some((challenge, problem)) => {
            let why = format!("{} failed: {problem}", printable(&challenge.type_, 40));
            let kind = kind_for(problem, ErrorKind::Challenge);
            Error::new(kind, why).about(&identifier).with_problem(problem.clone())
        }
        None => Error::new(ErrorKind::Challenge, "the CA does not say why the challenge failed"),
    };
    error.doing("proving control").about(&identifier)
}

/// The kind of error of a failed challenge or order: a fault of the CA itself, or `otherwise`.
fn kind_for(problem: &Problem, otherwise: ErrorKind) -> ErrorKind {
    match problem.name() {
        Some("serverInternal") => ErrorKind::Server,
        _ => otherwise,
    }
}

/// Whether the CA cannot be reached, or requests longer delays. No further request is sent then.
pub(super) fn ends_at_once(error: &Error) -> bool {
    let kinds =
        [ErrorKind::Transport, ErrorKind::Timeout, ErrorKind::RateLimited, ErrorKind::Canceled];
    let is_down = matches!(error.http_status(), Some(408 | 500..));
    is_down || error.is_unsent() || kinds.contains(&error.kind())
}

/// Joins the errors of all failed authorizations into one. `None`: there are no errors.
pub(super) fn joined(mut failures: Vec<Error>) -> Option<Error> {
    if failures.len() < 2 {
        return failures.pop();
    }
    let named = failures.iter().map(|error| (error.identifier().unwrap_or("?"), error));
    let named: Vec<(&str, &Error)> = named.collect();
    let mut why = format!("{} names failed", named.len());
    for (n, (name, error)) in named.iter().enumerate() {
        why.push_str(if n <= MAX_REASONS { "; " } else { ", " });
        why.push_str(name);
        if n < MAX_REASONS {
            why.push_str(": ");
            why.push_str(&printable(error.reason(), 400));
        }
    }
    let is_servers = failures.iter().all(|error| error.kind() == ErrorKind::Server);
    let kind = if is_servers { ErrorKind::Server } else { ErrorKind::Challenge };
    let error = Error::new(kind, printable(&why, 3000)).doing("proving control");
    let parts: Vec<_> = named.iter().map(|(name, error)| (*name, error.problem())).collect();
    Some(match Problem::compound(&parts) {
        Some(problem) => error.with_problem(problem),
        None => error,
    })
}
