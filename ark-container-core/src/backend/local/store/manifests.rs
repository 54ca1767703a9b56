//! Manifests and their referrers.
//!
//! A manifest is published once all blobs and manifests that it refers to are in the repository. Its tag is set last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Store;
use super::files::{cannot, remove_file, rfc3339};
use super::images::{index_of, remove_tag, tagged_digest, tags_of};
use super::layout::{Locked, RepositoryFolder};
use crate::backend::Image;
use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{
    Algorithm, Descriptor, Digest, ManifestContent, Platform, Reference, RepositoryPath,
};

/// The maximum number of bytes of a configuration that are read. Builders write far smaller configurations.
const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// The maximum number of annotations of a manifest, without those of its descriptors.
const MAX_ANNOTATIONS: usize = 1000;

/// The maximum size as JSON of the annotations of a manifest, without those of its descriptors.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// The maximum number of annotations and unknown fields of a manifest with its descriptors.
const MAX_FREE_KEYS: usize = 10_000;

/// The maximum size of a [`ManifestHeader`] as JSON.
const MAX_HEADER_BYTES: usize = 256 * 1024;

/// The result of putting a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestPut {
    pub(crate) digest: Digest,
    /// The subject of the manifest, whether or not it exists.
    pub(crate) subject: Option<Digest>,
}

/// A stored manifest that is being read.
#[derive(Debug)]
pub(crate) struct OpenManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// The size of the content in bytes.
    pub(crate) size: u64,
    /// The file, positioned at the content.
    pub(crate) file: File,
}

/// The reason why a manifest was rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutManifestError {
    /// The content is not a manifest of the given media type.
    #[error("the manifest is invalid: {0}")]
    Invalid(String),
    /// The content does not have the digest in the reference.
    #[error("the manifest's digest is {actual}, not {expected}")]
    WrongDigest { expected: Digest, actual: Digest },
    /// A blob or manifest that the manifest refers to is not in the repository.
    #[error("the manifest refers to {0}, which is not in the repository")]
    Missing(Digest),
    /// Another error, such as a missing repository, an immutable tag or a full disk.
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
    /// Stores a manifest, and sets the tag if `reference` is a tag.
    ///
    /// An existing manifest keeps the time and the media type of its first push.
    ///
    /// # Errors
    /// The variants of [`PutManifestError`]. The last one has [`Error::NotFound`] if the repository does not exist,
    /// and [`Error::Conflict`] if the tag is immutable and names another image.
    pub(crate) fn put_manifest(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<ManifestPut, PutManifestError> {
        let digest = verified_digest(reference, bytes)?;
        let content = ManifestContent::parse_limited(media_type, bytes, MAX_FREE_KEYS)
            .map_err(PutManifestError::Invalid)?;
        check_annotations(content.annotations())?;
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
        // Uploads rename blobs without syncing the folder.
        folder.sync_blobs()?;
        if old.as_ref() != Some(&header) {
            if let Some(subject) = &header.subject {
                self.add_referrer(&locked, subject, &digest)?;
            }
            let file = folder.manifest(&digest);
            folder.create_parents(&file)?;
            let annotations = header.subject.as_ref().map(|_| content.annotations());
            let line = to_line(&StoredHeader { header: &header, annotations })?;
            self.publish(&file, &[line.as_slice(), b"\n", bytes].concat())?;
        }
        if let Reference::Tag(tag) = reference {
            self.set_tag(&locked, tag, &digest)?;
        }
        self.end_reservations(folder, &content);
        Ok(ManifestPut { digest, subject: header.subject })
    }

    /// Opens a manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist.
    pub(crate) fn open_manifest(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<OpenManifest> {
        let folder = self.folder(path)?;
        let (digest, (header, file)) = find(&folder, reference, |digest| {
            open_content(&folder, digest, |header: &ContentHeader| header.length)
        })?;
        let ContentHeader { media_type, length: size } = header;
        Ok(OpenManifest { digest, media_type, size, file })
    }

    /// Deletes a manifest with its tags and blobs, whether or not an index refers to it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist.
    pub(crate) fn delete_manifest(&self, path: &RepositoryPath, digest: &Digest) -> Result<()> {
        self.remove_manifest(&self.lock(path)?, digest)
    }

    /// Removes the tags of a manifest, the manifest and its unneeded blobs, in this order: a tag never names a missing
    /// manifest.
    pub(super) fn remove_manifest(&self, locked: &Locked, digest: &Digest) -> Result<()> {
        let folder = &locked.folder;
        let Some(header) = ManifestHeader::read(folder, digest)? else {
            return Err(missing_image(folder, &Reference::Digest(digest.clone())));
        };
        let blobs = self.blobs_of(folder, digest);
        for tag in tags_of(folder, digest)? {
            remove_tag(locked, &tag)?;
        }
        let path = folder.manifest(digest);
        remove_file(&path).map_err(cannot("delete", &path))?;
        if let Some(subject) = &header.subject {
            remove_referrer(locked, subject, digest)?;
        }
        self.collect_released(locked, &blobs.unwrap_or_default());
        Ok(())
    }
}

/// Reads the manifest of an image with its digest and header.
pub(super) fn find_manifest(
    folder: &RepositoryFolder,
    reference: &Reference,
) -> Result<(Digest, ManifestHeader, Vec<u8>)> {
    let (digest, (header, bytes)) =
        find(folder, reference, |digest| read_manifest(folder, digest))?;
    Ok((digest, header, bytes))
}

/// Reads the manifest of an image with `read`.
fn find<T>(
    folder: &RepositoryFolder,
    reference: &Reference,
    read: impl Fn(&Digest) -> Result<Option<T>>,
) -> Result<(Digest, T)> {
    let digest = resolve(folder, reference)?;
    if let Some(found) = read(&digest)? {
        return Ok((digest, found));
    }
    if let Reference::Digest(_) = reference {
        return Err(missing_image(folder, reference));
    }
    // The tag was moved meanwhile, and its old image was deleted. Both may happen any number of times, so the second
    // attempt holds the lock.
    let _lock = folder.lock()?;
    let digest = resolve(folder, reference)?;
    let found = read(&digest)?.ok_or_else(|| missing_image(folder, reference))?;
    Ok((digest, found))
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

/// The media type in a manifest's own field `mediaType`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnType {
    media_type: Option<String>,
}

/// Fails if an index lists a new manifest with another media type.
///
/// A manifest with a `mediaType` of its own cannot be stored under another one. Checking one index is enough, because
/// all indexes agree.
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

/// Builds the header of a manifest. Fails if a blob or manifest that it refers to is not in the repository.
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
    let header = ManifestHeader {
        media_type: media_type.to_owned(),
        pushed_at: SystemTime::now(),
        length,
        image_size,
        platforms: platforms.into_iter().collect(),
        children: children.into_iter().collect(),
        artifact_type: content.artifact_type().map(str::to_owned),
        subject: content.subject().map(|subject| subject.digest.clone()),
    };
    let bytes = to_line(&header)?.len();
    if bytes > MAX_HEADER_BYTES {
        let problem = format!(
            "its artifact type, platforms and list of manifests have {bytes} bytes, of at most \
             {MAX_HEADER_BYTES}"
        );
        return Err(PutManifestError::Invalid(problem));
    }
    Ok(header)
}

