//! Progress of a push, pull or copy: bars on a terminal, a line every few seconds elsewhere, or JSON records.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ark_container_core::model::{Digest, Reference};
use ark_container_core::transfer::{BlobState, Event, Progress};
use futures_util::future::{Either, select};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;

use crate::output::{Format, Output, human_size, human_time};

/// Interval at which speed and remaining time are redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of the lines if standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum interval of the records about the bytes of one blob.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// Period over which the speed is measured: long enough to be steady, short enough to be current.
const SPEED_PERIOD: Duration = Duration::from_secs(5);

/// Maximum number of bars. If an image has more blobs, only blobs in transfer have a bar.
const MAX_BARS: usize = 12;
/// Number of digits of a digest that distinguish the blobs of an image.
const SHORT_DIGEST_LEN: usize = 12;
const MOVING_BAR: &str = "{prefix} {msg:<11} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}";
const RESTING_BAR: &str = "{prefix} {msg:<11} {decimal_total_bytes}";
const TOTAL_BAR: &str = "{msg}";

/// Reports the progress of one transfer.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) output: Output,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tally: Tally,
    display: Display,
}

/// The display of the progress.
#[derive(Debug)]
enum Display {
    Silent,
    Bars(Bars),
    /// Lines, and the time of the next line.
    Lines(Instant),
    /// Records, and the time of the last record about the bytes of each blob.
    Records(HashMap<Digest, Instant>),
}

impl Report {
    /// Creates a report with the display that suits the output.
    pub(crate) fn new(output: Output) -> Self {
        let now = Instant::now();
        // Lines of the log would break the bars.
        let is_logging = LevelFilter::current() > LevelFilter::WARN;
        let display = match output.format {
            _ if output.quiet => Display::Silent,
            Format::Json => Display::Records(HashMap::new()),
            Format::Table => match (!is_logging).then(Bars::new).flatten() {
                Some(bars) => Display::Bars(bars),
                None => Display::Lines(now + LINE_INTERVAL),
            },
        };
        Self { output, state: Mutex::new(State { tally: Tally::new(now), display }) }
    }

    /// Runs the work, and updates speed and remaining time.
    pub(crate) async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match select(work, std::pin::pin!(sleep(REDRAW_INTERVAL))).await {
                Either::Left((done, _)) => return done,
                Either::Right(((), working)) => work = working,
            }
            if let Some(line) = self.state().tick(Instant::now()) {
                self.output.progress(&line);
            }
        }
    }

    /// Removes the bars, and ends the report.
    pub(crate) fn finish(&self) {
        let display = std::mem::replace(&mut self.state().display, Display::Silent);
        if let Display::Bars(bars) = display {
            bars.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every change, so it is usable after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Report {
    fn event(&self, event: &Event<'_>) {
        if let Some(record) = self.state().take(event, Instant::now()) {
            self.output.progress_record(&record);
        }
    }
}

impl State {
    /// Counts and shows an event, and returns the record to print, if any.
    fn take<'a>(&mut self, event: &Event<'a>, now: Instant) -> Option<Record<'a>> {
        let progress = self.tally.take(event);
        match (&mut self.display, progress) {
            (Display::Records(last), progress) => {
                record(event, progress.map(|(_, progress)| progress), last, now)
            }
            (Display::Bars(bars), Some((blob, progress))) => {
                bars.take(event, blob, progress, &mut self.tally, now);
                None
            }
            _ => None,
        }
    }

    /// Updates speed and remaining time, and returns the line to print, if any.
    fn tick(&mut self, now: Instant) -> Option<String> {
        match &mut self.display {
            Display::Bars(bars) => bars.total.set_message(self.tally.line(now)),
            Display::Lines(next) => {
                let line = self.tally.line(now);
                if now >= *next {
                    *next = now + LINE_INTERVAL;
                    return Some(line);
                }
            }
            Display::Records(_) | Display::Silent => {}
        }
        None
    }
}

