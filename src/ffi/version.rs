//! The library's version, and the features that are compiled in.

use std::ffi::c_char;

use safer_ffi::derive_ReprC;

/// Version of the header, as numbers. acme_version_number() is that of the library.
pub const ACME_MICRO_VERSION_MAJOR: u32 = 0;
/// See ACME_MICRO_VERSION_MAJOR.
pub const ACME_MICRO_VERSION_MINOR: u32 = 14;
/// See ACME_MICRO_VERSION_MAJOR.
pub const ACME_MICRO_VERSION_PATCH: u32 = 1;

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => u32::MAX,
    }
}
const _: () = assert!(
    number(env!("CARGO_PKG_VERSION_MAJOR")) == ACME_MICRO_VERSION_MAJOR
        && number(env!("CARGO_PKG_VERSION_MINOR")) == ACME_MICRO_VERSION_MINOR
        && number(env!("CARGO_PKG_VERSION_PATCH")) == ACME_MICRO_VERSION_PATCH
);

/// Optional parts of the library; bits of acme_features().
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_feature_t {
    /// The built-in blocking HTTPS client for acme_op_send(), acme_op_run(), acme_obtain() and
    /// acme_driver_t.
    ACME_FEATURE_HTTP = 1,
}

/// Returns the version of the library at run time, such as "0.14.1".
/// @return Static text; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns the version of the library at run time as a number; compare it with
/// ACME_MICRO_VERSION_NUMBER.
/// @return The major version times 65536, plus the minor one times 256, plus the patch level.
#[unsafe(no_mangle)]
pub extern "C" fn acme_version_number() -> u32 {
    (ACME_MICRO_VERSION_MAJOR << 16) | (ACME_MICRO_VERSION_MINOR << 8) | ACME_MICRO_VERSION_PATCH
}

/// Returns the ACME_FEATURE_* bits of the parts that this library has.
/// @return A combination of ACME_FEATURE_* values.
#[unsafe(no_mangle)]
pub extern "C" fn acme_features() -> u32 {
    if cfg!(feature = "http") { acme_feature_t::ACME_FEATURE_HTTP as u32 } else { 0 }
}
