//! [`Error`]: what can go wrong, named for what the caller does next.

use std::fmt;

use crate::model::ParseError;

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

/// What can go wrong. The variant says what a caller can do; the text says what happened.
///
/// A cause is in [`source`](std::error::Error::source) and never repeated in the text, so print the
/// whole chain to say all that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request can never succeed as it is: correct the input.
    #[error(transparent)]
    Parse(#[from] ParseError),

    /// The request can never succeed as it is, for a reason beyond one text's form.
    #[error("{message}")]
    InvalidInput {
        /// What is wrong with it.
        message: String,
    },

    /// Nobody is known to be asking, or their proof has expired: authenticate again.
    #[error("not authenticated: {message}")]
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
    PermissionDenied {
        /// Who asked.
        principal: String,
        /// What they asked to do, such as `push to`.
        action: String,
        /// What with: a repository's path or an organization.
        resource: String,
    },

    /// What was asked for does not exist: create it first, or correct its name.
    #[error("{kind} {name} does not exist")]
    NotFound {
        /// What kind of thing.
        kind: ResourceKind,
        /// Which one.
        name: String,
    },

    /// Something that exists is in the way, and asking again will not change that.
    #[error("{kind} {name} {problem}")]
    Conflict {
        /// What kind of thing.
        kind: ResourceKind,
        /// Which one.
        name: String,
        /// Why it is in the way, such as `already exists with mutable tags`.
        problem: String,
    },

    /// It may well succeed when tried again after a while.
    #[error("{message}")]
    Temporary {
        /// What failed.
        message: String,
        /// Why.
        #[source]
        source: Option<BoxError>,
    },

    /// Anything else: a disk that is full, an answer that makes no sense, a file that is damaged.
    #[error("{message}")]
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
        matches!(self, Self::Temporary { .. })
    }

    /// What kind of error it is, in one stable word for programs: `invalid_input`, `not_authenticated`,
    /// `not_permitted`, `not_found`, `conflict`, `temporary` or `other`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Parse(_) | Self::InvalidInput { .. } => "invalid_input",
            Self::Unauthenticated { .. } => "not_authenticated",
            Self::PermissionDenied { .. } => "not_permitted",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Temporary { .. } => "temporary",
            Self::Failed { .. } => "other",
        }
    }

    /// An [`Error::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidInput { message: message.into() }
    }

    /// An [`Error::Failed`] with its cause.
    pub fn failed(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Failed { message: message.into(), source: Some(source.into()) }
    }

    /// An [`Error::Temporary`] with its cause.
    pub fn temporary(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Temporary { message: message.into(), source: Some(source.into()) }
    }

    /// An [`Error::NotFound`] for a repository, image, blob, upload or file.
    pub fn not_found(kind: ResourceKind, name: impl fmt::Display) -> Self {
        Self::NotFound { kind, name: name.to_string() }
    }

    /// An [`Error::Conflict`] with a repository, image, blob, upload or file.
    pub fn conflict(
        kind: ResourceKind,
        name: impl fmt::Display,
        problem: impl Into<String>,
    ) -> Self {
        Self::Conflict { kind, name: name.to_string(), problem: problem.into() }
    }
}
