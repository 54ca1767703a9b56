//! What decides, and about whom.

use std::path::PathBuf;
use std::sync::Arc;

use ark_container_core::Error;
use ark_container_core::identity::{
    IdentitySource, MembershipsFile, Principal, PrincipalName, TokenFile, single_user,
};
use ark_container_core::model::RegistryLocation;
use ark_container_core::permission::{MembershipsPolicy, Policy, StandardPolicy, Wall};

use super::source::source;
use super::{Context, Identity, Place};
use crate::failure::Failure;
use crate::settings::Settings;

/// The memberships file of a local registry, in its folder.
const MEMBERSHIPS: &str = "memberships.toml";

/// What decides, and about whom, before anybody asks for anything.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Which identity counts, and why.
    pub(crate) identity: Identity,
    /// What knows who that is.
    pub(crate) source: Arc<dyn IdentitySource>,
    /// What decides.
    pub(crate) policy: Arc<dyn Policy>,
    /// The file that says who belongs where, if there is one.
    pub(crate) memberships: Option<MembershipsFile>,
    /// What is guarded.
    pub(crate) place: Place,
}

impl Context {
    /// Gathers what decides.
    ///
    /// Nobody is asked for anything yet: no token or key is read, and AWS is not called.
    pub(crate) fn guard(&self) -> Result<Guard, Failure> {
        let identity = self.identity()?;
        let (place, memberships) = match &self.settings.registry {
            RegistryLocation::Local { .. } => {
                let local = self.open_local()?;
                let default = local.directory().join(MEMBERSHIPS);
                (Place::Local(local), self.open_memberships(Some(default))?)
            }
            RegistryLocation::Ecr { host, stage } => {
                let memberships = self.open_memberships(None)?;
                (Place::Ecr(self.ecr(host, stage, &identity)?.build()), memberships)
            }
        };
        let policy: Arc<dyn Policy> = match &memberships {
            Some(file) => Arc::new(MembershipsPolicy::new(file.clone())),
            None => Arc::new(StandardPolicy),
        };
        let source = source(&identity, &self.settings.identity, memberships.clone(), &place)?;
        Ok(Guard { identity, source, policy, memberships, place })
    }

    /// Which identity counts.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        Identity::choose(&self.settings, TokenFile::default_path().as_deref())
    }

    /// The memberships file that was chosen, else `default` if that exists.
    fn open_memberships(
        &self,
        default: Option<PathBuf>,
    ) -> Result<Option<MembershipsFile>, Failure> {
        let chosen = self.settings.memberships.clone();
        let is_chosen = chosen.is_some();
        let Some(path) = chosen.or(default) else { return Ok(None) };
        match MembershipsFile::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(Error::NotFound { .. }) if !is_chosen => Ok(None),
            Err(error @ Error::NotFound { .. }) => Err(Failure::from(error).with_help(
                "it was chosen as the memberships file, by option, environment or file",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

impl Guard {
    /// The principal called `name`, as far as it is known here where they belong, or whoever asks.
    pub(crate) async fn principal_called(
        &self,
        name: Option<PrincipalName>,
    ) -> Result<Arc<Principal>, Failure> {
        let Some(name) = name else { return Ok(self.source.principal().await?) };
        if let Identity::Token { .. } = self.identity {
            let bearer = self.source.principal().await?;
            if *bearer.name() == name {
                return Ok(bearer);
            }
            let problem = format!("where {name} belongs is in their token, and this is {bearer}'s");
            return Err(Failure::usage(problem)
                .within("--principal")
                .with_help("name the file of their token: export ARK_JWT_FILE=FILE"));
        }
        Ok(Arc::new(match &self.memberships {
            Some(file) => file.current().principal(name),
            None => single_user(name),
        }))
    }

    /// The walls that are up, in the order in which a request meets them.
    pub(crate) fn walls(&self, settings: &Settings) -> Vec<Wall> {
        Wall::ALL.into_iter().filter(|wall| self.is_up(*wall, settings)).collect()
    }

    fn is_up(&self, wall: Wall, settings: &Settings) -> bool {
        let in_aws = matches!(self.place, Place::Ecr(_));
        match wall {
            // Without either, everybody belongs everywhere.
            Wall::Policy => {
                self.memberships.is_some() || matches!(self.identity, Identity::Token { .. })
            }
            // A registry of this machine checks the scope of a password at each request.
            Wall::Credentials => !in_aws || settings.ecr.role_arn.is_some(),
            Wall::Iam => in_aws,
        }
    }
}

/// What people call walls.
pub(crate) fn wall_names(walls: &[Wall]) -> String {
    let name = |wall: &Wall| match wall {
        Wall::Policy => "the policy",
        Wall::Credentials => "the scope of credentials",
        Wall::Iam => "IAM",
    };
    let names: Vec<&str> = walls.iter().map(name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
