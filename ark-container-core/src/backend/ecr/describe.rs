//! What AWS says of a repository, as a [`Repository`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{EncryptionType, ImageTagMutability, Tag};
use futures_util::future::join;

use super::backend::EcrBackend;
use super::errors::REPOSITORY_NOT_FOUND;
use crate::backend::{Encryption, Repository, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{RepositoryPath, RepositoryUrl, TagPattern};

/// The most repositories that can be described by their names at once.
///
/// Source: `RepositoryNameList` in the ECR service model.
pub(super) const MOST_NAMES: usize = 100;

/// A repository with what only its creation asks about.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) repository: Repository,
    pub(super) encryption: Encryption,
    pub(super) scan_on_push: bool,
}

impl EcrBackend {
    /// A repository with its resource tags.
    pub(super) async fn describe(&self, path: &RepositoryPath) -> Result<Described> {
        let ecr = self.ecr().await?;
        let describing = ecr.describe_repositories().repository_names(path.to_string()).send();
        let arn = self.ecr_host().repository_arn(path);
        let tagged = ecr.list_tags_for_resource().resource_arn(arn).send();
        let (described, tagged) = join(describing, tagged).await;
        let described = match described {
            Ok(described) => described,
            Err(error) => return Err(self.call_on("describe", path).failed(error).await),
        };
        let missing = || Error::not_found(ResourceKind::Repository, path);
        let found = described.repositories().first().ok_or_else(missing)?;
        self.check_registry(found.registry_id()).await?;
        let tagged = match tagged {
            Ok(tagged) => tagged,
            Err(error) => return Err(self.call_on("read the tags of", path).failed(error).await),
        };
        let mut repository = row(self, path.clone(), found)?;
        repository.resource_tags = Some(resource_tags(tagged.tags.unwrap_or_default()));
        let encryption = found.encryption_configuration();
        Ok(Described {
            repository,
            encryption: match encryption.map(|encryption| encryption.encryption_type()) {
                None | Some(EncryptionType::Aes256) => Encryption::Aes256,
                Some(_) => {
                    Encryption::Kms { key: encryption.and_then(|e| e.kms_key()).map(str::to_owned) }
                }
            },
            scan_on_push: found
                .image_scanning_configuration()
                .is_some_and(|scanning| scanning.scan_on_push()),
        })
    }

    /// The repositories of these that exist, without their resource tags.
    ///
    /// One missing name fails a call of AWS whole, so that it is asked again in halves.
    pub(super) async fn describe_several(
        &self,
        paths: Vec<RepositoryPath>,
    ) -> Result<Vec<Repository>> {
        let mut found = Vec::with_capacity(paths.len());
        let mut left: Vec<Vec<RepositoryPath>> =
            paths.chunks(MOST_NAMES).rev().map(<[_]>::to_vec).collect();
        while let Some(mut names) = left.pop() {
            let texts = names.iter().map(ToString::to_string).collect();
            let ecr = self.ecr().await?;
            let answer = ecr.describe_repositories().set_repository_names(Some(texts)).send().await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.code() == Some(REPOSITORY_NOT_FOUND) => {
                    if names.len() > 1 {
                        let second = names.split_off(names.len() / 2);
                        left.extend([second, names]);
                    }
                    continue;
                }
                Err(error) => {
                    return Err(self.call("list the repositories of").failed(error).await);
                }
            };
            for repository in answer.repositories() {
                self.check_registry(repository.registry_id()).await?;
                let name = repository.repository_name().unwrap_or_default();
                if let Some(path) = names.iter().find(|path| path.to_string() == name) {
                    found.push(row(self, path.clone(), repository)?);
                }
            }
        }
        Ok(found)
    }
}

/// A repository without its resource tags.
pub(super) fn row(
    backend: &EcrBackend,
    path: RepositoryPath,
    repository: &aws_sdk_ecr::types::Repository,
) -> Result<Repository> {
    let unclear = |error| {
        Error::failed(format!("what AWS says of {path} in {backend} makes no sense"), error)
    };
    let url = match repository.repository_uri() {
        Some(url) => url.parse().map_err(unclear)?,
        None => RepositoryUrl::new(backend.ecr_host().registry_host().clone(), path.clone()),
    };
    let filters = repository.image_tag_mutability_exclusion_filters();
    let filters: Result<BTreeSet<TagPattern>, _> =
        filters.iter().map(|filter| filter.filter().parse()).collect();
    Ok(Repository {
        created_at: repository.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
        tag_mutability: match repository.image_tag_mutability() {
            Some(ImageTagMutability::Immutable | ImageTagMutability::ImmutableWithExclusion) => {
                TagMutability::Immutable
            }
            _ => TagMutability::Mutable,
        },
        mutability_exclusions: filters.map_err(unclear)?,
        ..Repository::new(url)
    })
}

pub(super) fn resource_tags(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}
