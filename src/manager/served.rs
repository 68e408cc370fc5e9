//! The certificates in use, by server name.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::pki::{CertificateChain, Key};

/// The certificates of a manager, for handshakes. Any thread may ask.
#[derive(Default)]
pub struct Served(RwLock<Identities>);

#[derive(Default)]
struct Identities {
    by_id: HashMap<u32, (CertificateChain, Key)>,
    /// The certificate of each name, in lower case.
    by_name: HashMap<String, u32>,
}

impl Served {
    fn read(&self) -> RwLockReadGuard<'_, Identities> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Identities> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, id: u32, chain: &CertificateChain, key: &Key) {
        let mut identities = self.write();
        identities.forget(id);
        for name in chain.names() {
            identities.by_name.insert(name.to_lowercase(), id);
        }
        identities.by_id.insert(id, (chain.clone(), key.clone()));
    }

    pub(super) fn remove(&self, id: u32) {
        self.write().forget(id);
    }

    /// Returns the certificate for a server name: by exact name, then by wildcard.
    pub fn find(&self, server_name: &str) -> Option<(CertificateChain, Key)> {
        let name = server_name.trim_end_matches('.').to_lowercase();
        let identities = self.read();
        let exact = identities.by_name.get(&name);
        // A wildcard stands for one label, the first (RFC 9525 section 6.3).
        let wildcard = || {
            let (_, rest) = name.split_once('.')?;
            identities.by_name.get(&format!("*.{rest}"))
        };
        let id = exact.or_else(wildcard)?;
        identities.by_id.get(id).cloned()
    }
}

impl Identities {
    fn forget(&mut self, id: u32) {
        if self.by_id.remove(&id).is_some() {
            self.by_name.retain(|_, of| *of != id);
        }
    }
}
