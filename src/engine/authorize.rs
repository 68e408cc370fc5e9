//! Proving control of each identifier of an order. RFC 8555 sections 7.5, 7.5.1 and 8.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Polls;
use super::backoff::delay_after_lost;
use super::challenge::{Challenge, ChallengeType};
use super::claim::Claim;
use super::concurrently::concurrently;
use super::exchange::{Answered, Call, Identity, Session};
use super::order_options::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::problem::Problem;
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::ChallengeStatus;
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};
use crate::text::printable;
use crate::time::Time;

/// The authorizations of an order that stays pending are fetched after this many polls of the order,
/// and again after as many: one may be invalid already, or a response to a challenge may be lost.
pub(super) const POLLS_A_REVIEW: u32 = 6;

/// Maximum time from a response to the end of its validation, with slow servers and several vantage
/// points. For so long challenges stay up after a failure: one that is taken down too early is one more
/// failed authorization, and CAs count those.
const MAX_SETTLING: Duration = Duration::from_secs(60);

/// Maximum number of failed names whose reasons a message tells; the others are named.
const MAX_REASONS: usize = 5;

/// A challenge that was chosen, and where it lives at the CA.
pub(super) struct Proof {
    identifier: Identifier,
    pub authorization_url: String,
    challenge_url: String,
    kind: ChallengeType,
    response: ResponseState,
    /// Why the last response was not taken, or what became of it is not known.
    failure: Option<Error>,
    /// How often the CA's answer to a response was lost.
    losses: u32,
    /// When the last response was sent.
    responded_at: Time,
    /// The payload of the response, if it is another than an empty object.
    payload: Option<Vec<u8>>,
}

/// The pace at which authorizations are fetched after a failure: at once, then at doubling intervals.
#[derive(Default)]
struct SettlingPolls(u32);

impl SettlingPolls {
    fn next(&mut self) -> Duration {
        let doublings = self.0;
        self.0 += 1;
        match doublings {
            0 => Duration::ZERO,
            _ => {
                Duration::from_millis(250).saturating_mul(2u32.saturating_pow(doublings.min(6) - 1))
            }
        }
    }
}

/// How far the response to a challenge is (RFC 8555 section 7.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    /// The CA has no response yet.
    Unsent,
    /// It was sent, and the CA's answer was lost: the CA may have it or not. It is not sent again
    /// before this time.
    Lost(Time),
    /// The CA has it. It is never sent again, whatever status the CA shows: Boulder's challenges stay
    /// pending while they are validated, and a second response is refused.
    Received,
}

