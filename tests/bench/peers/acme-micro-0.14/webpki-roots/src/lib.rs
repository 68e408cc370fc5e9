//! Replaces the crate of this name with a single root: the certificate in the PEM file that
//! `ACME_CA_FILE` names. The file is read at the first connection, as our library does, so that a
//! new test CA needs no new build.

use std::sync::LazyLock;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

pub static TLS_SERVER_ROOTS: LazyLock<Vec<TrustAnchor<'static>>> = LazyLock::new(|| {
    let path = std::env::var_os("ACME_CA_FILE").expect("ACME_CA_FILE is not set");
    let certificate = CertificateDer::from_pem_file(path).expect("ACME_CA_FILE has a certificate");
    let anchor = webpki::anchor_from_trusted_cert(&certificate).expect("a CA's certificate");
    vec![anchor.to_owned()]
});
