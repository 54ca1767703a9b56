//! [`Layout`]: a folder in the OCI image layout as an image target, and its partially received blobs.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

use crate::digester::Digester;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::files::{Directory, Writeback, cannot, copy, is_own};
use crate::model::{Descriptor, Digest, ManifestContent, media_type};
use crate::transfer::blob::Blob;
use crate::transfer::engine::{Outcome, Target};
use crate::transfer::image::Image;
use crate::transfer::in_background;
use crate::transfer::progress::{BlobState, Event, Progress};
use crate::transfer::queue::Counter;

/// The maximum number of pieces that wait to be written.
pub(super) const MAX_QUEUED_PIECES: usize = 4;
pub(super) const MARKER: &str = "oci-layout";
/// The maximum length of the marker that is read.
const MAX_MARKER_BYTES: u64 = 64 * 1024;
const VERSION: &str = "1.0.0";
pub(super) const INDEX: &str = "index.json";
const BLOBS: &str = "blobs";
/// The folder of partial blobs, which readers of layouts ignore.
const PARTIAL: &str = ".ark-partial";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A locked folder in the OCI image layout, which is an image target.
#[derive(Debug)]
pub(in crate::transfer) struct Layout {
    directory: Directory,
    /// The locked marker file.
    _marker: File,
}

impl Layout {
    /// Opens a layout, or creates one in a folder that is empty or does not exist.
    ///
    /// # Errors
    /// [`Error::Temporary`] if another process writes to the folder; [`Error::InvalidInput`] if the folder has other
    /// content; [`Error::Failed`] if the marker file is invalid.
    pub(in crate::transfer) fn open(path: &Path) -> Result<Self> {
        let foreign =
            || Error::invalid(format!("{} is not empty and not an OCI layout", path.display()));
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(foreign());
        }
        let directory = Directory::create(path)?;
        if !directory.has(MARKER)? && !directory.is_empty()? {
            return Err(foreign());
        }
        let (marker, metadata) = directory.open_or_create(MARKER)?;
        let path = path.join(MARKER);
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process writes to {}", directory.path().display());
                return Err(Error::temporary(message));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", &path, error)),
        }
        mark(&marker, &path, is_own(&metadata))?;
        Ok(Self { directory, _marker: marker })
    }

    /// Returns whether the layout has the blob with its size and digest.
    fn has(&self, blob: &Descriptor) -> Result<bool> {
        let name = blob_name(&blob.digest);
        let (file, metadata) = match self.directory.file(&name) {
            Ok(opened) => opened,
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if metadata.len() != blob.size {
            return Ok(false);
        }
        let found = Digester::digest_of_stream(blob.digest.algorithm(), file)
            .map_err(|error| cannot("read", &self.directory.path().join(name), error))?;
        Ok(found == blob.digest)
    }

    /// Writes a manifest.
    fn put(&self, digest: &Digest, content: &[u8]) -> Result<()> {
        self.directory.replace(blob_name(digest), content)
    }

    /// Adds images to `index.json` in this order. A named image replaces the image of that name. The file is replaced
    /// atomically.
    fn list(&self, images: Vec<(Descriptor, Option<String>)>) -> Result<()> {
        let path = self.directory.path().join(INDEX);
        let mut index = match self.directory.read(INDEX, Manifest::MAX_LEN) {
            Ok(content) => {
                let invalid = |problem: String| {
                    Error::failed(format!("{} is invalid: {problem}", path.display()))
                };
                ManifestContent::parse(media_type::OCI_INDEX, &content).map_err(invalid)?;
                // Unknown fields are preserved.
                serde_json::from_slice(&content).map_err(|error| invalid(error.to_string()))?
            }
            Err(Error::NotFound { .. }) => json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []
            }),
            Err(error) => return Err(error),
        };
        let mut manifests = match index["manifests"].take() {
            Value::Array(manifests) => manifests,
            // Other tools write `null` for an empty list.
            _ => Vec::new(),
        };
        let failed =
            |error| Error::failed(format!("cannot write {}", path.display())).with_source(error);
        for (image, name) in images {
            let digest = image.digest.to_string();
            manifests.retain(|listed| {
                let listed_name = listed["annotations"][REF_NAME].as_str();
                match &name {
                    Some(name) => listed_name != Some(name),
                    None => listed_name.is_some() || listed["digest"] != *digest,
                }
            });
            manifests.push(serde_json::to_value(named((image, name))).map_err(failed)?);
        }
        index["manifests"] = Value::Array(manifests);
        self.directory.replace(INDEX, &serde_json::to_vec(&index).map_err(failed)?)?;
        // A folder with partial blobs of another image is not removed.
        let _ = self.directory.remove_directory(PARTIAL);
        Ok(())
    }
}

