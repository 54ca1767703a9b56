//! [`Failure`]: exit code, message, causes and help of an operation that failed.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use ark_container_core::backend::ecr::AwsRefusal;
use ark_container_core::{Error, ErrorKind, escape_untrusted};
use serde::Serialize;

use crate::hint;
use crate::output::{Format, visible};

/// The reason that an operation stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The reader closed standard output, which is not a failure.
    ReaderGone,
    /// The printed result is a denial.
    Denied,
    /// Ctrl-C interrupted the operation, and a note is printed.
    Interrupted,
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Stop {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// Kinds of failures, with their documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Other = 1,
    Usage = 2,
    NotAuthenticated = 3,
    NotPermitted = 4,
    NotFound = 5,
    Conflict = 6,
    Temporary = 7,
}

/// JSON record of a failure.
#[derive(Debug, Serialize)]
struct ErrorRecord<'a> {
    kind: Kind,
    message: &'a str,
    causes: &'a [String],
    help: Option<&'a str>,
    exit_code: u8,
}

/// A failure with its message, causes and help.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    help: Option<String>,
    usage: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), help: None, usage: None }
    }

    /// Creates a failure of the command line or a setting.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Creates a failure of the operating system.
    pub(crate) fn io(message: impl Into<String>, error: &io::Error) -> Self {
        Self { causes: vec![error.to_string()], ..Self::new(Kind::Other, message) }
    }

    /// Sets the help.
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Sets the help unless it is already set.
    pub(crate) fn or_help(self, help: &str) -> Self {
        Self { help: self.help.or_else(|| Some(help.to_owned())), ..self }
    }

    /// Adds a line to the help.
    pub(crate) fn and_help(self, more: &str) -> Self {
        let help = self.help.map_or_else(|| more.to_owned(), |help| format!("{help}\n{more}"));
        Self { help: Some(help), ..self }
    }

    pub(crate) fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Sets the usage of the program, which the text format prints below the help.
    pub(crate) fn with_usage(self, usage: impl Into<String>) -> Self {
        Self { usage: Some(usage.into()), ..self }
    }

    /// Prefixes the message with the invalid option, variable or file.
    pub(crate) fn within(self, origin: impl fmt::Display) -> Self {
        Self { message: format!("{origin}: {}", self.message), ..self }
    }

    /// Prints the failure on standard error, and returns the exit code.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        let text = match format {
            Format::Table => self.for_people(),
            Format::Json => {
                let line = BTreeMap::from([("error", self.for_programs())]);
                serde_json::to_string(&line).unwrap_or_default()
            }
        };
        // The exit code reports the failure even if it cannot be printed.
        let _ = writeln!(io::stderr(), "{text}");
        ExitCode::from(self.kind as u8)
    }

    fn for_people(&self) -> String {
        let mut text = format!("error: {self}");
        if let Some(help) = &self.help {
            text.push_str("\n  help: ");
            text.push_str(&visible(help).replace('\n', "\n        "));
        }
        if let Some(usage) = &self.usage {
            text.push_str("\n\n");
            text.push_str(&visible(usage));
        }
        text
    }

    fn for_programs(&self) -> ErrorRecord<'_> {
        ErrorRecord {
            kind: self.kind,
            message: &self.message,
            causes: &self.causes,
            help: self.help.as_deref().or(self.usage.as_deref()).map(str::trim),
            exit_code: self.kind as u8,
        }
    }
}

