//! [`Layout`]: a folder in the OCI image layout that is written to, and blobs that are being received into
//! it.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, ManifestContent, media_type};
use crate::transfer::blob::Blob;
use crate::transfer::engine::{Outcome, Plan, Target};
use crate::transfer::image::Image;
use crate::transfer::progress::{BlobState, Event, Progress};
use crate::transfer::queue::Counter;

/// The maximum number of pieces that wait to be written.
const MAX_QUEUED_PIECES: usize = 4;
const MARKER: &str = "oci-layout";
const VERSION: &str = "1.0.0";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs";
/// The folder of partial blobs, which readers of layouts ignore.
const PARTIAL: &str = ".ark-partial";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A folder in the OCI image layout, locked for as long as it is written to.
#[derive(Debug)]
pub(in crate::transfer) struct Layout {
    path: PathBuf,
    /// Holds the lock.
    _marker: File,
}

impl Layout {
    /// Opens a layout, or creates one in a folder that is empty or does not exist.
    ///
    /// # Errors
    /// [`Error::Temporary`] if another process writes to it; [`Error::InvalidInput`] if the folder holds
    /// something else.
    pub(in crate::transfer) fn open(path: &Path) -> Result<Self> {
        let marker = path.join(MARKER);
        let foreign =
            || Error::invalid(format!("{} is no OCI layout, and not empty", path.display()));
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if !marker.exists() && entries.next().is_some() {
                    return Err(foreign());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(foreign()),
            Err(error) => return Err(cannot("read", path, error)),
        }
        fs::create_dir_all(path).map_err(|error| cannot("create", path, error))?;
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&marker);
        let mut lock = lock.map_err(|error| cannot("open", &marker, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process writes to {}", path.display());
                return Err(Error::temporary(message));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", &marker, error)),
        }
        mark(&mut lock, &marker)?;
        Ok(Self { path: path.to_owned(), _marker: lock })
    }

    /// Returns whether it has a blob with the right size and digest.
    fn has(&self, blob: &Descriptor) -> Result<bool> {
        let path = self.blob(&blob.digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(cannot("open", &path, error)),
        };
        let length = file.metadata().map_err(|error| cannot("read", &path, error))?.len();
        if length != blob.size {
            return Ok(false);
        }
        let mut digester = Digester::new(blob.digest.algorithm());
        read_all(file, |piece| digester.update(piece))
            .map_err(|error| cannot("read", &path, error))?;
        Ok(digester.finish() == blob.digest)
    }

    /// Opens what was received of a blob so far.
    fn partial(&self, blob: &Descriptor) -> Result<Partial> {
        let name = format!("{}-{}", blob.digest.algorithm().as_str(), blob.digest.hex());
        Partial::open(self.path.join(PARTIAL).join(name), self.blob(&blob.digest), blob)
    }

    /// Writes a manifest.
    fn put(&self, digest: &Digest, content: &[u8]) -> Result<()> {
        write_whole(&self.blob(digest), content)
    }

