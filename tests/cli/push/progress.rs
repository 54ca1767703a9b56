//! Progress of a push: bars on a terminal, lines, and JSON events.

use ark_container_core::testing::SampleImage;
use serde_json::json;

use super::events;
use crate::sandbox::{OTHER, Sandbox, TBD};

/// Returns a home with an image that has one large layer, and a repository.
fn sandbox() -> (Sandbox, SampleImage) {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let image = SampleImage::builder().with_random_layer(3_000_000).build();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    (sandbox, image)
}

#[test]
fn json_progress_reports_each_step() {
    let (sandbox, image) = sandbox();
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --output json");
    let run = sandbox.run(&push);
    assert_eq!(run.code, 0, "{run:?}");
    let reported = events(&run);
    for (digest, content) in image.blobs() {
        let size = content.len();
        let about: Vec<_> =
            reported.iter().filter(|event| event["blob"] == json!(digest)).collect();
        let found = json!({ "event": "found", "blob": digest, "size": size, "compresses": false });
        assert_eq!(*about[0], found);
        let sent = json!({ "event": "state", "blob": digest, "state": "sent", "bytes": size });
        assert_eq!(**about.last().unwrap(), sent);
    }
    assert_eq!(reported.last().unwrap(), &json!({ "event": "manifest", "reference": "v1" }));
    let again = events(&sandbox.run(&push));
    let states: Vec<_> = again.iter().filter_map(|event| event["state"].as_str()).collect();
    assert_eq!(states, ["exists", "exists"]);
    assert!(events(&sandbox.run(&format!("{push} --quiet"))).is_empty());
}

#[test]
fn terminal_shows_a_bar_for_each_blob_and_all() {
    let (sandbox, image) = sandbox();
    let seen =
        sandbox.terminal_output(&format!("--push a:v1 --from oci:image --organization {TBD}"));
    for (digest, _) in image.blobs() {
        assert!(seen.contains(&digest.hex()[..12]), "{seen}");
    }
    assert!(seen.contains("sending"), "{seen}");
    // At the end, only the note remains, without bars.
    let last = seen.trim_end().lines().last().unwrap();
    assert!(last.contains("note: a:v1: blobs sent: 2 (3.0 MB)"), "{seen}");
}

#[test]
fn small_terminal_always_shows_the_total() {
    let sandbox = Sandbox::new();
    let mut image = SampleImage::builder();
    for _ in 0..60 {
        image = image.with_random_layer(2000);
    }
    image
        .with_random_layer(30_000_000)
        .build()
        .write_oci_layout(&sandbox.path("image"), None)
        .unwrap();
    for (organization, rows, bars) in [(TBD, 24, 12), (OTHER, 6, 5)] {
        let push = format!("--push a:v1 --from oci:image --create --organization {organization}");
        let seen = sandbox.terminal_output_of(rows, &push);
        let mut screen = Screen::new(rows);
        let (mut most, mut in_work) = (0, 0);
        screen.write(&seen, |screen| {
            let text = screen.text();
            let drawn =
                text.lines().filter(|line| line.contains(" of ") || line.contains("waiting"));
            let (all, parts): (Vec<_>, Vec<_>) = drawn.partition(|line| line.contains(" blobs, "));
            assert!(all.len() <= 1, "{text}");
            assert!(parts.is_empty() || all.len() == 1, "{text}");
            most = most.max(parts.len());
            in_work = in_work.max(parts.iter().filter(|part| part.contains("sending")).count());
        });
        assert!(0 < in_work && most <= bars, "{most} bars, {in_work} of them sending");
        // Earlier lines may have scrolled up to make room for the bars.
        assert!(screen.scrolled < rows, "{} lines", screen.scrolled);
        // The bars are removed.
        let text = screen.text();
        assert!(text.contains("blobs sent: 62"), "{text}");
        let bars = ["sending", "waiting", " blobs, "];
        assert!(!bars.iter().any(|bar| text.contains(bar)), "{text}");
    }
}

#[test]
fn short_push_without_terminal_has_no_progress() {
    let (sandbox, _) = sandbox();
    let run = sandbox.run(&format!("--push a:v1 --from oci:image --organization {TBD}"));
    assert!(!run.stderr.contains("progress:") && !run.stderr.contains('\u{1b}'), "{run:?}");
    let quiet = format!("--push a:v2 --from oci:image --organization {TBD} --quiet");
    assert_eq!(sandbox.run(&quiet).stderr, "");
    assert_eq!(sandbox.terminal_output(&quiet), "");
}

/// Number of columns of the terminal.
const WIDTH: usize = 80;

/// A terminal emulator with the control sequences of progress bars.
pub(super) struct Screen {
    rows: Vec<String>,
    row: usize,
    column: usize,
    /// Number of lines that scrolled out at the top.
    pub(super) scrolled: usize,
}

impl Screen {
    pub(super) fn new(rows: usize) -> Self {
        Self { rows: vec![String::new(); rows], row: 0, column: 0, scrolled: 0 }
    }

    /// Returns the text of the screen, without trailing blanks.
    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.rows.iter().map(|row| row.trim_end()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Writes output to the screen. Calls `look` before the cursor moves up to redraw, and at the end.
    pub(super) fn write(&mut self, output: &str, mut look: impl FnMut(&Self)) {
        let mut rest = output.chars();
        while let Some(next) = rest.next() {
            match next {
                '\n' => self.new_line(),
                '\r' => self.column = 0,
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "{output:?}");
                    let mut number = String::new();
                    let end = rest.by_ref().find(|next| {
                        let is_end = next.is_ascii_alphabetic();
                        number.extend((!is_end).then_some(*next));
                        is_end
                    });
                    if end == Some('A') {
                        look(self);
                    }
                    self.control(end.unwrap(), &number);
                }
                next => self.put(next),
            }
        }
        look(self);
    }

    fn put(&mut self, character: char) {
        if self.column == WIDTH {
            self.new_line();
        }
        let mut row: Vec<char> = self.rows[self.row].chars().collect();
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = character;
        self.column += 1;
        self.rows[self.row] = row.into_iter().collect();
    }

    fn new_line(&mut self) {
        self.column = 0;
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.remove(0);
            self.rows.push(String::new());
            (self.row, self.scrolled) = (self.row - 1, self.scrolled + 1);
        }
    }

    fn control(&mut self, end: char, number: &str) {
        let by: usize = number.parse().unwrap_or(1);
        match end {
            'A' => self.row = self.row.saturating_sub(by),
            'B' => self.row = (self.row + by).min(self.rows.len() - 1),
            'K' if number == "2" => self.rows[self.row].clear(),
            // Colours, and the visibility of the cursor.
            'm' | 'h' | 'l' => {}
            _ => panic!("unknown control sequence {number:?} {end:?}"),
        }
    }
}