impl Session {
    /// Has every authorization of a pending order become valid. Gives the order, no longer pending.
    pub(super) async fn authorize(
        &self,
        plan: &Plan,
        order_url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Answered<Order>> {
        self.io.enter("authorization");
        let urls = order.distinct_authorizations();
        let names = plan.claim.identifiers.len();
        if urls.is_empty() || urls.len() > names {
            let has = urls.len();
            let why = format!("the pending order of {names} names has {has} authorizations");
            return Err(Error::protocol(why).doing("reading the order").at(order_url));
        }
        let authorizations =
            concurrently(urls.iter().map(|url| self.authorization(url, account))).await?;
        let mut proofs = Vec::new();
        for (url, authorization) in urls.iter().zip(authorizations) {
            proofs.extend(self.choose(&plan.claim, url, &authorization, account)?);
        }
        if proofs.is_empty() {
            return self.await_ready(plan, order_url, &mut [], account).await;
        }
        let ready = self.prove(proofs, account, Some((plan, order_url))).await?;
        let none = || Error::new(ErrorKind::Panic, "an order that was not waited for");
        ready.ok_or_else(none)
    }

    /// Has the challenges published, answers them, and waits until they are decided: by looking at
    /// their order, or without one at each authorization.
    pub(super) async fn prove(
        &self,
        proofs: Vec<(Proof, Challenge)>,
        account: &str,
        order: Option<(&Plan, &str)>,
    ) -> Result<Option<Answered<Order>>> {
        let now = self.io.now();
        self.io.desk().begin_patience(now);
        let (mut proofs, challenges): (Vec<Proof>, Vec<Challenge>) = proofs.into_iter().unzip();
        let challenges: Arc<[Challenge]> = challenges.into();
        let _answering = self.client.published().add(&challenges);
        let prove = |payloads: Vec<Option<Vec<u8>>>| async move {
            self.io.enter("challenge");
            for (proof, payload) in proofs.iter_mut().zip(payloads) {
                proof.take_payload(payload)?;
            }
            let outcome = match self.respond_to_all(&mut proofs, account).await {
                Ok(()) => self.await_validation(&mut proofs, account, order).await,
                Err(error) => Err(error),
            };
            match outcome {
                // Boxed: it is rare, and each order in flight would have room for it.
                Err(error) => Err(Box::pin(self.settle(&proofs, account, error)).await),
                outcome => outcome,
            }
        };
        self.io.with_published(challenges, prove).await
    }

    /// Sends the responses that the CA does not have yet. After the first that fails no other is begun.
    async fn respond_to_all(&self, proofs: &mut [Proof], account: &str) -> Result<()> {
        let failed = &AtomicBool::new(false);
        let unsent = proofs.iter_mut().filter(|proof| proof.response == ResponseState::Unsent);
        let responses = unsent.map(|proof| async move {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            match self.respond(proof, account).await {
                Ok(state) => proof.response = state,
                Err(error) if ends_at_once(&error) => return Err(error),
                // Those under way still get their answers.
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    proof.failure = Some(error);
                }
            }
            Ok(())
        });
        concurrently(responses).await?;
        let refused = proofs.iter_mut().filter(|p| !matches!(p.response, ResponseState::Lost(_)));
        refused.filter_map(|proof| proof.failure.take()).next().map_or(Ok(()), Err)
    }

    async fn await_validation(
        &self,
        proofs: &mut [Proof],
        account: &str,
        order: Option<(&Plan, &str)>,
    ) -> Result<Option<Answered<Order>>> {
        match order {
            Some((plan, url)) => self.await_ready(plan, url, proofs, account).await.map(Some),
            None => {
                let looks = proofs.iter_mut().map(|proof| self.await_decided(proof, account));
                concurrently(looks).await.map(|_| None)
            }
        }
    }

