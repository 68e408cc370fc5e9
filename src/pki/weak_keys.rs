//! Weak keys, such as RSA keys whose private half anybody can compute. They are refused here before a CA
//! refuses them.

use openssl::bn::BigNumRef;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::rsa::Rsa;

use super::key_type::KeyType;
use super::named_curve::is_explicit;
use crate::error::{Error, ErrorKind, Result};

/// Primes whose residues reveal a ROCA key. By chance, one in 2^28 other moduli has the same
/// residues.
const PRIMES: [u32; 17] =
    [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Returns the kind of a key that CAs may accept.
pub(super) fn kind_of(key: &PKeyRef<Public>) -> Result<KeyType> {
    if let Ok(rsa) = key.rsa() {
        check(&rsa)?;
    }
    KeyType::of(key).ok_or_else(|| unsupported(key))
}

/// Refuses the key of a signing request made elsewhere if CAs refuse it: an order would be lost. Some CAs
/// accept RSA keys of other sizes.
pub(super) fn check_requested(key: &PKeyRef<Public>) -> Result<()> {
    let is_explicit = key.ec_key().is_ok_and(|ec| is_explicit(ec.group()));
    let is_rsa = key.id() == Id::RSA && (2048..=8192).contains(&key.bits());
    match kind_of(key) {
        Ok(_) if is_explicit => Err(unsupported(key)),
        Err(error) if error.kind() == ErrorKind::Unsupported && is_rsa => Ok(()),
        kind => kind.map(|_| ()),
    }
}

fn unsupported(key: &PKeyRef<Public>) -> Error {
    let why = format!(
        "a key of this kind ({} bits) is not supported; use EC P-256, P-384 or P-521 (by name: openssl ec \
         -param_enc named_curve), RSA with 2048, 3072 or 4096 bits, or Ed25519",
        key.bits()
    );
    Error::new(ErrorKind::Unsupported, why)
}

/// Refuses a key with impossible numbers, and one from a chip with Infineon's RSALib (ROCA,
/// CVE-2017-15361), whose private half follows from the public half.
fn check(rsa: &Rsa<Public>) -> Result<()> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Crypto, why));
    let (n, e) = (rsa.n(), rsa.e());
    if !n.is_bit_set(0) || !e.is_bit_set(0) || e.num_bits() < 2 {
        return refuse(
            "this is not an RSA key: modulus and exponent have to be odd, the latter above 1",
        );
    }
    if is_roca(n)? {
        return refuse("the RSA key was made by a chip whose keys can be broken (CVE-2017-15361)");
    }
    Ok(())
}

/// Whether the modulus is a power of 65537, modulo each of the primes, as with RSALib.
fn is_roca(n: &BigNumRef) -> Result<bool> {
    for prime in PRIMES {
        let residue = n.mod_word(prime)?;
        let mut power = 1;
        while power != residue {
            power = power * 65537 % u64::from(prime);
            if power == 1 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::SigningRequest;
    use super::*;
    use openssl::dsa::Dsa;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::x509::X509ReqBuilder;

    fn parsed(key: &PKey<Private>) -> Result<SigningRequest> {
        let mut csr = X509ReqBuilder::new().unwrap();
        csr.set_pubkey(key).unwrap();
        csr.sign(key, MessageDigest::sha256()).unwrap();
        SigningRequest::parse(&csr.build().to_pem().unwrap())
    }

    fn rsa(bits: u32) -> PKey<Private> {
        PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
    }

    fn on(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    #[test]
    fn s06_r30_a_csr_with_a_key_that_cas_refuse_is_refused() {
        let dsa = PKey::from_dsa(Dsa::generate(1024).unwrap()).unwrap();
        let curves =
            [Nid::SECP224R1, Nid::SECP256K1, Nid::X9_62_PRIME192V1, Nid::BRAINPOOL_P256R1].map(on);
        for key in [rsa(1024), rsa(2040), dsa].into_iter().chain(curves) {
            let error = parsed(&key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&key.bits().to_string()), "{error}");
        }
    }

    #[test]
    fn s06_r30_a_csr_with_a_key_that_some_ca_accepts_is_not_refused() {
        let curves = [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1].map(on);
        for key in [rsa(2048), rsa(2560)].into_iter().chain(curves) {
            parsed(&key).unwrap();
        }
    }
}
