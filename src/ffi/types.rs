//! The types of the ABI that several files use: handles, options from C, views for C.

use std::ffi::{c_char, c_int, c_void};

use safer_ffi::derive_ReprC;

use super::convert::Options;
use crate::time::Time;

/// A time in milliseconds since 1970-01-01 UTC. 0: no time; as input, the time of the system clock.
pub type acme_time_t = i64;

/// Returns a time from C; 0 is the time of the system clock.
pub(super) fn moment(time: acme_time_t) -> Time {
    if time == 0 { Time::now() } else { Time::from_millis(time) }
}

/// A private key: an account's or a certificate's. The library wipes it from memory when it is
/// freed. OpenSSL keeps EC keys in its secure heap, which is neither swapped nor dumped, if the
/// program has called CRYPTO_secure_malloc_init() before.
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

/// A certificate chain, leaf first, with its private key if the library has it.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_cert_t {
    _private: [u8; 0],
}

/// One operation in progress: a state machine to poll. It does no I/O of its own.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_op_t {
    _private: [u8; 0],
}

/// Where accounts, keys, certificates and orders in progress are kept. Any thread may use it; an
/// operation or a client that uses it keeps it alive.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_store_t {
    _private: [u8; 0],
}

/// Options for acme_client_new(). Zero means default. Every member is pointer-sized: no padding.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_client_options_t {
    /// sizeof(acme_client_options_t), set by ACME_CLIENT_OPTIONS_INIT.
    pub size: usize,
    /// Required. URL of the CA's directory, such as ACME_LETSENCRYPT.
    pub directory_url: *const c_char,
    /// Required unless store is set. The account's key. Store its PEM before the first request: the
    /// key is the account.
    pub account_key: *const acme_key_t,
    /// The account's URL from an earlier acme_client_account_url(); saves a request.
    pub account_url: *const c_char,
    /// Contacts of the account: "mailto:..." URLs.
    pub contacts: *const *const c_char,
    /// Number of contacts.
    pub contact_count: usize,
    /// 1: the operator agrees to the CA's terms of service. 0: the library finds an existing
    /// account, but creates no new one.
    pub terms_agreed: usize,
    /// External account binding (RFC 8555 section 7.3.4): the key id from the CA.
    pub eab_key_id: *const c_char,
    /// External account binding: the HMAC key from the CA, base64url.
    pub eab_hmac_key: *const c_char,
    /// External account binding: "HS256" (the default), "HS384" or "HS512".
    pub eab_algorithm: *const c_char,
    /// User agent to send before the library's own, such as "exampled/1.2".
    pub user_agent: *const c_char,
    /// Built-in client: PEM file of the roots to trust for the CA's own HTTPS instead of the
    /// system's. acme_client_new() reads it; a new connection reads it again if it was replaced.
    /// A file of at most 64 KiB stays in memory, so the program may delete it, lose the right to
    /// read it, or call chroot(). The library reads larger files and the system's roots while it
    /// connects: after chroot() they have to be in the new root, as have the files with which the
    /// system resolves names (/etc/resolv.conf).
    pub ca_file: *const c_char,
    /// Hosts, besides the directory's own, that the CA's URLs may name. Loopback and link-local
    /// addresses are allowed only if the directory is at such an address, too.
    pub allowed_hosts: *const *const c_char,
    /// Number of allowed_hosts.
    pub allowed_host_count: usize,
    /// 1: allow plain http on loopback addresses, for tests.
    pub allow_http_loopback: usize,
    /// Instead of terms_agreed: the operator agrees to the terms at this URL, which came from an
    /// earlier acme_client_terms_url(). If the CA has other terms now, the library creates no
    /// account: ACME_ERR_TERMS, and acme_client_terms_url() returns the new URL. An existing
    /// account stays usable; the library logs a warning. Excludes terms_agreed.
    pub agreed_terms_url: *const c_char,
    /// Languages for the CA's messages, as in HTTP's Accept-Language, such as "de, en;q=0.5"
    /// (RFC 8555 section 6.1).
    pub accept_language: *const c_char,
    /// Built-in client: directory of the roots to trust instead of the system's, as "openssl
    /// rehash" makes it. With ca_file both are trusted. The library reads the directory while it
    /// connects.
    pub ca_dir: *const c_char,
    /// Built-in client: PEM file of roots to trust besides the system's, or besides ca_file and
    /// ca_dir. Read at the same times as ca_file.
    pub extra_ca_file: *const c_char,
    /// Built-in client: URL of the proxy to use, "SCHEME://HOST:PORT", with "USER:PASSWORD@" before
    /// HOST if the proxy requires them, percent-encoded. SCHEME is http (CONNECT, RFC 9110 section
    /// 9.3.6; Basic, RFC 7617), https (the same, with TLS to the proxy), socks5 or socks5h (RFC
    /// 1928, RFC 1929; no difference) or socks4a (user only). The proxy resolves the CA's name. The
    /// library reads no environment variable for it. No error and no log contains the password.
    pub proxy: *const c_char,
    /// Built-in client: PEM file with the certificate to send to a CA that asks for one (RFC 8446
    /// section 4.4.2), followed by its intermediate certificates. Requires client_key_file.
    /// Read once, by acme_client_new().
    pub client_cert_file: *const c_char,
    /// Built-in client: PEM file with the key of client_cert_file, without a passphrase; may be the
    /// same file. Read once, by acme_client_new().
    pub client_key_file: *const c_char,
    /// Built-in client: timeout of one request in seconds, from name resolution to the last byte of
    /// the response; 1 to 3600, default 30. Connecting, with proxy and TLS, may take 10 seconds of
    /// it, or a third if that is more. Only the system's resolver limits how long a name takes to
    /// resolve.
    pub request_timeout_s: usize,
    /// Built-in client: 4 or 6 to connect to IPv4 or IPv6 addresses only, the CA's or the proxy's.
    /// 0: to both, in the order of the system's resolver.
    pub ip_version: usize,
    /// Keeps the account and its certificates; excludes account_url. The first operation reads the
    /// account's key and URL from it; if it has no key, a new one is stored before the CA gets a
    /// request. With account_key the store keeps only the certificates, and account_url may be set.
    /// See stored_as of acme_order_options_t.
    pub store: *const acme_store_t,
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
    /// Certificate key, stored before; default: a fresh P-256 key, see acme_op_key().
    pub key: *const acme_key_t,
    /// Certificate signing request made elsewhere; excludes key. Its names are those in its
    /// subjectAltName; without that extension, its common name.
    pub csr: *const acme_csr_t,
    /// URL of an order to resume, from acme_op_order_url(). Keep the URL and the key until you have
    /// the certificate. If the CA no longer has a usable order there, the library places a new one.
    pub order_url: *const c_char,
    /// Timeout of the operation in seconds; default 600. Time spent publishing does not count.
    pub timeout_s: usize,
    /// Start of the certificate's validity, as an RFC 3339 date; few CAs accept it.
    pub not_before: *const c_char,
    /// End of the certificate's validity, likewise.
    pub not_after: *const c_char,
    /// Name of a profile that the CA offers (draft-ietf-acme-profiles); see acme_client_profile().
    pub profile: *const c_char,
    /// 1: order without the profile when the CA does not offer it or refuses it.
    pub profile_optional: usize,
    /// The certificate to renew; the order names it if the CA supports that (RFC 9773 section 5).
    pub replaces: *const acme_cert_t,
    /// 1: with replaces, finish without a certificate if its renewal is not due yet and it has the
    /// names of this order; see acme_op_renewal_info().
    pub only_if_due: usize,
    /// The chain to choose if the CA offers several; preferred_chain_by says what this text names.
    pub preferred_chain: *const c_char,
    /// An ACME_CHAIN_* value; default ACME_CHAIN_BY_ROOT.
    pub preferred_chain_by: usize,
    /// 1: ask for the TLS feature extension "must staple" (RFC 7633).
    pub must_staple: usize,
    /// Array of name_count entries: the challenge type for names[n], or NULL to choose from
    /// challenge_types. Default: every name chooses from challenge_types.
    pub name_challenge_types: *const *const c_char,
    /// A parent domain of some of the names, to validate in their place (RFC 9444);
    /// ACME_ERR_UNSUPPORTED if the CA does not support that.
    pub ancestor_domain: *const c_char,
    /// 1: when a challenge fails, or cannot be published, deactivate the order's other pending
    /// authorizations, because CAs limit how many an account may leave pending. The order cannot be
    /// resumed afterwards. After other failures, which a later try may fix, the authorizations
    /// stay.
    pub abandon_on_failure: usize,
    /// With a client that has a store, and without key and csr: the certificate's name in the
    /// store; default: the first of names. Its key, the certificate that is replaced and an order in
    /// progress come from the store; leave out replaces and order_url. Before the CA hears of it,
    /// the key is stored, and before the operation ends, the certificate. With only_if_due a
    /// certificate whose renewal is not due is the result.
    pub stored_as: *const c_char,
    /// With a store: an ACME_KEY_* value for the certificate's key if the store has none, or with
    /// new_key; default ACME_KEY_P256.
    pub key_type: usize,
    /// With a store. 1: each renewal has a new key. 0: each has the stored one.
    pub new_key: usize,
}

