//! Manifests and their referrers.
//!
//! A manifest is published once everything that it refers to is in the repository. Its tag follows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{cannot, remove_file, rfc3339};
use super::images::{index_of, remove_tag, tagged_digest, tags_by_digest};
use super::layout::{Locked, RepositoryFolder};
use crate::backend::Image;
use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{
    Algorithm, Descriptor, Digest, ManifestContent, Platform, Reference, RepositoryPath,
};

/// The number of bytes that are read of a configuration. The ones that builders write are far smaller.
const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// The result of putting a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestPut {
    pub(crate) digest: Digest,
    /// The subject of the manifest, whether or not it exists.
    pub(crate) subject: Option<Digest>,
}

/// A stored manifest with its exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// The reason why a manifest was rejected.
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
    /// An error that is not about the manifest: no repository, an immutable tag, a full disk.
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
    /// Stores a manifest, and sets the tag if `reference` is one.
    ///
    /// A manifest that exists already keeps the time and the media type of its first push.
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
        let content =
            ManifestContent::parse(media_type, bytes).map_err(PutManifestError::Invalid)?;
        let locked = self.lock(path)?;
        let folder = &locked.folder;
        check_tag(folder, reference, &digest)?;
        let mut header = header_of(folder, media_type, &content, bytes.len() as u64)?;
        let old = ManifestHeader::read(folder, &digest)?;
        match &old {
            Some(old) => {
                header.pushed_at = old.pushed_at;
                header.media_type.clone_from(&old.media_type);
            }
            None => check_listed_type(folder, &digest, media_type, bytes)?,
        }
        if old.as_ref() != Some(&header) {
            // Other processes may have renamed blobs that they have not synced yet.
            folder.sync_blobs()?;
            if let Some(subject) = &header.subject {
                self.add_referrer(&locked, subject, &digest)?;
            }
            let file = folder.manifest(&digest);
            folder.create_parents(&file)?;
            self.publish(&file, &header.with_manifest(bytes)?)?;
        }
        if let Reference::Tag(tag) = reference {
            self.set_tag(&locked, tag, &digest)?;
        }
        self.end_claims(folder, &content);
        Ok(ManifestPut { digest, subject: header.subject })
    }

    /// Returns a manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the image.
    pub(crate) fn manifest(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let (digest, header, bytes) = find_manifest(&self.folder(path)?, reference)?;
        Ok(StoredManifest { digest, media_type: header.media_type, bytes })
    }

    /// Deletes a manifest with its tags and blobs, whether or not an index refers to it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the image.
    pub(crate) fn delete_manifest(&self, path: &RepositoryPath, digest: &Digest) -> Result<()> {
        self.remove_manifest(&self.lock(path)?, digest)
    }

    /// Removes a manifest, after its tags, so that no tag names a missing manifest. Its blobs are removed last.
    pub(super) fn remove_manifest(&self, locked: &Locked, digest: &Digest) -> Result<()> {
        let folder = &locked.folder;
        let Some(header) = ManifestHeader::read(folder, digest)? else {
            return Err(missing_image(folder, &Reference::Digest(digest.clone())));
        };
        let blobs = self.blobs_of(folder, digest);
        for tag in tags_by_digest(folder)?.remove(digest).unwrap_or_default() {
            remove_tag(locked, &tag)?;
        }
        let path = folder.manifest(digest);
        remove_file(&path).map_err(cannot("delete", &path))?;
        if let Some(subject) = &header.subject {
            remove_referrer(locked, subject, digest)?;
        }
        self.free(locked, &blobs.unwrap_or_default());
        Ok(())
    }
}

