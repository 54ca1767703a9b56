//! Output of the library's tracing events: warnings, and the log of `--verbose`.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt;

use crate::output::{Format, Output};

/// Target of the credential helper's own lines in the log.
pub(crate) const HELPER_TARGET: &str = "docker_credential_ark";

/// Time after which the same warning is printed again: `--serve` runs for a long time.
const WARNING_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Maximum number of stored warnings.
const MAX_KEPT_WARNINGS: usize = 256;

/// Starts to print warnings of the library on standard error, and with `verbose` its log.
pub(crate) fn start(output: Output, verbose: bool) {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    let lines = lines.with_writer(move || LogLine { format: output.format });
    let lines = lines.with_filter(filter_fn(|metadata| *metadata.level() > Level::WARN));
    let warnings = Warnings { output, printed: Mutex::default() };
    install(tracing_subscriber::registry().with(lines).with(warnings).with(own(level)));
}

/// Starts to write the log of the library to a file.
pub(crate) fn start_in(file: File) {
    let lines = tracing_subscriber::fmt::layer().with_writer(Mutex::new(file)).with_ansi(false);
    install(tracing_subscriber::registry().with(lines).with(own(LevelFilter::DEBUG)));
}

/// Installs the only subscriber of the process.
fn install(subscriber: impl SubscriberInitExt) {
    // Fails only if another subscriber is installed.
    let _ = subscriber.try_init();
}

/// Returns the filter of our own events. Events of other libraries could contain headers and passwords.
fn own(level: LevelFilter) -> Targets {
    Targets::new()
        .with_target("ark_container_core", level)
        .with_target(HELPER_TARGET, level)
        .with_target(ark_container_core::permission::AUDIT_TARGET, level)
}

/// Writer of log lines to standard error, in the format of the output.
struct LogLine {
    format: Format,
}

impl Write for LogLine {
    /// Writes a whole line: the layer formats an event before it writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        match self.format {
            Format::Table => stderr.write_all(line)?,
            Format::Json => {
                let text = String::from_utf8_lossy(line);
                writeln!(stderr, "{}", serde_json::json!({ "log": text.trim_end() }))?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Prints each warning of the library once.
struct Warnings {
    output: Output,
    /// Time at which each warning was printed.
    printed: Mutex<HashMap<String, Instant>>,
}

impl Warnings {
    /// Returns whether the warning was printed recently, and otherwise records it as printed.
    fn is_repeated(&self, text: &str, now: Instant) -> bool {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.retain(|_, at| now.duration_since(*at) < WARNING_INTERVAL);
        if printed.len() >= MAX_KEPT_WARNINGS {
            printed.clear();
        }
        let is_repeated = printed.contains_key(text);
        if !is_repeated {
            printed.insert(text.to_owned(), now);
        }
        is_repeated
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return;
        }
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let text = sentence.text();
        // `--quiet` does not hide errors.
        let quiet = self.output.quiet && level == Level::WARN;
        if !quiet && !self.is_repeated(&text, Instant::now()) {
            Output { quiet, ..self.output }.warning(&text);
        }
    }
}

/// Text of an event: the message, the other fields in parentheses, and the cause.
#[derive(Default)]
struct Sentence {
    message: String,
    details: String,
    cause: String,
}

impl Sentence {
    fn text(&self) -> String {
        let Self { message, details, cause } = self;
        let details = if details.is_empty() { String::new() } else { format!(" ({details})") };
        let cause = if cause.is_empty() { String::new() } else { format!(": {cause}") };
        format!("{message}{details}{cause}")
    }
}

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let separator = if self.details.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "error" | "cause" => write!(self.cause, "{value:?}"),
            name => write!(self.details, "{separator}{name} {value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| error.source());
        let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        self.record_debug(field, &format_args!("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_warning_is_repeated_after_a_while() {
        let output = Output { format: Format::Table, quiet: false };
        let warnings = Warnings { output, printed: Mutex::default() };
        let start = Instant::now();
        assert!(!warnings.is_repeated("the disk is full", start));
        assert!(warnings.is_repeated("the disk is full", start + WARNING_INTERVAL / 2));
        assert!(!warnings.is_repeated("the disk is broken", start + WARNING_INTERVAL / 2));
        assert!(!warnings.is_repeated("the disk is full", start + WARNING_INTERVAL));
    }
}