/// JSON record of an event.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Record<'a> {
    /// The image has the blob.
    Found { blob: &'a Digest, size: u64, compresses: bool },
    /// The state of a blob changed.
    State { blob: &'a Digest, state: &'static str, bytes: u64 },
    /// The number of transferred bytes of a blob changed.
    Moved { blob: &'a Digest, bytes: u64 },
    /// A manifest was written.
    Manifest { reference: &'a Reference },
}

/// Returns the record of an event. The bytes of a blob are reported once in each interval.
fn record<'a>(
    event: &Event<'a>,
    progress: Option<BlobProgress>,
    last: &mut HashMap<Digest, Instant>,
    now: Instant,
) -> Option<Record<'a>> {
    match (*event, progress) {
        (Event::Found { blob, size, is_tar }, _) => {
            Some(Record::Found { blob, size, compresses: is_tar })
        }
        (Event::Blob { blob, state }, Some(progress)) => {
            Some(Record::State { blob, state: state_name(state), bytes: progress.moved })
        }
        (Event::Moved { blob, .. }, Some(progress)) => {
            if last.get(blob).is_some_and(|last| now.duration_since(*last) < RECORD_INTERVAL) {
                return None;
            }
            last.insert(blob.clone(), now);
            Some(Record::Moved { blob, bytes: progress.moved })
        }
        (Event::Manifest { reference }, _) => Some(Record::Manifest { reference }),
        _ => None,
    }
}

/// Bars on standard error: one for the transfer, and below it one for each blob. A terminal with few lines
/// omits the lowest bars.
#[derive(Debug)]
struct Bars {
    screen: MultiProgress,
    total: ProgressBar,
    blobs: HashMap<Digest, ProgressBar>,
}

impl Bars {
    /// Returns bars if standard error is a terminal that can draw them.
    fn new() -> Option<Self> {
        let screen = MultiProgress::new();
        if screen.is_hidden() {
            return None;
        }
        let total = screen.add(ProgressBar::new_spinner().with_style(style(TOTAL_BAR)));
        Some(Self { screen, total, blobs: HashMap::new() })
    }

    fn take(
        &mut self,
        event: &Event<'_>,
        blob: &Digest,
        progress: BlobProgress,
        tally: &mut Tally,
        now: Instant,
    ) {
        match (event, self.blobs.get(blob)) {
            (Event::Moved { .. }, Some(bar)) => bar.set_position(progress.moved),
            _ => {
                self.total.set_message(tally.line(now));
                self.show(blob, progress, tally.blobs.len() > MAX_BARS);
            }
        }
    }

    /// Shows the new state of a blob.
    fn show(&mut self, blob: &Digest, progress: BlobProgress, in_transfer_only: bool) {
        let in_transfer = !progress.is_done() && progress.state.is_some();
        if in_transfer_only {
            if progress.state.is_none() {
                // Waiting blobs have no bar, so the bars of earlier blobs are removed too.
                self.blobs.drain().for_each(|(_, bar)| remove(&self.screen, &bar));
            } else if !in_transfer && let Some(bar) = self.blobs.remove(blob) {
                remove(&self.screen, &bar);
            }
            if !in_transfer || self.blobs.len() >= MAX_BARS && !self.blobs.contains_key(blob) {
                return;
            }
        }
        let bar = self.blobs.entry(blob.clone()).or_insert_with(|| {
            let name: String = blob.hex().chars().take(SHORT_DIGEST_LEN).collect();
            let bar =
                ProgressBar::new(progress.size).with_style(style(RESTING_BAR)).with_prefix(name);
            self.screen.add(bar.with_message(progress.state_name()))
        });
        let is_moving = in_transfer && progress.state != Some(BlobState::Retrying);
        bar.set_style(style(if is_moving { MOVING_BAR } else { RESTING_BAR }));
        bar.set_message(progress.state_name());
        bar.set_position(progress.moved);
    }

    /// Removes all bars from the terminal.
    fn clear(self) {
        // An unfinished bar would be redrawn when it is dropped.
        for bar in self.blobs.values().chain([&self.total]) {
            bar.finish_and_clear();
        }
        // Fails only if the terminal is closed.
        let _ = self.screen.clear();
    }
}

