//! A program that uses the library as its documents recommend: it stores data on disk before that data is
//! needed, and waits longer after each failure.

use std::time::Duration;

use acme_micro::engine::{
    AuthorizeOptions, ChallengeType, Client, ClientOptions, Issued, Operation, OrderOptions,
    Renewal, RenewalInfo, RevocationReason,
};
use acme_micro::{AcmeError, CertificateChain, ErrorKind, Key, Time};

use super::ca::{BASE, Ca, DAY};
use super::pki;
use super::rng::Rng;

const MINUTE: i64 = 60_000;

/// A running task: at most one for each site, and one other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Certificate(usize),
    ChangeKey,
    Contacts,
    Orders,
    Authorize,
    Revoke(usize),
}

/// The outcome of a task.
pub enum Outcome {
    Issued(Box<Issued>),
    NotDue(RenewalInfo),
    Done,
}

/// A certificate that the program wants, and what it knows about it.
struct Site {
    names: Vec<String>,
    key: Key,
    order_url: Option<String>,
    chain: Option<CertificateChain>,
    failures: u32,
    /// Whether its certificate was to be revoked; the response may never have arrived.
    revocation_asked: bool,
    next: i64,
}

pub struct Program {
    // --- on its disk ---
    account_key: Key,
    /// Key that is to replace it; both are kept until the CA has confirmed one of them.
    new_key: Option<Key>,
    account_url: Option<String>,
    sites: Vec<Site>,
    // --- forgotten at the end of its process ---
    client: Option<Client>,
    busy: Vec<Task>,
    /// Time of the next task other than certificates.
    next_chore: i64,
    chore_failures: u32,
    seed: u64,
}

/// Returns the delay after this many failures in a row.
fn ladder(failures: u32) -> i64 {
    MINUTE.saturating_mul(10_i64.saturating_pow(failures)).min(DAY)
}

/// Returns the time until the next task other than certificates.
fn pause(ca: &Ca, rng: &mut Rng) -> i64 {
    rng.below(2 * ca.policy.lifetime.max(DAY) as u64) as i64
}

impl Program {
    pub fn new(number: usize, rng: &mut Rng) -> Program {
        let sites = (0..1 + rng.below(2)).map(|n| {
            let domain = format!("s{n}.p{number}.example");
            let more = ["www", "*", "mail", "a.b"];
            let more = more.iter().take(rng.below(5) as usize).map(|sub| format!("{sub}.{domain}"));
            let names = std::iter::once(domain.clone()).chain(more).collect();
            let key = pki::key(rng);
            Site {
                names,
                key,
                order_url: None,
                chain: None,
                failures: 0,
                revocation_asked: false,
                next: 0,
            }
        });
        let sites = sites.collect();
        Program {
            account_key: pki::key(rng),
            new_key: None,
            account_url: None,
            sites,
            client: None,
            busy: Vec::new(),
            next_chore: super::world::START + rng.below(30 * DAY as u64) as i64,
            chore_failures: 0,
            seed: rng.next(),
        }
    }

    /// Ends the process; the disk remains.
    pub fn restart(&mut self, rng: &mut Rng) {
        self.client = None;
        self.busy.clear();
        self.seed = rng.next();
    }

    pub fn order_url(&self, task: Task) -> Option<&str> {
        match task {
            Task::Certificate(n) => self.sites[n].order_url.as_deref(),
            _ => None,
        }
    }

    /// Whether the program has everything it wants for now.
    pub fn is_content(&self, now: i64, ca: &Ca) -> bool {
        self.new_key.is_none()
            && ca.knows(&self.account_key)
            && self.sites.iter().all(|site| {
                let chain = site.chain.as_ref();
                let current = |c: &CertificateChain| c.not_after() > Time::from_millis(now);
                let stands = |c: &CertificateChain| site.revocation_asked || !ca.is_revoked(c);
                site.order_url.is_none() && chain.is_some_and(|c| current(c) && stands(c))
            })
    }

    /// Stores on disk what the next step requires.
    pub fn note(&mut self, task: Task, operation: &Operation<Outcome>) {
        if let Task::Certificate(n) = task {
            if let Some(url) = operation.order_url() {
                self.sites[n].order_url = Some(url);
            }
        }
        if let Some(url) = self.client.as_ref().and_then(Client::account_url) {
            self.account_url = Some(url);
        }
    }

