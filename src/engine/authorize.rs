//! Authorization of each identifier of an order: solving a challenge of each, and waiting until the CA has
//! validated them. RFC 8555 sections 7.5, 7.5.1 and 8.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::challenge::Challenge;
use super::exchange::{Call, Fetched, Identity, Session};
use super::failures::{ends_at_once, failure, invalid_order};
use super::join::join_bounded;
use super::limits::MAX_SETTLE_TIME;
use super::order_options::Plan;
use super::pending_challenge::{PendingChallenge, ResponseState};
use super::retry::{Polls, delay_after_lost};
use crate::error::{Error, ErrorKind, Result};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::order::{Order, OrderStatus};

impl Session {
    /// Makes every authorization of a pending order valid. Returns the order, which is no longer pending.
    pub(super) async fn authorize(
        &self,
        plan: &Plan,
        order_url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Fetched<Order>> {
        self.io.set_state("authorization");
        let urls = order.distinct_authorizations();
        let names = plan.identifiers.ordered.len();
        if urls.is_empty() || urls.len() > names {
            let has = urls.len();
            let why = format!("the pending order of {names} names has {has} authorizations");
            return Err(Error::protocol(why).doing("reading the order").at(order_url));
        }
        let authorizations =
            join_bounded(urls.iter().map(|url| self.authorization(url, account))).await?;
        let mut pending = Vec::new();
        for (url, authorization) in urls.iter().zip(authorizations) {
            pending.extend(self.choose(&plan.identifiers, url, &authorization, account)?);
        }
        if pending.is_empty() {
            return self.await_ready(plan, order_url, &mut [], account).await;
        }
        let ready = self.solve(pending, account, Some((plan, order_url))).await?;
        let none = || Error::new(ErrorKind::Panic, "an order that was not waited for");
        ready.ok_or_else(none)
    }

    /// Publishes the challenges, responds to them, and waits until the CA has validated them. It polls
    /// the order, or without an order each authorization.
    pub(super) async fn solve(
        &self,
        pending: Vec<(PendingChallenge, Challenge)>,
        account: &str,
        order: Option<(&Plan, &str)>,
    ) -> Result<Option<Fetched<Order>>> {
        let now = self.io.now();
        self.io.effects().begin_patience(now);
        let (mut pending, challenges): (Vec<PendingChallenge>, Vec<Challenge>) =
            pending.into_iter().unzip();
        let challenges: Arc<[Challenge]> = challenges.into();
        Box::pin(self.note_published(&challenges)).await?;
        let _published = self.client.published().add(&challenges);
        let solve = |payloads: Vec<Option<Vec<u8>>>| async move {
            self.io.set_state("challenge");
            for (challenge, payload) in pending.iter_mut().zip(payloads) {
                challenge.take_payload(payload)?;
            }
            let outcome = match self.respond_to_all(&mut pending, account).await {
                Ok(()) => self.await_validation(&mut pending, account, order).await,
                Err(error) => Err(error),
            };
            match outcome {
                // Boxed because it is rare: otherwise every order in flight would reserve memory for it.
                Err(error) => Err(Box::pin(self.settle(&pending, account, error)).await),
                outcome => outcome,
            }
        };
        self.io.with_published(challenges, solve).await
    }

    /// Sends the responses that the CA does not have yet. After the first failure it sends
    /// no further response.
    async fn respond_to_all(&self, pending: &mut [PendingChallenge], account: &str) -> Result<()> {
        let failed = &AtomicBool::new(false);
        let unsent =
            pending.iter_mut().filter(|challenge| challenge.response == ResponseState::Unsent);
        let responses = unsent.map(|challenge| async move {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            match self.respond(challenge, account).await {
                Ok(state) => challenge.response = state,
                Err(error) if ends_at_once(&error) => return Err(error),
                // Responses that are being sent are still completed.
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    challenge.failure = Some(error);
                }
            }
            Ok(())
        });
        join_bounded(responses).await?;
        let refused = pending.iter_mut().filter(|p| !matches!(p.response, ResponseState::Lost(_)));
        refused.filter_map(|challenge| challenge.failure.take()).next().map_or(Ok(()), Err)
    }

    async fn await_validation(
        &self,
        pending: &mut [PendingChallenge],
        account: &str,
        order: Option<(&Plan, &str)>,
    ) -> Result<Option<Fetched<Order>>> {
        match order {
            Some((plan, url)) => self.await_ready(plan, url, pending, account).await.map(Some),
            None => {
                let polls =
                    pending.iter_mut().map(|challenge| self.await_decided(challenge, account));
                join_bounded(polls).await.map(|_| None)
            }
        }
    }

