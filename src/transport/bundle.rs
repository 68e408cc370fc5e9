//! PEM files of trusted CA certificates, of which only those are decoded that a chain needs.
//!
//! OpenSSL decodes the key of each certificate that it reads, and the system's bundle has about 150.
//! A [`Bundle`] knows where each certificate is in its file, and a number for its subject. OpenSSL
//! asks for an issuer by its name (`sys/lookup.rs`).

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use openssl::x509::X509;

use crate::pki::{name_key, subject_of};

/// Maximum size of a file that stays in memory, in bytes. A program may then delete it, or lose the
/// right to read it. A larger file is read again for each new issuer.
const MAX_KEPT: u64 = 64 * 1024;
/// Maximum size of a certificate in base64, in bytes.
const MAX_BASE64: usize = 512 * 1024;
/// Maximum number of bytes to read for one line.
const MAX_LINE: u64 = 64 * 1024;
/// Bytes to read from the file at once.
const BUFFER: usize = 8 * 1024;

const BEGIN: &[u8] = b"-----BEGIN ";

/// A file of certificates.
pub(crate) struct Bundle {
    path: PathBuf,
    /// The file's state when it was read. `None` for a pipe, which is read only once.
    stamp: Option<Stamp>,
    /// The content of a small file, or of a pipe.
    kept: Option<Vec<u8>>,
    entries: Vec<Entry>,
    /// The number of certificates that cannot be read.
    pub(crate) broken: usize,
    /// Whether there is something else in it that OpenSSL reads: CRLs, or certificates with trust
    /// settings.
    pub(crate) has_others: bool,
    /// Whether there is any PEM in it.
    pub(crate) is_pem: bool,
    /// Whether the file is empty.
    pub(crate) is_empty: bool,
}

/// One certificate of a bundle.
struct Entry {
    /// The [`name_key`] of the subject. `None`: any subject is possible.
    key: Option<u64>,
    place: Range<u64>,
}

/// Tells whether a file is still the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<std::time::SystemTime>,
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
        let mut file = File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let mut bundle = Bundle {
            path: path.to_owned(),
            kept: None,
            entries: Vec::new(),
            broken: 0,
            has_others: false,
            is_pem: false,
            is_empty: true,
            stamp,
        };
        if bundle.stamp.as_ref().is_none_or(|stamp| stamp.size <= MAX_KEPT) {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            bundle.kept = Some(content.clone());
            bundle.scan(&mut Cursor::new(&content))?;
        } else {
            bundle.scan(&mut BufReader::with_capacity(BUFFER, file))?;
        }
        Ok(bundle)
    }

    /// Returns the bundle again if its file was replaced. A file that cannot be read now was not
    /// replaced.
    pub(crate) fn replaced(&self) -> Option<Bundle> {
        let before = self.stamp.as_ref()?;
        let now = Stamp::of(&fs::metadata(&self.path).ok()?)?;
        (now != *before).then(|| Bundle::read(&self.path).ok()).flatten()
    }

    /// Whether both have the same certificates. Two large files are the same only if they are one.
    #[cfg(unix)]
    pub(crate) fn is_same(&self, other: &Bundle) -> bool {
        self.stamp.is_some() && self.stamp == other.stamp
            || self.kept.is_some() && self.kept == other.kept
    }

    /// Whether there is no certificate in it.
    pub(crate) fn has_none(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds all certificates with this subject, and maybe others. `key` is its [`name_key`].
    pub(crate) fn find(&self, key: Option<u64>, found: &mut Vec<X509>) {
        let is_candidate =
            |entry: &&Entry| entry.key.is_none() || key.is_none() || entry.key == key;
        for entry in self.entries.iter().filter(is_candidate) {
            match self.certificate(entry) {
                Ok(certificate) => found.push(certificate),
                Err(error) => {
                    let (file, place) = (self.path.display(), entry.place.start);
                    log::warn!("{file}: the certificate at byte {place} cannot be read: {error}");
                }
            }
        }
    }

    fn certificate(&self, entry: &Entry) -> io::Result<X509> {
        fn read(source: &mut (impl Read + Seek), place: &Range<u64>) -> io::Result<Vec<u8>> {
            source.seek(SeekFrom::Start(place.start))?;
            let mut pem = Vec::new();
            source.take(place.end - place.start).read_to_end(&mut pem)?;
            Ok(pem)
        }
        let pem = match &self.kept {
            Some(content) => read(&mut Cursor::new(content), &entry.place)?,
            None => read(&mut File::open(&self.path)?, &entry.place)?,
        };
        Ok(X509::from_pem(&pem)?)
    }

    /// Finds the certificates.
    fn scan(&mut self, source: &mut dyn BufRead) -> io::Result<()> {
        // A PEM block: the place and the label of its first line, and the base64 after it.
        let (mut start, mut label, mut base64) = (0, Vec::new(), Vec::new());
        let (mut line, mut end) = (Vec::new(), 0);
        loop {
            line.clear();
            // Between two blocks there may be anything, also without a line break.
            let size = (&mut *source).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
            self.is_empty &= size == 0;
            end += size;
            let text = line.trim_ascii_end();
            if size == 0 || text.starts_with(BEGIN) {
                // The block before has no end.
                self.broken += usize::from(is_certificate(&label));
                if size == 0 {
                    return Ok(());
                }
                self.is_pem = true;
                (start, label) = (end - size, text.to_vec());
                base64.clear();
            } else if text.starts_with(b"-----END ") {
                self.add(&label, &base64, start..end);
                label.clear();
            } else if !label.is_empty() && base64.len() < MAX_BASE64 {
                base64.extend_from_slice(text);
            }
        }
    }

    /// Adds a PEM block.
    fn add(&mut self, label: &[u8], base64: &[u8], place: Range<u64>) {
        if matches!(label, b"-----BEGIN TRUSTED CERTIFICATE-----" | b"-----BEGIN X509 CRL-----") {
            self.has_others = true;
        } else if is_certificate(label) {
            let entry = Entry { key: key_of(base64), place };
            // The header of a PEM block, or BER that is not DER, is rare: OpenSSL knows it.
            match entry.key.is_some() || self.certificate(&entry).is_ok() {
                true => self.entries.push(entry),
                false => self.broken += 1,
            }
        }
    }
}

/// Whether the first line of a PEM block is that of a certificate without trust settings.
fn is_certificate(line: &[u8]) -> bool {
    matches!(line, b"-----BEGIN CERTIFICATE-----" | b"-----BEGIN X509 CERTIFICATE-----")
}

/// Returns the [`name_key`] of a certificate's subject.
fn key_of(base64: &[u8]) -> Option<u64> {
    let der = openssl::base64::decode_block(std::str::from_utf8(base64).ok()?).ok()?;
    name_key(subject_of(&der)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_root_of_the_system_is_found_by_its_subject() {
        let bundle = Bundle::read(Path::new("/etc/ssl/certs/ca-certificates.crt")).unwrap();
        let pem = fs::read(&bundle.path).unwrap();
        let roots = X509::stack_from_pem(&pem).unwrap();
        assert!(roots.len() > 100 && bundle.broken == 0 && bundle.kept.is_none());
        for root in &roots {
            let key = name_key(&root.subject_name().to_der().unwrap());
            let mut found = Vec::new();
            bundle.find(key, &mut found);
            assert!(key.is_some() && found.contains(root), "{root:?}");
            assert!(found.len() < 5, "the key of {root:?} is that of many");
        }
    }
}
