//! Paths in a registry's folder.
//!
//! [`RepositoryFolder`] names the files of one repository, and [`Walk`] finds the repositories.

use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::blobs::UploadId;
use super::files::{self, cannot, file_metadata, is_folder, none_if_missing, require_folder};
use super::{RepositoryRecord, Store};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{
    Algorithm, Digest, OrganizationId, Organizations, RepositoryName, RepositoryPath, Stage, Tag,
};

/// The folder with the files of a repository. No component of a repository name starts with `_`, so that `a` and
/// `a/b` can both be repositories.
pub(super) const REPOSITORY: &str = "_repository";
const LOCK: &str = "_lock";
const RESERVATIONS_LOCK: &str = "_reservations";
/// The folders of a repository whose files are named by digests.
pub(super) const BLOBS: &str = "blobs";
pub(super) const RESERVATIONS: &str = "reservations";
pub(super) const MANIFESTS: &str = "manifests";
pub(super) const RECORD: &str = "repository.json";

/// Whether file names that differ only in case name the same file, as by default on macOS. Among the names in a
/// registry's folder, only tags can have upper case.
const CASE_IS_IGNORED: bool = cfg!(target_os = "macos");
/// The mark before an upper-case letter of a tag if case is ignored. No tag has this character.
const UPPERCASE_MARK: char = '+';

/// The folder of one repository. Another process may delete it unless it is [locked](Locked).
#[derive(Debug, Clone)]
pub(super) struct RepositoryFolder {
    path: RepositoryPath,
    folder: PathBuf,
}

/// A locked repository: no other process or thread changes its manifests and tags, or deletes it.
/// Blobs and uploads may still be added.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) folder: RepositoryFolder,
    _lock: File,
}

impl Store {
    /// Returns the folder of a repository, whether or not it exists.
    pub(super) fn repository_folder(&self, path: &RepositoryPath) -> RepositoryFolder {
        let folder = self.root().join(path.to_string()).join(REPOSITORY);
        RepositoryFolder { path: path.clone(), folder }
    }

    /// Returns the folder of an existing repository. Links on the way are not followed.
    pub(super) fn folder(&self, path: &RepositoryPath) -> Result<RepositoryFolder> {
        let folder = self.repository_folder(path);
        let mut ancestor = self.root().to_path_buf();
        for part in path.to_string().split('/') {
            ancestor.push(part);
            if !is_folder(&ancestor).map_err(cannot("read", &ancestor))? {
                return Err(folder.missing());
            }
        }
        folder.confirm()?;
        Ok(folder)
    }

    /// Waits for the lock of an existing repository.
    pub(super) fn lock(&self, path: &RepositoryPath) -> Result<Locked> {
        let folder = self.folder(path)?;
        self.create()?;
        let lock = folder.lock()?;
        // The repository may have been deleted while another process held the lock.
        folder.confirm()?;
        Ok(Locked { folder, _lock: lock })
    }

    /// Waits for the lock of a repository, whether or not it exists, and creates its parent folders.
    pub(super) fn lock_or_create(&self, path: &RepositoryPath) -> Result<Locked> {
        self.create()?;
        let folder = self.repository_folder(path);
        let mut ancestor = self.root().to_path_buf();
        for part in path.to_string().split('/') {
            ancestor.push(part);
            require_folder(&ancestor).map_err(cannot("create", &ancestor))?;
        }
        let lock = folder.lock()?;
        Ok(Locked { folder, _lock: lock })
    }
}

impl RepositoryFolder {
    pub(super) fn path(&self) -> &RepositoryPath {
        &self.path
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.folder
    }

    /// Returns the error of a missing repository.
    pub(super) fn missing(&self) -> Error {
        Error::not_found(ResourceKind::Repository, &self.path)
    }

    /// Fails if the repository no longer exists.
    ///
    /// Callers check this before they report missing content, so that a deleted repository does not look like an
    /// empty one.
    pub(super) fn confirm(&self) -> Result<()> {
        let record = self.record();
        let exists = is_folder(&self.folder).map_err(cannot("read", &self.folder))?
            && file_metadata(&record).map_err(cannot("read", &record))?.is_some();
        if exists { Ok(()) } else { Err(self.missing()) }
    }

