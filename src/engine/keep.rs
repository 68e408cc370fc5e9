//! Obtaining or renewing a certificate of a store: read what is there, order if that is due, store the result.
//!
//! Before the CA hears of it, the key is in the store, and so is the fact that a run begins. The order's URL and
//! the published challenges are stored when they are known. After a crash at any moment, the next run
//! goes on with the same account, key and order.

use std::sync::Arc;

use super::ca_limits::{self, CaLimit};
use super::challenge::{Challenge, ChallengeType};
use super::client::Client;
use super::exchange::Session;
use super::limits::MAX_RUNS;
use super::next_try::next_try;
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
    /// Order unless the certificate in the store was issued after this time: another CA has issued the one in
    /// use.
    pub(crate) newer_than: Option<Time>,
    /// Number of failures in a row that the store may not know, because it has failed, too.
    pub(crate) failures: u32,
    /// Forget the failures that the store knows.
    pub(crate) forget_failures: bool,
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
            newer_than: None,
            failures: 0,
            forget_failures: false,
        }
    }

    /// Returns the name of the certificate's record.
    pub(crate) fn record_name(&self, client: &Client) -> Result<String> {
        let first = self.name.as_ref().or(self.order.names.first());
        let first = first.ok_or_else(|| Error::invalid_argument("there are no names"))?;
        let name = names::certificate(&client.options().directory_url, first);
        name.map_err(|error| Error::invalid_argument(error.to_string()))
    }

    /// Everything but the names, as a text.
    pub(crate) fn template_text(&self) -> String {
        let (key, new_key, order) = (self.key_type as u8, self.new_key, &self.order);
        let (staple, timeout) = (order.must_staple, order.timeout.as_secs());
        let name = self.name.as_deref().unwrap_or_default();
        format!("{key} {new_key} {staple} {timeout} {} {name}", order.to_transcript().end())
    }

    /// Refuses options that cannot work.
    pub(crate) fn check(&self, client: &Client) -> Result<(Arc<dyn Store>, String)> {
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
        order.clone().identifiers(client)?;
        Ok((store, self.record_name(client)?))
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
        Box::pin(self.load_account()).await?;
        let (stored, _claim) = self.open_record(&store, &name).await?;
        self.stored = Some(stored.clone());
        Box::pin(self.keep_stored(&stored, &options)).await
    }

    async fn keep_stored(
        &self,
        stored: &Arc<StoredCertificate>,
        options: &KeepOptions,
    ) -> Result<Kept> {
        let current = self.current(&stored.record(), &stored.name);
        let key = current.as_ref().and_then(|(_, key)| key.to_pem().ok());
        let was_ending = key.is_some() && stored.record().next_key == key;
        if was_ending {
            // A store that keeps them apart was stopped between the chain and the key: this run ends that renewal.
            let record = CertificateRecord { key, next_key: None, ..stored.record() };
            Box::pin(self.put_record(stored, record)).await?;
        }
        let mut order = Box::new(options.order.clone());
        order.replaces = current.as_ref().map(|(chain, _)| chain.clone());
        let is_enough = |(chain, _): &(CertificateChain, Key)| {
            (!options.renew_now || stored.is_fresh || was_ending)
                && options.newer_than.is_none_or(|time| chain.not_before() > time)
        };
        if let Some((chain, key)) = current.filter(is_enough) {
            if let Some(info) = self.not_due(&order, &chain).await? {
                Box::pin(self.end_killed_run(stored, options, &order, &key)).await;
                Box::pin(self.keep_account()).await; // the folder of an older program has no note of the CA
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
            let resumed = order.order_url.clone();
            let mut this_try = (*order).clone();
            if resumed.is_some() && options.renew_now {
                // A killed run may have stored the certificate of this order already.
                this_try.replaces = None;
            }
            let plan = this_try.plan(&self.client)?;
            let outcome = Box::pin(self.obtain(plan)).await.map(Box::new);
            self.remove_leftovers(stored, options).await;
            Box::pin(self.keep_account()).await;
            match outcome {
                Ok(issued) => {
                    if resumed.is_none() || !self.is_of_no_use(stored, &issued, options) {
                        return Box::pin(self.store_issued(stored, &key, *issued)).await;
                    }
                    self.end_run(stored, true).await?;
                    order.order_url = None;
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
        let identifiers = order.clone().identifiers(&self.client)?;
        self.renewal_not_due(&identifiers.ordered, chain).await
    }

    /// Ends a run that was killed after it had stored the certificate, or that is for other names.
    async fn end_killed_run(
        &self,
        stored: &Arc<StoredCertificate>,
        options: &KeepOptions,
        order: &OrderOptions,
        key: &Key,
    ) {
        if stored.record().order.is_none() || stored.journal(self.purpose(order, key)).is_err() {
            return;
        }
        self.remove_leftovers(stored, options).await;
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

    /// Whether the certificate of a resumed order is no renewal: its order was interrupted long ago, or it is
    /// the stored certificate, whose renewal is due.
    fn is_of_no_use(
        &self,
        stored: &Arc<StoredCertificate>,
        issued: &Issued,
        options: &KeepOptions,
    ) -> bool {
        let chain = stored.record().chain;
        let known = chain.and_then(|pem| CertificateChain::parse(pem.as_bytes()).ok());
        let is_stored =
            known.is_some_and(|known| known.fingerprint() == issued.chain.fingerprint());
        let now = self.io.now();
        is_stored && !options.renew_now || RenewalInfo::by_lifetime(&issued.chain, now).is_due(now)
    }

    /// Stores the certificate.
    async fn store_issued(
        &self,
        stored: &Arc<StoredCertificate>,
        key: &Key,
        issued: Issued,
    ) -> Result<Kept> {
        let new = CertificateRecord {
            ca: Some(self.client.options().directory_url.clone()),
            key: Some(key.to_pem()?),
            next_key: None,
            chain: Some(issued.chain.pem().to_owned()),
            order: None,
            schedule: stored.record().schedule,
        };
        let written = Box::pin(self.put_record(stored, new)).await;
        let written = written.inspect_err(|error| log::error!("{}: {error}", stored.name));
        let (chain, key, preference_met) = (issued.chain, key.clone(), issued.preference_met);
        Ok(Kept { chain, key, not_due: None, preference_met, stored: written })
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
    /// then the CA may still be validating them. The program may know only the types of its order.
    async fn remove_leftovers(&self, stored: &Arc<StoredCertificate>, options: &KeepOptions) {
        let thumbprint = self.client.account_key().thumbprint().to_owned();
        let order = &options.order;
        let is_known = |kind: &ChallengeType| {
            order.challenge_types.contains(kind)
                || order.challenge_by_name.iter().any(|(_, known)| known == kind)
        };
        let left: Vec<Challenge> = stored
            .leftovers()
            .iter()
            .filter_map(|one| Some((ChallengeType::from_name(&one.kind).filter(is_known)?, one)))
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

    /// Keeps a certificate, and stores when to renew it or to try again.
    pub(super) async fn keep_tried(
        mut self,
        store: Arc<dyn Store>,
        name: String,
        options: KeepOptions,
    ) -> Result<Tried> {
        Box::pin(self.load_account()).await?;
        let (stored, _claim) = self.open_record(&store, &name).await?;
        self.stored = Some(stored.clone());
        let outcome = Box::pin(self.keep_stored(&stored, &options)).await;
        if let Err(error) = &outcome {
            if error.kind() == ErrorKind::Canceled {
                return Err(error.clone()); // not a failure: the next run goes on with the order
            }
        }
        let old = stored.record();
        let duplicates = ca_limits::of_host(self.client.directory_host()).map(|of| of.duplicates);
        let mut schedule = old.schedule.clone().unwrap_or_default();
        schedule.issued.retain(|at| *at <= self.io.now()); // the clock may have been ahead
        schedule.failures = match options.forget_failures {
            true => options.failures,
            false => schedule.failures.max(options.failures),
        };
        // Only a failure needs it, and reading the key again would be half of the work of a check.
        let current = outcome.as_ref().err().and_then(|_| old.usable(&name));
        let current = current.as_ref().map(|(chain, _)| chain);
        schedule.follow(&outcome, current, duplicates, self.io.now());
        if let Ok(kept) = &outcome {
            schedule.not_before = Some(kept.chain.not_before());
            schedule.not_after = Some(kept.chain.not_after());
            schedule.names = Some(names::digest(kept.chain.names().iter().map(String::as_str)));
        }
        let record = CertificateRecord { schedule: Some(schedule.clone()), ..old };
        if let Err(error) = Box::pin(self.put_record(&stored, record)).await {
            log::warn!("{name}: the schedule cannot be stored: {error}");
        }
        Ok(Tried { outcome, schedule })
    }
}

/// The result of an attempt to keep a certificate fresh.
#[derive(Debug)]
pub struct Tried {
    /// The certificate, or why the attempt failed.
    pub outcome: Result<Kept>,
    pub(crate) schedule: Schedule,
}

impl Schedule {
    /// Takes in the outcome of an attempt. `current` is the certificate in use, if it failed.
    fn follow(
        &mut self,
        outcome: &Result<Kept>,
        current: Option<&CertificateChain>,
        duplicates: Option<CaLimit>,
        now: Time,
    ) {
        match outcome {
            Ok(Kept { not_due: Some(info), .. }) => {
                let issued = std::mem::take(&mut self.issued);
                *self = Schedule {
                    renew_at: Some(info.renew_at),
                    check_again_at: Some(info.check_again_at),
                    issued,
                    ..Schedule::default()
                };
            }
            Ok(kept) => {
                self.note_issued(now);
                let renewals = self.renewals.saturating_add(1);
                let mut next = next_try(renewals as usize, None, Some(&kept.chain), now);
                if let Some(limit) = duplicates {
                    let recent = self.issued.iter().filter(|at| now.since(**at) < limit.within);
                    let recent: Vec<&Time> = recent.collect();
                    if let Some(oldest) = recent.first().filter(|_| recent.len() >= limit.share()) {
                        next = next.max(oldest.after(limit.within));
                    }
                }
                let issued = std::mem::take(&mut self.issued);
                *self = Schedule { next_try: Some(next), renewals, issued, ..Schedule::default() };
            }
            Err(error) => self.follow_failure(error, current, now),
        }
    }

    /// Takes in a failure.
    pub(crate) fn follow_failure(
        &mut self,
        error: &Error,
        current: Option<&CertificateChain>,
        now: Time,
    ) {
        self.failures = self.failures.saturating_add(1);
        self.next_try = Some(next_try(self.failures as usize, Some(error), current, now));
        self.error = Some(crate::text::printable(&error.to_string(), 1000));
    }
}
