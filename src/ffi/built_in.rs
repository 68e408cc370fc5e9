//! The built-in HTTP client, where it is compiled in, and the options that it is made from.

#[cfg(feature = "http")]
use std::time::Duration;

#[cfg(feature = "http")]
use super::boundary::optional_text;
use super::options::acme_client_options_t;
use crate::engine::{Reply, Request};
use crate::error::{Error, Result};
#[cfg(feature = "http")]
use crate::http::{HttpClient, HttpOptions, IpVersion};

/// What ACME sends and gets is small: who needs longer has another problem.
#[cfg(feature = "http")]
const LONGEST_TIMEOUT_S: u64 = 3600;

#[derive(Clone)]
pub(super) struct BuiltIn {
    #[cfg(feature = "http")]
    http: HttpClient,
}

#[cfg(feature = "http")]
impl BuiltIn {
    pub(super) fn new(given: &acme_client_options_t) -> Result<BuiltIn> {
        let path = |text, name| optional_text(text, name).map(|text| text.map(Into::into));
        let options = HttpOptions {
            ca_file: path(given.ca_file, "ca_file")?,
            ca_dir: path(given.ca_dir, "ca_dir")?,
            extra_ca_file: path(given.extra_ca_file, "extra_ca_file")?,
            client_cert_file: path(given.client_cert_file, "client_cert_file")?,
            client_key_file: path(given.client_key_file, "client_key_file")?,
            proxy: optional_text(given.proxy, "proxy")?.map(str::to_owned),
            proxy_from_env: false,
            ip_version: ip_version(given.ip_version)?,
            timeout: timeout(given.request_timeout_s)?,
        };
        Ok(BuiltIn { http: HttpClient::new(&options)? })
    }

    pub(super) fn send(&self, request: &Request, reply: &Reply<'_>) -> Result<()> {
        self.http.feed(request, reply)
    }
}

#[cfg(feature = "http")]
fn ip_version(given: usize) -> Result<IpVersion> {
    match given {
        0 => Ok(IpVersion::Any),
        4 => Ok(IpVersion::V4),
        6 => Ok(IpVersion::V6),
        _ => {
            Err(Error::invalid_argument(format!("ip_version is {given}, which is none of 0, 4, 6")))
        }
    }
}

#[cfg(feature = "http")]
fn timeout(seconds: usize) -> Result<Duration> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(HttpOptions::default().timeout),
        Ok(seconds @ 1..=LONGEST_TIMEOUT_S) => Ok(Duration::from_secs(seconds)),
        _ => {
            let why = format!("request_timeout_s is {seconds}, more than {LONGEST_TIMEOUT_S}");
            Err(Error::invalid_argument(why))
        }
    }
}

#[cfg(not(feature = "http"))]
impl BuiltIn {
    pub(super) fn new(given: &acme_client_options_t) -> Result<BuiltIn> {
        let texts = [
            given.ca_file,
            given.ca_dir,
            given.extra_ca_file,
            given.client_cert_file,
            given.client_key_file,
            given.proxy,
        ];
        let asked = texts.iter().any(|text| !text.is_null());
        match asked || given.ip_version != 0 || given.request_timeout_s != 0 {
            false => Ok(BuiltIn {}),
            true => Err(without_http()),
        }
    }

    pub(super) fn send(&self, _: &Request, _: &Reply<'_>) -> Result<()> {
        Err(without_http())
    }
}

#[cfg(not(feature = "http"))]
fn without_http() -> Error {
    let why = "this library was built without an HTTP client";
    Error::new(crate::error::ErrorKind::Unsupported, why)
}
