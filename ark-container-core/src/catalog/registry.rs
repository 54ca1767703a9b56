//! [`OpenRegistry`]: the registry of a catalog, and the identity source of its caller.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::identity::ChosenIdentity;
use super::settings::{IdentitySettings, PRINCIPAL_VARIABLE, Settings};
use crate::backend::RegistryBackend;
#[cfg(feature = "ecr")]
use crate::backend::ecr::EcrBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;
use crate::error::{Error, Result};
use crate::escape::quote_for_shell;
use crate::files::has_name;
#[cfg(feature = "local")]
use crate::identity::MEMBERSHIPS_FILE;
use crate::identity::{
    HAD_MEMBERSHIPS_FILE, IdentitySource, LocalUser, MembershipsFile, Principal, PrincipalKind,
    PrincipalName, local_user, single_user,
};
#[cfg(feature = "local")]
use crate::model::RegistryHost;
use crate::model::RegistryLocation;

/// A registry of a kind that the library supports.
#[derive(Debug, Clone)]
pub(super) enum OpenRegistry {
    /// A folder of this machine.
    #[cfg(feature = "local")]
    Local(LocalBackend),
    /// An account's registry in AWS.
    #[cfg(feature = "ecr")]
    Ecr(EcrBackend),
}

/// The options of a registry that only the program sets.
#[derive(Debug, Clone, Default)]
pub(super) struct RegistryOptions {
    /// The lifetime of new credentials.
    pub(super) credentials_lifetime: Option<Duration>,
    /// The maximum number of attempts of each call to AWS.
    pub(super) max_attempts: Option<u32>,
    /// Whether listings use a full scan of the account.
    pub(super) full_scan: bool,
    /// The URL of an emulator of AWS.
    pub(super) endpoint_url: Option<String>,
    /// The text of the policy of each new repository.
    pub(super) repository_policy: Option<String>,
    /// The configuration of the AWS SDK.
    #[cfg(feature = "ecr")]
    pub(super) sdk_config: Option<aws_config::SdkConfig>,
}

impl RegistryOptions {
    /// Returns the first option that is set.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        let Self {
            credentials_lifetime,
            max_attempts,
            full_scan,
            endpoint_url,
            repository_policy,
            #[cfg(feature = "ecr")]
            sdk_config,
        } = self;
        let options = [
            ("a credentials lifetime", credentials_lifetime.is_some()),
            ("a maximum of attempts", max_attempts.is_some()),
            ("a full scan", *full_scan),
            ("an endpoint URL", endpoint_url.is_some()),
            ("a repository policy", repository_policy.is_some()),
            #[cfg(feature = "ecr")]
            ("an SDK configuration", sdk_config.is_some()),
        ];
        options.into_iter().find(|(_, is_set)| *is_set).map(|(option, _)| option)
    }
}

impl OpenRegistry {
    /// Opens the registry of the settings. Writes nothing, and does not call AWS.
    pub(super) fn open(
        settings: &Settings,
        identity: &ChosenIdentity,
        options: &RegistryOptions,
    ) -> Result<Self> {
        match settings.registry() {
            #[cfg(feature = "local")]
            RegistryLocation::Local { directory } => {
                let local = LocalBackend::open(directory.as_deref())?;
                Ok(Self::Local(match options.credentials_lifetime {
                    Some(lifetime) => local.with_token_lifetime(lifetime),
                    None => local,
                }))
            }
            #[cfg(feature = "ecr")]
            RegistryLocation::Ecr { host, stage } => {
                let ecr = EcrBackend::builder(host.clone(), stage.clone());
                aws::configured(ecr, settings, identity, options).map(Self::Ecr)
            }
            #[cfg(not(all(feature = "local", feature = "ecr")))]
            elsewhere => {
                let _ = (identity, options);
                let feature = match elsewhere {
                    RegistryLocation::Local { .. } => "local",
                    RegistryLocation::Ecr { .. } => "ecr",
                };
                Err(without_feature(elsewhere, feature).within(settings.registry_origin()))
            }
        }
    }