    /// Lists images in their order, under a name if one has one, which replaces the image of that name. Until then
    /// the layout's images are as they were.
    fn list(&self, images: Vec<(Descriptor, Option<String>)>) -> Result<()> {
        let path = self.path.join(INDEX);
        let mut index = match fs::read(&path) {
            Ok(content) => {
                let invalid = |problem: String| {
                    Error::failed(format!("{} is invalid: {problem}", path.display()))
                };
                ManifestContent::parse(media_type::OCI_INDEX, &content).map_err(invalid)?;
                // Unknown fields are kept.
                serde_json::from_slice(&content).map_err(|error| invalid(error.to_string()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []
            }),
            Err(error) => return Err(cannot("read", &path, error)),
        };
        let mut manifests = match index["manifests"].take() {
            Value::Array(manifests) => manifests,
            // Other tools write `null` for an empty list.
            _ => Vec::new(),
        };
        let failed =
            |error| Error::failed(format!("writing {}", path.display())).with_source(error);
        for (mut image, name) in images {
            let (digest, name) = (image.digest.to_string(), name.as_deref());
            manifests.retain(|listed| {
                let listed_name = listed["annotations"][REF_NAME].as_str();
                match name {
                    Some(_) => listed_name != name,
                    None => listed_name.is_some() || listed["digest"] != *digest,
                }
            });
            image.annotations.extend(name.map(|name| (REF_NAME.to_owned(), name.to_owned())));
            manifests.push(serde_json::to_value(image).map_err(failed)?);
        }
        index["manifests"] = Value::Array(manifests);
        write_whole(&path, &serde_json::to_vec(&index).map_err(failed)?)?;
        // The folder may contain partial blobs of another image, which are kept.
        let _ = fs::remove_dir(self.path.join(PARTIAL));
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join(BLOBS).join(digest.algorithm().as_str()).join(digest.hex())
    }
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
    async fn known(&self, blobs: &[Blob]) -> Vec<Option<Descriptor>> {
        blobs.iter().map(|blob| Some(descriptor(blob))).collect()
    }

    async fn plan(&self, _: Option<&Image>, known: &[Option<Descriptor>]) -> Result<Plan> {
        // Each blob is looked up, and hashed, when it is its turn.
        Ok(Plan::Write(vec![false; known.len()]))
    }

    async fn write(
        &self,
        blob: &Blob,
        _: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome> {
        let (layout, wanted) = (Arc::clone(&self.layout), descriptor(blob));
        if in_background(move || layout.has(&wanted)).await? {
            return Ok(Outcome::unsent(descriptor(blob), BlobState::Exists));
        }
        self.tell(blob, BlobState::Fetching);
        loop {
            let (layout, wanted) = (Arc::clone(&self.layout), descriptor(blob));
            let partial = in_background(move || layout.partial(&wanted)).await?;
            let found = partial.received();
            counter.set(found);
            let partial = self.fill(partial, blob, counter).await?;
            let layout = Arc::clone(&self.layout);
            let finishing = in_background(move || {
                let _locked = layout;
                partial.finish()
            });
            match finishing.await? {
                Received::Whole => {
                    return Ok(Outcome::moved(descriptor(blob), BlobState::Fetched, found, 0));
                }
                // What an earlier pull left was not the start of this blob.
                Received::Damaged(_) if found > 0 => {}
                Received::Damaged(found) => return Err(damaged(blob, &found)),
            }
        }
    }

    async fn publish(&self, image: &Image) -> Result<()> {
        let (layout, image) = (Arc::clone(&self.layout), image.clone());
        let name = self.name.map(str::to_owned);
        in_background(move || {
            let tagged = image.signatures().iter().map(|(_, manifest)| manifest);
            let manifests = image.children().iter().chain(image.referrers()).chain(tagged);
            for manifest in manifests.chain([image.root()]) {
                layout.put(&manifest.digest, &manifest.bytes)?;
            }
            let referrers = image.referrers().iter().map(|referrer| (referrer.descriptor(), None));
            let tagged = image.signatures().iter();
            let tagged = tagged.map(|(tag, found)| (found.descriptor(), Some(tag.to_string())));
            let root = (image.root().descriptor(), name);
            layout.list(referrers.chain(tagged).chain([root]).collect())
        })
        .await
    }

    async fn name(&self, _: &Image) -> Result<()> {
        Ok(())
    }
}

impl LayoutTarget<'_> {
    /// Receives the rest of a blob, while a thread writes and hashes it.
    async fn fill(&self, mut partial: Partial, blob: &Blob, counter: &Counter) -> Result<Partial> {
        let mut content = blob.pieces(partial.received()).await?;
        let (sender, mut receiver) = mpsc::channel::<Bytes>(MAX_QUEUED_PIECES);
        let layout = Arc::clone(&self.layout);
        let writing = in_background(move || {
            // If the pull is dropped, the next one must not write at the same time.
            let _locked = layout;
            while let Some(piece) = receiver.blocking_recv() {
                partial.take(&piece)?;
            }
            Ok(partial)
        });
        let receiving = async {
            // The pieces before an interruption are written too.
            let sender = sender;
            while let Some(piece) = content.try_next().await? {
                let bytes = piece.len() as u64;
                if sender.send(piece).await.is_err() {
                    // The disk failed, which the writer reports.
                    break;
                }
                counter.add(bytes);
            }
            Ok(())
        };
        let (received, written) = futures_util::future::join(receiving, writing).await;
        let partial = written?;
        received.map(|()| partial).map_err(|error| blob.unreadable(error))
    }

    fn tell(&self, blob: &Blob, state: BlobState) {
        self.progress.event(&Event::Blob { blob: blob.digest(), state });
    }
}

fn descriptor(blob: &Blob) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, blob.digest().clone(), blob.size())
}

