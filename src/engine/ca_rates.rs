//! How often CAs let one address ask at each endpoint.
//!
//! The figures are Let's Encrypt's "overall requests limit" (letsencrypt.org/docs/rate-limits, read in
//! November 2026); no other CA publishes any. A request above them is answered with 503 or 429.

use std::time::Duration;

/// A token bucket: so many requests at once, and then so many a second.
pub(super) struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// newNonce. It is the only endpoint whose burst an operation can reach by itself, since each request
/// that is under way needs a nonce of its own.
pub(super) const NEW_NONCE: Rate = Rate { per_second: 20, burst: 10 };

/// Orders, authorizations, challenges and certificates. newOrder (300 a second, 200 at once), renewal
/// information (1000, 100), revokeCert (10, 100), the directory (40, 40) and newAccount (5, 15) are
/// asked one at a time by each operation.
const OTHERS: Rate = Rate { per_second: 250, burst: 125 };

/// Requests that are left to other programs at the same address.
const MARGIN: u32 = 2;

/// Maximum number of concurrent requests per operation.
pub(super) const MAX_CONCURRENT: u32 = {
    let nonces = NEW_NONCE.at_once();
    if nonces < OTHERS.at_once() { nonces } else { OTHERS.at_once() }
};

impl Rate {
    /// Requests that one client makes at once.
    pub(super) const fn at_once(&self) -> u32 {
        self.burst - MARGIN
    }

    /// Time after which one more request is allowed.
    pub(super) const fn interval(&self) -> Duration {
        Duration::from_millis(1000 / self.per_second as u64)
    }
}