/// Reads the manifest of an image with its digest and header.
pub(super) fn find_manifest(
    folder: &RepositoryFolder,
    reference: &Reference,
) -> Result<(Digest, ManifestHeader, Vec<u8>)> {
    let digest = resolve(folder, reference)?;
    if let Some((header, bytes)) = read_manifest(folder, &digest)? {
        return Ok((digest, header, bytes));
    }
    if let Reference::Digest(_) = reference {
        return Err(missing_image(folder, reference));
    }
    // The tag has moved, and its old image was deleted, meanwhile. Both may happen again, also back to the
    // first image, so that only the lock tells.
    let _lock = folder.lock()?;
    let digest = resolve(folder, reference)?;
    let found = read_manifest(folder, &digest)?;
    let (header, bytes) = found.ok_or_else(|| missing_image(folder, reference))?;
    Ok((digest, header, bytes))
}

/// Computes the digest that a manifest is stored under.
fn verified_digest(reference: &Reference, bytes: &[u8]) -> Result<Digest, PutManifestError> {
    match reference {
        Reference::Tag(_) => Ok(Digester::digest(Algorithm::Sha256, bytes)),
        Reference::Digest(expected) => match Digester::digest(expected.algorithm(), bytes) {
            actual if actual == *expected => Ok(actual),
            actual => Err(PutManifestError::WrongDigest { expected: expected.clone(), actual }),
        },
    }
}

/// Fails if the tag is immutable and names another image.
fn check_tag(folder: &RepositoryFolder, reference: &Reference, digest: &Digest) -> Result<()> {
    let Reference::Tag(tag) = reference else { return Ok(()) };
    let record = folder.read_record()?.ok_or_else(|| folder.missing())?;
    let taken = tagged_digest(folder, tag)?.filter(|target| target != digest);
    match taken {
        Some(target) if record.is_immutable(tag) => {
            let problem = format!("is immutable and holds {target}");
            Err(Error::conflict(ResourceKind::Image, image_name(folder, reference), problem))
        }
        _ => Ok(()),
    }
}

/// The media type that a manifest names itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnType {
    media_type: Option<String>,
}

/// Fails if an index lists a new manifest as one of another media type. A manifest that names its own media type
/// cannot have another one, so that the indexes are read for the other manifests only. One index is enough, because
/// all of them agree.
fn check_listed_type(
    folder: &RepositoryFolder,
    digest: &Digest,
    media_type: &str,
    bytes: &[u8],
) -> Result<(), PutManifestError> {
    let own: OwnType = serde_json::from_slice(bytes)
        .map_err(|error| PutManifestError::Invalid(error.to_string()))?;
    if own.media_type.is_some_and(|own| !own.is_empty()) {
        return Ok(());
    }
    let Some(index) = index_of(folder, digest)? else { return Ok(()) };
    let Some((header, bytes)) = read_manifest(folder, &index)? else { return Ok(()) };
    let content = ManifestContent::parse(&header.media_type, &bytes)
        .map_err(|problem| damaged(&folder.manifest(&index), problem))?;
    let mut listed = content.manifests().filter(|child| child.digest == *digest);
    match listed.find(|child| child.media_type != media_type) {
        Some(child) => {
            let problem = format!("the index {index} lists it as {:?}", child.media_type);
            Err(PutManifestError::Invalid(problem))
        }
        None => Ok(()),
    }
}

