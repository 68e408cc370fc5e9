//! Obtaining or renewing a certificate of a store: read what is there, order if that is due, store the result.
//!
//! Before the CA hears of it, the key is in the store, and so is the fact that a run begins. The order's URL and
//! the published challenges are stored when they are known. After a crash at any moment, the next run
//! goes on with the same account, key and order.

use std::sync::Arc;

use super::challenge::{Challenge, ChallengeType};
use super::client::Client;
use super::exchange::Session;
use super::limits::MAX_RUNS;
use super::obtain::Issued;
use super::order_options::OrderOptions;
use super::renewal_info::RenewalInfo;
use super::stored_certificate::StoredCertificate;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, Key, KeyType};
use crate::store::certificate_record::CertificateRecord;
use crate::store::journal::Purpose;
use crate::store::schedule::Schedule;
use crate::store::{Store, names, unusable};
use crate::time::Time;

/// How to keep a certificate in the client's store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeepOptions {
    /// The order. Its key, CSR, replaced certificate and order URL come from the store, and must not be set.
    pub order: OrderOptions,
    /// The name of the certificate in the store; `None`: the first of its names.
    pub name: Option<String>,
    /// The type of the certificate's key, if the store has no key yet, or with `new_key`.
    pub key_type: KeyType,
    /// Generate a new key for each renewal.
    pub new_key: bool,
    /// Renew the certificate although its renewal is not due.
    pub renew_now: bool,
    /// Store when to renew, and the failures in a row.
    pub keep_schedule: bool,
}

impl KeepOptions {
    /// A certificate for the names of the order, with a P-256 key that stays.
    pub fn new(order: OrderOptions) -> KeepOptions {
        KeepOptions {
            order,
            name: None,
            key_type: KeyType::P256,
            new_key: false,
            renew_now: false,
            keep_schedule: false,
        }
    }

    /// Returns the name of the certificate's record.
    pub(crate) fn record_name(&self, client: &Client) -> Result<String> {
        let first = self.name.as_ref().or(self.order.names.first());
        let first = first.ok_or_else(|| Error::invalid_argument("there are no names"))?;
        let name = names::certificate(&client.options().directory_url, first);
        name.map_err(|error| Error::invalid_argument(error.to_string()))
    }

    /// Refuses options that cannot work.
    pub(super) fn check(&self, client: &Client) -> Result<(Arc<dyn Store>, String)> {
        let order = &self.order;
        if order.key.is_some()
            || order.csr.is_some()
            || order.replaces.is_some()
            || order.order_url.is_some()
        {
            let why = "key, csr, replaces and order_url come from the store: leave them out";
            return Err(Error::invalid_argument(why));
        }
        let store = client.store();
        let store = store.ok_or_else(|| Error::invalid_argument("the client has no store"))?;
        let name = self.record_name(client)?;
        order.clone().plan(client)?;
        Ok((store, name))
    }
}

/// A certificate of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kept {
    /// The certificate and its issuers.
    pub chain: CertificateChain,
    /// Its key.
    pub key: Key,
    /// When to renew; `None` after an order.
    pub not_due: Option<RenewalInfo>,
    /// Whether it is the preferred chain; `true` without a preference.
    pub preference_met: bool,
    /// Whether it is in the store; otherwise why not. Use the certificate: the next run downloads it again,
    /// without another order.
    pub stored: Result<()>,
}

impl Session {
    /// Returns the stored certificate if its renewal is not due; otherwise obtains one, and stores it.
    pub(super) async fn keep(
        mut self,
        store: Arc<dyn Store>,
        name: String,
        options: KeepOptions,
    ) -> Result<Kept> {
        let (stored, _claim) = self.open_record(&store, &name).await?;
        self.stored = Some(stored.clone());
        let outcome = self.keep_stored(&stored, &options).await;
        if options.keep_schedule {
            self.store_schedule(&stored, &outcome).await;
        }
        outcome
    }

