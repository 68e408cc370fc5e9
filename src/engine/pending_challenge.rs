//! A challenge that is to be solved, and how far the response to it is. RFC 8555 section 7.5.1.

use super::challenge::ChallengeType;
use super::limits::POLLS_PER_REVIEW;
use super::retry::Polls;
use crate::error::{Error, ErrorKind, Result};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::ChallengeStatus;
use crate::resource::identifier::Identifier;
use crate::time::Time;

/// A challenge that was chosen, and where it lives at the CA.
pub(super) struct PendingChallenge {
    pub identifier: Identifier,
    pub authorization_url: String,
    pub challenge_url: String,
    pub kind: ChallengeType,
    pub response: ResponseState,
    /// Why the last response was not taken, or what became of it is not known.
    pub failure: Option<Error>,
    /// How often the CA's answer to a response was lost.
    pub losses: u32,
    /// When the last response was sent.
    pub responded_at: Time,
    /// The payload of the response, if it is another than an empty object.
    pub payload: Option<Vec<u8>>,
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

impl PendingChallenge {
    /// Is it time to fetch the authorization? Soon, when the answer to our response was lost.
    pub(super) fn review_is_due(&self, polls: &Polls, now: Time) -> bool {
        let is_lost = matches!(self.response, ResponseState::Lost(until) if now >= until);
        is_lost || polls.count() % POLLS_PER_REVIEW == 0
    }

    /// Does the CA show no sign of a response to the challenge?
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
                let why = format!("the host gave no payload to answer {kind} with");
                return Err(Error::new(ErrorKind::Host, why).about(&self.identifier.value));
            }
            None => {}
        }
        Ok(())
    }
}

/// A challenge without a known status has no response either.
pub(super) fn has_no_response(status: ChallengeStatus) -> bool {
    matches!(status, ChallengeStatus::Pending | ChallengeStatus::Unknown)
}
