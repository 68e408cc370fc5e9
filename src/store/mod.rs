//! Where keys, accounts, certificates and orders in progress are kept: records with versions.
//!
//! A [`Store`] knows nothing of ACME. A record has a name, a value of bytes, and a version, which each
//! write changes. A write names the version that it replaces, and fails if the record has another one by
//! now. This comparison is the only protection that several programs need: there are no locks that
//! outlive a program, no leases and no clocks.
//!
//! The values are JSON (`certificate_record`, `account_record`). Each has a format version, and says which
//! CA it belongs to.
//!
//! A store may block, so it is called on the threads of a driver, or where the program calls it
//! ([`Step::Store`](crate::engine::Step::Store)).

pub(crate) mod account_record;
pub(crate) mod certificate_record;
pub(crate) mod check;
pub(crate) mod journal;
mod memory;
pub(crate) mod names;
pub(crate) mod schedule;
pub(crate) mod sealed;

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::text::printable;

pub use check::check_store;
pub use memory::MemoryStore;
pub use sealed::SealedStore;

/// Maximum size of a value in bytes. A certificate for 100 names has about 20 KiB, with its issuers and key.
pub const MAX_VALUE: usize = 256 * 1024;

/// The format of the values that this version writes.
const FORMAT: u64 = 1;

/// The value of a record, and its version.
#[derive(Clone)]
pub struct Versioned {
    /// The version, at least 1.
    pub version: u64,
    /// The value; wiped from memory when dropped, because it may contain keys.
    pub value: Zeroizing<Vec<u8>>,
}

/// Shows no value: it may contain keys.
impl fmt::Debug for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Versioned({}, {} bytes)", self.version, self.value.len())
    }
}

/// Keeps a record for one program while it works on it, until it is dropped.
pub type Claim = Box<dyn Send + Sync>;

/// Keeps records. Any thread may call it, several at a time. Implement it for a database; [`check_store`]
/// shows whether the implementation keeps these promises.
///
/// Names are UTF-8 without control characters, of at most 512 bytes, for instance
/// `certificate/ca.example/example.org`. Values have at most [`MAX_VALUE`] bytes, and contain secrets.
///
/// Errors are of the kind [`ErrorKind::Store`] (a later call may succeed), or [`ErrorKind::Conflict`].
pub trait Store: Send + Sync {
    /// Returns the record of this name; `None`: the store has no such record.
    fn get(&self, name: &str) -> Result<Option<Versioned>>;

    /// Writes the record if its version is `expected`; 0: if there is no record of this name. Returns the
    /// new version: not 0, and never one that the record had with another value. A `value` of `None`
    /// removes the record, and the result is 0.
    ///
    /// If the record has another version, nothing changes, and the error is
    /// [`ErrorKind::Conflict`]. When this returns, the value survives a power failure.
    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64>;

    /// Returns the names that begin with `prefix` and come after `after`, in the order of their bytes, at
    /// most `limit` of them. Fewer than `limit`: there are no more.
    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>>;

    /// Returns a number that changes whenever a record changes, so that a manager notices a certificate that
    /// another program has renewed. `None`: this store does not know. It is called once a minute.
    fn revision(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Begins work on a record, which can take minutes: an order, for instance. `None`: another program or
    /// thread works on it, try again in a moment. It is a courtesy that saves the CA an order; a store
    /// that several machines share does not need it.
    fn claim(&self, name: &str) -> Result<Option<Claim>> {
        let _ = name;
        Ok(Some(Box::new(())))
    }

    /// Returns the maximum size of a value in bytes. It is less than [`MAX_VALUE`] in a store that adds bytes to
    /// each value.
    fn max_value(&self) -> usize {
        MAX_VALUE
    }
}

/// Makes the error of a record that cannot be used.
pub(crate) fn unusable(name: &str, why: &str) -> Error {
    let (name, why) = (printable(name, 300), printable(why, 300));
    Error::new(ErrorKind::Store, format!("{name}: {why}"))
}

/// Makes the error of a write that came too late.
pub(crate) fn conflict(name: &str) -> Error {
    let name = printable(name, 300);
    let why = format!("{name}: another program or thread has changed this record meanwhile");
    Error::new(ErrorKind::Conflict, why)
}

/// Reads the members of a value. A newer format is refused, and left alone.
fn members(name: &str, value: &[u8]) -> Result<Map<String, Value>> {
    let Ok(Value::Object(members)) = serde_json::from_slice(value) else {
        return Err(unusable(name, "the value is not a JSON object"));
    };
    match members.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => Ok(members),
        Some(newer) if newer > FORMAT => {
            Err(unusable(name, "a newer version of this library wrote it"))
        }
        _ => Err(unusable(name, "the value has no format version")),
    }
}

/// Takes a text out of the members, without a copy of it.
fn take_text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.get_mut(name)? {
        Value::String(text) => Some(std::mem::take(text)),
        _ => None,
    }
}

/// Returns a value as JSON; an error never happens.
fn to_json(name: &str, value: &impl serde::Serialize) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all of it: a vector that grows leaves copies of the keys in memory.
    let mut json = Zeroizing::new(Vec::with_capacity(MAX_VALUE));
    serde_json::to_writer(&mut *json, value).map_err(|error| unusable(name, &error.to_string()))?;
    if json.len() > MAX_VALUE {
        return Err(unusable(name, "the record is larger than 256 KiB"));
    }
    Ok(json)
}
