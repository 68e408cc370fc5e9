//! RSA keys that are as good as public. What a CA would refuse had better not get there.

use openssl::bn::BigNumRef;
use openssl::pkey::Public;
use openssl::rsa::Rsa;

use crate::error::{Error, ErrorKind, Result};

/// Primes whose residues give a ROCA key away: one modulus in 2^28 looks like one by chance.
const PRIMES: [u32; 17] =
    [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Refuses a key whose numbers cannot be, or that came from a chip with Infineon's RSALib (ROCA,
/// CVE-2017-15361), where they follow from the public half.
pub(super) fn check(rsa: &Rsa<Public>) -> Result<()> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Crypto, why));
    let (n, e) = (rsa.n(), rsa.e());
    if !n.is_bit_set(0) || !e.is_bit_set(0) || e.num_bits() < 2 {
        return refuse(
            "the RSA key is none: modulus and exponent have to be odd, the latter above 1",
        );
    }
    if is_roca(n)? {
        return refuse("the RSA key was made by a chip whose keys can be broken (CVE-2017-15361)");
    }
    Ok(())
}

/// Is the modulus a power of 65537, modulo each of the primes? Those of RSALib are.
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
