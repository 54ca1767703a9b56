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
    /// Whether it opens `path` for `access`.
    fn allows(&self, path: &RepositoryPath, access: Access) -> bool;
}

/// The local registry's passwords are tokens that carry their scope.
impl Authorize for Signer {
    fn permit(&self, password: &Password) -> Result<Box<dyn Permit>, TokenError> {
        self.verify(password.expose()).map(|scope| Box::new(scope) as Box<dyn Permit>)
    }
}

impl Permit for Scope {
    fn allows(&self, path: &RepositoryPath, access: Access) -> bool {
        self.covers(path, access)
    }
}
