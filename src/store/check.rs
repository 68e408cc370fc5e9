//! Whether a store keeps its promises.

use super::Store;
use crate::error::{Error, ErrorKind, Result};

/// Start of the names of the records that the check writes, and removes again.
const PREFIX: &str = "check/";

/// Checks that a store keeps the promises of [`Store`]: versions, comparison, removal, lists. It writes and
/// removes records whose names begin with `check/`, and blocks.
///
/// If a promise is broken, the error is of the kind [`ErrorKind::Misuse`], and says which one.
pub fn check_store(store: &dyn Store) -> Result<()> {
    let mut random = [0; 8];
    openssl::rand::rand_bytes(&mut random)?;
    let prefix = format!("{PREFIX}{:016x}/", u64::from_be_bytes(random));
    let names = ["*.example.org", "2001:db8::1", "example.org", "xn--bcher-kva.example"];
    let names = names.map(|name| format!("{prefix}{name}"));
    let checked = check_record(store, &names[0])
        .and_then(|()| check_revision(store, &names[0]))
        .and_then(|()| check_list(store, &prefix, &names));
    for name in &names {
        if let Ok(Some(left)) = store.get(name) {
            let _ = store.put(name, left.version, None);
        }
    }
    checked
}

fn broken<T>(why: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Misuse, format!("the store breaks its contract: {why}")))
}

/// Checks that each change of a record changes the revision, if the store has one.
fn check_revision(store: &dyn Store, name: &str) -> Result<()> {
    let mut known = store.revision()?;
    let mut version = 0;
    for value in [Some(&b"one"[..]), Some(b"two"), None] {
        version = store.put(name, version, value)?;
        let revision = store.revision()?;
        if known.is_some() && revision == known {
            return broken("a record has changed, and the revision has not");
        }
        known = revision;
    }
    Ok(())
}

/// Writes, compares and removes one record.
fn check_record(store: &dyn Store, name: &str) -> Result<()> {
    let conflicts = |expected: u64, value: Option<&[u8]>| match store.put(name, expected, value) {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(error),
        Ok(_) => broken("it wrote a record that has another version than the expected one"),
    };
    let holds = |version: u64, value: &[u8], why: &str| match store.get(name)? {
        Some(found) if found.version == version && found.value.as_slice() == value => Ok(()),
        _ => broken(why),
    };
    if store.get(name)?.is_some() {
        return broken("it has a record that nobody has written");
    }
    conflicts(1, Some(b"never"))?;
    let first = store.put(name, 0, Some(b"first"))?;
    if first == 0 {
        return broken("the version of a record is 0");
    }
    holds(first, b"first", "it does not return what was written")?;
    conflicts(0, Some(b"never"))?;
    conflicts(first.wrapping_add(1).max(1), Some(b"never"))?;
    conflicts(0, None)?;
    holds(first, b"first", "a refused write has changed the record")?;

    let large: Vec<u8> = (0..store.max_value()).map(|n| (n % 251) as u8).collect();
    let second = store.put(name, first, Some(&large))?;
    if second == 0 || second == first {
        return broken("a write did not change the version");
    }
    holds(second, &large, "it does not keep 256 KiB of any bytes")?;
    conflicts(first, Some(b"never"))?;

    if store.put(name, second, None)? != 0 || store.get(name)?.is_some() {
        return broken("it does not remove a record");
    }
    conflicts(second, Some(b"never"))?;
    let third = store.put(name, 0, Some(b"again"))?;
    if third == 0 || third == first || third == second {
        return broken("the version of an earlier value came back");
    }
    store.put(name, third, None).map(|_| ())
}

/// Lists records in parts. `names` are in the order of their bytes.
fn check_list(store: &dyn Store, prefix: &str, names: &[String]) -> Result<()> {
    for name in names.iter().rev() {
        store.put(name, 0, Some(b"{}"))?;
    }
    for limit in 1..=names.len() {
        let mut found: Vec<String> = Vec::new();
        loop {
            let part = store.list(prefix, found.last().map_or("", String::as_str), limit)?;
            if part.len() > limit {
                return broken("a list has more names than the limit");
            }
            let is_last = part.len() < limit;
            found.extend(part);
            if is_last || found.len() > names.len() {
                break;
            }
        }
        if found != names {
            return broken(
                "a list in parts does not have each name once, in the order of their bytes",
            );
        }
    }
    match store.list(&format!("{prefix}nothing"), "", 10)?.is_empty() {
        true => Ok(()),
        false => broken("a list has names that do not begin with the prefix"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStore, Versioned};
    use super::*;

    type Put = fn(&MemoryStore, &str, u64, Option<&[u8]>) -> Result<u64>;

    /// A store that breaks one promise.
    struct Broken(MemoryStore, Put);

    impl Store for Broken {
        fn get(&self, name: &str) -> Result<Option<Versioned>> {
            self.0.get(name)
        }
        fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64> {
            self.1(&self.0, name, expected, value)
        }
        fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>> {
            self.0.list(prefix, after, limit)
        }
    }

    #[test]
    fn a_store_that_breaks_a_promise_is_told_which() {
        check_store(&MemoryStore::new()).unwrap();
        let no_comparison = Broken(MemoryStore::new(), |store, name, _, value| {
            let version = store.get(name)?.map_or(0, |found| found.version);
            store.put(name, version, value)
        });
        let no_removal = Broken(MemoryStore::new(), |store, name, expected, value| match value {
            // It writes the same value instead.
            None => {
                let old = store.get(name)?.map(|found| found.value);
                let old = old.as_ref().map(|value| value.as_slice());
                store.put(name, expected, old).map(|_| 0)
            }
            value => store.put(name, expected, value),
        });
        let short = Broken(MemoryStore::new(), |store, name, expected, value| {
            store.put(name, expected, value.map(|value| &value[..value.len().min(65_536)]))
        });
        for (store, why) in [
            (no_comparison, "another version"),
            (no_removal, "does not remove"),
            (short, "256 KiB"),
        ] {
            let error = check_store(&store).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
