//! A store in a folder: keys and certificates in files that servers can read.
//!
//! The files of one CA:
//!
//! | file | content |
//! |---|---|
//! | `account.pem`, `account.url` | the account's key and URL |
//! | `directory.url` | the URL of the CA's directory; a line `other NAME` for each certificate of which it is not known who issued it |
//! | `NAME.key.pem`, `NAME.chain.pem` | a certificate's key, and the certificate with its issuers |
//! | `NAME.next.key.pem` | the key of an order in progress, if each renewal has a new one |
//! | `NAME.order` | the order in progress |
//! | `NAME.schedule.json` | when to renew |
//! | `NAME.revoking` | a note that the revocation of the certificate was begun |
//! | `NAME.record` | any other record, or one whose value is sealed, in one file |
//!
//! A record is several files. They are written in an order in which each crash leaves a state that the next run
//! can go on with: a new key is on the disk before the chain for it, and the chain before the key takes the
//! old one's place. The version of a record is a digest of its files.
//!
//! When the value of a record is sealed ([`SealedStore`](crate::store::SealedStore)), its one file counts, and the
//! other files of the record are removed.

mod certificate_files;
mod file_names;
mod files;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::pki::{Key, sha256};
use crate::store::account_record::AccountRecord;
use crate::store::certificate_record::CertificateRecord;
use crate::store::journal::is_journal;
use crate::store::names::{self, CERTIFICATES, ca_name, canonical, is_same_name};
use crate::store::sealed::is_sealed;
use crate::store::{Claim, Store, Versioned, conflict, unusable};
pub use certificate_files::CertificateFiles;
use file_names::{decoded, file_of, name_of, record_file};
use files::{Folder, PUBLIC, Readers, SECRET};

const ACCOUNT_KEY: &str = "account.pem";
const ACCOUNT_URL: &str = "account.url";
const DIRECTORY_URL: &str = "directory.url";
const OTHER: &str = "other ";
const KEY: &str = ".key.pem";
const NEXT_KEY: &str = ".next.key.pem";
const CHAIN: &str = ".chain.pem";
const ORDER: &str = ".order";
/// The file of a revocation that was begun; a program that ends it renames key and chain.
const REVOKING: &str = ".revoking";
const SCHEDULE: &str = ".schedule.json";
const RECORD: &str = ".record";
/// Ending of the file of a key, or of an account's URL, that is no longer used.
const UNUSED: &str = ".unused";
/// Ending of the files of a revoked certificate.
const REVOKED: &str = ".revoked";
/// Ending of a file that has the name of an order in progress and another content.
const BAD: &str = ".bad";

/// Keeps the records of one CA in a folder. Programs, threads and forked processes may share it.
///
/// Keys have the mode 0600. Servers can be given the key of a certificate by its group (mode 0640), which
/// stays so. For another CA use another folder.
pub struct DirectoryStore {
    folder: Arc<Folder>,
    /// Held while files are compared and written.
    writing: Mutex<()>,
    /// Number of writes: a system's clock for files may be too coarse to tell two of them apart.
    writes: AtomicU64,
}

/// The note of the CA.
#[derive(Default, PartialEq)]
struct Origin {
    url: Option<String>,
    /// The certificates, by their files, of which it is not known who issued them.
    others: Vec<String>,
}

/// The files of a record: name, content, mode. The order is the one in which they are written.
type Files = Vec<(String, Option<Zeroizing<Vec<u8>>>, u32)>;

impl DirectoryStore {
    /// Opens the folder; creates it with mode 0700 if it does not exist. The folder above must exist.
    pub fn open(path: impl AsRef<Path>) -> Result<DirectoryStore> {
        let folder = Arc::new(Folder::open(path.as_ref())?);
        Ok(DirectoryStore { folder, writing: Mutex::new(()), writes: AtomicU64::new(0) })
    }

    /// Returns the path of the file of a certificate's chain, for servers that read files.
    pub fn chain_path(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(self.folder.path_of(&(file_of(name)? + CHAIN)))
    }

    /// Returns the path of the file of a certificate's key, for servers that read files.
    pub fn key_path(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(self.folder.path_of(&(file_of(name)? + KEY)))
    }