    /// Returns the registry if `backend` is a local or ECR backend, directly or in an `Arc` or a `Box`.
    pub(super) fn of(backend: &dyn Any) -> Option<Self> {
        if let Some(pointer) = backend.downcast_ref::<Arc<dyn RegistryBackend>>() {
            return Self::of(&**pointer as &dyn Any);
        }
        if let Some(pointer) = backend.downcast_ref::<Box<dyn RegistryBackend>>() {
            return Self::of(&**pointer as &dyn Any);
        }
        #[cfg(feature = "local")]
        if let Some(local) = behind_pointer::<LocalBackend>(backend) {
            return Some(Self::Local(local.clone()));
        }
        #[cfg(feature = "ecr")]
        if let Some(ecr) = behind_pointer::<EcrBackend>(backend) {
            return Some(Self::Ecr(ecr.clone()));
        }
        let _ = backend;
        None
    }

    /// Returns the registry as a backend.
    pub(super) fn backend(&self) -> Arc<dyn RegistryBackend> {
        match *self {
            #[cfg(feature = "local")]
            Self::Local(ref local) => Arc::new(local.clone()),
            #[cfg(feature = "ecr")]
            Self::Ecr(ref ecr) => Arc::new(ecr.clone()),
        }
    }

    /// Returns whether the registry may answer at a host other than the configured one.
    pub(super) fn answers_at(&self, host: &str) -> bool {
        let _ = host;
        match *self {
            #[cfg(feature = "local")]
            Self::Local(ref local) => {
                let host = host.parse::<RegistryHost>();
                host.is_ok_and(|host| host.is_alias_of(&local.host()))
            }
            #[cfg(feature = "ecr")]
            Self::Ecr(ref ecr) => ecr.answers_at(host),
        }
    }

    /// Returns the path of the registry's default memberships file, which may not exist.
    pub(super) fn default_memberships(&self) -> Option<PathBuf> {
        match *self {
            #[cfg(feature = "local")]
            Self::Local(ref local) => Some(local.directory().join(MEMBERSHIPS_FILE)),
            #[cfg(feature = "ecr")]
            Self::Ecr(_) => None,
        }
    }

    /// Records that the registry uses a memberships file. For the file in the folder of the registry, the record is
    /// written at once. For another file, which may be a trial, it is written at the first change.
    pub(super) fn record_memberships(&self, is_chosen: bool) {
        let _ = is_chosen;
        match *self {
            #[cfg(feature = "local")]
            Self::Local(ref local) => local.store().record_memberships(!is_chosen),
            #[cfg(feature = "ecr")]
            Self::Ecr(_) => {}
        }
    }

    /// Returns whether credentials are limited to the requested scope.
    pub(super) fn narrows_credentials(&self) -> bool {
        match *self {
            // The registry checks the scope of a password at each request.
            #[cfg(feature = "local")]
            Self::Local(_) => true,
            #[cfg(feature = "ecr")]
            Self::Ecr(ref ecr) => ecr.config().role_arn.is_some(),
        }
    }

    /// Returns whether IAM decides about each call.
    pub(super) fn is_in_aws(&self) -> bool {
        match *self {
            #[cfg(feature = "local")]
            Self::Local(_) => false,
            #[cfg(feature = "ecr")]
            Self::Ecr(_) => true,
        }
    }
}

/// Returns `backend` as a `B`: directly, or as the content of an `Arc` or a `Box`.
#[cfg(any(feature = "ecr", feature = "local"))]
fn behind_pointer<B: 'static>(backend: &dyn Any) -> Option<&B> {
    let shared = || backend.downcast_ref::<Arc<B>>().map(|shared| &**shared);
    let boxed = || backend.downcast_ref::<Box<B>>().map(|boxed| &**boxed);
    backend.downcast_ref::<B>().or_else(shared).or_else(boxed)
}

