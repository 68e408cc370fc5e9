//! Runs an operation to its end, blocking.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::clock::SteadyClock;
use crate::engine::{Challenge, Operation, Reply, Request, Step, ToSign};
use crate::error::Result;

/// A cancellation by another thread is noticed after this long at the latest while waiting.
const LONGEST_NAP: Duration = Duration::from_millis(250);

/// Does the steps of an operation.
pub trait Host {
    /// Sends the request and feeds the answer, or that there is none, to `reply`.
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>);

    /// Signs with a key that is outside the process; the error says why not. Needed only by those
    /// who have such a key.
    fn sign(&mut self, _to_sign: &Arc<ToSign>) -> Result<Vec<u8>, String> {
        Err("this program signs with no key outside the process".to_owned())
    }

    /// Publishes all of these; the error says which could not be, and why. May block.
    fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String>;

    /// Takes the same challenges down; also those that could not be published.
    fn unpublish(&mut self, challenges: &[Challenge]);
}

/// Polls `operation` to its end, with `host` doing the steps. Blocks for as long as the CA takes, at
/// most the operation's time limit and the time that publishing takes.
pub fn run<T>(operation: &Operation<T>, host: &mut dyn Host) -> Result<()> {
    let clock = SteadyClock::new();
    loop {
        match operation.poll(clock.now())? {
            Step::Request(request) => host.send(&request, &operation.reply(request.id)),
            Step::Wait(delay) => thread::sleep(delay.unwrap_or(LONGEST_NAP).min(LONGEST_NAP)),
            Step::Sign(to_sign) => {
                operation.signed(to_sign.id, host.sign(&to_sign))?;
            }
            Step::Publish(challenges) => operation.published(host.publish(&challenges))?,
            Step::Unpublish(challenges) => host.unpublish(&challenges),
            Step::Done => return Ok(()),
        }
    }
}
