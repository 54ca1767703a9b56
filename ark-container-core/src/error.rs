//! [`Error`]: what can go wrong, named for what the caller does next.

use std::fmt;

use crate::model::{Decision, ParseError};

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause of another type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a request was about when it was not found or was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResourceKind {
    /// A repository, named by its path.
    Repository,
    /// An image, named by its path and reference.
    Image,
    /// A blob, named by its digest.
    Blob,
    /// A running upload, named by its identifier.
    Upload,
    /// A file of this machine, named by its path.
    File,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => "repository",
            Self::Image => "image",
            Self::Blob => "blob",
            Self::Upload => "upload",
            Self::File => "file",
        })
    }
}

/// The kind of an [`Error`], for programs that decide or report by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// [`Error::InvalidInput`] and [`Error::Parse`].
    InvalidInput,
    /// [`Error::Unauthenticated`].
    Unauthenticated,
    /// [`Error::PermissionDenied`].
    PermissionDenied,
    /// [`Error::NotFound`].
    NotFound,
    /// [`Error::Conflict`].
    Conflict,
    /// [`Error::Temporary`].
    Temporary,
    /// [`Error::Failed`].
    Failed,
}

impl ErrorKind {
    /// The stable word of this kind in reports: `invalid_input`, `not_authenticated`, `not_permitted`,
    /// `not_found`, `conflict`, `temporary` or `other`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Unauthenticated => "not_authenticated",
            Self::PermissionDenied => "not_permitted",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Temporary => "temporary",
            Self::Failed => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can go wrong. The variant says what a caller can do; the text says what happened.
///
/// A cause is in [`source`](std::error::Error::source) and never repeated in the text, so print the
/// whole chain to say all that is known. Constructors such as [`Error::failed`] make errors, and
/// [`with_source`](Self::with_source) adds their cause:
///
/// ```
/// use ark_container_core::{Error, ErrorKind};
///
/// let cause = std::io::Error::other("disk full");
/// let error = Error::failed("cannot write the index").with_source(cause);
/// assert_eq!(error.kind(), ErrorKind::Failed);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request can never succeed as it is: correct the input.
    #[error(transparent)]
    Parse(#[from] ParseError),

    /// The request can never succeed as it is, for a reason beyond one text's form.
    #[error("{message}")]
    #[non_exhaustive]
    InvalidInput {
        /// What is wrong with it.
        message: String,
        /// Why.
        #[source]
        source: Option<BoxError>,
    },

    /// The caller is unknown, or their proof has expired: authenticate again.
    #[error("not authenticated: {message}")]
    #[non_exhaustive]
    Unauthenticated {
        /// What is missing or was refused.
        message: String,
        /// What refused it, where that is known.
        #[source]
        source: Option<BoxError>,
    },

    /// The principal is known and may not do this: ask an administrator of the organization.
    ///
    /// The same whether or not what was asked for exists.
    #[error("{principal} may not {action} {resource}")]
    #[non_exhaustive]
    PermissionDenied {
        /// Who asked.
        principal: String,
        /// What they asked to do, such as `push to`.
        action: String,
        /// What with: a repository's path or an organization.
        resource: String,
        /// The rule that denied it and its reason; `None` where the registry denied it.
        decision: Option<Box<Decision>>,
        /// The registry's own words, where it denied it.
        #[source]
        source: Option<BoxError>,
    },

    /// What was asked for does not exist: create it first, or correct its name.
    #[error("{kind} {name} does not exist")]
    #[non_exhaustive]
    NotFound {
        /// What kind of thing.
        kind: ResourceKind,
        /// Which one.
        name: String,
        /// Why it is taken not to exist, where that is known.
        #[source]
        source: Option<BoxError>,
    },

    /// Something that exists is in the way, and asking again will not change that.
    #[error("{kind} {name} {problem}")]
    #[non_exhaustive]
    Conflict {
        /// What kind of thing.
        kind: ResourceKind,
        /// Which one.
        name: String,
        /// Why it is in the way, such as `already exists with mutable tags`.
        problem: String,
        /// What reported it, where that is known.
        #[source]
        source: Option<BoxError>,
    },

    /// It may well succeed when tried again after a while.
    #[error("{message}")]
    #[non_exhaustive]
    Temporary {
        /// What failed.
        message: String,
        /// Why.
        #[source]
        source: Option<BoxError>,
    },

    /// A setting cannot be used: correct it where it was made. The [kind](Self::kind) is that of the error
    /// inside.
    #[error(transparent)]
    Setting(Box<InvalidSetting>),

    /// Anything else: a disk that is full, an answer that makes no sense, a file that is damaged.
    #[error("{message}")]
    #[non_exhaustive]
    Failed {
        /// What failed.
        message: String,
        /// Why.
        #[source]
        source: Option<BoxError>,
    },
}

impl Error {
    /// Whether the same request may succeed after a while, with nothing changed.
    pub fn is_temporary(&self) -> bool {
        self.kind() == ErrorKind::Temporary
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::InvalidInput { .. } => ErrorKind::InvalidInput,
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Temporary { .. } => ErrorKind::Temporary,
            Self::Failed { .. } => ErrorKind::Failed,
            Self::Setting(invalid) => invalid.error.kind(),
        }
    }

