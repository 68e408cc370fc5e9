//! Weak RSA keys, whose private half anybody can compute. They are refused here before a CA refuses
//! them.

use openssl::bn::BigNumRef;
use openssl::pkey::Public;
use openssl::rsa::Rsa;

use crate::error::{Error, ErrorKind, Result};

/// Primes whose residues reveal a ROCA key. By chance, one in 2^28 other moduli has the same
/// residues.
const PRIMES: [u32; 17] =
    [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Refuses a key with impossible numbers, and one from a chip with Infineon's RSALib (ROCA,
/// CVE-2017-15361), whose private half follows from the public half.
pub(super) fn check(rsa: &Rsa<Public>) -> Result<()> {
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
