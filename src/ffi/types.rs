//! The types that cross the boundary and belong to no single file: handles, options in, views out.

use std::ffi::{c_char, c_int, c_void};

use safer_ffi::derive_ReprC;

use super::convert::Options;
use crate::time::Time;

/// A moment: milliseconds since 1970-01-01 UTC. 0: none, or as input: the system clock.
pub type acme_time_t = i64;

/// A moment as it comes in: 0 is the system clock's.
pub(super) fn moment(time: acme_time_t) -> Time {
    if time == 0 { Time::now() } else { Time::from_millis(time) }
}

/// A private key: an account's or a certificate's. Wiped from memory when freed. EC keys are held where
/// OpenSSL holds such: in its secure heap, which is neither swapped nor dumped, if the host has called
/// CRYPTO_secure_malloc_init() before.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_key_t {
    _private: [u8; 0],
}

/// A certificate signing request (PKCS#10, RFC 2986).
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_csr_t {
    _private: [u8; 0],
}

/// A certificate chain, leaf first, with its private key when the library has it.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_cert_t {
    _private: [u8; 0],
}

/// One operation in progress: a state machine that you poll. It does no I/O of its own.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_op_t {
    _private: [u8; 0],
}

/// Options for acme_client_new(). Zero means default. Every member is pointer-sized: no padding.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_client_options_t {
    /// sizeof(acme_client_options_t), set by ACME_CLIENT_OPTIONS_INIT.
    pub size: usize,
    /// Required. The CA's directory, such as ACME_LETSENCRYPT.
    pub directory_url: *const c_char,
    /// Required. Store its PEM before the first request: it is the account.
    pub account_key: *const acme_key_t,
    /// What acme_client_account_url() said earlier; saves a request.
    pub account_url: *const c_char,
    /// "mailto:..." URLs.
    pub contacts: *const *const c_char,
    /// Number of contacts.
    pub contact_count: usize,
    /// 1: the operator has agreed to the CA's terms of service. 0: an account that exists is
    /// found, but none is made.
    pub terms_agreed: usize,
    /// External account binding (RFC 8555 section 7.3.4): key id as the CA shows it.
    pub eab_key_id: *const c_char,
    /// Its HMAC key as the CA shows it (base64url).
    pub eab_hmac_key: *const c_char,
    /// "HS256" (the default), "HS384" or "HS512".
    pub eab_algorithm: *const c_char,
    /// Named to the CA before the library's own, such as "exampled/1.2".
    pub user_agent: *const c_char,
    /// Built-in client: PEM file of the roots to trust for the CA's own HTTPS instead of the
    /// system's. Read once, by acme_client_new().
    pub ca_file: *const c_char,
    /// Hosts besides the directory's own that the CA's URLs may be on. Loopback and link-local
    /// addresses count only if the directory is at one, too.
    pub allowed_hosts: *const *const c_char,
    /// Number of allowed_hosts.
    pub allowed_host_count: usize,
    /// 1: plain http is fine on loopback addresses, for tests.
    pub allow_http_loopback: usize,
    /// Instead of terms_agreed: the operator has agreed to the terms at this URL, which
    /// acme_client_terms_url() said earlier. When the CA's are others by now, no account is made:
    /// ACME_ERR_TERMS, and acme_client_terms_url() has the new ones. An account that exists stays
    /// usable; a warning is logged. Excludes terms_agreed.
    pub agreed_terms_url: *const c_char,
    /// Languages that the CA's messages are wanted in, as in HTTP's Accept-Language, such as
    /// "de, en;q=0.5" (RFC 8555 section 6.1).
    pub accept_language: *const c_char,
    /// Built-in client: directory of the roots to trust instead of the system's, as "openssl rehash"
    /// makes it. With ca_file both are trusted. Looked into while connecting.
    pub ca_dir: *const c_char,
    /// Built-in client: PEM file of roots to trust besides the system's, or besides ca_file and
    /// ca_dir. Read once, by acme_client_new().
    pub extra_ca_file: *const c_char,
    /// Built-in client: the proxy to go through, a URL "SCHEME://HOST:PORT", with "USER:PASSWORD@"
    /// before HOST if the proxy wants them, percent-encoded. SCHEME is http (CONNECT, RFC 9110
    /// section 9.3.6; Basic, RFC 7617), https (the same, with TLS to the proxy), socks5 or socks5h
    /// (RFC 1928, RFC 1929; no difference) or socks4a (user only). The proxy resolves the CA's name.
    /// No environment variable is looked at. No error and no log shows the password.
    pub proxy: *const c_char,
    /// Built-in client: PEM file with the certificate to show to a CA that asks for one (RFC 8446
    /// section 4.4.2), then those that lead from it to a root. Goes with client_key_file. Read once,
    /// by acme_client_new().
    pub client_cert_file: *const c_char,
    /// Built-in client: PEM file with the certificate's key, without a passphrase; may be the same
    /// file. Read once, by acme_client_new().
    pub client_key_file: *const c_char,
    /// Built-in client: seconds for one request, from name resolution to the last byte of the answer;
    /// 1 to 3600, default 30. Connecting, proxy and TLS included, gets 10 of them, or a third if that
    /// is more. A name that resolves slowly takes as long as the system's resolver lets it.
    pub request_timeout_s: usize,
    /// Built-in client: 4 or 6 to connect to IPv4 or IPv6 addresses only, the CA's or the proxy's. 0:
    /// to all, in the order of the system's resolver.
    pub ip_version: usize,
}