/// Returns the path of a blob in a layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// A layout as the target of a transfer.
pub(in crate::transfer) struct LayoutTarget<'a> {
    pub(in crate::transfer) layout: Arc<Layout>,
    /// The name of the image in the layout.
    pub(in crate::transfer) name: Option<&'a str>,
    pub(in crate::transfer) progress: &'a dyn Progress,
}

#[async_trait]
impl Target for LayoutTarget<'_> {
    async fn write(
        &self,
        blob: &Blob,
        _: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome> {
        let (layout, wanted) = (Arc::clone(&self.layout), blob.descriptor());
        if in_background(move || layout.has(&wanted)).await? {
            return Ok(Outcome::unsent(blob.descriptor(), BlobState::Exists));
        }
        self.report(blob, BlobState::Fetching);
        loop {
            let (layout, wanted) = (Arc::clone(&self.layout), blob.descriptor());
            let partial = in_background(move || Partial::open(&layout.directory, &wanted)).await?;
            let found = partial.received();
            counter.set(found);
            let partial = self.fill(partial, blob, counter).await?;
            let layout = Arc::clone(&self.layout);
            let finishing = in_background(move || {
                let _locked = layout;
                partial.finish()
            });
            match finishing.await? {
                Received::Verified => {
                    return Ok(Outcome::moved(blob.descriptor(), BlobState::Fetched, found, 0));
                }
                // The bytes of an earlier pull were damaged. The next attempt receives the whole blob.
                Received::Damaged(_) if found > 0 => {}
                Received::Damaged(found) => return Err(blob.damaged(&found)),
            }
        }
    }

    async fn publish(&self, image: &Image) -> Result<()> {
        let (layout, image) = (Arc::clone(&self.layout), image.clone());
        let name = self.name.map(str::to_owned);
        in_background(move || {
            for manifest in image.manifests() {
                layout.put(&manifest.digest, &manifest.bytes)?;
            }
            let root = (image.root().descriptor(), name);
            layout.list(attached(&image).chain([root]).collect())
        })
        .await
    }
}

impl LayoutTarget<'_> {
    /// Receives the rest of a blob. A thread writes and hashes the pieces meanwhile.
    async fn fill(&self, mut partial: Partial, blob: &Blob, counter: &Counter) -> Result<Partial> {
        let from = partial.received();
        if let Some((file, offset)) = blob.open_file().await? {
            return self.copy(partial, (file, offset + from..offset + blob.size()), counter).await;
        }
        let (sender, mut receiver) = mpsc::channel::<Bytes>(MAX_QUEUED_PIECES);
        let layout = Arc::clone(&self.layout);
        let writing = in_background(move || {
            // The lock is held until the thread ends, even if the pull is dropped.
            let _locked = layout;
            while let Some(piece) = receiver.blocking_recv() {
                partial.append(&piece)?;
            }
            Ok(partial)
        });
        // The pieces before an interruption are written too.
        let (received, written) = join(blob.send_to(sender, from, counter), writing).await;
        let partial = written?;
        received.map(|()| partial)
    }

    /// Copies the rest of a blob from a file.
    async fn copy(
        &self,
        mut partial: Partial,
        source: (Arc<File>, Range<u64>),
        counter: &Counter,
    ) -> Result<Partial> {
        // The thread ends after this value is dropped, and holds the lock until then.
        let transfer = Arc::new(());
        let copied = counter.counting(&transfer);
        let layout = Arc::clone(&self.layout);
        in_background(move || {
            let _locked = layout;
            partial.copy((&source.0, source.1), copied)?;
            Ok(partial)
        })
        .await
    }

    fn report(&self, blob: &Blob, state: BlobState) {
        self.progress.event(&Event::Blob { blob: blob.digest(), state });
    }
}

/// Returns the entries of `index.json` beside the image: its referrers, and its signatures with their tags.
pub(super) fn attached(image: &Image) -> impl Iterator<Item = (Descriptor, Option<String>)> {
    let referrers = image.referrers().iter().map(|referrer| (referrer.descriptor(), None));
    let tagged = image.signatures().iter();
    referrers.chain(tagged.map(|(tag, found)| (found.descriptor(), Some(tag.to_string()))))
}

/// Returns the entry of `index.json` for a manifest.
pub(super) fn named((mut listed, name): (Descriptor, Option<String>)) -> Descriptor {
    listed.annotations.extend(name.map(|name| (REF_NAME.to_owned(), name)));
    listed
}

