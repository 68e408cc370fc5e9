//! A store in memory, for tests and for programs that keep their certificates elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::{Claim, Store, Versioned, conflict};
use crate::error;

/// Keeps records until it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Records>, Arc<Mutex<Vec<String>>>);

#[derive(Debug, Default)]
struct Records {
    /// In the order of their names.
    sorted: Vec<(String, Versioned)>,
    last_version: u64,
    revision: u64,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    fn get(&self, name: &str) -> Option<&Versioned> {
        self.sorted.get(self.find(name).ok()?).map(|(_, record)| record)
    }
}

impl Store for MemoryStore {
    fn get(&self, name: &str) -> error::Result<Option<Versioned>> {
        Ok(self.records().get(name).cloned())
    }

    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> error::Result<u64> {
        let mut records = self.records();
        if records.get(name).map_or(0, |record| record.version) != expected {
            return Err(conflict(name));
        }
        records.revision += 1;
        let place = records.find(name);
        let Some(value) = value else {
            if let Ok(at) = place {
                records.sorted.remove(at);
            }
            return Ok(0);
        };
        records.last_version += 1;
        let version = records.last_version;
        let record = Versioned { version, value: Zeroizing::new(value.to_vec()) };
        match place.map(|at| records.sorted.get_mut(at)) {
            Ok(Some((_, old))) => *old = record,
            Ok(None) => {}
            Err(at) => records.sorted.insert(at, (name.to_owned(), record)),
        }
        Ok(version)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> error::Result<Vec<String>> {
        let records = self.records();
        let names = records.sorted.iter().map(|(name, _)| name.as_str());
        let names = names.filter(|name| name.starts_with(prefix) && *name > after);
        Ok(names.take(limit).map(str::to_owned).collect())
    }

    fn revision(&self) -> error::Result<Option<u64>> {
        Ok(Some(self.records().revision))
    }

    fn claim(&self, name: &str) -> error::Result<Option<Claim>> {
        let mut claimed = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.iter().any(|known| known == name) {
            return Ok(None);
        }
        claimed.push(name.to_owned());
        Ok(Some(Box::new(Claimed(self.1.clone(), name.to_owned()))))
    }
}

/// Work on a record; dropping this ends it.
struct Claimed(Arc<Mutex<Vec<String>>>, String);

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|name| *name != self.1);
    }
}
