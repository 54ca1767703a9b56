//! [`create`]: creates a repository by one call, and sets each policy by another call. A repeated request completes an
//! interrupted creation.

use std::error::Error as _;
use std::time::Duration;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Tag,
};
use aws_smithy_types::error::operation::BuildError;
use serde_json::Value;

use super::backend::EcrBackend;
use super::errors::{AwsRefusal, REPOSITORY_NOT_FOUND};
use super::principal_text::tag_value;
use super::repositories::{Described, repository_from};
use super::tag_index::ORGANIZATION_TAG;
use super::web_identity::IamRole;
use crate::backend::{CreateOptions, Encryption, Repository, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::RepositoryPath;

/// The resource tag that names the creator of a repository.
const CREATED_BY_TAG: &str = "ark:created-by";
/// The prefix of the keys of the backend's own resource tags.
const RESERVED_TAG_PREFIX: &str = "ark:";

/// The maximum number of checks whether AWS describes a new repository.
const MAX_VISIBILITY_CHECKS: u32 = 6;
/// The delay after the first check, which doubles with each further check.
const FIRST_VISIBILITY_DELAY: Duration = Duration::from_millis(50);

/// Creates a repository, or returns an existing one with the same settings.
pub(super) async fn create(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<Repository> {
    check(backend, options)?;
    check_lifecycle_policy(backend, path, options).await?;
    let tags = resource_tags(backend, path, options);
    let request = backend
        .ecr_with(IamRole::to_create(path))
        .await?
        .create_repository()
        .registry_id(backend.ecr_host().account())
        .repository_name(path.to_string());
    let not_built = |error: BuildError| {
        Error::failed(format!("cannot create the repository {path}")).with_source(error)
    };
    let aws_tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    let aws_tags: Vec<Tag> = aws_tags.collect::<Result<_, _>>().map_err(not_built)?;
    let mut filters = Vec::new();
    for filter in &options.mutability_exclusions {
        let filter = ImageTagMutabilityExclusionFilter::builder()
            .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
            .filter(filter.as_str());
        filters.push(filter.build().map_err(not_built)?);
    }
    let mutability = match (options.tag_mutability, filters.is_empty()) {
        (TagMutability::Mutable, true) => ImageTagMutability::Mutable,
        (TagMutability::Mutable, false) => ImageTagMutability::MutableWithExclusion,
        (TagMutability::Immutable, true) => ImageTagMutability::Immutable,
        (TagMutability::Immutable, false) => ImageTagMutability::ImmutableWithExclusion,
    };
    let encryption = options.encryption.as_ref().map(encryption).transpose().map_err(not_built)?;
    let scanning =
        options.scan_on_push.then(|| ImageScanningConfiguration::builder().scan_on_push(true));
    let response = request
        .set_tags(Some(aws_tags))
        .image_tag_mutability(mutability)
        .set_image_tag_mutability_exclusion_filters((!filters.is_empty()).then_some(filters))
        .set_encryption_configuration(encryption)
        .set_image_scanning_configuration(scanning.map(|scanning| scanning.build()))
        .send()
        .await;
    match response {
        Ok(response) => {
            let created = response
                .repository
                .ok_or_else(|| Error::failed(format!("AWS returned no repository for {path}")))?;
            let mut repository = repository_from(backend, path.clone(), &created)?;
            repository.resource_tags = Some(tags);
            wait_until_visible(backend, path).await?;
            for policy in policies(backend, options) {
                let put = policy.put(backend, path).await;
                policy.defer_to_administrators(backend, path, put)?;
            }
            Ok(repository)
        }
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|e| e.is_repository_already_exists_exception()) =>
        {
            existing(backend, path, options).await
        }
        Err(error) => Err(backend.call_on("create the repository", path).error(error)),
    }
}

/// Checks the options that AWS rejects with an unclear error, or only after the creation.
fn check(backend: &EcrBackend, options: &CreateOptions) -> Result<()> {
    let most = CreateOptions::MAX_MUTABILITY_EXCLUSIONS;
    if options.mutability_exclusions.len() > most {
        return Err(Error::invalid(format!(
            "{} exceptions to the tag mutability, of at most {most}",
            options.mutability_exclusions.len()
        )));
    }
    let is_reserved = |key: &&String| key.starts_with(RESERVED_TAG_PREFIX);
    if let Some(key) = options.resource_tags.keys().find(is_reserved) {
        return Err(Error::invalid(format!(
            "the resource tag {key:?} is reserved: only the registry sets tags that start with \
             {RESERVED_TAG_PREFIX}"
        )));
    }
    policies(backend, options).try_for_each(|policy| policy.check())
}

/// Checks before the creation that the caller may set a lifecycle policy.
async fn check_lifecycle_policy(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<()> {
    if options.lifecycle_policy.is_none() {
        return Ok(());
    }
    match backend.clients(IamRole::Administrator).await {
        Ok(_) => Ok(()),
        Err(Error::PermissionDenied { principal, .. }) => Err(Error::permission_denied(
            principal,
            "set a lifecycle policy on",
            format!("{path}: only administrators of the organization may; nothing was changed"),
        )),
        Err(error) => Err(error),
    }
}

fn resource_tags(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> std::collections::BTreeMap<String, String> {
    let mut tags = options.resource_tags.clone();
    tags.insert(ORGANIZATION_TAG.to_owned(), path.organization().to_string());
    if let Some(principal) = backend.principal() {
        tags.insert(CREATED_BY_TAG.to_owned(), tag_value(principal));
    }
    tags
}

fn encryption(encryption: &Encryption) -> Result<EncryptionConfiguration, BuildError> {
    let (kind, key) = match encryption {
        Encryption::Aes256 => (EncryptionType::Aes256, None),
        Encryption::Kms { key } => (EncryptionType::Kms, key.clone()),
        Encryption::KmsDsse { key } => (EncryptionType::KmsDsse, key.clone()),
    };
    EncryptionConfiguration::builder().encryption_type(kind).set_kms_key(key).build()
}

/// Waits until AWS describes a new repository.
async fn wait_until_visible(backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
    let mut delay = FIRST_VISIBILITY_DELAY;
    for _ in 0..MAX_VISIBILITY_CHECKS {
        let ecr = backend.ecr().await?;
        let request = ecr.describe_repositories().registry_id(backend.ecr_host().account());
        match request.repository_names(path.to_string()).send().await {
            Err(error) if error.code() == Some(REPOSITORY_NOT_FOUND) => {}
            Ok(_) => return Ok(()),
            // The repository exists, even if the caller may not describe it.
            Err(error) => {
                let error = backend.call_on("describe", path).error(error);
                tracing::debug!(%error, "the new repository cannot be described");
                return Ok(());
            }
        }
        tokio::time::sleep(delay).await;
        delay *= 2;
    }
    Err(Error::temporary(format!(
        "{path} in {backend} is created, but AWS does not describe it yet"
    )))
}

/// Returns an existing repository if it has the requested settings, and adds its missing tag and policies.
async fn existing(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<Repository> {
    let mut delay = FIRST_VISIBILITY_DELAY;
    let mut described = backend.describe(path).await;
    // A concurrent request may have just created the repository.
    for _ in 1..MAX_VISIBILITY_CHECKS {
        if !matches!(described, Err(Error::NotFound { .. })) {
            break;
        }
        tokio::time::sleep(delay).await;
        delay *= 2;
        described = backend.describe(path).await;
    }
    let mut described = described?;
    if let Some(problem) = difference(&described, options) {
        return Err(Error::conflict(ResourceKind::Repository, path, problem));
    }
    add_organization_tag(backend, path, &mut described.repository).await?;
    for policy in policies(backend, options) {
        let finished = policy.finish(backend, path).await;
        policy.defer_to_administrators(backend, path, finished)?;
    }
    Ok(described.repository)
}

/// Adds the tag for the tag index to a repository that was created by other means.
///
/// A caller without permission to tag the repository gets a warning, not an error.
async fn add_organization_tag(
    backend: &EcrBackend,
    path: &RepositoryPath,
    repository: &mut Repository,
) -> Result<()> {
    let organization = path.organization().to_string();
    let tags = repository.resource_tags.get_or_insert_default();
    if tags.get(ORGANIZATION_TAG) == Some(&organization) {
        return Ok(());
    }
    let call = backend.call_on("tag the repository", path);
    let tag = Tag::builder().key(ORGANIZATION_TAG).value(&organization).build();
    let tag =
        tag.map_err(|error| Error::failed(format!("cannot tag {path}")).with_source(error))?;
    let arn = backend.ecr_host().repository_arn(path);
    let request = backend.ecr_with(IamRole::to_create(path)).await?.tag_resource();
    match request.resource_arn(arn).tags(tag).send().await.map_err(|error| call.error(error)) {
        Ok(_) => {
            tags.insert(ORGANIZATION_TAG.to_owned(), organization);
            Ok(())
        }
        Err(error @ Error::PermissionDenied { .. }) => {
            tracing::warn!(
                "listings by the tag index omit {path}, because it has no resource tag \
                 {ORGANIZATION_TAG}: {error}"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Returns the first difference between a repository and the requested options. Unset options are no difference.
fn difference(described: &Described, options: &CreateOptions) -> Option<String> {
    let Described { repository, encryption, scan_on_push } = described;
    let already = |with: String| Some(format!("already exists with {with}"));
    if repository.tag_mutability != options.tag_mutability {
        return already(format!("{} tags", repository.tag_mutability));
    }
    if repository.mutability_exclusions != options.mutability_exclusions {
        let present: Vec<_> =
            repository.mutability_exclusions.iter().map(ToString::to_string).collect();
        return already(match present.is_empty() {
            true => format!("{} tags, without exceptions", repository.tag_mutability),
            false => format!("{} tags except {}", repository.tag_mutability, present.join(", ")),
        });
    }
    let same_encryption = match (&options.encryption, encryption) {
        (None, _) => true,
        (Some(Encryption::Kms { key: requested }), Encryption::Kms { key: present })
        | (Some(Encryption::KmsDsse { key: requested }), Encryption::KmsDsse { key: present }) => {
            is_same_key(requested.as_deref(), present.as_deref())
        }
        (Some(requested), present) => requested == present,
    };
    if !same_encryption {
        return already(format!("the encryption {encryption}"));
    }
    if options.scan_on_push && !scan_on_push {
        return Some("already exists without a scan on push".to_owned());
    }
    let present = repository.resource_tags.as_ref();
    let mut requested = options.resource_tags.iter();
    let (key, value) =
        requested.find(|(key, value)| present.and_then(|tags| tags.get(*key)) != Some(value))?;
    Some(format!("already exists without the resource tag {key}={value}"))
}

/// Returns whether a repository has the requested KMS key, or any key if none was requested.
///
/// AWS returns the ARN of a key, even if the request named it by id or alias. An alias cannot be compared, and matches
/// any key.
fn is_same_key(requested: Option<&str>, present: Option<&str>) -> bool {
    let (Some(requested), Some(present)) = (requested, present) else { return requested.is_none() };
    requested == present
        || present.ends_with(&format!(":key/{requested}"))
        || requested.starts_with("alias/")
        || requested.contains(":alias/")
}

/// The kind of a policy of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyKind {
    /// Says which images expire.
    Lifecycle,
    /// Allows and denies actions, in addition to the policies of the callers.
    Repository,
}

impl PolicyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle policy",
            Self::Repository => "repository policy",
        }
    }
}

/// A policy to set on a repository.
#[derive(Debug, Clone, Copy)]
struct AttachedPolicy<'p> {
    kind: PolicyKind,
    text: &'p str,
}

/// Returns the policies to set on a repository, in this order: the repository policy first, which restricts access.
fn policies<'p>(
    backend: &'p EcrBackend,
    options: &'p CreateOptions,
) -> impl Iterator<Item = AttachedPolicy<'p>> {
    let repository = backend.config().repository_policy.as_deref();
    let lifecycle = options.lifecycle_policy.as_deref();
    let both = [(PolicyKind::Repository, repository), (PolicyKind::Lifecycle, lifecycle)];
    both.into_iter().filter_map(|(kind, text)| Some(AttachedPolicy { kind, text: text? }))
}

impl AttachedPolicy<'_> {
    /// Checks the policy before the creation of its repository.
    fn check(self) -> Result<()> {
        let name = self.kind.name();
        let parsed = serde_json::from_str::<Value>(self.text);
        parsed.map(drop).map_err(|error| Error::invalid(format!("the {name} is not JSON: {error}")))
    }

    /// Sets the policy on an existing repository without one. Another policy is a conflict.
    async fn finish(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
        match self.present(backend, path).await? {
            None => self.put(backend, path).await,
            Some(present) if same_policy(&present, self.text) => Ok(()),
            Some(_) => {
                let problem = format!("already exists with another {}", self.kind.name());
                Err(Error::conflict(ResourceKind::Repository, path, problem))
            }
        }
    }

    /// Replaces the error of setting the policy by a warning if only administrators may set it.
    ///
    /// The repository policy is a setting of the deployment. If the holder of a token may not set it, the creation
    /// succeeds, and an administrator sets it later.
    fn defer_to_administrators(
        self,
        backend: &EcrBackend,
        path: &RepositoryPath,
        put: Result<()>,
    ) -> Result<()> {
        let config = backend.config();
        match put {
            Err(error)
                if self.kind == PolicyKind::Repository
                    && config.web_identity.is_some()
                    && (config.administrator_role_arn.is_none()
                        || matches!(error, Error::PermissionDenied { .. })) =>
            {
                tracing::warn!(
                    "{path} has no repository policy yet: only administrators may set it, by the same \
                     request"
                );
                Ok(())
            }
            put => put,
        }
    }

    /// Returns the text of the existing policy of a repository.
    async fn present(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<Option<String>> {
        let ecr = backend.ecr_with(IamRole::Administrator).await?;
        let (account, name) = (backend.ecr_host().account(), path.to_string());
        let operation = format!("read the {} of", self.kind.name());
        let call = backend.call_on(&operation, path);
        let present = match self.kind {
            PolicyKind::Lifecycle => {
                let request = ecr.get_lifecycle_policy().registry_id(account).repository_name(name);
                let response = request.send().await.map_err(|error| call.error(error));
                response.map(|response| response.lifecycle_policy_text)
            }
            PolicyKind::Repository => {
                let request =
                    ecr.get_repository_policy().registry_id(account).repository_name(name);
                let response = request.send().await.map_err(|error| call.error(error));
                response.map(|response| response.policy_text)
            }
        };
        match present {
            Err(error) if is_missing_policy(&error) => Ok(None),
            present => present,
        }
    }

    /// Sets the policy on a repository. The error names the state of the repository.
    async fn put(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
        let ecr = backend.ecr_with(IamRole::Administrator).await?;
        let (account, repository) = (backend.ecr_host().account(), path.to_string());
        let name = self.kind.name();
        let operation = format!("put the {name} on");
        let call = backend.call_on(&operation, path);
        let put = match self.kind {
            PolicyKind::Lifecycle => {
                let request = ecr.put_lifecycle_policy().repository_name(repository);
                let request = request.registry_id(account).lifecycle_policy_text(self.text);
                request.send().await.map(drop).map_err(|error| call.error(error))
            }
            PolicyKind::Repository => {
                let request = ecr.set_repository_policy().repository_name(repository);
                let request = request.registry_id(account).policy_text(self.text);
                request.send().await.map(drop).map_err(|error| call.error(error))
            }
        };
        let state = format!(
            "the repository {path} exists as requested, but without its {name}; repeat the same \
             request to set it"
        );
        put.map_err(|error| match error {
            Error::PermissionDenied { principal, action, resource, .. } => {
                Error::permission_denied(principal, action, format!("{resource}; {state}"))
            }
            Error::InvalidInput { message, .. } => Error::invalid(format!("{state}: {message}")),
            Error::Temporary { .. } => Error::temporary(state).with_source(error),
            other => Error::failed(state).with_source(other),
        })
    }
}

/// Returns whether a repository has no policy of this kind.
fn is_missing_policy(error: &Error) -> bool {
    let refusal = error.source().and_then(|source| source.downcast_ref::<AwsRefusal>());
    refusal.is_some_and(|refusal| refusal.code().ends_with("PolicyNotFoundException"))
}

/// Returns whether two texts are equal policies.
///
/// AWS may return a policy with its lists in another order, and a list of one value as the value.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_policies.html> (policy
/// restructuring)
fn same_policy(one: &str, other: &str) -> bool {
    let parsed = |text| serde_json::from_str(text).map(canonical).ok();
    parsed(one).is_some_and(|one| parsed(other) == Some(one))
}

fn canonical(value: Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<Value> = values.into_iter().map(canonical).collect();
            values.sort_by_cached_key(Value::to_string);
            match values.len() {
                1 => values.remove(0),
                _ => Value::Array(values),
            }
        }
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, canonical(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