/// Writes the marker file of a layout, or checks the version of an existing one.
fn mark(mut marker: &File, path: &Path, is_own: bool) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let mut content = Vec::new();
    let read = marker.take(MAX_MARKER_BYTES).read_to_end(&mut content);
    read.map_err(|error| cannot("read", path, error))?;
    if content.is_empty() && !is_own {
        let problem = "is empty, and belongs to another user or has several names; remove it";
        return Err(Error::failed(format!("{} {problem}", path.display())));
    } else if content.is_empty() {
        let content = json!({ "imageLayoutVersion": VERSION }).to_string();
        let written = marker.write_all(content.as_bytes()).and_then(|()| marker.sync_all());
        return written.map_err(|error| cannot("write", path, error));
    }
    match serde_json::from_slice::<Marker>(&content) {
        Ok(marker) if marker.image_layout_version == VERSION => Ok(()),
        Ok(Marker { image_layout_version: version }) => {
            let problem = format!("{} has the unsupported version {version:?}", path.display());
            Err(Error::failed(problem))
        }
        Err(error) => {
            Err(Error::failed(format!("{} is invalid", path.display())).with_source(error))
        }
    }
}

/// A partially received blob. The hash is computed while the blob is written.
#[derive(Debug)]
struct Partial {
    directory: Directory,
    /// The path of the file in the layout.
    name: String,
    file: File,
    digester: Digester,
    expected: Digest,
    received: u64,
    writeback: Writeback,
}

/// The verification of a blob that was received completely.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    /// The blob has its digest, and is in the layout.
    Verified,
    /// The blob has this other digest, and was removed. Damaged bytes of an earlier pull can be the reason.
    Damaged(Digest),
}

impl Partial {
    /// Opens or creates the file of a partial blob, and hashes its content.
    fn open(directory: &Directory, blob: &Descriptor) -> Result<Self> {
        let name = format!("{PARTIAL}/{}-{}", blob.digest.algorithm().as_str(), blob.digest.hex());
        let (file, expected) = (directory.resume(&name)?, blob.digest.clone());
        let mut digester = Digester::new(expected.algorithm());
        let hashed = file.metadata().and_then(|metadata| match metadata.len() > blob.size {
            true => file.set_len(0).map(|()| 0),
            false => digester.update_from(&file),
        });
        let directory = directory.clone();
        let received =
            hashed.map_err(|error| cannot("read", &directory.path().join(&name), error))?;
        let writeback = Writeback::of_size(received);
        Ok(Self { directory, name, file, digester, expected, received, writeback })
    }

    /// Returns the number of received bytes.
    fn received(&self) -> u64 {
        self.received
    }

    /// Writes the next piece.
    fn append(&mut self, piece: &[u8]) -> Result<()> {
        let written = self.file.write_all(piece);
        written.map_err(|error| cannot("write", &self.path(), error))?;
        self.digester.update(piece);
        self.received += piece.len() as u64;
        self.writeback.grown(&self.file, self.received);
        Ok(())
    }

    /// Copies the rest from a file.
    fn copy(&mut self, source: (&File, Range<u64>), copied: impl FnMut(u64) -> bool) -> Result<()> {
        let written = copy(source, (&self.file, self.received), &mut self.digester, copied);
        written.map_err(|error| cannot("write", &self.path(), error))
    }

    /// Verifies the blob and moves it into the layout.
    fn finish(self) -> Result<Received> {
        let path = self.path();
        let found = self.digester.finish();
        if found != self.expected {
            self.directory.remove(&self.name)?;
            return Ok(Received::Damaged(found));
        }
        let synced = self.file.sync_data();
        synced.map_err(|error| cannot("write", &path, error))?;
        // The manifest, which is written to the same folder later, syncs the rename.
        self.directory.rename(&self.name, blob_name(&self.expected))?;
        Ok(Received::Verified)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Algorithm;

    fn image(content: &str) -> Descriptor {
        let digest = Digester::digest(Algorithm::Sha256, content.as_bytes());
        Descriptor::new(media_type::OCI_MANIFEST, digest, content.len() as u64)
    }

    fn listed(folder: &Path) -> Vec<(String, Option<String>)> {
        let index: Value = serde_json::from_slice(&fs::read(folder.join(INDEX)).unwrap()).unwrap();
        let entry = |entry: &Value| {
            let name = entry["annotations"][REF_NAME].as_str().map(str::to_owned);
            (entry["digest"].as_str().unwrap().to_owned(), name)
        };
        index["manifests"].as_array().unwrap().iter().map(entry).collect()
    }

    #[test]
    fn named_image_replaces_image_of_that_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let (one, other) = (image("one"), image("other"));
        for (image, name) in [(&one, Some("v1")), (&one, None), (&one, None), (&other, Some("v1"))]
        {
            layout.list(vec![(image.clone(), name.map(str::to_owned))]).unwrap();
        }
        let expected =
            [(one.digest.to_string(), None), (other.digest.to_string(), Some("v1".to_owned()))];
        assert_eq!(listed(folder.path()), expected);
    }

