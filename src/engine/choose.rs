//! Which challenge of an authorization is solved. RFC 8555 section 7.5.

use super::challenge::{Challenge, ChallengeType};
use super::exchange::Session;
use super::failures::failure;
use super::identifiers::IdentifierPlan;
use super::pending_challenge::{PendingChallenge, ResponseState, has_no_response};
use crate::error::{Error, ErrorKind, Result};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::ChallengeStatus;
use crate::text::printable;

impl Session {
    /// Chooses the challenge to solve. `None`: the authorization is valid already.
    pub(super) fn choose(
        &self,
        identifiers: &IdentifierPlan,
        url: &str,
        authorization: &Authorization,
        account: &str,
    ) -> Result<Option<(PendingChallenge, Challenge)>> {
        let in_context = |e: Error| e.doing("reading the authorization").at(url);
        self.choose_one(identifiers, url, authorization, account).map_err(in_context)
    }

    fn choose_one(
        &self,
        identifiers: &IdentifierPlan,
        url: &str,
        authorization: &Authorization,
        account: &str,
    ) -> Result<Option<(PendingChallenge, Challenge)>> {
        let identifier = authorization.ordered_identifier();
        let of_ancestor = authorization.subdomain_auth_allowed
            && identifiers.ancestor.as_ref() == Some(&identifier);
        if !identifiers.ordered.contains(&identifier) && !of_ancestor {
            let why = "the order's authorization is for a name that was not ordered";
            return Err(Error::protocol(why).about(&printable(&identifier.value, 255)));
        }
        match authorization.status {
            AuthorizationStatus::Valid => return Ok(None),
            AuthorizationStatus::Pending => {}
            // An earlier run has failed. A new order has new authorizations.
            AuthorizationStatus::Invalid => {
                return Err(failure(authorization).with_kind(ErrorKind::Order));
            }
            status => {
                let why = format!("the authorization is {}", status.as_str());
                return Err(Error::new(ErrorKind::Order, why).about(&identifier.value));
            }
        }
        let offered = &authorization.challenges;
        let acceptable = identifiers.types_for(&identifier);
        let choice = acceptable.iter().find_map(|kind| {
            let offer = offered.iter().find(|challenge| challenge.type_ == kind.as_str())?;
            kind.can_validate(&identifier).then_some((*kind, offer))
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
        let pending = PendingChallenge {
            kind,
            payload: None,
            failure: None,
            losses: 0,
            responded_at: self.io.now(),
            authorization_url: url.to_owned(),
            challenge_url: offer.url.clone(),
            // "processing" means that an earlier run may have responded.
            response: match has_no_response(offer.status) {
                true => ResponseState::Unsent,
                false => ResponseState::Received,
            },
            identifier,
        };
        Ok(Some((pending, challenge)))
    }
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
