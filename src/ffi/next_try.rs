//! The schedule of a program that keeps a certificate fresh.

use std::ffi::c_int;

use super::cert::CertState;
use super::handle::peek;
use super::types::{acme_cert_t, acme_time_t, moment};
use crate::engine::next_try_after;
use crate::time::Time;

/// When to try again, by a program that keeps a certificate fresh: a minute after `now` (0: the system
/// clock's time), the end of the first try; ten minutes after the second in a row, a hundred after the
/// third, then a day. A day at once when `is_permanent` (acme_error_is_permanent()) is not 0. Half as
/// much again is added at random, at most: programs that failed together do not come back together.
///
/// There are two counts, and `tries` is the one that fits the last try. After a failure it is the
/// failures in a row: a success sets them to 0. After a success it is the renewals in a row: a look
/// that shows that it is not time to renew (only_if_due, acme_begin_renewal_info()) sets them to 0, and
/// the failures, too. A CA that says "now" for ever is then asked for about one certificate a day.
///
/// `cert`, the certificate that is in use, makes the delay shorter where that would be too long for it.
/// Before its renewal is due by its lifetime (after two thirds, or half if that is shorter than ten
/// days) the next try is not after that. From then on the delay is at most half of the time until it
/// expires. Neither makes the delay shorter than a 64th of the lifetime, which counts as at least 40
/// seconds and at most an hour; nor than a quarter of the lifetime, if that is less. Once the
/// certificate has expired the delay is at most an eighth of the lifetime, or a minute if that is longer.
/// Where that is shorter, the delay is a time in the last quarter of what is allowed; so none is shorter
/// than 30 seconds, if the certificate lives for three minutes or longer.
///
/// `retry_at` (acme_error_retry_at()), the CA's word, comes first: the next try is never before it.
/// Any thread; no error.
/// @param tries After a failure, how many there have been in a row; after a success, how many renewals
///   in a row. With the one that has just ended; 0 is taken as 1.
/// @param is_permanent acme_error_is_permanent() of the last try; 0 when it succeeded.
/// @param retry_at acme_error_retry_at() of the last try, in milliseconds since 1970; 0: none.
/// @param cert The certificate that is in use: after a failure the one to be replaced, after a success
///   the new one. Read during the call only. NULL: none.
/// @param now When the last try ended, in milliseconds since 1970; 0: the system clock's time.
/// @return When to try next, in milliseconds since 1970.
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
