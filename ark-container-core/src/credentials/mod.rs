//! [`RegistryCredentials`]: the user name, password and scope with which a client authenticates to a registry.

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

/// The user name for AWS ECR and for registries of this project.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>
pub const USERNAME: &str = "AWS";

/// A password that `Debug` does not print, and whose memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// Creates a password from its text.
    pub fn new(password: String) -> Self {
        Self(password.into())
    }

    /// Returns the text of the password.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Whether the registry restricts credentials to their scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Narrowing {
    /// The registry denies every request outside of the scope.
    Scoped,
    /// The registry allows every request that the caller may make. The scope is only the requested one.
    Caller,
}

/// Options for registry credentials.
///
/// By default the backend chooses the lifetime, and cached credentials are used until shortly before they
/// expire.
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
    /// The lifetime of new credentials. A backend that does not support this lifetime returns an error.
    pub lifetime: Option<Duration>,
    /// The minimum time until the returned credentials expire, whether new or cached.
    ///
    /// If this is `None` and `lifetime` is set, the credentials expire after almost the whole lifetime.
    pub min_remaining: Option<Duration>,
    /// Whether credentials that the registry does not restrict to their scope are an error.
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

/// Credentials for a registry: what a client sends to authenticate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegistryCredentials {
    /// The registry that accepts the credentials.
    pub host: RegistryHost,
    /// The user name for HTTP Basic authentication.
    pub username: String,
    /// The password for HTTP Basic authentication.
    pub password: Password,
    /// The time when the credentials expire.
    pub expires_at: SystemTime,
    /// The requested scope: repositories and access level.
    pub scope: Scope,
    /// Whether the registry restricts the credentials to the scope.
    pub narrowing: Narrowing,
    /// Shared by all clones, so that the cache that returned the credentials sees the change.
    refused: Arc<AtomicBool>,
}

impl RegistryCredentials {
    /// Creates [scoped](Narrowing::Scoped) credentials of the user [`USERNAME`].
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

    /// Marks these credentials as rejected by the registry before their expiry, because they or the AWS session
    /// behind them were revoked. A cache does not return them or a clone of them again.
    pub fn mark_refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Returns whether the registry has rejected these credentials.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sets the narrowing.
    pub fn with_narrowing(self, narrowing: Narrowing) -> Self {
        Self { narrowing, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Access, OrganizationId, Stage};

    #[test]
    fn debug_output_has_no_password() {
        let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
        let host = "localhost:1".parse().unwrap();
        let password = Password::new("hunter2".to_owned());
        let credentials = RegistryCredentials::new(host, password, SystemTime::UNIX_EPOCH, scope);
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
