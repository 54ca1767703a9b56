//! [`Pace`]: so many requests in a second, and no more.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

const WINDOW: Duration = Duration::from_secs(1);

/// Lets a number of requests through in any second. The first ones do not wait.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    /// When the latest ones were let through.
    latest: Mutex<VecDeque<Instant>>,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        Self { most, latest: Mutex::default() }
    }

    /// Waits for its turn, in the order of coming.
    pub(super) async fn turn(&self) {
        let mut latest = self.latest.lock().await;
        if latest.len() >= self.most
            && let Some(oldest) = latest.pop_front()
        {
            sleep_until(oldest + WINDOW).await;
        }
        latest.push_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_it_should() {
        let (pace, started) = (Pace::new(10), Instant::now());
        let mut turns = Vec::new();
        for _ in 0..25 {
            pace.turn().await;
            turns.push(started.elapsed());
        }
        assert_eq!(turns[9], Duration::ZERO);
        assert_eq!((turns[10], turns[19]), (WINDOW, WINDOW));
        assert_eq!((turns[20], turns[24]), (2 * WINDOW, 2 * WINDOW));
    }
}
