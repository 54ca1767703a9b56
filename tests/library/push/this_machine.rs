//! Transfers between files and a local registry on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::{OrganizationId, Reference, RepositoryPath};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::{Copy, ImageSource, ImageTarget, Pull, Push};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt as _};
use tempfile::TempDir;

use super::{Sources, damage};

const OTHER: &str = "6b2f0dd4-7a2b-4a07-93a5-1a2b3c4d5e6f";

/// A local registry without a server.
struct Unserved {
    backend: LocalBackend,
    path: RepositoryPath,
    folder: TempDir,
}

impl Unserved {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(Some(folder.path())).unwrap();
        let path = Self::create(&backend, OrganizationId::TBD, "a").await;
        Self { backend, path, folder }
    }

    async fn create(
        backend: &LocalBackend,
        organization: OrganizationId,
        name: &str,
    ) -> RepositoryPath {
        let path = backend.repository_path(organization, &name.parse().unwrap()).unwrap();
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        path
    }

    fn push(&self, source: ImageSource) -> Push {
        let push = Push::new(Arc::new(self.backend.clone()), &self.path, source);
        push.with_tag("v1".parse().unwrap()).with_local(&self.backend)
    }

    fn pull(&self, path: &RepositoryPath, target: &Path) -> Pull {
        let reference: Reference = "v1".parse().unwrap();
        let target = ImageTarget::oci_layout(target);
        Pull::new(Arc::new(self.backend.clone()), path, reference, target).with_local(&self.backend)
    }

    /// Asserts that no temporary copies remain. After a dropped push, they end and are removed within a moment.
    async fn assert_no_leftovers(&self) {
        for _ in 0..500 {
            if self.files("imports").is_empty() && self.files("uploads").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left: {:?} {:?}", self.files("imports"), self.files("uploads"));
    }

    /// Returns the files with this name below the registry's folder.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.components().any(|part| part.as_os_str() == name) => {
                        found.push(path);
                    }
                    false => {}
                }
            }
        }
        found
    }
}

/// Returns an image whose layers are smaller than, as large as, and larger than one copied block.
fn image() -> SampleImage {
    let builder = SampleImage::builder().with_random_layer(1).with_random_layer(1 << 20);
    builder.with_random_layer((3 << 20) + 17).build()
}

fn blobs(layout: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let files = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|file| file.unwrap());
    let content = |file: fs::DirEntry| {
        (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())
    };
    files.map(content).collect()
}

#[tokio::test]
async fn layout_and_archive_keep_every_blob() {
    let sources = Sources::new(image());
    let expected = blobs(&sources.path("layout"));
    for source in [sources.layout(), ImageSource::oci_archive(archive(&sources))] {
        let registry = Unserved::new().await;
        let pushed = registry.push(source.clone()).await.unwrap();
        assert_eq!(pushed.digest(), &sources.image.digest());
        assert_eq!(pushed.blobs_sent, 4);
        assert_eq!(registry.push(source).await.unwrap().blobs_skipped, 4);

        // Blobs are not mounted between organizations, so the files are copied.
        let other = OTHER.parse().unwrap();
        let other = Unserved::create(&registry.backend, other, "b").await;
        let backend: Arc<dyn RegistryBackend> = Arc::new(registry.backend.clone());
        let copy = Copy::new(backend, &registry.path, "v1".parse().unwrap(), &other);
        let copied = copy.with_tag("v1".parse().unwrap()).with_local(&registry.backend).await;
        assert_eq!(copied.unwrap().blobs_sent, 4);

        let target = registry.folder.path().join("pulled");
        let pulled = registry.pull(&other, &target).await.unwrap();
        assert_eq!(pulled.blobs_fetched, 4);
        assert!(blobs(&target) == expected);
        registry.assert_no_leftovers().await;
    }
}

/// Writes the sample image as an OCI archive, in which layers are ranges of one file.
fn archive(sources: &Sources) -> PathBuf {
    let archive = sources.path("layout.tar");
    let tar = std::process::Command::new("tar")
        .args([
            "-cf",
            archive.to_str().unwrap(),
            "-C",
            sources.path("layout").to_str().unwrap(),
            ".",
        ])
        .status();
    assert!(tar.unwrap().success());
    archive
}

#[tokio::test]
async fn damaged_file_is_not_published() {
    let sources = Sources::new(image());
    damage(&sources.layer());
    let registry = Unserved::new().await;
    let error = registry.push(sources.layout()).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    let expected = format!("{} is damaged: it is not sha256:", sources.layer().display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    registry.assert_no_leftovers().await;
    assert_eq!(registry.files("tags"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn damaged_blob_of_the_registry_is_not_pulled() {
    let sources = Sources::new(image());
    let registry = Unserved::new().await;
    registry.push(sources.layout()).await.unwrap();
    let largest = |file: &PathBuf| fs::metadata(file).unwrap().len();
    let blob = registry.files("blobs").into_iter().max_by_key(largest).unwrap();
    damage(&blob);
    let target = registry.folder.path().join("pulled");
    let error = registry.pull(&registry.path, &target).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} is damaged", blob.display())), "{error}");
    assert!(!target.join("index.json").exists());
}

#[tokio::test]
async fn dropped_push_stops_and_leaves_nothing() {
    let builder = SampleImage::builder().with_random_layer(64 << 20);
    let sources = Sources::new(builder.build());
    let registry = Unserved::new().await;
    let push = tokio::time::timeout(Duration::from_millis(20), registry.push(sources.layout()));
    if push.await.is_ok() {
        return; // This machine copied everything before the push could be dropped.
    }
    registry.assert_no_leftovers().await;
}

#[tokio::test]
async fn copies_of_killed_pushes_are_removed() {
    let sources = Sources::new(image());
    let registry = Unserved::new().await;
    registry.push(sources.layout()).await.unwrap();
    let tag = registry.files("tags").remove(0);
    let imports = tag.parent().unwrap().with_file_name("imports");
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for (name, is_old) in [("00000000000000000000000000000001", true), ("new", false)] {
        let file = fs::File::create(imports.join(name)).unwrap();
        file.set_modified(if is_old { hour_ago } else { std::time::SystemTime::now() }).unwrap();
    }
    let other = Sources::new(SampleImage::new("another"));
    registry.push(other.layout()).await.unwrap();
    assert_eq!(registry.files("imports"), [imports.join("new")]);
}

#[tokio::test]
async fn short_file_is_named() {
    let sources = Sources::new(image());
    let file = fs::File::options().write(true).open(sources.layer()).unwrap();
    file.set_len(0).unwrap();
    let registry = Unserved::new().await;
    let error = registry.push(sources.layout()).await.unwrap_err().to_string();
    assert!(error.contains(&sources.layer().display().to_string()), "{error}");
}
