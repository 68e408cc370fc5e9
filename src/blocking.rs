//! The blocking driver: runs an operation to its end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::clock::SteadyClock;
use crate::engine::{Challenge, Operation, Reply, Request, Step, ToSign};
use crate::error::Result;

/// Maximum time of one sleep. After it, a cancellation by another thread takes effect.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// A program that does the steps of an operation.
pub trait Host {
    /// Sends the request, and passes to `reply` the response or the reason why none came.
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>);

    /// Signs with a key that is outside the process; the error says why not. Only programs with
    /// such a key need this method.
    fn sign(&mut self, _to_sign: &Arc<ToSign>) -> Result<Vec<u8>, String> {
        Err("this program cannot sign with a key outside the process".to_owned())
    }

    /// Publishes all of these challenges; the error names the one that failed, and the reason. May
    /// block.
    fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String>;

    /// Removes the challenges of `publish`, including the ones that could not be published.
    fn unpublish(&mut self, challenges: &[Challenge]);
}

/// Polls `operation` to its end, and lets `host` do the steps. Blocks for at most the operation's
/// time limit, plus the time that publishing takes.
pub fn run<T>(operation: &Operation<T>, host: &mut dyn Host) -> Result<()> {
    let clock = SteadyClock::new();
    loop {
        match operation.poll(clock.now())? {
            Step::Request(request) => host.send(&request, &operation.reply(request.id)),
            Step::Wait(delay) => thread::sleep(delay.unwrap_or(MAX_SLEEP).min(MAX_SLEEP)),
            Step::Sign(to_sign) => {
                operation.signed(to_sign.id, host.sign(&to_sign))?;
            }
            Step::Publish(challenges) => operation.published(host.publish(&challenges))?,
            Step::Unpublish(challenges) => host.unpublish(&challenges),
            Step::Store(access) => access.perform(),
            Step::Done => return Ok(()),
        }
    }
}