/// Opens the memberships file of the settings, or `default` if it exists.
///
/// # Errors
/// See [`MembershipsFile::open`]. [`Error::InvalidInput`] if the registry has had memberships: without them
/// its user would administer every organization.
pub(super) fn open_memberships(
    settings: &Settings,
    default: Option<PathBuf>,
) -> Result<Option<MembershipsFile>> {
    let is_chosen = settings.memberships().is_some();
    let Some(path) = settings.memberships().map(Path::to_owned).or(default) else {
        return Ok(None);
    };
    match MembershipsFile::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(Error::NotFound { .. }) if !is_chosen => {
            let marker = path.with_file_name(HAD_MEMBERSHIPS_FILE);
            if has_name(&marker) {
                let (file, marker) = (path.display(), quote_for_shell(&marker.to_string_lossy()));
                return Err(Error::invalid(format!(
                    "the registry had memberships, and its memberships file {file} does not exist"
                ))
                .with_help(format!(
                    "restore the file, or choose another one: --memberships FILE; if you are the only user of the \
                     registry: rm {marker}"
                )));
            }
            Ok(None)
        }
        Err(error @ Error::NotFound { .. }) => Err(error.with_help(
            "correct the path of the memberships file: --memberships, ARK_MEMBERSHIPS, \
                        or memberships in the configuration file",
        )),
        Err(error) => Err(error),
    }
}

/// Returns the identity source of the chosen identity. Tokens and keys are read at the first use.
///
/// `registry` is the registry if its kind is known. `is_given` means that the program opened the backend.
///
/// # Errors
/// [`Error::InvalidInput`] if the name of the caller is invalid, or if a memberships file maps AWS callers
/// and the backend does not provide its caller.
pub(super) fn identity_source(
    identity: &ChosenIdentity,
    settings: &IdentitySettings,
    memberships: Option<MembershipsFile>,
    registry: Option<&OpenRegistry>,
    is_given: bool,
) -> Result<Arc<dyn IdentitySource>> {
    match (identity, memberships) {
        #[cfg(all(feature = "token", feature = "ecr"))]
        (ChosenIdentity::Token { .. }, _)
            if is_given
                && settings.verification.is_none()
                && matches!(registry, Some(OpenRegistry::Ecr(_))) =>
        {
            Err(Error::invalid(
                "the token cannot be verified: the backend is already open and calls AWS without \
                 the token",
            )
            .with_help(
                "set the keys of the identity provider, or open the registry from the settings",
            ))
        }
        #[cfg(feature = "token")]
        (ChosenIdentity::Token { file, .. }, _) => token::source(file, settings),
        #[cfg(not(feature = "token"))]
        (ChosenIdentity::Token { origin, .. }, _) => {
            let _ = settings;
            Err(without_feature("a token", "token").within(origin))
        }
        (ChosenIdentity::LocalUser { named: None, .. }, None) if is_given => Ok(this_user()),
        (ChosenIdentity::LocalUser { named, .. }, memberships) => {
            named_user(named.as_deref(), memberships)
        }
        (ChosenIdentity::AwsCaller { .. }, memberships) => match (registry, memberships) {
            #[cfg(feature = "ecr")]
            (Some(OpenRegistry::Ecr(ecr)), memberships) => {
                Ok(aws::identity_source(ecr.clone(), memberships))
            }
            // Without memberships AWS alone decides, and the name is used for records only.
            (_, None) => Ok(this_user()),
            (_, Some(_)) => Err(Error::invalid(
                "the memberships file needs the AWS caller, which this backend does not \
                 provide",
            )
            .with_help(
                "set an identity source, or open the registry from the settings and add a layer",
            )),
        },
        (ChosenIdentity::Program, _) => Err(Error::invalid("no identity source is set")),
    }
}