/// Builds the header of a manifest after checking that everything it refers to is in the repository.
fn header_of(
    folder: &RepositoryFolder,
    media_type: &str,
    content: &ManifestContent,
    length: u64,
) -> Result<ManifestHeader, PutManifestError> {
    let mut image_size = length;
    let mut counted = BTreeSet::new();
    for blob in content.blobs().filter(|blob| counted.insert(&blob.digest)) {
        match folder.metadata(&folder.blob(&blob.digest))? {
            Some(metadata) => {
                check_size(blob, metadata.len())?;
                image_size += metadata.len();
            }
            None if blob.may_be_missing() => {}
            None => return Err(PutManifestError::Missing(blob.digest.clone())),
        }
    }
    let mut children = BTreeSet::new();
    let mut platforms = BTreeSet::new();
    for child in content.manifests() {
        let missing = || PutManifestError::Missing(child.digest.clone());
        let header = ManifestHeader::read(folder, &child.digest)?.ok_or_else(missing)?;
        check_size(child, header.length)?;
        if child.media_type != header.media_type {
            let Descriptor { digest, media_type, .. } = child;
            let problem = format!("{digest} is {:?}, not {media_type:?}", header.media_type);
            return Err(PutManifestError::Invalid(problem));
        }
        image_size += if counted.insert(&child.digest) { header.image_size } else { 0 };
        children.insert(child.digest.clone());
        match child.platform.clone().filter(Platform::is_known) {
            Some(platform) => platforms.extend([platform]),
            None => platforms.extend(header.platforms),
        }
    }
    platforms.extend(read_platform(folder, content)?);
    let subject = content.subject().map(|subject| subject.digest.clone());
    let referrer = subject.is_some();
    Ok(ManifestHeader {
        media_type: media_type.to_owned(),
        pushed_at: SystemTime::now(),
        length,
        image_size,
        platforms: platforms.into_iter().collect(),
        children: children.into_iter().collect(),
        artifact_type: content.artifact_type().map(str::to_owned),
        annotations: if referrer { content.annotations().clone() } else { Default::default() },
        subject,
    })
}

/// Fails if content does not have the size in its descriptor, which clients hold it against.
fn check_size(descriptor: &Descriptor, found: u64) -> Result<(), PutManifestError> {
    let Descriptor { digest, size, .. } = descriptor;
    if found == *size {
        return Ok(());
    }
    Err(PutManifestError::Invalid(format!("{digest} has {found} bytes, not {size}")))
}

/// Reads the platform in an image's configuration.
fn read_platform(folder: &RepositoryFolder, content: &ManifestContent) -> Result<Option<Platform>> {
    let Some(config) = content.image_config() else { return Ok(None) };
    let path = folder.blob(&config.digest);
    let Some((file, _)) = folder.open(&path)? else { return Ok(None) };
    let mut config = Vec::new();
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut config).map_err(cannot("read", &path))?;
    Ok(Platform::of_config(&config))
}

/// Returns the digest of an image. The image of a tag exists; the one of a digest may not.
pub(super) fn resolve(folder: &RepositoryFolder, reference: &Reference) -> Result<Digest> {
    match reference {
        Reference::Digest(digest) => Ok(digest.clone()),
        Reference::Tag(tag) => {
            tagged_digest(folder, tag)?.ok_or_else(|| missing_image(folder, reference))
        }
    }
}

/// Returns the name of an image in errors.
pub(super) fn image_name(folder: &RepositoryFolder, reference: &Reference) -> String {
    format!("{}{}{reference}", folder.path(), reference.separator())
}

/// Returns the error of a missing image, or of its repository if that was deleted.
pub(super) fn missing_image(folder: &RepositoryFolder, reference: &Reference) -> Error {
    match folder.confirm() {
        Ok(()) => Error::not_found(ResourceKind::Image, image_name(folder, reference)),
        Err(gone) => gone,
    }
}

/// The facts about a manifest that listings need: the first line of its file, as JSON.
///
/// They are computed when the manifest is put, so that a listing reads neither manifests nor blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestHeader {
    pub(super) media_type: String,
    #[serde(with = "rfc3339")]
    pub(super) pushed_at: SystemTime,
    /// The size of the manifest in bytes.
    pub(super) length: u64,
    /// The size of the whole image in bytes.
    pub(super) image_size: u64,
    pub(super) platforms: Vec<Platform>,
    /// The manifests that an index refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) children: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
    /// The artifact type in listings. A manifest without a subject that an older version stored has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

impl ManifestHeader {
    /// Describes the image of this header, without its tags and children.
    pub(super) fn into_image(self, digest: Digest) -> Image {
        Image {
            platforms: self.platforms,
            subject: self.subject,
            artifact_type: self.artifact_type,
            ..Image::new(digest, self.media_type, self.image_size, self.pushed_at)
        }
    }

    /// Reads the header of a manifest; `None` if there is none.
    pub(super) fn read(folder: &RepositoryFolder, digest: &Digest) -> Result<Option<Self>> {
        Ok(open_manifest(folder, digest)?.map(|(header, _)| header))
    }

