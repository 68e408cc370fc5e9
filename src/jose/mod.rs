//! JSON Web Keys and JSON Web Signatures of ACME requests.
//!
//! RFC 7515 (JWS), RFC 7517 (JWK), RFC 7518 (algorithms), RFC 7638 (thumbprint), RFC 8037 (Ed25519).

pub(crate) mod eab;
pub(crate) mod jwk;
pub(crate) mod jws;

#[cfg(test)]
mod tests {
    /// Number of signatures: 100,000, or the value of ACME_SIGNATURES.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn signatures_to_test() -> usize {
        std::env::var("ACME_SIGNATURES").map_or(100_000, |all| all.parse().unwrap())
    }
}
