//! [`Error`]: the error type of the library. The variant tells what the caller can do.

use std::fmt;

use crate::model::{Decision, ParseError};

/// The result of a fallible operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The type of a cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The kind of the object that a request did not find or that conflicts with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResourceKind {
    /// A repository, named by its path.
    Repository,
    /// An image, named by its path and reference.
    Image,
    /// A blob, named by its digest.
    Blob,
    /// An upload in progress, named by its identifier.
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

/// The kind of an [`Error`], for programs that handle or report errors by kind.
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
    /// Returns the stable word of the kind in reports: `invalid_input`, `not_authenticated`,
    /// `not_permitted`, `not_found`, `conflict`, `temporary` or `other`.
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

/// The error type of the library. The variant tells what the caller can do. The text tells what failed.
///
/// A cause is in [`source`](std::error::Error::source) and is not repeated in the text, so print the whole
/// chain for all details. Functions such as [`Error::failed`] create errors, and
/// [`with_source`](Self::with_source) sets the cause:
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
    /// The input has an invalid form. Correct it: the same request never succeeds.
    #[error(transparent)]
    Parse(#[from] ParseError),

    /// The input is invalid for a reason other than the form of one text. The same request never succeeds.
    #[error("{message}")]
    #[non_exhaustive]
    InvalidInput {
        /// The problem.
        message: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },

    /// There is no caller, or its token or login has expired or is invalid: authenticate again.
    #[error("not authenticated: {message}")]
    #[non_exhaustive]
    Unauthenticated {
        /// The problem.
        message: String,
        /// The cause, if known.
        #[source]
        source: Option<BoxError>,
    },

    /// The principal lacks the permission: ask an administrator of the organization.
    ///
    /// The error is the same whether or not the object exists.
    #[error("{principal} may not {action} {resource}")]
    #[non_exhaustive]
    PermissionDenied {
        /// The caller.
        principal: String,
        /// The action, such as `push to`.
        action: String,
        /// The object: the path of a repository, or an organization.
        resource: String,
        /// The decision of the policy; `None` if the registry denied the action.
        decision: Option<Box<Decision>>,
        /// The error of the registry, if it denied the action.
        #[source]
        source: Option<BoxError>,
    },

    /// The object does not exist: create it first, or correct its name.
    #[error("{kind} {name} does not exist")]
    #[non_exhaustive]
    NotFound {
        /// The kind of the object.
        kind: ResourceKind,
        /// The name of the object.
        name: String,
        /// The cause, if known.
        #[source]
        source: Option<BoxError>,
    },

    /// The request conflicts with an existing object. A retry does not succeed.
    #[error("{kind} {name} {problem}")]
    #[non_exhaustive]
    Conflict {
        /// The kind of the object.
        kind: ResourceKind,
        /// The name of the object.
        name: String,
        /// The conflict, such as `already exists with mutable tags`.
        problem: String,
        /// The cause, if known.
        #[source]
        source: Option<BoxError>,
    },

    /// The request failed for a temporary reason. A retry after a while may succeed.
    #[error("{message}")]
    #[non_exhaustive]
    Temporary {
        /// The problem.
        message: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },

    /// A setting is invalid: correct it at its origin. The [kind](Self::kind) is that of the inner error.
    #[error(transparent)]
    Setting(Box<InvalidSetting>),

    /// Any other failure, such as a full disk, an invalid response or a damaged file.
    #[error("{message}")]
    #[non_exhaustive]
    Failed {
        /// The problem.
        message: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
}

impl Error {
    /// Returns whether the same request may succeed after a while.
    pub fn is_temporary(&self) -> bool {
        self.kind() == ErrorKind::Temporary
    }

    /// Returns the kind of this error.
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

    /// Creates an [`Error::PermissionDenied`] of a registry. An error of a policy also has [its
    /// decision](Self::with_decision).
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

    /// Creates an [`Error::NotFound`].
    pub fn not_found(kind: ResourceKind, name: impl fmt::Display) -> Self {
        Self::NotFound { kind, name: name.to_string(), source: None }
    }

    /// Creates an [`Error::Conflict`].
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

    /// Sets the cause of this error. An [`Error::Parse`] has no cause and does not change.
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

    /// Returns the [`Error::Setting`] of a setting with this origin, such as `ARK_REGISTRY`.
    pub(crate) fn within(self, origin: impl fmt::Display) -> Self {
        let mut invalid = self.into_setting();
        invalid.origin = Some(origin.to_string().into());
        Self::Setting(invalid)
    }

    /// Returns the [`Error::Setting`] with this help.
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

    /// Sets the decision of the policy in an [`Error::PermissionDenied`]. Other errors do not change.
    pub fn with_decision(mut self, denial: Decision) -> Self {
        if let Self::PermissionDenied { decision, .. } = &mut self {
            *decision = Some(Box::new(denial));
        }
        self
    }
}

/// Returns whether the server's certificate is not trusted, from the text of the error and its causes.
#[cfg(any(feature = "push", feature = "token"))]
pub(crate) fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).any(|text| {
        ["certificate", "TLS", "tls ", "received corrupt message"].iter().any(|t| text.contains(t))
    })
}

/// Returns the error of a request whose TLS connection is not trusted. A retry does not help.
#[cfg(any(feature = "push", feature = "token"))]
pub(crate) fn untrusted(request: impl fmt::Display) -> Error {
    // On macOS, the HTTP client of registries reads only the keychain.
    // Source: <https://docs.rs/rustls-platform-verifier/0.7.1/rustls_platform_verifier/>
    let trust = match cfg!(target_os = "macos") {
        true => {
            "add its root certificate to the keychain: security add-trusted-cert \
             -k ~/Library/Keychains/login.keychain-db FILE"
        }
        false => "set the file of its root certificate: export SSL_CERT_FILE=FILE",
    };
    Error::invalid(format!("{request}: there is no trusted TLS connection to the server"))
        .with_help(format!(
            "{trust} (AWS_CA_BUNDLE for the AWS API only); a proxy that inspects TLS has its own root \
             certificate"
        ))
}

/// An invalid setting: its origin, the error, and help.
///
/// The text is one sentence with all three.
#[derive(Debug)]
pub struct InvalidSetting {
    origin: Option<Box<str>>,
    error: Error,
    help: Option<Box<str>>,
}

impl InvalidSetting {
    /// Returns the origin of the setting, such as `ARK_REGISTRY`, if known.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Returns the error of the setting.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the help: a correct value or another setting.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Returns the [`origin`](Self::origin), [`error`](Self::error) and [`help`](Self::help).
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
