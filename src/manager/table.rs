//! The certificates of a manager: what each is, and its next moment.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use super::by_hash::ByHash;
use crate::engine::KeepOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::store::names::canonical;
use crate::time::Time;

/// The state of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its record has not been read.
    New,
    Loading,
    /// Its moment has not come.
    Idle,
    /// The program is asked whether it still wants this certificate.
    Asking,
    Queued,
    Working,
    /// Given up.
    Stopped,
}

/// A warning about the end of a certificate's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Warning {
    None,
    Expiring,
    Expired,
}

/// The change that [`Table::add`] has made.
pub(super) enum Difference {
    New,
    Options,
    Nothing,
}

/// A certificate.
pub(super) struct Entry {
    /// The options without the names. Certificates with the same options share them.
    template: Arc<KeepOptions>,
    /// The names in the certificate, one a line: one allocation instead of two.
    names: Box<str>,
    /// Distinguishes this certificate from an earlier one of the same number.
    pub generation: u16,
    pub state: State,
    /// The program wants another certificate although that is not due.
    pub renew_now: bool,
    /// The options have changed since the last attempt began.
    pub is_changed: bool,
    /// Clients have asked for it: the program is asked before each renewal.
    pub on_demand: bool,
    /// The next attempt forgets the failures before it.
    pub forgets: bool,
    /// Number of failures in a row.
    pub failures: u8,
    /// The CA that has issued the certificate in use.
    pub issuer: u8,
    /// The CA to which the next order goes first, if it is not the preferred one.
    pub next_ca: u8,
    /// The last warning about its end.
    pub warned: Warning,
    /// The error of the last attempt, if it failed.
    pub error: Option<Error>,
    /// Lifetime of the certificate in minutes.
    lifetime: u32,
    /// End of the validity; 0: there is no certificate.
    pub not_after: Time,
    /// The moment of the renewal, as the CA has proposed it; 0: not known.
    pub renew_at: Time,
    /// The moment at which something is to be done.
    pub due: Time,
}

impl Entry {
    /// The name of the certificate in the store.
    pub(super) fn name(&self) -> &str {
        let first = self.names.lines().next().unwrap_or_default();
        self.template.name.as_deref().unwrap_or(first)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.lines()
    }

    /// Whether there is a certificate.
    pub(super) fn has_certificate(&self) -> bool {
        self.not_after != Time::default()
    }

    /// The lifetime of the certificate; 0: not known.
    pub(super) fn lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.lifetime) * 60)
    }

    /// When the certificate was issued, if that is known; never earlier than it was.
    pub(super) fn not_before(&self) -> Time {
        let lifetime = i64::from(self.lifetime) * 60_000;
        Time::from_millis(self.not_after.as_millis().saturating_sub(lifetime))
    }

    /// Takes in the certificate in use.
    pub(super) fn set_certificate(&mut self, issuer: u8, not_before: Time, not_after: Time) {
        (self.issuer, self.not_after, self.warned) = (issuer, not_after, Warning::None);
        let is_known = not_before != Time::default();
        let minutes = if is_known { not_after.since(not_before).as_secs() / 60 } else { 0 };
        self.lifetime = u32::try_from(minutes).unwrap_or(u32::MAX);
    }

    pub(super) fn options(&self) -> KeepOptions {
        let mut options = (*self.template).clone();
        options.order.names = self.names().map(str::to_owned).collect();
        options
    }
}

/// Number of places of a name in [`Table::by_name`]: two names can have the same hash.
const PLACES: u64 = 8;

