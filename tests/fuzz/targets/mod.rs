//! What is fuzzed: each target takes bytes from outside, and panics when a promise is broken.
//!
//! Part of the crate, so that it reaches the parsers, but only of its unit tests and of
//! tests/fuzz, where libFuzzer calls it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod bytes;
mod engine;
mod host;
mod parsers;
#[cfg(test)]
mod replay;

/// A target, by the name of its corpus.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("problem", parsers::problem),
    ("directory", parsers::directory),
    ("order", parsers::order),
    ("authorization", parsers::authorization),
    ("renewal-info", parsers::renewal_info),
    ("header", parsers::header),
    ("date", parsers::date),
    ("url", parsers::url),
    ("name", parsers::name),
    ("chain", parsers::chain),
    ("key", parsers::key),
    ("csr", parsers::csr),
    ("host", host::text),
    #[cfg(feature = "http")]
    ("proxy", host::proxy),
    ("obtain", engine::obtain),
    ("account", engine::account),
];