/// Options for acme_begin_order() and acme_obtain(). Zero means default.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_order_options_t {
    /// sizeof(acme_order_options_t), set by ACME_ORDER_OPTIONS_INIT.
    pub size: usize,
    /// Required unless csr is set: DNS names, "*." wildcards, IP addresses; at most 1000. With csr
    /// also "permanent-identifier:..." and "hardware-module:..." (draft-ietf-acme-device-attest).
    pub names: *const *const c_char,
    /// Number of names.
    pub name_count: usize,
    /// Acceptable challenge types, best first (see acme_challenge_t); default {"http-01"}. A
    /// wildcard needs "dns-01", "dns-account-01" or "dns-persist-01".
    pub challenge_types: *const *const c_char,
    /// Number of challenge_types.
    pub challenge_type_count: usize,
    /// Certificate key, which you have stored; default: a fresh P-256 key, see acme_op_key().
    pub key: *const acme_key_t,
    /// Request made elsewhere; excludes key.
    pub csr: *const acme_csr_t,
    /// Resume the order at this URL (from acme_op_order_url()). Keep it, and the key, until you have
    /// the certificate: when it leads nowhere any more, a fresh order is placed instead.
    pub order_url: *const c_char,
    /// Give up after this many seconds; default 600, not counting time spent publishing.
    pub timeout_s: usize,
    /// When the certificate is to start being valid, as an RFC 3339 date; few CAs take it.
    pub not_before: *const c_char,
    /// When it is to stop.
    pub not_after: *const c_char,
    /// A profile that the CA offers (draft-ietf-acme-profiles); see acme_client_profile().
    pub profile: *const c_char,
    /// 1: go on without the profile when the CA does not offer or refuses it.
    pub profile_optional: usize,
    /// The certificate that is being renewed; named in the order where the CA takes that (RFC 9773
    /// section 5).
    pub replaces: *const acme_cert_t,
    /// 1: with replaces, finish without a certificate when its renewal is not due yet and it is for
    /// the names of this order; see acme_op_renewal_info().
    pub only_if_due: usize,
    /// Which of several chains is wanted, if the CA has it; what this says of it is up to
    /// preferred_chain_by.
    pub preferred_chain: *const c_char,
    /// An ACME_CHAIN_* value; default ACME_CHAIN_BY_ROOT.
    pub preferred_chain_by: usize,
    /// 1: ask for the TLS feature extension "must staple" (RFC 7633).
    pub must_staple: usize,
    /// name_count challenge types: the n-th name is to be proven by the n-th of these; NULL in its
    /// place: by challenge_types. Default: all are.
    pub name_challenge_types: *const *const c_char,
    /// A name above some of names that proves them in their place (RFC 9444);
    /// ACME_ERR_UNSUPPORTED where the CA does not let one.
    pub ancestor_domain: *const c_char,
    /// 1: when a challenge fails, or cannot be published, deactivate the order's other pending
    /// authorizations: CAs limit how many an account may leave pending. The order cannot be
    /// resumed then. After other failures, which a later try may mend, they stay.
    pub abandon_on_failure: usize,
}

