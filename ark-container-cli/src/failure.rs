//! How the program ends when it does not succeed: exit code, message, causes, what to type next.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use ark_container_core::Error;
use ark_container_core::backend::ecr::AwsRefusal;
use ark_container_core::identity::PrincipalName;
use serde::Serialize;

use crate::hint;
use crate::output::{Format, visible};

/// Why an operation stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever read the results has read enough: no failure, nothing to say.
    ReaderGone,
    /// The result is that something is not permitted, and it has been told.
    Denied,
    /// It was interrupted from the keyboard, which has been told.
    Interrupted,
    /// It failed.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Stop {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// The documented exit codes but 0.
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

/// A failure as programs read it.
#[derive(Debug, Serialize)]
struct ErrorRecord<'a> {
    kind: Kind,
    message: &'a str,
    causes: &'a [String],
    help: Option<&'a str>,
    exit_code: u8,
}

/// What tells an error from a note.
#[derive(Debug, Serialize)]
struct ErrorLine<'a> {
    error: ErrorRecord<'a>,
}

/// What failed, why, and what to do about it.
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

    /// The command line or a setting is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The operating system refused something.
    pub(crate) fn io(message: impl Into<String>, error: &io::Error) -> Self {
        Self { causes: vec![error.to_string()], ..Self::new(Kind::Other, message) }
    }

    /// The same failure with what to type next.
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same failure with what to type next, where it has nothing on that yet.
    pub(crate) fn or_help(self, help: &str) -> Self {
        Self { help: self.help.or_else(|| Some(help.to_owned())), ..self }
    }

    /// The same failure with something more to type next, on a line of its own.
    pub(crate) fn and_help(self, more: &str) -> Self {
        let help = self.help.map_or_else(|| more.to_owned(), |help| format!("{help}\n{more}"));
        Self { help: Some(help), ..self }
    }

    /// What to type next.
    pub(crate) fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// What kind of failure it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same failure, with what people are shown of how the program is used.
    pub(crate) fn with_usage(self, usage: impl Into<String>) -> Self {
        Self { usage: Some(usage.into()), ..self }
    }

    /// The same failure, where it happened put before its message.
    pub(crate) fn within(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// Tells standard error, and returns the exit code.
    ///
    /// Standard error that cannot be written to leaves only the exit code to tell.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        let mut stderr = io::stderr().lock();
        let _ = match format {
            Format::Table => writeln!(stderr, "{}", self.for_people()),
            Format::Json => {
                serde_json::to_writer(&mut stderr, &ErrorLine { error: self.as_record() })
                    .map_err(io::Error::from)
                    .and_then(|()| writeln!(stderr))
            }
        };
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

    fn as_record(&self) -> ErrorRecord<'_> {
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
        write!(f, "{}", visible(&self.message))?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {}", visible(cause)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Parse(_) | Error::InvalidInput { .. } => Kind::Usage,
            Error::Unauthenticated { .. } => Kind::NotAuthenticated,
            Error::PermissionDenied { .. } => Kind::NotPermitted,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Conflict { .. } => Kind::Conflict,
            Error::Temporary { .. } => Kind::Temporary,
            _ => Kind::Other,
        };
        let help = match &error {
            Error::Parse(error) => hint::example_of(error),
            Error::PermissionDenied { principal, .. } => Some(match principal.parse() {
                Ok::<PrincipalName, _>(_) => hint::WHOAMI,
                // No principal of ours, so it was AWS that refused.
                Err(_) => hint::DENIED_BY_AWS,
            }),
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

/// What clap says: its first paragraph is the message, and the rest is on usage.
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

/// What stands behind an error, without what was said already.
///
/// Errors of other libraries often repeat their cause in their own text.
fn causes(error: &dyn StdError) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = on_one_line(&cause.to_string());
        if !said.contains(&text) {
            said.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// Text without its line breaks; lists of other libraries have one item on a line.
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

/// What the operating system said, where an error goes back to it.
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
    fn a_cause_that_was_said_already_is_not_said_again() {
        let inner = io::Error::other("disk is full");
        let middle = Error::failed("cannot write x: disk is full").with_source(inner);
        let outer = Error::failed("cannot push").with_source(middle);
        let failure = Failure::from(outer);
        assert_eq!(failure.to_string(), "cannot push: cannot write x: disk is full");
    }

    #[test]
    fn a_cause_with_several_lines_is_told_on_one() {
        let failure = Failure::from(
            Error::failed("x").with_source(io::Error::other("tried:\n  a: no\n  b: no\n")),
        );
        assert_eq!(failure.to_string(), "x: tried: a: no; b: no");
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let failure = Failure::from(Error::invalid("\u{1b}[2Jgone")).with_help("a\nb");
        assert_eq!(failure.for_people(), "error: \\u{1b}[2Jgone\n  help: a\n        b");
    }

    #[test]
    fn json_says_all_that_people_are_told() {
        let failure = Failure::from(Error::temporary("slow").with_source(io::Error::other("loss")));
        let expected = serde_json::json!({
            "kind": "temporary", "message": "slow", "causes": ["loss"],
            "help": "try again in a while", "exit_code": 7,
        });
        assert_eq!(serde_json::to_value(failure.as_record()).unwrap(), expected);
    }

    #[test]
    fn each_variant_has_its_documented_exit_code() {
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
