//! The certificates of a manager: what each is, and its next moment.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

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
    Queued,
    Working,
    /// Given up.
    Stopped,
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
    names: Box<[Box<str>]>,
    /// Distinguishes this certificate from an earlier one of the same number.
    pub generation: u16,
    pub state: State,
    /// The program wants another certificate although that is not due.
    pub renew_now: bool,
    /// The options have changed since the last attempt began.
    pub is_changed: bool,
    /// The next attempt forgets the failures before it.
    pub forgets: bool,
    /// Number of failures in a row.
    pub failures: u8,
    /// End of the validity; 0: there is no certificate.
    pub not_after: Time,
    /// The moment at which something is to be done.
    pub due: Time,
}

impl Entry {
    /// The name of the certificate in the store.
    pub(super) fn name(&self) -> &str {
        let first = self.names.first().map_or("", |name| name);
        self.template.name.as_deref().unwrap_or(first)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
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
        let names = std::mem::take(&mut options.order.names);
        let names: Box<[Box<str>]> = names.into_iter().map(String::into_boxed_str).collect();
        let template = self.template(options);
        let first = names.first().map_or("", |name| name);
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
            forgets: false,
            failures: 0,
            not_after: Time::default(),
            due: Time::default(),
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let too_many = || Error::new(ErrorKind::Host, "too many certificates");
                let id = u32::try_from(self.entries.len()).map_err(|_| too_many())?;
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
