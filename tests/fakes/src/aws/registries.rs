//! The repositories of each account, and the access of authorization tokens to the registry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ark_container_core::Result;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::backend::local::ecr_emulation::{
    EcrAuthorizer, RejectedPassword, create_repository,
};
use ark_container_core::backend::{
    CreateOptions, RegistryBackend, Repository as Stored, TagMutability,
};
use ark_container_core::credentials::Password;
use ark_container_core::model::{EcrHost, Organizations, RepositoryPath};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::aws::accounts::Caller;
use crate::aws::iam::{Circumstances, check_access};
use crate::aws::policy::Policy;
use crate::aws::world::{Call, Clock, Record};

/// A repository that is only listed and accepts no images. A large number of them is cheap.
///
/// The name may be outside of any organization.
#[derive(Debug, Clone)]
pub struct ListedRepository {
    name: String,
    tags: BTreeMap<String, String>,
}

impl ListedRepository {
    /// Creates a listed repository without tags.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), tags: BTreeMap::new() }
    }

    /// Adds a tag.
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
}

/// The settings of repositories that ECR creates on a push to a missing repository below a prefix.
///
/// Source: `RepositoryCreationTemplate` in the service model of ECR, with `CREATE_ON_PUSH` in `appliedFor`.
#[derive(Debug, Clone)]
pub struct CreationTemplate {
    prefix: String,
    tags: BTreeMap<String, String>,
    lifecycle_policy: Option<String>,
}

impl CreationTemplate {
    /// Creates a template for the repositories whose paths start with `prefix` and a slash.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), tags: BTreeMap::new(), lifecycle_policy: None }
    }

    /// Adds a tag.
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Sets the lifecycle policy.
    pub fn with_lifecycle_policy(mut self, policy: impl Into<String>) -> Self {
        self.lifecycle_policy = Some(policy.into());
        self
    }

    fn is_for(&self, path: &RepositoryPath) -> bool {
        let path = path.to_string();
        path.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Source: `ImageTagMutability` in the service model of ECR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Mutability {
    #[default]
    Mutable,
    Immutable,
    MutableWithExclusion,
    ImmutableWithExclusion,
}

/// Source: `ImageTagMutabilityExclusionFilter` in the service model of ECR: required `filterType`
/// (`WILDCARD`) and `filter` (`^[0-9a-zA-Z._*-]{1,128}$`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExclusionFilter {
    pub(super) filter_type: String,
    pub(super) filter: String,
}

/// Source: `EncryptionConfiguration` in the service model of ECR: required `encryptionType` (`AES256`,
/// `KMS`, `KMS_DSSE`), `kmsKey` (1 to 2,048 characters).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Encryption {
    pub(super) encryption_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kms_key: Option<String>,
}

impl Default for Encryption {
    fn default() -> Self {
        Self { encryption_type: "AES256".to_owned(), kms_key: None }
    }
}

/// The resource-based policy of a repository.
#[derive(Debug, Clone)]
pub(super) struct RepositoryPolicy {
    pub(super) text: String,
    pub(super) parsed: Policy,
}

/// A repository of ECR.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) created_at: SystemTime,
    pub(super) mutability: Mutability,
    pub(super) exclusion_filters: Vec<ExclusionFilter>,
    pub(super) scan_on_push: bool,
    pub(super) encryption: Encryption,
    pub(super) lifecycle_policy: Option<String>,
    pub(super) policy: Option<RepositoryPolicy>,
    pub(super) tags: BTreeMap<String, String>,
    /// The image tags that are too long for the store, by digest.
    pub(super) long_tags: BTreeMap<String, BTreeSet<String>>,
    /// The path in the store; `None` if the repository is only listed.
    pub(super) path: Option<RepositoryPath>,
}

impl Repository {
    pub(super) fn new(created_at: SystemTime) -> Self {
        Self {
            created_at,
            mutability: Mutability::default(),
            exclusion_filters: Vec::new(),
            scan_on_push: false,
            encryption: Encryption::default(),
            lifecycle_policy: None,
            policy: None,
            tags: BTreeMap::new(),
            long_tags: BTreeMap::new(),
            path: None,
        }
    }

    fn stored(stored: Stored) -> Self {
        Self {
            mutability: match stored.tag_mutability {
                TagMutability::Immutable => Mutability::Immutable,
                // The store has no other setting.
                _ => Mutability::Mutable,
            },
            tags: stored.resource_tags.unwrap_or_default(),
            path: Some(stored.url.path().clone()),
            ..Self::new(stored.created_at.unwrap_or(SystemTime::UNIX_EPOCH))
        }
    }
}

/// The repositories of one account, by name.
pub(super) type Repositories = BTreeMap<String, Repository>;

/// The repositories of all accounts. The images of the fake's own account are in a store.
#[derive(Debug)]
pub(super) struct Registries {
    pub(super) store: LocalBackend,
    accounts: Mutex<HashMap<String, Repositories>>,
    changing: tokio::sync::Mutex<()>,
}

