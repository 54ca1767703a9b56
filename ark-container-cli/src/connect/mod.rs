//! From settings to a backend that is guarded for whoever asks.

mod guard;
mod identity;
mod place;
mod source;

use std::sync::Arc;

use ark_container_core::identity::IdentitySource as _;
use ark_container_core::model::{RegistryLocation, RepositoryName};
use ark_container_core::permission::{AuditFile, Permissioned};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt as _};

use crate::args::Owner;
use crate::failure::Failure;
use crate::hint::{self, Target};
use crate::output::Output;
use crate::settings::{Settings, missing_organization};

pub(crate) use guard::{Guard, wall_names};
pub(crate) use identity::Identity;
pub(crate) use place::{Listing, Place};

/// What every operation is given beside its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    /// How often each call to AWS is tried at most; `None` for as often as it makes sense.
    pub(crate) max_attempts: Option<u32>,
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
        let place = match &self.settings.registry {
            RegistryLocation::Local { .. } => guard.place.clone(),
            RegistryLocation::Ecr { host, stage } => {
                // What is done in AWS is done in somebody's name.
                let principal = guard.source.principal().await?;
                let ecr = self.ecr(host, stage, &guard.identity)?.principal(principal);
                Place::Ecr(ecr.full_scan(listing == Listing::AllPages).build())
            }
        };
        let source = Arc::clone(&guard.source);
        let backend = Permissioned::new(place.backend(), Arc::clone(&guard.policy), source);
        let backend = match &self.settings.audit_file {
            Some(path) => backend.with_audit(AuditFile::new(path)),
            None => backend,
        };
        Ok(Connection { backend, place, guard })
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
        owner: &Owner,
    ) -> Result<(Connection, Target), Failure> {
        let name: RepositoryName = name.parse().map_err(Error::Parse)?;
        let organization = self.settings.organization(owner.organization.as_deref())?;
        let organization = organization.ok_or_else(missing_organization)?;
        let connection = self.connect().await?;
        let path = connection.backend.repository_path(organization, &name)?;
        Ok((connection, Target::new(path, &self.settings)))
    }
}
