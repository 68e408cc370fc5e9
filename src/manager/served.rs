//! The certificates in use, by server name.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::by_hash::ByHash;
use crate::pki::{CertificateChain, Key};
use crate::time::Time;

/// The certificates of a manager, for handshakes. Any thread may ask.
pub struct Served {
    identities: RwLock<Identities>,
    /// Names that clients have asked for, and whose certificates are not in memory.
    wanted: Mutex<Vec<String>>,
    max_loaded: usize,
    /// Whether there are certificates that are read when a client asks for them.
    is_lazy: AtomicBool,
    /// Whether there are certificates that are obtained when a client asks for them.
    is_on_demand: AtomicBool,
}

/// Maximum number of names that wait for their certificates: clients may ask for any names.
const MAX_WANTED: usize = 64;

#[derive(Default)]
struct Identities {
    by_id: Vec<Option<(CertificateChain, Key)>>,
    /// The certificates in memory, the first one that was read first.
    loaded: Vec<u32>,
    /// The certificate of each name in lower case, by the name's hash.
    by_name: ByHash,
    hashing: RandomState,
}

impl Served {
    pub(super) fn new(max_loaded: usize) -> Served {
        Served {
            identities: RwLock::default(),
            wanted: Mutex::default(),
            max_loaded,
            is_lazy: AtomicBool::new(false),
            is_on_demand: AtomicBool::new(false),
        }
    }

    pub(super) fn set_lazy(&self, is_lazy: bool) {
        self.is_lazy.store(is_lazy, Ordering::Relaxed);
    }

    pub(super) fn set_on_demand(&self) {
        self.is_on_demand.store(true, Ordering::Relaxed);
    }

    /// Whether the manager is to know of names that have no certificate in memory.
    fn notes_misses(&self) -> bool {
        self.is_lazy.load(Ordering::Relaxed) || self.is_on_demand.load(Ordering::Relaxed)
    }

    /// Whether clients wait for certificates: a poll of the manager reads them.
    pub fn has_wanted(&self) -> bool {
        !self.wanted.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
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
            match identities.loaded.first().copied() {
                Some(oldest) => identities.forget(oldest),
                None => break,
            }
        }
        identities.loaded.push(id);
        for name in chain.names() {
            let hash = identities.hash(&name.to_ascii_lowercase());
            identities.by_name.insert(hash, id);
        }
        let place = id as usize;
        if identities.by_id.len() <= place {
            identities.by_id.resize(place + 1, None);
        }
        if let Some(identity) = identities.by_id.get_mut(place) {
            *identity = Some((chain.clone(), key.clone()));
        }
    }

    /// The certificates in memory.
    pub(super) fn loaded(&self) -> Vec<u32> {
        self.read().loaded.clone()
    }

    /// The chain of a certificate in memory as PEM, and its validity.
    pub(super) fn chain(&self, id: u32) -> Option<(String, Time, Time)> {
        let identities = self.read();
        let (chain, _) = identities.by_id.get(id as usize)?.as_ref()?;
        Some((chain.pem().to_owned(), chain.not_before(), chain.not_after()))
    }

    /// Whether this certificate is in memory.
    pub(super) fn has(&self, id: u32, chain: &CertificateChain) -> bool {
        let identities = self.read();
        let known = identities.by_id.get(id as usize).and_then(Option::as_ref);
        known.is_some_and(|(known, _)| known.fingerprint() == chain.fingerprint())
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
        let exact = identities.find(&name);
        let identity = exact.or_else(|| identities.find(wildcard.as_ref()?)).cloned();
        if identity.is_none() && self.notes_misses() {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            for name in [Some(name), wildcard].into_iter().flatten() {
                if wanted.len() < MAX_WANTED && !wanted.contains(&name) {
                    wanted.push(name);
                }
            }
        }
        identity
    }
}

impl Identities {
    fn hash(&self, name: &str) -> u64 {
        self.hashing.hash_one(name)
    }

    fn find(&self, name: &str) -> Option<&(CertificateChain, Key)> {
        let id = self.by_name.get(&self.hash(name))?;
        self.get(*id).filter(|_| self.has(*id, name))
    }

    fn get(&self, id: u32) -> Option<&(CertificateChain, Key)> {
        self.by_id.get(id as usize)?.as_ref()
    }

    /// Whether the certificate of this number has the name.
    fn has(&self, id: u32, name: &str) -> bool {
        let chain = self.get(id).map(|(chain, _)| chain);
        chain.is_some_and(|chain| chain.names().iter().any(|one| one.eq_ignore_ascii_case(name)))
    }

    fn forget(&mut self, id: u32) {
        let place = self.by_id.get_mut(id as usize);
        let Some((chain, _)) = place.and_then(Option::take) else { return };
        self.loaded.retain(|known| *known != id);
        for name in chain.names() {
            let hash = self.hash(&name.to_ascii_lowercase());
            if self.by_name.get(&hash) == Some(&id) {
                self.by_name.remove(&hash);
                // Another certificate may have the name, too.
                if let Some(other) = self.loaded.iter().rev().find(|id| self.has(**id, name)) {
                    self.by_name.insert(hash, *other);
                }
            }
        }
    }
}
