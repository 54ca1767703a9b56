//! [`CatalogBuilder`]: what to open, and for whom.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{Guard, default_memberships, open_memberships, policy_of};
use super::identity::Identity;
use super::opened::{Catalog, Shared};
use super::place::{Habits, Place};
use super::settings::{Given, Origin, Settings, SettingsError};
use super::source::{source_for_backend, this_user};
use crate::backend::{BackendLayer, Layered, Observed, RegistryBackend};
use crate::error::{Error, Result};
use crate::identity::IdentitySource;
use crate::model::{OrganizationId, RegistryLocation, RoleArn};
use crate::permission::{AuditFile, Permissioned, Policy, StandardPolicy};

/// What a [`Catalog`] opens, and for whom; see [`Catalog::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is opened before `connect`"]
pub struct CatalogBuilder {
    given: Given,
    told_by: ToldBy,
    source: Option<Arc<dyn IdentitySource>>,
    policy: Option<Arc<dyn Policy>>,
    habits: Habits,
    backend: Option<(Arc<dyn RegistryBackend>, Option<Place>)>,
    guard: Option<Guard>,
    outside_repositories: bool,
    layers: Vec<Arc<dyn AddLayer>>,
}

/// A [`BackendLayer`] that waits for the backend below it.
trait AddLayer: std::fmt::Debug + Send + Sync {
    fn add_to(&self, inner: Arc<dyn RegistryBackend>) -> Arc<dyn RegistryBackend>;
}

impl<L: BackendLayer> AddLayer for Arc<L> {
    fn add_to(&self, inner: Arc<dyn RegistryBackend>) -> Arc<dyn RegistryBackend> {
        Arc::new(Layered::new(Arc::clone(self), inner))
    }
}

/// Who says what the program does not.
#[derive(Debug, Clone, Default)]
enum ToldBy {
    /// Nobody: the defaults hold.
    #[default]
    Nobody,
    /// The environment and the configuration file.
    Environment,
    /// Settings that were gathered already, and what was given with them.
    Settings(Box<Settings>),
}

impl CatalogBuilder {
    /// Takes what the program does not say from the environment and the configuration file, as the
    /// command line does.
    pub fn with_environment(self) -> Self {
        Self { told_by: ToldBy::Environment, ..self }
    }