/// Removes a bar and its line.
fn remove(screen: &MultiProgress, bar: &ProgressBar) {
    bar.finish_and_clear();
    screen.remove(bar);
}

fn style(template: &str) -> ProgressStyle {
    // The templates are the constants above, so they are valid.
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Counts of a transfer, from the events of the library.
#[derive(Debug)]
struct Tally {
    blobs: HashMap<Digest, BlobProgress>,
    moved: u64,
    /// Samples of the transferred bytes in the last period, the oldest first.
    samples: VecDeque<(Instant, u64)>,
}

/// Counts of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlobProgress {
    /// Size in the source, in bytes.
    size: u64,
    moved: u64,
    /// `None` while the blob waits.
    state: Option<BlobState>,
}

impl Tally {
    fn new(now: Instant) -> Self {
        Self { blobs: HashMap::new(), moved: 0, samples: VecDeque::from([(now, 0)]) }
    }

    /// Counts an event, and returns its blob.
    fn take<'a>(&mut self, event: &Event<'a>) -> Option<(&'a Digest, BlobProgress)> {
        match *event {
            Event::Found { blob, size, .. } => {
                let progress = BlobProgress { size, moved: 0, state: None };
                self.blobs.insert(blob.clone(), progress);
                Some((blob, progress))
            }
            Event::Blob { blob, state } => {
                let progress = self.blobs.get_mut(blob)?;
                progress.state = Some(state);
                Some((blob, *progress))
            }
            Event::Moved { blob, bytes } => {
                let progress = self.blobs.get_mut(blob)?;
                progress.moved = progress.moved.saturating_add_signed(bytes);
                self.moved = self.moved.saturating_add_signed(bytes);
                Some((blob, *progress))
            }
            _ => None,
        }
    }

    /// Returns the counts of all blobs as a line, with speed and remaining time if known. Each call adds a sample
    /// for the speed.
    fn line(&mut self, now: Instant) -> String {
        let blobs = self.blobs.values();
        let done = blobs.clone().filter(|blob| blob.is_done()).count();
        // The target already had the other blobs.
        let transferred = blobs.clone().filter(|blob| !blob.was_there());
        let total: u64 = transferred.map(|blob| blob.size).sum();
        let (shown_moved, shown_total) = (human_size(self.moved), human_size(total));
        let line = format!("{done} of {} blobs, {shown_moved} of {shown_total}", blobs.len());
        let Some(speed) = self.bytes_per_second(now) else { return line };
        let remaining = total.saturating_sub(self.moved).div_ceil(speed);
        let remaining = human_time(Duration::from_secs(remaining));
        format!("{line}, {}/s, {remaining} left", human_size(speed))
    }

    /// Returns the speed over the last period, or `None` if nothing was transferred.
    fn bytes_per_second(&mut self, now: Instant) -> Option<u64> {
        let is_old = |(time, _): &(Instant, u64)| now.duration_since(*time) > SPEED_PERIOD;
        while self.samples.len() > 1 && self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        let (time, moved) = *self.samples.front()?;
        self.samples.push_back((now, self.moved));
        let elapsed = now.duration_since(time).as_secs_f64();
        let moved = self.moved.saturating_sub(moved) as f64;
        let speed = if elapsed > 0.0 { (moved / elapsed) as u64 } else { 0 };
        (speed > 0).then_some(speed)
    }
}

impl BlobProgress {
    /// Returns whether the transfer of the blob has ended.
    fn is_done(&self) -> bool {
        self.was_there() || matches!(self.state, Some(BlobState::Sent | BlobState::Fetched))
    }

    fn was_there(&self) -> bool {
        matches!(self.state, Some(BlobState::Exists | BlobState::Mounted))
    }

    fn state_name(&self) -> &'static str {
        self.state.map_or("waiting", state_name)
    }
}

