//! [`CatalogBuilder`]: the settings with which a [`Catalog`] is opened.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::identity::ChosenIdentity;
use super::registry::{
    OpenRegistry, RegistryOptions, identity_source, open_memberships, this_user,
};
use super::settings::{Origin, ProgramSettings, Settings};
use super::{Catalog, Shared};
use crate::backend::{BackendLayer, Layered, RegistryBackend};
use crate::error::{Error, Result};
use crate::identity::{IdentitySource, MembershipsFile};
use crate::model::{OrganizationId, RegistryLocation, RoleArn};
use crate::permission::{MembershipsPolicy, Policy, StandardPolicy};

/// Builds a [`Catalog`]; see [`Catalog::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder opens nothing before `connect`"]
pub struct CatalogBuilder {
    given: ProgramSettings,
    reads_environment: bool,
    source: Option<Arc<dyn IdentitySource>>,
    policy: Option<Arc<dyn Policy>>,
    options: RegistryOptions,
    backend: Option<(Arc<dyn RegistryBackend>, Option<OpenRegistry>)>,
    outside_repositories: bool,
    layers: Vec<Arc<dyn BackendLayer>>,
}

impl CatalogBuilder {
    /// Reads settings that the program does not set from the environment and the configuration file, as the
    /// command line does.
    pub fn with_environment(self) -> Self {
        Self { reads_environment: true, ..self }
    }

