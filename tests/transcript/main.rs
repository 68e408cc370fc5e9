//! Transcripts: recorded beside Pebble, searched for secrets, and repeated without a CA.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs, clippy::disallowed_methods)]

mod record;
mod replay;
