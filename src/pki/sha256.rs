//! SHA-256. `openssl::sha::sha256` fetches the algorithm from a provider, and returns memory that was never
//! written if no provider has it.

use openssl::sha::Sha256;

/// Returns the SHA-256 digest.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(data);
    digest.finish()
}
