//! [`SettingsError`]: a setting that does not do.

use std::fmt;

use crate::error::Error;
use crate::model::ParseError;

/// A setting that does not do: where it was made, what is wrong with it, and what to set instead.
///
/// A program that shows the three apart takes [`into_parts`](Self::into_parts); as an [`Error`] they are
/// one sentence.
#[derive(Debug)]
pub struct SettingsError {
    place: Option<Box<str>>,
    error: Box<Error>,
    help: Option<Box<str>>,
}

impl SettingsError {
    /// Text that can never do.
    pub(in crate::catalog) fn invalid(problem: impl Into<String>) -> Self {
        Error::invalid(problem).into()
    }

    /// The same error, where the setting was made.
    pub(in crate::catalog) fn within(self, place: impl fmt::Display) -> Self {
        Self { place: Some(place.to_string().into()), ..self }
    }

    /// The same error, with what to set instead.
    pub(in crate::catalog) fn with_help(self, help: impl Into<Box<str>>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Where the setting was made, such as `ARK_REGISTRY`; what is wrong; and what to set instead.
    pub fn into_parts(self) -> (Option<String>, Error, Option<String>) {
        (self.place.map(String::from), *self.error, self.help.map(String::from))
    }

    /// Text with where before it, and what to do behind it.
    fn sentence(&self, message: &str) -> String {
        let place = self.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        let help = self.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
        format!("{place}{message}{help}")
    }
}

impl From<Error> for SettingsError {
    fn from(error: Error) -> Self {
        Self { place: None, error: Box::new(error), help: None }
    }
}

impl From<ParseError> for SettingsError {
    fn from(error: ParseError) -> Self {
        Error::from(error).into()
    }
}

impl From<SettingsError> for Error {
    fn from(settings: SettingsError) -> Self {
        let message = |message: &str| settings.sentence(message);
        match &*settings.error {
            Self::Parse(error) => Self::invalid(message(&error.to_string())),
            Self::InvalidInput { message: problem, .. } => Self::invalid(message(problem)),
            _ => *settings.error,
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(&self.error.to_string()))
    }
}

impl std::error::Error for SettingsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
