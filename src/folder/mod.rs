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
use crate::pki::sha256;
use crate::store::account_record::AccountRecord;
use crate::store::certificate_record::CertificateRecord;
use crate::store::journal::is_journal;
use crate::store::names::{self, CERTIFICATES, ca_name};
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
const SCHEDULE: &str = ".schedule.json";
const RECORD: &str = ".record";
/// Ending of the file of a key, or of an account's URL, that is no longer used.
const UNUSED: &str = ".unused";
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
            Some(url) if !ca_name(url).eq_ignore_ascii_case(ca) => {
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
        log::warn!("{}: not an order in progress; renamed to end in {BAD}", path.display());
        self.folder.set_aside(&order, BAD)
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
            log::warn!("{}: the old key is in {kept}", self.folder.path_of(ACCOUNT_KEY).display());
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
        let plain = match kind(name)?.1 {
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

fn kind(name: &str) -> Result<(&str, Kind<'_>)> {
    match names::split(name) {
        Some(("account", ca, "")) => Ok((ca, Kind::Account)),
        Some(("certificate", ca, rest)) => match file_of(rest) {
            Some(file) => Ok((ca, Kind::Certificate(ca, file))),
            None => Err(no_file(name)),
        },
        _ => Ok(("", Kind::Other)),
    }
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
        let (ca, kind) = kind(name)?;
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
        let (ca, kind) = kind(name)?;
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
        if let (_, Kind::Certificate(_, file)) = kind(name)? {
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

fn pem(data: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(data).into_owned())
}

/// Returns a text without the byte order mark that an editor may have put in front of it.
fn text_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