    async fn keep_stored(
        &self,
        stored: &Arc<StoredCertificate>,
        options: &KeepOptions,
    ) -> Result<Kept> {
        let current = self.current(&stored.record(), &stored.name);
        let mut order = options.order.clone();
        order.replaces = current.as_ref().map(|(chain, _)| chain.clone());
        if let Some((chain, key)) = current.filter(|_| !options.renew_now) {
            if let Some(info) = self.not_due(&order, &chain).await? {
                Box::pin(self.end_killed_run(stored, &order, &key)).await;
                return Ok(Kept {
                    chain,
                    key,
                    not_due: Some(info),
                    preference_met: true,
                    stored: Ok(()),
                });
            }
        }
        let key = self.order_key(stored, options).await?;
        order.key = Some(key.clone());
        let journal = stored.journal(self.purpose(&order, &key))?;
        order.order_url = journal.order_url.filter(|url| {
            let is_hopeless = journal.runs >= MAX_RUNS;
            if is_hopeless {
                log::warn!(
                    "{url}: a new order takes its place, after {MAX_RUNS} runs that were killed"
                );
            }
            !is_hopeless
        });
        self.begin_run(stored).await?;
        loop {
            let resumed = order.order_url.take();
            order.order_url.clone_from(&resumed);
            let plan = order.clone().plan(&self.client)?;
            let outcome = Box::pin(self.obtain(plan)).await;
            self.remove_leftovers(stored).await;
            Box::pin(self.keep_account()).await;
            match outcome {
                Ok(issued) => {
                    match self.store_issued(stored, &key, issued, resumed.is_some()).await? {
                        Some(kept) => return Ok(kept),
                        None => order.order_url = None,
                    }
                }
                Err(error) if self.should_order_again(stored, &error, resumed.is_some()).await => {
                    log::warn!("{error}; ordering anew");
                    order.order_url = None;
                }
                Err(error) => return Err(self.reason(error).await),
            }
        }
    }

    /// The certificate in the record, if it is usable and of this CA.
    fn current(&self, record: &CertificateRecord, name: &str) -> Option<(CertificateChain, Key)> {
        let url = &self.client.options().directory_url;
        let is_ours = match &record.ca {
            Some(ca) => names::is_same_directory(ca, url),
            // An older program wrote no note: the account is a sign.
            None => self.client.account_url().is_some_and(|account| {
                account.starts_with(url.rsplit_once('/').map_or(url.as_str(), |(base, _)| base))
            }),
        };
        record.usable(name).filter(|_| is_ours)
    }

    /// Whether the certificate is for the names of the order, and its renewal is not due.
    async fn not_due(
        &self,
        order: &OrderOptions,
        chain: &CertificateChain,
    ) -> Result<Option<RenewalInfo>> {
        let plan = order.clone().plan(&self.client)?;
        self.renewal_not_due(&plan, chain).await
    }

    /// Ends a run that was killed after it had stored the certificate, or that is for other names.
    async fn end_killed_run(
        &self,
        stored: &Arc<StoredCertificate>,
        order: &OrderOptions,
        key: &Key,
    ) {
        if stored.record().order.is_none() || stored.journal(self.purpose(order, key)).is_err() {
            return;
        }
        self.remove_leftovers(stored).await;
        if let Err(error) = self.end_run(stored, true).await {
            log::warn!("{error}");
        }
    }

    /// Returns the key for the order; it is in the store.
    async fn order_key(
        &self,
        stored: &Arc<StoredCertificate>,
        options: &KeepOptions,
    ) -> Result<Key> {
        let record = stored.record();
        let parse = |pem: &str| {
            Key::parse(pem.as_bytes()).map_err(|e| unusable(&stored.name, &format!("its key: {e}")))
        };
        let is_new = options.new_key && record.chain.is_some();
        if let Some(pem) = if is_new { &record.next_key } else { &record.key } {
            return parse(pem);
        }
        let key = Key::generate(options.key_type)?;
        let pem = key.to_pem()?;
        let mut record = record;
        match is_new {
            true => record.next_key = Some(pem),
            false => record.key = Some(pem),
        }
        if record.chain.is_none() {
            record.ca = Some(self.client.options().directory_url.clone());
        }
        Box::pin(self.put_record(stored, record)).await?;
        Ok(key)
    }

    fn purpose(&self, order: &OrderOptions, key: &Key) -> Purpose {
        Purpose {
            directory_url: self.client.options().directory_url.clone(),
            account: self.client.account_key().thumbprint().to_owned(),
            key: key.thumbprint().to_owned(),
            names: order.names.iter().map(|name| names::canonical(name)).collect(),
        }
    }