/// Fails if a manifest has more annotations than a listing of referrers can show.
fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), PutManifestError> {
    let bytes: usize = annotations.iter().map(|(key, value)| json_bytes(key, value)).sum();
    let problem = match annotations.len() {
        count if count > MAX_ANNOTATIONS => {
            format!("it has {count} annotations, of at most {MAX_ANNOTATIONS}")
        }
        _ if bytes > MAX_ANNOTATION_BYTES => {
            format!("its annotations have {bytes} bytes, of at most {MAX_ANNOTATION_BYTES}")
        }
        _ => return Ok(()),
    };
    Err(PutManifestError::Invalid(problem))
}

/// Returns the size of an annotation as JSON.
fn json_bytes(key: &str, value: &str) -> usize {
    let escaped = |text: &str| serde_json::to_string(text).map_or(0, |json| json.len());
    // A colon and a comma.
    escaped(key) + escaped(value) + 2
}

/// Fails if content does not have the size in its descriptor. Clients check that size.
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
    Ok(Platform::of_config(BufReader::new(file.take(MAX_CONFIG_BYTES))))
}

/// Returns the digest of an image. If `reference` is a digest, the image may not exist.
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
/// The header is computed when the manifest is put, so that a listing reads neither manifests nor blobs.
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
    /// The artifact type in listings. Manifests without a subject that an older version stored have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
}

/// The whole first line of the file of a manifest.
#[derive(Serialize)]
struct StoredHeader<'a> {
    #[serde(flatten)]
    header: &'a ManifestHeader,
    /// The annotations of a referrer, for listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
}

/// The fields of the header that are needed to open the content.
#[derive(Deserialize)]
struct ContentHeader {
    media_type: String,
    length: u64,
}

/// The fields of the header that are needed to list referrers.
#[derive(Deserialize)]
struct ReferrerHeader {
    media_type: String,
    length: u64,
    subject: Option<Digest>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "annotations_within_limits")]
    annotations: BTreeMap<String, String>,
}

