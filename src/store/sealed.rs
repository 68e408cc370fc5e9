//! A store whose values are encrypted with a key of the program's.
//!
//! The value of a record in the inner store is an envelope:
//!
//! | bytes | content |
//! |---|---|
//! | 14 | `acme-sealed 1` and a line feed |
//! | 8 | the id of the key: the start of the SHA-256 of `acme-micro key id` and the key |
//! | 12 | the nonce, random |
//! | as many as the value | AES-256-GCM of the value; the additional data are the name of the record |
//! | 16 | the tag |

use std::sync::Arc;

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::{Claim, Store, Versioned, unusable};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::sha256;

/// Start of the envelopes of all versions, and of this one.
const KIND: &[u8] = b"acme-sealed ";
const FIRST_LINE: &[u8] = b"acme-sealed 1\n";
const LABEL: &[u8] = b"acme-micro key id";
const NONCE: usize = 12;
const TAG: usize = 16;
/// Number of bytes by which an envelope is larger than its value.
const OVERHEAD: usize = FIRST_LINE.len() + size_of::<u64>() + NONCE + TAG;

/// Number of names that [`SealedStore::reseal`] lists at a time.
const PART: usize = 100;
/// Maximum number of attempts to seal a record anew that other programs change at the same time.
const MAX_TRIES: usize = 10;

/// Number of bytes of a key.
pub(crate) const KEY: usize = 32;

/// Keeps records in another store, encrypted with a key of the program's: AES-256-GCM with a random nonce. The
/// name of a record is authenticated, too, so that no value passes for another record's.
///
/// The other store sees names, sizes and versions. It can lose records, and bring back an older value of the same
/// record, but it can neither read nor change one. A record that this store cannot open is an error of the kind
/// [`ErrorKind::Store`], and is never overwritten.
pub struct SealedStore {
    inner: Arc<dyn Store>,
    key: SealingKey,
    old_key: Option<SealingKey>,
    accepts_plain: bool,
}

struct SealingKey {
    id: u64,
    secret: Zeroizing<Vec<u8>>,
}

impl SealingKey {
    fn new(secret: &[u8; KEY]) -> Result<SealingKey> {
        if secret == &[0; KEY] {
            return Err(Error::invalid_argument("all bytes of the key are 0"));
        }
        let secret = Zeroizing::new(secret.to_vec());
        let [a, b, c, d, e, f, g, h, ..] = sha256(&Zeroizing::new([LABEL, &secret].concat()));
        Ok(SealingKey { id: u64::from_be_bytes([a, b, c, d, e, f, g, h]), secret })
    }
}

/// Whether a value is an envelope, of any version.
pub(crate) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(KIND)
}

impl SealedStore {
    /// Creates a store in front of `inner`. `key` are 32 random bytes. Records that `old_key` has sealed can be
    /// read; each is sealed with `key` by its next write, or by [`reseal`](Self::reseal).
    pub fn new(
        inner: Arc<dyn Store>,
        key: &[u8; 32],
        old_key: Option<&[u8; 32]>,
    ) -> Result<SealedStore> {
        let (key, old_key) = (SealingKey::new(key)?, old_key.map(SealingKey::new).transpose()?);
        Ok(SealedStore { inner, key, old_key, accepts_plain: false })
    }

    /// Also reads values that are not sealed, and seals them by their next write. For the change to a sealed
    /// store only: otherwise a person who can write the inner store could plant a value of their own.
    #[must_use]
    pub fn accept_plain(mut self) -> SealedStore {
        self.accepts_plain = true;
        self
    }

    /// Seals each record with the key of this store that is not: afterwards the old key is not needed any more.
    pub fn reseal(&self) -> Result<()> {
        let mut after = String::new();
        loop {
            let names = self.inner.list("", &after, PART)?;
            for name in &names {
                self.reseal_record(name)?;
            }
            match names.last() {
                Some(last) if *last > after => after.clone_from(last),
                _ => return Ok(()),
            }
        }
    }

