//! A certificate and its key in files for servers: nginx, HAProxy, Postfix and others.
//!
//! Two files cannot be replaced at one moment, but a symbolic link can. So the files of a folder are written into a
//! new folder next to it, `.NAME.` with 16 digits, and then the link `NAME` is switched to that:
//!
//! ```text
//! example.org -> .example.org.0123456789abcdef
//! .example.org.0123456789abcdef/chain.pem
//! .example.org.0123456789abcdef/key.pem
//! ```
//!
//! A kill at any moment leaves the old link or the new one. The next write removes what a killed one has left.

use std::ffi::OsStr;
use std::path::Path;

use zeroize::Zeroizing;

use super::files::{Folder, Owner, PUBLIC, SECRET};
use crate::error::{Error, Result};
use crate::pki::{CertificateChain, Key};

const END: &str = "-----END CERTIFICATE-----\n";

/// The files of a certificate that servers read. At least [`combined`](Self::combined) or
/// [`folder`](Self::folder) is required, and for a folder one of its files.
///
/// If the program is killed or the power fails, a server finds the old files or the new ones, and a key always fits
/// its certificate. A server that reads two files of the folder while the link is switched can get an old one and a
/// new one: tell it to read them after [`write`](Self::write) has returned, or use `combined`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CertificateFiles<'a> {
    /// A file with the key, the certificate and its issuers, for HAProxy, Postfix and nginx. The folder above it must
    /// exist.
    pub combined: Option<&'a Path>,
    /// A folder for the files below, which `write` makes: a symbolic link. The folder above it must exist.
    pub folder: Option<&'a Path>,
    /// Name of the file with the certificate and its issuers.
    pub chain: Option<&'a str>,
    /// Name of the file with the key.
    pub key: Option<&'a str>,
    /// Name of the file with the certificate alone.
    pub certificate: Option<&'a str>,
    /// Name of the file with the issuers alone.
    pub issuers: Option<&'a str>,
    /// Mode of the files without the key.
    pub mode: u32,
    /// Mode of the files with the key; others have no access.
    pub key_mode: u32,
    /// User and group that the files get; `None`: those of the process.
    pub owner: Option<u32>,
    /// See `owner`.
    pub group: Option<u32>,
}

impl Default for CertificateFiles<'_> {
    fn default() -> Self {
        CertificateFiles {
            combined: None,
            folder: None,
            chain: None,
            key: None,
            certificate: None,
            issuers: None,
            mode: PUBLIC,
            key_mode: SECRET,
            owner: None,
            group: None,
        }
    }
}

fn wrong<T>(why: &str) -> Result<T> {
    Err(Error::invalid_argument(why))
}

impl CertificateFiles<'_> {
    /// Writes the files. When this returns, they survive a power failure. It may block for some seconds, while another
    /// program writes beside them.
    pub fn write(&self, chain: &CertificateChain, key: Option<&Key>) -> Result<()> {
        self.check(chain, key)?;
        let key = match key {
            Some(key) if self.key.is_some() || self.combined.is_some() => key.to_pem()?,
            _ => Zeroizing::default(),
        };
        if let Some(path) = self.combined {
            let both = Zeroizing::new([key.as_bytes(), chain.pem().as_bytes()].concat());
            let (folder, name) = self.open(path)?;
            let _writing = folder.begin_writing()?;
            folder.write(name, &both, self.key_mode)?;
        }
        let Some(path) = self.folder else { return Ok(()) };
        let end = chain.pem().find(END).map_or(0, |start| start + END.len());
        let (leaf, issuers) = chain.pem().split_at(end);
        let files = [
            (self.key, key.as_str(), self.key_mode),
            (self.chain, chain.pem(), self.mode),
            (self.certificate, leaf, self.mode),
            (self.issuers, issuers, self.mode),
        ];
        let (folder, name) = self.open(path)?;
        let _writing = folder.begin_writing()?;
        folder.replace_folder(name, &files)
    }

    /// Opens the folder above a path, and returns it with the last part of the path.
    #[inline(never)]
    fn open<'p>(&self, path: &'p Path) -> Result<(Folder, &'p str)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some((folder, name)) = path.parent().zip(name) else {
            return wrong("a path does not end with a name, or is not UTF-8");
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let owner = Owner::new(self.owner, self.group);
        Ok((Folder::for_servers(folder, owner)?, name))
    }

    fn check(&self, chain: &CertificateChain, key: Option<&Key>) -> Result<()> {
        let names = [self.chain, self.key, self.certificate, self.issuers];
        let has_names = names.iter().any(Option::is_some);
        if self.folder.is_some() != has_names || (!has_names && self.combined.is_none()) {
            return wrong("no file is named, or a name of a file without a folder");
        }
        for name in names.into_iter().flatten() {
            if Path::new(name).file_name().and_then(OsStr::to_str) != Some(name) {
                return wrong("a name of a file in the folder is empty, or a path");
            }
            if names.iter().filter(|other| **other == Some(name)).count() > 1 {
                return wrong("two files have the same name");
            }
        }
        if self.mode > 0o777 || self.key_mode > 0o770 || self.key_mode & 0o007 != 0 {
            return wrong("a mode is above 0777, or lets others use the key");
        }
        let needs_key = self.key.is_some() || self.combined.is_some();
        match key {
            None if needs_key => wrong("the certificate has no key"),
            Some(key) if !chain.is_for_key(key) => wrong("this key is not the certificate's"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{KeyType, tls_alpn_certificate};
    use crate::time::Time;

    #[test]
    fn a_link_leads_to_the_newest_files() {
        let root = std::env::temp_dir().join(format!("acme-files-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let (folder, combined) = (root.join("site"), root.join("both.pem"));
        let files = CertificateFiles {
            combined: Some(&combined),
            folder: Some(&folder),
            chain: Some("chain.pem"),
            key: Some("key.pem"),
            ..CertificateFiles::default()
        };
        for _ in 0..3 {
            let key = Key::generate(KeyType::P256).unwrap();
            let chain = tls_alpn_certificate("a.test", &[1; 32], &key, Time::now()).unwrap();
            files.write(&chain, Some(&key)).unwrap();
            let read = |path: &Path| std::fs::read_to_string(path).unwrap();
            let pem = key.to_pem().unwrap();
            assert_eq!(read(&folder.join("chain.pem")), chain.pem());
            assert_eq!(read(&folder.join("key.pem")), *pem);
            assert_eq!(read(&combined), format!("{}{}", *pem, chain.pem()));
            assert_eq!(std::fs::read_dir(&root).unwrap().count(), 4, "no old folder is left");

            let other = Key::generate(KeyType::P256).unwrap();
            let error = files.write(&chain, Some(&other)).unwrap_err();
            assert!(error.to_string().contains("not the certificate's"));
            assert_eq!(read(&folder.join("key.pem")), *pem);
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
