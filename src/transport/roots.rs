//! The trusted roots: the files that the options name, and those of the system.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslFiletype};
use openssl::x509::store::X509Lookup;
use openssl::x509::{X509, X509NameRef};

use super::bundle::Bundle;
use crate::pki::name_key;
use crate::sys::{Find, add_default_store, add_lookup, default_cert_file};

/// OpenSSL's `X509_FILETYPE_DEFAULT`: its own directory, or the one in `SSL_CERT_DIR`.
const DEFAULT: i32 = 3;

/// The files of roots.
pub(crate) struct Roots {
    /// The files that the options name.
    pub(crate) bundles: Vec<Arc<Bundle>>,
    /// The system's roots, if they were read. The first connection reads them.
    pub(crate) system: Option<Vec<SystemFile>>,
}

/// A file that may be missing, as OpenSSL's default files may.
#[derive(Clone)]
pub(crate) struct SystemFile {
    path: PathBuf,
    bundle: Option<Arc<Bundle>>,
}

impl Find for Roots {
    fn find(&self, subject: &X509NameRef) -> Vec<X509> {
        let key = subject.to_der().ok().and_then(|name| name_key(&name));
        let mut found = Vec::new();
        for bundle in self.all() {
            bundle.find(key, &mut found);
        }
        found.retain(|certificate| {
            certificate.subject_name().try_cmp(subject).is_ok_and(|order| order == Ordering::Equal)
        });
        found
    }
}

impl Roots {
    fn all(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        let system = self.system.iter().flatten().filter_map(|file| file.bundle.as_ref());
        self.bundles.iter().chain(system)
    }

    /// Whether both have the same certificates.
    #[cfg(unix)]
    pub(crate) fn is_same(&self, other: &Roots) -> bool {
        self.all().count() == other.all().count()
            && self.all().zip(other.all()).all(|(one, other)| one.is_same(other))
    }

    /// Returns the roots as they are now, if a file was replaced, or if the system's were not read
    /// yet. `system`: whether they are trusted.
    pub(crate) fn renewed(&self, system: bool) -> Option<Roots> {
        let mut changed = false;
        let mut renew = |bundle: &Arc<Bundle>| match bundle.replaced() {
            // A file that is empty or damaged for now does not take away trust in the CA.
            Some(new) if !new.has_none() && new.broken <= bundle.broken => {
                changed = true;
                Arc::new(new)
            }
            _ => bundle.clone(),
        };
        let bundles = self.bundles.iter().map(&mut renew).collect();
        let files = match &self.system {
            Some(files) => Some(
                files
                    .iter()
                    .map(|file| SystemFile {
                        path: file.path.clone(),
                        bundle: file.bundle.as_ref().map(&mut renew),
                    })
                    .collect(),
            ),
            None if system => Some(system_files()),
            None => None,
        };
        changed |= system && self.system.is_none();
        changed.then_some(Roots { bundles, system: files })
    }

    /// Lets a context trust these roots.
    pub(crate) fn apply(
        self: &Arc<Roots>,
        builder: &mut SslContextBuilder,
    ) -> Result<(), ErrorStack> {
        for file in self.system.iter().flatten() {
            // OpenSSL alone reads CRLs and trust settings.
            if file.bundle.as_ref().is_some_and(|bundle| bundle.has_others) {
                let _ = builder.load_verify_locations(Some(&file.path), None);
            }
        }
        let store = builder.cert_store_mut();
        add_lookup(store, self.clone())?;
        if self.system.is_some() {
            store
                .add_lookup(X509Lookup::hash_dir())?
                .add_dir("", SslFiletype::from_raw(DEFAULT))?;
            add_default_store(store);
            #[cfg(feature = "vendored")]
            add_directories_of_this_system(builder);
        }
        Ok(())
    }
}

/// Reads the files of the system's roots. Unreadable files are skipped, as OpenSSL does with its
/// defaults.
fn system_files() -> Vec<SystemFile> {
    #[allow(unused_mut)]
    let mut paths = vec![PathBuf::from(default_cert_file())];
    // An OpenSSL that was compiled in knows only the files of the machine that built it.
    #[cfg(feature = "vendored")]
    if std::env::var_os(openssl_probe::ENV_CERT_FILE).is_none() {
        paths.extend(openssl_probe::probe().cert_file);
    }
    paths
        .into_iter()
        .map(|path| {
            let bundle = Bundle::read(&path).ok();
            if let Some(broken) = bundle.as_ref().map(|b| b.broken).filter(|broken| *broken > 0) {
                log::warn!("{}: {broken} certificates cannot be read", path.display());
            }
            SystemFile { bundle: bundle.map(Arc::new), path }
        })
        .collect()
}

/// Adds the usual directories. The one in `SSL_CERT_DIR` replaces them, as usual.
#[cfg(feature = "vendored")]
fn add_directories_of_this_system(builder: &mut SslContextBuilder) {
    if std::env::var_os(openssl_probe::ENV_CERT_DIR).is_none() {
        for dir in openssl_probe::candidate_cert_dirs() {
            let _ = builder.load_verify_locations(None, Some(dir));
        }
    }
}
