//! [`ArchiveTarget`]: an archive in the OCI image layout, with the listing of docker if docker reads the archive.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::join;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::bytes::{Buf as _, Bytes};

use super::layout::{INDEX, MARKER, MAX_QUEUED_PIECES, attached, blob_name, named};
use super::{ImageTarget, TargetKind};
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::files::OutputFile;
use crate::model::{Descriptor, Digest, ImageReference, ManifestContent, media_type};
use crate::transfer::blob::Blob;
use crate::transfer::engine::{Outcome, Target};
use crate::transfer::image::Image;
use crate::transfer::in_background;
use crate::transfer::progress::{BlobState, Event, Progress};
use crate::transfer::queue::Counter;
use crate::transfer::source::{Engine, familiar};

/// The listing of images that docker reads.
const LISTING: &str = "manifest.json";
/// The annotation with the full name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An archive that is written sequentially, one blob at a time.
pub(in crate::transfer) struct ArchiveTarget<'a> {
    archive: Arc<Mutex<Output>>,
    target: &'a ImageTarget,
    progress: &'a dyn Progress,
}

/// The archive and its destination.
struct Output {
    tar: tar::Builder<Box<dyn Write + Send>>,
    file: Destination,
}

enum Destination {
    File(OutputFile),
    /// An unnamed temporary file that docker or podman loads.
    Engine(File, Engine),
    /// A named pipe, or standard output.
    Pipe,
}

impl<'a> ArchiveTarget<'a> {
    /// Creates the archive.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if standard output is a terminal; [`Error::Parse`] if the name is not valid in docker;
    /// [`Error::Failed`] if the file cannot be created.
    pub(in crate::transfer) async fn create(
        target: &'a ImageTarget,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        if let Some(name) = target.name()
            && target.is_read_by_docker()
        {
            // Docker does not load an archive with an invalid name.
            format!("{}{}", ImageReference::PREFIX, familiar(name)).parse::<ImageReference>()?;
        }
        let kind = target.kind.clone();
        let archive = in_background(move || Output::create(&kind)).await?;
        Ok(Self { archive: Arc::new(Mutex::new(archive)), target, progress })
    }

    /// Adds a member of `size` bytes, and returns the digest of its content.
    async fn add_blob(&self, blob: &Blob, counter: &Counter) -> Result<Digest> {
        let (sender, receiver) = mpsc::channel::<Bytes>(MAX_QUEUED_PIECES);
        let (archive, name) = (Arc::clone(&self.archive), blob_name(blob.digest()));
        let (size, algorithm) = (blob.size(), blob.digest().algorithm());
        let writing = in_background(move || {
            let digester = Digester::new(algorithm);
            let mut content = Received { receiver, piece: Bytes::new(), digester };
            lock(&archive).add(&name, size, &mut content)?;
            Ok(content.digester.finish())
        });
        let (received, written) = join(blob.send_to(sender, 0, counter), writing).await;
        received?;
        written
    }
}

#[async_trait]
impl Target for ArchiveTarget<'_> {
    async fn write(
        &self,
        blob: &Blob,
        _: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome> {
        self.progress.event(&Event::Blob { blob: blob.digest(), state: BlobState::Fetching });
        let found = self.add_blob(blob, counter).await?;
        if found != *blob.digest() {
            return Err(blob.damaged(&found));
        }
        Ok(Outcome::moved(blob.descriptor(), BlobState::Fetched, 0, 0))
    }

    async fn publish(&self, image: &Image) -> Result<()> {
        let (archive, image) = (Arc::clone(&self.archive), image.clone());
        let target = self.target.clone();
        let engine = in_background(move || {
            let mut archive = lock(&archive);
            archive.add_manifests(&image, &target)?;
            archive.finish(&target)
        });
        if let Some((file, engine)) = engine.await? {
            let output = engine.load(file).await?;
            tracing::info!(output, "loaded");
        }
        Ok(())
    }
}

impl Output {
    fn create(kind: &TargetKind) -> Result<Self> {
        let no_file = |error| Error::failed("cannot create a temporary file").with_source(error);
        let (writer, file): (Box<dyn Write + Send>, _) = match kind {
            TargetKind::OciArchive(path) | TargetKind::DockerArchive(path) => {
                if let Some(pipe) = open_pipe(path)? {
                    let writer = pipe.try_clone().map_err(|error| cannot_write(path, error))?;
                    let output =
                        Self { tar: tar::Builder::new(Box::new(writer)), file: Destination::Pipe };
                    return output.with_marker();
                }
                // If the path is a link, its target is replaced.
                let file = OutputFile::create(path)?;
                let writer = file.writer().map_err(|error| cannot_write(path, error))?;
                (Box::new(io::BufWriter::new(writer)), Destination::File(file))
            }
            TargetKind::Engine(engine) => {
                let file = tempfile::tempfile().map_err(no_file)?;
                let writer = file.try_clone().map_err(no_file)?;
                (Box::new(io::BufWriter::new(writer)), Destination::Engine(file, *engine))
            }
            TargetKind::StandardOutput | TargetKind::OciLayout(_) => {
                if io::stdout().is_terminal() {
                    return Err(Error::invalid(
                        "standard output is a terminal: redirect it into a file, or pipe it into docker load",
                    ));
                }
                (Box::new(io::BufWriter::new(io::stdout())), Destination::Pipe)
            }
        };
        Self { tar: tar::Builder::new(writer), file }.with_marker()
    }

