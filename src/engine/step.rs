//! The steps of an operation: requests, signatures and challenges that its host carries out.

use std::sync::Arc;
use std::time::Duration;

use super::challenge::Challenge;
use super::store_access::StoreAccess;
use crate::pki::Key;
use crate::url::Url;

/// The HTTP methods of ACME requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// For the directory and for nonces.
    Get,
    /// For everything else (RFC 8555 section 6.2).
    Post,
}

impl Method {
    /// `"GET"` or `"POST"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }
}

/// An HTTP request for the host to send.
#[derive(Debug)]
pub struct Request {
    /// The id by which the response is fed in; unique in an operation.
    pub id: u64,
    /// GET or POST.
    pub method: Method,
    pub(crate) url: Url,
    /// Header fields to send in addition to `Host` and `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    /// Empty for GET.
    pub body: Vec<u8>,
}

impl Request {
    /// The absolute URL: send it byte for byte, the signature covers it.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The URL's host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.url.host()
    }

    /// The URL's port.
    pub fn port(&self) -> u16 {
        self.url.port()
    }

    /// The URL's path and query, at least `/`.
    pub fn path(&self) -> String {
        self.url.path()
    }
}

/// Bytes to sign with a key that is outside the process ([`Key::external`]).
#[derive(Debug)]
pub struct ToSign {
    /// The id by which the signature is fed in; unique in an operation.
    pub id: u64,
    /// The key; only its public half is here.
    pub key: Key,
    /// The bytes to sign with the key's own algorithm ([`ToSign::algorithm`]), not hashed yet.
    pub input: Vec<u8>,
}

impl ToSign {
    /// The algorithm's name in JOSE (RFC 7518 section 3.1): `"ES256"` is ECDSA on P-256 with
    /// SHA-256, `"RS256"` is RSASSA-PKCS1-v1_5 with SHA-256.
    pub fn algorithm(&self) -> &'static str {
        self.key.kind().algorithm()
    }
}

/// The next task of the host. Every step except [`Step::Wait`] is returned once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send this request and feed the response in with
    /// [`Operation::reply`](super::Operation::reply). More requests may come before the response.
    Request(Arc<Request>),
    /// Sign this with a key that is outside the process, and feed the signature in with
    /// [`Operation::signed`](super::Operation::signed).
    Sign(Arc<ToSign>),
    /// Nothing to do for this long; `None`: until a response comes in. Polling earlier is harmless.
    Wait(Option<Duration>),
    /// Publish all of these, then call [`Operation::published`](super::Operation::published).
    Publish(Arc<[Challenge]>),
    /// Remove the same challenges and poll again. Comes before success and before failure.
    Unpublish(Arc<[Challenge]>),
    /// Call [`StoreAccess::perform`], on any thread, and poll again. Only operations of a client with a
    /// [`Store`](crate::store::Store) have this step.
    Store(Arc<StoreAccess>),
    /// The operation has succeeded: [`Operation::take`](super::Operation::take) has the result.
    Done,
}