    /// After a failure: leaves the challenges up while the CA may validate others of them, for
    /// [`MAX_SETTLING`] at most. Gives the error, and in place of an order's the reasons of all
    /// authorizations that failed.
    async fn settle(&self, proofs: &[Proof], account: &str, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Canceled => return error,
            ErrorKind::Timeout => {
                let lost = proofs.iter().find_map(|proof| proof.failure.as_ref());
                return lost.map_or(error.clone(), |lost| error.after(lost));
            }
            _ => {}
        }
        let undecided = proofs.iter().filter(|proof| proof.response != ResponseState::Unsent);
        let mut undecided: Vec<&Proof> = undecided.collect();
        let last = undecided.iter().map(|proof| proof.responded_at).max();
        let until = last.unwrap_or_default().after(MAX_SETTLING);
        // A CA that is out of reach, or asks for a slower pace, is not asked more. Other requests may
        // have been cut off while they waited to be tried again.
        let mut quiet_until = if ends_at_once(&error) { until } else { self.io.desk().next_retry };
        let (mut failures, mut retry_at, mut polls) = (Vec::new(), None, SettlingPolls::default());
        while !undecided.is_empty() {
            let now = self.io.now();
            let delay = polls.next();
            let wake = now.after(delay).max(quiet_until);
            match self.io.sleep(wake.min(until).since(now)).await {
                Err(ended) if ended.kind() == ErrorKind::Canceled => return ended.after(&error),
                Err(_) => break,
                // The first look tells why, however late it is.
                Ok(()) if wake >= until && (quiet_until >= until || !delay.is_zero()) => break,
                Ok(()) => {}
            }
            // An answer counts that has come before another one ended the rest.
            let found: Mutex<Vec<(&str, Authorization)>> = Mutex::default();
            let looks = undecided.iter().map(|proof| async {
                let url = proof.authorization_url.as_str();
                match self.authorization(url, account).await {
                    Ok(look) => {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((url, look))
                    }
                    Err(error) if ends_at_once(&error) => return Err(error),
                    Err(_) => {} // It may be valid, or invalid, or neither yet.
                }
                Ok(())
            });
            if let Err(ended) = concurrently(looks).await {
                // With a time to try again there is no new order at once.
                (quiet_until, retry_at) = (until, ended.retry_at().or(Some(self.io.now())));
            }
            for (url, look) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
                if look.status == AuthorizationStatus::Invalid {
                    let failed = undecided.iter().find(|proof| proof.authorization_url == url);
                    let place = failed.map_or(url, |proof| &proof.challenge_url);
                    failures.push(failure(&look).at(place));
                }
                if look.status != AuthorizationStatus::Pending {
                    undecided.retain(|proof| proof.authorization_url != url);
                }
            }
        }
        let explained = match error.kind() {
            ErrorKind::Challenge | ErrorKind::Order | ErrorKind::Server => {
                joined(failures).unwrap_or(error)
            }
            _ => error,
        };
        explained.with_retry_at(retry_at)
    }

    pub(crate) async fn authorization(&self, url: &str, account: &str) -> Result<Authorization> {
        let what = "an authorization";
        Ok(self.fetch("fetching the authorization", url, account, what).await?.value)
    }

    /// Picks the challenge to answer; `None`: the identifier is proven already.
    pub(super) fn choose(
        &self,
        claim: &Claim,
        url: &str,
        authorization: &Authorization,
        account: &str,
    ) -> Result<Option<(Proof, Challenge)>> {
        let place = |e: Error| e.doing("reading the authorization").at(url);
        self.choose_one(claim, url, authorization, account).map_err(place)
    }

    fn choose_one(
        &self,
        claim: &Claim,
        url: &str,
        authorization: &Authorization,
        account: &str,
    ) -> Result<Option<(Proof, Challenge)>> {
        let identifier = authorization.ordered_identifier();
        let of_ancestor =
            authorization.subdomain_auth_allowed && claim.ancestor.as_ref() == Some(&identifier);
        if !claim.identifiers.contains(&identifier) && !of_ancestor {
            let why = "the order's authorization is for a name that was not ordered";
            return Err(Error::protocol(why).about(&printable(&identifier.value, 255)));
        }
        match authorization.status {
            AuthorizationStatus::Valid => return Ok(None),
            AuthorizationStatus::Pending => {}
            // Not by us, or not now: what can be done about it is to order anew.
            AuthorizationStatus::Invalid => {
                return Err(failure(authorization).with_kind(ErrorKind::Order));
            }
            status => {
                let why = format!("the authorization is {}", status.as_str());
                return Err(Error::new(ErrorKind::Order, why).about(&identifier.value));
            }
        }
        let offered = &authorization.challenges;
        let acceptable = claim.types_for(&identifier);
        let choice = acceptable.iter().find_map(|kind| {
            let offer = offered.iter().find(|challenge| challenge.type_ == kind.as_str())?;
            kind.can_prove(&identifier).then_some((*kind, offer))
        });
        let Some((kind, offer)) = choice else {
            return Err(no_choice(acceptable, authorization));
        };
        if offer.status == ChallengeStatus::Invalid {
            return Err(failure(authorization));
        }
        let key = self.client.account_key();
        let policy = identifier.is_wildcard() || authorization.subdomain_auth_allowed;
        let challenge =
            Challenge::offered(kind, offer, &identifier, policy, account, key.thumbprint());
        let challenge = challenge.map_err(|e| e.about(&identifier.value))?;
        let proof = Proof {
            kind,
            payload: None,
            failure: None,
            losses: 0,
            responded_at: self.io.now(),
            authorization_url: url.to_owned(),
            challenge_url: offer.url.clone(),
            // "processing": an earlier run may have responded.
            response: match is_unanswered(offer.status) {
                true => ResponseState::Unsent,
                false => ResponseState::Received,
            },
            identifier,
        };
        Ok(Some((proof, challenge)))
    }

    /// Tells the CA that a challenge is in place (RFC 8555 section 7.5.1).
    async fn respond(&self, proof: &mut Proof, account: &str) -> Result<ResponseState> {
        let url = proof.challenge_url.clone();
        let call = Call { doing: "answering the challenge", url: &url, repeatable: false };
        // The challenge in the CA's answer is not read: the order tells the same.
        proof.responded_at = self.io.now();
        let payload = proof.payload.as_deref().unwrap_or(b"{}");
        let error = match self.post(&call, Identity::Account(account), payload).await {
            Ok(_) => return Ok(ResponseState::Received),
            Err(error) => error.about(&proof.identifier.value),
        };
        // A fault of the CA's own does not tell whether it has the response, whatever the HTTP status.
        if error.is_lost() || error.kind() == ErrorKind::Server && !error.is_unsent() {
            let now = self.io.now();
            let asked = delay_after_lost(&error, now)?.unwrap_or_default();
            let delay = match proof.losses {
                0 => Duration::ZERO,
                losses => Duration::from_secs(2u64.saturating_pow(losses)).min(MAX_SETTLING),
            };
            proof.losses += 1;
            proof.failure = Some(error);
            return Ok(ResponseState::Lost(now.after(asked.max(delay))));
        }
        let is_conflict = error.http_status() == Some(409);
        let is_refused = (error.problem().is_some() || is_conflict) && !error.is_unsent();
        if !is_refused || error.kind() == ErrorKind::RateLimited {
            return Err(error);
        }
        // The CA may have an earlier response, from this run or another one.
        let authorization = self.authorization(&proof.authorization_url, account).await?;
        match authorization.status {
            AuthorizationStatus::Valid => Ok(ResponseState::Received),
            AuthorizationStatus::Invalid => {
                proof.response = ResponseState::Received;
                Err(failure(&authorization).at(&proof.challenge_url))
            }
            // CA quirk (Boulder): the challenge is still pending while it is validated.
            _ if is_conflict => Ok(ResponseState::Received),
            _ if !proof.is_unanswered_in(&authorization) => Ok(ResponseState::Received),
            _ => Err(error),
        }
    }

    /// Polls the order - one request, however many authorizations - until it is decided.
    async fn await_ready(
        &self,
        plan: &Plan,
        order_url: &str,
        proofs: &mut [Proof],
        account: &str,
    ) -> Result<Answered<Order>> {
        let (mut polls, mut retry_after) = (Polls::default(), None);
        loop {
            let delay = polls.next(retry_after, self.io.now());
            let place = |e: Error| e.doing("waiting for the authorizations").at(order_url);
            self.io.sleep(delay.map_err(place)?).await.map_err(place)?;
            let order = self.order(plan, order_url, account).await?;
            match order.value.status {
                OrderStatus::Pending => {
                    let now = self.io.now();
                    let due = proofs.iter_mut().filter(|proof| proof.review_is_due(&polls, now));
                    concurrently(due.map(|proof| self.review(proof, account))).await?;
                }
                OrderStatus::Invalid => return Err(invalid_order(&order.value, order_url)),
                _ => return Ok(order),
            }
            retry_after = order.retry_after;
        }
    }

    /// Fetches one authorization of a pending order: fails with the reason when it has failed, and
    /// responds again when the response was lost.
    async fn review(&self, proof: &mut Proof, account: &str) -> Result<()> {
        let authorization = self.authorization(&proof.authorization_url, account).await?;
        if authorization.status == AuthorizationStatus::Invalid {
            return Err(failure(&authorization).at(&proof.challenge_url));
        }
        self.respond_again(proof, &authorization, account).await
    }

    /// Responds again when the response was lost and the CA shows no sign of it.
    pub(super) async fn respond_again(
        &self,
        proof: &mut Proof,
        authorization: &Authorization,
        account: &str,
    ) -> Result<()> {
        match proof.response {
            ResponseState::Lost(until) if self.io.now() >= until => {
                proof.response = match proof.is_unanswered_in(authorization) {
                    true => self.respond(proof, account).await?,
                    false => ResponseState::Received,
                };
            }
            _ => {}
        }
        Ok(())
    }
}

