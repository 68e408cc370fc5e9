//! The configuration of TLS: trusted CA certificates and the client certificate, read from files.
//!
//! RFC 5280 (paths to a trusted root); RFC 8446 section 4.4.2 (client certificates).

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslContextBuilder, SslFiletype, SslMethod};
use openssl::x509::X509;
use openssl::x509::store::X509Lookup;
use zeroize::Zeroizing;

use super::bundle::{Bundle, lack};
use super::options::HttpOptions;
use super::roots::{Roots, has_certificates};
use crate::error::{Error, Result, reasons};
use crate::pki::Key;
use crate::text::is_pem;

/// The roots that a TLS connection trusts, and the client certificate for a peer that requests one.
pub(crate) struct TlsConfig {
    /// The files that the options name.
    bundles: Vec<Arc<Bundle>>,
    /// Whether to trust the system's roots: no option replaces them.
    system: bool,
    /// The roots of the last connection.
    roots: Mutex<Option<Arc<Roots>>>,
    /// Directory of roots. OpenSSL reads it for each issuer that it does not know yet.
    ca_dir: Option<String>,
    identity: Option<Identity>,
}

/// A client certificate with its intermediate certificates and its key.
struct Identity {
    chain: Vec<X509>,
    key: Key,
}

impl TlsConfig {
    /// Reads the files that the options name. The error names the option and the file.
    pub(crate) fn read(options: &HttpOptions) -> Result<TlsConfig> {
        let mut bundles = Vec::new();
        for (name, file) in
            [("ca_file", &options.ca_file), ("extra_ca_file", &options.extra_ca_file)]
        {
            if let Some(file) = file {
                bundles.push(read_bundle(name, file)?);
            }
        }
        let ca_dir = options.ca_dir.as_deref().map(check_dir).transpose()?;
        let identity = match (&options.client_cert_file, &options.client_key_file) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some(Identity::read(chain, key)?),
            _ => {
                let why = "client_cert_file and client_key_file go together";
                return Err(Error::invalid_argument(why));
            }
        };
        let system = options.ca_file.is_none() && ca_dir.is_none();
        Ok(TlsConfig { bundles, system, roots: Mutex::new(None), ca_dir, identity })
    }

    /// Returns the roots for a new connection. The first one reads the system's, and each one reads
    /// files again that were replaced.
    pub(crate) fn roots(&self) -> Arc<Roots> {
        let mut last = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let roots = match &*last {
            Some(roots) => roots.renewed().map_or_else(|| roots.clone(), Arc::new),
            None => Arc::new(Roots::new(self.bundles.clone(), self.system)),
        };
        *last = Some(roots.clone());
        roots
    }

    /// Returns why no peer can be trusted, if there are no roots.
    pub(crate) fn lack(&self) -> Option<String> {
        if self.ca_dir.is_some() { None } else { self.roots().lack() }
    }

    /// Whether connections with both are the same to a peer. A client certificate always counts as
    /// different.
    #[cfg(unix)]
    pub(crate) fn is_same(&self, other: &TlsConfig) -> bool {
        std::ptr::eq(self, other)
            || self.roots().is_same(&other.roots())
                && self.ca_dir == other.ca_dir
                && self.identity.is_none()
                && other.identity.is_none()
    }

    /// Applies this to a context. `anonymous`: without the client certificate.
    pub(crate) fn apply(
        &self,
        builder: &mut SslContextBuilder,
        roots: &Arc<Roots>,
        anonymous: bool,
    ) -> Result<(), ErrorStack> {
        // In the order of OpenSSL: files, then directories.
        roots.apply(builder)?;
        let store = builder.cert_store_mut();
        if let Some(dir) = &self.ca_dir {
            store.add_lookup(X509Lookup::hash_dir())?.add_dir(dir, SslFiletype::PEM)?;
        }
        match &self.identity {
            Some(identity) if !anonymous => identity.apply(builder),
            _ => Ok(()),
        }
    }
}

impl Identity {
    fn read(cert_file: &Path, key_file: &Path) -> Result<Identity> {
        let chain = read_certificates("client_cert_file", cert_file)?;
        let bad_key = |why: &dyn Display| wrong("client_key_file", key_file, why);
        let pem = fs::read(key_file).map(Zeroizing::new).map_err(|error| bad_key(&error))?;
        let key = Key::parse(&pem).map_err(|error| bad_key(&error))?;
        let public = chain.first().map(|leaf| leaf.public_key()).transpose()?;
        if public.is_none_or(|public| !public.public_eq(key.public_key())) {
            return Err(bad_key(&"is not the key of the first certificate in client_cert_file"));
        }
        let identity = Identity { chain, key };
        // Try it: the system may require stronger keys or signatures.
        identity
            .apply(&mut SslContext::builder(SslMethod::tls_client())?)
            .map_err(|error| wrong("client_cert_file", cert_file, &reasons(&error)))?;
        Ok(identity)
    }

    fn apply(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut chain = self.chain.iter();
        if let Some(leaf) = chain.next() {
            builder.set_certificate(leaf)?;
        }
        for issuer in chain {
            builder.add_extra_chain_cert(issuer.clone())?;
        }
        // A key from a file always has its private half.
        self.key.private_key().map_or(Ok(()), |key| builder.set_private_key(key))
    }
}

/// Makes an error that names the option and the file.
fn wrong(option: &str, path: &Path, why: &dyn Display) -> Error {
    Error::invalid_argument(format!("{option} {}: {why}", path.display()))
}

/// Reads a file of roots, in which there is at least one certificate and none that is broken.
fn read_bundle(option: &str, file: &Path) -> Result<Arc<Bundle>> {
    let bundle = Bundle::read(file).map_err(|error| wrong(option, file, &error))?;
    let lack = match bundle.broken {
        0 => bundle.lack,
        _ => Some("has a certificate that cannot be read"),
    };
    lack.map_or_else(|| Ok(Arc::new(bundle)), |lack| Err(wrong(option, file, &lack)))
}

/// Reads at least one certificate from a file.
fn read_certificates(option: &str, file: &Path) -> Result<Vec<X509>> {
    let refuse = |why: &dyn Display| wrong(option, file, why);
    let pem = fs::read(file).map_err(|error| refuse(&error))?;
    let found = X509::stack_from_pem(&pem).map_err(|error| {
        refuse(&format!("has a certificate that cannot be read ({})", reasons(&error)))
    })?;
    if found.is_empty() {
        return Err(refuse(&lack(pem.is_empty(), is_pem(&pem))));
    }
    Ok(found)
}

/// Returns the directory's name, if OpenSSL finds certificates in it.
fn check_dir(dir: &Path) -> Result<String> {
    let refuse = |why: &dyn Display| wrong("ca_dir", dir, why);
    fs::read_dir(dir).map_err(|error| refuse(&error))?;
    if !has_certificates(dir) {
        return Err(refuse(&"has no certificate under a hashed name; run openssl rehash on it"));
    }
    match dir.to_str() {
        Some(name) if !name.contains(':') => Ok(name.to_owned()),
        _ => Err(refuse(
            &"has a colon in its name, which OpenSSL takes for the next directory, or \
                          is not UTF-8",
        )),
    }
}
