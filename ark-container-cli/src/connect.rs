//! From settings to a backend that is guarded for whoever asks.

use std::path::PathBuf;
use std::sync::Arc;

use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::identity::{
    Memberships, Principal, PrincipalName, local_user, single_user,
};
use ark_container_core::model::{EcrHost, RegistryLocation, RepositoryName, Stage};
use ark_container_core::permission::{Permissioned, Policy, StandardPolicy};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt as _};

use crate::args::Owner;
use crate::failure::Failure;
use crate::hint::Target;
use crate::output::Output;
use crate::settings::{Origin, Settings, missing_organization};

/// The memberships file of a local registry, in its folder.
const MEMBERSHIPS: &str = "memberships.toml";
const PRINCIPAL_VARIABLE: &str = "ARK_PRINCIPAL";

/// What every operation is given beside its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
}

/// A registry, opened for a principal.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where everything goes through: it asks the policy first.
    pub(crate) backend: Permissioned<Arc<dyn RegistryBackend>>,
    /// What the backend guards, for what one kind of registry has and others have not.
    pub(crate) place: Place,
    /// What the backend asks, to choose defaults that it will allow.
    pub(crate) policy: Arc<dyn Policy>,
    /// The file that says who belongs where, if there is one.
    pub(crate) memberships: Option<PathBuf>,
}

/// The kinds of registry.
#[derive(Debug)]
pub(crate) enum Place {
    Local(LocalBackend),
    Ecr(EcrBackend),
}

impl Place {
    fn backend(&self) -> Arc<dyn RegistryBackend> {
        match self {
            Self::Local(local) => Arc::new(local.clone()),
            Self::Ecr(ecr) => Arc::new(ecr.clone()),
        }
    }
}

impl Context {
    /// Opens the registry for whoever asks.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        self.connect_for(Listing::ByIndex)
    }

    /// Opens the registry for whoever asks, and says how repositories are to be listed.
    pub(crate) fn connect_for(&self, listing: Listing) -> Result<Connection, Failure> {
        let (place, name, memberships) = match &self.settings.registry {
            RegistryLocation::Local { .. } => {
                let local = self.open_local()?;
                let file = local.directory().join(MEMBERSHIPS);
                (Place::Local(local), principal_of_variable()?, Some(file))
            }
            RegistryLocation::Ecr { host, stage } => {
                let name = principal_of_system()?;
                let ecr = self.open_ecr(host, stage, &name, listing);
                (Place::Ecr(ecr), name, None)
            }
        };
        let (principal, memberships) = self.principal(name, memberships)?;
        let policy: Arc<dyn Policy> = Arc::new(StandardPolicy);
        let backend = Permissioned::new(place.backend(), Arc::clone(&policy), principal);
        Ok(Connection { backend, place, policy, memberships })
    }

    /// Opens the registry for an operation on one repository.
    ///
    /// What was typed is checked before anything is touched.
    pub(crate) fn connect_to(
        &self,
        name: &str,
        owner: &Owner,
    ) -> Result<(Connection, Target), Failure> {
        let name: RepositoryName = name.parse().map_err(Error::Parse)?;
        let organization = self.settings.organization(owner.organization.as_deref())?;
        let organization = organization.ok_or_else(missing_organization)?;
        let connection = self.connect()?;
        let path = connection.backend.repository_path(organization, &name)?;
        Ok((connection, Target::new(path, &self.settings)))
    }

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
    fn open_ecr(
        &self,
        host: &EcrHost,
        stage: &Stage,
        principal: &PrincipalName,
        listing: Listing,
    ) -> EcrBackend {
        let settings = &self.settings.ecr;
        let mut ecr = EcrBackend::builder(host.clone(), stage.clone())
            .principal(principal)
            .require_scoped(settings.require_scoped)
            .full_scan(listing == Listing::AllPages);
        if let Some(profile) = &settings.profile {
            ecr = ecr.profile(profile);
        }
        if let Some(role_arn) = &settings.role_arn {
            ecr = ecr.role_arn(role_arn.as_str());
        }
        if let Some(directory) = CredentialsCache::user_directory() {
            ecr = ecr.cache_directory(directory);
        }
        ecr.build()
    }

    /// The principal called `name`, and the memberships file that says where it belongs: the one
    /// that was chosen, else `default` if that exists.
    fn principal(
        &self,
        name: PrincipalName,
        default: Option<PathBuf>,
    ) -> Result<(Principal, Option<PathBuf>), Failure> {
        let chosen = self.settings.memberships.clone();
        let is_chosen = chosen.is_some();
        let Some(path) = chosen.or(default) else { return Ok((single_user(name), None)) };
        match Memberships::load(&path) {
            Ok(memberships) => Ok((memberships.principal(name), Some(path))),
            Err(Error::NotFound { .. }) if !is_chosen => Ok((single_user(name), None)),
            Err(error @ Error::NotFound { .. }) => Err(Failure::from(error).with_help(
                "it was chosen as the memberships file, by option, environment or file",
            )),
            Err(error) => Err(error.into()),
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

/// Who asks on a registry of this machine: whoever the variable names, else the system's user.
fn principal_of_variable() -> Result<PrincipalName, Failure> {
    let chosen = chosen_principal()?;
    local_user(chosen.as_deref()).map_err(|error| match error {
        Error::Parse(_) => Failure::from(error).within(PRINCIPAL_VARIABLE),
        _ => Failure::from(error)
            .with_help(format!("say who asks: export {PRINCIPAL_VARIABLE}=user:NAME")),
    })
}

/// Who asks elsewhere. Nobody is taken at their word there, and a name that was chosen to have fewer
/// rights must not be passed over in silence.
fn principal_of_system() -> Result<PrincipalName, Failure> {
    if chosen_principal()?.is_some() {
        return Err(Failure::usage("it is for registries of this machine only")
            .within(PRINCIPAL_VARIABLE)
            .with_help(format!("unset {PRINCIPAL_VARIABLE}; on ecr: AWS knows who asks")));
    }
    Ok(local_user(None)?)
}

fn chosen_principal() -> Result<Option<String>, Failure> {
    crate::settings::variable(PRINCIPAL_VARIABLE, &|name| std::env::var_os(name))
}