    /// Opens what these settings say: for a program that shows them, or has options of its own for
    /// them. What else the builder was told of registry, organization, files, profile and role does not
    /// count then.
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { told_by: ToldBy::Settings(Box::new(settings)), ..self }
    }

    /// Opens this registry; unless told, the user's own on this machine, `local:`.
    pub fn with_registry(mut self, registry: RegistryLocation) -> Self {
        self.given.registry = Some((registry, Origin::Program));
        self
    }

    /// Uses a backend that the program has, instead of opening one.
    ///
    /// The identity that the program, the environment or the configuration file chose stays in force: a
    /// token, a named principal or a user of the memberships file. Without such a choice the caller is this
    /// system's user, who administers every organization of the backend.
    ///
    /// [`connect`](Self::connect) fails with [`Error::InvalidInput`](crate::Error::InvalidInput) if the
    /// identity would be the AWS caller of a memberships file and the backend is not an
    /// [`EcrBackend`](crate::backend::ecr::EcrBackend), which alone knows that caller. It fails in the same way
    /// with [`with_credentials_lifetime`](Self::with_credentials_lifetime): the lifetime is a property of the
    /// backend. To change calls of the registry that the settings name, use
    /// [`with_layer`](Self::with_layer).
    pub fn with_backend(self, backend: impl RegistryBackend) -> Self {
        let place = Place::of(&backend as &dyn Any);
        Self { backend: Some((Arc::new(backend), place)), ..self }
    }

    /// Changes some calls of the backend, whichever is opened. The layer that is added last is called first.
    ///
    /// Identity, policy, registry location and audit stay as they are: a layer sees the calls that the policy
    /// has allowed. The program keeps a clone of the `Arc` to read what the layer has recorded.
    pub fn with_layer(mut self, layer: Arc<impl BackendLayer>) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Takes names without an organization for names of this one.
    pub fn with_organization(mut self, organization: OrganizationId) -> Self {
        self.given.organization = Some(organization);
        self
    }

    /// Asks this source who asks: a [`Principal`](crate::identity::Principal), or what knows of one.
    pub fn with_identity_source(mut self, source: impl IdentitySource) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Asks whom the token in this file is for.
    pub fn with_token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.token_file = Some(file.into());
        self
    }

    /// Asks this policy who may do what, instead of the rules of the memberships file or the standard
    /// ones.
    pub fn with_policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Takes who belongs where, and the rules, from this memberships file.
    pub fn with_memberships(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.memberships = Some(file.into());
        self
    }

    /// Records every decision and change in this file, as [`AuditFile`] says.
    pub fn with_audit(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.audit_file = Some(file.into());
        self
    }

    /// Takes AWS credentials from this profile of the AWS configuration files.
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.given.profile = Some((profile.into(), Origin::Program));
        self
    }

    /// Takes registry credentials of AWS under this role, narrowed to what they are for; whoever asks
    /// with a token does everything under it.
    pub fn with_role(mut self, role_arn: RoleArn) -> Self {
        self.given.role_arn = Some(role_arn);
        self
    }

    /// Asks for credentials that are good for so long, where one can choose: in a folder of this machine,
    /// and on AWS under a role, from 15 minutes on. 12 hours unless told.
    pub fn with_credentials_lifetime(mut self, lifetime: Duration) -> Self {
        self.habits.credentials_lifetime = Some(lifetime);
        self
    }

    /// Tries each call to AWS this often at most, the first time included: for who would rather hear soon
    /// that it does not work.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.habits.max_attempts = Some(max_attempts);
        self
    }

    /// Lists repositories by reading through all that the registry has, and not by its index; only ECR
    /// has one.
    pub fn with_full_scan(mut self, full_scan: bool) -> Self {
        self.habits.full_scan = full_scan;
        self
    }

    /// Lets [`Catalog::resolve`] look outside of the scheme `<stage>/<organization>/<name>` too, at older
    /// repositories of the same account of AWS.
    ///
    /// They are of no organization, so that no policy can decide about them, and none is asked: AWS alone
    /// decides, by the rights of whoever calls it to `ecr:BatchGetImage` and
    /// `ecr:GetDownloadUrlForLayer`. Nothing can be pushed to them or handed out for them.
    pub fn with_outside_repositories(self, outside_repositories: bool) -> Self {
        Self { outside_repositories, ..self }
    }

    /// What will decide, and about whom, by the settings: a backend or identity source of the program's
    /// own is not in it. Nobody is asked for anything yet: no token or key is read, and AWS is not called.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), with the setting that is at fault.
    pub fn guard(&self) -> Result<Guard, SettingsError> {
        Guard::new(&self.settings()?, self.policy.clone(), &self.habits)
    }

    /// Connects through this guard, for a program that wanted to know it first.
    pub fn with_guard(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Opens the registry for whoever asks.
    ///
    /// On AWS it is found out who that is, since what is done there is done in somebody's name. Nothing
    /// else is asked of AWS or of a registry yet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if a setting does not do, or takes a feature
    /// of this library that is off; [`Error::Unauthenticated`](crate::Error::Unauthenticated) if nobody
    /// is known to be asking; [`Error::NotFound`](crate::Error::NotFound) if a file that was chosen does
    /// not exist; [`Error::Failed`](crate::Error::Failed) if a file or the registry's folder cannot be
    /// used.
    pub async fn connect(self) -> Result<Catalog> {
        let settings = self.settings()?;
        let organization = settings.organization()?;
        let audit = settings.audit_file.as_ref().map(AuditFile::new);
        let Self { source, policy, habits, backend, guard, outside_repositories, layers, .. } =
            self;
        if backend.is_some() && habits.credentials_lifetime.is_some() {
            return Err(Error::invalid(
                "a credentials lifetime cannot be set for a backend that is open already; set it on the \
                 backend",
            ));
        }
        let mut opened = match (backend, source) {
            (Some(backend), source) => Opened::given(backend, source, policy, &settings)?,
            (None, Some(source)) => Opened::asking(source, policy, &settings, &habits).await?,
            (None, None) => {
                let guard = match guard {
                    Some(guard) => guard,
                    None => Guard::new(&settings, policy, &habits)?,
                };
                Opened::guarded(guard, &settings, &habits).await?
            }
        };
        for layer in layers {
            opened.backend = layer.add_to(opened.backend);
        }
        Ok(opened.into_catalog(audit, organization, outside_repositories))
    }

    /// A catalog over a backend, for this system's user as the only one.
    pub(super) fn over(backend: impl RegistryBackend) -> Catalog {
        let place = Place::of(&backend as &dyn Any);
        let opened = Opened {
            backend: Arc::new(backend),
            source: this_user(),
            policy: Arc::new(StandardPolicy),
            place,
        };
        opened.into_catalog(None, None, false)
    }

    fn settings(&self) -> Result<Settings, SettingsError> {
        match &self.told_by {
            ToldBy::Nobody => Settings::without_environment(&self.given),
            ToldBy::Environment => Settings::read(&self.given, &|name| std::env::var_os(name)),
            ToldBy::Settings(settings) => Ok(settings.as_ref().clone()),
        }
    }
}

