//! Repositories: one rename of the folder creates or deletes a repository, so that both are atomic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{Temporary, cannot, rfc3339, sync_parent, write_new};
use super::layout::{RECORD, Walk};
use super::manifests::manifest_digests;
use crate::backend::{CreateOptions, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{OrganizationId, Organizations, RepositoryPath, Stage, Tag, TagPattern};

/// The settings that a repository was created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryRecord {
    #[serde(with = "rfc3339")]
    pub(crate) created_at: SystemTime,
    pub(crate) tag_mutability: TagMutability,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) mutability_exclusions: BTreeSet<TagPattern>,
    pub(crate) resource_tags: BTreeMap<String, String>,
}

impl RepositoryRecord {
    fn new(options: &CreateOptions) -> Self {
        Self {
            created_at: SystemTime::now(),
            tag_mutability: options.tag_mutability,
            mutability_exclusions: options.mutability_exclusions.clone(),
            resource_tags: options.resource_tags.clone(),
        }
    }

    /// Whether a tag may not move to another image.
    pub(crate) fn is_immutable(&self, tag: &Tag) -> bool {
        let excepted = self.mutability_exclusions.iter().any(|filter| filter.matches(tag));
        excepted != (self.tag_mutability == TagMutability::Immutable)
    }

    /// Returns how the settings of this record differ from `options`; `None` if they agree.
    fn conflict_with(&self, options: &CreateOptions) -> Option<String> {
        if self.tag_mutability != options.tag_mutability {
            return Some(format!("already exists with {} tags", self.tag_mutability));
        }
        if self.mutability_exclusions != options.mutability_exclusions {
            let exceptions: Vec<_> =
                self.mutability_exclusions.iter().map(ToString::to_string).collect();
            return Some(match exceptions.is_empty() {
                true => format!("already exists with {} tags alone", self.tag_mutability),
                false => {
                    let exceptions = exceptions.join(", ");
                    format!("already exists with {} tags except {exceptions}", self.tag_mutability)
                }
            });
        }
        let mut wanted = options.resource_tags.iter();
        let (key, value) =
            wanted.find(|(key, value)| self.resource_tags.get(*key) != Some(value))?;
        Some(format!("already exists without the resource tag {key}={value}"))
    }
}

/// Rejects settings that a local registry does not support.
fn check(options: &CreateOptions) -> Result<()> {
    let CreateOptions { encryption, scan_on_push, lifecycle_policy, .. } = options;
    let foreign = [
        (encryption.is_some(), "encryption"),
        (*scan_on_push, "scan on push"),
        (lifecycle_policy.is_some(), "lifecycle policies"),
    ];
    if let Some((_, what)) = foreign.into_iter().find(|(asked, _)| *asked) {
        return Err(Error::invalid(format!("a local registry has no {what}")));
    }
    let most = CreateOptions::MAX_MUTABILITY_EXCLUSIONS;
    match options.mutability_exclusions.len() {
        count if count > most => Err(Error::invalid(format!(
            "{count} exceptions to the tag mutability, of at most {most}"
        ))),
        _ => Ok(()),
    }
}

impl Store {
    /// Creates a repository, or returns the existing one if it has these settings.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it exists with other settings; [`Error::InvalidInput`] for settings that
    /// only ECR has.
    pub(crate) fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<RepositoryRecord> {
        check(options)?;
        // A link among the parent folders is an error here, before anything is written.
        let locked = self.lock_or_create(path)?;
        let target = locked.folder.as_path();
        if let Some(record) = locked.folder.read_record()? {
            return match record.conflict_with(options) {
                // The process that created it may have been killed before the sync.
                None => sync_parent(target).map_err(cannot("create", target)).map(|()| record),
                Some(problem) => Err(Error::conflict(ResourceKind::Repository, path, problem)),
            };
        }
        let record = RepositoryRecord::new(options);
        let json = serde_json::to_vec_pretty(&record).map_err(|error| {
            Error::failed("cannot write a repository's record").with_source(error)
        })?;
        let folder = self.temporary_path()?;
        let fresh = Temporary::folder(folder.clone()).map_err(cannot("create", &folder))?;
        let file = folder.join(RECORD);
        write_new(&file, &json)
            .and_then(|()| sync_parent(&file))
            .map_err(cannot("write", &file))?;
        fresh.publish_as(target).map_err(cannot("create", target))?;
        Ok(record)
    }

    /// Returns the settings that a repository was created with.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub(crate) fn repository(&self, path: &RepositoryPath) -> Result<RepositoryRecord> {
        let folder = self.folder(path)?;
        folder.read_record()?.ok_or_else(|| folder.missing())
    }

    /// Deletes a repository with everything in it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; [`Error::Conflict`] if it has images and `force` is off.
    pub(crate) fn delete_repository(&self, path: &RepositoryPath, force: bool) -> Result<()> {
        let locked = self.lock(path)?;
        if !force && !manifest_digests(&locked.folder)?.is_empty() {
            return Err(Error::conflict(ResourceKind::Repository, path, "has images"));
        }
        let folder = locked.folder.as_path();
        let trash = self.trash_path()?;
        fs::rename(folder, &trash)
            .and_then(|()| sync_parent(folder))
            .map_err(cannot("delete", folder))?;
        // The repository is deleted by now; a sweep removes the rest of the trash.
        if let Err(error) = fs::remove_dir_all(&trash) {
            tracing::warn!(path = %trash.display(), %error, "a deleted repository stays on the disk");
        }
        Ok(())
    }

    /// Lists the organizations that have a folder in the stage.
    pub(crate) fn organizations(&self, stage: &Stage) -> Result<BTreeSet<OrganizationId>> {
        Ok(Walk::new(self.root(), stage, &Organizations::All)?.into_organizations())
    }

    /// Lists the repositories of organizations in a stage, ordered by organization, then by name.
    ///
    /// The iterator reads folders lazily and holds the listing of one folder per level.
    pub(crate) fn repositories(
        &self,
        stage: &Stage,
        organizations: &Organizations,
    ) -> impl Iterator<Item = Result<(RepositoryPath, RepositoryRecord)>> + Send + use<> {
        let store = self.clone();
        let (walk, failed) = match Walk::new(self.root(), stage, organizations) {
            Ok(walk) => (Some(walk), None),
            Err(error) => (None, Some(Err(error))),
        };
        let found = walk.into_iter().flatten().filter_map(move |path| {
            let record = path.and_then(|path| {
                Ok(store.repository_folder(&path).read_record()?.map(|record| (path, record)))
            });
            record.transpose()
        });
        failed.into_iter().chain(found)
    }
}

#[cfg(test)]
mod tests;
