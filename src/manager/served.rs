//! The certificates in use, by server name.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::pki::{CertificateChain, Key};

/// The certificates of a manager, for handshakes. Any thread may ask.
pub struct Served {
    identities: RwLock<Identities>,
    /// Names that clients have asked for, and whose certificates are not in memory.
    wanted: Mutex<Vec<String>>,
    max_loaded: usize,
}

/// Maximum number of names that wait for their certificates: clients may ask for any names.
const MAX_WANTED: usize = 64;

#[derive(Default)]
struct Identities {
    by_id: Vec<Option<(CertificateChain, Key)>>,
    /// The certificates in memory, the first one that was read first.
    loaded: VecDeque<u32>,
    /// The certificate of each name, in lower case.
    by_name: HashMap<Box<str>, u32>,
}

impl Served {
    pub(super) fn new(max_loaded: usize) -> Served {
        Served { identities: RwLock::default(), wanted: Mutex::default(), max_loaded }
    }

    /// Takes the names that clients have asked for.
    pub(super) fn take_wanted(&self) -> Vec<String> {
        std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self) -> RwLockReadGuard<'_, Identities> {
        self.identities.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Identities> {
        self.identities.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, id: u32, chain: &CertificateChain, key: &Key) {
        let mut identities = self.write();
        identities.forget(id);
        while identities.loaded.len() >= self.max_loaded {
            match identities.loaded.front().copied() {
                Some(oldest) => identities.forget(oldest),
                None => break,
            }
        }
        identities.loaded.push_back(id);
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

    /// Returns the certificate for a server name: by exact name, then by wildcard. If it is not in memory, the
    /// manager reads it, and the result is `None`.
    pub fn find(&self, server_name: &str) -> Option<(CertificateChain, Key)> {
        let name = server_name.trim_end_matches('.').to_ascii_lowercase();
        // A wildcard stands for one label, the first (RFC 9525 section 6.3).
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let identities = self.read();
        let exact = identities.by_name.get(name.as_str());
        let found = exact.or_else(|| identities.by_name.get(wildcard.as_ref()?.as_str()));
        let identity = found.and_then(|id| identities.by_id.get(*id as usize)?.clone());
        if identity.is_none() {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted.len() < MAX_WANTED {
                wanted.push(name);
                wanted.extend(wildcard);
            }
        }
        identity
    }
}

impl Identities {
    fn forget(&mut self, id: u32) {
        let place = self.by_id.get_mut(id as usize);
        let Some((chain, _)) = place.and_then(Option::take) else { return };
        self.loaded.retain(|known| *known != id);
        for name in chain.names() {
            let name = name.to_ascii_lowercase();
            if self.by_name.get(name.as_str()) == Some(&id) {
                self.by_name.remove(name.as_str());
            }
        }
    }
}