    /// Sets the origin of the settings that follow, for reports and errors, such as a command-line option.
    /// The default is [`Origin::Program`].
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.given.origin = origin;
        self
    }

    /// Sets the registry. The default is `local:`, the user's folder on this machine.
    pub fn with_registry(mut self, registry: RegistryLocation) -> Self {
        self.given.registry = Some((registry, self.given.origin.clone()));
        self
    }

    /// Uses an open backend instead of opening one.
    ///
    /// The identity from the program, the environment or the configuration file still applies: a token, a named
    /// principal, or a user of the memberships file, including the file in the folder of a local registry. Without
    /// such a setting the caller is the user of this process, who administers every organization of the backend.
    ///
    /// [`connect`](Self::connect) fails with [`Error::InvalidInput`](crate::Error::InvalidInput) if
    /// - the identity is the AWS caller of a memberships file, and the backend is not an
    ///   [`EcrBackend`](crate::backend::ecr::EcrBackend), which is the only backend that provides the caller, or
    /// - a property of the backend, such as the lifetime of credentials or `require_scoped`, is set here:
    ///   set it on the backend instead.
    ///
    /// Use [`with_layer`](Self::with_layer) to change calls of the registry in the settings.
    pub fn with_backend(self, backend: impl RegistryBackend) -> Self {
        let known = OpenRegistry::of(&backend as &dyn Any);
        Self { backend: Some((Arc::new(backend), known)), ..self }
    }

    /// Wraps the backend in a layer that changes some calls. The last layer is called first.
    ///
    /// Identity, policy, registry location and audit do not change: a layer receives only the calls that the policy
    /// has allowed. The program can keep a clone of the `Arc` to read data that the layer has recorded.
    pub fn with_layer(mut self, layer: Arc<impl BackendLayer>) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets the organization of names without an organization.
    pub fn with_organization(mut self, organization: OrganizationId) -> Self {
        self.given.organization = Some(organization);
        self
    }

    /// Sets the source of the caller, such as a [`Principal`](crate::identity::Principal).
    pub fn with_identity_source(mut self, source: impl IdentitySource) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Sets the file with the token that identifies the caller.
    pub fn with_token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.token_file = Some(file.into());
        self
    }

    /// Sets the policy. The default are the rules of the memberships file, or the standard rules without one.
    pub fn with_policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Sets the memberships file, with members and rules of the organizations.
    pub fn with_memberships(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.memberships = Some(file.into());
        self
    }

    /// Records every decision and change in this [`AuditFile`](crate::permission::AuditFile).
    pub fn with_audit(mut self, file: impl Into<PathBuf>) -> Self {
        self.given.audit_file = Some(file.into());
        self
    }

    /// Sets the profile of the AWS configuration files that provides credentials.
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.given.profile = Some((profile.into(), self.given.origin.clone()));
        self
    }

    /// Sets the AWS role for registry credentials, which are narrowed to their scope. A caller with a token
    /// performs every operation in a session of this role.
    pub fn with_role(mut self, role_arn: RoleArn) -> Self {
        self.given.role_arn = Some(role_arn);
        self
    }

    /// Sets the AWS role in which a caller with a token deletes, sets repository policies, and changes the
    /// global organization.
    pub fn with_administrator_role(mut self, role_arn: RoleArn) -> Self {
        self.given.administrator_role_arn = Some(role_arn);
        self
    }

    /// Rejects requests for AWS credentials that cannot be narrowed to their scope.
    pub fn with_require_scoped(mut self, require_scoped: bool) -> Self {
        self.given.require_scoped = Some(require_scoped);
        self
    }

    /// Sets the policy, as JSON text, of each repository that is created on AWS.
    pub fn with_repository_policy(mut self, policy: impl Into<String>) -> Self {
        self.options.repository_policy = Some(policy.into());
        self
    }

    /// Sets the URL of the AWS API, such as the URL of an emulator.
    pub fn with_endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.options.endpoint_url = Some(url.into());
        self
    }

    /// Sets the configuration of the AWS SDK, with credentials, region and HTTP client.
    #[cfg(feature = "ecr")]
    pub fn with_sdk_config(mut self, config: aws_config::SdkConfig) -> Self {
        self.options.sdk_config = Some(config);
        self.given.brings_aws_credentials = true;
        self
    }

    /// Sets the lifetime of registry credentials, if the registry supports it: a local registry, or AWS
    /// with a role and at least 15 minutes. The default is 12 hours.
    pub fn with_credentials_lifetime(mut self, lifetime: Duration) -> Self {
        self.options.credentials_lifetime = Some(lifetime);
        self
    }

    /// Sets the maximum number of attempts of each call to AWS, including the first one. A low number
    /// reports failures earlier.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.options.max_attempts = Some(max_attempts);
        self
    }

    /// Lists repositories by a full scan instead of the tag index. Only ECR has a tag index, which it uses
    /// in accounts with more than 1,000 repositories.
    pub fn with_full_scan(mut self, full_scan: bool) -> Self {
        self.options.full_scan = full_scan;
        self
    }

    /// Allows [`Catalog::resolve`] to read older repositories of the same AWS account that are outside the
    /// scheme `<stage>/<organization>/<name>`.
    ///
    /// Such repositories belong to no organization, so no policy is applied. AWS alone decides, by the
    /// caller's permissions for `ecr:BatchGetImage` and `ecr:GetDownloadUrlForLayer`. Pushing to such
    /// repositories and requesting credentials for them fails.
    pub fn with_outside_repositories(self, outside_repositories: bool) -> Self {
        Self { outside_repositories, ..self }
    }

    /// Returns the effective settings: those of the program, then of the environment and the configuration
    /// file if they are [read](Self::with_environment), then the defaults.
    ///
    /// # Errors
    /// [`Error::Setting`] if a variable or the configuration file is invalid.
    pub fn settings(&self) -> Result<Settings> {
        match self.reads_environment {
            true => Settings::read(&self.given, &|name| std::env::var_os(name)),
            false => Settings::without_environment(&self.given),
        }
    }

    /// Opens the registry. Reads no token or key, and does not call AWS.
    ///
    /// # Errors
    /// - [`Error::Setting`] or [`Error::InvalidInput`] if a setting is invalid, or needs a disabled feature
    ///   of this library
    /// - [`Error::NotFound`] if a file in the settings does not exist
    /// - [`Error::Failed`] if a file or the folder of the registry cannot be used
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
                        "{option} cannot be set for a backend that is already open; set it on the \
                         backend"
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

    /// Returns a catalog of a backend. The caller is the user of this process.
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

/// Returns the policy for a memberships file, or the standard policy without one.
fn policy_of(memberships: Option<&MembershipsFile>) -> Arc<dyn Policy> {
    match memberships {
        Some(file) => Arc::new(MembershipsPolicy::new(file.clone())),
        None => Arc::new(StandardPolicy),
    }
}
