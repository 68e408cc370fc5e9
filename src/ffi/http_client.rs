//! The built-in HTTP client and the driver, if they are compiled in; else stand-ins that refuse.

#[cfg(all(feature = "http", unix))]
pub(super) use crate::driver::{Driver, Event};
#[cfg(not(all(feature = "http", unix)))]
pub(super) use no_driver::{Driver, Event};

use std::ffi::c_int;
use std::sync::Arc;

#[cfg(feature = "http")]
use std::time::Duration;

#[cfg(feature = "http")]
use super::convert::optional_text;
use super::outcome::Outcome;
#[cfg(all(feature = "http", unix))]
use super::signals::spawn_without_signals;
use super::types::acme_client_options_t;
use crate::engine::{Operation, Reply, Request};
use crate::error::{Error, Result};
#[cfg(feature = "http")]
use crate::transport::{HttpClient, HttpOptions, IpVersion};

/// Maximum timeout of one request in seconds. ACME's messages are small and need less.
#[cfg(feature = "http")]
const LONGEST_TIMEOUT_S: u64 = 3600;

#[derive(Clone)]
pub(super) struct BuiltInHttp {
    #[cfg(feature = "http")]
    http: HttpClient,
}

#[cfg(feature = "http")]
impl BuiltInHttp {
    pub(super) fn new(given: &acme_client_options_t) -> Result<BuiltInHttp> {
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
            request_timeout: timeout(given.request_timeout_s)?,
        };
        Ok(BuiltInHttp { http: HttpClient::new(&options)? })
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
        Ok(0) => Ok(HttpOptions::default().request_timeout),
        Ok(seconds @ 1..=LONGEST_TIMEOUT_S) => Ok(Duration::from_secs(seconds)),
        _ => {
            let why = format!("request_timeout_s is {seconds}, more than {LONGEST_TIMEOUT_S}");
            Err(Error::invalid_argument(why))
        }
    }
}

#[cfg(not(feature = "http"))]
impl BuiltInHttp {
    pub(super) fn new(given: &acme_client_options_t) -> Result<BuiltInHttp> {
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
            false => Ok(BuiltInHttp {}),
            true => Err(without_http()),
        }
    }

    pub(super) fn send(&self, _: &Request, _: &Reply<'_>) -> Result<()> {
        Err(without_http())
    }
}

#[cfg(all(feature = "http", unix))]
impl BuiltInHttp {
    /// Adds an operation to a driver, which connects as this client does.
    pub(super) fn add_to<P: Clone>(
        &self,
        driver: &mut Driver<P>,
        operation: &Arc<Operation<Outcome>>,
        payload: P,
    ) -> Result<()> {
        driver.add(operation.clone(), &self.http, payload)
    }
}

/// Creates a driver with these limits (0: the default), and returns it with its descriptor.
#[cfg(all(feature = "http", unix))]
pub(super) fn new_driver<P: Clone>(
    max_threads: usize,
    max_requests_per_ca: usize,
) -> Result<(Driver<P>, c_int)> {
    use std::os::fd::{AsFd, AsRawFd};
    let mut options = crate::driver::DriverOptions::default();
    if max_threads > 0 {
        options.max_threads = max_threads;
    }
    if max_requests_per_ca > 0 {
        options.max_requests_per_ca = max_requests_per_ca;
    }
    let driver = Driver::with_threads(&options, spawn_without_signals, crate::driver::LINGER)?;
    let fd = driver.as_fd().as_raw_fd();
    Ok((driver, fd))
}

#[cfg(not(all(feature = "http", unix)))]
impl BuiltInHttp {
    pub(super) fn add_to<P>(
        &self,
        driver: &mut Driver<P>,
        _: &Arc<Operation<Outcome>>,
        _: P,
    ) -> Result<()> {
        match driver.0 {}
    }
}

#[cfg(not(all(feature = "http", unix)))]
pub(super) fn new_driver<P>(_: usize, _: usize) -> Result<(Driver<P>, c_int)> {
    Err(without_http())
}

#[cfg(not(all(feature = "http", unix)))]
mod no_driver {
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::engine::{Challenge, ToSign};
    use crate::error::Result;

    /// A driver that cannot exist.
    pub struct Driver<P>(pub(super) Infallible, PhantomData<P>);

    /// An event that cannot happen.
    #[allow(dead_code)]
    pub enum Event {
        Publish(Arc<[Challenge]>),
        Unpublish(Arc<[Challenge]>),
        Sign(Arc<ToSign>),
        Done(Result<()>),
    }

    impl<P> Driver<P> {
        pub(in crate::ffi) fn next_event(&mut self) -> Option<(P, Event)> {
            match self.0 {}
        }

        pub(in crate::ffi) fn len(&self) -> usize {
            match self.0 {}
        }

        pub(in crate::ffi) fn is_empty(&self) -> bool {
            match self.0 {}
        }

        pub(in crate::ffi) fn cancel_all(&self) {
            match self.0 {}
        }

        pub(in crate::ffi) fn set_alarm(&mut self, _: Option<Duration>) -> Result<()> {
            match self.0 {}
        }

        pub(in crate::ffi) fn call(&self, _: Box<dyn FnOnce() + Send>) {
            match self.0 {}
        }

        pub(in crate::ffi) fn notifier(&self) -> Box<dyn Fn() + Send + Sync> {
            match self.0 {}
        }
    }
}

#[cfg(not(all(feature = "http", unix)))]
fn without_http() -> Error {
    let why = "this library was built without an HTTP client";
    Error::new(crate::error::ErrorKind::Unsupported, why)
}
