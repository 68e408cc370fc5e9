//! External account binding: proof that this ACME account belongs to an account at the CA's web site.
//!
//! RFC 8555 section 7.3.4: a JWS over the account's public key, with an HMAC key from the CA.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::jws::{Protected, Unsigned, raw};
use crate::base64url;
use crate::error::{Error, Result};
use crate::pki::Key;

/// Minimum size of an HMAC key in bytes. RFC 7518 section 3.2 requires 32 for HS256.
/// CA quirk (several): CAs have issued shorter keys.
const MIN_MAC_KEY: usize = 16;

/// A key identifier and an HMAC key, as a CA's web site gives them out.
#[derive(Clone)]
pub struct ExternalAccount {
    key_id: String,
    mac_key: Zeroizing<Vec<u8>>,
    algorithm: MacAlgorithm,
}

/// The algorithms of an external account binding (RFC 7518 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacAlgorithm {
    /// HMAC with SHA-256: what CAs use.
    #[default]
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl MacAlgorithm {
    /// The name in JOSE: `"HS256"`, `"HS384"`, `"HS512"`.
    pub fn as_str(self) -> &'static str {
        match self {
            MacAlgorithm::Hs256 => "HS256",
            MacAlgorithm::Hs384 => "HS384",
            MacAlgorithm::Hs512 => "HS512",
        }
    }

    /// The algorithm of this name.
    pub fn from_name(name: &str) -> Option<MacAlgorithm> {
        [MacAlgorithm::Hs256, MacAlgorithm::Hs384, MacAlgorithm::Hs512]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }

    fn digest(self) -> MessageDigest {
        match self {
            MacAlgorithm::Hs256 => MessageDigest::sha256(),
            MacAlgorithm::Hs384 => MessageDigest::sha384(),
            MacAlgorithm::Hs512 => MessageDigest::sha512(),
        }
    }
}

impl ExternalAccount {
    /// Checks a key identifier and a key. `mac_key` is base64url, as the CA's web site shows it; the
    /// standard alphabet and padding are accepted.
    pub fn new(key_id: &str, mac_key: &str) -> Result<ExternalAccount> {
        if key_id.trim().is_empty() || key_id.trim().contains(char::is_control) {
            return Err(Error::invalid_argument(
                "the EAB key id is empty or has control characters in it",
            ));
        }
        // Neither the key nor a part of it belongs in a message.
        let mac_key = base64url::decode_pasted(mac_key).map(Zeroizing::new).ok_or_else(|| {
            Error::invalid_argument("the EAB HMAC key is not base64url; copy it as the CA shows it")
        })?;
        if mac_key.len() < MIN_MAC_KEY {
            return Err(Error::invalid_argument(format!(
                "the EAB HMAC key has {} bytes; {MIN_MAC_KEY} is the least that is safe",
                mac_key.len()
            )));
        }
        let algorithm = MacAlgorithm::default();
        Ok(ExternalAccount { key_id: key_id.trim().to_owned(), mac_key, algorithm })
    }

    /// Sets another algorithm, for a CA that requires it.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: MacAlgorithm) -> ExternalAccount {
        self.algorithm = algorithm;
        self
    }

    /// The `externalAccountBinding` member for a newAccount request to `url`.
    pub(crate) fn bind(&self, account_key: &Key, url: &str) -> Result<Box<RawValue>> {
        let protected = Protected {
            alg: self.algorithm.as_str(),
            jwk: None,
            kid: Some(&self.key_id),
            nonce: None,
            url,
        };
        let jws = Unsigned::new(&protected, account_key.jwk().as_bytes())?;
        raw(&String::from_utf8_lossy(&jws.signed(&self.mac(jws.input())?)))
    }

    fn mac(&self, input: &[u8]) -> Result<Vec<u8>> {
        let key = PKey::hmac(&self.mac_key)?;
        Ok(Signer::new(self.algorithm.digest(), &key)?.sign_oneshot_to_vec(input)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::KeyType;

    #[test]
    fn a07_keys_are_taken_as_people_paste_them_and_never_shown() {
        let key = [0xfbu8; 32];
        let url = base64url::encode(key);
        let standard = url.replace('-', "+").replace('_', "/");
        for text in [url.clone(), format!("{url}="), format!(" {standard}=\n")] {
            let account = ExternalAccount::new(" kid\n", &text).unwrap();
            assert_eq!((*account.mac_key).as_slice(), key);
            assert_eq!(account.key_id, "kid");
        }
        let broken = format!("{}\n{}", &url[..20], &url[20..]);
        let fifteen = base64url::encode([7; 15]);
        assert!(ExternalAccount::new("kid", &base64url::encode([7; 16])).is_ok());
        for (id, text, field) in [
            ("", url.as_str(), "the EAB key id"),
            (" \n", &url, "the EAB key id"),
            ("a\0b", &url, "the EAB key id"),
            ("a\r\nb", &url, "the EAB key id"),
            ("kid", "secret key!", "the EAB HMAC key"),
            ("kid", "c2VjcmV0", "the EAB HMAC key"),
            ("kid", "", "the EAB HMAC key"),
            ("kid", &fifteen, "the EAB HMAC key"),
            ("kid", &broken, "the EAB HMAC key"),
        ] {
            let error = ExternalAccount::new(id, text).err().unwrap();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
            let error = error.to_string();
            assert!(error.starts_with(field), "{error}");
            for secret in ["secret", "c2Vj", &url[..8], &fifteen[..8]] {
                assert!(!error.contains(secret), "{error}");
            }
        }
    }

    #[test]
    fn rfc_7515_appendix_a_1() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9\
                   CAow";
        let input = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkz\
                     ODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mac = ExternalAccount::new("kid", key).unwrap().mac(input.as_bytes()).unwrap();
        assert_eq!(base64url::encode(mac), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    #[test]
    fn the_binding_has_a_url_and_no_nonce() {
        let key = Key::generate(KeyType::P256).unwrap();
        let account = ExternalAccount::new("kid-1", &base64url::encode([7u8; 32])).unwrap();
        let jws = account.bind(&key, "https://ca/new-account").unwrap();
        let jws: serde_json::Value = serde_json::from_str(jws.get()).unwrap();
        let decode = |v: &serde_json::Value| base64url::decode_pasted(v.as_str().unwrap()).unwrap();
        let header = String::from_utf8(decode(&jws["protected"])).unwrap();
        assert_eq!(header, r#"{"alg":"HS256","kid":"kid-1","url":"https://ca/new-account"}"#);
        assert_eq!(decode(&jws["payload"]), key.jwk().as_bytes());
        assert_eq!(decode(&jws["signature"]).len(), 32);
    }
}
