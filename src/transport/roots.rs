//! The trusted roots: the files that the options name, and those of the system.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslFiletype};
use openssl::x509::store::X509Lookup;
use openssl::x509::{X509, X509NameRef};

use super::bundle::Bundle;
use crate::pki::key_of;
use crate::sys::{Find, add_default_store, add_lookup, default_cert_dirs, default_cert_file};

/// OpenSSL's `X509_FILETYPE_DEFAULT`: its own directory, or the one in `SSL_CERT_DIR`.
const DEFAULT: i32 = 3;

/// The files of roots.
pub(crate) struct Roots {
    bundles: Vec<Arc<Bundle>>,
    /// The number of bundles at the end that are the system's.
    of_system: usize,
    /// Whether the system's roots are trusted.
    system: bool,
}

impl Find for Roots {
    fn find(&self, subject: &X509NameRef) -> Vec<X509> {
        let key = Some(key_of(subject));
        let mut found = Vec::new();
        for bundle in &self.bundles {
            bundle.find(key, &mut found);
        }
        found
    }
}

impl Roots {
    /// These files, and the system's if they are trusted. Unreadable files of the system are skipped,
    /// as OpenSSL does with its defaults.
    pub(crate) fn new(mut bundles: Vec<Arc<Bundle>>, system: bool) -> Roots {
        let named = bundles.len();
        for path in system_files().into_iter().filter(|_| system) {
            let Ok(bundle) = Bundle::read(&path) else { continue };
            if bundle.broken > 0 {
                let broken = bundle.broken;
                log::warn!("{}: {broken} certificates cannot be read", path.display());
            }
            bundles.push(Arc::new(bundle));
        }
        Roots { of_system: bundles.len() - named, bundles, system }
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
        changed.then_some(Roots { bundles, of_system: self.of_system, system: self.system })
    }

    /// Lets a context trust these roots.
    pub(crate) fn apply(
        self: &Arc<Roots>,
        builder: &mut SslContextBuilder,
    ) -> Result<(), ErrorStack> {
        // CRLs and trust settings of the system's files are read by OpenSSL itself, and then all else as
        // well: a lookup is asked only for a subject that the store does not have.
        let of_system = self.bundles.iter().rev().take(self.of_system);
        let whole: Vec<_> = of_system.filter(|bundle| bundle.has_others).collect();
        for bundle in &whole {
            let _ = builder.load_verify_locations(Some(bundle.path()), None);
        }
        let store = builder.cert_store_mut();
        if whole.is_empty() {
            add_lookup(store, self.clone())?;
        } else {
            for root in self.bundles.iter().flat_map(|bundle| bundle.all()) {
                store.add_cert(root)?;
            }
        }
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

impl Roots {
    /// Returns why no peer can be trusted, if there are no roots: the system has none, or their file is no
    /// longer where it was, as after chroot().
    pub(crate) fn lack(&self) -> Option<String> {
        let file = match self.bundles.first() {
            Some(bundle) => bundle.path().to_owned(),
            None => default_cert_file(std::env::var_os).into(),
        };
        let mut places = file.to_string_lossy().into_owned();
        if self.system {
            places.push(':');
            places.push_str(&default_cert_dirs(std::env::var_os).to_string_lossy());
        }
        let has_some = self.bundles.iter().any(|bundle| bundle.has_some())
            || places.split(':').any(|place| has_certificates(Path::new(place)));
        (!has_some).then(|| {
            format!(
                "this system has no CA certificates (looked in {places}); install the package \
                 ca-certificates, or set ca_file (after chroot(), to a file of at most 64 KiB)"
            )
        })
    }
}

/// Whether OpenSSL finds certificates in the directory: files with names that `openssl rehash` makes, such as
/// `5ed36f99.0`. The first of several with one hash has the number 0.
pub(super) fn has_certificates(dir: &Path) -> bool {
    let is_hashed = |name: &OsStr| match name.as_encoded_bytes() {
        [hash @ .., b'.', b'0'] => hash.len() == 8 && hash.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    };
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| is_hashed(&entry.file_name()))
}

/// Returns the files of the system's roots.
fn system_files() -> Vec<PathBuf> {
    #[allow(unused_mut)]
    let mut files = vec![PathBuf::from(default_cert_file(std::env::var_os))];
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
