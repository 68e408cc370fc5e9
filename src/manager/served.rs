//! The certificates in use, by server name.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::pki::{CertificateChain, Key};

/// The certificates of a manager, for handshakes. Any thread may ask.
#[derive(Default)]
pub struct Served(RwLock<Identities>);

#[derive(Default)]
struct Identities {
    by_id: Vec<Option<(CertificateChain, Key)>>,
    /// The certificate of each name, in lower case.
    by_name: HashMap<Box<str>, u32>,
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
            identities.by_name.insert(name.to_ascii_lowercase().into_boxed_str(), id);
        }
        let place = id as usize;
        if identities.by_id.len() <= place {
            identities.by_id.resize(place + 1, None);
        }
        if let Some(identity) = identities.by_id.get_mut(place) {
            *identity = Some((chain.clone(), key.clone()));
        }
    }

    pub(super) fn remove(&self, id: u32) {
        self.write().forget(id);
    }

    /// Returns the certificate for a server name: by exact name, then by wildcard.
    pub fn find(&self, server_name: &str) -> Option<(CertificateChain, Key)> {
        let name = server_name.trim_end_matches('.').to_ascii_lowercase();
        let identities = self.read();
        let exact = identities.by_name.get(name.as_str());
        // A wildcard stands for one label, the first (RFC 9525 section 6.3).
        let wildcard = || {
            let (_, rest) = name.split_once('.')?;
            identities.by_name.get(format!("*.{rest}").as_str())
        };
        let id = exact.or_else(wildcard)?;
        identities.by_id.get(*id as usize)?.clone()
    }
}

impl Identities {
    fn forget(&mut self, id: u32) {
        let place = self.by_id.get_mut(id as usize);
        let Some((chain, _)) = place.and_then(Option::take) else { return };
        for name in chain.names() {
            let name = name.to_ascii_lowercase();
            if self.by_name.get(name.as_str()) == Some(&id) {
                self.by_name.remove(name.as_str());
            }
        }
    }
}
