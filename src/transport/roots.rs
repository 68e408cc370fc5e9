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
    bundles: Vec<Arc<Bundle>>,
    /// Files that OpenSSL reads itself, for CRLs and trust settings.
    whole: Vec<PathBuf>,
    /// Whether the system's roots are trusted.
    system: bool,
}

impl Find for Roots {
    fn find(&self, subject: &X509NameRef) -> Vec<X509> {
        let key = subject.to_der().ok().and_then(|name| name_key(&name));
        let mut found = Vec::new();
        for bundle in &self.bundles {
            bundle.find(key, &mut found);
        }
        let is_other = |found: &X509| {
            found.subject_name().try_cmp(subject).map_or(true, |order| order != Ordering::Equal)
        };
        found.retain(|certificate| !is_other(certificate));
        found
    }
}

impl Roots {
    /// These files, and the system's if they are trusted. Unreadable files of the system are skipped,
    /// as OpenSSL does with its defaults.
    pub(crate) fn new(mut bundles: Vec<Arc<Bundle>>, system: bool) -> Roots {
        let mut whole = Vec::new();
        for path in system_files().into_iter().filter(|_| system) {
            let Ok(bundle) = Bundle::read(&path) else { continue };
            if bundle.broken > 0 {
                let broken = bundle.broken;
                log::warn!("{}: {broken} certificates cannot be read", path.display());
            }
            if bundle.has_others {
                whole.push(path);
            }
            bundles.push(Arc::new(bundle));
        }
        Roots { bundles, whole, system }
    }

    /// Whether both have the same certificates.
    #[cfg(unix)]
    pub(crate) fn is_same(&self, other: &Roots) -> bool {
        self.system == other.system
            && self.bundles.len() == other.bundles.len()
            && self.bundles.iter().zip(&other.bundles).all(|(one, other)| one.is_same(other))
    }

    /// Returns the roots as they are now, if a file was replaced.
    pub(crate) fn renewed(&self) -> Option<Roots> {
        let mut bundles = self.bundles.clone();
        let mut changed = false;
        for bundle in &mut bundles {
            if let Some(now) = bundle.replaced() {
                *bundle = Arc::new(now);
                changed = true;
            }
        }
        changed.then(|| Roots { bundles, whole: self.whole.clone(), system: self.system })
    }

    /// Lets a context trust these roots.
    pub(crate) fn apply(
        self: &Arc<Roots>,
        builder: &mut SslContextBuilder,
    ) -> Result<(), ErrorStack> {
        for file in &self.whole {
            let _ = builder.load_verify_locations(Some(file), None);
        }
        let store = builder.cert_store_mut();
        add_lookup(store, self.clone())?;
        if self.system {
            let directory = store.add_lookup(X509Lookup::hash_dir())?;
            directory.add_dir("", SslFiletype::from_raw(DEFAULT))?;
            add_default_store(store);
            #[cfg(feature = "vendored")]
            add_directories_of_this_system(builder);
        }
        Ok(())
    }
}

/// Returns the files of the system's roots.
fn system_files() -> Vec<PathBuf> {
    #[allow(unused_mut)]
    let mut files = vec![PathBuf::from(default_cert_file())];
    // An OpenSSL that was compiled in knows only the files of the machine that built it.
    #[cfg(feature = "vendored")]
    if std::env::var_os(openssl_probe::ENV_CERT_FILE).is_none() {
        files.extend(openssl_probe::probe().cert_file);
    }
    files
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
