//! One access of an operation to its store, for the host to perform: it may block.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{Claim, Store, Versioned};

/// An access to a record.
pub(super) enum Action {
    Claim,
    Get,
    /// Write this value in place of this version; `None`: remove the record.
    Put(u64, Option<Zeroizing<Vec<u8>>>),
}

/// The result of an action.
pub(super) enum Answer {
    Claim(Option<Claim>),
    Record(Option<Versioned>),
    Version(u64),
}

/// An access to the store of an operation's client.
pub struct StoreAccess {
    wake: Box<dyn Fn() + Send + Sync>,
    store: Arc<dyn Store>,
    record: String,
    state: Mutex<State>,
}

enum State {
    Waiting(Action),
    Performing,
    Ended(Result<Answer>),
    Taken,
}

impl StoreAccess {
    /// `wake` is called when it has ended.
    pub(super) fn new(
        store: Arc<dyn Store>,
        record: &str,
        action: Action,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> StoreAccess {
        let state = Mutex::new(State::Waiting(action));
        StoreAccess { wake: Box::new(wake), store, record: record.to_owned(), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or writes a record. Blocks as long as the store does. A second call has no effect.
    pub fn perform(&self) {
        let mut state = self.state();
        if !matches!(*state, State::Waiting(_)) {
            return;
        }
        let State::Waiting(action) = std::mem::replace(&mut *state, State::Performing) else {
            return;
        };
        drop(state);
        let performing = Performing(self);
        let answer = match action {
            Action::Claim => self.store.claim(&self.record).map(Answer::Claim),
            Action::Get => self.store.get(&self.record).map(Answer::Record),
            Action::Put(expected, value) => {
                let value = value.as_ref().map(|value| value.as_slice());
                self.store.put(&self.record, expected, value).map(Answer::Version)
            }
        };
        *self.state() = State::Ended(answer);
        drop(performing);
    }

    /// Ends it without an access.
    #[cfg(all(feature = "http", unix))]
    pub(crate) fn fail(&self, why: &str) {
        *self.state() = State::Ended(Err(Error::new(ErrorKind::Store, why)));
        (self.wake)();
    }

    pub(super) fn take(&self) -> Option<Result<Answer>> {
        let mut state = self.state();
        if !matches!(*state, State::Ended(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ended(answer) => Some(answer),
            _ => None,
        }
    }
}

/// Reports the end of an access, also while a panic of the store unwinds.
struct Performing<'a>(&'a StoreAccess);

impl Drop for Performing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(*state, State::Performing) {
            *state = State::Ended(Err(Error::new(ErrorKind::Panic, "the store ended in a bug")));
        }
        drop(state);
        (self.0.wake)();
    }
}

impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreAccess({})", self.record)
    }
}