    fn reseal_record(&self, name: &str) -> Result<()> {
        let mut left = MAX_TRIES;
        loop {
            let Some(found) = self.inner.get(name)? else { return Ok(()) };
            let (value, is_current) = self.open(name, &found.value)?;
            if is_current {
                return Ok(());
            }
            left -= 1;
            match self.inner.put(name, found.version, Some(&self.seal(name, &value)?)) {
                Err(error) if error.kind() == ErrorKind::Conflict && left > 0 => {}
                written => return written.map(|_| ()),
            }
        }
    }

    fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>> {
        if value.len() > self.max_value() {
            return Err(unusable(name, "the value is too large to be sealed"));
        }
        let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
        openssl::rand::rand_bytes(&mut nonce)?;
        let sealed = crypt(true, &self.key, &nonce, name, value, &mut tag)?;
        Ok([FIRST_LINE, &self.key.id.to_be_bytes(), &nonce, &sealed, &tag].concat())
    }

    /// Returns the value of an envelope, and whether it is sealed with the key that seals.
    fn open(&self, name: &str, envelope: &[u8]) -> Result<(Zeroizing<Vec<u8>>, bool)> {
        if !is_sealed(envelope) {
            return match self.accepts_plain {
                true => Ok((Zeroizing::new(envelope.to_vec()), false)),
                false => Err(unusable(
                    name,
                    "the value is not sealed, and was not overwritten; accept plain values if it is yours",
                )),
            };
        }
        let Some(rest) = envelope.strip_prefix(FIRST_LINE) else {
            return Err(unusable(name, "a newer version of this library sealed it"));
        };
        let parts = rest.split_first_chunk().and_then(|(id, rest)| {
            let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
            let (sealed, tag) = rest.split_last_chunk::<TAG>()?;
            Some((u64::from_be_bytes(*id), nonce, sealed, *tag))
        });
        let Some((id, nonce, sealed, mut tag)) = parts else { return Err(damaged(name)) };
        let is_current = id == self.key.id;
        let old_key = self.old_key.as_ref().filter(|key| key.id == id);
        let Some(key) = (if is_current { Some(&self.key) } else { old_key }) else {
            let own = self.key.id;
            let why = format!(
                "opening this needs the key {id:016x}, and the store has {own:016x}; nothing was overwritten"
            );
            return Err(unusable(name, &why));
        };
        Ok((crypt(false, key, nonce, name, sealed, &mut tag)?, is_current))
    }
}

fn damaged(name: &str) -> Error {
    let why = "the sealed value is damaged, or is another record's; it was not overwritten";
    unusable(name, why)
}

/// Encrypts and sets the tag, or decrypts and compares the tag.
fn crypt(
    encrypts: bool,
    key: &SealingKey,
    nonce: &[u8],
    name: &str,
    data: &[u8],
    tag: &mut [u8; TAG],
) -> Result<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(vec![0; data.len()]);
    let mut work = || {
        let mut context = CipherCtx::new()?;
        let (cipher, secret) = (Some(Cipher::aes_256_gcm()), Some(key.secret.as_slice()));
        if encrypts {
            context.encrypt_init(cipher, secret, Some(nonce))?;
        } else {
            context.decrypt_init(cipher, secret, Some(nonce))?;
            context.set_tag(tag)?;
        }
        context.cipher_update(name.as_bytes(), None)?;
        context.cipher_update(data, Some(&mut out))?;
        let is_right = context.cipher_final(&mut []).is_ok();
        if encrypts {
            context.tag(tag)?;
        }
        Ok::<_, ErrorStack>(is_right)
    };
    match work()? {
        true => Ok(out),
        false => Err(damaged(name)),
    }
}

