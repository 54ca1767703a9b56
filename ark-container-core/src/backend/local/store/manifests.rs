//! Manifests: published once everything that they refer to is there, and then their tag.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::SystemTime;

use super::durable::{cannot, remove_file};
use super::layout::{Locked, RepositoryFolder};
use super::manifest_content::{ManifestContent, configured_platform};
use super::manifest_file::{self, ManifestHeader};
use super::{Store, referrers, tags};
use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Algorithm, Digest, Platform, Reference, RepositoryPath};

/// What is read of a configuration to find the platform; the ones that builders write are far smaller.
const MAX_CONFIG_LEN: u64 = 4 * 1024 * 1024;

/// What a manifest became when it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestPut {
    pub(crate) digest: Digest,
    /// The manifest that it refers to, whether or not that exists.
    pub(crate) subject: Option<Digest>,
}

/// A manifest as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// Why a manifest was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutManifestError {
    /// It is not a manifest of the media type that it came with.
    #[error("the manifest is invalid: {0}")]
    Invalid(String),
    /// Its digest is not the one it was put to.
    #[error("the manifest's digest is {actual}, not {expected}")]
    WrongDigest { expected: Digest, actual: Digest },
    /// A blob or manifest that it refers to is not in the repository.
    #[error("the manifest refers to {0}, which is not in the repository")]
    Missing(Digest),
    /// What may go wrong elsewhere too: no repository, an immutable tag, a full disk.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<PutManifestError> for Error {
    fn from(error: PutManifestError) -> Self {
        match error {
            PutManifestError::Other(error) => error,
            error => Self::invalid(error.to_string()),
        }
    }
}

