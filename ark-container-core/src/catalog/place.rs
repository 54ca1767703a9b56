//! [`Place`]: where the repositories are, opened.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::settings::{Settings, SettingsError};
use crate::backend::RegistryBackend;
#[cfg(feature = "ecr")]
use crate::backend::ecr::EcrBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;
use crate::identity::Principal;
use crate::model::RegistryLocation;

/// The kinds of registry that a catalog opens by itself.
///
/// It does as it is told: who may tell it is for others to decide.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    #[cfg(feature = "local")]
    Local(LocalBackend),
    /// An account's registry in AWS.
    #[cfg(feature = "ecr")]
    Ecr(EcrBackend),
}

/// How a registry is used, where there is a choice that is no setting.
#[cfg_attr(not(feature = "ecr"), allow(dead_code, reason = "not every registry has the choice"))]
#[derive(Debug, Clone, Default)]
pub(super) struct Habits {
    /// How long credentials are good, where that can be chosen.
    pub(super) credentials_lifetime: Option<Duration>,
    /// How often each call to AWS is tried at most.
    pub(super) max_attempts: Option<u32>,
    /// List by reading through all that the registry has.
    pub(super) full_scan: bool,
}

impl Place {
    /// Opens what the settings say, with the token in a file where that says who asks. A folder is made where there is none; AWS is not called.
    pub(super) fn open(
        settings: &Settings,
        token_file: Option<&Path>,
        principal: Option<&Principal>,
        habits: &Habits,
    ) -> Result<Self, SettingsError> {
        match &settings.registry {
            #[cfg(feature = "local")]
            RegistryLocation::Local { directory } => {
                let local = LocalBackend::open(directory.as_deref())?;
                Ok(Self::Local(match habits.credentials_lifetime {
                    Some(lifetime) => local.with_token_lifetime(lifetime),
                    None => local,
                }))
            }
            #[cfg(feature = "ecr")]
            RegistryLocation::Ecr { host, stage } => {
                let ecr = EcrBackend::builder(host.clone(), stage.clone());
                aws::configured(ecr, &settings.ecr, token_file, principal, habits).map(Self::Ecr)
            }
            #[cfg(not(all(feature = "local", feature = "ecr")))]
            elsewhere => {
                let _ = (token_file, principal, habits);
                let feature = match elsewhere {
                    RegistryLocation::Local { .. } => "local",
                    RegistryLocation::Ecr { .. } => "ecr",
                };
                Err(without_feature(elsewhere, feature).within(&settings.registry_origin))
            }
        }
    }

    /// The registry as any other.
    pub fn backend(&self) -> Arc<dyn RegistryBackend> {
        match *self {
            #[cfg(feature = "local")]
            Self::Local(ref local) => Arc::new(local.clone()),
            #[cfg(feature = "ecr")]
            Self::Ecr(ref ecr) => Arc::new(ecr.clone()),
        }
    }

    /// What a backend that a program opened is, if it is one of these kinds.
    ///
    /// A backend behind pointers, such as `Arc<dyn RegistryBackend>`, is what it points to.
    pub(super) fn of(backend: &dyn Any) -> Option<Self> {
        if let Some(pointer) = backend.downcast_ref::<Arc<dyn RegistryBackend>>() {
            return Self::of(&**pointer as &dyn Any);
        }
        if let Some(pointer) = backend.downcast_ref::<Box<dyn RegistryBackend>>() {
            return Self::of(&**pointer as &dyn Any);
        }
        #[cfg(feature = "local")]
        if let Some(local) = backend.downcast_ref::<LocalBackend>() {
            return Some(Self::Local(local.clone()));
        }
        #[cfg(feature = "ecr")]
        if let Some(ecr) = backend.downcast_ref::<EcrBackend>() {
            return Some(Self::Ecr(ecr.clone()));
        }
        let _ = backend;
        None
    }
}

/// That this build of the library cannot do something.
#[cfg(not(all(feature = "local", feature = "ecr", feature = "token")))]
pub(super) fn without_feature(what: impl std::fmt::Display, feature: &str) -> SettingsError {
    SettingsError::invalid(format!("this program is built without what {what} takes")).with_help(
        format!("turn on the feature {feature:?} of ark-container-core in its Cargo.toml"),
    )
}

#[cfg(feature = "ecr")]
mod aws {
    use super::*;
    use crate::backend::ecr::EcrBackendBuilder;
    use crate::catalog::settings::EcrSettings;
    use crate::credentials::cache::CredentialsCache;
    use crate::error::Error;
    use crate::identity::TokenFile;

    /// An account's registry; nothing is called before it is used.
    pub(super) fn configured(
        ecr: EcrBackendBuilder,
        settings: &EcrSettings,
        token_file: Option<&Path>,
        principal: Option<&Principal>,
        habits: &Habits,
    ) -> Result<EcrBackend, SettingsError> {
        let mut ecr = ecr.require_scoped(settings.require_scoped).full_scan(habits.full_scan);
        if let Some(file) = token_file {
            ecr = ecr.web_identity(TokenFile::new(file));
        }
        if let Some(profile) = &settings.profile {
            ecr = ecr.profile(profile);
        }
        if let Some(role_arn) = &settings.role_arn {
            ecr = ecr.role_arn(role_arn.as_str());
        }
        if let Some(role_arn) = &settings.administrator_role_arn {
            ecr = ecr.administrator_role_arn(role_arn.as_str());
        }
        if let Some(lifetime) = habits.credentials_lifetime {
            ecr = ecr.credentials_lifetime(lifetime);
        }
        if let Some(attempts) = habits.max_attempts {
            ecr = ecr.max_attempts(attempts);
        }
        if let Some(principal) = principal {
            ecr = ecr.principal(principal);
        }
        if let Some(directory) = CredentialsCache::user_directory() {
            ecr = ecr.cache_directory(directory);
        }
        if let Some(file) = &settings.repository_policy {
            ecr = ecr.repository_policy(repository_policy(file)?);
        }
        Ok(ecr.build())
    }

    /// What the file of the repository policy says.
    fn repository_policy(file: &Path) -> Result<String, SettingsError> {
        std::fs::read_to_string(file).map_err(|error| {
            let failed =
                Error::failed(format!("cannot read {}", file.display())).with_source(error);
            SettingsError::from(failed).with_help(
                "repository_policy in the table [ecr] names it; one to begin with: \
                 ark-catalog-container-tool --iam-policy --repository-policy",
            )
        })
    }
}