#[derive(Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// The certificate of each name, by the name's hash: the name in the store, and the names in it. Of two
    /// certificates for the same name, the first one counts.
    by_name: ByHash,
    hashing: RandomState,
    len: usize,
    /// The template of the certificate that was added last, and its text for comparing.
    last_template: Option<(String, Arc<KeepOptions>)>,
    generation: u16,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    /// The certificate of this number, if it is the one of this generation.
    pub(super) fn current(&mut self, id: u32, generation: u16) -> Option<&mut Entry> {
        self.get_mut(id).filter(|entry| entry.generation == generation)
    }

    /// Returns the certificate with this name in the store.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let name = canonical(name);
        self.places(&name)
            .filter_map(|place| self.by_name.get(&place).copied())
            .find(|id| self.get(*id).is_some_and(|entry| canonical(entry.name()) == name))
    }

    /// Returns a certificate for this name, which is canonical.
    pub(super) fn find_for(&self, name: &str) -> Option<u32> {
        self.places(name).filter_map(|place| self.by_name.get(&place).copied()).find(|id| {
            self.get(*id).is_some_and(|entry| entry.names().any(|known| canonical(known) == name))
        })
    }

    fn places(&self, name: &str) -> impl Iterator<Item = u64> + use<> {
        let hash = self.hashing.hash_one(name);
        (0..PLACES).map(move |n| hash.wrapping_add(n))
    }

    fn index(&mut self, name: &str, id: u32) {
        for place in self.places(name) {
            match self.by_name.get(&place) {
                Some(_) => {}
                None => {
                    self.by_name.insert(place, id);
                    return;
                }
            }
        }
    }

    pub(super) fn ids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// Adds a certificate, or changes its options; returns its number, and what is different.
    pub(super) fn add(&mut self, mut options: KeepOptions) -> Result<(u32, Difference)> {
        let names = std::mem::take(&mut options.order.names).join("\n").into_boxed_str();
        let template = self.template(options);
        let first = names.lines().next().unwrap_or_default();
        let name = canonical(template.name.as_deref().unwrap_or(first));
        if let Some(id) = self.find(&name) {
            let is_same = |entry: &Entry| {
                entry.names == names && entry.template.template_text() == template.template_text()
            };
            if self.get(id).is_some_and(is_same) {
                return Ok((id, Difference::Nothing));
            }
            self.unindex(id);
            if let Some(entry) = self.get_mut(id) {
                (entry.template, entry.names) = (template, names);
                (entry.is_changed, entry.forgets, entry.failures) = (true, true, 0);
                entry.next_ca = 0;
            }
            self.index_all(id);
            return Ok((id, Difference::Options));
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            template,
            names,
            generation: self.generation,
            state: State::New,
            renew_now: false,
            is_changed: false,
            on_demand: false,
            forgets: false,
            failures: 0,
            issuer: 0,
            next_ca: 0,
            warned: Warning::None,
            error: None,
            lifetime: 0,
            not_after: Time::default(),
            renew_at: Time::default(),
            due: Time::default(),
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let too_many = || Error::new(ErrorKind::Host, "too many certificates");
                let id = u32::try_from(self.entries.len()).map_err(|_| too_many())?;
                if self.entries.len() == self.entries.capacity() {
                    // A vector that doubles would have room for many certificates that never come.
                    self.entries.reserve_exact(self.entries.len() / 8 + 16);
                }
                self.entries.push(None);
                id
            }
        };
        if let Some(place) = self.entries.get_mut(id as usize) {
            *place = Some(entry);
            self.len += 1;
        }
        self.index_all(id);
        Ok((id, Difference::New))
    }

    pub(super) fn remove(&mut self, id: u32) {
        self.unindex(id);
        if self.entries.get_mut(id as usize).and_then(Option::take).is_some() {
            self.len -= 1;
            self.free.push(id);
        }
    }

    /// The names by which a certificate is found: its name in the store first.
    fn index_names(&self, id: u32) -> Vec<String> {
        let Some(entry) = self.get(id) else { return Vec::new() };
        let mut names = vec![canonical(entry.name())];
        names.extend(entry.names().map(canonical).filter(|name| *name != canonical(entry.name())));
        names
    }

    fn index_all(&mut self, id: u32) {
        for name in self.index_names(id) {
            self.index(&name, id);
        }
    }

    fn unindex(&mut self, id: u32) {
        for name in self.index_names(id) {
            for place in self.places(&name) {
                if self.by_name.get(&place) == Some(&id) {
                    self.by_name.remove(&place);
                }
            }
        }
    }

    fn template(&mut self, options: KeepOptions) -> Arc<KeepOptions> {
        let text = options.template_text();
        match &self.last_template {
            Some((known, template)) if *known == text => template.clone(),
            _ => {
                let template = Arc::new(options);
                self.last_template = Some((text, template.clone()));
                template
            }
        }
    }
}