/// Runs disk operations on a thread that may block.
pub(in crate::transfer) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::failed("writing the layout").with_source(error))?
}

/// Writes the marker file of a layout, unless it exists.
fn mark(marker: &mut File, path: &Path) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let mut content = Vec::new();
    marker.read_to_end(&mut content).map_err(|error| cannot("read", path, error))?;
    if content.is_empty() {
        let content = json!({ "imageLayoutVersion": VERSION }).to_string();
        let written = marker.write_all(content.as_bytes()).and_then(|()| marker.sync_all());
        return written.map_err(|error| cannot("write", path, error));
    }
    match serde_json::from_slice::<Marker>(&content) {
        Ok(marker) if marker.image_layout_version == VERSION => Ok(()),
        Ok(Marker { image_layout_version: version }) => {
            let problem = format!("{} is of the unknown version {version:?}", path.display());
            Err(Error::failed(problem))
        }
        Err(error) => {
            Err(Error::failed(format!("{} is invalid", path.display())).with_source(error))
        }
    }
}

/// Writes a file so that it exists as a whole or not at all, also after a loss of power.
fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let folder = folder_of(path)?;
    let written = || {
        let (temporary, mut file) = temporary_beside(folder, path)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder)
    };
    written().map_err(|error| cannot("write", path, error))
}

/// Creates a temporary file beside `path`. Only one process writes here, so an existing one is left over.
fn temporary_beside(folder: &Path, path: &Path) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(folder)?;
    let mut name = OsString::from(".ark-new-");
    name.push(path.file_name().unwrap_or_default());
    let temporary = folder.join(name);
    let file = File::create(&temporary)?;
    Ok((temporary, file))
}

fn folder_of(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| Error::invalid(format!("{} is in no folder", path.display())))
}

/// Makes a rename in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads a file to its end.
fn read_all(mut file: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    // Small enough to stay in the processor's cache between reading and hashing.
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(&buffer[..read]),
        }
    }
}

/// Returns the error of an operation on a file or folder.
fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::failed(format!("cannot {verb} {}", path.display())).with_source(error)
}

/// The received part of a blob, whose hash is computed while it is written.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    digester: Digester,
    expected: Digest,
    received: u64,
}

/// The outcome of a blob that was received completely.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    /// It has its digest, and is in the layout.
    Whole,
    /// It has another digest, and was removed. What an earlier fetch left may be the reason.
    Damaged(Digest),
}