/// The message and its causes on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages of clap have line breaks.
        let message = match self.usage {
            Some(_) => visible(&self.message),
            None => escape_untrusted(&self.message),
        };
        f.write_str(&message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {}", escape_untrusted(cause)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let Error::Setting(invalid) = error {
            let (origin, error, help) = invalid.into_parts();
            let mut failure = Self::from(error);
            if let Some(origin) = origin {
                failure = failure.within(origin);
            }
            failure.help = help.or(failure.help);
            return failure;
        }
        let kind = match error.kind() {
            ErrorKind::InvalidInput => Kind::Usage,
            ErrorKind::Unauthenticated => Kind::NotAuthenticated,
            ErrorKind::PermissionDenied => Kind::NotPermitted,
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Conflict => Kind::Conflict,
            ErrorKind::Temporary => Kind::Temporary,
            _ => Kind::Other,
        };
        let help = match &error {
            Error::Parse(error) => hint::example_of(error),
            Error::PermissionDenied { decision: Some(_), .. } => Some(hint::DENIED_BY_POLICY),
            Error::PermissionDenied { .. } => Some(hint::DENIED_BY_AWS),
            Error::Temporary { .. } => Some("try again in a while"),
            Error::Failed { source: Some(source), .. } => {
                source.downcast_ref::<AwsRefusal>().and_then(hint::refused_by_aws)
            }
            _ => None,
        };
        let help = help.map(str::to_owned);
        Self { kind, causes: causes(&error), message: error.to_string(), help, usage: None }
    }
}

/// The first paragraph of clap's text is the message, and the rest is the usage.
impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        match text.split_once("\n\n") {
            Some((message, usage)) => Self::usage(message).with_usage(usage),
            None => Self::usage(text),
        }
    }
}

/// Returns the causes of an error, except those that its text already contains.
///
/// Errors of other libraries often contain the text of their cause.
fn causes(error: &dyn StdError) -> Vec<String> {
    let mut printed = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = on_one_line(&cause.to_string());
        if !printed.contains(&text) {
            printed.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// Returns text without line breaks: other libraries print lists with one item on each line.
fn on_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.fold(String::new(), |mut joined, line| {
        match joined.chars().last() {
            None => {}
            Some(':' | ';' | ',') => joined.push(' '),
            Some(_) => joined.push_str("; "),
        }
        joined.push_str(line);
        joined
    })
}

/// Returns the kind of the operating system error that caused an error.
pub(crate) fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use ark_container_core::ResourceKind;

    use super::*;

    #[test]
    fn causes_are_printed_once_and_on_one_line() {
        let disk_full = Error::failed("cannot write x: disk is full")
            .with_source(io::Error::other("disk is full"));
        let list = io::Error::other("tried:\n  a: no\n  b: no\n");
        for (error, expected) in [
            (
                Error::failed("cannot push").with_source(disk_full),
                "cannot push: cannot write x: disk is full",
            ),
            (Error::failed("x").with_source(list), "x: tried: a: no; b: no"),
        ] {
            assert_eq!(Failure::from(error).to_string(), expected);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let failure = Failure::from(Error::invalid("\u{1b}[2Jgone")).with_help("a\nb");
        assert_eq!(failure.for_people(), "error: \\u{1b}[2Jgone\n  help: a\n        b");
    }

    #[test]
    fn json_has_message_causes_and_help() {
        let failure = Failure::from(Error::temporary("slow").with_source(io::Error::other("loss")));
        let expected = serde_json::json!({
            "kind": "temporary", "message": "slow", "causes": ["loss"],
            "help": "try again in a while", "exit_code": 7,
        });
        assert_eq!(serde_json::to_value(failure.for_programs()).unwrap(), expected);
    }

    #[test]
    fn errors_have_their_documented_exit_codes() {
        let kind = ResourceKind::Image;
        for (error, code) in [
            (Error::failed("x").with_source(io::Error::other("y")), 1),
            (Error::invalid("x"), 2),
            (Error::unauthenticated("x"), 3),
            (Error::permission_denied("p", "push to", "r"), 4),
            (Error::not_found(kind, "x"), 5),
            (Error::conflict(kind, "x", "is there"), 6),
            (Error::temporary("x").with_source(io::Error::other("y")), 7),
        ] {
            assert_eq!(Failure::from(error).kind as u8, code);
        }
    }
}