    pub(crate) async fn authorization(&self, url: &str, account: &str) -> Result<Authorization> {
        let what = "an authorization";
        Ok(self.fetch("fetching the authorization", url, account, what).await?.value)
    }

    /// Responds to a challenge: tells the CA that it is published (RFC 8555 section 7.5.1). Returns the
    /// new state of the response.
    async fn respond(
        &self,
        challenge: &mut PendingChallenge,
        account: &str,
    ) -> Result<ResponseState> {
        let url = challenge.challenge_url.clone();
        let call = Call { doing: "responding to the challenge", url: &url, repeatable: false };
        // The challenge object that comes back is not read: the order shows the same.
        challenge.responded_at = self.io.now();
        let payload = challenge.payload.as_deref().unwrap_or(b"{}");
        let error = match self.post(&call, Identity::Account(account), payload).await {
            Ok(_) => return Ok(ResponseState::Received),
            Err(error) => error.about(&challenge.identifier.value),
        };
        // After a fault of the CA, whatever the HTTP status, the CA may have the response or not.
        let is_unclear = error.is_unread() || error.kind() == ErrorKind::Server;
        if error.is_lost() || is_unclear && !error.is_unsent() {
            let now = self.io.now();
            let retry_after = delay_after_lost(&error, now)?.unwrap_or_default();
            let delay = match challenge.losses {
                0 => Duration::ZERO,
                losses => Duration::from_secs(2u64.saturating_pow(losses)).min(MAX_SETTLE_TIME),
            };
            challenge.losses += 1;
            challenge.failure = Some(error);
            return Ok(ResponseState::Lost(now.after(retry_after.max(delay))));
        }
        let is_conflict = error.http_status() == Some(409);
        let is_refused = (error.problem().is_some() || is_conflict) && !error.is_unsent();
        if !is_refused || error.kind() == ErrorKind::RateLimited {
            return Err(error);
        }
        // The CA may have an earlier response, from this run or another one.
        let authorization = self.authorization(&challenge.authorization_url, account).await?;
        match authorization.status {
            AuthorizationStatus::Valid => Ok(ResponseState::Received),
            AuthorizationStatus::Invalid => {
                challenge.response = ResponseState::Received;
                Err(failure(&authorization).at(&challenge.challenge_url))
            }
            // CA quirk (Boulder): the challenge is still pending while it is validated.
            _ if is_conflict => Ok(ResponseState::Received),
            _ if !challenge.has_no_response_in(&authorization) => Ok(ResponseState::Received),
            _ => Err(error),
        }
    }

    /// Polls the order until it is no longer pending. A poll is one request for any number of authorizations.
    async fn await_ready(
        &self,
        plan: &Plan,
        order_url: &str,
        pending: &mut [PendingChallenge],
        account: &str,
    ) -> Result<Fetched<Order>> {
        let (mut polls, mut retry_after) = (Polls::default(), None);
        loop {
            let delay = polls.next(retry_after, self.io.now());
            let in_context = |e: Error| e.doing("waiting for the authorizations").at(order_url);
            self.io.sleep(delay.map_err(in_context)?).await.map_err(in_context)?;
            let order = self.order(plan, order_url, account).await?;
            match order.value.status {
                OrderStatus::Pending => {
                    let now = self.io.now();
                    let due =
                        pending.iter_mut().filter(|challenge| challenge.review_is_due(&polls, now));
                    join_bounded(due.map(|challenge| self.review(challenge, account))).await?;
                }
                OrderStatus::Invalid => return Err(invalid_order(&order.value, order_url)),
                _ => return Ok(order),
            }
            retry_after = order.retry_after;
        }
    }

    /// Fetches one authorization of a pending order. Fails with the reason if the authorization has
    /// failed, and responds again if the response was lost.
    async fn review(&self, challenge: &mut PendingChallenge, account: &str) -> Result<()> {
        let authorization = self.authorization(&challenge.authorization_url, account).await?;
        if authorization.status == AuthorizationStatus::Invalid {
            return Err(failure(&authorization).at(&challenge.challenge_url));
        }
        self.respond_again(challenge, &authorization, account).await
    }

    /// Responds again if the response was lost and the CA shows no sign of it.
    pub(super) async fn respond_again(
        &self,
        challenge: &mut PendingChallenge,
        authorization: &Authorization,
        account: &str,
    ) -> Result<()> {
        match challenge.response {
            ResponseState::Lost(until) if self.io.now() >= until => {
                challenge.response = match challenge.has_no_response_in(authorization) {
                    true => self.respond(challenge, account).await?,
                    false => ResponseState::Received,
                };
            }
            _ => {}
        }
        Ok(())
    }
}
