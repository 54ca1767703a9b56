//! Output of the program: results on standard output, everything else on standard error.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use ark_container_core::escape_untrusted;
use clap::ValueEnum;
use futures_util::{Stream, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Stop};

/// Format of results and errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people: a table, a URL, a password
    #[default]
    Table,
    /// For programs: one line with a JSON object for each result
    Json,
}

/// Format and verbosity of the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
}

impl Output {
    /// Prints a result, as a line of text or as JSON.
    ///
    /// # Errors
    /// [`Stop::ReaderGone`] if the reader closed standard output, a failure if standard output cannot be written.
    pub(crate) fn result(self, line: &str, json: &impl Serialize) -> Result<(), Stop> {
        match self.format {
            Format::Table => print_text(&format!("{line}\n")),
            Format::Json => print_text(&to_json_line(json)?),
        }
    }

    /// Prints results as they arrive, as the rows of a table or as JSON.
    ///
    /// The header is printed after the first item arrives, so a denied listing prints no header.
    ///
    /// # Errors
    /// As [`result`](Self::result), and those of the items.
    pub(crate) async fn table<T: Serialize>(
        self,
        header: &str,
        items: impl Stream<Item = Result<T, Failure>>,
        to_row: impl Fn(&T) -> String,
    ) -> Result<(), Stop> {
        let mut items = pin!(items);
        let mut next = items.try_next().await?;
        if self.format == Format::Table {
            print_text(&format!("{header}\n"))?;
        }
        while let Some(item) = next {
            self.result(&to_row(&item), &item)?;
            next = items.try_next().await?;
        }
        Ok(())
    }

    /// Prints a note on standard error.
    pub(crate) fn note(self, text: &str) {
        self.print_labeled("note", text);
    }

    /// Prints a note if standard error is a terminal.
    pub(crate) fn note_on_terminal(self, text: &str) {
        if io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Prints a warning on standard error.
    pub(crate) fn warning(self, text: &str) {
        self.print_labeled("warning", text);
    }

    /// Prints the progress of a transfer as text on standard error.
    pub(crate) fn progress(self, line: &str) {
        self.print_labeled("progress", line);
    }

    /// Prints the progress of a transfer as JSON on standard error.
    pub(crate) fn progress_record(self, record: &impl Serialize) {
        if !self.quiet {
            // A failure to print progress does not fail the transfer.
            let _ = writeln!(io::stderr(), "{}", serde_json::json!({ "progress": record }));
        }
    }

    fn print_labeled(self, label: &str, text: &str) {
        if self.quiet {
            return;
        }
        let mut stderr = io::stderr().lock();
        // A failure to print a note does not fail the operation.
        let _ = match self.format {
            Format::Table => writeln!(stderr, "{label}: {}", visible(text)),
            Format::Json => writeln!(stderr, "{}", serde_json::json!({ label: text })),
        };
    }
}

/// A text report: one line for each value, after its label.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    /// Adds a line.
    pub(crate) fn line(&mut self, label: &str, value: &dyn fmt::Display) {
        let newline = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{newline}{label:<14} {}", escape_untrusted(&value.to_string()));
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Prints text on standard output, and flushes it, so that each result is visible at once.
///
/// # Errors
/// As [`Output::result`].
pub(crate) fn print_text(text: &str) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| stdout_failure(&error))
}

/// Returns a value as a line of JSON.
///
/// # Errors
/// A failure if the value cannot be written as JSON.
pub(crate) fn to_json_line(value: &impl Serialize) -> Result<String, Failure> {
    match serde_json::to_string(value) {
        Ok(json) => Ok(json + "\n"),
        Err(error) => Err(Failure::io("cannot write a result as JSON", &error.into())),
    }
}

/// Returns the [`Stop`] for an error of standard output.
pub(crate) fn stdout_failure(error: &io::Error) -> Stop {
    match error.kind() {
        ErrorKind::BrokenPipe => Stop::ReaderGone,
        _ => Failure::io("cannot write to standard output", error).into(),
    }
}

/// Escapes untrusted text, so that it cannot control the terminal. Line breaks are kept.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    match text.contains('\n') {
        false => escape_untrusted(text),
        true => text.split('\n').map(escape_untrusted).collect::<Vec<_>>().join("\n").into(),
    }
}

/// Returns a time as RFC 3339, to the second and in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let mut text = String::new();
    // humantime prints the years 1970 to 9999.
    let after_epoch = time >= SystemTime::UNIX_EPOCH;
    if after_epoch && write!(text, "{}", humantime::format_rfc3339_seconds(time)).is_ok() {
        return text;
    }
    let year = if after_epoch { "9999-12-31T23:59:59Z" } else { "1970-01-01T00:00:00Z" };
    year.to_owned()
}

/// Returns a size as text, in decimal units as docker prints them.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1000.0;
    let mut unit = 0;
    // A size that would be printed as 1000.0 gets the next unit.
    while size >= 999.95 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Returns a duration as text: seconds with one decimal below ten seconds, and minutes from sixty seconds.
pub(crate) fn human_time(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 if span.subsec_millis() >= 50 => format!("{:.1} s", span.as_secs_f64()),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_below_a_thousand_of_their_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (2_147_483_648, "2.1 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn time_spans_have_readable_precision() {
        for (millis, text) in [
            (0, "0 s"),
            (49, "0 s"),
            (50, "0.1 s"),
            (7_000, "7 s"),
            (7_340, "7.3 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
        ] {
            assert_eq!(human_time(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_outside_rfc_3339_are_clamped() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(rfc3339(epoch + Duration::from_secs(1)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(epoch - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(epoch + Duration::from_secs(1 << 40)), "9999-12-31T23:59:59Z");
    }
}
