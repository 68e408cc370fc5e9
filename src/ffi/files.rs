//! A certificate in files for servers.

use std::ffi::c_char;
use std::path::Path;

use safer_ffi::derive_ReprC;

use super::convert::{Options, optional_text, read_options};
use super::guard::guard;
use super::handle::borrow;
use super::status::acme_status_t;
use super::types::{acme_cert_t, acme_key_t};
use crate::error::{Error, Result};
use crate::pki::{CertificateChain, Key};

/// Options for acme_cert_write_files(). Zero means default. combined or folder is required, and with
/// folder at least one of its files.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_files_options_t {
    /// sizeof(acme_files_options_t), set by ACME_FILES_OPTIONS_INIT.
    pub size: usize,
    /// Path of one file with the key, the certificate and its issuers, for HAProxy, Postfix and
    /// nginx. The folder above it must exist.
    pub combined: *const c_char,
    /// Path of a folder for the files below. The library makes it: a symbolic link to a hidden
    /// folder beside it, which each call replaces. The folder above it must exist.
    pub folder: *const c_char,
    /// Name of the file with the certificate and its issuers, such as "chain.pem".
    pub chain: *const c_char,
    /// Name of the file with the key.
    pub key: *const c_char,
    /// Name of the file with the certificate alone.
    pub certificate: *const c_char,
    /// Name of the file with the issuers alone.
    pub issuers: *const c_char,
    /// Mode of the files without the key; default 0644.
    pub mode: usize,
    /// Mode of the files with the key; default 0600, and at most 0770.
    pub key_mode: usize,
    /// Number of the user who gets the files; default: that of the process.
    pub owner: usize,
    /// Number of the group that gets the files; default: that of the process.
    pub group: usize,
    /// Key of a certificate that has none (acme_cert_key()), because it was parsed.
    pub private_key: *const acme_key_t,
}

// SAFETY: integers and raw pointers: all zero is a value of each.
unsafe impl Options for acme_files_options_t {}
const _: () = assert!(size_of::<acme_files_options_t>() == 12 * size_of::<usize>());

/// Writes a certificate with its key into files for servers. If the program is killed or the power
/// fails, a server finds all old files or all new ones, and a key always fits its certificate. Tell
/// the server to read the files after this has returned: one that reads two files of the folder at
/// the very moment of the change can get an old and a new one, but never with combined. Blocking:
/// waits at most 5 seconds for another program that writes there.
/// @param cert The certificate.
/// @param options Read during the call only.
/// @return ACME_OK: the files survive a power failure; ACME_ERR_STORE: a file cannot be written, the
///   old ones stay, and the message says why; ACME_ERR_INVALID_ARGUMENT: also, the certificate has
///   no key; ACME_ERR_UNSUPPORTED: the key is outside the process, or this system has no such files.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_cert_write_files(
    cert: *const acme_cert_t,
    options: *const acme_files_options_t,
) -> acme_status_t {
    guard(|| {
        let cert = borrow::<acme_cert_t>(cert, "cert")?;
        let given: acme_files_options_t = read_options(options, "options")?;
        let key = match given.private_key.is_null() {
            true => cert.key(),
            false => Some(&borrow(given.private_key, "private_key")?.key),
        };
        write(&given, cert.chain(), key)
    })
}

#[cfg(unix)]
fn write(given: &acme_files_options_t, chain: &CertificateChain, key: Option<&Key>) -> Result<()> {
    let number = |value: usize, name: &str| match u32::try_from(value) {
        Ok(value) => Ok((value != 0).then_some(value)),
        Err(_) => Err(Error::invalid_argument(name.to_owned() + " is too large")),
    };
    let mut files = crate::folder::CertificateFiles::default();
    files.combined = optional_text(given.combined, "combined")?.map(Path::new);
    files.folder = optional_text(given.folder, "folder")?.map(Path::new);
    files.chain = optional_text(given.chain, "chain")?;
    files.key = optional_text(given.key, "key")?;
    files.certificate = optional_text(given.certificate, "certificate")?;
    files.issuers = optional_text(given.issuers, "issuers")?;
    files.mode = number(given.mode, "mode")?.unwrap_or(files.mode);
    files.key_mode = number(given.key_mode, "key_mode")?.unwrap_or(files.key_mode);
    files.owner = number(given.owner, "owner")?;
    files.group = number(given.group, "group")?;
    files.write(chain, key)
}

#[cfg(not(unix))]
fn write(_: &acme_files_options_t, _: &CertificateChain, _: Option<&Key>) -> Result<()> {
    Err(Error::new(crate::error::ErrorKind::Unsupported, "this system has no such files"))
}
