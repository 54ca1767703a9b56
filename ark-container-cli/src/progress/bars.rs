//! [`Bars`]: one for all and one for each part, for people at a terminal.

use std::collections::HashMap;
use std::time::Instant;

use ark_container_core::model::Digest;
use ark_container_core::progress::{BlobState, Event};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::tally::{Part, Tally};

/// Of more parts than these, only those in work have a bar, and not more of them.
const MOST: usize = 12;
/// How much of a digest is enough to tell the parts of an image apart.
const SHOWN: usize = 12;
const IN_WORK: &str = "{prefix} {msg:<11} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}";
const AT_REST: &str = "{prefix} {msg:<11} {decimal_total_bytes}";
const ALL: &str = "{msg}";

/// Draws bars on standard error, below the line for all of them: what a low terminal has no room for
/// is left out from below.
#[derive(Debug)]
pub(super) struct Bars {
    screen: MultiProgress,
    all: ProgressBar,
    tally: Tally,
    bars: HashMap<Digest, ProgressBar>,
}

impl Bars {
    /// Bars, where standard error is a terminal that can draw them.
    pub(super) fn new(now: Instant) -> Option<Self> {
        let screen = MultiProgress::new();
        if screen.is_hidden() {
            return None;
        }
        let all = screen.add(ProgressBar::new_spinner().with_style(style(ALL)));
        Some(Self { screen, all, tally: Tally::new(now), bars: HashMap::new() })
    }

    pub(super) fn take(&mut self, event: &Event<'_>) {
        let Some((blob, part)) = self.tally.take(event) else { return };
        match (event, self.bars.get(blob)) {
            (Event::Moved { .. }, Some(bar)) => bar.set_position(part.moved),
            _ => {
                self.tick(Instant::now());
                self.show(blob, &part);
            }
        }
    }

    /// Shows a part in another state.
    fn show(&mut self, blob: &Digest, part: &Part) {
        let in_work = !part.is_done() && part.state.is_some();
        if self.tally.parts() > MOST {
            if part.state.is_none() {
                // One more was found than there is room for: those before it wait too.
                self.bars.drain().for_each(|(_, bar)| remove(&self.screen, &bar));
            } else if !in_work && let Some(bar) = self.bars.remove(blob) {
                remove(&self.screen, &bar);
            }
            if !in_work || self.bars.len() >= MOST && !self.bars.contains_key(blob) {
                return;
            }
        }
        let bar = self.bars.entry(blob.clone()).or_insert_with(|| {
            let name: String = blob.hex().chars().take(SHOWN).collect();
            let bar = ProgressBar::new(part.size).with_style(style(AT_REST)).with_prefix(name);
            self.screen.add(bar.with_message(part.word()))
        });
        let moves = in_work && part.state != Some(BlobState::Retrying);
        bar.set_style(style(if moves { IN_WORK } else { AT_REST }));
        bar.set_message(part.word());
        bar.set_position(part.moved);
    }

    /// Shows how far all of it is. To be asked every second or so, and when a part is in another state.
    pub(super) fn tick(&mut self, now: Instant) {
        let standing = self.tally.standing(now);
        self.all.set_message(standing.to_string());
    }

    /// Leaves the terminal as it was.
    pub(super) fn clear(self) {
        // Else each would be drawn once more when it is dropped.
        for bar in self.bars.values().chain([&self.all]) {
            bar.finish_and_clear();
        }
        // Nothing is to be done about a terminal that has gone.
        let _ = self.screen.clear();
    }
}

/// Gives a bar's place to others.
fn remove(screen: &MultiProgress, bar: &ProgressBar) {
    bar.finish_and_clear();
    screen.remove(bar);
}

fn style(template: &str) -> ProgressStyle {
    // A template that is refused is one of the constants above, so it would be seen at once.
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