impl Store {
    /// Stores a manifest, and makes its tag stand for it where `reference` is one.
    ///
    /// One that is there already keeps the time at which it was first put.
    ///
    /// # Errors
    /// The variants of [`PutManifestError`]; in the last, [`Error::NotFound`] if there is no
    /// repository, and [`Error::Conflict`] if the tag is immutable and stands for another image.
    pub(crate) fn put_manifest(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<ManifestPut, PutManifestError> {
        let digest = verified_digest(reference, bytes)?;
        let content = ManifestContent::parse(media_type, bytes)?;
        let locked = self.lock(path)?;
        let folder = &locked.folder;
        check_tag(folder, reference, &digest)?;
        let mut header = describe(folder, media_type, &content, bytes.len() as u64)?;
        let old = ManifestHeader::read(folder, &digest)?;
        header.pushed_at = old.as_ref().map_or(header.pushed_at, |old| old.pushed_at);
        if old.as_ref() != Some(&header) {
            // Blobs may have been renamed into place by others who have yet to make that last.
            folder.sync_blobs()?;
            if let Some(subject) = &header.subject {
                self.add_referrer(&locked, subject, &digest)?;
            }
            let file = folder.manifest(&digest);
            folder.make_way(&file)?;
            self.publish(&file, &header.with_manifest(bytes)?)?;
        }
        if let Reference::Tag(tag) = reference {
            self.set_tag(&locked, tag, &digest)?;
        }
        Ok(ManifestPut { digest, subject: header.subject })
    }

    /// A manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the image.
    pub(crate) fn manifest(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let folder = self.folder(path)?;
        let mut digest = resolve(&folder, reference)?;
        loop {
            if let Some((header, bytes)) = manifest_file::read(&folder, &digest)? {
                return Ok(StoredManifest { digest, media_type: header.media_type, bytes });
            }
            // The tag may have been moved, and then its old image deleted, since it was looked at.
            match resolve(&folder, reference)? {
                moved if moved != digest => digest = moved,
                _ => return Err(missing_image(&folder, reference)),
            }
        }
    }

    /// Deletes a manifest with its tags, whether or not an index refers to it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the image.
    pub(crate) fn delete_manifest(&self, path: &RepositoryPath, digest: &Digest) -> Result<()> {
        remove(&self.lock(path)?, digest)
    }
}

/// The digest that a manifest is stored under.
fn verified_digest(reference: &Reference, bytes: &[u8]) -> Result<Digest, PutManifestError> {
    match reference {
        Reference::Tag(_) => Ok(Digester::digest(Algorithm::Sha256, bytes)),
        Reference::Digest(expected) => match Digester::digest(expected.algorithm(), bytes) {
            actual if actual == *expected => Ok(actual),
            actual => Err(PutManifestError::WrongDigest { expected: expected.clone(), actual }),
        },
    }
}

/// Makes sure that a tag may be set.
fn check_tag(folder: &RepositoryFolder, reference: &Reference, digest: &Digest) -> Result<()> {
    let Reference::Tag(tag) = reference else { return Ok(()) };
    let record = folder.read_record()?.ok_or_else(|| folder.missing())?;
    let taken = tags::target(folder, tag)?.filter(|target| target != digest);
    match taken {
        Some(target) if record.fixes(tag) => {
            let problem = format!("is immutable and holds {target}");
            Err(Error::conflict(ResourceKind::Image, image_name(folder, reference), problem))
        }
        _ => Ok(()),
    }
}

/// What is to be known of a manifest, once everything that it needs was found in the repository.
fn describe(
    folder: &RepositoryFolder,
    media_type: &str,
    content: &ManifestContent,
    length: u64,
) -> Result<ManifestHeader, PutManifestError> {
    let mut image_size = length;
    let mut counted = BTreeSet::new();
    for blob in content.blobs().filter(|blob| counted.insert(blob.digest())) {
        match folder.metadata(&folder.blob(blob.digest()))? {
            Some(metadata) => image_size += metadata.len(),
            None if blob.is_elsewhere() => {}
            None => return Err(PutManifestError::Missing(blob.digest().clone())),
        }
    }
    let mut children = BTreeSet::new();
    let mut platforms = BTreeSet::new();
    for child in content.children() {
        let missing = || PutManifestError::Missing(child.digest().clone());
        let new = counted.insert(child.digest());
        if child.is_manifest() {
            let header = ManifestHeader::read(folder, child.digest())?.ok_or_else(missing)?;
            image_size += if new { header.image_size } else { 0 };
            children.insert(child.digest().clone());
            match child.platform() {
                Some(platform) => platforms.extend([platform]),
                None => platforms.extend(header.platforms),
            }
        } else {
            let blob = folder.metadata(&folder.blob(child.digest()))?.ok_or_else(missing)?;
            image_size += if new { blob.len() } else { 0 };
        }
    }
    platforms.extend(read_platform(folder, content)?);
    let subject = content.subject().cloned();
    let referrer = subject.is_some();
    Ok(ManifestHeader {
        media_type: media_type.to_owned(),
        pushed_at: SystemTime::now(),
        length,
        image_size,
        platforms: platforms.into_iter().collect(),
        children: children.into_iter().collect(),
        artifact_type: content.artifact_type().filter(|_| referrer).map(str::to_owned),
        annotations: if referrer { content.annotations() } else { Default::default() },
        subject,
    })
}

/// What an image's configuration says that it runs on.
fn read_platform(folder: &RepositoryFolder, content: &ManifestContent) -> Result<Option<Platform>> {
    let Some(digest) = content.image_config() else { return Ok(None) };
    let path = folder.blob(digest);
    let Some((file, _)) = folder.open(&path)? else { return Ok(None) };
    let mut config = Vec::new();
    file.take(MAX_CONFIG_LEN).read_to_end(&mut config).map_err(cannot("read", &path))?;
    Ok(configured_platform(&config))
}

/// The digest of an image, which exists in any case if `reference` is a tag.
pub(super) fn resolve(folder: &RepositoryFolder, reference: &Reference) -> Result<Digest> {
    match reference {
        Reference::Digest(digest) => Ok(digest.clone()),
        Reference::Tag(tag) => {
            tags::target(folder, tag)?.ok_or_else(|| missing_image(folder, reference))
        }
    }
}

/// The digests of all manifests.
pub(super) fn digests(folder: &RepositoryFolder) -> Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let names = folder.file_names(&folder.manifests().join(algorithm.as_str()))?;
        let named = names
            .iter()
            .filter_map(|name| format!("{}:{}", algorithm.as_str(), name.to_str()?).parse().ok());
        digests.extend(named);
    }
    Ok(digests)
}

/// Removes a manifest: its tags first, so that no tag ever stands for nothing.
pub(super) fn remove(locked: &Locked, digest: &Digest) -> Result<()> {
    let folder = &locked.folder;
    let Some(header) = ManifestHeader::read(folder, digest)? else {
        return Err(missing_image(folder, &Reference::Digest(digest.clone())));
    };
    for tag in tags::by_manifest(folder)?.remove(digest).unwrap_or_default() {
        tags::remove(locked, &tag)?;
    }
    let path = folder.manifest(digest);
    remove_file(&path).map_err(cannot("delete", &path))?;
    match &header.subject {
        Some(subject) => referrers::remove(locked, subject, digest),
        None => Ok(()),
    }
}

/// What an image is called in an error.
pub(super) fn image_name(folder: &RepositoryFolder, reference: &Reference) -> String {
    format!("{}{}{reference}", folder.path(), reference.separator())
}

/// The error of an image that is not there; that of its repository where that is gone.
pub(super) fn missing_image(folder: &RepositoryFolder, reference: &Reference) -> Error {
    match folder.confirm() {
        Ok(()) => Error::not_found(ResourceKind::Image, image_name(folder, reference)),
        Err(gone) => gone,
    }
}

#[cfg(test)]
mod tests;
