//! The fuzz targets: each takes bytes from outside, and panics if a promise is broken.
//!
//! The targets are part of the crate, so that they can call the parsers, but only in its unit tests
//! and in tests/fuzz, where libFuzzer calls them.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod bytes;
mod engine;
mod host;
mod parsers;
#[cfg(test)]
mod replay;

/// The name of a target's corpus, and the target.
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
