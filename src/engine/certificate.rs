//! Downloading the certificate, checking it, and choosing among several chains.
//!
//! RFC 8555 section 7.4.2.

use std::time::Duration;

use log::warn;

use super::exchange::{Call, Identity, Session};
use super::order_options::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, ChainPreference};
use crate::time::{self, Time};

/// Looks at a certificate's URL that is not there, and the time between them.
const MAX_LOOKS: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Alternate chains looked at.
const MAX_ALTERNATES: usize = 8;

impl Session {
    /// The certificate, checked, in the chain that is preferred if the CA has it; and whether that
    /// is so.
    pub(super) async fn certificate(
        &self,
        plan: &Plan,
        url: &str,
        account: &str,
    ) -> Result<(CertificateChain, bool)> {
        let (chain, alternates, now) = self.download(url, account).await?;
        self.check(plan, &chain, now).map_err(|e| e.doing("checking the certificate").at(url))?;
        let Some(preference) = &plan.chain else { return Ok((chain, true)) };
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
        Ok(choose(preference, chains))
    }

    async fn alternate(&self, plan: &Plan, url: &str, account: &str) -> Result<CertificateChain> {
        let (chain, _, now) = self.download(url, account).await?;
        self.check(plan, &chain, now)
            .map_err(|e| e.doing("checking an alternate chain").at(url))?;
        Ok(chain)
    }

    /// A chain, the URLs of others for the same certificate, and the time.
    pub(super) async fn download(
        &self,
        url: &str,
        account: &str,
    ) -> Result<(CertificateChain, Vec<String>, Time)> {
        self.io.enter("certificate");
        let call = Call { doing: "downloading the certificate", url, repeatable: true };
        let mut looks = 1;
        let response = loop {
            match self.post(&call, Identity::Account(account), b"").await {
                // Not all of the CA's machines know it yet.
                Err(e) if e.http_status() == Some(404) && looks < MAX_LOOKS => {
                    looks += 1;
                    self.io.sleep(LOOK_AGAIN).await.map_err(|ended| ended.after(&e))?;
                }
                outcome => break outcome?,
            }
        };
        let chain = CertificateChain::parse(&response.body)
            .map_err(|e| e.with_kind(ErrorKind::Certificate).doing(call.doing).at(url))?;
        let alternates = response.headers.links("alternate", MAX_ALTERNATES);
        let base = self.client.policy().check(url)?;
        let alternates = alternates.into_iter().map(|link| base.join(link)).collect();
        // The CA's own clock: a wrong one here must not throw a good certificate away.
        let date = response.headers.last("date").and_then(time::http_date);
        Ok((chain, alternates, date.unwrap_or_else(|| self.io.now())))
    }

    /// Only what was asked for is handed over.
    fn check(&self, plan: &Plan, chain: &CertificateChain, now: Time) -> Result<()> {
        if !chain.is_for(plan.request.public_key()) {
            let why = "the CA issued a certificate for a key that is not ours";
            return Err(Error::new(ErrorKind::Certificate, why));
        }
        let named = plan.claim.identifiers.iter().filter(|id| !id.is_of_device());
        let names: Vec<String> = named.map(|id| id.value.clone()).collect();
        chain.verify(&names, now)
    }
}

/// The first chain that is as preferred, else the CA's own choice, which comes first.
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
