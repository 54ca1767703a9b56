//! [`Guard`]: what decides, and about whom.

use std::path::PathBuf;
use std::sync::Arc;

use super::identity::Identity;
use super::place::{Habits, Place};
use super::settings::{Settings, SettingsError};
use super::source::source;
use crate::error::{Error, Result};
use crate::identity::{IdentitySource, MembershipsFile};
use crate::permission::{IsolationLayer, MembershipsPolicy, Policy, StandardPolicy};

/// The memberships file of a local registry, in its folder.
#[cfg(feature = "local")]
const MEMBERSHIPS: &str = "memberships.toml";

/// What decides, and about whom, before anybody asks for anything.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Guard {
    /// Which identity counts, and why.
    pub identity: Identity,
    /// What knows who that is.
    pub source: Arc<dyn IdentitySource>,
    /// What decides.
    pub policy: Arc<dyn Policy>,
    /// The file that says who belongs where, if there is one.
    pub memberships: Option<MembershipsFile>,
    /// What is guarded.
    pub place: Place,
    /// Whether credentials are narrowed under a role.
    pub(super) has_role: bool,
}

impl Guard {
    /// Gathers what decides. Nobody is asked: no token or key is read, and AWS is not called.
    pub(super) fn new(
        settings: &Settings,
        policy: Option<Arc<dyn Policy>>,
        habits: &Habits,
    ) -> Result<Self, SettingsError> {
        let identity = Identity::choose(settings)?;
        let place = Place::open(settings, identity.token_file(), None, habits)?;
        let memberships = open_memberships(settings, default_memberships(&place))?;
        let policy = policy.unwrap_or_else(|| policy_of(memberships.as_ref()));
        let source = source(&identity, &settings.identity, memberships.clone(), &place)?;
        let has_role = settings.ecr.role_arn.is_some();
        Ok(Self { identity, source, policy, memberships, place, has_role })
    }

    /// What is guarded, in the name of whoever asks where the registry keeps record of that.
    pub(super) async fn place_of_whoever_asks(
        &self,
        settings: &Settings,
        habits: &Habits,
    ) -> Result<Place> {
        match self.is_in_aws() {
            true => {
                let principal = self.source.principal().await?;
                Ok(Place::open(settings, self.identity.token_file(), Some(&principal), habits)?)
            }
            false => Ok(self.place.clone()),
        }
    }

    /// Returns the active isolation layers, in the order in which a request passes them.
    pub fn isolation_layers(&self) -> Vec<IsolationLayer> {
        IsolationLayer::ALL.iter().copied().filter(|layer| self.is_active(*layer)).collect()
    }

    fn is_active(&self, layer: IsolationLayer) -> bool {
        let in_aws = self.is_in_aws();
        match layer {
            // Without either, everybody belongs everywhere.
            IsolationLayer::Policy => {
                self.memberships.is_some() || matches!(self.identity, Identity::Token { .. })
            }
            // A registry of this machine checks the scope of a password at each request.
            IsolationLayer::Credentials => !in_aws || self.has_role,
            IsolationLayer::Iam => in_aws,
        }
    }

    fn is_in_aws(&self) -> bool {
        #[cfg(feature = "ecr")]
        return matches!(self.place, Place::Ecr(_));
        #[cfg(not(feature = "ecr"))]
        false
    }
}

/// Where the memberships of a registry are that brings its own.
pub(super) fn default_memberships(place: &Place) -> Option<PathBuf> {
    match *place {
        #[cfg(feature = "local")]
        Place::Local(ref local) => Some(local.directory().join(MEMBERSHIPS)),
        #[cfg(feature = "ecr")]
        Place::Ecr(_) => None,
    }
}

/// The policy that goes by a memberships file, or does without.
pub(super) fn policy_of(memberships: Option<&MembershipsFile>) -> Arc<dyn Policy> {
    match memberships {
        Some(file) => Arc::new(MembershipsPolicy::new(file.clone())),
        None => Arc::new(StandardPolicy),
    }
}

/// The memberships file that was chosen, else `default` if that exists.
pub(super) fn open_memberships(
    settings: &Settings,
    default: Option<PathBuf>,
) -> Result<Option<MembershipsFile>, SettingsError> {
    let is_chosen = settings.memberships.is_some();
    let Some(path) = settings.memberships.clone().or(default) else { return Ok(None) };
    match MembershipsFile::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(Error::NotFound { .. }) if !is_chosen => Ok(None),
        Err(error @ Error::NotFound { .. }) => Err(SettingsError::from(error)
            .with_help("it was chosen as the memberships file, by option, environment or file")),
        Err(error) => Err(error.into()),
    }
}