    fn client(&mut self) -> Client {
        let client = self.client.get_or_insert_with(|| {
            let url = format!("{BASE}/directory");
            let mut options = ClientOptions::new(url, self.account_key.clone());
            options.account_url = self.account_url.clone();
            options.terms_agreed = true;
            options.contacts = vec!["mailto:admin@example.org".to_owned()];
            options.seed = Some(self.seed);
            Client::new(options).unwrap()
        });
        client.clone()
    }

    /// Starts the due tasks, each with its number of names; returns the time of the next task as
    /// well.
    #[allow(clippy::type_complexity)]
    pub fn start(
        &mut self,
        now: i64,
        calm: bool,
        rng: &mut Rng,
    ) -> (Vec<(Task, Operation<Outcome>, usize)>, Option<i64>) {
        let mut started = Vec::new();
        let chore_is_due = now >= self.next_chore && !self.is_busy_with_chore();
        if self.new_key.is_some()
            || chore_is_due
                && self.busy.is_empty()
                && rng.chance(1, 3)
                && !calm
                && self.has_account()
        {
            // The program has to know which key is right before it does anything else.
            if chore_is_due && self.busy.is_empty() {
                let new = self.new_key.get_or_insert_with(|| pki::key(rng)).clone();
                let operation = self.client().change_key(&new).map(|()| Outcome::Done);
                started.push((Task::ChangeKey, operation, 0));
            }
        } else {
            if chore_is_due && !calm {
                started.push(self.chore(rng));
            }
            for n in 0..self.sites.len() {
                let busy = self.busy.contains(&Task::Certificate(n));
                if self.sites[n].next <= now && !busy {
                    // Counts as a failure until it succeeds: an end of the process is a failure,
                    // too.
                    let site = &mut self.sites[n];
                    site.next = now + ladder(site.failures);
                    site.failures += 1;
                    started.push(self.certificate(n, rng));
                }
            }
        }
        self.busy.extend(started.iter().map(|(task, _, _)| *task));
        let waiting = self.sites.iter().enumerate();
        let waiting = waiting.filter(|(n, _)| !self.busy.contains(&Task::Certificate(*n)));
        let next = waiting.map(|(_, site)| site.next).chain([self.next_chore]);
        (started, next.filter(|at| *at > now).min())
    }

    /// Whether an account is known to exist: only then can its key be changed.
    fn has_account(&self) -> bool {
        self.sites.iter().any(|site| site.chain.is_some())
    }

    fn is_busy_with_chore(&self) -> bool {
        self.busy.iter().any(|task| !matches!(task, Task::Certificate(_)))
    }

    fn certificate(&mut self, n: usize, rng: &mut Rng) -> (Task, Operation<Outcome>, usize) {
        let client = self.client();
        let site = &mut self.sites[n];
        let mut options = OrderOptions::new(site.names.iter().cloned());
        options.challenge_types = match rng.chance(1, 2) {
            true => vec![ChallengeType::Http01, ChallengeType::Dns01],
            false => vec![ChallengeType::TlsAlpn01, ChallengeType::Dns01],
        };
        options.key = Some(site.key.clone());
        options.order_url = site.order_url.clone();
        options.replaces = site.chain.clone();
        options.abandon_on_failure = false;
        options.time_limit = Duration::from_secs(600);
        let issued = |issued| Outcome::Issued(Box::new(issued));
        // A running order is finished, whatever the CA reports about the previous certificate.
        let operation = match site.chain.is_some() && site.order_url.is_none() {
            true => client.renew(options).unwrap().map(move |renewal| match renewal {
                Renewal::NotDue(info) => Outcome::NotDue(info),
                Renewal::Renewed(new) => issued(new),
            }),
            false => client.obtain(options).unwrap().map(issued),
        };
        (Task::Certificate(n), operation, site.names.len())
    }