/// Options for acme_begin_authorize(). Zero means default.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_authorize_options_t {
    /// sizeof(acme_authorize_options_t), set by ACME_AUTHORIZE_OPTIONS_INIT.
    pub size: usize,
    /// Required: DNS names and IP addresses, at most 1000; also devices' identifiers, as in an
    /// order. No wildcards: only an order validates them.
    pub names: *const *const c_char,
    /// Number of names.
    pub name_count: usize,
    /// Acceptable challenge types, best first (see acme_challenge_t); default {"http-01"}.
    pub challenge_types: *const *const c_char,
    /// Number of challenge_types.
    pub challenge_type_count: usize,
    /// 1: each authorization covers the name's subdomains, too (RFC 9444); ACME_ERR_UNSUPPORTED if
    /// the CA does not support that.
    pub subdomains: usize,
    /// Timeout of the operation in seconds; default 600. Time spent publishing does not count.
    pub timeout_s: usize,
}

/// A challenge to publish. Read only; later versions add members at the end.
#[derive_ReprC]
#[repr(C)]
pub struct acme_challenge_t {
    /// "http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01", "onion-csr-01" or
    /// "device-attest-01".
    pub r#type: *const c_char,
    /// DNS name (without "*.") or IP address to validate.
    pub identifier: *const c_char,
    /// The CA's token: 22 to 512 base64url characters, checked. NULL for the types without a token:
    /// "dns-persist-01" and "onion-csr-01".
    pub token: *const c_char,
    /// http-01 (RFC 8555 section 8.3): the body to serve at http_path on port 80 of identifier.
    /// NULL for the types without a token.
    pub key_authorization: *const c_char,
    /// http-01: "/.well-known/acme-challenge/" and the token.
    pub http_path: *const c_char,
    /// dns-01 (RFC 8555 section 8.4), dns-account-01 and dns-persist-01: name of the TXT record to
    /// publish, with dns_value. The record of dns-persist-01 names the account and stays:
    /// ACME_STEP_UNPUBLISH does not list it.
    pub dns_name: *const c_char,
    /// Content of the TXT record: 43 base64url characters; for dns-persist-01 a text that may be
    /// longer than the 255 bytes of one character-string of a TXT record.
    pub dns_value: *const c_char,
    /// tls-alpn-01 (RFC 8737): digest of 32 bytes; see acme_cert_create_tls_alpn().
    pub tls_alpn_digest: *const u8,
    /// tls-alpn-01: server name in the CA's handshake: identifier, or the reverse name of an IP
    /// address (RFC 8738 section 6).
    pub tls_alpn_name: *const c_char,
    /// onion-csr-01 (RFC 9799) and device-attest-01: the challenge object as JSON, for making the
    /// payload of the response; see acme_op_respond_with().
    pub json: *const c_char,
    /// 1: the record stays published after the validation, for later orders (dns-persist-01).
    /// ACME_STEP_UNPUBLISH does not show the challenge, and a program must not remove the record
    /// by itself. 0: the record is removed.
    pub persistent: usize,
}