impl Registries {
    /// Loads the repositories in the store, and adds those that are only listed.
    pub(super) async fn open(
        store: LocalBackend,
        own: &str,
        listed: Vec<ListedRepository>,
    ) -> Result<Self> {
        let now = SystemTime::now();
        let listed = listed.into_iter().map(|listed| {
            let repository = Repository { tags: listed.tags, ..Repository::new(now) };
            (listed.name, repository)
        });
        let mut repositories: Repositories = listed.collect();
        let mut stored = store.list_repositories(&Organizations::All);
        while let Some(stored) = stored.try_next().await? {
            repositories.insert(stored.url.path().to_string(), Repository::stored(stored));
        }
        let accounts = Mutex::new([(own.to_owned(), repositories)].into());
        Ok(Self { store, accounts, changing: tokio::sync::Mutex::default() })
    }

    /// Locks the creation and deletion of repositories: checks stay true while the guard is held, until the change in
    /// the store is recorded.
    pub(super) async fn change(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Reads or changes the repositories of an account.
    pub(super) fn with<T>(&self, account: &str, work: impl FnOnce(&mut Repositories) -> T) -> T {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        work(accounts.entry(account.to_owned()).or_default())
    }
}

/// Iterates over the entries of a map after a key, or over all entries without a key.
pub(super) fn behind<'a, V>(
    map: &'a BTreeMap<String, V>,
    key: Option<&str>,
) -> impl Iterator<Item = (&'a String, &'a V)> + use<'a, V> {
    let start = key.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_owned()));
    map.range((start, Bound::Unbounded))
}

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The issued authorization tokens, and the lifetime of new ones.
#[derive(Default)]
pub(super) struct Logins(Mutex<State>);

#[derive(Default)]
struct State {
    logins: HashMap<String, Login>,
    lifetime: Option<Duration>,
    dated: Option<SystemTime>,
}

#[derive(Clone)]
struct Login {
    caller: Arc<Caller>,
    expires_at: SystemTime,
}

impl Logins {
    /// Adds a new token of a principal, and returns its `expiresAt`.
    ///
    /// A token ends with the session of its principal. AWS does not document whether a token outlives the session, so
    /// tests must not rely on that.
    pub(super) fn add(&self, token: String, caller: Arc<Caller>, now: SystemTime) -> SystemTime {
        let mut state = self.state();
        let whole = now + state.lifetime.unwrap_or(TOKEN_LIFETIME);
        let expires_at = caller.expires_at.map_or(whole, |session| session.min(whole));
        state.logins.insert(token, Login { caller, expires_at });
        state.dated.unwrap_or(expires_at)
    }

    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        self.state().lifetime = Some(lifetime);
    }

    pub(super) fn date(&self, expires_at: SystemTime) {
        self.state().dated = Some(expires_at);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// Checks the passwords of the registry and the policies of their principals.
#[derive(Debug)]
pub(super) struct RegistryAuthorizer {
    pub(super) host: EcrHost,
    pub(super) logins: Arc<Logins>,
    pub(super) registries: Arc<Registries>,
    pub(super) templates: Vec<CreationTemplate>,
    pub(super) clock: Arc<Clock>,
    pub(super) record: Arc<Record>,
}

impl RegistryAuthorizer {
    /// Creates a missing repository that a template applies to, regardless of the client's permissions.
    ///
    /// Source: <https://github.com/aws/containers-roadmap/issues/853>
    fn create_on_push(&self, path: &RepositoryPath) {
        let Some(template) = self.templates.iter().find(|template| template.is_for(path)) else {
            return;
        };
        let name = path.to_string();
        self.registries.with(self.host.account(), |repositories| {
            let options = CreateOptions::default();
            if repositories.contains_key(&name)
                || create_repository(&self.registries.store, path, &options).is_err()
            {
                return;
            }
            let created = Repository {
                tags: template.tags.clone(),
                lifecycle_policy: template.lifecycle_policy.clone(),
                path: Some(path.clone()),
                ..Repository::new(self.clock.now())
            };
            repositories.insert(name, created);
        });
    }
}

impl EcrAuthorizer for RegistryAuthorizer {
    type Login = Arc<Caller>;

    fn log_in(&self, password: &Password) -> Result<Arc<Caller>, RejectedPassword> {
        let login = self.logins.state().logins.get(password.expose()).cloned();
        let login = login.ok_or(RejectedPassword::Unknown)?;
        if login.expires_at <= self.clock.now() {
            return Err(RejectedPassword::Expired);
        }
        Ok(login.caller)
    }

    fn allows(&self, caller: &Arc<Caller>, path: &RepositoryPath, action: &'static str) -> bool {
        if action == "ecr:InitiateLayerUpload" {
            self.create_on_push(path);
        }
        let resource = self.host.repository_arn(path);
        // A missing repository has no tags, so policies with conditions on tags do not allow it.
        let repository = self
            .registries
            .with(self.host.account(), |repositories| repositories.get(&path.to_string()).cloned());
        let circumstances = Circumstances { request_tags: None, repository: repository.as_ref() };
        let allowed = check_access(caller, action, &resource, &circumstances).is_ok();
        self.record.add(Call {
            action: action.to_owned(),
            resources: vec![resource],
            principal: Some(caller.arn.clone()),
            error: (!allowed).then(|| "DENIED".to_owned()),
            request_id: String::new(),
        });
        allowed
    }
}
