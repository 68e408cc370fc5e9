//! Certificate signing requests.
//!
//! RFC 2986; RFC 8555 section 7.4: the names stand in the subjectAltName extension. There is no
//! common name: it is optional, holds 64 characters at most, and CAs are dropping it.

use std::net::IpAddr;

use openssl::pkey::{PKey, Public};
use openssl::stack::Stack;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Name, X509Req, X509ReqBuilder};

use super::chain::names_of;
use super::key::Key;
use crate::error::{Error, ErrorKind, Result};

/// A certificate signing request (PKCS#10).
#[derive(Clone, Debug)]
pub struct SigningRequest {
    public_key: PKey<Public>,
    der: Vec<u8>,
    names: Vec<String>,
}

impl SigningRequest {
    /// Makes a request for `names` (DNS names, wildcards, IP addresses), signed with `key`.
    pub fn create(key: &Key, names: &[String]) -> Result<SigningRequest> {
        if names.is_empty() {
            return Err(Error::invalid_argument("a signing request needs at least one name"));
        }
        let mut builder = X509ReqBuilder::new()?;
        builder.set_version(0)?;
        builder.set_subject_name(&*X509Name::builder()?.build())?;
        builder.set_pubkey(key.pkey())?;
        let mut san = SubjectAlternativeName::new();
        for name in names {
            match name.parse::<IpAddr>() {
                Ok(_) => san.ip(name),
                Err(_) => san.dns(name),
            };
        }
        let mut extensions = Stack::new()?;
        extensions.push(san.build(&builder.x509v3_context(None))?)?;
        builder.add_extensions(&extensions)?;
        builder.sign(key.pkey(), key.kind().digest())?;
        SigningRequest::from_request(&builder.build())
    }

    /// Reads a PEM or DER request made elsewhere.
    pub fn parse(data: &[u8]) -> Result<SigningRequest> {
        let pem = data.windows(11).any(|window| window == b"-----BEGIN ");
        let parsed = if pem { X509Req::from_pem(data) } else { X509Req::from_der(data) };
        let malformed = || {
            Error::new(
                ErrorKind::Parse,
                "not a certificate signing request in PEM or DER (PKCS#10)",
            )
        };
        let request = parsed.map_err(|_| malformed())?;
        let key = request.public_key().map_err(|_| malformed())?;
        if !request.verify(&key).unwrap_or(false) {
            return Err(Error::new(
                ErrorKind::Crypto,
                "the signing request's own signature is wrong",
            ));
        }
        SigningRequest::from_request(&request)
    }

    fn from_request(request: &X509Req) -> Result<SigningRequest> {
        Ok(SigningRequest {
            public_key: request.public_key()?,
            der: request.to_der()?,
            names: requested_names(request)?,
        })
    }

    /// The request as DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The names that it asks for: DNS names and IP addresses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The key that the certificate is to be for.
    pub(crate) fn public_key(&self) -> &PKey<Public> {
        &self.public_key
    }
}

/// Reads the requested subjectAltName. OpenSSL's bindings read that extension from certificates
/// only, so the request's extensions are put into an unsigned one.
fn requested_names(request: &X509Req) -> Result<Vec<String>> {
    let mut shell = openssl::x509::X509::builder()?;
    let Ok(extensions) = request.extensions() else { return Ok(Vec::new()) };
    for extension in extensions {
        shell.append_extension(extension)?;
    }
    Ok(names_of(&shell.build()))
}

#[cfg(test)]
mod tests {
    use super::super::KeyType;
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_request_names_what_was_asked_for_and_reads_back() {
        let asked = names(&["example.org", "*.example.org", "192.0.2.7", "2001:db8::1"]);
        for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa2048, KeyType::Ed25519] {
            let key = Key::generate(kind).unwrap();
            let request = SigningRequest::create(&key, &asked).unwrap();
            let again = SigningRequest::parse(request.der()).unwrap();
            assert_eq!(again.names(), asked);
            assert!(again.public_key().public_eq(key.pkey()));
            let parsed = X509Req::from_der(request.der()).unwrap();
            assert!(parsed.subject_name().entries().next().is_none());
            let pem = parsed.to_pem().unwrap();
            assert_eq!(SigningRequest::parse(&pem).unwrap().der(), request.der());
        }
    }

    #[test]
    fn what_is_refused_and_how() {
        let key = Key::generate(KeyType::P256).unwrap();
        let kind = |result: Result<SigningRequest>| result.unwrap_err().kind();
        assert_eq!(kind(SigningRequest::create(&key, &[])), ErrorKind::InvalidArgument);
        assert_eq!(kind(SigningRequest::parse(b"")), ErrorKind::Parse);
        let request = SigningRequest::create(&key, &names(&["example.org"])).unwrap();
        let mut der = request.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(kind(SigningRequest::parse(&der)), ErrorKind::Crypto);
    }
}