fn named_user(
    named: Option<&str>,
    memberships: Option<MembershipsFile>,
) -> Result<Arc<dyn IdentitySource>> {
    let name = local_user(named).map_err(|error| match error {
        Error::Parse(_) => error.within(PRINCIPAL_VARIABLE),
        _ => error.with_help(format!("set the principal: export {PRINCIPAL_VARIABLE}=user:NAME")),
    })?;
    let user = LocalUser::new(name);
    Ok(Arc::new(match memberships {
        Some(memberships) => user.with_memberships(memberships),
        None => user,
    }))
}

/// Returns the user of this process as the only user. The name is `nameless` if the system has no name for the user.
pub(super) fn this_user() -> Arc<dyn IdentitySource> {
    match local_user(None) {
        Ok(name) => Arc::new(single_user(name)),
        Err(_) => Arc::new(Nameless),
    }
}

/// A user without a name in the operating system, as in some containers.
#[derive(Debug)]
struct Nameless;

#[async_trait]
impl IdentitySource for Nameless {
    async fn principal(&self) -> Result<Arc<Principal>> {
        let name = PrincipalName::new(PrincipalKind::User, "nameless")?;
        Ok(Arc::new(single_user(name)))
    }
}

/// Returns the error of a missing feature of the library.
#[cfg(not(all(feature = "local", feature = "ecr", feature = "token")))]
fn without_feature(what: impl std::fmt::Display, feature: &str) -> Error {
    Error::invalid(format!("this program is built without support for {what}")).with_help(format!(
        "enable the feature {feature:?} of ark-container-core in its Cargo.toml"
    ))
}

#[cfg(feature = "token")]
mod token {
    use super::*;
    use crate::catalog::settings::{Claims, KeySetLocation, Verification};
    use crate::identity::{ClaimNames, KeySet, TokenFile, TokenIdentity, TokenVerifier};

    /// Returns the identity source for the token in `file`.
    pub(super) fn source(
        file: &Path,
        settings: &IdentitySettings,
    ) -> Result<Arc<dyn IdentitySource>> {
        let (file, names) = (TokenFile::new(file), claim_names(&settings.claims));
        Ok(Arc::new(match &settings.verification {
            Some(verification) => {
                TokenIdentity::verified(file, verifier(verification)?.with_claim_names(names))
            }
            None => TokenIdentity::unverified(file, names),
        }))
    }

    fn verifier(verification: &Verification) -> Result<TokenVerifier> {
        let key_set = match &verification.key_set {
            KeySetLocation::File(path) => KeySet::file(path),
            KeySetLocation::Url(url) => {
                KeySet::url(url).map_err(|error| error.within(&verification.origin))?
            }
        };
        let verifier = TokenVerifier::new(key_set, &verification.audience);
        Ok(match &verification.issuer {
            Some(issuer) => verifier.with_issuer(issuer),
            None => verifier,
        })
    }

    fn claim_names(claims: &Claims) -> ClaimNames {
        let mut names = ClaimNames::default();
        if let Some(claim) = &claims.subject {
            names = names.with_subject(claim);
        }
        if let Some(claim) = &claims.kind {
            names = names.with_kind(claim);
        }
        if let Some(claim) = &claims.organizations {
            names = names.with_organizations(claim);
        }
        if let Some(claim) = &claims.administers {
            names = names.with_administers(claim);
        }
        names
    }
}

#[cfg(feature = "ecr")]
mod aws {
    use super::*;
    use crate::backend::ecr::EcrBackendBuilder;
    use crate::credentials::cache::CredentialsCache;
    use crate::encoding::decode;
    use crate::identity::{AwsCaller, TokenFile};

