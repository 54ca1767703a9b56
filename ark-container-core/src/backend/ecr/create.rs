//! Creation: one call, another for each policy, and the same command again finishes it.

mod policy;

use std::time::Duration;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Tag,
};
use aws_smithy_types::error::operation::BuildError;
use policy::policies;

use super::backend::EcrBackend;
use super::describe::{Described, row};
use super::errors::REPOSITORY_NOT_FOUND;
use super::index::ORGANIZATION_TAG;
use super::web_identity::Rights;
use crate::backend::{CreateOptions, Encryption, Repository, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::RepositoryPath;

/// The resource tag that names who created a repository.
const CREATED_BY_TAG: &str = "ark:created-by";
/// What the keys of the backend's own resource tags start with.
const OWN_TAGS: &str = "ark:";

/// How long a reading may miss what was just created, and how long to wait before the first repetition.
const SETTLES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Creates a repository; one that exists with the same settings is returned as it is.
pub(super) async fn create(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<Repository> {
    check(backend, options)?;
    let tags = resource_tags(backend, path, options);
    let request = backend
        .ecr_with(Rights::to_create(path))
        .await?
        .create_repository()
        .registry_id(backend.ecr_host().account())
        .repository_name(path.to_string());
    let not_built =
        |error: BuildError| Error::failed(format!("cannot ask for the repository {path}"), error);
    let mut aws_tags = Vec::with_capacity(tags.len());
    for (key, value) in &tags {
        aws_tags.push(Tag::builder().key(key).value(value).build().map_err(not_built)?);
    }
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
            let created = answer.repository.ok_or_else(|| Error::Failed {
                message: format!("AWS does not say what it created for {path}"),
                source: None,
            })?;
            backend.check_registry(created.registry_id()).await?;
            let mut repository = row(backend, path.clone(), &created)?;
            repository.resource_tags = Some(tags);
            settle(backend, path).await?;
            for policy in policies(backend, options) {
                policy.put(backend, path).await?;
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
        Err(error) => Err(backend.call_on("create the repository", path).failed(error).await),
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

fn resource_tags(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> std::collections::BTreeMap<String, String> {
    let mut tags = options.resource_tags.clone();
    tags.insert(ORGANIZATION_TAG.to_owned(), path.organization().to_string());
    if let Some(principal) = backend.principal() {
        tags.insert(CREATED_BY_TAG.to_owned(), principal.to_owned());
    }
    tags
}

fn encryption(encryption: &Encryption) -> Result<EncryptionConfiguration, BuildError> {
    let configuration = EncryptionConfiguration::builder();
    match encryption {
        Encryption::Aes256 => configuration.encryption_type(EncryptionType::Aes256),
        Encryption::Kms { key } => {
            configuration.encryption_type(EncryptionType::Kms).set_kms_key(key.clone())
        }
    }
    .build()
}

/// Waits until AWS tells of what it created, a second or two at most.
async fn settle(backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
    let mut wait = FIRST_WAIT;
    for _ in 0..SETTLES {
        let ecr = backend.ecr().await?;
        let seen = ecr.describe_repositories().repository_names(path.to_string()).send().await;
        match seen {
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
    Err(Error::Temporary {
        message: format!("{path} in {backend} is created, but AWS does not tell of it yet"),
        source: None,
    })
}

/// A repository that was there before, if it is as asked for.
async fn existing(
    backend: &EcrBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<Repository> {
    let mut wait = FIRST_WAIT;
    let mut described = backend.describe(path).await;
    // Somebody else may have created it a moment ago.
    for _ in 1..SETTLES {
        if !matches!(described, Err(Error::NotFound { .. })) {
            break;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        described = backend.describe(path).await;
    }
    let described = described?;
    if let Some(problem) = clash(&described, options) {
        return Err(Error::conflict(ResourceKind::Repository, path, problem));
    }
    for policy in policies(backend, options) {
        policy.finish(backend, path).await?;
    }
    Ok(described.repository)
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
    let same_key = match (&options.encryption, encryption) {
        (None, _) | (Some(Encryption::Kms { key: None }), Encryption::Kms { .. }) => true,
        // AWS tells a key's ARN, whatever it was called by; an alias says nothing about it.
        (Some(Encryption::Kms { key: Some(asked) }), Encryption::Kms { key: Some(present) }) => {
            asked == present
                || present.ends_with(&format!(":key/{asked}"))
                || asked.starts_with("alias/")
                || asked.contains(":alias/")
        }
        (Some(asked), present) => asked == present,
    };
    if !same_key {
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

#[cfg(test)]
mod tests;
