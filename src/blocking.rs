//! The blocking driver: runs an operation to its end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::clock::SteadyClock;
use crate::engine::{Challenge, Operation, Reply, Request, Step, ToSign};
use crate::error::Result;
use crate::manager::{Act, Manager, ManagerEvent};
use crate::time::Time;
#[cfg(feature = "http")]
use crate::transport::HttpClient;

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

    /// Whether to obtain a certificate for this name, which a client has sent. Only programs that call
    /// [`Manager::on_demand`] need this method.
    fn wants(&mut self, _name: &str) -> bool {
        false
    }
}

/// For programs whose server responds to http-01 with
/// [`Client::http01_answer`](crate::engine::Client::http01_answer): there is nothing to publish.
#[cfg(feature = "http")]
impl Host for HttpClient {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        HttpClient::send(self, request, reply);
    }

    fn publish(&mut self, _challenges: &[Challenge]) -> Result<(), String> {
        Ok(())
    }

    fn unpublish(&mut self, _challenges: &[Challenge]) {}
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

/// Keeps the certificates of a manager fresh on this thread, one attempt at a time, until `tell` breaks. It is
/// told of each event, and once a second without one.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use acme_micro::engine::{Challenge, Client, ClientOptions, KeepOptions, OrderOptions, Reply, Request};
/// use acme_micro::manager::{Manager, ManagerOptions};
/// use acme_micro::{DirectoryStore, Host, HttpClient, HttpOptions, keep_fresh};
///
/// struct Web(HttpClient); // serves /.well-known/acme-challenge/ from this folder
/// impl Host for Web {
///     fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
///         self.0.send(request, reply);
///     }
///     fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String> {
///         let write = |c: &Challenge| std::fs::write(format!("/var/www/acme/{}", c.token()), c.key_authorization());
///         challenges.iter().try_for_each(write).map_err(|error| error.to_string())
///     }
///     fn unpublish(&mut self, challenges: &[Challenge]) {
///         challenges.iter().for_each(|c| drop(std::fs::remove_file(format!("/var/www/acme/{}", c.token()))));
///     }
/// }
///
/// # fn main() -> Result<(), acme_micro::AcmeError> {
/// let store = Arc::new(DirectoryStore::open("/var/lib/example")?);
/// let mut options = ClientOptions::with_store("https://acme-v02.api.letsencrypt.org/directory", store)?;
/// options.terms_agreed = true;
/// let mut manager = Manager::new(&Client::new(options)?, ManagerOptions::default())?;
/// manager.add(KeepOptions::new(OrderOptions::new(["example.org"])))?;
/// let mut web = Web(HttpClient::new(&HttpOptions::default())?);
/// keep_fresh(&mut manager, &mut web, |event| {
///     if let Some(event) = event {
///         println!("{:?} {}", event.kind, event.name); // event.certificate is the one to use
///     }
///     std::ops::ControlFlow::Continue(())
/// });
/// # Ok(())
/// # }
/// ```
pub fn keep_fresh(
    manager: &mut Manager,
    host: &mut dyn Host,
    mut tell: impl FnMut(Option<ManagerEvent>) -> ControlFlow<()>,
) {
    loop {
        let flow = match manager.poll(Time::now()) {
            Act::Load(job) => {
                manager.loaded(job.perform(), Time::now());
                ControlFlow::Continue(())
            }
            Act::Attempt(ticket, operation) => {
                let outcome = run(&operation, host).and_then(|()| operation.result());
                manager.finished(ticket, outcome, Time::now());
                ControlFlow::Continue(())
            }
            Act::Ask(name) => {
                let is_wanted = host.wants(&name);
                manager.answer(&name, is_wanted, Time::now());
                ControlFlow::Continue(())
            }
            Act::Tell(event) => tell(Some(event)),
            Act::Wait(wait) => {
                thread::sleep(wait.min(Duration::from_secs(1)));
                tell(None)
            }
        };
        if flow.is_break() {
            return;
        }
    }
}