    /// Waits for the lock of the repository, whether or not it still exists.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.folder.with_file_name(LOCK);
        let lock = files::open_lock(&path)?;
        lock.lock().map_err(cannot("lock", &path))?;
        Ok(lock)
    }

    /// Returns the path of the settings. A folder without this file is not a repository.
    pub(super) fn record(&self) -> PathBuf {
        self.folder.join(RECORD)
    }

    /// Reads the settings of the repository; `None` if it does not exist.
    pub(super) fn read_record(&self) -> Result<Option<RepositoryRecord>> {
        if !is_folder(&self.folder).map_err(cannot("read", &self.folder))? {
            return Ok(None);
        }
        let path = self.record();
        let Some(bytes) = files::read_file(&path).map_err(cannot("read", &path))? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).map_err(|error| {
            Error::failed(format!("{} is damaged", path.display())).with_source(error)
        })?;
        Ok(Some(record))
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.by_digest(BLOBS, digest)
    }

    /// Returns the path of the reservations of a blob.
    pub(super) fn reservations(&self, digest: &Digest) -> PathBuf {
        self.by_digest(RESERVATIONS, digest)
    }

    /// Returns the path of the reservations lock. A deletion of the repository keeps this file and the repository's
    /// lock.
    pub(super) fn reservations_lock(&self) -> PathBuf {
        self.folder.with_file_name(RESERVATIONS_LOCK)
    }

    pub(super) fn manifest(&self, digest: &Digest) -> PathBuf {
        self.by_digest(MANIFESTS, digest)
    }

    pub(super) fn tags(&self) -> PathBuf {
        self.folder.join("tags")
    }

    pub(super) fn tag(&self, tag: &Tag) -> PathBuf {
        match CASE_IS_IGNORED {
            true => self.tags().join(mark_uppercase(tag.as_str())),
            false => self.tags().join(tag.as_str()),
        }
    }

    /// Returns the folder with an entry for each manifest that has this subject.
    pub(super) fn referrers(&self, subject: &Digest) -> PathBuf {
        self.by_digest("referrers", subject)
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.to_string())
    }

    /// Returns the folder of blobs that are being copied from files.
    pub(super) fn imports(&self) -> PathBuf {
        self.folder.join("imports")
    }

    /// Syncs the folders of blobs, so that renames of blobs are durable.
    pub(super) fn sync_blobs(&self) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.folder.join(BLOBS).join(algorithm.as_str());
            none_if_missing(File::open(&folder).and_then(|folder| folder.sync_all()))
                .map_err(cannot("write", &folder))?;
        }
        Ok(())
    }

    /// Lists the digests that name the files in a folder of the repository.
    pub(super) fn digests(&self, kind: &str) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let names = self.file_names(&self.folder.join(kind).join(algorithm.as_str()))?;
            let named = names.iter().filter_map(|name| {
                format!("{}:{}", algorithm.as_str(), name.to_str()?).parse().ok()
            });
            digests.extend(named);
        }
        Ok(digests)
    }

    fn by_digest(&self, kind: &str, digest: &Digest) -> PathBuf {
        let mut path = self.folder.join(kind);
        path.push(digest.algorithm().as_str());
        path.push(digest.hex());
        path
    }

    /// Lists the folders between the repository's folder and `path`, the outermost first.
    fn parent_folders(&self, path: &Path) -> Vec<PathBuf> {
        let inside = path.ancestors().skip(1).take_while(|ancestor| *ancestor != self.folder);
        let mut folders: Vec<_> = inside.map(Path::to_path_buf).collect();
        folders.reverse();
        folders
    }

    /// Returns whether all folders on the way to `path` exist and are not links.
    pub(super) fn is_reachable(&self, path: &Path) -> Result<bool> {
        for folder in self.parent_folders(path) {
            if !is_folder(&folder).map_err(cannot("read", &folder))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates the missing folders on the way to `path`.
    ///
    /// The repository's own folder is not created, so that a deleted repository stays deleted.
    pub(super) fn create_parents(&self, path: &Path) -> Result<()> {
        for folder in self.parent_folders(path) {
            require_folder(&folder).map_err(self.cannot("create", &folder))?;
        }
        Ok(())
    }

    /// Returns the error of a change inside the folder, which existed when the change began.
    ///
    /// A missing file means that the repository was deleted meanwhile, even if a new repository has the same name.
    pub(super) fn cannot(
        &self,
        verb: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Error {
        let failed = cannot(verb, path);
        move |error| match error.kind() {
            ErrorKind::NotFound => self.missing(),
            _ => failed(error),
        }
    }

    /// Opens a file for reading and reads its metadata.
    pub(super) fn open(&self, path: &Path) -> Result<Option<(File, fs::Metadata)>> {
        if !self.is_reachable(path)? {
            return Ok(None);
        }
        files::open_file(path, OpenOptions::new().read(true)).map_err(cannot("read", path))
    }

    /// Returns the metadata of a file.
    pub(super) fn metadata(&self, path: &Path) -> Result<Option<fs::Metadata>> {
        if !self.is_reachable(path)? {
            return Ok(None);
        }
        file_metadata(path).map_err(cannot("read", path))
    }

    /// Lists the regular files in a folder; a missing folder has none.
    pub(super) fn file_names(&self, folder: &Path) -> Result<Vec<OsString>> {
        self.files(folder)?.collect()
    }

    /// Iterates over the regular files in a folder; a missing folder has none.
    pub(super) fn files(&self, folder: &Path) -> Result<impl Iterator<Item = Result<OsString>>> {
        let names = match self.is_reachable(&folder.join("_"))? {
            true => Some(files::entry_names(folder, FileType::is_file)?),
            false => None,
        };
        Ok(names.into_iter().flatten())
    }

    /// Returns the first `limit` parsed names of the regular files in a folder, in order. Names for which `parse`
    /// returns `None` are skipped.
    pub(super) fn first_files<T: Ord>(
        &self,
        folder: &Path,
        limit: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut first = BinaryHeap::new();
        for name in self.files(folder)? {
            first.extend(name?.to_str().and_then(&parse));
            if first.len() > limit {
                first.pop();
            }
        }
        Ok(first.into_sorted_vec())
    }
}

/// Returns the tag whose file has this name; `None` for any other file.
pub(super) fn tag_of_file(name: &str) -> Option<Tag> {
    if !CASE_IS_IGNORED {
        return name.parse().ok();
    }
    unmark_uppercase(name)?.parse().ok()
}

/// Replaces each upper-case letter by [`UPPERCASE_MARK`] and its lower case.
fn mark_uppercase(tag: &str) -> String {
    let mut name = String::with_capacity(tag.len());
    for letter in tag.chars() {
        if letter.is_ascii_uppercase() {
            name.push(UPPERCASE_MARK);
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Reverts [`mark_uppercase`]; `None` if it does not return this name.
fn unmark_uppercase(name: &str) -> Option<String> {
    let mut parts = name.split(UPPERCASE_MARK);
    let mut tag = parts.next()?.to_owned();
    for part in parts {
        let mut letters = part.chars();
        tag.push(letters.next()?.to_ascii_uppercase());
        tag.push_str(letters.as_str());
    }
    (mark_uppercase(&tag) == name).then_some(tag)
}

/// Iterates over the paths of possible repositories, ordered by organization, then by the bytes of names.
///
/// Each folder `a` has two keys: `a` for the repository, and `a/` for the folders inside. Sorted by their bytes, `a`
/// comes before `a-b`, and `a-b` before `a/b`, the same as whole names. Therefore, the walk holds only one sorted
/// listing per level of the tree.
#[derive(Debug)]
pub(super) struct Walk {
    stage: Stage,
    folder: PathBuf,
    organizations: VecDeque<OrganizationId>,
    /// The current organization, with the remaining keys of each level in reverse order.
    current: Option<(OrganizationId, Vec<Vec<String>>)>,
}

impl Walk {
    /// Starts a walk through the organizations that have a folder in the stage.
    pub(super) fn new(root: &Path, stage: &Stage, organizations: &Organizations) -> Result<Self> {
        let folder = root.join(stage.as_str());
        let present = if is_folder(&folder).map_err(cannot("read", &folder))? {
            present_organizations(&folder, organizations)?
        } else {
            VecDeque::new()
        };
        Ok(Self { stage: stage.clone(), folder, organizations: present, current: None })
    }

    /// Returns the organizations of a walk that has not begun.
    pub(super) fn into_organizations(self) -> BTreeSet<OrganizationId> {
        self.organizations.into_iter().collect()
    }

    /// Returns the keys of the folders below `prefix` in reverse order.
    fn level(&self, organization: OrganizationId, prefix: &str) -> Result<Vec<String>> {
        let folder = self.folder.join(organization.to_string()).join(prefix);
        let mut keys = Vec::new();
        for child in folder_names(&folder)? {
            let name = format!("{prefix}{child}");
            if name.parse::<RepositoryName>().is_ok() {
                keys.push(format!("{name}/"));
                keys.push(name);
            }
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        Ok(keys)
    }

    fn step(&mut self) -> Result<Option<RepositoryPath>> {
        loop {
            let Some((organization, levels)) = &mut self.current else {
                let Some(organization) = self.organizations.pop_front() else { return Ok(None) };
                let level = self.level(organization, "")?;
                self.current = Some((organization, vec![level]));
                continue;
            };
            let organization = *organization;
            match levels.last_mut().map(Vec::pop) {
                None => self.current = None,
                Some(None) => {
                    levels.pop();
                }
                Some(Some(key)) if key.ends_with('/') => {
                    let level = self.level(organization, &key)?;
                    if let Some((_, levels)) = &mut self.current {
                        levels.push(level);
                    }
                }
                Some(Some(key)) => {
                    // The whole path may be too long although the name is valid.
                    let path = key.parse().and_then(|name| {
                        RepositoryPath::new(self.stage.clone(), organization, name)
                    });
                    if let Ok(path) = path {
                        return Ok(Some(path));
                    }
                }
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<RepositoryPath>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn present_organizations(
    stage: &Path,
    organizations: &Organizations,
) -> Result<VecDeque<OrganizationId>> {
    match organizations {
        Organizations::All => {
            let names = folder_names(stage)?;
            let parsed = names.iter().filter_map(|name| {
                name.parse::<OrganizationId>().ok().filter(|id| id.to_string() == *name)
            });
            let mut present: Vec<_> = parsed.collect();
            present.sort_unstable();
            Ok(present.into())
        }
        Organizations::Only(some) => {
            let mut present = VecDeque::new();
            for organization in some {
                let folder = stage.join(organization.to_string());
                if is_folder(&folder).map_err(cannot("read", &folder))? {
                    present.push_back(*organization);
                }
            }
            Ok(present)
        }
    }
}

/// Lists the folders in a folder, without links; a missing folder has none.
pub(super) fn folder_names(folder: &Path) -> Result<Vec<String>> {
    let names = files::entry_names(folder, FileType::is_dir)?;
    names.filter_map(|name| name.map(|name| name.into_string().ok()).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::tests::{Sample, path, path_in};
    use super::*;
    use crate::backend::CreateOptions;

    #[test]
    fn listing_has_requested_organizations_in_order() {
        let sample = Sample::new();
        let ids = [3u128 << 120, 1, 2].map(OrganizationId::from_u128);
        for id in ids {
            for name in ["b", "a"] {
                let options = CreateOptions::default();
                sample.store.create_repository(&path_in(id, name), &options).unwrap();
            }
        }
        let listed = |organizations: &Organizations| -> Vec<RepositoryPath> {
            let listed = sample.store.repositories(&Stage::default(), organizations);
            listed.map(|listed| listed.unwrap().0).collect()
        };
        let both = |id| [path_in(id, "a"), path_in(id, "b")];
        assert_eq!(
            listed(&Organizations::All),
            [both(ids[1]), both(ids[2]), both(ids[0])].concat()
        );
        let some = [ids[0], ids[2], OrganizationId::TBD].into_iter().collect();
        assert_eq!(listed(&some), [both(ids[2]), both(ids[0])].concat());
        assert!(listed(&Organizations::none()).is_empty());
    }

    #[test]
    fn tags_that_differ_in_case_have_distinct_file_names() {
        for (tag, name) in [("v1", "v1"), ("V1", "+v1"), ("RC.Beta_2-x", "+r+c.+beta_2-x")] {
            assert_eq!(mark_uppercase(tag), name);
            assert_eq!(unmark_uppercase(name).as_deref(), Some(tag));
        }
        for name in ["V1", "+V", "+1", "v+", "++v"] {
            assert_eq!(unmark_uppercase(name), None, "{name}");
        }
    }

    #[test]
    fn other_folders_and_files_are_ignored() {
        let (sample, _) = Sample::with_repository("a");
        let stage = sample.folder.path().join("prod");
        let organization = stage.join(OrganizationId::TBD.to_string());
        let upper = stage.join(OrganizationId::GLOBAL.to_string().replace('7', "A"));
        for folder in [stage.join("no-guid"), upper, organization.join("Upper/_repository")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(organization.join("file"), "").unwrap();
        std::fs::create_dir_all(organization.join("empty/folder")).unwrap();
        // Deeper than the longest path.
        std::fs::create_dir_all(organization.join("d/".repeat(150))).unwrap();
        let listed = sample.store.repositories(&Stage::default(), &Organizations::All);
        let listed: Vec<_> = listed.map(|listed| listed.unwrap().0).collect();
        assert_eq!(listed, [path("a")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn names_are_sorted_by_bytes(
            names in proptest::collection::btree_set("[ab](-b|\\.b|_b|0)?(/[ab](-b)?){0,2}", 0..12),
        ) {
            let sample = Sample::new();
            for name in &names {
                sample.create(name);
            }
            let listed = sample.store.repositories(&Stage::default(), &Organizations::All);
            let listed: Vec<String> = listed.map(|listed| listed.unwrap().0.name().to_string()).collect();
            let sorted: BTreeSet<String> = names;
            prop_assert_eq!(listed, Vec::from_iter(sorted));
        }
    }
}