    /// Creates an [`Error::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidInput { message: message.into(), source: None }
    }

    /// Creates an [`Error::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::Unauthenticated { message: message.into(), source: None }
    }

    /// Creates an [`Error::PermissionDenied`] of a registry; a policy's has
    /// [its decision](Self::with_decision) too.
    pub fn permission_denied(
        principal: impl fmt::Display,
        action: impl Into<String>,
        resource: impl fmt::Display,
    ) -> Self {
        Self::PermissionDenied {
            principal: principal.to_string(),
            action: action.into(),
            resource: resource.to_string(),
            decision: None,
            source: None,
        }
    }

    /// Creates an [`Error::NotFound`] for a repository, image, blob, upload or file.
    pub fn not_found(kind: ResourceKind, name: impl fmt::Display) -> Self {
        Self::NotFound { kind, name: name.to_string(), source: None }
    }

    /// Creates an [`Error::Conflict`] with a repository, image, blob, upload or file.
    pub fn conflict(
        kind: ResourceKind,
        name: impl fmt::Display,
        problem: impl Into<String>,
    ) -> Self {
        Self::Conflict { kind, name: name.to_string(), problem: problem.into(), source: None }
    }

    /// Creates an [`Error::Temporary`].
    pub fn temporary(message: impl Into<String>) -> Self {
        Self::Temporary { message: message.into(), source: None }
    }

    /// Creates an [`Error::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), source: None }
    }

    /// Returns this error with its cause. An [`Error::Parse`] has none and stays as it is.
    pub fn with_source(mut self, cause: impl Into<BoxError>) -> Self {
        match &mut self {
            Self::Parse(_) => {}
            Self::InvalidInput { source, .. }
            | Self::Unauthenticated { source, .. }
            | Self::PermissionDenied { source, .. }
            | Self::NotFound { source, .. }
            | Self::Conflict { source, .. }
            | Self::Temporary { source, .. }
            | Self::Failed { source, .. } => *source = Some(cause.into()),
            Self::Setting(invalid) => {
                let error = std::mem::replace(&mut invalid.error, Self::invalid(""));
                invalid.error = error.with_source(cause);
            }
        }
        self
    }

    /// Returns the [`Error::Setting`] for a setting that was made at `origin`, such as `ARK_REGISTRY`.
    pub(crate) fn within(self, origin: impl fmt::Display) -> Self {
        let mut invalid = self.into_setting();
        invalid.origin = Some(origin.to_string().into());
        Self::Setting(invalid)
    }

    /// Returns the [`Error::Setting`] with what to set instead.
    pub(crate) fn with_help(self, help: impl Into<Box<str>>) -> Self {
        let mut invalid = self.into_setting();
        invalid.help = Some(help.into());
        Self::Setting(invalid)
    }

    fn into_setting(self) -> Box<InvalidSetting> {
        match self {
            Self::Setting(invalid) => invalid,
            error => Box::new(InvalidSetting { origin: None, error, help: None }),
        }
    }

    /// Returns this [`Error::PermissionDenied`] with the decision of the policy that denied it. An
    /// error of another kind stays as it is.
    pub fn with_decision(mut self, denial: Decision) -> Self {
        if let Self::PermissionDenied { decision, .. } = &mut self {
            *decision = Some(Box::new(denial));
        }
        self
    }
}

/// Returns whether the certificate of a server is not trusted, by the text of the error and its causes.
#[cfg(any(feature = "push", feature = "token"))]
pub(crate) fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).any(|text| {
        ["certificate", "TLS", "tls ", "received corrupt message"].iter().any(|t| text.contains(t))
    })
}

/// Returns the error of a request whose TLS connection is not trusted: no other attempt has one.
#[cfg(any(feature = "push", feature = "token"))]
pub(crate) fn untrusted(request: impl fmt::Display) -> Error {
    Error::invalid(format!("{request}: there is no trusted TLS connection to the server")).with_help(
        "name the file of its root certificate: export SSL_CERT_FILE=FILE (AWS_CA_BUNDLE for the API \
         of AWS alone); a proxy that inspects TLS has a root certificate of its own",
    )
}

/// A setting that cannot be used: where it was made, what is wrong, and what to set instead.
///
/// As text it is one sentence with all three.
#[derive(Debug)]
pub struct InvalidSetting {
    origin: Option<Box<str>>,
    error: Error,
    help: Option<Box<str>>,
}

impl InvalidSetting {
    /// Where the setting was made, such as `ARK_REGISTRY`, where that is known.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// What is wrong with it.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What to set instead, where there is more to say.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Takes the parts: [`origin`](Self::origin), [`error`](Self::error) and [`help`](Self::help).
    pub fn into_parts(self) -> (Option<String>, Error, Option<String>) {
        (self.origin.map(String::from), self.error, self.help.map(String::from))
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        self.error.fmt(f)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for InvalidSetting {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