/// Reads annotations and skips those beyond the limits, which older versions stored.
fn annotations_within_limits<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct WithinLimits;

    impl<'de> Visitor<'de> for WithinLimits {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("annotations")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let (mut annotations, mut bytes) = (BTreeMap::new(), 0);
            while annotations.len() < MAX_ANNOTATIONS {
                let Some((key, value)) = entries.next_entry::<String, String>()? else { break };
                if key.len() + value.len() > MAX_ANNOTATION_BYTES {
                    continue;
                }
                let added = json_bytes(&key, &value);
                if bytes + added <= MAX_ANNOTATION_BYTES {
                    bytes += added;
                    annotations.insert(key, value);
                }
            }
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(annotations)
        }
    }

    deserializer.deserialize_map(WithinLimits)
}

/// Returns the header of a manifest as it is stored.
fn to_line(header: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(header)
        .map_err(|error| Error::failed("cannot describe a manifest").with_source(error))
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

    /// Reads the header of a manifest; `None` if the manifest does not exist.
    pub(super) fn read(folder: &RepositoryFolder, digest: &Digest) -> Result<Option<Self>> {
        Ok(open_manifest(folder, digest)?.map(|(header, ..)| header))
    }
}

/// Reads a manifest with its header; `None` if the manifest does not exist.
pub(super) fn read_manifest(
    folder: &RepositoryFolder,
    digest: &Digest,
) -> Result<Option<(ManifestHeader, Vec<u8>)>> {
    let length = |header: &ManifestHeader| header.length;
    let Some((header, mut file)) = open_content(folder, digest, length)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(cannot("read", &folder.manifest(digest)))?;
    Ok(Some((header, bytes)))
}

/// Opens the content of a manifest. Fails if the content does not have the length in the header.
fn open_content<T: DeserializeOwned>(
    folder: &RepositoryFolder,
    digest: &Digest,
    length: impl Fn(&T) -> u64,
) -> Result<Option<(T, File)>> {
    let Some((header, file, size)) = open_manifest(folder, digest)? else { return Ok(None) };
    let length = length(&header);
    if size == length {
        return Ok(Some((header, file)));
    }
    Err(damaged(&folder.manifest(digest), format!("{size} bytes, not {length}")))
}

/// Opens the file of a manifest. Returns the fields `T` of the header, the file positioned at the content, and the
/// size of the content. Other fields of the header are not held in memory.
fn open_manifest<T: DeserializeOwned>(
    folder: &RepositoryFolder,
    digest: &Digest,
) -> Result<Option<(T, File, u64)>> {
    let path = folder.manifest(digest);
    let Some((file, metadata)) = folder.open(&path)? else { return Ok(None) };
    let mut headers = serde_json::Deserializer::from_reader(BufReader::new(&file)).into_iter();
    let header = headers.next().unwrap_or_else(|| Err(de::Error::custom("it is empty")));
    let header = header.map_err(|error| damaged(&path, error))?;
    // A line feed follows the header.
    let content = headers.byte_offset() as u64 + 1;
    (&file).seek(SeekFrom::Start(content)).map_err(cannot("read", &path))?;
    Ok(Some((header, file, metadata.len().saturating_sub(content))))
}

pub(super) fn damaged(path: &Path, cause: impl Into<crate::error::BoxError>) -> Error {
    Error::failed(format!("{} is damaged", path.display())).with_source(cause)
}

impl Store {
    /// Lists at most `limit` manifests after `last` that may have this subject, sorted by digest. The subject may not
    /// exist.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn referrers_after(
        &self,
        path: &RepositoryPath,
        subject: &Digest,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>> {
        let folder = self.folder(path)?;
        let digests = folder.first_files(&folder.referrers(subject), limit, |name| {
            name.parse().ok().filter(|digest| last.is_none_or(|last| digest > last))
        })?;
        folder.confirm()?;
        Ok(digests)
    }

    /// Describes a manifest for the listing of its subject's referrers; `None` if the manifest does not exist or has
    /// another subject.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn referrer(
        &self,
        path: &RepositoryPath,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<Option<Descriptor>> {
        let folder = self.folder(path)?;
        let header =
            open_manifest(&folder, digest)?.map(|(header, ..): (ReferrerHeader, _, _)| header);
        // An interrupted push may have left an entry for a manifest with another subject.
        let header = header.filter(|header| header.subject.as_ref() == Some(subject));
        Ok(header.map(|header| {
            let mut descriptor = Descriptor::new(header.media_type, digest.clone(), header.length);
            descriptor.artifact_type = header.artifact_type;
            descriptor.annotations = header.annotations;
            descriptor
        }))
    }

    /// Adds a manifest to the referrers of its subject.
    ///
    /// The entry is written before its manifest and removed after it, so that a listing misses no referrer. An entry
    /// without a manifest is ignored.
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

#[cfg(test)]
mod tests;
