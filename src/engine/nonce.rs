//! The unused nonces that a CA has issued.
//!
//! RFC 8555 section 6.5. A nonce that is taken never comes back to the pool, so none is sent twice.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::limits::{MAX_NONCE_AGE, MAX_NONCES};
use crate::time::Time;

/// A pool of nonces of one CA, shared by all operations of a client.
#[derive(Default)]
pub(super) struct NoncePool(Mutex<Vec<(String, Time)>>);

impl NoncePool {
    fn nonces(&self) -> MutexGuard<'_, Vec<(String, Time)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the newest nonce.
    pub(super) fn take(&self, now: Time) -> Option<String> {
        let mut nonces = self.nonces();
        nonces.retain(|(_, came)| now.since(*came) <= MAX_NONCE_AGE);
        nonces.pop().map(|(nonce, _)| nonce)
    }

    pub(super) fn put(&self, nonce: &str, now: Time) {
        let mut nonces = self.nonces();
        if nonces.len() == MAX_NONCES {
            nonces.remove(0);
        }
        nonces.push((nonce.to_owned(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n11_the_newest_first_never_twice_never_old_never_many() {
        let pool = NoncePool::default();
        let at = |seconds: i64| Time::from_millis(seconds * 1000);
        for n in 0..1_000_000 {
            pool.put("one of very many", at(0));
            if n % 1000 == 0 {
                assert!(pool.nonces().len() <= MAX_NONCES);
            }
        }
        assert!(pool.nonces().capacity() <= MAX_NONCES);
        for n in 0..100 {
            pool.put(&format!("n{n}"), at(n));
        }
        assert_eq!(pool.take(at(100)).as_deref(), Some("n99"));
        assert_eq!(pool.take(at(100)).as_deref(), Some("n98"));
        let left = std::iter::from_fn(|| pool.take(at(100))).count();
        assert_eq!(left, MAX_NONCES - 2);
        pool.put("old", at(0));
        assert_eq!(pool.take(at(301)), None);
    }

    #[test]
    fn n14_threads_that_draw_at_once_get_each_nonce_once() {
        let pool = NoncePool::default();
        let now = Time::from_millis(0);
        let drawn: Vec<String> = std::thread::scope(|scope| {
            let draw = |thread: usize| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut drawn = Vec::new();
                    for n in 0..2000 {
                        pool.put(&format!("{thread}-{n}"), now);
                        drawn.extend(pool.take(now));
                        drawn.extend((n % 3 == 0).then(|| pool.take(now)).flatten());
                    }
                    drawn
                })
            };
            let threads: Vec<_> = (0..8).map(draw).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let distinct: std::collections::HashSet<&String> = drawn.iter().collect();
        assert_eq!(distinct.len(), drawn.len(), "a nonce was drawn twice");
        assert!(drawn.len() > 8000, "{} were drawn", drawn.len());
    }
}
