//! Futures that are dropped wherever they wait: what is left is whole or not there, and the same again
//! succeeds.

mod ecr;
mod local;
mod place;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Up to so many polls, a future is dropped after each; beyond that, more and more are left out.
const EACH: usize = 60;

/// Drops a future after so many polls; `None` if it was not done by then.
pub(crate) async fn within<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    let bounded = poll_fn(|context| {
        let Some(fewer) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = fewer;
        future.as_mut().poll(context).map(Some)
    });
    bounded.await
}

/// How many polls a future is given, one time after the other.
fn polls() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(0), |polls| Some(polls + 1 + polls / EACH))
}
