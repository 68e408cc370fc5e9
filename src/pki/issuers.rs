//! The issuers of a certificate, which are the same in chain after chain. They are decoded and
//! verified once.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Public};
use openssl::sign::Verifier;
use openssl::x509::{X509, X509KeyUsage};

use super::decoded::{certificate, verify_one};
use super::view::View;
use crate::error::{Error, Result};

/// Maximum number of chains of issuers to know. A CA uses a few at a time.
const MAX_KNOWN: usize = 4;

/// The certificates after the leaf of a chain.
#[derive(Default)]
pub(super) struct Issuers {
    ders: Vec<Vec<u8>>,
    certificates: Vec<X509>,
    /// The key of the first one, if it may sign certificates.
    key: Option<PKey<Public>>,
    /// Why they are refused, if they are, after they were verified.
    verdict: OnceLock<Option<Error>>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.certificates).finish()
    }
}

impl Issuers {
    pub(super) fn read(ders: &[Vec<u8>]) -> Result<Issuers> {
        let certificates = ders.iter().map(|der| certificate(der)).collect::<Result<Vec<_>>>()?;
        let may_sign = |issuer: &&X509| {
            issuer.key_usage().is_none_or(|usage| usage.contains(X509KeyUsage::KEY_CERT_SIGN))
        };
        let signer = certificates.first().filter(may_sign);
        let key = signer.and_then(|issuer| issuer.public_key().ok());
        Ok(Issuers { ders: ders.to_vec(), certificates, key, verdict: OnceLock::new() })
    }

    pub(super) fn first(&self) -> Option<&X509> {
        self.certificates.first()
    }

    pub(super) fn last(&self) -> Option<&X509> {
        self.certificates.last()
    }

    /// The subject of the first one, as DER.
    pub(super) fn subject(&self) -> Option<&[u8]> {
        self.ders.first().and_then(|der| View::read(der)).map(|view| view.subject)
    }

    /// Whether the first one issued a certificate. `None` if only OpenSSL can tell: this knows the
    /// form of certificates that CAs issue today.
    pub(super) fn issued(&self, leaf: &View<'_>) -> Option<bool> {
        let (key, digest) = (self.key.as_ref()?, digest(self.key.as_ref()?.id(), leaf.algorithm)?);
        let key_id = self.first()?.subject_key_id();
        let is_named = leaf.has_plain_authority()
            && leaf
                .authority_key_id()
                .is_none_or(|id| key_id.is_some_and(|its| its.as_slice() == id));
        if !is_named || !leaf.has_plain_extensions() || self.subject()? != leaf.issuer {
            return None;
        }
        let mut verifier = Verifier::new(digest, key).ok()?;
        verifier.verify_oneshot(leaf.signature, leaf.signed).ok()
    }

    /// Checks that the next one issued each of them.
    pub(super) fn verify(&self) -> Result<()> {
        let refused = self.verdict.get_or_init(|| {
            let pairs = self.certificates.iter().enumerate();
            let mut checks =
                pairs.map(|(n, one)| verify_one(n + 1, one, self.certificates.get(n + 1)));
            checks.find_map(Result::err)
        });
        refused.clone().map_or(Ok(()), Err)
    }
}

/// Returns the digest of a signature algorithm that OpenSSL verifies with a key of this kind: RSA
/// (RFC 4055 section 5) or ECDSA (RFC 5758 section 3.2) with SHA-2.
fn digest(kind: Id, algorithm: &[u8]) -> Option<MessageDigest> {
    let (start, rest) = match kind {
        Id::RSA => (&[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1][..], &[5, 0][..]),
        Id::EC => (&[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3][..], &[][..]),
        _ => return None,
    };
    let number = algorithm.strip_prefix(start)?.strip_suffix(rest)?;
    match (kind, number) {
        (Id::RSA, [11]) | (Id::EC, [2]) => Some(MessageDigest::sha256()),
        (Id::RSA, [12]) | (Id::EC, [3]) => Some(MessageDigest::sha384()),
        (Id::RSA, [13]) | (Id::EC, [4]) => Some(MessageDigest::sha512()),
        _ => None,
    }
}

/// The issuers of the last chains.
#[derive(Default)]
pub(crate) struct KnownIssuers(Mutex<Vec<Arc<Issuers>>>);

impl KnownIssuers {
    /// Returns the issuers with these bytes.
    pub(super) fn read(&self, ders: &[Vec<u8>]) -> Result<Arc<Issuers>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(issuers) = known.iter().find(|issuers| issuers.ders == ders) {
            return Ok(issuers.clone());
        }
        let issuers = Arc::new(Issuers::read(ders)?);
        known.truncate(MAX_KNOWN - 1);
        known.insert(0, issuers.clone());
        Ok(issuers)
    }
}
