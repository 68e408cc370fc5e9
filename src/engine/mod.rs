//! The protocol, as operations that do no I/O.
//!
//! The *host* is the code around the engine: the program, or a driver of this library. It polls an
//! [`Operation`] for the next [`Step`]: send this request, publish these challenges, wait. It does that
//! in its own way, feeds the response in, and polls again. Time comes in with each poll. The engine has
//! no clock, no socket and no thread, so an operation fits any event loop, and a test runs a whole
//! issuance without waiting.
//!
//! Inside, a flow is an `async fn` that reads like RFC 8555 section 7.1 from top to bottom
//! ([`Client::obtain`]). There is no async runtime: the operation owns the future and polls it by
//! hand. A flow awaits everything from outside through one object, `io::Io`, whose file explains how.
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
//!     step => panic!("the first step is to fetch the directory, not {step:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod authorize;
mod begin;
pub(crate) mod ca_limits;
mod ca_profiles;
pub(crate) mod certificate;
mod challenge;
mod choose;
mod client;
mod deactivate;
mod effects;
pub(crate) mod exchange;
pub(crate) mod failures;
pub(crate) mod finalize;
mod http01;
mod identifiers;
mod io;
pub(crate) mod join;
mod keep;
mod key_change;
pub(crate) mod limits;
mod new_order;
mod next_try;
mod nonce;
mod obtain;
mod operation;
mod order_list;
mod order_options;
mod pending_challenge;
mod pre_authorize;
mod register;
mod renewal_info;
mod reply;
mod response;
mod retry;
mod revoke;
mod settle;
mod step;
mod store_access;
mod stored;
mod stored_account;
mod stored_certificate;
mod transcript;
mod update_account;
mod url_policy;

pub use challenge::{Challenge, ChallengeType};
pub use client::{Client, ClientOptions};
pub use http01::http01_answer;
pub use keep::{KeepOptions, Kept, Tried};
pub use next_try::next_try;
pub use obtain::{Issued, Renewal};
pub use operation::Operation;
pub use order_options::OrderOptions;
pub use pre_authorize::AuthorizeOptions;
pub use register::Registered;
pub use renewal_info::RenewalInfo;
pub use reply::Reply;
pub use revoke::RevocationReason;
pub use step::{Method, Request, Step, ToSign};
pub use store_access::StoreAccess;

#[cfg(feature = "http")]
pub(crate) use exchange::Session;
#[cfg(feature = "capi")]
pub(crate) use next_try::next_try_after;
#[cfg(any(test, fuzzing))]
pub(crate) use url_policy::UrlPolicy;
