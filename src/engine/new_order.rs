//! Placing an order with newOrder. RFC 8555 section 7.4; RFC 9773 section 5 (replaces);
//! draft-ietf-acme-profiles (profile).

use std::sync::Arc;

use log::warn;

use super::exchange::{Call, Fetched, Identity, Session};
use super::limits::MIN_DELAY_AFTER_LOST;
use super::order_options::Plan;
use super::retry::delay_after_lost;
use crate::error::{Error, ErrorKind, Result};
use crate::problem::Problem;
use crate::request::{self, Named, NewOrder};
use crate::resource::directory::Directory;
use crate::resource::identifier::Identifier;
use crate::resource::order::Order;

impl Session {
    /// Places an order. If the CA refuses `replaces` or an optional profile, the order is placed again
    /// without: neither may stop a renewal.
    pub(super) async fn new_order(
        &self,
        plan: &Plan,
        account: &str,
    ) -> Result<(String, Fetched<Order>)> {
        let directory = self.directory().await?;
        self.io.set_state("order");
        if plan.identifiers.ancestor.is_some() {
            directory.check_subdomains().map_err(|e| e.doing("creating the order"))?;
        }
        let replaces = plan.options.replaces.as_ref().filter(|_| directory.renewal_info.is_some());
        let replaces = replaces.and_then(|chain| chain.renewal_id());
        let mut payload = NewOrder {
            identifiers: plan.identifiers.ordered.iter().map(|id| named(plan, id)).collect(),
            not_before: plan.options.not_before.map(|time| time.to_string()),
            not_after: plan.options.not_after.map(|time| time.to_string()),
            replaces: replaces.as_deref(),
            profile: offered_profile(plan, &directory)?,
        };
        loop {
            match self.place_order(&payload, account).await {
                Err(e) if payload.replaces.is_some() && may_be_for_replaces(&e) => {
                    if e.is_lost() {
                        self.sleep_after_lost(&e).await?;
                    }
                    warn!("ordering without naming the certificate that is replaced: {e}");
                    payload.replaces = None;
                }
                Err(e) if plan.options.profile_optional && e.is_problem("invalidProfile") => {
                    if payload.profile.take().is_none() {
                        return Err(e);
                    }
                    warn!("ordering without the profile: {e}");
                }
                outcome => return outcome,
            }
        }
    }

    /// Sends newOrder. If the response is lost, the request is sent once more. Many CAs return the first
    /// order again then; others keep an unused order.
    pub(crate) async fn place_order(
        &self,
        payload: &NewOrder<'_>,
        account: &str,
    ) -> Result<(String, Fetched<Order>)> {
        let payload = &request::json(payload)?;
        let submit = |directory: Arc<Directory>| async move {
            let (doing, url) = ("creating the order", directory.new_order()?);
            let call = Call { doing, url, repeatable: false };
            let identity = Identity::Account(account);
            let order: Fetched<Order> = self.submit(&call, identity, payload, "an order").await?;
            Ok((order.created_at(self, &call)?, order))
        };
        let (url, order) = match self.with_directory(submit).await {
            Err(error) if error.is_lost() => {
                self.sleep_after_lost(&error).await?;
                self.with_directory(submit).await?
            }
            outcome => outcome?,
        };
        Box::pin(self.note_order(&url)).await?;
        Ok((url, order))
    }

    /// Waits before a request whose response was lost is sent once more.
    pub(super) async fn sleep_after_lost(&self, error: &Error) -> Result<()> {
        let retry_after = delay_after_lost(error, self.io.now())?.unwrap_or_default();
        self.io
            .sleep(retry_after.max(MIN_DELAY_AFTER_LOST))
            .await
            .map_err(|ended| ended.after(error))
    }
}

fn named<'a>(plan: &'a Plan, identifier: &'a Identifier) -> Named<'a> {
    let ancestor = plan.identifiers.ancestor_of(identifier).map(|ancestor| ancestor.value.as_str());
    Named { ancestor_domain: ancestor, ..Named::plain(identifier) }
}

/// The profile to request, if the directory offers it.
fn offered_profile<'a>(plan: &'a Plan, directory: &Directory) -> Result<Option<&'a str>> {
    let Some(profile) = plan.options.profile.as_deref() else { return Ok(None) };
    let offered = directory.profiles();
    if offered.iter().any(|(name, _)| name == profile) {
        return Ok(Some(profile));
    }
    let names: Vec<&str> = offered.iter().map(|(name, _)| name.as_str()).collect();
    let why = format!(
        "the CA has no profile \"{}\"; it offers {}",
        crate::text::printable(profile, 100),
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    );
    match plan.options.profile_optional {
        true => {
            warn!("ordering without the profile: {why}");
            Ok(None)
        }
        false => Err(Error::new(ErrorKind::Unsupported, why).doing("creating the order")),
    }
}

/// Whether `replaces` may be the reason of the error. CAs refuse a bad `replaces` with 400, 403, 404 or
/// 409 and various types of problem, so every error that is not clearly about something else may be
/// about it. CA quirk (Pebble): it refuses with 500.
fn may_be_for_replaces(error: &Error) -> bool {
    let unrelated = [
        "accountDoesNotExist",
        "externalAccountRequired",
        "invalidProfile",
        "rateLimited",
        "rejectedIdentifier",
        "unsupportedIdentifier",
        "userActionRequired",
    ];
    matches!(error.http_status(), Some(400 | 403 | 404 | 409 | 500))
        && !error.is_unsent()
        && !error.problem().is_some_and(Problem::is_about_signature)
        && error.kind() != ErrorKind::RateLimited
        && !unrelated.iter().any(|name| error.is_problem(name))
}