    /// Builds the backend of an account's registry. Makes no call.
    pub(super) fn configured(
        mut ecr: EcrBackendBuilder,
        settings: &Settings,
        identity: &ChosenIdentity,
        options: &RegistryOptions,
    ) -> Result<EcrBackend> {
        let ecr_settings = &settings.ecr;
        ecr = ecr
            .with_require_scoped(ecr_settings.require_scoped)
            .with_full_scan(options.full_scan)
            .with_additional_actions(ecr_settings.additional_actions.iter().cloned());
        if let Some(external_id) = &ecr_settings.external_id {
            ecr = ecr.with_external_id(external_id);
        }
        if let Some(source_identity) = &ecr_settings.source_identity {
            ecr = ecr.with_source_identity(source_identity);
        }
        if let Some(config) = &options.sdk_config {
            ecr = ecr.with_sdk_config(config.clone());
        }
        if let Some(url) = &options.endpoint_url {
            ecr = ecr.with_endpoint_url(url);
        }
        if let ChosenIdentity::Token { file, .. } = identity {
            ecr = ecr.with_web_identity(TokenFile::new(file));
        }
        if let Some(profile) = &ecr_settings.profile {
            ecr = ecr.with_profile(profile);
        }
        if let Some(role_arn) = &ecr_settings.role_arn {
            ecr = ecr.with_role_arn(role_arn.as_str());
        }
        if let Some(role_arn) = &ecr_settings.administrator_role_arn {
            ecr = ecr.with_administrator_role_arn(role_arn.as_str());
        }
        if let Some(lifetime) = options.credentials_lifetime {
            ecr = ecr.with_credentials_lifetime(lifetime);
        }
        if let Some(attempts) = options.max_attempts {
            ecr = ecr.with_max_attempts(attempts);
        }
        if let Some(directory) = CredentialsCache::user_directory() {
            ecr = ecr.with_cache_directory(directory);
        }
        let policy = match (&options.repository_policy, &ecr_settings.repository_policy) {
            (Some(policy), _) => Some(policy.clone()),
            (None, Some(file)) => Some(read_repository_policy(file)?),
            (None, None) => None,
        };
        if let Some(policy) = policy {
            ecr = ecr.with_repository_policy(policy);
        }
        Ok(ecr.build())
    }

    fn read_repository_policy(file: &Path) -> Result<String> {
        let named = |error: Error| error.with_help("correct repository_policy in the table [ecr]");
        let shown = file.display();
        let content = std::fs::read(file).map_err(|error| {
            named(Error::failed(format!("cannot read {shown}")).with_source(error))
        })?;
        let text = decode(&content)
            .map_err(|problem| named(Error::invalid(format!("{shown} is not JSON: {problem}"))))?;
        Ok(text.to_owned())
    }

    /// Returns the identity source of the AWS caller, whom the memberships file maps.
    ///
    /// Without a memberships file AWS alone decides, and the name is used for its records only. The name of
    /// the local user saves a call to AWS.
    pub(super) fn identity_source(
        ecr: EcrBackend,
        memberships: Option<MembershipsFile>,
    ) -> Arc<dyn IdentitySource> {
        match (memberships, local_user(None)) {
            (Some(memberships), _) => {
                let ask = move || {
                    let ecr = ecr.clone();
                    async move { Ok(ecr.caller().await?.arn.clone()) }
                };
                Arc::new(AwsCaller::new(ask, memberships))
            }
            (None, Ok(name)) => Arc::new(single_user(name)),
            (None, Err(_)) => Arc::new(NamedByAws(ecr)),
        }
    }

    /// The AWS caller, named by its ARN, for a user without a name in the operating system. The name is
    /// used for records only, so operations wait only briefly for it.
    #[derive(Debug)]
    struct NamedByAws(EcrBackend);

    #[async_trait]
    impl IdentitySource for NamedByAws {
        async fn principal(&self) -> Result<Arc<Principal>> {
            match self.0.caller_in_time().await {
                Some(caller) => {
                    let name = PrincipalName::new(PrincipalKind::User, &caller.arn)?;
                    Ok(Arc::new(single_user(name)))
                }
                None => Nameless.principal().await,
            }
        }
    }
}
