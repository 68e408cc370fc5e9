//! The issuers of a certificate, which are the same in chain after chain. They are decoded and
//! verified once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use openssl::x509::X509;

use super::decoded::{certificate, verify_one};
use crate::error::{Error, Result};

/// Maximum number of chains of issuers to know. A CA uses a few at a time.
const MAX_KNOWN: usize = 4;

/// The certificates after the leaf of a chain.
#[derive(Debug)]
pub(super) struct Issuers {
    ders: Vec<Vec<u8>>,
    certificates: Vec<X509>,
    /// Why they are refused, if they are, after they were verified.
    verdict: OnceLock<Option<Error>>,
}

impl Issuers {
    pub(super) fn read(ders: &[Vec<u8>]) -> Result<Issuers> {
        let certificates = ders.iter().map(|der| certificate(der)).collect::<Result<_>>()?;
        Ok(Issuers { ders: ders.to_vec(), certificates, verdict: OnceLock::new() })
    }

    pub(super) fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// Whether there are some, which were verified. The program then obtains certificate after
    /// certificate, so what takes time once is worth it.
    pub(super) fn are_verified(&self) -> bool {
        !self.certificates.is_empty() && self.verdict.get().is_some()
    }

    /// Checks that the next one issued each of them.
    pub(super) fn verify(&self) -> Result<()> {
        let refused = self.verdict.get_or_init(|| {
            let pairs = self.certificates.iter().enumerate();
            let mut checks = pairs.map(|(n, one)| {
                verify_one(n + 1, one, &*one.public_key()?, self.certificates.get(n + 1))
            });
            checks.find_map(Result::err)
        });
        refused.clone().map_or(Ok(()), Err)
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
