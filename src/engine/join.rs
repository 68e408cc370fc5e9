//! Runs several parts of one flow at the same time.
//!
//! There is no async runtime: the parts are futures that the flow's own future polls, some at a time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use super::limits::{JOBS_PER_LANE, MAX_CONCURRENT};
use crate::error::Result;

/// A part of a flow. It is boxed here and not by the caller, so that the compiler makes this code once
/// for each type of result, not once for each kind of job.
type Job<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Runs all jobs, a limited number at a time. Returns their results in order, or the first error.
pub(crate) async fn join_bounded<'a, F, T>(jobs: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'a,
    T: 'a,
{
    run(jobs.into_iter().map(|job| Box::pin(job) as Job<'a, T>).collect()).await
}

async fn run<T>(waiting: Vec<Job<'_, T>>) -> Result<Vec<T>> {
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    let lanes = waiting.len().div_ceil(JOBS_PER_LANE).clamp(1, MAX_CONCURRENT as usize);
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
                    if let Some(slot) = done.get_mut(*n) {
                        *slot = Some(value);
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
