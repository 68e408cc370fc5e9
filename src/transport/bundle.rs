//! PEM files of trusted CA certificates, of which only those are decoded that a chain needs.
//!
//! OpenSSL decodes the key of each certificate that it reads, and the system's bundle has about 150.
//! A [`Bundle`] knows where each certificate is in its file, and a number for its subject. OpenSSL
//! asks for an issuer by its name (`sys/lookup.rs`).

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use openssl::x509::X509;

use crate::pki::{Outline, name_key};

/// Maximum size of a file that stays in memory, in bytes. A program may then delete it, or lose the
/// right to read it. A larger file is read again for each new issuer.
const MAX_KEPT: u64 = 64 * 1024;
/// Bytes to read from a larger file at once.
const BUFFER: usize = 8 * 1024;

/// A file of certificates.
#[derive(Default)]
pub(crate) struct Bundle {
    path: PathBuf,
    /// The file's state when it was read. `None` for a pipe, which is read only once.
    stamp: Option<Stamp>,
    /// The content of a small file, or of a pipe.
    kept: Option<Vec<u8>>,
    /// The certificates: the [`name_key`] of the subject, or `None` if any subject is possible, and
    /// the place in the file.
    entries: Vec<(Option<u64>, Range<u64>)>,
    /// The number of certificates that cannot be read.
    pub(crate) broken: usize,
    /// Whether there is something else in it that OpenSSL reads: CRLs, or certificates with trust
    /// settings.
    pub(crate) has_others: bool,
    /// The reason, if there is no certificate in it.
    pub(crate) lack: Option<&'static str>,
}