impl Partial {
    /// Opens the part of a blob at `path`, which moves to `target` when it is complete.
    pub(in crate::transfer) fn open(
        path: PathBuf,
        target: PathBuf,
        blob: &Descriptor,
    ) -> Result<Self> {
        let opened = create_folders([&path, &target]).and_then(|()| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        });
        let mut file = opened.map_err(|error| cannot("open", &path, error))?;
        let algorithm = blob.digest.algorithm();
        let (mut digester, mut received) = (Digester::new(algorithm), 0);
        let read = read_all(&file, |piece| {
            digester.update(piece);
            received += piece.len() as u64;
        });
        let mut ready = read;
        if ready.is_ok() && received > blob.size {
            (digester, received) = (Digester::new(algorithm), 0);
            ready = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)).map(drop));
        }
        ready.map_err(|error| cannot("read", &path, error))?;
        let expected = blob.digest.clone();
        Ok(Self { path, target, file, digester, expected, received })
    }

    /// Returns the number of received bytes.
    fn received(&self) -> u64 {
        self.received
    }

    /// Writes the next piece.
    fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|error| cannot("write", &self.path, error))?;
        self.digester.update(piece);
        self.received += piece.len() as u64;
        Ok(())
    }

    /// Verifies the blob and moves it into the layout.
    fn finish(self) -> Result<Received> {
        let found = self.digester.finish();
        if found != self.expected {
            fs::remove_file(&self.path).map_err(|error| cannot("remove", &self.path, error))?;
            return Ok(Received::Damaged(found));
        }
        let folder = folder_of(&self.target)?;
        let placed = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.target));
        let placed = placed.and_then(|()| sync_folder(folder));
        placed.map_err(|error| cannot("write", &self.target, error))?;
        Ok(Received::Whole)
    }
}

fn create_folders(files: [&PathBuf; 2]) -> io::Result<()> {
    files.into_iter().filter_map(|file| file.parent()).try_for_each(fs::create_dir_all::<&Path>)
}

/// Returns the error of a blob whose content has another digest.
fn damaged(blob: &Blob, found: &Digest) -> Error {
    Error::failed(format!("{} is damaged: its content is {found}", blob.location()))
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
    fn a_name_stands_for_one_image_and_others_stay() {
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
    fn what_is_unknown_in_the_index_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        fs::write(folder.path().join(INDEX), r#"{"manifests":[],"annotations":{"a":"b"}}"#)
            .unwrap();
        layout.list(vec![(image("one"), None)]).unwrap();
        let index = fs::read_to_string(folder.path().join(INDEX)).unwrap();
        assert!(index.contains(r#""annotations":{"a":"b"}"#), "{index}");
    }

    #[test]
    fn a_folder_with_something_else_is_left_alone() {
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
        assert!(error.ends_with(r#"is of the unknown version "9""#), "{error}");
    }

    #[test]
    fn two_do_not_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Layout::open(folder.path()).unwrap();
        assert!(Layout::open(folder.path()).unwrap_err().is_temporary());
        drop(first);
        Layout::open(folder.path()).unwrap();
    }

    #[test]
    fn a_blob_that_is_damaged_does_not_count() {
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

        fn path(&self) -> PathBuf {
            self.folder.path().join("a/partial")
        }

        fn place(&self) -> PathBuf {
            self.folder.path().join("b/whole")
        }

        fn open(&self) -> Partial {
            Partial::open(self.path(), self.place(), &self.blob).unwrap()
        }
    }

    #[test]
    fn partial_blob_survives_the_process() {
        let place = Fixture::new("content");
        let mut first = place.open();
        first.take(b"con").unwrap();
        drop(first);
        let mut second = place.open();
        assert_eq!(second.received(), 3);
        second.take(b"tent").unwrap();
        assert!(!place.place().exists());
        assert_eq!(second.finish().unwrap(), Received::Whole);
        assert_eq!(fs::read(place.place()).unwrap(), b"content");
        assert!(!place.path().exists());
    }

    #[test]
    fn blob_with_wrong_digest_is_not_kept() {
        let place = Fixture::new("content");
        let mut partial = place.open();
        partial.take(b"contend").unwrap();
        let found = Digester::digest(Algorithm::Sha256, b"contend");
        assert_eq!(partial.finish().unwrap(), Received::Damaged(found));
        assert!(!place.place().exists() && !place.path().exists());
    }

    #[test]
    fn partial_blob_that_is_too_long_is_discarded() {
        let place = Fixture::new("content");
        fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        fs::write(place.path(), "content and more").unwrap();
        let mut partial = place.open();
        assert_eq!(partial.received(), 0);
        partial.take(b"content").unwrap();
        assert_eq!(partial.finish().unwrap(), Received::Whole);
        assert_eq!(fs::read(place.place()).unwrap(), b"content");
    }
}
