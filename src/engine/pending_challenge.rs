//! A challenge that is being solved, and the state of the response to it. RFC 8555 section 7.5.1.

use super::challenge::ChallengeType;
use super::limits::POLLS_PER_REVIEW;
use super::retry::Polls;
use crate::error::{Error, ErrorKind, Result};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::ChallengeStatus;
use crate::resource::identifier::Identifier;
use crate::time::Time;

/// A chosen challenge: its URLs at the CA, and the state of the response.
pub(super) struct PendingChallenge {
    pub identifier: Identifier,
    pub authorization_url: String,
    pub challenge_url: String,
    pub kind: ChallengeType,
    pub response: ResponseState,
    /// The reason why the CA refused the last response, or why its outcome is unknown.
    pub failure: Option<Error>,
    /// Number of responses whose outcome is unknown.
    pub losses: u32,
    /// The time of the last response.
    pub responded_at: Time,
    /// The payload of the response, if it is not an empty object.
    pub payload: Option<Vec<u8>>,
}

/// The state of the response to a challenge (RFC 8555 section 7.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    /// The CA has no response yet.
    Unsent,
    /// The response was sent, and its outcome is unknown: the CA may have it or not. It is not sent
    /// again before this time.
    Lost(Time),
    /// The CA has the response. It is never sent again, whatever status the CA shows.
    /// CA quirk (Boulder): a challenge stays pending while it is validated, and a second response is
    /// refused.
    Received,
}

impl PendingChallenge {
    /// Whether it is time to fetch the authorization. When the response was lost, it is time soon.
    pub(super) fn review_is_due(&self, polls: &Polls, now: Time) -> bool {
        let is_lost = matches!(self.response, ResponseState::Lost(until) if now >= until);
        is_lost || polls.count() % POLLS_PER_REVIEW == 0
    }

    /// Whether the CA shows no sign of a response to the challenge.
    pub(super) fn has_no_response_in(&self, authorization: &Authorization) -> bool {
        let mut ours = authorization.challenges.iter().filter(|c| c.url == self.challenge_url);
        let pending = authorization.status == AuthorizationStatus::Pending;
        pending && ours.any(|c| has_no_response(c.status))
    }

    pub(super) fn take_payload(&mut self, payload: Option<Vec<u8>>) -> Result<()> {
        match payload {
            Some(payload) => self.payload = Some(payload),
            None if self.kind.takes_payload() => {
                let kind = self.kind.as_str();
                let why = format!("the host gave no payload for the response to {kind}");
                return Err(Error::new(ErrorKind::Host, why).about(&self.identifier.value));
            }
            None => {}
        }
        Ok(())
    }
}

/// Whether a challenge with this status has no response. A challenge without a known status has none.
pub(super) fn has_no_response(status: ChallengeStatus) -> bool {
    matches!(status, ChallengeStatus::Pending | ChallengeStatus::Unknown)
}