/// One HTTP header field.
#[derive_ReprC]
#[repr(C)]
pub struct acme_header_t {
    /// Name of the field.
    pub name: *const c_char,
    /// Value of the field.
    pub value: *const c_char,
}

/// An HTTP request to send. Read only; later versions add members at the end.
#[derive_ReprC]
#[repr(C)]
pub struct acme_http_request_t {
    /// Identifies the request to acme_op_response_*(); not 0.
    pub id: u64,
    /// "GET" or "POST".
    pub method: *const c_char,
    /// Absolute URL; send it byte for byte. The next three members are its parts, for programs
    /// without a URL parser.
    pub url: *const c_char,
    /// Host name or address; an IPv6 address has no brackets.
    pub host: *const c_char,
    /// Path and query.
    pub path: *const c_char,
    /// TCP port. The scheme is https unless allow_http_loopback is set and url says http.
    pub port: u16,
    /// Number of headers.
    pub header_count: u16,
    /// Headers to send besides Host and Content-Length.
    pub headers: *const acme_header_t,
    /// Body to send; empty for GET.
    pub body: *const u8,
    /// Size of body in bytes.
    pub body_size: usize,
}

/// Publishes or removes one challenge. Returns 0: done. Else the operation fails with
/// ACME_ERR_HOST.
pub type acme_challenge_fn =
    Option<unsafe extern "C" fn(challenge: *const acme_challenge_t, user: *mut c_void) -> c_int>;

