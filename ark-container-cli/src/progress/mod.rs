//! How far a push, pull or copy is, told to whoever is there: bars on a terminal, a line now and then
//! elsewhere, records for programs.

mod bars;
mod lines;
mod records;
mod tally;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ark_container_core::progress::{Event, Progress};
use futures_util::future::{Either, select};
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;

use self::bars::Bars;
use self::lines::Lines;
use self::records::Records;
use crate::output::{Format, Output};

/// How often what changes by itself is shown anew.
const TICK: Duration = Duration::from_millis(500);

/// Tells how far something is.
#[derive(Debug)]
pub(crate) struct Report {
    output: Output,
    teller: Mutex<Teller>,
}

#[derive(Debug)]
enum Teller {
    Silent,
    Bars(Bars),
    Lines(Lines),
    Records(Records),
}

impl Report {
    /// A report in the form that suits the output.
    pub(crate) fn new(output: Output) -> Self {
        let now = Instant::now();
        // Lines of log would tear bars apart.
        let is_logging = LevelFilter::current() > LevelFilter::WARN;
        let teller = match output.format {
            _ if output.quiet => Teller::Silent,
            Format::Json => Teller::Records(Records::new(now)),
            Format::Table if is_logging => Teller::Lines(Lines::new(now)),
            Format::Table => match Bars::new(now) {
                Some(bars) => Teller::Bars(bars),
                None => Teller::Lines(Lines::new(now)),
            },
        };
        Self { output, teller: Mutex::new(teller) }
    }

    /// Does the work, and shows meanwhile what changes by itself.
    pub(crate) async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match select(work, std::pin::pin!(sleep(TICK))).await {
                Either::Left((done, _)) => return done,
                Either::Right(((), working)) => work = working,
            }
            self.tick();
        }
    }

    fn tick(&self) {
        let now = Instant::now();
        match &mut *self.teller() {
            Teller::Bars(bars) => bars.tick(now),
            Teller::Lines(lines) => {
                if let Some(line) = lines.tick(now) {
                    self.output.progress(&line);
                }
            }
            Teller::Records(_) | Teller::Silent => {}
        }
    }

    /// Leaves a terminal as it was, and tells nothing any more.
    pub(crate) fn finish(&self) {
        let teller = std::mem::replace(&mut *self.teller(), Teller::Silent);
        if let Teller::Bars(bars) = teller {
            bars.clear();
        }
    }

    fn teller(&self) -> MutexGuard<'_, Teller> {
        // It is whole after every change, so a panic elsewhere does not spoil it.
        self.teller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Report {
    fn event(&self, event: &Event<'_>) {
        match &mut *self.teller() {
            Teller::Silent => {}
            Teller::Bars(bars) => bars.take(event),
            Teller::Lines(lines) => lines.take(event),
            Teller::Records(records) => {
                if let Some(record) = records.take(event, Instant::now()) {
                    self.output.progress_record(&record);
                }
            }
        }
    }
}
