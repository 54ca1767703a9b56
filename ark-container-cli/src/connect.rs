//! Opens the registry of the settings, guarded for the principal.

use std::sync::Arc;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::catalog::CatalogBuilder;
use ark_container_core::model::{RegistryLocation, RepositoryName};
use ark_container_core::permission::{IsolationLayer, Permissioned};
use ark_container_core::{Catalog, Error, RegistryBackend, RegistryBackendExt as _};

use crate::arguments::OrganizationArgs;
use crate::failure::Failure;
use crate::hint::{self, Target};
use crate::output::Output;
use crate::settings::{Origin, Settings, missing_organization};

pub(crate) use ark_container_core::catalog::{Guard, Identity, Place};

/// What every operation is given beside its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    /// How often each call to AWS is tried at most; `None` for as often as it makes sense.
    pub(crate) max_attempts: Option<u32>,
}

/// How repositories are found, where the registry has a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// By the index of the organization, where there is one.
    ByIndex,
    /// By reading all repositories of the registry.
    AllPages,
}

/// A registry, opened for whoever asks.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where everything goes through: it asks the policy first.
    pub(crate) backend: Permissioned<Arc<dyn RegistryBackend>>,
    /// What the backend guards, for what one kind of registry has and others have not.
    pub(crate) place: Place,
    /// What the backend asks, to explain it and to choose defaults that it will allow.
    pub(crate) guard: Guard,
}

impl Context {
    /// Opens the registry for whoever asks.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        self.connect_for(Listing::ByIndex).await
    }

    /// Opens the registry for whoever asks, and says how repositories are to be listed.
    pub(crate) async fn connect_for(&self, listing: Listing) -> Result<Connection, Failure> {
        let guard = self.guard()?;
        let full_scan = listing == Listing::AllPages;
        let builder = self.builder().with_guard(guard.clone()).with_full_scan(full_scan);
        let catalog = builder.connect().await?;
        // On AWS it is a place where things are done in somebody's name.
        let place = catalog.place().unwrap_or(&guard.place).clone();
        Ok(Connection { backend: catalog.backend().clone(), place, guard })
    }

    /// A failure, with what to do about it as whoever asked.
    pub(crate) fn advise(&self, failure: Failure) -> Failure {
        match self.identity() {
            Ok(identity) => hint::for_identity(failure, &identity, &self.settings),
            // That nobody can ask is the failure itself.
            Err(_) => failure,
        }
    }

    /// Opens the registry for an operation on one repository.
    ///
    /// What was typed is checked before anything is touched.
    pub(crate) async fn connect_to(
        &self,
        name: &str,
        owner: &OrganizationArgs,
    ) -> Result<(Connection, Target), Failure> {
        let name: RepositoryName = name.parse().map_err(Error::Parse)?;
        let organization = self.settings.organization(owner.organization.as_deref())?;
        let organization = organization.ok_or_else(missing_organization)?;
        let connection = self.connect().await?;
        let path = connection.backend.repository_path(organization, &name)?;
        Ok((connection, Target::new(path, &self.settings)))
    }

    /// Gathers what decides, and opens the registry's folder.
    ///
    /// Nobody is asked for anything yet: no token or key is read, and AWS is not called.
    pub(crate) fn guard(&self) -> Result<Guard, Failure> {
        let guard = self.builder().guard()?;
        if let Place::Local(local) = &guard.place {
            self.note_unchosen(local);
        }
        Ok(guard)
    }

    /// Which identity counts.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        Ok(Identity::choose(&self.settings)?)
    }

    /// What is opened. Operations name the organization, and those that take none do not mind it.
    fn builder(&self) -> CatalogBuilder {
        let settings = self.settings.catalog.clone().without_organization();
        let builder = Catalog::builder().with_settings(settings);
        match self.max_attempts {
            Some(attempts) => builder.with_max_attempts(attempts),
            None => builder,
        }
    }

    /// Opens the folder of a local registry.
    pub(crate) fn open_local(&self) -> Result<LocalBackend, Failure> {
        let RegistryLocation::Local { directory } = &self.settings.registry else {
            let message = format!("{} is no folder of this machine", self.settings.registry);
            return Err(Failure::usage(message)
                .with_help("AWS serves it; for a registry on this machine: --registry local:"));
        };
        let local = LocalBackend::open(directory.as_deref())?;
        self.note_unchosen(&local);
        Ok(local)
    }

    /// Prints which registry is used if none was chosen, so that it is not taken for another.
    fn note_unchosen(&self, local: &LocalBackend) {
        if self.settings.registry_origin == Origin::Default {
            self.output.note(&format!(
                "the registry is {local}, since none was chosen (--registry, ARK_REGISTRY)"
            ));
        }
    }
}

/// Names isolation layers for people.
pub(crate) fn isolation_layer_names(layers: &[IsolationLayer]) -> String {
    let name = |layer: &IsolationLayer| match layer {
        IsolationLayer::Policy => "the policy",
        IsolationLayer::Credentials => "the scope of credentials",
        IsolationLayer::Iam => "IAM",
        other => other.as_str(),
    };
    let names: Vec<&str> = layers.iter().map(name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