    fn chore(&mut self, rng: &mut Rng) -> (Task, Operation<Outcome>, usize) {
        let client = self.client();
        let n = rng.below(self.sites.len() as u64) as usize;
        let site = &mut self.sites[n];
        let done = |()| Outcome::Done;
        match (rng.below(5), &site.chain) {
            (0, Some(chain)) => {
                site.revocation_asked = true;
                let by_its_key = rng.chance(1, 2).then_some(&site.key);
                let reason = RevocationReason::Superseded;
                let operation = client.revoke(chain, reason, by_its_key).unwrap();
                (Task::Revoke(n), operation.map(done), 0)
            }
            (1, _) => {
                let contact = format!("mailto:admin{}@example.org", rng.below(10));
                (Task::Contacts, client.update_contacts(vec![contact]).unwrap().map(done), 0)
            }
            (2, _) => (Task::Orders, client.orders().map(|_| Outcome::Done), 0),
            _ => {
                let names = site.names.iter().filter(|name| !name.starts_with('*')).cloned();
                let options = AuthorizeOptions::new(names);
                let operation = client.authorize(options).unwrap();
                (Task::Authorize, operation.map(|_| Outcome::Done), site.names.len())
            }
        }
    }

    /// Handles the outcome of a task.
    pub fn finish(
        &mut self,
        task: Task,
        outcome: Result<Outcome, AcmeError>,
        now: i64,
        ca: &mut Ca,
        rng: &mut Rng,
    ) {
        self.busy.retain(|busy| *busy != task);
        // The program obeys the CA for a day at most: a false Retry-After of a month would let
        // thousands of short certificates expire.
        let later = |failures: u32, error: &AcmeError| {
            let asked = error.retry_at().map_or(0, |at| at.as_millis());
            (now + ladder(failures)).max(asked.min(now + DAY))
        };
        match (task, outcome) {
            (Task::Certificate(n), Ok(Outcome::Issued(issued))) => {
                let site = &mut self.sites[n];
                let order = ca.order_of(&issued.order_url).expect("the order's URL");
                let order = &mut ca.orders[order];
                let chain = &issued.chain;
                assert_eq!(order.issued.as_ref().map(|c| c.ders()), Some(chain.ders()));
                let leaf = openssl::x509::X509::from_der(&chain.ders()[0]).unwrap();
                assert!(leaf.public_key().unwrap().public_eq(site.key.public_key()));
                let (mut named, mut asked) = (chain.names().to_vec(), site.names.clone());
                named.sort();
                asked.sort();
                assert_eq!(named, asked, "a certificate for other names");
                order.delivered = true;
                site.chain = Some(issued.chain.clone());
                site.revocation_asked = false;
                site.order_url = None;
                site.failures = 0;
                let left = issued.chain.not_after().as_millis() - now;
                site.next = now + (left / 4).clamp(1, 6 * 60 * MINUTE);
            }
            (Task::Certificate(n), Ok(Outcome::NotDue(info))) => {
                let site = &mut self.sites[n];
                let at = info.check_again_at.min(info.renew_at).as_millis();
                assert!(at > now, "not due, and to be checked at once: {info:?}");
                // Some programs ask later than they could.
                let chain = site.chain.as_ref().expect("the certificate before");
                let left = (chain.not_after().as_millis() - now).max(1);
                site.next = at.max(now + rng.below(left as u64 / 3 + 1) as i64);
                site.failures = 0;
            }
            (Task::Certificate(n), Err(error)) => {
                let site = &mut self.sites[n];
                site.next = later(site.failures - 1, &error);
            }
            (Task::ChangeKey, Ok(_)) => {
                self.account_key = self.new_key.take().expect("a new key");
                assert!(ca.knows(&self.account_key), "the CA does not know the new key");
                self.next_chore = now + pause(ca, rng);
                self.chore_failures = 0;
            }
            (Task::Revoke(n), Ok(_)) => {
                // The response 200 may not have come from the CA. The program cannot find out, and
                // orders a new certificate.
                let site = &mut self.sites[n];
                site.chain = None;
                site.next = now;
                self.next_chore = now + pause(ca, rng);
                self.chore_failures = 0;
            }
            (_, Ok(_)) => {
                self.next_chore = now + pause(ca, rng);
                self.chore_failures = 0;
            }
            (Task::ChangeKey, Err(error)) if error.kind() == ErrorKind::Unsupported => {
                self.new_key = None;
                self.next_chore = now + pause(ca, rng);
            }
            (_, Err(error)) => {
                self.next_chore = later(self.chore_failures, &error);
                self.chore_failures += 1;
            }
        }
    }
}
