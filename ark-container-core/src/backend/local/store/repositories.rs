//! Creation, deletion and listing of repositories. One rename of the folder creates or deletes a repository
//! atomically.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{Temporary, cannot, rfc3339, sync_parent, write_new};
use super::layout::{MANIFESTS, RECORD, Walk};
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

    /// Returns whether a tag must not move to another image.
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
                true => {
                    format!("already exists with {} tags, without exceptions", self.tag_mutability)
                }
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
    let unsupported = [
        (encryption.is_some(), "encryption"),
        (*scan_on_push, "scan on push"),
        (lifecycle_policy.is_some(), "lifecycle policies"),
    ];
    if let Some((_, setting)) = unsupported.into_iter().find(|(is_set, _)| *is_set) {
        return Err(Error::invalid(format!("a local registry does not support {setting}")));
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
    /// [`Error::Conflict`] if the repository exists with other settings; [`Error::InvalidInput`] for settings that
    /// only ECR supports.
    pub(crate) fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<RepositoryRecord> {
        check(options)?;
        // A link among the parent folders is an error before the first write.
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
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn repository(&self, path: &RepositoryPath) -> Result<RepositoryRecord> {
        let folder = self.folder(path)?;
        folder.read_record()?.ok_or_else(|| folder.missing())
    }

    /// Deletes a repository with its content.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist; [`Error::Conflict`] if it has images and `force` is off.
    pub(crate) fn delete_repository(&self, path: &RepositoryPath, force: bool) -> Result<()> {
        let locked = self.lock(path)?;
        if !force && !locked.folder.digests(MANIFESTS)?.is_empty() {
            return Err(Error::conflict(ResourceKind::Repository, path, "has images"));
        }
        let folder = locked.folder.as_path();
        let trash = self.trash_path()?;
        fs::rename(folder, &trash)
            .and_then(|()| sync_parent(folder))
            .map_err(cannot("delete", folder))?;
        // The rename has deleted the repository. A sweep removes the rest of the trash.
        if let Err(error) = fs::remove_dir_all(&trash) {
            tracing::warn!(path = %trash.display(), %error, "cannot remove a deleted repository");
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
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::super::tests::{Sample, path, path_in};
    use super::*;
    use crate::backend::Encryption;
    use crate::model::OrganizationId;

    fn names(store: &Store) -> Vec<String> {
        let listed = store.repositories(&Stage::default(), &Organizations::All);
        listed.map(|listed| listed.unwrap().0.name().to_string()).collect()
    }

    fn folder_of(sample: &Sample, path: &RepositoryPath) -> PathBuf {
        sample.folder.path().join(path.to_string())
    }

    #[test]
    fn creation_is_idempotent_and_seen_by_other_processes() {
        let sample = Sample::new();
        let options = CreateOptions::default().with_resource_tag("team", "video");
        let record = sample.store.create_repository(&path("a"), &options).unwrap();
        assert_eq!(sample.store.create_repository(&path("a"), &options).unwrap(), record);
        assert_eq!(sample.reopened().repository(&path("a")).unwrap(), record);
        // Additional resource tags of the repository are not a conflict.
        let fewer = CreateOptions::default();
        assert_eq!(sample.store.create_repository(&path("a"), &fewer).unwrap(), record);
    }

    #[test]
    fn other_settings_are_a_conflict() {
        let sample = Sample::new();
        let options = CreateOptions::default().with_resource_tag("team", "video");
        sample.store.create_repository(&path("a"), &options).unwrap();
        let error = |options: CreateOptions| {
            sample.store.create_repository(&path("a"), &options).unwrap_err().to_string()
        };
        let name = path("a");
        assert_eq!(
            error(CreateOptions::default().with_tag_mutability(TagMutability::Immutable)),
            format!("repository {name} already exists with mutable tags")
        );
        assert_eq!(
            error(CreateOptions::default().with_resource_tag("team", "gps")),
            format!("repository {name} already exists without the resource tag team=gps")
        );
    }

    #[test]
    fn mutability_exceptions_are_stored_and_compared() {
        let sample = Sample::new();
        let filter = |text: &str| text.parse::<TagPattern>().unwrap();
        let options = CreateOptions::default().with_mutability_exclusion(filter("v*"));
        let record = sample.store.create_repository(&path("a"), &options).unwrap();
        assert_eq!(sample.reopened().repository(&path("a")).unwrap(), record);
        for (tag, fixed) in [("v1", true), ("latest", false)] {
            assert_eq!(record.is_immutable(&tag.parse().unwrap()), fixed, "{tag}");
        }
        let error =
            sample.store.create_repository(&path("a"), &CreateOptions::default()).unwrap_err();
        assert!(
            error.to_string().ends_with("already exists with mutable tags except v*"),
            "{error}"
        );
        sample.store.create_repository(&path("b"), &CreateOptions::default()).unwrap();
        let error = sample.store.create_repository(&path("b"), &options).unwrap_err();
        assert!(
            error.to_string().ends_with("already exists with mutable tags, without exceptions"),
            "{error}"
        );
    }

    #[test]
    fn settings_that_only_ecr_supports_are_rejected() {
        let sample = Sample::new();
        let many = (0..6).fold(CreateOptions::default(), |options, number| {
            options.with_mutability_exclusion(format!("v{number}").parse().unwrap())
        });
        for (options, text) in [
            (
                CreateOptions::default().with_encryption(Encryption::Aes256),
                "does not support encryption",
            ),
            (CreateOptions::default().with_scan_on_push(true), "does not support scan on push"),
            (
                CreateOptions::default().with_lifecycle_policy("{}"),
                "does not support lifecycle policies",
            ),
            (many, "6 exceptions to the tag mutability, of at most 5"),
        ] {
            let error = sample.store.create_repository(&path("a"), &options).unwrap_err();
            assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
            assert!(error.to_string().ends_with(text), "{error}");
        }
        assert!(names(&sample.store).is_empty());
    }

    #[test]
    fn folder_is_accessible_to_its_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("new/registry");
        Store::open(root.clone()).unwrap().create().unwrap();
        assert_eq!(std::fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn unsupported_format_is_rejected() {
        let sample = Sample::new();
        std::fs::write(sample.folder.path().join("version"), "2\n").unwrap();
        let error = Store::open(sample.folder.path().to_path_buf()).unwrap_err();
        assert!(
            error.to_string().ends_with("version names an unsupported format of the folder"),
            "{error}"
        );
    }

    #[test]
    fn repository_and_nested_repository_are_independent() {
        let (sample, _) = Sample::with_repository("a/b");
        assert!(matches!(sample.store.repository(&path("a")), Err(Error::NotFound { .. })));
        sample.create("a");
        sample.store.delete_repository(&path("a"), false).unwrap();
        assert_eq!(names(&sample.store), ["a/b"]);
        sample.create("a");
        sample.store.delete_repository(&path("a/b"), false).unwrap();
        assert_eq!(names(&sample.store), ["a"]);
    }

    #[test]
    fn deletion_with_images_needs_force() {
        let (sample, path) = Sample::with_repository("a");
        sample.push_image(&path, "v1", b"layer");
        let error = sample.store.delete_repository(&path, false).unwrap_err();
        assert_eq!(error.to_string(), format!("repository {path} has images"));
        sample.store.delete_repository(&path, true).unwrap();
        let again = sample.store.delete_repository(&path, true);
        assert!(matches!(again, Err(Error::NotFound { .. })));
        let trash = std::fs::read_dir(sample.folder.path().join("_trash")).unwrap();
        assert_eq!(trash.count(), 0);
        // A new repository of the same name is empty.
        sample.create("a");
        assert!(sample.store.images(&path).unwrap().is_empty());
    }

    #[test]
    fn killed_creation_or_deletion_leaves_no_repository() {
        let (sample, path) = Sample::with_repository("a");
        let root = sample.folder.path();
        // Killed before the rename: the folder is still temporary.
        std::fs::create_dir(root.join("_tmp/x")).unwrap();
        std::fs::write(root.join("_tmp/x/repository.json"), "{").unwrap();
        // Killed after it: the folder is in the trash already.
        std::fs::rename(folder_of(&sample, &path).join("_repository"), root.join("_trash/y"))
            .unwrap();
        let store = sample.reopened();
        assert!(names(&store).is_empty());
        assert!(matches!(store.repository(&path), Err(Error::NotFound { .. })));
        sample.create("a");
        assert_eq!(names(&store), ["a"]);
    }

    #[test]
    fn links_are_not_followed() {
        let (sample, inside) = Sample::with_repository("real/a");
        let digest = sample.push_blob(&inside, b"blob");
        let (root, other) = (folder_of(&sample, &path("x")), OrganizationId::GLOBAL);
        let organization = root.parent().unwrap();
        symlink(organization.join("real"), organization.join("link")).unwrap();
        symlink(organization, organization.parent().unwrap().join(other.to_string())).unwrap();
        std::fs::create_dir(organization.join("b")).unwrap();
        symlink(organization.join("real/a/_repository"), organization.join("b/_repository"))
            .unwrap();
        assert_eq!(names(&sample.store), ["real/a"]);
        for outside in [path("link/a"), path_in(other, "real/a"), path("b")] {
            let found = sample.store.open_blob(&outside, &digest);
            assert!(matches!(found, Err(Error::NotFound { .. })), "{outside}");
            let created = sample.store.create_repository(&outside, &CreateOptions::default());
            assert!(matches!(created, Err(Error::Failed { .. })), "{outside}");
        }
        let listed = sample.store.repositories(&Stage::default(), &other.into());
        assert_eq!(listed.count(), 0);
    }

    #[test]
    fn damaged_record_error_names_file() {
        let (sample, path) = Sample::with_repository("a");
        let record = folder_of(&sample, &path).join("_repository/repository.json");
        std::fs::write(&record, "{").unwrap();
        let error = sample.store.repository(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is damaged", record.display()));
        assert!(std::error::Error::source(&error).is_some());
    }
}