/// Tells whether a file is still the one that was read.
#[derive(PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Option<Stamp> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        metadata.is_file().then(|| Stamp {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            identity: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Bundle {
    /// Reads a file. Certificates that cannot be read are counted and left out.
    pub(crate) fn read(path: &Path) -> io::Result<Bundle> {
        let file = File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let mut bundle = Bundle { path: path.to_owned(), stamp, ..Bundle::default() };
        if bundle.stamp.as_ref().is_none_or(|stamp| stamp.size <= MAX_KEPT) {
            let mut content = Vec::new();
            (&file).read_to_end(&mut content)?;
            bundle.scan(&mut content.as_slice())?;
            bundle.kept = Some(content);
        } else {
            bundle.scan(&mut BufReader::with_capacity(BUFFER, &file))?;
        }
        Ok(bundle)
    }

    /// Returns the bundle again if its file was replaced. A file that cannot be read now was not
    /// replaced; neither was one that has lost all certificates, or has a new one that is broken.
    pub(crate) fn replaced(&self) -> Option<Bundle> {
        if self.is_current() {
            return None;
        }
        let now = Bundle::read(&self.path).ok()?;
        if (now.lack.is_some() && !now.has_others) || now.broken > self.broken {
            log::warn!(
                "{}: the new file is damaged or empty; the old one counts",
                self.path.display()
            );
            return None;
        }
        Some(now)
    }

    /// Whether the file is the one that was read, as far as this can be seen.
    fn is_current(&self) -> bool {
        let now = fs::metadata(&self.path).ok().and_then(|metadata| Stamp::of(&metadata));
        self.stamp.is_none() || now.is_none() || now == self.stamp
    }

    /// Whether there is something in it that OpenSSL trusts, in memory or still in the file.
    pub(crate) fn has_some(&self) -> bool {
        (self.lack.is_none() || self.has_others)
            && (self.kept.is_some() || File::open(&self.path).is_ok())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all certificates.
    pub(crate) fn all(&self) -> Vec<X509> {
        let mut found = Vec::new();
        self.find(None, &mut found);
        found
    }

    /// Whether both have the same certificates. Two large files are the same only if they are one.
    #[cfg(unix)]
    pub(crate) fn is_same(&self, other: &Bundle) -> bool {
        self.stamp.is_some() && self.stamp == other.stamp
            || self.kept.is_some() && self.kept == other.kept
    }

    /// Adds all certificates with this subject, and maybe others. `key` is its `key_of()`; `None` adds
    /// all.
    pub(crate) fn find(&self, key: Option<u64>, found: &mut Vec<X509>) {
        if let Err(error) = self.try_find(key, found) {
            log::warn!("{}: {error}", self.path.display());
        }
    }

    fn try_find(&self, key: Option<u64>, found: &mut Vec<X509>) -> io::Result<()> {
        let wanted = |its: Option<u64>| its.is_none() || key.is_none() || its == key;
        let (mut file, mut outcome) = (None, Ok(()));
        for (_, place) in self.entries.iter().filter(|(its, _)| wanted(*its)) {
            if self.kept.is_none() && file.is_none() {
                let opened = File::open(&self.path)?;
                // It was replaced a moment ago: the places are those of the file before.
                if Stamp::of(&opened.metadata()?) != self.stamp {
                    return Bundle::read(&self.path)?.try_find(key, found);
                }
                file = Some(opened);
            }
            // One that cannot be read does not harm the others.
            match self.certificate(file.as_ref(), place.clone()) {
                Ok(certificate) => found.push(certificate),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Reads the certificate at a place in the open file, or in the content that was kept.
    fn certificate(&self, file: Option<&File>, place: Range<u64>) -> io::Result<X509> {
        let Some(mut file) = file else {
            let place = place.start as usize..place.end as usize;
            let kept = self.kept.as_deref().unwrap_or_default();
            return Ok(X509::from_pem(kept.get(place).unwrap_or_default())?);
        };
        let mut pem = vec![0; (place.end - place.start) as usize];
        file.seek(SeekFrom::Start(place.start))?;
        file.read_exact(&mut pem)?;
        Ok(X509::from_pem(&pem)?)
    }

    /// Finds the certificates.
    fn scan(&mut self, source: &mut dyn BufRead) -> io::Result<()> {
        // A PEM block: its place, its first line, the base64 after that, and all of it.
        let (mut start, mut label, mut base64) = (0, Vec::new(), String::new());
        let (mut block, mut end) = (Vec::new(), 0u64);
        let mut is_pem = false;
        loop {
            let before = block.len();
            let size = source.read_until(b'\n', &mut block)?;
            let line = block.get(before..).unwrap_or_default();
            let mark = if end == 0 { BYTE_ORDER_MARK } else { b"" };
            let line = line.strip_prefix(mark).unwrap_or(line);
            let text = line.trim_ascii_end();
            end += size as u64;
            if size == 0 || line.starts_with(BEGIN) {
                // The block before has no end.
                self.broken += usize::from(is_certificate(&label));
                if size == 0 {
                    break;
                }
                is_pem = true;
                (start, label) = (end - size as u64, text.to_vec());
                base64.clear();
                block.drain(..before);
            } else if line.starts_with(END) {
                match text.strip_prefix(END) == label.strip_prefix(BEGIN) {
                    true => self.add(&label, &base64, &block, start..end),
                    false => self.broken += usize::from(is_certificate(&label)),
                }
                label.clear();
            } else if !label.is_empty() {
                // Other characters are no base64, and need no care.
                base64.push_str(std::str::from_utf8(text).unwrap_or("?"));
            }
            if label.is_empty() {
                block.clear();
            }
        }
        self.lack = self.entries.is_empty().then(|| lack(end == 0, is_pem));
        Ok(())
    }

    /// Adds a PEM block.
    fn add(&mut self, label: &[u8], base64: &str, block: &[u8], place: Range<u64>) {
        if !is_certificate(label) {
            self.has_others |=
                label.ends_with(b" TRUSTED CERTIFICATE-----") || label.ends_with(b" X509 CRL-----");
            return;
        }
        let der = openssl::base64::decode_block(base64).unwrap_or_default();
        let key = Outline::read(&der).and_then(|outline| name_key(outline.subject));
        // The header of a PEM block, or BER that is not DER, is rare: OpenSSL knows it.
        match key.is_some() || X509::from_pem(block).is_ok() {
            true => self.entries.push((key, place)),
            false => self.broken += 1,
        }
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
/// A mark of UTF-8 at the start of a file, which some editors write.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether the first line of a PEM block is that of a certificate without trust settings.
fn is_certificate(line: &[u8]) -> bool {
    line == b"-----BEGIN CERTIFICATE-----" || line == b"-----BEGIN X509 CERTIFICATE-----"
}

/// Returns why a file has no certificate.
pub(crate) fn lack(is_empty: bool, is_pem: bool) -> &'static str {
    match is_empty {
        true => "is empty",
        false if is_pem => "has no certificate in it",
        false => "is not PEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::key_of;

    #[test]
    fn a_file_that_was_replaced_a_moment_ago_is_read_with_its_own_places() {
        let system = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
        let path = std::env::temp_dir().join(format!("acme-micro-bundle-{}", std::process::id()));
        fs::write(&path, &system).unwrap();
        let bundle = Bundle::read(&path).unwrap();
        fs::write(&path, [b"# one line more\n", system.as_slice()].concat()).unwrap();
        let roots = X509::stack_from_pem(&system).unwrap();
        let mut found = Vec::new();
        bundle.find(Some(key_of(roots[7].subject_name())), &mut found);
        fs::remove_file(&path).unwrap();
        assert!(found.contains(&roots[7]));
    }

    #[test]
    fn each_root_of_the_system_is_found_by_its_subject() {
        let bundle = Bundle::read(Path::new("/etc/ssl/certs/ca-certificates.crt")).unwrap();
        let pem = fs::read(&bundle.path).unwrap();
        let roots = X509::stack_from_pem(&pem).unwrap();
        assert!(roots.len() > 100 && bundle.broken == 0 && bundle.kept.is_none());
        for root in &roots {
            let mut found = Vec::new();
            bundle.find(Some(key_of(root.subject_name())), &mut found);
            assert!(found.contains(root), "{root:?}");
            assert!(found.len() < 5, "the key of {root:?} is that of many");
        }
    }
}
