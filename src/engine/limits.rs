//! Every limit between the engine and a CA, each with its reason: how often, how soon, how many and
//! how large. No option changes them, except the timeout of an operation.
//!
//! Limits on text inside a response are beside their parsers: `header.rs` (fields and nonces),
//! `problem.rs`, `resource/` (tokens, names, descriptions) and `pki/chain.rs`. Timeouts of connections
//! are in the transport.

use std::time::Duration;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

// ---- An operation ----

/// Timeout of an operation, unless the program sets another. The time that the program takes to
/// publish challenges is not counted.
pub(crate) const DEFAULT_TIMEOUT: Duration = seconds(600);

/// Time that a store has to answer a write, even when the operation was canceled or its time limit has run out:
/// what it holds must not be lost.
pub(super) const STORE_PATIENCE: Duration = seconds(60);
/// Delay between two tries to begin work on a record of a store.
pub(super) const CLAIM_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of runs in a row that begin with the same order and are killed. Then a new order takes
/// its place.
pub(super) const MAX_RUNS: u32 = 3;

/// Maximum number of names in an order. No CA accepts more.
pub(super) const MAX_NAMES: usize = 1000;

// ---- Requests at the same time ----

/// Number of requests that a CA accepts at once from one address, before it asks for fewer.
///
/// The figures are Let's Encrypt's "overall requests limit" (letsencrypt.org/docs/rate-limits, read in
/// November 2026); no other CA publishes such figures. Let's Encrypt responds to requests above them with
/// 503 or 429.
struct Burst(u32);

/// Burst of newNonce, then 20 a second. A single operation reaches no other burst, because each of its
/// concurrent requests needs a nonce of its own.
const NEW_NONCE: Burst = Burst(10);

/// Burst of everything else that an operation requests concurrently (orders, authorizations,
/// challenges, certificates), then 250 a second. An operation sends one request at a time to newOrder
/// (200, then 300), renewalInfo (100, then 1000), revokeCert (100, then 10), the directory (40, then 40)
/// and newAccount (15, then 5).
const OTHERS: Burst = Burst(125);

/// Number of requests of each burst that are left to other programs at the same address.
const MARGIN: u32 = 2;

/// Maximum number of concurrent requests per operation.
pub(super) const MAX_CONCURRENT: u32 = {
    let burst = if NEW_NONCE.0 < OTHERS.0 { NEW_NONCE.0 } else { OTHERS.0 };
    burst - MARGIN
};

/// Number of jobs for which one more concurrent request is worth its extra nonce.
pub(super) const JOBS_PER_LANE: usize = 4;

// ---- A request that is tried again ----

/// Maximum number of tries of a request that ends in `badNonce`. CA quirk (Pebble): it can refuse half of
/// all good nonces. With this maximum one issuance in 100,000 fails; with ten tries, one in 100 would.
pub(super) const MAX_NONCE_TRIES: u32 = 20;
/// Number of these tries that are sent without delay: the refusal has brought a fresh nonce.
pub(super) const NONCE_TRIES_AT_ONCE: u32 = 5;
/// Delay after the last try without delay; it doubles with each further try.
pub(super) const NONCE_DELAY: Duration = Duration::from_millis(100);
/// Maximum delay between tries after `badNonce`.
pub(super) const MAX_NONCE_DELAY: Duration = seconds(1);

/// Maximum number of tries of a request without a response, or with a 5xx or 408 status.
pub(super) const MAX_LOST_TRIES: u32 = 4;
/// Delay after the first of these tries; it doubles with each further try.
pub(super) const LOST_DELAY: Duration = Duration::from_millis(500);
/// Maximum delay between these tries.
pub(super) const MAX_LOST_DELAY: Duration = seconds(8);
/// Minimum time for which such a request is tried again once an order exists. A CA that restarts is
/// away for some seconds, and published challenges must not be removed for that.
pub(super) const MIN_RETRY_TIME_WITH_ORDER: Duration = seconds(30);

/// Minimum delay before a request is sent again whose response was lost and that may have taken effect.
pub(super) const MIN_DELAY_AFTER_LOST: Duration = seconds(1);
/// Maximum number of lost responses to the challenge response or the finalize request of one order.
/// After more, the CA counts as broken.
pub(crate) const MAX_LOST_RESPONSES: u32 = 3;

/// Maximum time after a change of the account's key in which the CA may refuse signatures by the new
/// key. CA quirk (Boulder): its front ends cache an account's key for 5 s.
pub(super) const KEY_CHANGE_TIME: Duration = seconds(10);
/// Delay between tries in that time.
pub(super) const SIGNATURE_DELAY: Duration = seconds(1);

/// Maximum Retry-After that an operation waits for. When the CA asks for more, the operation fails and
/// its error has the time (`Error::retry_at`): the program can plan better than a sleeping operation.
/// The API of 0.14 waits for this long and goes on. docs/guides/errors.md quotes the number (TIMEOUT,
/// RATE_LIMITED), and so does fault D19.
pub(crate) const MAX_RETRY_AFTER: Duration = seconds(60);
/// Minimum delay where a CA sends Retry-After. A CA can ask for a longer delay than this, but not for a
/// shorter one.
pub(super) const MIN_RETRY_AFTER: Duration = seconds(1);

/// Maximum number of redirects per request. They are followed for GET only: a signed request names its
/// URL.
pub(super) const MAX_REDIRECTS: usize = 3;
/// Maximum number of newNonce responses without a usable nonce per request.
pub(super) const MAX_RESPONSES_WITHOUT_NONCE: usize = 3;

// ---- Polls ----

