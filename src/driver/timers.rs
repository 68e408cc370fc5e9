//! The times at which to poll operations again: a heap with the earliest time on top.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::slab::Key;

/// Times, each with its operation. A time cannot be removed: at that time, the caller checks
/// whether it still matters.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Key)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Instant, key: Key) {
        self.0.push(Reverse((at, key)));
    }

    pub(super) fn earliest(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out the earliest time, if it has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Instant, Key)> {
        let due = self.earliest().is_some_and(|at| at <= now);
        if due { self.0.pop().map(|Reverse(timer)| timer) } else { None }
    }

    /// Removes times that no longer matter, once they outnumber the others.
    pub(super) fn tidy(&mut self, operations: usize, matters: impl Fn(Instant, Key) -> bool) {
        if self.0.len() > 64 + 2 * operations {
            self.0.retain(|Reverse((at, key))| matters(*at, *key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::slab::Slab;

    #[test]
    fn times_come_in_order_and_never_early() {
        let mut slab = Slab::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        let keys: Vec<Key> = (0..100).map(|_| slab.insert(|_| ()).unwrap()).collect();
        for (n, key) in keys.iter().enumerate() {
            timers.set(at(n as u64 * 37 % 100), *key);
        }
        for second in 0..100 {
            assert_eq!(timers.earliest(), Some(at(second)));
            let just_before = at(second) - Duration::from_nanos(1);
            assert_eq!(timers.take_due(just_before), None);
            let (time, key) = timers.take_due(at(second)).unwrap();
            assert_eq!(time, at(second));
            assert_eq!(keys.iter().position(|k| *k == key).unwrap() as u64 * 37 % 100, second);
        }
        assert_eq!((timers.earliest(), timers.take_due(at(1000))), (None, None));
    }

    #[test]
    fn what_no_longer_matters_does_not_pile_up() {
        let mut slab = Slab::new();
        let key = slab.insert(|_| ()).unwrap();
        let start = Instant::now();
        let mut timers = Timers::default();
        for n in 0..10_000 {
            timers.set(start + Duration::from_millis(n), key);
            timers.tidy(1, |at, _| at == start);
            assert!(timers.0.len() <= 67);
        }
        assert_eq!(timers.earliest(), Some(start));
    }
}
