//! When to renew a certificate. RFC 9773; without it, by the certificate's lifetime.

use std::time::Duration;

use openssl::sha::Sha256;

use super::exchange::{Call, Session};
use super::limits::{CHECK_AGAIN, MAX_CHECK_AGAIN, MIN_CHECK_AGAIN};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::CertificateChain;
use crate::resource;
use crate::resource::renewal_info::{self as resources, Window};
use crate::text::printable;
use crate::time::Time;

/// Maximum lifetime of a certificate that is renewed at half of its lifetime. Others are renewed at two
/// thirds.
const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 3600);

/// When to renew a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// Start of the window to renew in.
    pub window_start: Time,
    /// End of that window. A window in the past means: renew now.
    pub window_end: Time,
    /// This certificate's time in the window. It stays the same while the window does. The times of many
    /// certificates are spread evenly.
    pub renew_at: Time,
    /// Time to fetch the renewal information again: the CA may move the window, even into the past.
    pub check_again_at: Time,
    /// URL of a page that explains the window, for example by an incident. Untrusted text.
    pub explanation_url: Option<String>,
    /// Whether the window is the CA's. If not, it is computed from the certificate's lifetime.
    pub from_ca: bool,
}

impl RenewalInfo {
    /// Whether the renewal is due.
    pub fn is_due(&self, now: Time) -> bool {
        now >= self.renew_at
    }

    /// Computes the window from the certificate's lifetime: after two thirds of it, or after half of a
    /// short one.
    pub fn by_lifetime(chain: &CertificateChain, now: Time) -> RenewalInfo {
        let lifetime = chain.not_after().since(chain.not_before());
        let wait = if lifetime < SHORT_LIVED { lifetime / 2 } else { lifetime / 3 * 2 };
        let start = chain.not_before().after(wait);
        let window = Window { start, end: start.after(lifetime / 50) };
        RenewalInfo::within(window, chain, now.after(CHECK_AGAIN), None, false)
    }

    fn within(
        window: Window,
        chain: &CertificateChain,
        check_again_at: Time,
        explanation_url: Option<String>,
        from_ca: bool,
    ) -> RenewalInfo {
        let lifetime = chain.not_after().since(chain.not_before());
        // Never in the last tenth of the certificate's lifetime, even if the CA's window is there.
        let latest = chain.not_before().after(lifetime - lifetime / 10);
        RenewalInfo {
            renew_at: moment_in(&window, &chain.fingerprint()).min(latest),
            window_start: window.start,
            window_end: window.end,
            check_again_at,
            explanation_url,
            from_ca,
        }
    }
}

/// A time in the window, "uniformly random" (RFC 9773 section 4.2), but always the same for one
/// certificate and one window.
fn moment_in(window: &Window, fingerprint: &[u8; 32]) -> Time {
    let mut hash = Sha256::new();
    hash.update(fingerprint);
    hash.update(&window.start.as_millis().to_be_bytes());
    hash.update(&window.end.as_millis().to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = hash.finish();
    let length = u64::try_from(window.end.since(window.start).as_millis()).unwrap_or(u64::MAX);
    let part = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % length.max(1);
    window.start.after(Duration::from_millis(part))
}

impl Session {
    /// Returns when to renew `chain`. Without information from the CA, the chain's lifetime decides:
    /// missing information never stops a renewal.
    pub(crate) async fn renewal_info(&self, chain: &CertificateChain) -> Result<RenewalInfo> {
        match self.fetch_renewal_info(chain).await {
            Ok(info) => Ok(info),
            Err(error) if matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Timeout) => {
                Err(error)
            }
            Err(error) => {
                // A CA without renewal information is normal, so that is no warning.
                let level = match error.kind() {
                    ErrorKind::Unsupported => log::Level::Info,
                    _ => log::Level::Warn,
                };
                log::log!(level, "renewal by the certificate's lifetime: {error}");
                Ok(RenewalInfo::by_lifetime(chain, self.io.now()))
            }
        }
    }

    /// Fetches renewalInfo by an unsigned GET (RFC 9773 section 4.1).
    async fn fetch_renewal_info(&self, chain: &CertificateChain) -> Result<RenewalInfo> {
        let directory = self.directory().await?;
        let unsupported = |why: &str| Error::new(ErrorKind::Unsupported, why);
        let base = directory.renewal_info.as_deref();
        let base = base.ok_or_else(|| unsupported("this CA has no renewal information"))?;
        let id = chain.renewal_id();
        let id =
            id.ok_or_else(|| unsupported("the certificate has no authority key identifier"))?;
        self.io.set_state("renewal-info");
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let call = Call { doing: "asking for renewal information", url: &url, repeatable: true };
        let in_context = |e: Error| e.doing(call.doing).at(call.url);
        let url = self.client.policy().check(call.url).map_err(in_context)?;
        let response = self.get(&call, url).await?;
        let info: resources::RenewalInfo =
            resource::parse("renewal information", &response.body).map_err(in_context)?;
        let delay = self.retry_after(&response).unwrap_or(CHECK_AGAIN);
        let check_again = delay.clamp(MIN_CHECK_AGAIN, MAX_CHECK_AGAIN);
        Ok(RenewalInfo::within(
            info.window,
            chain,
            self.io.now().after(check_again),
            info.explanation_url.map(|url| printable(&url, 1024)),
            true,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r07_r13_the_moment_is_inside_the_window_and_the_same_each_time() {
        let window = Window { start: Time::from_millis(1000), end: Time::from_millis(1_000_000) };
        let mut moments: Vec<Time> = (0..100).map(|n| moment_in(&window, &[n; 32])).collect();
        assert_eq!(moments[7], moment_in(&window, &[7; 32]));
        assert!(moments.iter().all(|moment| window.start <= *moment && *moment < window.end));
        moments.sort();
        moments.dedup();
        assert!(moments.len() > 90, "the certificates are not spread");
    }

    #[test]
    fn r13_ten_thousand_certificates_that_are_due_at_once_are_spread_evenly() {
        let (hour, hours) = (3_600_000, 48);
        let window = Window { start: Time::from_millis(0), end: Time::from_millis(hour * hours) };
        let mut moments: Vec<i64> = (0..10_000u32)
            .map(|n| moment_in(&window, &crate::pki::sha256(&n.to_be_bytes())).as_millis())
            .collect();
        moments.sort_unstable();
        let busiest = moments.chunk_by(|a, b| a / 1000 == b / 1000).map(<[i64]>::len).max();
        assert!(busiest < Some(6), "{busiest:?} in one second");
        for of in moments.chunk_by(|a, b| a / hour == b / hour) {
            assert!((140..280).contains(&of.len()), "{} in one hour of 208 on average", of.len());
        }
    }
}
