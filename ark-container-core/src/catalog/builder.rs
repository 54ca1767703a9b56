//! [`CatalogBuilder`]: what to open, and for whom.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::identity::ChosenIdentity;
use super::registry::{
    OpenRegistry, RegistryOptions, identity_source, open_memberships, this_user,
};
use super::settings::{Given, Origin, Settings};
use super::{Catalog, Shared};
use crate::backend::{BackendLayer, Layered, RegistryBackend};
use crate::error::{Error, Result};
use crate::identity::{IdentitySource, MembershipsFile};
use crate::model::{OrganizationId, RegistryLocation, RoleArn};
use crate::permission::{MembershipsPolicy, Policy, StandardPolicy};

/// What a [`Catalog`] opens, and for whom; see [`Catalog::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is opened before `connect`"]
pub struct CatalogBuilder {
    given: Given,
    reads_environment: bool,
    source: Option<Arc<dyn IdentitySource>>,
    policy: Option<Arc<dyn Policy>>,
    options: RegistryOptions,
    backend: Option<(Arc<dyn RegistryBackend>, Option<OpenRegistry>)>,
    outside_repositories: bool,
    layers: Vec<Arc<dyn BackendLayer>>,
}

impl CatalogBuilder {
    /// Takes what the program does not say from the environment and the configuration file, as the
    /// command line does.
    pub fn with_environment(self) -> Self {
        Self { reads_environment: true, ..self }
    }

