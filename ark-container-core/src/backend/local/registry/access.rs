//! [`Authorize`]: what a password opens, which a registry is given and does not decide itself.

use std::fmt;

use crate::backend::local::token::{Signer, TokenError};
use crate::credentials::Password;
use crate::model::{Access, RepositoryPath, Scope};

/// Judges the passwords that clients show.
pub(crate) trait Authorize: fmt::Debug + Send + Sync {
    /// What a password opens.
    ///
    /// # Errors
    /// [`TokenError::Expired`] for one that was good once, [`TokenError::Invalid`] for any other.
    fn permit(&self, password: &Password) -> Result<Box<dyn Permit>, TokenError>;
}

/// What a password opens. Nothing of it may depend on whether a repository exists: a client must not
/// tell one that is missing from one that it may not reach.
pub(crate) trait Permit: Send + Sync {
    /// Whether it opens `path` for `operation`.
    fn allows(&self, path: &RepositoryPath, operation: Operation) -> bool;
}

/// What a request does in a repository: finer than [`Access`], since other registries tell more apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ReadManifest,
    PutManifest,
    DeleteManifest,
    CheckBlob,
    ReadBlob,
    DeleteBlob,
    /// Reads a blob so as to have it in another repository too.
    MountBlob,
    StartUpload,
    AskForUpload,
    SendPart,
    FinishUpload,
    GiveUpUpload,
    ListTags,
    ListReferrers,
}

impl Operation {
    /// The access that it needs. Whoever may upload may also give an upload up.
    pub(crate) fn access(self) -> Access {
        match self {
            Self::ReadManifest
            | Self::CheckBlob
            | Self::ReadBlob
            | Self::MountBlob
            | Self::AskForUpload
            | Self::ListTags
            | Self::ListReferrers => Access::Pull,
            Self::PutManifest
            | Self::StartUpload
            | Self::SendPart
            | Self::FinishUpload
            | Self::GiveUpUpload => Access::Push,
            Self::DeleteManifest | Self::DeleteBlob => Access::Delete,
        }
    }
}

/// The local registry's passwords are tokens that carry their scope.
impl Authorize for Signer {
    fn permit(&self, password: &Password) -> Result<Box<dyn Permit>, TokenError> {
        self.verify(password.expose()).map(|scope| Box::new(scope) as Box<dyn Permit>)
    }
}

impl Permit for Scope {
    fn allows(&self, path: &RepositoryPath, operation: Operation) -> bool {
        self.covers(path, operation.access())
    }
}