    /// Returns the content of the file: the header and the manifest.
    pub(super) fn with_manifest(&self, manifest: &[u8]) -> Result<Vec<u8>> {
        let mut file = serde_json::to_vec(self)
            .map_err(|error| Error::failed("cannot describe a manifest").with_source(error))?;
        file.push(b'\n');
        file.extend_from_slice(manifest);
        Ok(file)
    }
}

/// Reads a manifest with its header; `None` if there is none.
pub(super) fn read_manifest(
    folder: &RepositoryFolder,
    digest: &Digest,
) -> Result<Option<(ManifestHeader, Vec<u8>)>> {
    let Some((header, mut rest)) = open_manifest(folder, digest)? else { return Ok(None) };
    let path = folder.manifest(digest);
    let mut bytes = Vec::new();
    rest.read_to_end(&mut bytes).map_err(cannot("read", &path))?;
    if bytes.len() as u64 != header.length {
        return Err(damaged(&path, format!("{} bytes, not {}", bytes.len(), header.length)));
    }
    Ok(Some((header, bytes)))
}

/// Reads the header, and returns a reader of the manifest.
fn open_manifest(
    folder: &RepositoryFolder,
    digest: &Digest,
) -> Result<Option<(ManifestHeader, impl Read + use<>)>> {
    let path = folder.manifest(digest);
    let Some((file, _)) = folder.open(&path)? else { return Ok(None) };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(cannot("read", &path))?;
    let header = serde_json::from_slice(&line).map_err(|error| damaged(&path, error))?;
    Ok(Some((header, reader)))
}

pub(super) fn damaged(path: &Path, cause: impl Into<crate::error::BoxError>) -> Error {
    Error::failed(format!("{} is damaged", path.display())).with_source(cause)
}

impl Store {
    /// Lists the manifests that have this subject, sorted by digest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no repository. A subject need not exist to have referrers.
    pub(crate) fn referrers(
        &self,
        path: &RepositoryPath,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let folder = self.folder(path)?;
        let mut descriptors = Vec::new();
        for digest in referrer_digests(&folder, subject)? {
            let header = ManifestHeader::read(&folder, &digest)?;
            // An interrupted push may have left an entry for a manifest with another subject.
            if let Some(header) = header.filter(|header| header.subject.as_ref() == Some(subject)) {
                descriptors.push(referrer_descriptor(digest, header));
            }
        }
        folder.confirm()?;
        Ok(descriptors)
    }

    /// Adds a manifest to the referrers of its subject.
    ///
    /// The entry is written before its manifest and removed after it. An entry without a manifest is
    /// ignored, so that no referrer is ever lost.
    fn add_referrer(&self, locked: &Locked, subject: &Digest, digest: &Digest) -> Result<()> {
        let entry = locked.folder.referrers(subject).join(digest.to_string());
        locked.folder.create_parents(&entry)?;
        self.publish(&entry, b"")
    }
}

/// Removes a manifest from the referrers of its subject.
fn remove_referrer(locked: &Locked, subject: &Digest, digest: &Digest) -> Result<()> {
    let entry = locked.folder.referrers(subject).join(digest.to_string());
    if locked.folder.is_reachable(&entry)? {
        remove_file(&entry).map_err(cannot("delete", &entry))?;
    }
    Ok(())
}

fn referrer_digests(folder: &RepositoryFolder, subject: &Digest) -> Result<Vec<Digest>> {
    let names = folder.file_names(&folder.referrers(subject))?;
    let mut digests: Vec<Digest> =
        names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    digests.sort_unstable();
    Ok(digests)
}

fn referrer_descriptor(digest: Digest, header: ManifestHeader) -> Descriptor {
    let mut descriptor = Descriptor::new(header.media_type, digest, header.length);
    descriptor.artifact_type = header.artifact_type;
    descriptor.annotations = header.annotations;
    descriptor
}

#[cfg(test)]
mod tests;
