//! Views of an operation for C during a step: structs of borrowed pointers, with the memory that
//! they point to.

use std::ffi::CString;
use std::ptr::null;
use std::sync::Arc;

use super::convert::{c_text, pointer_to};
use super::types::{
    acme_challenge_t, acme_header_t, acme_http_request_t, acme_renewal_info_t, acme_sign_request_t,
};
use crate::engine::{Challenge, RenewalInfo, Request, ToSign};

/// A request as C sees it.
pub(super) struct RequestView {
    pub(super) c: acme_http_request_t,
    _headers: Vec<acme_header_t>,
    _texts: Vec<CString>,
    _request: Arc<Request>,
}

// SAFETY: the pointers lead to memory that the struct itself owns and never changes.
unsafe impl Send for RequestView {}

impl RequestView {
    pub(super) fn new(request: &Arc<Request>) -> RequestView {
        let mut texts = Vec::new();
        let mut keep = |text: &str| {
            let text = c_text(text);
            let pointer = text.as_ptr();
            texts.push(text);
            pointer
        };
        let headers: Vec<acme_header_t> = request
            .headers
            .iter()
            .map(|(name, value)| acme_header_t { name: keep(name), value: keep(value) })
            .collect();
        let c = acme_http_request_t {
            id: request.id,
            method: keep(request.method.as_str()),
            url: keep(request.url()),
            host: keep(request.host()),
            path: keep(&request.path()),
            port: request.port(),
            // A request has only a few header fields.
            header_count: u16::try_from(headers.len()).unwrap_or(0),
            headers: headers.as_ptr(),
            body: request.body.as_ptr(),
            body_size: request.body.len(),
        };
        RequestView { c, _headers: headers, _texts: texts, _request: request.clone() }
    }
}

/// A signature to make, as C sees it.
pub(super) struct SignRequestView {
    pub(super) c: acme_sign_request_t,
    _texts: [CString; 2],
    _to_sign: Arc<ToSign>,
}

// SAFETY: as for RequestView.
unsafe impl Send for SignRequestView {}

impl SignRequestView {
    pub(super) fn new(to_sign: &Arc<ToSign>) -> SignRequestView {
        let texts = [c_text(to_sign.key.thumbprint()), c_text(to_sign.algorithm())];
        let [thumbprint, algorithm] = &texts;
        let c = acme_sign_request_t {
            id: to_sign.id,
            key_thumbprint: thumbprint.as_ptr(),
            algorithm: algorithm.as_ptr(),
            input: to_sign.input.as_ptr(),
            input_size: to_sign.input.len(),
        };
        SignRequestView { c, _texts: texts, _to_sign: to_sign.clone() }
    }
}

/// Renewal information as C sees it.
pub(super) struct RenewalInfoView {
    pub(super) c: acme_renewal_info_t,
    _explanation_url: Option<CString>,
}

// SAFETY: as for RequestView.
unsafe impl Send for RenewalInfoView {}

impl RenewalInfoView {
    pub(super) fn new(info: &RenewalInfo) -> RenewalInfoView {
        let explanation_url = info.explanation_url.as_ref().map(c_text);
        let c = acme_renewal_info_t {
            window_start: info.window_start.as_millis(),
            window_end: info.window_end.as_millis(),
            renew_at: info.renew_at.as_millis(),
            check_again_at: info.check_again_at.as_millis(),
            explanation_url: pointer_to(explanation_url.as_ref()),
            from_ca: info.from_ca.into(),
        };
        RenewalInfoView { c, _explanation_url: explanation_url }
    }
}

/// A challenge as C sees it. Members that its type does not use are NULL.
pub(super) struct ChallengeView {
    pub(super) c: acme_challenge_t,
    pub(super) texts: Vec<CString>,
    _digest: Box<[u8; 32]>,
}

// SAFETY: as for RequestView.
unsafe impl Send for ChallengeView {}

impl ChallengeView {
    pub(super) fn new(challenge: &Challenge) -> ChallengeView {
        let mut texts = Vec::new();
        let mut keep = |text: &str| {
            let text = c_text(text);
            let pointer = text.as_ptr();
            texts.push(text);
            pointer
        };
        let digest = Box::new(challenge.digest());
        let has_token = !challenge.token().is_empty();
        let mut c = acme_challenge_t {
            r#type: keep(challenge.kind().as_str()),
            identifier: keep(challenge.identifier()),
            token: if has_token { keep(challenge.token()) } else { null() },
            key_authorization: if has_token { keep(challenge.key_authorization()) } else { null() },
            http_path: challenge.http_path().map_or(null(), |path| keep(&path)),
            dns_name: challenge.dns_name().map_or(null(), &mut keep),
            dns_value: challenge.dns_value().map_or(null(), &mut keep),
            tls_alpn_digest: null(),
            tls_alpn_name: challenge.tls_server_name().map_or(null(), |name| keep(&name)),
            json: challenge.json().map_or(null(), &mut keep),
            persistent: challenge.is_persistent().into(),
        };
        if challenge.kind().is_tls_certificate() {
            c.tls_alpn_digest = digest.as_ptr();
        }
        ChallengeView { c, texts, _digest: digest }
    }
}