    /// Says where what is set from now on comes from, for reports and errors: an option of the command line
    /// that the program was started with. Unless told, it is [`Origin::Program`].
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.given.origin = origin;
        self
    }

    /// Opens this registry; unless told, the user's own on this machine, `local:`.
    pub fn with_registry(mut self, registry: RegistryLocation) -> Self {
        self.given.registry = Some((registry, self.given.origin.clone()));
        self
    }

    /// Uses a backend that the program has, instead of opening one.
    ///
    /// The identity that the program, the environment or the configuration file chose stays in force: a
    /// token, a named principal or a user of the memberships file, also of the one in a local registry's folder.
    /// Without such a choice the caller is this system's user, who administers every organization of the
    /// backend.
    ///
    /// [`connect`](Self::connect) fails with [`Error::InvalidInput`](crate::Error::InvalidInput) if the
    /// identity would be the AWS caller of a memberships file and the backend is not an
    /// [`EcrBackend`](crate::backend::ecr::EcrBackend), which alone knows that caller. It fails in the same way
    /// where a lifetime of credentials, `require_scoped` or another property of the backend is set here: it
    /// belongs to the backend. To change calls of the registry that the settings name, use
    /// [`with_layer`](Self::with_layer).
    pub fn with_backend(self, backend: impl RegistryBackend) -> Self {
        let known = OpenRegistry::of(&backend as &dyn Any);
        Self { backend: Some((Arc::new(backend), known)), ..self }
    }

    /// Changes some calls of the backend, whichever is opened. The layer that is added last is called first.
    ///
    /// Identity, policy, registry location and audit stay as they are: a layer sees the calls that the policy
    /// has allowed. The program keeps a clone of the `Arc` to read what the layer has recorded.
    pub fn with_layer(mut self, layer: Arc<impl BackendLayer>) -> Self {
        self.layers.push(layer);
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

    /// Records every decision and change in this file, as [`AuditFile`](crate::permission::AuditFile) says.
    pub fn with_audit(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.audit_file = Some(file.into());
        self
    }

    /// Takes AWS credentials from this profile of the AWS configuration files.
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.given.profile = Some((profile.into(), self.given.origin.clone()));
        self
    }

    /// Takes registry credentials of AWS under this role, narrowed to what they are for; whoever asks
    /// with a token does everything under it.
    pub fn with_role(mut self, role_arn: RoleArn) -> Self {
        self.given.role_arn = Some(role_arn);
        self
    }

    /// Deletes, sets policies of repositories, and changes the global organization under this role where a
    /// token says who asks.
    pub fn with_administrator_role(mut self, role_arn: RoleArn) -> Self {
        self.given.administrator_role_arn = Some(role_arn);
        self
    }

    /// Refuses to hand out credentials of AWS that are not narrowed to their scope.
    pub fn with_require_scoped(mut self, require_scoped: bool) -> Self {
        self.given.require_scoped = Some(require_scoped);
        self
    }

    /// Gives this policy, as JSON text, to each repository that is created on AWS.
    pub fn with_repository_policy(mut self, policy: impl Into<String>) -> Self {
        self.options.repository_policy = Some(policy.into());
        self
    }

    /// Calls AWS at this URL, such as the one of an emulator.
    pub fn with_endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.options.endpoint_url = Some(url.into());
        self
    }

    /// Calls AWS with this configuration of the AWS SDK: its credentials, region and HTTP client.
    #[cfg(feature = "ecr")]
    pub fn with_sdk_config(mut self, config: aws_config::SdkConfig) -> Self {
        self.options.sdk_config = Some(config);
        self.given.brings_aws_credentials = true;
        self
    }

    /// Asks for credentials that are good for so long, where one can choose: in a folder of this machine,
    /// and on AWS under a role, from 15 minutes on. 12 hours unless told.
    pub fn with_credentials_lifetime(mut self, lifetime: Duration) -> Self {
        self.options.credentials_lifetime = Some(lifetime);
        self
    }

    /// Tries each call to AWS this often at most, the first time included: for who would rather hear soon
    /// that it does not work.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.options.max_attempts = Some(max_attempts);
        self
    }

    /// Lists repositories by reading through all that the registry has, and not by its tag index; only ECR
    /// has one, for accounts of more than 1,000 repositories.
    pub fn with_full_scan(mut self, full_scan: bool) -> Self {
        self.options.full_scan = full_scan;
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

    /// The settings that hold: what the program says, then the environment and the configuration file
    /// where they are [read](Self::with_environment), then the defaults.
    ///
    /// # Errors
    /// [`Error::Setting`] if a variable or the configuration file is not valid.
    pub fn settings(&self) -> Result<Settings> {
        match self.reads_environment {
            true => Settings::read(&self.given, &|name| std::env::var_os(name)),
            false => Settings::without_environment(&self.given),
        }
    }

    /// Opens the registry for whoever asks. No token or key is read, and AWS is not called.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::InvalidInput`] if a setting is not valid, or takes a feature of this
    /// library that is off; [`Error::NotFound`] if a file that was chosen does not exist;
    /// [`Error::Failed`] if a file or the registry's folder cannot be used.
    pub async fn connect(self) -> Result<Catalog> {
        let settings = self.settings()?;
        let organization = settings.organization()?;
        let identity = match &self.source {
            Some(_) => ChosenIdentity::Program,
            None => settings.identity()?,
        };
        let is_given = self.backend.is_some();
        let (mut backend, registry) = match self.backend {
            Some(given) => {
                let require_scoped = || settings.ecr.require_scoped.then_some("require_scoped");
                if let Some(option) = self.options.first_set().or_else(require_scoped) {
                    return Err(Error::invalid(format!(
                        "{option} cannot be set for a backend that is open already; set it on the backend"
                    )));
                }
                given
            }
            None => {
                let registry = OpenRegistry::open(&settings, &identity, &self.options)?;
                (registry.backend(), Some(registry))
            }
        };
        let default = registry.as_ref().and_then(OpenRegistry::default_memberships);
        let memberships = open_memberships(&settings, default)?;
        if let (Some(registry), Some(_)) = (&registry, &memberships) {
            registry.record_memberships(settings.memberships().is_some());
        }
        let has_own_policy = self.policy.is_some();
        let policy = self.policy.unwrap_or_else(|| policy_of(memberships.as_ref()));
        let source = match self.source {
            Some(source) => source,
            None => identity_source(
                &identity,
                &settings.identity,
                memberships.clone(),
                registry.as_ref(),
                is_given,
            )?,
        };
        for layer in self.layers {
            backend = Arc::new(Layered::new(layer, backend));
        }
        let shared = Shared {
            registry,
            has_own_policy,
            memberships,
            settings: Some(settings),
            outside_repositories: self.outside_repositories,
        };
        Ok(Catalog::new(backend, policy, source, identity, shared, organization))
    }

    /// A catalog over a backend, for this system's user as the only one.
    pub(super) fn over(backend: impl RegistryBackend) -> Catalog {
        let shared = Shared {
            registry: OpenRegistry::of(&backend as &dyn Any),
            has_own_policy: false,
            memberships: None,
            settings: None,
            outside_repositories: false,
        };
        let identity = ChosenIdentity::LocalUser { named: None, origin: Origin::Default };
        let policy = Arc::new(StandardPolicy);
        Catalog::new(Arc::new(backend), policy, this_user(), identity, shared, None)
    }
}

/// The policy that goes by a memberships file, or does without.
fn policy_of(memberships: Option<&MembershipsFile>) -> Arc<dyn Policy> {
    match memberships {
        Some(file) => Arc::new(MembershipsPolicy::new(file.clone())),
        None => Arc::new(StandardPolicy),
    }
}
