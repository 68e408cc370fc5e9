//! The engine's transcripts: whole operations against a scripted CA, without a socket or a clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod ca;
mod jws;
mod log;
mod pki;
mod script;

mod account;
mod authorizations;
mod boulder;
mod certificates;
mod chains;
mod challenge_types;
mod challenges;
mod concurrency;
mod csr;
mod directory;
mod encoding;
mod input;
mod issuance;
mod key_change;
mod matrix;
mod nonces;
mod orders;
mod policy;
mod pre_authorization;
mod problems;
mod renewal;
mod resume;
mod retries;
mod secrets;
mod size_limits;
mod states;
mod time_and_cancel;
mod unreadable;
