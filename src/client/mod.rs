//! Blocking drivers of the engine: they have a clock, sleep, and open sockets. All but the first two
//! are the API of acme-micro 0.14.

pub(crate) mod clock;
pub(crate) mod run;

#[cfg(feature = "http")]
pub(crate) mod account;
#[cfg(feature = "http")]
pub(crate) mod authorization;
#[cfg(feature = "http")]
pub(crate) mod certificate;
#[cfg(feature = "http")]
pub(crate) mod directory;
#[cfg(feature = "http")]
mod driver;
#[cfg(feature = "http")]
pub(crate) mod order;
