//! Creation of a repository: one call, another one for each policy. The same request again finishes it.

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
use super::web_identity::Rights;
use crate::backend::{CreateOptions, Encryption, Repository, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::RepositoryPath;

/// The resource tag that names who created a repository.
const CREATED_BY_TAG: &str = "ark:created-by";
/// What the keys of the backend's own resource tags start with.
const OWN_TAGS: &str = "ark:";

/// How long a reading may miss what was just created, and how long to wait before the first repetition.
const MAX_VISIBILITY_CHECKS: u32 = 6;
const FIRST_VISIBILITY_WAIT: Duration = Duration::from_millis(50);

/// Creates a repository; one that exists with the same settings is returned as it is.
pub(super) async fn create(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<Repository> {
    check(backend, options)?;
    check_lifecycle_policy(backend, path, options).await?;
    let tags = resource_tags(backend, path, options);
    let request = backend
        .ecr_with(Rights::to_create(path))
        .await?
        .create_repository()
        .registry_id(backend.ecr_host().account())
        .repository_name(path.to_string());
    let not_built = |error: BuildError| {
        Error::failed(format!("cannot ask for the repository {path}")).with_source(error)
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
    let answer = request
        .set_tags(Some(aws_tags))
        .image_tag_mutability(mutability)
        .set_image_tag_mutability_exclusion_filters((!filters.is_empty()).then_some(filters))
        .set_encryption_configuration(encryption)
        .set_image_scanning_configuration(scanning.map(|scanning| scanning.build()))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let created = answer.repository.ok_or_else(|| {
                Error::failed(format!("AWS does not say what it created for {path}"))
            })?;
            let mut repository = repository_from(backend, path.clone(), &created)?;
            repository.resource_tags = Some(tags);
            settle(backend, path).await?;
            for policy in policies(backend, options) {
                let put = policy.put(backend, path).await;
                policy.unless_left_to_administrators(backend, path, put)?;
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

/// Makes sure of what AWS would not say as clearly, or not before the repository exists.
fn check(backend: &EcrBackend, options: &CreateOptions) -> Result<()> {
    let most = CreateOptions::MAX_MUTABILITY_EXCLUSIONS;
    if options.mutability_exclusions.len() > most {
        return Err(Error::invalid(format!(
            "{} exceptions to the tag mutability, of at most {most}",
            options.mutability_exclusions.len()
        )));
    }
    if let Some(key) = options.resource_tags.keys().find(|key| key.starts_with(OWN_TAGS)) {
        let message =
            format!("the resource tag {key:?} is set by the registry: {OWN_TAGS} is its own");
        return Err(Error::invalid(message));
    }
    policies(backend, options).try_for_each(|policy| policy.check())
}

/// Makes sure, before the repository exists, that the caller may set a lifecycle policy.
async fn check_lifecycle_policy(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<()> {
    if options.lifecycle_policy.is_none() {
        return Ok(());
    }
    match backend.clients(Rights::Administrator).await {
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

/// Waits until AWS tells of what it created, a second or two at most.
async fn settle(backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
    let mut wait = FIRST_VISIBILITY_WAIT;
    for _ in 0..MAX_VISIBILITY_CHECKS {
        let ecr = backend.ecr().await?;
        let request = ecr.describe_repositories().registry_id(backend.ecr_host().account());
        match request.repository_names(path.to_string()).send().await {
            Err(error) if error.code() == Some(REPOSITORY_NOT_FOUND) => {}
            Ok(_) => return Ok(()),
            // It exists, whether or not the caller may look.
            Err(error) => {
                let error = backend.call_on("describe", path).error(error);
                tracing::debug!(%error, "what was created cannot be described");
                return Ok(());
            }
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    Err(Error::temporary(format!(
        "{path} in {backend} is created, but AWS does not tell of it yet"
    )))
}

/// A repository that was there before, if it is as asked for.
async fn existing(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<Repository> {
    let mut wait = FIRST_VISIBILITY_WAIT;
    let mut described = backend.describe(path).await;
    // Somebody else may have created it a moment ago.
    for _ in 1..MAX_VISIBILITY_CHECKS {
        if !matches!(described, Err(Error::NotFound { .. })) {
            break;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        described = backend.describe(path).await;
    }
    let mut described = described?;
    if let Some(problem) = clash(&described, options) {
        return Err(Error::conflict(ResourceKind::Repository, path, problem));
    }
    add_organization_tag(backend, path, &mut described.repository).await?;
    for policy in policies(backend, options) {
        let finished = policy.finish(backend, path).await;
        policy.unless_left_to_administrators(backend, path, finished)?;
    }
    Ok(described.repository)
}

/// Adds the tag by which the tag index finds a repository that was created by other means.
///
/// Who may not tag it can use it nevertheless.
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
    let request = backend.ecr_with(Rights::to_create(path)).await?.tag_resource();
    match request.resource_arn(arn).tags(tag).send().await.map_err(|error| call.error(error)) {
        Ok(_) => {
            tags.insert(ORGANIZATION_TAG.to_owned(), organization);
            Ok(())
        }
        Err(error @ Error::PermissionDenied { .. }) => {
            tracing::warn!(
                "listings by the tag index of AWS lack {path}, which has no resource tag \
                 {ORGANIZATION_TAG}: {error}"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Why a repository is not what `options` ask for; what they leave open is no reason.
fn clash(described: &Described, options: &CreateOptions) -> Option<String> {
    let Described { repository, encryption, scan_on_push } = described;
    let already = |with: String| Some(format!("already exists with {with}"));
    if repository.tag_mutability != options.tag_mutability {
        return already(format!("{} tags", repository.tag_mutability));
    }
    if repository.mutability_exclusions != options.mutability_exclusions {
        let present: Vec<_> =
            repository.mutability_exclusions.iter().map(ToString::to_string).collect();
        return already(match present.is_empty() {
            true => format!("{} tags alone", repository.tag_mutability),
            false => format!("{} tags except {}", repository.tag_mutability, present.join(", ")),
        });
    }
    let same_encryption = match (&options.encryption, encryption) {
        (None, _) => true,
        (Some(Encryption::Kms { key: asked }), Encryption::Kms { key: present })
        | (Some(Encryption::KmsDsse { key: asked }), Encryption::KmsDsse { key: present }) => {
            is_same_key(asked.as_deref(), present.as_deref())
        }
        (Some(asked), present) => asked == present,
    };
    if !same_encryption {
        return already(format!("the encryption {encryption}"));
    }
    if options.scan_on_push && !scan_on_push {
        return Some("already exists without a scan on push".to_owned());
    }
    let present = repository.resource_tags.as_ref();
    let mut asked = options.resource_tags.iter();
    let (key, value) =
        asked.find(|(key, value)| present.and_then(|tags| tags.get(*key)) != Some(value))?;
    Some(format!("already exists without the resource tag {key}={value}"))
}

/// Whether a repository has the KMS key that was asked for; any key if none was.
///
/// AWS answers with the ARN of a key, however it was named in the request. An alias cannot be compared.
fn is_same_key(asked: Option<&str>, present: Option<&str>) -> bool {
    let (Some(asked), Some(present)) = (asked, present) else { return asked.is_none() };
    asked == present
        || present.ends_with(&format!(":key/{asked}"))
        || asked.starts_with("alias/")
        || asked.contains(":alias/")
}

/// Which policy of a repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyKind {
    /// Which images expire.
    Lifecycle,
    /// Who may use it, beside what their own policies say.
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

/// A policy that a repository is to have.
#[derive(Debug, Clone, Copy)]
struct AttachedPolicy<'p> {
    kind: PolicyKind,
    text: &'p str,
}

/// What a repository is to have, in the order in which it gets it: who may use it comes first.
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
    /// Makes sure of what AWS would not say before the repository exists.
    fn check(self) -> Result<()> {
        let name = self.kind.name();
        let parsed = serde_json::from_str::<Value>(self.text);
        parsed.map(drop).map_err(|error| Error::invalid(format!("the {name} is no JSON: {error}")))
    }

    /// Puts it on a repository that was there before and lacks it; another one is a conflict.
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

    /// Takes the result of putting it there. The repository policy is the deployment's: where the bearer of a
    /// token may not set it, the creation succeeds and an administrator sets it later.
    fn unless_left_to_administrators(
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
                    "{path} has no repository policy yet: only administrators may set it, and the same \
                     request by one of them does"
                );
                Ok(())
            }
            put => put,
        }
    }

    /// The text of the one that a repository has.
    async fn present(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<Option<String>> {
        let ecr = backend.ecr_with(Rights::Administrator).await?;
        let (account, name) = (backend.ecr_host().account(), path.to_string());
        let doing = format!("read the {} of", self.kind.name());
        let call = backend.call_on(&doing, path);
        let present = match self.kind {
            PolicyKind::Lifecycle => {
                let request = ecr.get_lifecycle_policy().registry_id(account).repository_name(name);
                let answer = request.send().await.map_err(|error| call.error(error));
                answer.map(|answer| answer.lifecycle_policy_text)
            }
            PolicyKind::Repository => {
                let request =
                    ecr.get_repository_policy().registry_id(account).repository_name(name);
                let answer = request.send().await.map_err(|error| call.error(error));
                answer.map(|answer| answer.policy_text)
            }
        };
        match present {
            Err(error) if is_missing_policy(&error) => Ok(None),
            present => present,
        }
    }

    /// Puts it on a repository; the error says what state that is in.
    async fn put(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
        let ecr = backend.ecr_with(Rights::Administrator).await?;
        let (account, repository) = (backend.ecr_host().account(), path.to_string());
        let name = self.kind.name();
        let doing = format!("put the {name} on");
        let call = backend.call_on(&doing, path);
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
            "the repository {path} exists as asked for, but without its {name}; the same request \
             again puts it there"
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

/// Whether AWS says that a repository has no such policy.
fn is_missing_policy(error: &Error) -> bool {
    let refusal = error.source().and_then(|source| source.downcast_ref::<AwsRefusal>());
    refusal.is_some_and(|refusal| refusal.code().ends_with("PolicyNotFoundException"))
}

/// Whether two texts are one policy.
///
/// AWS may give a policy back with its lists in another order, and one value without its list.
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
