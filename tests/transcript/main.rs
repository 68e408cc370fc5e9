//! Transcripts: recorded beside Pebble, searched for secrets, and repeated without a CA.
//!
//! Each issuance has a fresh account, so Pebble reuses no authorization and asks for challenges whatever
//! its settings are. A nonce that Pebble refuses makes a transcript longer and changes nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs, clippy::disallowed_methods)]

mod record;
mod replay;