fn state_name(state: BlobState) -> &'static str {
    match state {
        BlobState::Exists => "exists",
        BlobState::Mounted => "mounted",
        BlobState::Compressing => "compressing",
        BlobState::Sending => "sending",
        BlobState::Fetching => "fetching",
        BlobState::Retrying => "retrying",
        BlobState::Sent => "sent",
        BlobState::Fetched => "fetched",
        _ => "working",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    fn found(blob: &Digest, size: u64) -> Event<'_> {
        Event::Found { blob, size, is_tar: false }
    }

    #[test]
    fn line_is_printed_every_five_seconds() {
        let start = Instant::now();
        let display = Display::Lines(start + LINE_INTERVAL);
        let mut state = State { tally: Tally::new(start), display };
        let (one, other) = (digest('1'), digest('2'));
        state.take(&found(&one, 60_000_000), start);
        state.take(&found(&other, 1000), start);
        state.take(&Event::Blob { blob: &other, state: BlobState::Exists }, start);
        let mut lines = Vec::new();
        for second in 1..=12 {
            let now = start + Duration::from_secs(second);
            if second <= 8 {
                state.take(&Event::Moved { blob: &one, bytes: 5_000_000 }, now);
            }
            lines.extend(state.tick(now));
        }
        let expected = [
            "1 of 2 blobs, 25.0 MB of 60.0 MB, 5.0 MB/s, 7 s left",
            "1 of 2 blobs, 40.0 MB of 60.0 MB, 3.0 MB/s, 7 s left",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn record_of_bytes_is_printed_once_a_second() {
        let start = Instant::now();
        let display = Display::Records(HashMap::new());
        let mut state = State { tally: Tally::new(start), display };
        let blob = digest('1');
        let moved = Event::Moved { blob: &blob, bytes: 10 };
        let events = [
            (0, found(&blob, 30)),
            (0, Event::Blob { blob: &blob, state: BlobState::Sending }),
            (0, moved),
            (999, moved),
            (1000, moved),
            (1001, Event::Blob { blob: &blob, state: BlobState::Sent }),
        ];
        let mut records = Vec::new();
        for (millis, event) in events {
            let record = state.take(&event, start + Duration::from_millis(millis));
            records.extend(record.map(|record| serde_json::to_value(record).unwrap()));
        }
        let expected = [
            json!({ "event": "found", "blob": blob, "size": 30, "compresses": false }),
            json!({ "event": "state", "blob": blob, "state": "sending", "bytes": 0 }),
            json!({ "event": "moved", "blob": blob, "bytes": 10 }),
            json!({ "event": "moved", "blob": blob, "bytes": 30 }),
            json!({ "event": "state", "blob": blob, "state": "sent", "bytes": 30 }),
        ];
        assert_eq!(records, expected);
    }

    #[test]
    fn line_counts_what_is_left_to_transfer() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let (one, other) = (digest('1'), digest('2'));
        tally.take(&found(&one, 300));
        tally.take(&found(&other, 10_000));
        assert_eq!(tally.line(start), "0 of 2 blobs, 0 B of 10.3 kB");
        tally.take(&Event::Blob { blob: &one, state: BlobState::Mounted });
        tally.take(&Event::Moved { blob: &other, bytes: 8 });
        assert_eq!(tally.line(start), "1 of 2 blobs, 8 B of 10.0 kB");
        // A retry sends the bytes again.
        tally.take(&Event::Moved { blob: &other, bytes: -8 });
        assert_eq!(tally.line(start), "1 of 2 blobs, 0 B of 10.0 kB");
    }

    #[test]
    fn speed_is_measured_over_the_last_seconds() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let blob = digest('1');
        tally.take(&found(&blob, 10_000));
        let mut lines = Vec::new();
        for second in 1..=10 {
            let bytes = if second <= 4 { 1000 } else { 100 };
            tally.take(&Event::Moved { blob: &blob, bytes });
            lines.push(tally.line(start + Duration::from_secs(second)));
        }
        assert_eq!(lines[3], "0 of 1 blobs, 4.0 kB of 10.0 kB, 1.0 kB/s, 6 s left");
        assert_eq!(lines[9], "0 of 1 blobs, 4.6 kB of 10.0 kB, 100 B/s, 54 s left");
    }
}