/// Delay before the first poll of an order. A fast CA has finished by then.
pub(super) const FIRST_POLL_DELAY: Duration = Duration::from_millis(3);
/// Delay before the second poll; it doubles with each further poll.
pub(super) const SECOND_POLL_DELAY: Duration = Duration::from_millis(250);
/// Maximum delay between polls where the CA sends no Retry-After.
pub(super) const MAX_POLL_DELAY: Duration = seconds(8);
/// Maximum number of polls of one order or authorization.
pub(super) const MAX_POLLS: u32 = 120;
/// Maximum number of polls with the delay that the CA requests, if that is shorter than
/// [`MAX_POLL_DELAY`]. Later polls have the delay [`MAX_POLL_DELAY`], so that all polls together take as
/// long as the default timeout of an operation.
pub(super) const MAX_POLLS_AT_CA_PACE: u32 = 50;

/// Number of polls of a pending order between two fetches of its authorizations. One may be invalid
/// already, or a response to a challenge may be lost.
pub(super) const POLLS_PER_REVIEW: u32 = 6;

/// Maximum number of fetches of a resource whose status RFC 8555 does not define.
pub(super) const MAX_FETCHES_OF_UNKNOWN_STATUS: usize = 3;
/// Delay between these fetches.
pub(super) const UNKNOWN_STATUS_DELAY: Duration = seconds(1);

/// Minimum delay between polls in the API of 0.14, where the caller sets the delay.
#[cfg(feature = "http")]
pub(crate) const MIN_CALLER_POLL_DELAY: Duration = Duration::from_millis(100);

// ---- Challenges ----

/// Maximum time from a response to the end of its validation, with slow servers and several vantage
/// points. After a failure the other challenges stay published for this long: if a challenge is removed
/// too early, its authorization fails too, and CAs limit failed authorizations.
pub(super) const MAX_SETTLE_TIME: Duration = seconds(60);
/// Delay between the first two polls of authorizations after a failure; it doubles with each poll.
pub(super) const SETTLE_POLL_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of these doublings: 8 s.
pub(super) const MAX_SETTLE_DOUBLINGS: u32 = 5;

// ---- Orders and certificates ----

/// Maximum rounds of authorization per order. An authorization can expire during finalization; the
/// order is then pending again.
pub(super) const MAX_ROUNDS: u32 = 3;

/// Delay before a new order, if the first order failed because of a fault of the CA (`serverInternal`).
/// There is one such new order at most.
pub(super) const DELAY_AFTER_CA_FAULT: Duration = seconds(60);

/// Maximum number of fetches of a valid order that names no certificate yet.
pub(crate) const MAX_FETCHES_WITHOUT_CERTIFICATE: u32 = 3;

/// Maximum number of downloads of a certificate that is not at its URL yet.
pub(super) const MAX_DOWNLOADS: u32 = 4;
/// Delay between these downloads.
pub(super) const DOWNLOAD_DELAY: Duration = seconds(1);

/// Maximum number of alternate chains that are downloaded.
pub(super) const MAX_ALTERNATES: usize = 8;

/// Maximum number of links from a certificate to its issuer's that are followed.
pub(super) const MAX_ISSUERS: usize = 9;

/// Maximum difference between the clocks here and at the CA. Above it, an error about a certificate's
/// dates mentions the clocks.
pub(super) const MAX_CLOCK_DIFFERENCE: Duration = seconds(300);

/// Maximum number of pages in an account's list of orders. More pages are a loop, or too many orders
/// for one list.
pub(super) const MAX_PAGES: usize = 100;

// ---- Sizes ----

/// Maximum size of a response body in bytes. A chain of ten certificates or an order of a thousand
/// names is far smaller.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// Maximum number of nonces in the pool. The library never sends more requests than this at the same time.
pub(super) const MAX_NONCES: usize = 16;
/// Maximum age of a nonce in the pool. CAs forget old nonces, and refuse a request with a forgotten nonce.
pub(super) const MAX_NONCE_AGE: Duration = seconds(300);

// ---- Renewal ----

/// Delay until renewal information is fetched again, if the CA sends no Retry-After.
pub(super) const CHECK_AGAIN: Duration = seconds(6 * 3600);
/// Minimum delay that a CA can ask for here (RFC 9773 section 4.3.2: "clients SHOULD set reasonable
/// limits").
pub(super) const MIN_CHECK_AGAIN: Duration = seconds(60);
/// Maximum delay that a CA can ask for here.
pub(super) const MAX_CHECK_AGAIN: Duration = seconds(24 * 3600);

/// Delays between the operations of a program that keeps a certificate fresh: after the first, the
/// second and the third failure in a row. Let's Encrypt's integration guide has these.
pub(super) const OPERATION_DELAYS: [Duration; 3] = [seconds(60), seconds(600), seconds(6000)];
/// Delay after further failures, and after a permanent one.
pub(super) const MAX_OPERATION_DELAY: Duration = seconds(24 * 3600);

/// Part of the certificate's lifetime, 1/64: a due renewal does not shorten these delays below it. This
/// share counts as 40 s at least and an hour at most.
pub(super) const MIN_SHARE_OF_LIFETIME: u32 = 64;
/// Minimum of that share. With the random spread over its last quarter, a delay is 30 to 40 s.
pub(super) const MIN_OPERATION_DELAY: Duration = seconds(40);
/// Maximum of that share.
pub(super) const MAX_MIN_OPERATION_DELAY: Duration = seconds(3600);
/// Share of the lifetime in place of 40 s, for certificates of seconds in tests.
pub(super) const SHARE_OF_SHORT_LIFETIME: u32 = 4;
/// Share of the lifetime, or of the time since the expiry, once the certificate has expired: then there is
/// less to lose.
pub(super) const SHARE_AFTER_EXPIRY: u32 = 8;
/// Minimum of the share after expiry.
pub(super) const MIN_DELAY_AFTER_EXPIRY: Duration = seconds(60);
