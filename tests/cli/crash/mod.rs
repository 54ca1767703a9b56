//! Nothing that was acknowledged is lost, and nothing half done is visible: at any kill, with many
//! processes at once, and on a full disk.

mod disk;
mod full_disk;
mod images;
mod model;
mod operation;
mod rounds;
mod together;
mod visit;

use std::time::Instant;

use crate::scale;
use rounds::Rounds;

#[test]
fn whatever_was_acknowledged_is_there_after_any_kill() {
    let kills = if scale::is_full() { 400 } else { 200 };
    let started = Instant::now();
    let mut rounds = Rounds::start();
    while rounds.figures.kills < kills {
        rounds.round();
    }
    let figures = rounds.end();
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{} kills: {} operations acknowledged, {} cut, {} of these done all the same; {seconds:.1} s",
        figures.kills, figures.acknowledged, figures.cut, figures.survived,
    );
    // A suite that kills too early or too late would show nothing.
    assert!(figures.acknowledged > 0 && figures.cut > figures.survived, "{figures:?}");
}
