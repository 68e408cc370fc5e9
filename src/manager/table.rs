//! The certificates of a manager: what each is, and its next moment.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::KeepOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::CertificateChain;
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

/// A certificate.
pub(super) struct Entry {
    /// The options without the names. Certificates with the same options share them.
    template: Arc<KeepOptions>,
    names: Box<[Box<str>]>,
    /// Distinguishes this certificate from an earlier one of the same number.
    pub generation: u32,
    pub state: State,
    pub renew_now: bool,
    /// Number of failures in a row.
    pub failures: u16,
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

    /// Whether the certificate is for the same names.
    pub(super) fn is_for_names_of(&self, chain: &CertificateChain) -> bool {
        let mut ours: Vec<String> = self.names().map(canonical).collect();
        let mut theirs: Vec<String> = chain.names().iter().map(|name| canonical(name)).collect();
        for names in [&mut ours, &mut theirs] {
            names.sort_unstable();
            names.dedup();
        }
        ours == theirs
    }

    pub(super) fn options(&self) -> KeepOptions {
        let mut options = (*self.template).clone();
        options.order.names = self.names().map(str::to_owned).collect();
        options
    }
}

#[derive(Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// The number of each certificate, by its name.
    by_name: HashMap<Box<str>, u32>,
    /// The template of the certificate that was added last, and its text for comparing.
    last_template: Option<(String, Arc<KeepOptions>)>,
    generation: u32,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    /// The certificate of this number, if it is the one of this generation.
    pub(super) fn current(&mut self, id: u32, generation: u32) -> Option<&mut Entry> {
        self.get_mut(id).filter(|entry| entry.generation == generation)
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(canonical(name).as_str()).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// Adds a certificate, or changes its options; returns its number, and whether it is new.
    pub(super) fn add(&mut self, mut options: KeepOptions) -> Result<(u32, bool)> {
        let names = std::mem::take(&mut options.order.names);
        let names: Box<[Box<str>]> = names.into_iter().map(String::into_boxed_str).collect();
        let template = self.template(options);
        let first = names.first().map_or("", |name| name);
        let name = canonical(template.name.as_deref().unwrap_or(first));
        if let Some(id) = self.find(&name) {
            if let Some(entry) = self.get_mut(id) {
                (entry.template, entry.names) = (template, names);
                return Ok((id, false));
            }
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            template,
            names,
            generation: self.generation,
            state: State::New,
            renew_now: false,
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
        }
        self.by_name.insert(name.into_boxed_str(), id);
        Ok((id, true))
    }

    pub(super) fn remove(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize).and_then(Option::take) {
            self.by_name.remove(canonical(entry.name()).as_str());
            self.free.push(id);
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
