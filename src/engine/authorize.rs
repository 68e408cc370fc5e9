//! Proving control of each identifier of an order. RFC 8555 sections 7.5, 7.5.1 and 8.

use std::sync::Arc;

use super::Polls;
use super::challenge::{Challenge, ChallengeType};
use super::claim::Claim;
use super::concurrently::concurrently;
use super::exchange::{Answered, Call, Identity, Session};
use super::order_options::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::problem::printable;
use crate::request::{self, Respond};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::ChallengeStatus;
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};

/// An order that stays pending is looked into after this many looks, and again after as many: is
/// an authorization invalid already, or was an answer to a challenge lost?
pub(super) const POLLS_A_REVIEW: u32 = 6;

/// A challenge that was chosen, and where it lives at the CA.
pub(super) struct Proof {
    identifier: Identifier,
    pub authorization_url: String,
    challenge_url: String,
    kind: ChallengeType,
    /// Not answered yet, as far as the CA says.
    pending: bool,
    /// Answered, and what the CA said to that was lost.
    lost: bool,
    /// What it is answered with: an empty object, or what the host makes of it.
    payload: Vec<u8>,
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
            return self.await_ready(plan, order_url, &[], account).await;
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
        let (mut proofs, challenges): (Vec<Proof>, Vec<Challenge>) = proofs.into_iter().unzip();
        let challenges: Arc<[Challenge]> = challenges.into();
        let _answering = self.client.published().add(&challenges);
        let prove = |payloads: Vec<Option<Vec<u8>>>| async move {
            self.io.enter("challenge");
            for (proof, payload) in proofs.iter_mut().zip(payloads) {
                proof.take_payload(payload)?;
            }
            let pending = proofs.iter().filter(|proof| proof.pending);
            let heard = concurrently(pending.map(|proof| self.respond(proof, account))).await?;
            let pending = proofs.iter_mut().filter(|proof| proof.pending);
            pending.zip(heard).for_each(|(proof, heard)| proof.lost = !heard);
            match order {
                Some((plan, url)) => self.await_ready(plan, url, &proofs, account).await.map(Some),
                None => {
                    let looks = proofs.iter().map(|proof| self.await_decided(proof, account));
                    concurrently(looks).await.map(|_| None)
                }
            }
        };
        self.io.with_published(challenges, prove).await
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
            payload: request::json(&Respond {})?,
            authorization_url: url.to_owned(),
            challenge_url: offer.url.clone(),
            // "processing": it has been answered, by an earlier run perhaps.
            pending: is_unanswered(offer.status),
            lost: false,
            identifier,
        };
        Ok(Some((proof, challenge)))
    }

    /// Tells the CA that a challenge is in place; `false`: its answer is lost. The looks at the order
    /// show what became of it.
    pub(super) async fn respond(&self, proof: &Proof, account: &str) -> Result<bool> {
        let call =
            Call { doing: "answering the challenge", url: &proof.challenge_url, repeatable: false };
        // What the answer says of the challenge, the order will say too.
        let error = match self.post(&call, Identity::Account(account), &proof.payload).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_lost() => return Ok(false),
            Err(error) => error.about(&proof.identifier.value),
        };
        let is_refused = error.problem().is_some() && !error.is_unsent();
        if !is_refused || error.kind() == ErrorKind::RateLimited {
            return Err(error);
        }
        // A refusal may only mean that the challenge is decided already.
        let authorization = self.authorization(&proof.authorization_url, account).await?;
        match authorization.status {
            AuthorizationStatus::Valid => Ok(true),
            AuthorizationStatus::Invalid => Err(failure(&authorization).at(&proof.challenge_url)),
            _ => Err(error),
        }
    }

    /// Looks at the order - one request, however many authorizations - until it is decided.
    async fn await_ready(
        &self,
        plan: &Plan,
        order_url: &str,
        proofs: &[Proof],
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
                    let due = proofs.iter().filter(|proof| proof.review_is_due(&polls));
                    for proof in self.unanswered(due, account).await? {
                        self.respond(proof, account).await?;
                    }
                }
                OrderStatus::Invalid => {
                    // Which name it was stands in the authorizations.
                    self.unanswered(proofs.iter(), account).await?;
                    return Err(invalid_order(&order.value, order_url));
                }
                _ => return Ok(order),
            }
            retry_after = order.retry_after;
        }
    }

    /// Looks at the authorizations one by one: fails with the reason when one has failed, and gives
    /// those whose challenge the CA does not know to be answered.
    async fn unanswered<'a>(
        &self,
        proofs: impl Iterator<Item = &'a Proof>,
        account: &str,
    ) -> Result<Vec<&'a Proof>> {
        let looks = proofs.map(|proof| async move {
            let authorization = self.authorization(&proof.authorization_url, account).await?;
            if authorization.status == AuthorizationStatus::Invalid {
                return Err(failure(&authorization).at(&proof.challenge_url));
            }
            Ok(proof.is_unanswered_in(&authorization).then_some(proof))
        });
        Ok(concurrently(looks).await?.into_iter().flatten().collect())
    }
}

impl Proof {
    /// Is it time to ask whether the CA knows of our answer? Soon, when its own was lost.
    pub(super) fn review_is_due(&self, polls: &Polls) -> bool {
        self.lost && polls.count() == 1 || polls.count() % POLLS_A_REVIEW == 0
    }

    /// Does the CA not know that the challenge has been answered?
    pub(super) fn is_unanswered_in(&self, authorization: &Authorization) -> bool {
        let mut ours = authorization.challenges.iter().filter(|c| c.url == self.challenge_url);
        let pending = authorization.status == AuthorizationStatus::Pending;
        pending && ours.any(|c| is_unanswered(c.status))
    }

    fn take_payload(&mut self, payload: Option<Vec<u8>>) -> Result<()> {
        match payload {
            Some(payload) => self.payload = payload,
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

/// A CA that does not say what state a challenge is in has not been answered either.
fn is_unanswered(status: ChallengeStatus) -> bool {
    matches!(status, ChallengeStatus::Pending | ChallengeStatus::Unknown)
}

/// Why an order is invalid, as far as it says so itself.
pub(super) fn invalid_order(order: &Order, url: &str) -> Error {
    let error = match &order.error {
        Some(problem) => {
            Error::new(ErrorKind::Order, problem.to_string()).with_problem(problem.clone())
        }
        None => Error::new(ErrorKind::Order, "the order is invalid, and the CA does not say why"),
    };
    error.doing("waiting for the order").at(url)
}

/// Why an invalid authorization failed: the error of its challenge.
pub(crate) fn failure(authorization: &Authorization) -> Error {
    let identifier = authorization.ordered_identifier().value;
    let failed = authorization.challenges.iter().find(|c| c.error.is_some());
    let error = match failed.and_then(|c| c.error.as_ref().map(|problem| (c, problem))) {
        Some((challenge, problem)) => {
            let why = format!("{} failed: {problem}", printable(&challenge.type_, 40));
            Error::new(ErrorKind::Challenge, why).with_problem(problem.clone())
        }
        None => Error::new(ErrorKind::Challenge, "the CA does not say why the challenge failed"),
    };
    error.doing("proving control").about(&printable(&identifier, 255))
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
    .hopeless()
}
