//! JSON Web Keys and JSON Web Signatures of ACME requests.
//!
//! RFC 7515 (JWS), RFC 7517 (JWK), RFC 7518 (algorithms), RFC 7638 (thumbprint), RFC 8037 (Ed25519).

pub(crate) mod eab;
pub(crate) mod jws;
