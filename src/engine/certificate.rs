//! Downloading the certificate, checking it, and choosing one of several chains.
//!
//! RFC 8555 section 7.4.2.

use log::warn;

use super::exchange::{Call, Identity, Session};
use super::limits::{
    DOWNLOAD_DELAY, MAX_ALTERNATES, MAX_CLOCK_DIFFERENCE, MAX_DOWNLOADS, MAX_ISSUERS,
};
use super::order_options::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, ChainPreference};
use crate::text::printable;
use crate::time::{self, Time};

/// A downloaded chain, and the header fields about it.
pub(crate) struct Download {
    pub chain: CertificateChain,
    /// The URLs of other chains for the same certificate.
    alternates: Vec<String>,
    /// The URL of the issuer's certificate.
    up: Option<String>,
    /// The CA's time. A wrong clock here must not reject a good certificate.
    pub now: Time,
}

impl Session {
    /// Downloads and checks the certificate. Returns the preferred chain if the CA has it, and whether
    /// the CA has it.
    pub(super) async fn certificate(
        &self,
        plan: &Plan,
        url: &str,
        account: &str,
    ) -> Result<(CertificateChain, bool)> {
        let Download { chain, alternates, now, .. } = self.download(url, account).await?;
        self.check(plan, &chain, now).map_err(|e| e.doing("checking the certificate").at(url))?;
        let Some(preference) = &plan.options.preferred_chain else { return Ok((chain, true)) };
        let mut chains = vec![chain];
        for alternate in &alternates {
            if chains.last().is_some_and(|chain| preference.is_met_by(chain)) {
                break;
            }
            match self.alternate(plan, alternate, account).await {
                Ok(chain) => chains.push(chain),
                Err(e) if matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Timeout) => {
                    return Err(e);
                }
                Err(error) => warn!("leaving out an alternate chain: {error}"),
            }
        }
        let (chain, is_met) = choose(preference, chains);
        if !is_met {
            warn!("none of the CA's chains has {preference:?}: its own choice stays");
        }
        Ok((chain, is_met))
    }

    async fn alternate(&self, plan: &Plan, url: &str, account: &str) -> Result<CertificateChain> {
        let Download { chain, now, .. } = self.download(url, account).await?;
        self.check(plan, &chain, now)
            .map_err(|e| e.doing("checking an alternate chain").at(url))?;
        Ok(chain)
    }

    /// Downloads a chain. A leaf without its issuers is completed by following links to them: many TLS
    /// clients do not accept a leaf alone.
    pub(crate) async fn download(&self, url: &str, account: &str) -> Result<Download> {
        self.io.set_state("certificate");
        let mut found = self.download_one(url, account).await?;
        if found.chain.ders().len() > 1 || found.chain.ends_in_root() {
            return Ok(found);
        }
        let (mut next, mut seen) = (found.up.take(), vec![url.to_owned()]);
        while let Some(link) = next.take() {
            if seen.contains(&link) || seen.len() > MAX_ISSUERS {
                break;
            }
            let issuers = self.download_one(&link, account).await;
            let longer = issuers.and_then(|issuers| {
                next = issuers.up;
                found.chain.followed_by(&issuers.chain)
            });
            match longer {
                Ok(chain) => found.chain = chain,
                Err(e) if matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Timeout) => {
                    return Err(e);
                }
                Err(error) => {
                    warn!("leaving out the issuer's certificate: {error}");
                    break;
                }
            }
            seen.push(link);
        }
        if found.chain.ders().len() == 1 {
            warn!("the certificate at {} comes without its issuer's", printable(url, 500));
        }
        Ok(found)
    }

    async fn download_one(&self, url: &str, account: &str) -> Result<Download> {
        let call = Call { doing: "downloading the certificate", url, repeatable: true };
        let mut downloads = 1;
        let response = loop {
            let not_there = match self.post(&call, Identity::Account(account), b"").await {
                // CA quirk (several): some of its servers do not have a new certificate yet. They respond
                // with 403 or 404, or with an empty body.
                Err(e)
                    if matches!(e.http_status(), Some(403 | 404)) && downloads < MAX_DOWNLOADS =>
                {
                    Some(e)
                }
                Ok(response)
                    if response.body.trim_ascii().is_empty() && downloads < MAX_DOWNLOADS =>
                {
                    None
                }
                outcome => break outcome?,
            };
            downloads += 1;
            let ended = |ended: Error| match &not_there {
                Some(error) => ended.after(error),
                None => ended,
            };
            self.io.sleep(DOWNLOAD_DELAY).await.map_err(ended)?;
        };
        let in_context = |e: Error| e.with_kind(ErrorKind::Certificate).doing(call.doing).at(url);
        let known = self.client.issuers();
        let chain = CertificateChain::parse_issued(&response.body, known).map_err(|error| {
            in_context(match response.headers.last("content-type") {
                Some(shown) => error.noting(&format!("it is shown as {}", printable(shown, 80))),
                None => error,
            })
        })?;
        let base = self.client.policy().check(url)?;
        let links = |relation, max| {
            let links = response.headers.links(relation, max).into_iter();
            let mut urls: Vec<String> = Vec::new();
            for link in links.map(|link| base.join(link)) {
                if link != url && !urls.contains(&link) {
                    urls.push(link);
                }
            }
            urls
        };
        let date = response.headers.last("date").and_then(time::http_date);
        Ok(Download {
            chain,
            alternates: links("alternate", MAX_ALTERNATES),
            up: links("up", 1).pop(),
            now: date.unwrap_or_else(|| self.io.now()),
        })
    }

    /// Checks that the certificate is the requested one. `now` is the CA's time, if its response has it.
    fn check(&self, plan: &Plan, chain: &CertificateChain, now: Time) -> Result<()> {
        let named = plan.identifiers.ordered.iter().filter(|id| !id.is_of_device());
        let names: Vec<String> = named.map(|id| id.value.clone()).collect();
        let ours = self.io.now();
        let is_skewed = now.since(ours).max(ours.since(now)) > MAX_CLOCK_DIFFERENCE;
        let clocks = || format!("by the CA's clock; here it is {ours}: check the clocks");
        chain.verify(plan.request.requested_key(), &names, now).map_err(|error| {
            match is_skewed && !chain.is_valid_at(now) {
                true => error.because(&clocks()),
                false => error,
            }
        })?;
        let Some(old) = &plan.options.replaces else { return Ok(()) };
        if chain.fingerprint() == old.fingerprint() {
            let why = "the CA gave out the very certificate that is to be replaced";
            return Err(Error::new(ErrorKind::Certificate, why));
        }
        if chain.not_after() < old.not_after() {
            let (new, old) = (chain.not_after(), old.not_after());
            warn!("the new certificate expires at {new}, before the one it replaces: {old}");
        }
        Ok(())
    }
}

/// Chooses the first chain that meets the preference, otherwise the CA's own choice, which comes first.
fn choose(
    preference: &ChainPreference,
    mut chains: Vec<CertificateChain>,
) -> (CertificateChain, bool) {
    let best = match preference {
        ChainPreference::Smallest => {
            let size = |(_, chain): &(usize, &CertificateChain)| chain.pem().len();
            chains.iter().enumerate().min_by_key(size).map(|(n, _)| n)
        }
        _ => chains.iter().position(|chain| preference.is_met_by(chain)),
    };
    (chains.swap_remove(best.unwrap_or(0)), best.is_some())
}