/// A backend with what guards it.
struct Opened {
    backend: Arc<dyn RegistryBackend>,
    source: Arc<dyn IdentitySource>,
    policy: Arc<dyn Policy>,
    place: Option<Place>,
}

impl Opened {
    /// A backend that the program has.
    fn given(
        (backend, place): (Arc<dyn RegistryBackend>, Option<Place>),
        source: Option<Arc<dyn IdentitySource>>,
        policy: Option<Arc<dyn Policy>>,
        settings: &Settings,
    ) -> Result<Self, SettingsError> {
        let memberships = open_memberships(settings, None)?;
        let policy = policy.unwrap_or_else(|| policy_of(memberships.as_ref()));
        let source = match source {
            Some(source) => source,
            None => {
                let identity = Identity::choose(settings)?;
                source_for_backend(&identity, &settings.identity, memberships, place.as_ref())?
            }
        };
        Ok(Self { backend, source, policy, place })
    }

    /// The registry of the settings, for whomever the program's own source names.
    async fn asking(
        source: Arc<dyn IdentitySource>,
        policy: Option<Arc<dyn Policy>>,
        settings: &Settings,
        habits: &Habits,
    ) -> Result<Self> {
        let principal = match settings.registry {
            RegistryLocation::Ecr { .. } => Some(source.principal().await?),
            RegistryLocation::Local { .. } => None,
        };
        let place = Place::open(settings, None, principal.as_deref(), habits)?;
        let memberships = open_memberships(settings, default_memberships(&place))?;
        let policy = policy.unwrap_or_else(|| policy_of(memberships.as_ref()));
        Ok(Self { backend: place.backend(), source, policy, place: Some(place) })
    }

    /// The registry that a guard is for, in the name of whoever asks.
    async fn guarded(guard: Guard, settings: &Settings, habits: &Habits) -> Result<Self> {
        let place = guard.place_of_whoever_asks(settings, habits).await?;
        Ok(Self {
            backend: place.backend(),
            source: Arc::clone(&guard.source),
            policy: Arc::clone(&guard.policy),
            place: Some(place),
        })
    }

    fn into_catalog(
        self,
        audit: Option<AuditFile>,
        organization: Option<OrganizationId>,
        outside_repositories: bool,
    ) -> Catalog {
        let Self { backend, source, policy, place } = self;
        // Inside of the policy: what is told is what the registry does, and decisions are told of beside it.
        let backend: Arc<dyn RegistryBackend> = Arc::new(Observed::new(backend));
        let backend = Permissioned::new(backend, policy, source);
        Catalog {
            backend: match audit {
                Some(file) => backend.with_audit(file),
                None => backend,
            },
            shared: Arc::new(Shared { place, outside_repositories }),
            organization,
        }
    }
}