impl Store for SealedStore {
    fn get(&self, name: &str) -> Result<Option<Versioned>> {
        let Some(found) = self.inner.get(name)? else { return Ok(None) };
        let (value, _) = self.open(name, &found.value)?;
        Ok(Some(Versioned { version: found.version, value }))
    }

    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64> {
        let sealed = value.map(|value| self.seal(name, value)).transpose()?;
        // A record of another version stays, because the inner store compares.
        let old = if expected == 0 { None } else { self.inner.get(name)? };
        if let Some(old) = old.filter(|old| old.version == expected) {
            self.open(name, &old.value)?;
        }
        self.inner.put(name, expected, sealed.as_deref())
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>> {
        self.inner.list(prefix, after, limit)
    }

    fn revision(&self) -> Result<Option<u64>> {
        self.inner.revision()
    }

    fn claim(&self, name: &str) -> Result<Option<Claim>> {
        self.inner.claim(name)
    }

    fn max_value(&self) -> usize {
        self.inner.max_value().saturating_sub(OVERHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_VALUE, MemoryStore, check_store};
    use super::*;

    const NAME: &str = "account/ca.example";
    const KEYS: [[u8; KEY]; 3] = [[1; KEY], [2; KEY], [3; KEY]];

    fn sealed(inner: &Arc<MemoryStore>, key: usize, old_key: Option<usize>) -> SealedStore {
        let old_key = old_key.map(|old| &KEYS[old]);
        SealedStore::new(inner.clone(), &KEYS[key], old_key).unwrap()
    }

    fn value(store: &dyn Store, name: &str) -> Vec<u8> {
        store.get(name).unwrap().unwrap().value.to_vec()
    }

    /// Checks that a store can neither read nor overwrite a record.
    fn refuses(store: &SealedStore, name: &str, why: &str) {
        let before = store.inner.get(name).unwrap().unwrap();
        let removed = store.put(name, before.version, None).map(|_| None);
        let written = store.put(name, before.version, Some(b"new")).map(|_| None);
        for result in [store.get(name), written, removed] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store);
            assert!(error.to_string().contains(why), "{error}");
        }
        let after = store.inner.get(name).unwrap().unwrap();
        assert_eq!((after.version, after.value), (before.version, before.value));
    }

    #[test]
    fn a_sealed_store_keeps_the_promises_of_a_store() {
        let inner = Arc::new(MemoryStore::new());
        let store = sealed(&inner, 0, None);
        check_store(&store).unwrap();
        check_store(&SealedStore::new(Arc::new(store), &KEYS[1], None).unwrap()).unwrap();
    }

    #[test]
    fn the_other_store_sees_no_value() {
        let inner = Arc::new(MemoryStore::new());
        let store = sealed(&inner, 0, None);
        let version = store.put(NAME, 0, Some(b"a secret")).unwrap();
        let first = inner.get(NAME).unwrap().unwrap();
        assert_eq!((first.version, first.value.len()), (version, OVERHEAD + 8));
        assert!(!first.value.windows(6).any(|part| part == b"secret"));
        assert_eq!(value(&store, NAME), b"a secret");
        store.put(NAME, version, Some(b"a secret")).unwrap();
        assert_ne!(inner.get(NAME).unwrap().unwrap().value, first.value, "the nonce is new");
        assert!(store.claim(NAME).unwrap().is_some());
        assert_eq!(store.list("account/", "", 9).unwrap(), [NAME]);
    }

    #[test]
    fn an_envelope_of_another_program_is_opened() {
        let envelope = b"acme-sealed 1\n\
            \xc6\x53\x68\x4f\x7f\xd9\x44\xa5\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f\
            \x3e\x7a\xb2\x13\x1c\x5d\x8c\x4f\xea\xc0\xf6\x35\x4a\x22\xf0\xb1\x14\x3e\xcb\xfd\
            \x76";
        let key = std::array::from_fn(|n| n as u8);
        let inner = Arc::new(MemoryStore::new());
        inner.put(NAME, 0, Some(envelope)).unwrap();
        assert_eq!(value(&SealedStore::new(inner, &key, None).unwrap(), NAME), b"value");
    }

    #[test]
    fn each_flipped_byte_and_each_cut_is_refused() {
        let inner = Arc::new(MemoryStore::new());
        let store = sealed(&inner, 0, None);
        store.put(NAME, 0, Some(b"value")).unwrap();
        let envelope = value(&*inner, NAME);
        let flipped = (0..envelope.len()).map(|at| {
            let mut bad = envelope.clone();
            bad[at] ^= 1 << (at % 8);
            bad
        });
        let cut = (0..envelope.len()).map(|length| envelope[..length].to_vec());
        for bad in flipped.chain(cut) {
            let version = inner.get(NAME).unwrap().unwrap().version;
            inner.put(NAME, version, Some(&bad)).unwrap();
            refuses(&store, NAME, NAME);
        }
    }

