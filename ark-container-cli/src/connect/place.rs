//! Where the repositories are.

use std::path::Path;
use std::sync::Arc;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::ecr::{EcrBackend, EcrBackendBuilder};
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{EcrHost, RegistryLocation, Stage};

use super::{Context, Identity};
use crate::args::PROGRAM;
use crate::failure::Failure;
use crate::settings::Origin;

/// The kinds of registry.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Local(LocalBackend),
    Ecr(EcrBackend),
}

impl Place {
    /// What does as it is told: who may tell it is for others to decide.
    pub(crate) fn backend(&self) -> Arc<dyn RegistryBackend> {
        match self {
            Self::Local(local) => Arc::new(local.clone()),
            Self::Ecr(ecr) => Arc::new(ecr.clone()),
        }
    }
}

/// How repositories are to be found, where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// By the index of the organization, where there is one.
    ByIndex,
    /// By reading through all that the registry has.
    AllPages,
}

/// What the file of the repository policy says.
fn repository_policy(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::io(format!("cannot read {}", file.display()), &error).with_help(format!(
            "repository_policy in the table [ecr] names it; one to begin with: {PROGRAM} \
             --iam-policy --repository-policy"
        ))
    })
}

impl Context {
    /// Opens the folder of a local registry.
    pub(crate) fn open_local(&self) -> Result<LocalBackend, Failure> {
        let RegistryLocation::Local { directory } = &self.settings.registry else {
            let message = format!("{} is no folder of this machine", self.settings.registry);
            return Err(Failure::usage(message)
                .with_help("AWS serves it; for a registry on this machine: --registry local:"));
        };
        let local = LocalBackend::open(directory.as_deref())?;
        if self.settings.registry_origin == Origin::Default {
            self.output.note(&format!(
                "the registry is {local}, since none was chosen (--registry, ARK_REGISTRY)"
            ));
        }
        Ok(local)
    }

    /// An account's registry; nothing is called before it is used.
    pub(super) fn ecr(
        &self,
        host: &EcrHost,
        stage: &Stage,
        identity: &Identity,
    ) -> Result<EcrBackendBuilder, Failure> {
        let settings = &self.settings.ecr;
        let mut ecr = EcrBackend::builder(host.clone(), stage.clone())
            .require_scoped(settings.require_scoped);
        if let Identity::Token { file, .. } = identity {
            ecr = ecr.web_identity(TokenFile::new(file));
        }
        if let Some(attempts) = self.max_attempts {
            ecr = ecr.max_attempts(attempts);
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
        if let Some(directory) = CredentialsCache::user_directory() {
            ecr = ecr.cache_directory(directory);
        }
        if let Some(file) = &settings.repository_policy {
            ecr = ecr.repository_policy(repository_policy(file)?);
        }
        Ok(ecr)
    }
}