impl Proof {
    /// Is it time to fetch the authorization? Soon, when the answer to our response was lost.
    pub(super) fn review_is_due(&self, polls: &Polls, now: Time) -> bool {
        let is_lost = matches!(self.response, ResponseState::Lost(until) if now >= until);
        is_lost || polls.count() % POLLS_A_REVIEW == 0
    }

    /// Does the CA show no sign of a response to the challenge?
    fn is_unanswered_in(&self, authorization: &Authorization) -> bool {
        let mut ours = authorization.challenges.iter().filter(|c| c.url == self.challenge_url);
        let pending = authorization.status == AuthorizationStatus::Pending;
        pending && ours.any(|c| is_unanswered(c.status))
    }

    fn take_payload(&mut self, payload: Option<Vec<u8>>) -> Result<()> {
        match payload {
            Some(payload) => self.payload = Some(payload),
            None if self.kind.takes_payload() => {
                let kind = self.kind.as_str();
                let why = format!("the host gave no payload to answer {kind} with");
                return Err(Error::new(ErrorKind::Host, why).about(&self.identifier.value));
            }
            None => {}
        }
        Ok(())
    }
}

/// A challenge without a known status has no response either.
fn is_unanswered(status: ChallengeStatus) -> bool {
    matches!(status, ChallengeStatus::Pending | ChallengeStatus::Unknown)
}

