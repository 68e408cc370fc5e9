//! Numbers of what a manager has done.

use crate::error::ErrorKind;

/// Numbers of attempts and results since the manager was created.
#[derive(Clone, Copy, Default)]
pub(super) struct Counters {
    pub attempts: u64,
    pub obtained: u64,
    pub renewed: u64,
    pub not_due: u64,
}

/// Number of failed attempts by the kind of the error.
#[derive(Default)]
pub(super) struct Failures(pub(super) Vec<(ErrorKind, u64)>);

impl Failures {
    pub(super) fn note(&mut self, kind: ErrorKind) {
        match self.0.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.0.push((kind, 1)),
        }
    }
}