    #[test]
    fn unknown_fields_of_the_index_are_preserved() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        fs::write(folder.path().join(INDEX), r#"{"manifests":[],"annotations":{"a":"b"}}"#)
            .unwrap();
        layout.list(vec![(image("one"), None)]).unwrap();
        let index = fs::read_to_string(folder.path().join(INDEX)).unwrap();
        assert!(index.contains(r#""annotations":{"a":"b"}"#), "{index}");
    }

    #[test]
    fn index_without_images_may_have_null() {
        for (content, expected) in [
            (r#"{"schemaVersion":2,"manifests":null}"#, None),
            (r#"{"schemaVersion":2}"#, Some("an index needs manifests")),
            (r#"{"manifests":[],"manifests":[]}"#, Some("the key \"manifests\" occurs twice")),
            (r#"{"manifests":{}}"#, Some("expected")),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::open(folder.path()).unwrap();
            fs::write(folder.path().join(INDEX), content).unwrap();
            let one = image("one");
            let result = layout.list(vec![(one.clone(), None)]);
            match expected {
                None => assert_eq!(listed(folder.path()), [(one.digest.to_string(), None)]),
                Some(expected) => {
                    let error = result.unwrap_err().to_string();
                    assert!(error.contains(expected), "{error}");
                }
            }
        }
    }

    #[test]
    fn folder_with_other_content_is_rejected_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("letter.txt");
        fs::write(&file, "dear").unwrap();
        for path in [folder.path(), &file] {
            let error = Layout::open(path).unwrap_err();
            assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::remove_file(&file).unwrap();
        fs::write(folder.path().join(MARKER), r#"{"imageLayoutVersion":"9"}"#).unwrap();
        let error = Layout::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with(r#"has the unsupported version "9""#), "{error}");
    }

    #[test]
    fn layout_has_one_writer_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Layout::open(folder.path()).unwrap();
        assert!(Layout::open(folder.path()).unwrap_err().is_temporary());
        drop(first);
        Layout::open(folder.path()).unwrap();
    }

    #[test]
    fn damaged_blob_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let blob = image("content");
        assert!(!layout.has(&blob).unwrap());
        for (content, expected) in [("content", true), ("contend", false), ("cont", false)] {
            layout.put(&blob.digest, content.as_bytes()).unwrap();
            assert_eq!(layout.has(&blob).unwrap(), expected, "{content}");
        }
    }

    struct Fixture {
        folder: tempfile::TempDir,
        blob: Descriptor,
    }

    impl Fixture {
        fn new(content: &str) -> Self {
            let digest = Digester::digest(Algorithm::Sha256, content.as_bytes());
            let blob = Descriptor::new("", digest, content.len() as u64);
            Self { folder: tempfile::tempdir().unwrap(), blob }
        }

        fn partial_path(&self) -> PathBuf {
            self.folder.path().join(PARTIAL).join(format!("sha256-{}", self.blob.digest.hex()))
        }

        fn blob_path(&self) -> PathBuf {
            self.folder.path().join(blob_name(&self.blob.digest))
        }

        fn open(&self) -> Partial {
            Partial::open(&Directory::open(self.folder.path()).unwrap(), &self.blob).unwrap()
        }
    }

    #[test]
    fn partial_blob_survives_the_process() {
        let fixture = Fixture::new("content");
        let mut first = fixture.open();
        first.append(b"con").unwrap();
        drop(first);
        let mut second = fixture.open();
        assert_eq!(second.received(), 3);
        second.append(b"tent").unwrap();
        assert!(!fixture.blob_path().exists());
        assert_eq!(second.finish().unwrap(), Received::Verified);
        assert_eq!(fs::read(fixture.blob_path()).unwrap(), b"content");
        assert!(!fixture.partial_path().exists());
    }

    #[test]
    fn blob_with_wrong_digest_is_not_kept() {
        let fixture = Fixture::new("content");
        let mut partial = fixture.open();
        partial.append(b"contend").unwrap();
        let found = Digester::digest(Algorithm::Sha256, b"contend");
        assert_eq!(partial.finish().unwrap(), Received::Damaged(found));
        assert!(!fixture.blob_path().exists() && !fixture.partial_path().exists());
    }

    #[test]
    fn partial_blob_that_is_too_long_is_discarded() {
        let fixture = Fixture::new("content");
        fs::create_dir_all(fixture.partial_path().parent().unwrap()).unwrap();
        fs::write(fixture.partial_path(), "content and more").unwrap();
        let mut partial = fixture.open();
        assert_eq!(partial.received(), 0);
        partial.append(b"content").unwrap();
        assert_eq!(partial.finish().unwrap(), Received::Verified);
        assert_eq!(fs::read(fixture.blob_path()).unwrap(), b"content");
    }
}
