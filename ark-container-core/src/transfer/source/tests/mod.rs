//! Tests valid and invalid sources on the disk.

mod docker_archive;
mod hostile;
mod layout;

use std::error::Error as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use serde_json::json;
use tempfile::TempDir;

use super::ImageSource;
use crate::digester::Digester;
use crate::error::{Error, ResourceKind};
use crate::model::{Algorithm, Descriptor, Digest, media_type};
use crate::testing::SampleImage;
use crate::transfer::{Image, ImageSelector, PlatformChoice};

fn sample(content: &str) -> SampleImage {
    SampleImage::new(content)
}

fn open(source: &ImageSource) -> Result<Image, Error> {
    open_for(source, &PlatformChoice::AsIs)
}

fn open_for(source: &ImageSource, platforms: &PlatformChoice) -> Result<Image, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Image::open(source, platforms))
}

/// Returns the error of opening a source, with its cause.
fn fault(source: &ImageSource) -> String {
    let error = open(source).unwrap_err();
    assert!(!matches!(error, Error::Temporary { .. }), "{error:?}");
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn layout(image: &SampleImage) -> (TempDir, ImageSource) {
    let folder = tempfile::tempdir().unwrap();
    image.write_oci_layout(folder.path(), None).unwrap();
    let source = ImageSource::oci_layout(folder.path());
    (folder, source)
}

fn blob_file(folder: &TempDir, digest: &Digest) -> PathBuf {
    folder.path().join("blobs/sha256").join(digest.hex())
}

fn digests(image: &Image) -> Vec<Digest> {
    image.blobs().iter().map(|blob| blob.digest().clone()).collect()
}

/// Writes a blob into a layout.
fn write_blob(folder: &TempDir, media_type: &str, content: &[u8]) -> Descriptor {
    let digest = Digester::digest(Algorithm::Sha256, content);
    let path = blob_file(folder, &digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    Descriptor::new(media_type, digest, content.len() as u64)
}

/// Builds an archive from members in order.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, content).unwrap();
        self
    }

    fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(kind);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    /// Adds all files of a folder, as `tar -C FOLDER -c .` does.
    fn folder(mut self, folder: &Path) -> Self {
        self.0.append_dir_all(".", folder).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    /// Adds the listing of one image, and its configuration with `diff_ids`.
    fn image(self, layers: &[&str], diff_ids: &[String]) -> Self {
        let config = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let listing = json!([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": layers}]);
        self.file("config.json", config.to_string().as_bytes())
            .file("manifest.json", listing.to_string().as_bytes())
    }

    fn save(self) -> (TempDir, ImageSource) {
        save(&self.bytes())
    }

    fn save_oci(self) -> (TempDir, ImageSource) {
        let (folder, source) = self.save();
        let path = source.path().unwrap().to_owned();
        (folder, ImageSource::oci_archive(path))
    }
}

fn save(content: &[u8]) -> (TempDir, ImageSource) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    fs::write(&file, content).unwrap();
    (folder, ImageSource::docker_archive(file))
}

fn image_digest(content: &str) -> Digest {
    Digester::digest(Algorithm::Sha256, content.as_bytes())
}

fn diff_id(content: &[u8]) -> String {
    Digester::digest(Algorithm::Sha256, content).to_string()
}

#[test]
fn colons_in_path_and_selector_are_distinguished() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("a"), "").unwrap();
    fs::write(at("a:b"), "").unwrap();
    let digest = diff_id(b"");
    let parsed = |text: String| text.parse::<ImageSource>().unwrap();
    for (text, path, selector) in [
        ("a".to_owned(), "a", None),
        ("a:x".to_owned(), "a", Some(ImageSelector::from("x"))),
        ("a:b".to_owned(), "a:b", None),
        ("a:b:@2".to_owned(), "a:b", Some(ImageSelector::Index(2))),
        (format!("a:@{digest}"), "a", Some(ImageSelector::Digest(digest.parse().unwrap()))),
        (format!("a@{digest}"), "a", Some(ImageSelector::Digest(digest.parse().unwrap()))),
    ] {
        for prefix in ["docker-archive:", "oci:", "oci-archive:"] {
            let source = parsed(format!("{prefix}{}", at(&text)));
            assert_eq!(source.path(), Some(Path::new(&at(path))), "{text}");
            assert_eq!(source.selector(), selector.as_ref(), "{text}");
            assert_eq!(parsed(source.to_string()), source, "{text}");
        }
    }
}

#[test]
fn source_kind_is_detected_from_existing_files() {
    let (folder, oci) = layout(&sample("x"));
    let text = folder.path().display().to_string();
    assert_eq!(text.parse::<ImageSource>().unwrap(), oci);
    assert_eq!(format!("{text}:v1").parse::<ImageSource>().unwrap(), oci.with_reference("v1"));
    let (_folder, archive) = Tar::new().image(&[], &[]).save();
    let path = archive.path().unwrap();
    let text = path.display().to_string();
    let detected = text.parse::<ImageSource>().unwrap();
    assert_eq!((detected.path(), detected.to_string()), (Some(path), text));
    assert_eq!(digests(&open(&detected).unwrap()), digests(&open(&archive).unwrap()));
}

#[test]
fn source_kinds_are_printed_as_parsed() {
    for (text, source) in [
        ("docker-daemon:a:1", ImageSource::docker_daemon("a:1")),
        ("docker-daemon:sha256:00ff", ImageSource::docker_daemon("sha256:00ff")),
        ("podman:h.example:5000/a", ImageSource::podman("h.example:5000/a")),
        ("-", ImageSource::standard_input()),
        ("-:a:1", ImageSource::standard_input().with_reference("a:1")),
        ("-:@1", ImageSource::standard_input().with_reference("@1")),
        ("oci-archive:x.tar:v1", ImageSource::oci_archive("x.tar").with_reference("v1")),
    ] {
        let parsed: ImageSource = text.parse().unwrap();
        assert_eq!(parsed, source, "{text}");
        assert_eq!(parsed.to_string(), text);
    }
}

#[test]
fn option_like_image_name_is_rejected() {
    for text in
        ["docker-daemon:--output=x", "podman:-q", "podman:", "docker-daemon:a b", "podman:a\n"]
    {
        let error = text.parse::<ImageSource>().unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{text} {error:?}");
    }
    let built = ImageSource::docker_daemon("--help");
    assert!(fault(&built).ends_with("names an option, not an image"), "{}", fault(&built));
}

#[test]
fn reference_in_docker_is_not_a_selector() {
    let id = diff_id(b"");
    let source = ImageSource::docker_daemon("a:1").with_reference(id.as_str());
    assert_eq!(source, ImageSource::docker_daemon(id.as_str()));
    assert_eq!(source.to_string(), format!("docker-daemon:{id}"));
    assert_eq!(source.selector(), None);
}

#[test]
fn error_of_invalid_source_lists_the_forms() {
    for text in ["", "./nowhere", "/", "-x", "a b"] {
        let error = text.parse::<ImageSource>().unwrap_err().to_string();
        assert!(error.contains("write docker-daemon:REF, podman:REF, "), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = folder.path().display().to_string().parse::<ImageSource>().unwrap_err().to_string();
    assert!(error.contains("the folder has no file oci-layout"), "{error}");
    let error = "oci:".parse::<ImageSource>().unwrap_err().to_string();
    assert_eq!(error, "image source \"oci:\" names no path");
    let error = open(&"oci:/nowhere/to/be/found".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::File, .. }), "{error:?}");
}