/// Why an order is invalid, as far as it says so itself.
pub(crate) fn invalid_order(order: &Order, url: &str) -> Error {
    let error = match &order.error {
        Some(problem) => Error::new(kind_for(problem, ErrorKind::Order), problem.to_string())
            .with_problem(problem.clone()),
        None => Error::new(ErrorKind::Order, "the order is invalid, and the CA does not say why"),
    };
    error.doing("waiting for the order").at(url)
}

/// Why an invalid authorization failed: the error of its challenge.
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

/// Is the CA out of reach, or does it ask for a slower pace?
fn ends_at_once(error: &Error) -> bool {
    let kinds =
        [ErrorKind::Transport, ErrorKind::Timeout, ErrorKind::RateLimited, ErrorKind::Canceled];
    let is_down = matches!(error.http_status(), Some(408 | 500..));
    is_down || error.is_unsent() || kinds.contains(&error.kind())
}

/// Whose fault a failed challenge or order is: the CA's own, or `otherwise`.
fn kind_for(problem: &Problem, otherwise: ErrorKind) -> ErrorKind {
    match problem.name() {
        Some("serverInternal") => ErrorKind::Server,
        _ => otherwise,
    }
}

/// One error for all authorizations that failed. `None` without any.
fn joined(mut failures: Vec<Error>) -> Option<Error> {
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

fn no_choice(acceptable: &[ChallengeType], authorization: &Authorization) -> Error {
    let offered: Vec<String> =
        authorization.challenges.iter().map(|c| printable(&c.type_, 40)).collect();
    let accepted: Vec<&str> = acceptable.iter().map(|kind| kind.as_str()).collect();
    Error::new(
        ErrorKind::Challenge,
        format!(
            "the CA offers {}, none of which is acceptable ({})",
            if offered.is_empty() { "no challenge".to_owned() } else { offered.join(", ") },
            accepted.join(", ")
        ),
    )
    .about(&printable(&authorization.identifier.value, 255))
    .permanent()
}