/// Options for acme_begin_authorize(). Zero means default.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_authorize_options_t {
    /// sizeof(acme_authorize_options_t), set by ACME_AUTHORIZE_OPTIONS_INIT.
    pub size: usize,
    /// Required: DNS names and IP addresses, at most 1000; also devices' identifiers, as in an
    /// order. A wildcard is proven by its order only.
    pub names: *const *const c_char,
    /// Number of names.
    pub name_count: usize,
    /// Acceptable challenge types, best first (see acme_challenge_t); default {"http-01"}.
    pub challenge_types: *const *const c_char,
    /// Number of challenge_types.
    pub challenge_type_count: usize,
    /// 1: each name is to prove those below it, too (RFC 9444); ACME_ERR_UNSUPPORTED where the CA
    /// does not let one.
    pub subdomains: usize,
    /// Give up after this many seconds; default 600, not counting time spent publishing.
    pub timeout_s: usize,
}

/// A challenge to publish. Read only; grows at the end in later versions.
#[derive_ReprC]
#[repr(C)]
pub struct acme_challenge_t {
    /// "http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01", "onion-csr-01" or
    /// "device-attest-01".
    pub r#type: *const c_char,
    /// DNS name (without "*.") or IP address to be proven.
    pub identifier: *const c_char,
    /// The CA's token: 22 to 512 base64url characters, checked. NULL for the types that have none:
    /// "dns-persist-01" and "onion-csr-01".
    pub token: *const c_char,
    /// http-01 (RFC 8555 section 8.3): serve this as the body of http_path on port 80 of
    /// identifier. NULL for the types that have no token.
    pub key_authorization: *const c_char,
    /// "/.well-known/acme-challenge/" and the token.
    pub http_path: *const c_char,
    /// dns-01 (RFC 8555 section 8.4), dns-account-01 and dns-persist-01: a TXT record with dns_value
    /// at dns_name. That of dns-persist-01 names the account and stays: ACME_STEP_UNPUBLISH does
    /// not show it.
    pub dns_name: *const c_char,
    /// 43 base64url characters; for dns-persist-01 a text that may be longer than the 255 bytes of
    /// one character-string of a TXT record.
    pub dns_value: *const c_char,
    /// tls-alpn-01 (RFC 8737): 32 bytes; see acme_cert_create_tls_alpn().
    pub tls_alpn_digest: *const u8,
    /// tls-alpn-01: the server name that the CA's handshake asks for: identifier, or the reverse
    /// name of an IP address (RFC 8738 section 6).
    pub tls_alpn_name: *const c_char,
    /// onion-csr-01 (RFC 9799) and device-attest-01: the challenge object as JSON, to make the
    /// answer's payload from; see acme_op_respond_with().
    pub json: *const c_char,
}

/// One HTTP header field.
#[derive_ReprC]
#[repr(C)]
pub struct acme_header_t {
    /// Its name.
    pub name: *const c_char,
    /// Its value.
    pub value: *const c_char,
}

/// An HTTP request to send. Read only; grows at the end in later versions.
#[derive_ReprC]
#[repr(C)]
pub struct acme_http_request_t {
    /// Names the request when it is answered; not 0.
    pub id: u64,
    /// "GET" or "POST"; no other is used.
    pub method: *const c_char,
    /// Absolute URL; send it byte for byte. And the same in parts, for hosts without a URL parser.
    pub url: *const c_char,
    /// Host name or address, an IPv6 one without brackets.
    pub host: *const c_char,
    /// Path and query.
    pub path: *const c_char,
    /// TCP port. The scheme is https unless allow_http_loopback is set and url says http.
    pub port: u16,
    /// Number of headers.
    pub header_count: u16,
    /// Headers to send besides Host and Content-Length.
    pub headers: *const acme_header_t,
    /// Empty for GET.
    pub body: *const u8,
    /// Bytes of the body.
    pub body_size: usize,
}

