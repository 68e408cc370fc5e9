//! Decoding a certificate without its key.
//!
//! `d2i_X509(3)` decodes the key, too, which takes ten times as long as the rest. It looks for the
//! decoder in the library context that `ASN1_item_d2i_ex(3)` names. In a context with the null
//! provider it finds none, and leaves the key as bytes.

use std::ffi::{c_char, c_long, c_uchar, c_void};
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::lib_ctx::LibCtx;
use openssl::provider::Provider;
use openssl::x509::X509;
use openssl_sys::OSSL_LIB_CTX;

unsafe extern "C" {
    fn X509_it() -> *const c_void;
    fn ASN1_item_d2i_ex(
        value: *mut *mut c_void,
        input: *mut *const c_uchar,
        length: c_long,
        item: *const c_void,
        context: *mut OSSL_LIB_CTX,
        properties: *const c_char,
    ) -> *mut c_void;
}

/// Decodes a certificate at the start of `der`. `X509::public_key` fails for it; everything else is
/// as after `X509::from_der`. The first call makes the context, which takes as long as two keys.
pub(crate) fn decode_without_key(der: &[u8]) -> Result<X509, ErrorStack> {
    let Some((context, _)) = empty_context() else { return X509::from_der(der) };
    let length = c_long::try_from(der.len()).unwrap_or(0);
    let mut input = der.as_ptr();
    // SAFETY: the input has `length` bytes. The context is never freed. The function returns null or
    // a certificate, as the item says, that is the caller's.
    unsafe {
        let certificate = ASN1_item_d2i_ex(
            ptr::null_mut(),
            &raw mut input,
            length,
            X509_it(),
            context.as_ptr(),
            ptr::null(),
        );
        match certificate.is_null() {
            true => Err(ErrorStack::get()),
            false => Ok(X509::from_ptr(certificate.cast())),
        }
    }
}

/// Returns the context without decoders, and its provider. `None` if OpenSSL cannot make it.
fn empty_context() -> Option<&'static (LibCtx, Provider)> {
    static CONTEXT: OnceLock<Option<(LibCtx, Provider)>> = OnceLock::new();
    let make = || {
        let context = LibCtx::new().ok()?;
        let provider = Provider::load(Some(&context), "null").ok()?;
        Some((context, provider))
    };
    CONTEXT.get_or_init(make).as_ref()
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;

    use super::*;

    fn certificate() -> Vec<u8> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        let now = Asn1Time::days_from_now(0).unwrap();
        builder.set_not_before(&now).unwrap();
        builder.set_not_after(&now).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        builder.build().to_der().unwrap()
    }

    #[test]
    fn everything_but_the_key_is_as_after_from_der() {
        let der = certificate();
        let (decoded, whole) = (decode_without_key(&der).unwrap(), X509::from_der(&der).unwrap());
        assert!(decoded.public_key().is_err() && whole.public_key().is_ok());
        assert_eq!(decoded.to_der().unwrap(), der);
        assert_eq!(whole.issued(&decoded), whole.issued(&whole));
        assert!(decoded.verify(&whole.public_key().unwrap()).unwrap());
        assert_eq!(ErrorStack::get().errors().len(), 0);
        for size in 0..der.len() {
            assert!(decode_without_key(&der[..size]).is_err(), "{size}");
        }
    }
}