    /// Adds the file that identifies the archive as a layout.
    fn with_marker(mut self) -> Result<Self> {
        self.add_bytes(MARKER, json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
        Ok(self)
    }

    fn add_bytes(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.add(name, content.len() as u64, content)
    }

    fn add(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        let mut content = Counted { inner: content, bytes: 0 };
        let added = self.tar.append_data(&mut header, name, &mut content);
        added.map_err(|error| Error::failed("cannot write the archive").with_source(error))?;
        if content.bytes != size {
            let found = content.bytes;
            return Err(Error::failed(format!("{name} has {found} bytes, not {size}")));
        }
        Ok(())
    }

    /// Adds the manifests, the index and the listing.
    fn add_manifests(&mut self, image: &Image, target: &ImageTarget) -> Result<()> {
        for manifest in image.manifests() {
            self.add_bytes(&blob_name(&manifest.digest), &manifest.bytes)?;
        }
        let name = target.name();
        let mut root = named((image.root().descriptor(), name.map(|name| target.ref_name(name))));
        if let Some(name) = name
            && target.is_read_by_docker()
        {
            root.annotations.insert(CONTAINERD_NAME.to_owned(), full_name(name));
        }
        let listed: Vec<Descriptor> =
            [root].into_iter().chain(attached(image).map(named)).collect();
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": listed
        });
        self.add_bytes(INDEX, index.to_string().as_bytes())?;
        if target.is_read_by_docker()
            && let Some(listing) = listing(image, name)?
        {
            self.add_bytes(LISTING, listing.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Finishes the archive, and returns the file that docker or podman loads.
    fn finish(&mut self, target: &ImageTarget) -> Result<Option<(File, Engine)>> {
        let failed = |error| Error::failed(format!("cannot write {target}")).with_source(error);
        self.tar.finish().and_then(|()| self.tar.get_mut().flush()).map_err(failed)?;
        match std::mem::replace(&mut self.file, Destination::Pipe) {
            Destination::Pipe => Ok(None),
            Destination::Engine(mut file, engine) => {
                file.rewind().map_err(failed)?;
                Ok(Some((file, engine)))
            }
            Destination::File(file) => {
                file.publish(b"")?;
                Ok(None)
            }
        }
    }
}

/// Opens a named pipe or a stream of this process for writing; `None` if the path is a file or does not exist.
fn open_pipe(path: &Path) -> Result<Option<File>> {
    let is_stream = path == Path::new("/dev/stdout")
        || ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.starts_with(folder));
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_stream => return Ok(None),
        Err(error) => return Err(cannot_write(path, error)),
    };
    if is_stream || kind.is_fifo() {
        let opened = File::options().write(true).open(path);
        return opened.map(Some).map_err(|error| cannot_write(path, error));
    }
    let path = path.display();
    match kind {
        _ if kind.is_file() => Ok(None),
        _ if kind.is_dir() => Err(Error::invalid(format!("{path} is a folder; write oci:{path}"))),
        _ => Err(Error::invalid(format!("{path} is a device, not a file"))),
    }
}

impl ImageTarget {
    /// Returns whether docker or podman loads the image, which must then be for one platform.
    pub fn is_for_one_platform(&self) -> bool {
        matches!(self.kind, TargetKind::DockerArchive(_) | TargetKind::Engine(_))
    }

    /// Returns whether docker or podman may read the archive, which then has no referrers.
    pub(in crate::transfer) fn is_read_by_docker(&self) -> bool {
        self.is_for_one_platform() || self.kind == TargetKind::StandardOutput
    }

    /// Returns the name in the layout of the archive. For docker, the name is the tag.
    fn ref_name(&self, name: &str) -> String {
        match self.is_for_one_platform() {
            true => familiar(name).rsplit(':').next().unwrap_or(name).to_owned(),
            false => name.to_owned(),
        }
    }
}

/// Returns the name of an image with the default registry and tag of docker.
fn full_name(name: &str) -> String {
    let familiar = familiar(name);
    match format!("docker://{familiar}").parse::<ImageReference>() {
        Ok(image) => image.to_string(),
        Err(_) => familiar,
    }
}

/// Returns the listing of an image; `None` for an index or an artifact.
fn listing(image: &Image, name: Option<&str>) -> Result<Option<Value>> {
    let ManifestContent::Image(content) = image.root().content()? else { return Ok(None) };
    let is_image =
        [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&&*content.config.media_type);
    if !is_image {
        return Ok(None);
    }
    let layers: Vec<String> = content.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
    Ok(Some(json!([{
        "Config": blob_name(&content.config.digest),
        "RepoTags": name.map(|name| vec![familiar(name)]),
        "Layers": layers,
    }])))
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    Error::failed(format!("cannot write {}", path.display())).with_source(error)
}

/// Locks the archive. After a panic in another thread, the lock still works, and the archive is abandoned.
fn lock(archive: &Mutex<Output>) -> std::sync::MutexGuard<'_, Output> {
    archive.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reader of received pieces, which hashes them.
struct Received {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
    digester: Digester,
}

impl Read for &mut Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let Some(piece) = self.receiver.blocking_recv() else { return Ok(0) };
            self.piece = piece;
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        self.digester.update(&buffer[..length]);
        Ok(length)
    }
}

/// A reader that counts its bytes.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
