//! Numbers by the hashes of names.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table from hashes to numbers. The names themselves are elsewhere, so that each is in memory once.
pub(super) type ByHash = HashMap<u64, u32, BuildHasherDefault<Unhashed>>;

/// The hasher of keys that are hashes already.
#[derive(Default)]
pub(super) struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