    fn origin(&self) -> Result<Origin> {
        let text = self.folder.read(DIRECTORY_URL, Readers::Anybody)?.unwrap_or_default();
        let text = text_of(&text);
        let mut lines = text.lines();
        let url = lines.next().map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned);
        let others = lines.filter_map(|line| line.strip_prefix(OTHER)).map(str::to_owned).collect();
        Ok(Origin { url, others })
    }

    /// Reads the note of the CA, and refuses another CA than that one.
    fn origin_for(&self, ca: &str) -> Result<Origin> {
        let origin = self.origin()?;
        match &origin.url {
            Some(url) if !is_same_name(&ca_name(url), ca) => {
                let why = format!(
                    "the files in this folder are for the CA {url}: use another folder for {ca}; \
                     if this is the new URL of the same CA, remove this file"
                );
                Err(self.folder.unusable(DIRECTORY_URL, &why))
            }
            _ => Ok(origin),
        }
    }

    /// Notes the CA when its account exists. The certificates that are in the folder already may be another
    /// CA's, unless the account is this CA's.
    fn note_origin(&self, origin: &Origin, url: &str, account_url: Option<&str>) -> Result<()> {
        if origin.url.is_some() {
            return Ok(());
        }
        let before = self.text(ACCOUNT_URL)?;
        let is_same = before.as_deref().or(account_url).is_some_and(|known| {
            let base = url.rsplit_once('/').map_or(url, |(base, _)| base);
            before.is_some() && known.starts_with(base)
        });
        let others = match is_same {
            true => Vec::new(),
            false => self.certificates()?,
        };
        self.write_origin(&Origin { url: Some(url.to_owned()), others })
    }

    fn write_origin(&self, origin: &Origin) -> Result<()> {
        let mut text = format!("{}\n", origin.url.as_deref().unwrap_or_default());
        for other in &origin.others {
            text.extend([OTHER, other, "\n"]);
        }
        self.folder.write(DIRECTORY_URL, text.as_bytes(), PUBLIC)
    }

    /// Returns the name of a certificate's files, without their endings; `None`: it cannot be one.
    ///
    /// The folder may have them from an earlier version, which gave each spelling of a name files of its own. The
    /// name of its chain's file stands for one of them.
    fn find_files(&self, name: &str) -> Result<Option<String>> {
        let Some(file) = file_of(name) else { return Ok(None) };
        for ending in [KEY, CHAIN] {
            if self.folder.has(&format!("{file}{ending}"))? {
                return Ok(Some(file));
            }
        }
        let named = name.strip_suffix(CHAIN);
        let is_meant = |one: &&str| {
            named.is_some_and(|named| one.eq_ignore_ascii_case(named))
                || one.contains(['%', ':']) && canonical(&name_of(one)) == name
        };
        let all = self.folder.names()?;
        let mut files =
            all.iter().filter_map(|one| one.strip_suffix(KEY).or(one.strip_suffix(CHAIN)));
        let found = files.find(is_meant);
        Ok(Some(found.map_or(file, str::to_owned)))
    }

    /// Returns the files of certificates, without their endings.
    fn certificates(&self) -> Result<Vec<String>> {
        let names = self.folder.names()?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(CHAIN)).map(str::to_owned).collect())
    }

    /// Returns the first line of a small file.
    fn text(&self, name: &str) -> Result<Option<String>> {
        let data = self.folder.read(name, Readers::Anybody)?;
        let text =
            data.map(|data| text_of(&data).lines().next().unwrap_or_default().trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn account(&self, ca: &str) -> Result<(AccountRecord, Files)> {
        let origin = self.origin_for(ca)?;
        let key = self.folder.read(ACCOUNT_KEY, Readers::Owner)?;
        let url = self.text(ACCOUNT_URL)?;
        let record = AccountRecord { ca: origin.url, key: key.as_deref().map(|k| pem(k)), url };
        Ok((record.clone(), account_files(&record)))
    }

    fn certificate(&self, ca: &str, file: &str) -> Result<(CertificateRecord, Files)> {
        let origin = self.origin_for(ca)?;
        let secret = |ending: &str| self.folder.read(&format!("{file}{ending}"), Readers::Group);
        let public = |ending: &str| self.folder.read(&format!("{file}{ending}"), Readers::Anybody);
        let schedule = public(SCHEDULE)?;
        let schedule = schedule.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
        let record = CertificateRecord {
            ca: match origin.others.iter().any(|other| other == file) {
                true => Some(String::new()), // of no CA that is known
                false => origin.url,
            },
            key: secret(KEY)?.as_deref().map(|k| pem(k)),
            next_key: secret(NEXT_KEY)?.as_deref().map(|k| pem(k)),
            chain: public(CHAIN)?.map(|text| text_of(&text)),
            order: self.order(file)?,
            schedule: schedule
                .as_ref()
                .and_then(Value::as_object)
                .map(crate::store::schedule::Schedule::read),
        };
        let files = certificate_files(file, &record);
        Ok((record, files))
    }

    /// Returns the text of an order in progress. A file with another content, or of another user, counts as
    /// missing; `claim` sets it aside.
    fn order(&self, file: &str) -> Result<Option<String>> {
        let data = self.folder.read_own(&format!("{file}{ORDER}"))?;
        let text = data.flatten().map(|data| text_of(&data));
        Ok(text.filter(|text| is_journal(text)))
    }

    /// Renames the file of an order that `order` does not return: another program may have written it.
    fn set_order_aside(&self, file: &str) -> Result<()> {
        let order = format!("{file}{ORDER}");
        if self.order(file)?.is_some() || !self.folder.has(&order)? {
            return Ok(());
        }
        let path = self.folder.path_of(&order);
        log::warn!("{}: not readable; renamed to end in {BAD}", path.display());
        self.folder.set_aside(&order, BAD)
    }

    /// Renames the files of a certificate whose revocation was begun and has not ended: its key may be known to
    /// others.
    fn end_revocation(&self, file: &str) -> Result<()> {
        let note = format!("{file}{REVOKING}");
        if !self.folder.has(&note)? {
            return Ok(());
        }
        let mut kept = String::new();
        // The key first: while the chain is there, the certificate is renewed.
        for ending in [KEY, CHAIN] {
            kept = self.folder.retire(&format!("{file}{ending}"), REVOKED)?;
        }
        log::warn!(
            "a revocation was begun and has not ended, so another key takes the place of the key. If the CA has \
             not revoked the certificate, revoke {}",
            self.folder.path_of(&kept).display()
        );
        self.folder.remove(&note)
    }

    fn put_account(
        &self,
        name: &str,
        ca: &str,
        expected: u64,
        value: Option<&[u8]>,
    ) -> Result<u64> {
        let (old, before) = self.account(ca)?;
        if version(&before) != expected {
            return Err(conflict(name));
        }
        let new =
            value.map(|value| AccountRecord::parse(name, value)).transpose()?.unwrap_or_default();
        // A key is never deleted: it is the only access to the account.
        if old.url.is_some() && old.url != new.url && (new.url.is_none() || old.key != new.key) {
            self.folder.retire(ACCOUNT_URL, UNUSED)?;
        }
        // But after a key change (RFC 8555 section 7.3.5) the old key of the same account is of no use.
        let is_changed = new.key.is_some() && new.url.is_some() && new.url == old.url;
        if old.key.is_some() && old.key != new.key && !is_changed {
            let kept = self.folder.retire(ACCOUNT_KEY, UNUSED)?;
            let why = match value {
                Some(_) => "another key takes its place",
                None => "the CA refuses this key",
            };
            log::warn!("{}: {why}", self.folder.path_of(&kept).display());
        }
        if let (Some(url), Some(account_url)) = (&new.ca, &new.url) {
            self.note_origin(&self.origin()?, url, Some(account_url))?;
        }
        let after = account_files(&new);
        self.write(&before, &after)?;
        Ok(version(&after))
    }

    fn put_certificate(
        &self,
        name: &str,
        (ca, file): (&str, &str),
        expected: u64,
        value: Option<&[u8]>,
    ) -> Result<u64> {
        let (old, before) = self.certificate(ca, file)?;
        if version(&before) != expected {
            return Err(conflict(name));
        }
        let new = value.map(|value| CertificateRecord::parse(name, value)).transpose()?;
        let new = new.unwrap_or_default();
        let mut after = certificate_files(file, &new);
        if old.next_key.is_some() && new.next_key.is_none() {
            // The next key becomes the key: after the chain, and before the place of the next key is free.
            after.rotate_left(1);
        }
        self.write(&before, &after)?;
        let was_of_other = old.ca.as_ref().is_some_and(String::is_empty);
        if was_of_other && new.chain.is_some() && new.chain != old.chain {
            let mut origin = self.origin()?;
            origin.others.retain(|other| other != file);
            self.write_origin(&origin)?;
        }
        Ok(version(&certificate_files(file, &new)))
    }

    /// Writes or removes a record that is one file, `file`.
    fn put_whole(
        &self,
        (name, file): (&str, &str),
        expected: u64,
        value: Option<&[u8]>,
    ) -> Result<u64> {
        if self.get(name)?.map_or(0, |found| found.version) != expected {
            return Err(conflict(name));
        }
        if let Some(value) = value {
            self.folder.write(file, value, SECRET)?;
        }
        // The files that the record had before it was sealed.
        let plain = match self.kind(name)?.1 {
            Kind::Account => account_files(&AccountRecord::default()),
            Kind::Certificate(_, file) => certificate_files(&file, &CertificateRecord::default()),
            Kind::Other => Vec::new(),
        };
        for (plain, _, _) in plain {
            self.folder.remove(&plain)?;
        }
        match value {
            Some(value) => Ok(whole(file, Zeroizing::new(value.to_vec())).version),
            None => self.folder.remove(file).map(|()| 0),
        }
    }

    /// Writes the files that have changed, in the order of `after`.
    fn write(&self, before: &Files, after: &Files) -> Result<()> {
        for (name, data, mode) in after {
            let old = before.iter().find(|(old, ..)| old == name);
            match (old.and_then(|(_, old, _)| old.as_ref()), data) {
                (Some(old), Some(new)) if old == new => {}
                (_, Some(new)) => self.folder.write(name, new, *mode)?,
                (Some(_), None) => self.folder.remove(name)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn kind<'a>(&self, name: &'a str) -> Result<(&'a str, Kind<'a>)> {
        let found = match names::split(name) {
            Some(("account", ca, "")) => Some((ca, Kind::Account)),
            Some(("certificate", ca, rest)) => {
                self.find_files(rest)?.map(|file| (ca, Kind::Certificate(ca, file)))
            }
            _ => Some(("", Kind::Other)),
        };
        found.ok_or_else(|| no_file(name))
    }

    /// Runs `write` while no other process or thread writes.
    fn locked<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _locked = self.folder.begin_writing()?;
        write()
    }
}

/// The kind of a record, and the start of the names of its files.
enum Kind<'a> {
    Account,
    Certificate(&'a str, String),
    Other,
}

fn no_file(name: &str) -> Error {
    unusable(name, "this cannot be the name of a file")
}

/// Makes the record that is one file.
fn whole(file: &str, value: Zeroizing<Vec<u8>>) -> Versioned {
    let version = version(&vec![(file.to_owned(), Some(value.clone()), SECRET)]);
    Versioned { version, value }
}

impl Store for DirectoryStore {
    fn get(&self, name: &str) -> Result<Option<Versioned>> {
        let (ca, kind) = self.kind(name)?;
        if let Some(file) = record_file(name) {
            let file = file + RECORD;
            if let Some(value) = self.folder.read(&file, Readers::Owner)? {
                return Ok(Some(whole(&file, value)));
            }
        }
        let (files, value) = match kind {
            Kind::Account => {
                let (record, files) = self.account(ca)?;
                (files, record.value(name)?)
            }
            Kind::Certificate(ca, file) => {
                let (record, files) = self.certificate(ca, &file)?;
                (files, record.value(name)?)
            }
            Kind::Other => return Ok(None),
        };
        let version = version(&files);
        Ok((version != 0).then_some(Versioned { version, value }))
    }

    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64> {
        let (ca, kind) = self.kind(name)?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let file = record_file(name).map(|file| file + RECORD);
        let is_whole = matches!(kind, Kind::Other) || value.is_some_and(is_sealed);
        self.locked(|| match (&file, &kind) {
            (Some(file), _) if is_whole || self.folder.has(file)? => {
                self.put_whole((name, file), expected, value)
            }
            _ if is_whole => Err(no_file(name)),
            (_, Kind::Certificate(ca, file)) => {
                self.put_certificate(name, (ca, file), expected, value)
            }
            _ => self.put_account(name, ca, expected, value),
        })
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>> {
        let files = self.folder.names()?;
        let others = files.iter().filter_map(|name| name.strip_suffix(RECORD));
        let mut names: Vec<String> = others.map(decoded).collect();
        if let Some(url) = self.origin()?.url {
            let ca = ca_name(&url);
            let chains = files.iter().filter_map(|name| name.strip_suffix(CHAIN));
            names.extend(chains.map(|file| format!("{CERTIFICATES}{ca}/{}", name_of(file))));
            if files.iter().any(|file| file == ACCOUNT_KEY) {
                names.push(names::account(&url));
            }
        }
        names.retain(|name| name.starts_with(prefix) && name.as_str() > after);
        names.sort_unstable();
        names.dedup();
        names.truncate(limit);
        Ok(names)
    }

    fn revision(&self) -> Result<Option<u64>> {
        let revision = self.folder.revision()?.wrapping_add(self.writes.load(Ordering::Relaxed));
        Ok(Some(revision))
    }

    fn claim(&self, name: &str) -> Result<Option<Claim>> {
        if !self.folder.acquire(name)? {
            return Ok(None);
        }
        let claim = Claimed { folder: self.folder.clone(), name: name.to_owned() };
        if !matches!(names::split(name), Some(("account" | "certificate", ..))) {
            return Ok(Some(Box::new(claim))); // of the program itself, which may want to make room
        }
        if let (_, Kind::Certificate(_, file)) = self.kind(name)? {
            self.end_revocation(&file)?;
            self.set_order_aside(&file)?;
        }
        self.folder.check_room()?;
        Ok(Some(Box::new(claim)))
    }
}

/// Work on a record; dropping this ends it.
struct Claimed {
    folder: Arc<Folder>,
    name: String,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.folder.release(&self.name);
    }
}

fn account_files(record: &AccountRecord) -> Files {
    let url = record.url.as_ref().map(|url| format!("{url}\n"));
    vec![
        (ACCOUNT_KEY.to_owned(), data(record.key.as_ref().map(|key| key.as_str())), SECRET),
        (ACCOUNT_URL.to_owned(), data(url.as_deref()), PUBLIC),
    ]
}

fn certificate_files(file: &str, record: &CertificateRecord) -> Files {
    let schedule = record.schedule.as_ref().and_then(|one| serde_json::to_string(&one.json()).ok());
    let secret = |text: &Option<Zeroizing<String>>| data(text.as_ref().map(|key| key.as_str()));
    [
        (NEXT_KEY, secret(&record.next_key), SECRET),
        (CHAIN, data(record.chain.as_deref()), PUBLIC),
        (KEY, secret(&record.key), SECRET),
        (SCHEDULE, data(schedule.as_deref()), PUBLIC),
        (ORDER, data(record.order.as_deref()), SECRET),
    ]
    .map(|(ending, data, mode)| (format!("{file}{ending}"), data, mode))
    .into()
}

fn data(text: Option<&str>) -> Option<Zeroizing<Vec<u8>>> {
    text.map(|text| Zeroizing::new(text.as_bytes().to_vec()))
}

/// Returns a digest of the files as the version of the record; 0: there are none.
fn version(files: &Files) -> u64 {
    if files.iter().all(|(_, data, _)| data.is_none()) {
        return 0;
    }
    let size = files.iter().flat_map(|(_, data, _)| data).map(|data| data.len() + 300).sum();
    let mut all = Zeroizing::new(Vec::with_capacity(size));
    for (name, data, _) in files {
        let data = data.as_ref().map_or(&[][..], |data| data);
        all.extend_from_slice(format!("{name} {}\n", data.len()).as_bytes());
        all.extend_from_slice(data);
    }
    let [a, b, c, d, e, f, g, h, ..] = sha256(&all);
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// Returns a key in the one form that this library writes: a file with the same key in another form is not
/// replaced.
fn pem(data: &[u8]) -> Zeroizing<String> {
    if is_our_pem(data) {
        return Zeroizing::new(String::from_utf8_lossy(data).into_owned());
    }
    let key = Key::parse(data).and_then(|key| key.to_pem());
    key.unwrap_or_else(|_| Zeroizing::new(String::from_utf8_lossy(data).into_owned()))
}

/// Whether a text looks as this library and OpenSSL write a key. To parse it would cost a third of an order.
fn is_our_pem(data: &[u8]) -> bool {
    let lines = data.strip_prefix(b"-----BEGIN PRIVATE KEY-----\n");
    let lines = lines.and_then(|rest| rest.strip_suffix(b"\n-----END PRIVATE KEY-----\n"));
    let is_base64 =
        |line: &[u8]| line.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b));
    let mut lines = lines.unwrap_or_default().split(|byte| *byte == b'\n').rev();
    let is_last =
        lines.next().is_some_and(|line| (1..=64).contains(&line.len()) && is_base64(line));
    is_last && lines.all(|line| line.len() == 64 && is_base64(line))
}

/// Returns a text without the byte order mark that an editor may have put in front of it.
fn text_of(data: &[u8]) -> String {
    match data {
        // UTF-16: names and keys are ASCII, so that each second byte is 0.
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => {
            let ascii: Vec<u8> = rest.iter().copied().filter(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&ascii).into_owned()
        }
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => String::from_utf8_lossy(rest).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::pki::KeyType;
    use crate::store::{SealedStore, check_store};

    /// A folder, and a store in it, for the time of a test.
    fn with_folder(test: &str, check: impl FnOnce(&Path, DirectoryStore)) {
        let path = std::env::temp_dir().join(format!("acme-{test}-{}", std::process::id()));
        let store = DirectoryStore::open(&path).unwrap();
        check(&path, store);
        std::fs::remove_dir_all(&path).unwrap();
    }

    fn files(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }

    /// A new folder, and its store.
    fn opened(name: &str) -> (std::path::PathBuf, DirectoryStore) {
        let path = std::env::temp_dir().join(format!("acme-{name}-{}", std::process::id()));
        let store = DirectoryStore::open(&path).unwrap();
        (path, store)
    }

    #[test]
    fn a_folder_keeps_the_promises_of_a_store() {
        with_folder("store", |path, store| {
            check_store(&store).unwrap();
            assert!(files(path).is_empty());
            check_store(&SealedStore::new(Arc::new(store), &[1; 32], None).unwrap()).unwrap();
            assert!(files(path).is_empty());
        });
    }

    #[test]
    fn sealed_records_take_the_place_of_plain_files() {
        with_folder("sealed", |path, store| {
            let url = "https://ca.example/directory";
            let (account, certificate) =
                (names::account(url), names::certificate(url, "*.example.org").unwrap());
            let json = r#"{"format":1,"ca":"https://ca.example/directory","key":"K","url":"U"}"#;
            store.put(&account, 0, Some(json.as_bytes())).unwrap();
            let json = r#"{"format":1,"ca":"https://ca.example/directory","key":"K","chain":"C"}"#;
            store.put(&certificate, 0, Some(json.as_bytes())).unwrap();
            let plain = store.get(&certificate).unwrap().unwrap();

            let key = [1; 32];
            let sealed = SealedStore::new(Arc::new(store), &key, None).unwrap().accept_plain();
            let error = sealed.put(&certificate, plain.version + 1, Some(b"x")).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Conflict);
            sealed.reseal().unwrap();
            assert_eq!(
                files(path),
                [
                    "account=2Fca.example_directory.record",
                    "certificate=2Fca.example_directory=2F=2A.example.org.record",
                    "directory.url"
                ]
            );
            let found = sealed.get(&certificate).unwrap().unwrap();
            assert_eq!(found.value, plain.value);
            assert_eq!(sealed.list("", "", 9).unwrap(), [account.clone(), certificate.clone()]);

            // After a crash, the plain files are still there: they do not count, and the next write removes them.
            std::fs::write(path.join("_.example.org.chain.pem"), "C").unwrap();
            assert_eq!(sealed.get(&certificate).unwrap().unwrap().version, found.version);
            assert_eq!(sealed.list("", "", 9).unwrap().len(), 2);
            assert_eq!(sealed.put(&certificate, found.version, None).unwrap(), 0);
            assert!(sealed.get(&certificate).unwrap().is_none());
            let account = sealed.put(&account, 0, None).unwrap_err();
            assert_eq!(account.kind(), crate::error::ErrorKind::Conflict);
            assert_eq!(files(path), ["account=2Fca.example_directory.record", "directory.url"]);
        });
    }

    #[test]
    fn the_files_of_an_older_version_are_found() {
        let (path, store) = opened("older");
        let found = |name: &str| store.find_files(name).unwrap().unwrap();
        assert_eq!(found("xn--mller-kva.test"), "xn--mller-kva.test");
        for file in ["m%C3%BCller.test.chain.pem", "0:0:0:0:0:0:0:1.key.pem"] {
            fs::write(path.join(file), "").unwrap();
        }
        assert_eq!(found("xn--mller-kva.test"), "m%C3%BCller.test");
        assert_eq!(found("::1"), "0:0:0:0:0:0:0:1");
        // Servers may use the files of both spellings.
        fs::write(path.join("xn--mller-kva.test.chain.pem"), "").unwrap();
        assert_eq!(found("xn--mller-kva.test"), "xn--mller-kva.test");
        assert_eq!(found("m%c3%bcller.test.chain.pem"), "m%C3%BCller.test");
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn only_the_usual_form_of_a_key_is_not_parsed() {
        for kind in [KeyType::P256, KeyType::Rsa2048] {
            let usual = Key::generate(kind).unwrap().to_pem().unwrap();
            assert!(is_our_pem(usual.as_bytes()));
            let crlf = usual.replace('\n', "\r\n");
            let sec1 = usual.replace(" PRIVATE", " EC PRIVATE");
            let longer = usual.replacen('\n', "\nAAAA", 1);
            let joined = usual.replacen("\nM", "\n\nM", 1);
            for other in [crlf, sec1, longer, joined, format!("{}x", *usual), String::new()] {
                assert!(!is_our_pem(other.as_bytes()), "{other}");
            }
        }
    }

    #[test]
    fn a_key_in_another_form_is_not_replaced() {
        let (path, store) = opened("form");
        let (name, key) = ("certificate/ca.example/a.test", Key::generate(KeyType::P256).unwrap());
        let file = path.join("a.test.key.pem");
        let sec1 = key.private_key().unwrap().ec_key().unwrap().private_key_to_pem().unwrap();
        fs::write(&file, &sec1).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(SECRET)).unwrap();
        let found = store.get(name).unwrap().unwrap();
        let mut record = CertificateRecord::parse(name, &found.value).unwrap();
        assert_eq!(record.key, Some(key.to_pem().unwrap()));
        record.order = Some("acme-order 1\n".to_owned());
        store.put(name, found.version, Some(&record.value(name).unwrap())).unwrap();
        assert_eq!(fs::read(&file).unwrap(), sec1);
        assert!(path.join("a.test.order").exists());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn the_next_claim_ends_a_revocation_that_was_killed() {
        let (path, store) = opened("revoking");
        for ending in [KEY, CHAIN, REVOKING, ".key.pem.revoked"] {
            fs::write(path.join(format!("a.test{ending}")), ending).unwrap();
        }
        drop(store.claim("a.test").unwrap().unwrap()); // of the program itself
        assert!(path.join("a.test.revoking").exists());
        drop(store.claim("certificate/ca.example/a.test").unwrap().unwrap());
        let mut left = store.folder.names().unwrap();
        left.retain(|name| name.starts_with("a.test"));
        let retired =
            ["a.test.chain.pem.revoked", "a.test.key.pem.revoked", "a.test.key.pem.revoked.2"];
        assert_eq!(left, retired);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn the_mark_of_an_editor_is_no_part_of_a_text() {
        let utf_16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}https://ca.example/1".encode_utf16().flat_map(unit).collect()
        };
        for data in [utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes)] {
            assert_eq!(text_of(&data), "https://ca.example/1");
        }
        assert_eq!(text_of(b"\xef\xbb\xbfx"), "x");
    }
}
