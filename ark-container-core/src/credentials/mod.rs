//! [`RegistryCredentials`]: what a client shows to a registry, and how far it reaches.

#[cfg(feature = "ecr")]
pub mod cache;
mod docker_config;
#[cfg(feature = "push")]
mod foreign;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use crate::model::{RegistryHost, Scope};

pub use docker_config::DockerConfig;
#[cfg(feature = "push")]
pub use foreign::{CredentialFiles, ForeignCredentials};

/// The user name that registries of this project and AWS ECR expect.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>
pub const USERNAME: &str = "AWS";

/// A password: it cannot be printed by accident, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// Takes a password into custody.
    pub fn new(password: String) -> Self {
        Self(password.into())
    }

    /// The password itself, for the one place that must show it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What keeps a client within the scope of its credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Narrowing {
    /// The registry refuses everything beyond the scope.
    Scoped,
    /// Nothing. The credentials reach everything that the caller can; the scope is the requested one.
    Caller,
}

/// What registry credentials are asked for, beside their scope.
///
/// The default takes the lifetime that the backend chooses, and cached credentials until shortly before
/// they expire.
///
/// ```
/// use std::time::Duration;
///
/// use ark_container_core::credentials::CredentialsOptions;
///
/// let options = CredentialsOptions::default()
///     .with_lifetime(Duration::from_secs(3600))
///     .with_min_remaining(Duration::from_secs(1800))
///     .with_require_scoped(true);
/// # assert!(options.require_scoped);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialsOptions {
    /// The lifetime of new credentials. A backend that cannot keep it returns an error.
    pub lifetime: Option<Duration>,
    /// The minimum time until the returned credentials expire, whether they are new or cached.
    ///
    /// Without it, credentials with a lifetime have almost all of that lifetime left.
    pub min_remaining: Option<Duration>,
    /// Whether the registry must restrict the credentials to their scope.
    pub require_scoped: bool,
}

impl CredentialsOptions {
    /// Sets the [lifetime](Self::lifetime) of new credentials.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sets the [minimum time](Self::min_remaining) until the returned credentials expire.
    pub fn with_min_remaining(mut self, min_remaining: Duration) -> Self {
        self.min_remaining = Some(min_remaining);
        self
    }

    /// Sets whether the registry [must restrict](Self::require_scoped) the credentials to their scope.
    pub fn with_require_scoped(mut self, require_scoped: bool) -> Self {
        self.require_scoped = require_scoped;
        self
    }
}

/// A login to a registry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegistryCredentials {
    /// The registry that takes them.
    pub host: RegistryHost,
    /// The user name for HTTP Basic authentication.
    pub username: String,
    /// The password that goes with it.
    pub password: Password,
    /// When the registry stops taking them.
    pub expires_at: SystemTime,
    /// What they are for.
    pub scope: Scope,
    /// Whether the registry holds them to the scope.
    pub narrowing: Narrowing,
    /// Shared by all clones, so that the cache that returned this login learns of it.
    refused: Arc<AtomicBool>,
}

impl RegistryCredentials {
    /// Credentials for the user [`USERNAME`], which the registry holds to the scope.
    pub fn new(
        host: RegistryHost,
        password: Password,
        expires_at: SystemTime,
        scope: Scope,
    ) -> Self {
        let username = USERNAME.to_owned();
        let (narrowing, refused) = (Narrowing::Scoped, Arc::default());
        Self { host, username, password, expires_at, scope, narrowing, refused }
    }

    /// Says that the registry refuses this login, though it is not to expire yet: it was withdrawn, or
    /// died with what it was made from. A cache that gave it, or any clone of it, does not give it again.
    pub fn mark_refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the registry was seen to refuse it.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// These credentials with another narrowing.
    pub fn with_narrowing(self, narrowing: Narrowing) -> Self {
        Self { narrowing, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Access, OrganizationId, Stage};

    #[test]
    fn debug_shows_no_password() {
        let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
        let host = "localhost:1".parse().unwrap();
        let password = Password::new("hunter2".to_owned());
        let credentials = RegistryCredentials::new(host, password, SystemTime::UNIX_EPOCH, scope);
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