/// Publishes or takes down one challenge. 0: done. Else the operation fails with ACME_ERR_HOST.
pub type acme_challenge_fn =
    Option<unsafe extern "C" fn(challenge: *const acme_challenge_t, user: *mut c_void) -> c_int>;

/// Sends request and feeds the answer to op with acme_op_response_*(). 0: fed. Else: no answer.
pub type acme_send_fn = Option<
    unsafe extern "C" fn(
        op: *mut acme_op_t,
        request: *const acme_http_request_t,
        user: *mut c_void,
    ) -> c_int,
>;

/// Something to sign with a key that is outside the process. Read only; grows at the end in later
/// versions.
#[derive_ReprC]
#[repr(C)]
pub struct acme_sign_request_t {
    /// Names it when it is answered; not 0.
    pub id: u64,
    /// The key, by its acme_key_thumbprint().
    pub key_thumbprint: *const c_char,
    /// How to sign (RFC 7518 section 3.1): "ES256" is ECDSA on P-256 with SHA-256, "RS256" is
    /// RSASSA-PKCS1-v1_5 with SHA-256, "EdDSA" is Ed25519.
    pub algorithm: *const c_char,
    /// The bytes to sign, not hashed yet.
    pub input: *const u8,
    /// Number of them.
    pub input_size: usize,
}

/// When to renew. Read only; grows at the end in later versions.
#[derive_ReprC]
#[repr(C)]
pub struct acme_renewal_info_t {
    /// The window to renew in; in the past: now.
    pub window_start: acme_time_t,
    /// Its end.
    pub window_end: acme_time_t,
    /// The moment in the window that is this certificate's: the same each time, while the window
    /// stays.
    pub renew_at: acme_time_t,
    /// Ask again then: the CA may move the window.
    pub check_again_at: acme_time_t,
    /// A page that explains the window; NULL when the CA gives none. Untrusted text.
    pub explanation_url: *const c_char,
    /// 1: the CA said so. 0: it is reckoned from the certificate's lifetime.
    pub from_ca: c_int,
}

/// Signs request: writes the signature (ECDSA in DER, or the two integers in full width) to signature
/// and its length to *size, which comes in as the room there is, 512 bytes. 0: signed. Else: the
/// operation fails with ACME_ERR_HOST.
pub type acme_sign_fn = Option<
    unsafe extern "C" fn(
        request: *const acme_sign_request_t,
        signature: *mut u8,
        size: *mut usize,
        user: *mut c_void,
    ) -> c_int,
>;

/// Options for acme_op_run() and acme_obtain(). Zero means default; a NULL pointer: all defaults.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_run_options_t {
    /// sizeof(acme_run_options_t), set by ACME_RUN_OPTIONS_INIT.
    pub size: usize,
    /// Publishes one challenge. May block, for instance until a DNS record has spread. Required
    /// when there is something to publish.
    pub publish: acme_challenge_fn,
    /// Takes one challenge down; called for each, also after publish has failed. What it returns
    /// is logged only.
    pub unpublish: acme_challenge_fn,
    /// Handed to every callback.
    pub user: *mut c_void,
    /// Your own blocking HTTP client instead of the built-in one.
    pub send: acme_send_fn,
    /// Signs with keys that are outside the process (acme_key_from_public()).
    pub sign: acme_sign_fn,
}

// SAFETY: integers, raw pointers and nullable function pointers: all zero is a value of each.
unsafe impl Options for acme_client_options_t {}
// SAFETY: as above.
unsafe impl Options for acme_order_options_t {}
// SAFETY: as above.
unsafe impl Options for acme_authorize_options_t {}
// SAFETY: as above.
unsafe impl Options for acme_run_options_t {}

/// No padding on any platform.
const fn is_pointers_only<T>(members: usize) -> bool {
    size_of::<T>() == members * size_of::<*const c_void>()
}
const _: () = assert!(is_pointers_only::<acme_client_options_t>(24));
const _: () = assert!(is_pointers_only::<acme_order_options_t>(21));
const _: () = assert!(is_pointers_only::<acme_authorize_options_t>(7));
const _: () = assert!(is_pointers_only::<acme_run_options_t>(6));