/// Sends request and passes the response to acme_op_response_*() for op. Returns 0: passed. Else:
/// no response.
pub type acme_send_fn = Option<
    unsafe extern "C" fn(
        op: *mut acme_op_t,
        request: *const acme_http_request_t,
        user: *mut c_void,
    ) -> c_int,
>;

/// A signature to make with a key that is outside the process. Read only; later versions add
/// members at the end.
#[derive_ReprC]
#[repr(C)]
pub struct acme_sign_request_t {
    /// Identifies this request to acme_op_signed(); not 0.
    pub id: u64,
    /// The acme_key_thumbprint() of the key.
    pub key_thumbprint: *const c_char,
    /// Algorithm (RFC 7518 section 3.1): "ES256" is ECDSA on P-256 with SHA-256, "RS256" is
    /// RSASSA-PKCS1-v1_5 with SHA-256, "EdDSA" is Ed25519.
    pub algorithm: *const c_char,
    /// Bytes to sign, not hashed yet.
    pub input: *const u8,
    /// Size of input in bytes.
    pub input_size: usize,
}

/// When to renew. Read only; later versions add members at the end.
#[derive_ReprC]
#[repr(C)]
pub struct acme_renewal_info_t {
    /// Start of the window to renew in; in the past: renew now.
    pub window_start: acme_time_t,
    /// End of the window.
    pub window_end: acme_time_t,
    /// The time in the window to renew this certificate at: the same each time, while the window
    /// stays.
    pub renew_at: acme_time_t,
    /// Time to ask the CA again, because it may move the window.
    pub check_again_at: acme_time_t,
    /// URL of a page that explains the window, or NULL. Untrusted text.
    pub explanation_url: *const c_char,
    /// 1: the window is from the CA. 0: it is calculated from the certificate's lifetime.
    pub from_ca: c_int,
}

/// Signs request: writes the signature (ECDSA in DER, or the two integers in full width) to
/// signature and its length to *size. On entry *size is the space at signature, 512 bytes. Returns
/// 0: signed. Else the operation fails with ACME_ERR_HOST.
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
    /// Publishes one challenge. May block, for instance until a DNS record has spread. Required if
    /// the operation has challenges to publish.
    pub publish: acme_challenge_fn,
    /// Removes one challenge. Called for each challenge, also after publish has failed. A failure
    /// is only logged.
    pub unpublish: acme_challenge_fn,
    /// Pointer to pass to every callback.
    pub user: *mut c_void,
    /// Blocking HTTP client to use instead of the built-in one.
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

/// Whether a struct of this number of pointer-sized members has no padding.
const fn is_pointers_only<T>(members: usize) -> bool {
    size_of::<T>() == members * size_of::<*const c_void>()
}
const _: () = assert!(is_pointers_only::<acme_client_options_t>(25));
const _: () = assert!(is_pointers_only::<acme_order_options_t>(24));
const _: () = assert!(is_pointers_only::<acme_authorize_options_t>(7));
const _: () = assert!(is_pointers_only::<acme_run_options_t>(6));
