//! How often CAs let one address ask at each endpoint.
//!
//! The figures are Let's Encrypt's "overall requests limit" (letsencrypt.org/docs/rate-limits, read in
//! November 2026); no other CA publishes any. A request above them is answered with 503 or 429.

/// Requests that a CA takes at once from one address, before it asks for a slower pace.
struct Burst(u32);

/// newNonce, then 20 a second. It is the only endpoint whose burst an operation can reach by itself,
/// since each request that is under way needs a nonce of its own.
const NEW_NONCE: Burst = Burst(10);

/// Orders, authorizations, challenges and certificates, then 250 a second. newOrder (200, then 300),
/// renewal information (100, then 1000), revokeCert (100, then 10), the directory (40, then 40) and
/// newAccount (15, then 5) are asked one at a time by each operation.
const OTHERS: Burst = Burst(125);

/// Requests that are left to other programs at the same address.
const MARGIN: u32 = 2;

/// Maximum number of concurrent requests per operation.
pub(super) const MAX_CONCURRENT: u32 = {
    let burst = if NEW_NONCE.0 < OTHERS.0 { NEW_NONCE.0 } else { OTHERS.0 };
    burst - MARGIN
};
