//! The protocol, as operations that do no I/O.
//!
//! An [`Operation`] is polled for the next [`Step`]: send this request, publish these challenges,
//! wait. The host does it in whatever way it does such things, pushes the answer in, and polls
//! again. Time comes in with each poll; there is no clock, no socket and no thread in here, so an
//! operation fits any event loop and a test can play a whole issuance in no time.
//!
//! Inside, a flow is an `async fn` that reads like RFC 8555 section 7.1 from top to bottom
//! ([`Client::obtain`]). There is no async runtime: the operation owns the future and polls it by
//! hand. What a flow needs from outside it awaits through one object, `io::Io`.
//!
//! ```
//! use acme_micro::engine::{Client, ClientOptions, OrderOptions, Step};
//! use acme_micro::{Key, KeyType, Time};
//!
//! # fn main() -> Result<(), acme_micro::AcmeError> {
//! let account_key = Key::generate(KeyType::P256)?; // store it before the first request
//! let mut options = ClientOptions::new("https://ca.example/directory", account_key);
//! options.terms_agreed = true;
//! let client = Client::new(options)?;
//! let operation = client.obtain(OrderOptions::new(["example.org"]))?;
//!
//! match operation.poll(Time::from_millis(1_795_530_245_000))? {
//!     Step::Request(request) => {
//!         // Send it, then:
//!         operation.reply(request.id).failed("this example has no network")?;
//!     }
//!     step => panic!("the first step is to ask for the directory, not {step:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod abandon;
mod answer;
pub(crate) mod authorize;
mod backoff;
mod ca_rates;
pub(crate) mod certificate;
mod challenge;
mod claim;
mod client;
pub(crate) mod concurrently;
mod desk;
pub(crate) mod exchange;
pub(crate) mod finalize;
mod http01;
mod io;
mod key_change;
mod limits;
mod new_order;
mod nonce;
mod obtain;
mod operation;
mod order_list;
mod order_options;
mod pre_authorize;
mod register;
mod renewal_info;
mod revoke;
mod transcript;
mod update_account;

pub use answer::Reply;
pub use backoff::next_try;
pub use challenge::{Challenge, ChallengeType};
pub use client::{Client, ClientOptions};
pub use http01::http01_answer;
pub use obtain::{Issued, Renewal};
pub use operation::{Method, Operation, Request, Step, ToSign};
pub use order_options::OrderOptions;
pub use pre_authorize::AuthorizeOptions;
pub use register::Registered;
pub use renewal_info::RenewalInfo;
pub use revoke::RevocationReason;

pub(crate) use backoff::Polls;
#[cfg(feature = "capi")]
pub(crate) use backoff::next_try_after;
#[cfg(feature = "http")]
pub(crate) use client::TIME_LIMIT;
#[cfg(feature = "http")]
pub(crate) use exchange::Session;
