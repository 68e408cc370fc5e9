//! Several parts of one flow at the same time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use super::ca_rates::MAX_CONCURRENT;
use crate::error::Result;

/// Each request under way at once costs a nonce to be fetched, so a lane is worth it only when it
/// has a few jobs to do one after the other.
const JOBS_A_LANE: usize = 4;

/// One of them. Boxed here and not where it starts, so that this code stands in the library once for
/// each type of result and not for each kind of job.
type Job<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Runs all jobs, some at a time; gives their results in order, or the first error.
pub(crate) async fn concurrently<'a, F, T>(jobs: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'a,
    T: 'a,
{
    run(jobs.into_iter().map(|job| Box::pin(job) as Job<'a, T>).collect()).await
}

async fn run<T>(waiting: Vec<Job<'_, T>>) -> Result<Vec<T>> {
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    let lanes = waiting.len().div_ceil(JOBS_A_LANE).clamp(1, MAX_CONCURRENT as usize);
    let mut waiting = waiting.into_iter().enumerate();
    let mut running: Vec<(usize, Job<'_, T>)> = Vec::new();
    poll_fn(move |context| {
        loop {
            while running.len() < lanes {
                let Some((n, job)) = waiting.next() else { break };
                running.push((n, job));
            }
            let (before, mut failure) = (running.len(), None);
            running.retain_mut(|(n, job)| match job.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(value)) => {
                    if let Some(place) = done.get_mut(*n) {
                        *place = Some(value);
                    }
                    false
                }
                Poll::Ready(Err(error)) => {
                    failure.get_or_insert(error);
                    false
                }
            });
            if let Some(error) = failure {
                return Poll::Ready(Err(error));
            }
            if running.is_empty() && waiting.len() == 0 {
                return Poll::Ready(Ok(done.drain(..).flatten().collect()));
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}