    #[test]
    fn records_that_were_exchanged_are_refused() {
        let inner = Arc::new(MemoryStore::new());
        let store = sealed(&inner, 0, None);
        store.put(NAME, 0, Some(b"one")).unwrap();
        inner.put("certificate/ca.example/a", 0, Some(&value(&*inner, NAME))).unwrap();
        refuses(&store, "certificate/ca.example/a", "another record's");
        assert_eq!(value(&store, NAME), b"one");
    }

    #[test]
    fn a_wrong_key_is_told_from_damage() {
        let inner = Arc::new(MemoryStore::new());
        sealed(&inner, 0, None).put(NAME, 0, Some(b"one")).unwrap();
        let ids: Vec<_> =
            KEYS.iter().map(|key| format!("{:016x}", SealingKey::new(key).unwrap().id)).collect();
        let why = format!("the key {}, and the store has {}", ids[0], ids[1]);
        refuses(&sealed(&inner, 1, Some(2)), NAME, &why);
        assert_eq!(value(&sealed(&inner, 0, None), NAME), b"one");
        let error = SealedStore::new(inner, &[0; KEY], None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn the_key_changes_with_the_next_write() {
        let inner = Arc::new(MemoryStore::new());
        let version = sealed(&inner, 0, None).put(NAME, 0, Some(b"one")).unwrap();
        let both = sealed(&inner, 1, Some(0));
        assert_eq!(value(&both, NAME), b"one");
        refuses(&sealed(&inner, 1, None), NAME, "needs the key");
        both.put(NAME, version, Some(b"two")).unwrap();
        assert_eq!(value(&sealed(&inner, 1, None), NAME), b"two");
    }

    #[test]
    fn all_records_are_sealed_anew() {
        let inner = Arc::new(MemoryStore::new());
        for n in 0..2 * PART {
            sealed(&inner, 0, None).put(&format!("account/{n}"), 0, Some(b"one")).unwrap();
        }
        let both = sealed(&inner, 1, Some(0));
        both.reseal().unwrap();
        let version = inner.get("account/0").unwrap().unwrap().version;
        both.reseal().unwrap();
        assert_eq!(inner.get("account/0").unwrap().unwrap().version, version);
        for n in 0..2 * PART {
            assert_eq!(value(&sealed(&inner, 1, None), &format!("account/{n}")), b"one");
        }
        sealed(&inner, 2, None).put("x", 0, Some(b"three")).unwrap();
        assert!(both.reseal().unwrap_err().to_string().starts_with("x: opening this needs"));
    }

    #[test]
    fn a_plain_value_is_accepted_only_on_demand() {
        let inner = Arc::new(MemoryStore::new());
        let version = inner.put(NAME, 0, Some(b"{}")).unwrap();
        refuses(&sealed(&inner, 0, None), NAME, "is not sealed");
        let accepting = sealed(&inner, 0, None).accept_plain();
        assert_eq!(value(&accepting, NAME), b"{}");
        accepting.put(NAME, version, Some(b"{1}")).unwrap();
        inner.put("x", 0, Some(b"{2}")).unwrap();
        accepting.reseal().unwrap();
        let strict = sealed(&inner, 0, None);
        assert_eq!((value(&strict, NAME), value(&strict, "x")), (b"{1}".to_vec(), b"{2}".to_vec()));
    }

    #[test]
    fn an_envelope_is_no_larger_than_a_value_may_be() {
        let inner = Arc::new(MemoryStore::new());
        let store = sealed(&inner, 0, None);
        store.put(NAME, 0, Some(&vec![7; MAX_VALUE - OVERHEAD])).unwrap();
        assert_eq!(value(&*inner, NAME).len(), MAX_VALUE);
        let error = store.put("x", 0, Some(&vec![7; MAX_VALUE - OVERHEAD + 1])).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }
}
