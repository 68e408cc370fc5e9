//! The schedule of a program that keeps a certificate fresh.

use std::ffi::c_int;

use super::cert::CertState;
use super::handle::peek;
use super::types::{acme_cert_t, acme_time_t, moment};
use crate::engine::next_try_after;
use crate::time::Time;

/// Returns when a program that keeps a certificate fresh should try next. The delay after `now`,
/// the end of the last try, is a minute after the first try, ten minutes after the second in a row,
/// a hundred after the third, then a day. It is a day at once if `is_permanent`
/// (acme_error_is_permanent()) is not 0. A random part of up to half the delay is added, so that
/// programs that failed together do not return together.
///
/// The program keeps two counts; `tries` is the one that fits the last try. After a failure it is
/// the number of failures in a row: a success sets it to 0. After a success it is the number of
/// renewals in a row. The result "not due yet" (only_if_due, acme_begin_renewal_info()) sets both
/// counts to 0. If a CA always says "renew now", the program then orders about one
/// certificate a day.
///
/// `cert`, the certificate in use, shortens a delay that would be too long for it. Before its
/// renewal is due by its lifetime (after two thirds, or half of a lifetime shorter than ten days)
/// the next try is at that due time at the latest. From then on the delay is at most half of the
/// time until the certificate expires. Neither rule makes the delay shorter than a 64th of the lifetime
/// (counted as at least 40 seconds and at most an hour), or than a quarter of the lifetime if that
/// is less. After the certificate has expired the delay is at most an eighth of the lifetime or of
/// the time since it expired, or a minute, whichever is longest. A delay that these rules shorten
/// is a random time in the last quarter of what they allow; so no delay is shorter than 30 seconds,
/// if the certificate's lifetime is three minutes or longer.
///
/// The CA's `retry_at` (acme_error_retry_at()) comes first: the next try is never before it. Any
/// thread; no error.
/// @param tries After a failure, the number of failures in a row; after a success, the number of
///   renewals in a row. The last try counts; 0 counts as 1.
/// @param is_permanent acme_error_is_permanent() of the last try; 0 when it succeeded.
/// @param retry_at acme_error_retry_at() of the last try, in milliseconds since 1970; 0: none.
/// @param cert The certificate in use: after a failure the one to replace, after a success the new
///   one. Read during the call only. NULL: no certificate.
/// @param now End of the last try in milliseconds since 1970; 0: the time of the system clock.
/// @return Time of the next try, in milliseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn acme_next_try(
    tries: usize,
    is_permanent: c_int,
    retry_at: acme_time_t,
    cert: *const acme_cert_t,
    now: acme_time_t,
) -> acme_time_t {
    let retry_at = (retry_at != 0).then_some(Time::from_millis(retry_at));
    let chain = peek(cert).map(CertState::chain);
    next_try_after(tries, is_permanent != 0, retry_at, chain, moment(now)).as_millis()
}