    /// Stores the certificate; `None`: it is the one that a killed run had stored already, so another is needed.
    async fn store_issued(
        &self,
        stored: &Arc<StoredCertificate>,
        key: &Key,
        issued: Issued,
        was_resumed: bool,
    ) -> Result<Option<Kept>> {
        let record = stored.record();
        let known =
            record.chain.as_ref().and_then(|pem| CertificateChain::parse(pem.as_bytes()).ok());
        if was_resumed
            && known.is_some_and(|known| known.fingerprint() == issued.chain.fingerprint())
        {
            self.end_run(stored, true).await?;
            return Ok(None);
        }
        let new = CertificateRecord {
            ca: Some(self.client.options().directory_url.clone()),
            key: Some(key.to_pem()?),
            next_key: None,
            chain: Some(issued.chain.pem().to_owned()),
            order: None,
            schedule: record.schedule,
        };
        let written = Box::pin(self.put_record(stored, new)).await;
        let written = written.inspect_err(|error| log::error!("{}: {error}", stored.name));
        let (chain, key, preference_met) = (issued.chain, key.clone(), issued.preference_met);
        Ok(Some(Kept { chain, key, not_due: None, preference_met, stored: written }))
    }

    /// Ends a run that failed; returns whether to order again at once, because the order of an earlier run
    /// has failed.
    async fn should_order_again(
        &self,
        stored: &Arc<StoredCertificate>,
        error: &Error,
        was_resumed: bool,
    ) -> bool {
        let is_final = error.is_permanent()
            || matches!(
                error.kind(),
                ErrorKind::Account
                    | ErrorKind::Certificate
                    | ErrorKind::Challenge
                    | ErrorKind::Order
                    | ErrorKind::Policy
                    | ErrorKind::Protocol
            );
        let ended = self.end_run(stored, is_final).await;
        if let Err(error) = &ended {
            log::warn!("{error}");
        }
        is_final && was_resumed && !stored.has_published() && ended.is_ok()
    }

    /// Removes challenges that a killed run has left published. They stay until the end of this run: until
    /// then the CA may still be validating them.
    async fn remove_leftovers(&self, stored: &Arc<StoredCertificate>) {
        let thumbprint = self.client.account_key().thumbprint().to_owned();
        let left: Vec<Challenge> = stored
            .leftovers()
            .iter()
            .filter_map(|one| Some((ChallengeType::from_name(&one.kind)?, one)))
            .map(|(kind, one)| Challenge::left(kind, one, &thumbprint))
            .collect();
        if !left.is_empty() {
            self.io.unpublish(left.into()).await;
        }
    }

    /// Returns why a request was refused: perhaps the CA has deactivated or lost the account.
    async fn reason(&self, error: Error) -> Error {
        let problem = error.problem().and_then(|problem| problem.name());
        let may_lack_account = matches!(error.kind(), ErrorKind::Problem | ErrorKind::Server)
            && matches!(problem, None | Some("unauthorized" | "malformed" | "serverInternal"))
            && self.client.account_url().is_some();
        if !may_lack_account {
            return error;
        }
        match Box::pin(self.find_account()).await {
            Err(reason) if reason.kind() == ErrorKind::Account => reason.after(&error),
            _ => error,
        }
    }

    /// Stores when to renew or to try again.
    async fn store_schedule(&self, stored: &Arc<StoredCertificate>, outcome: &Result<Kept>) {
        let now = self.io.now();
        let old = stored.record().schedule.unwrap_or_default();
        let schedule = Some(old.following(outcome, now));
        let record = CertificateRecord { schedule, ..stored.record() };
        if let Err(error) = Box::pin(self.put_record(stored, record)).await {
            log::warn!("{}: the schedule cannot be stored: {error}", stored.name);
        }
    }
}

impl Schedule {
    /// Returns the schedule after a try with this outcome.
    pub(crate) fn following(&self, outcome: &Result<Kept>, now: Time) -> Schedule {
        match outcome {
            Ok(Kept { not_due: Some(info), .. }) => Schedule {
                renew_at: Some(info.renew_at),
                check_again_at: Some(info.check_again_at),
                ..Schedule::default()
            },
            Ok(kept) => {
                let renewals = self.renewals.saturating_add(1);
                let next = super::next_try(renewals as usize, None, Some(&kept.chain), now);
                Schedule { next_try: Some(next), renewals, ..Schedule::default() }
            }
            Err(error) => {
                let failures = self.failures.saturating_add(1);
                let next = super::next_try(failures as usize, Some(error), None, now);
                let error = Some(crate::text::printable(&error.to_string(), 1000));
                Schedule { next_try: Some(next), failures, error, ..self.clone() }
            }
        }
    }
}
