//! The limits that CAs publish, as data. A program that keeps to them never meets them.

use std::time::Duration;

const fn hours(count: u64) -> Duration {
    Duration::from_secs(3600 * count)
}

/// At most this many in this time.
#[derive(Clone, Copy)]
pub(crate) struct CaLimit {
    pub count: usize,
    pub within: Duration,
}

impl CaLimit {
    /// The part that this program uses: a fifth is left to others with the same account.
    pub(crate) fn share(&self) -> usize {
        (self.count * 4 / 5).max(1)
    }
}

/// The limits of one CA.
pub(crate) struct CaLimits {
    host: &'static str,
    /// New orders of an account. Renewals with renewal information are exempt.
    pub orders: CaLimit,
    /// Certificates for exactly the same names.
    pub duplicates: CaLimit,
}

/// Read in November 2026 at letsencrypt.org/docs/rate-limits. Other CAs publish no such figures.
const KNOWN: [CaLimits; 1] = [CaLimits {
    host: "acme-v02.api.letsencrypt.org",
    orders: CaLimit { count: 300, within: hours(3) },
    duplicates: CaLimit { count: 5, within: hours(7 * 24) },
}];

/// Returns the limits of the CA whose directory is at this host.
pub(crate) fn of_host(host: &str) -> Option<&'static CaLimits> {
    KNOWN.iter().find(|known| known.host == host)
}
