//! [`Place`]: where futures are dropped, and what has to be there afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ark_container_core::backend::CreateOptions;
use ark_container_core::model::{OrganizationId, RegistryHost, RepositoryPath};
use ark_container_core::pull::{Copy, Pull};
use ark_container_core::push::{ImageSource, Push};
use ark_container_core::testing::SampleImage;
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt};
use tokio::time::sleep;

use super::{polls, within};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A backend whose registry is served, and an image that is to be moved.
pub(super) struct Place<'a> {
    pub(super) backend: Arc<dyn RegistryBackend>,
    pub(super) endpoint: RegistryHost,
    pub(super) folder: &'a Path,
    pub(super) image: SampleImage,
}

impl<'a> Place<'a> {
    pub(super) fn new(
        backend: Arc<dyn RegistryBackend>,
        endpoint: RegistryHost,
        folder: &'a Path,
    ) -> Self {
        let image = SampleImage::builder().with_random_layer(3000).with_layer([("small", "one")]);
        let image = image.build();
        image.write_oci_layout(&folder.join("image"), None).unwrap();
        Self { backend, endpoint, folder, image }
    }

    fn pull(&self, path: &RepositoryPath, layout: &Path) -> Pull {
        let pull = Pull::new(self.backend.clone(), path, tag().into(), layout);
        pull.with_endpoint(self.endpoint.clone())
    }

    pub(super) fn repository(&self, name: &str) -> RepositoryPath {
        self.backend.repository_path(OrganizationId::TBD, &name.parse().unwrap()).unwrap()
    }

    pub(super) async fn created(&self, name: &str) -> RepositoryPath {
        let path = self.repository(name);
        self.backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        path
    }

    fn push(&self, path: &RepositoryPath) -> Push {
        Push::new(self.backend.clone(), path, ImageSource::oci_layout(self.folder.join("image")))
            .with_endpoint(self.endpoint.clone())
            .with_cache_directory(self.folder.join("cache"))
            .with_tag(tag())
    }

    pub(super) async fn pushed(&self, path: &RepositoryPath) {
        let pushed = self.push(path).await.unwrap();
        assert_eq!(pushed.digest(), &self.image.digest());
    }

    /// Makes sure that the tag stands for the whole image, or for nothing; whether it does.
    pub(super) async fn is_whole(&self, path: &RepositoryPath) -> bool {
        let layout = tempfile::tempdir_in(self.folder).unwrap();
        match self.pull(path, layout.path()).await {
            Ok(pulled) => {
                assert_eq!(pulled.digest(), &self.image.digest());
                self.assert_whole_layout(layout.path());
                true
            }
            Err(Error::NotFound { .. }) => false,
            Err(error) => panic!("{path}: {error:?}"),
        }
    }

    /// Makes sure that a layout has the image, and no file besides.
    pub(super) fn assert_whole_layout(&self, layout: &Path) {
        let blobs = layout.join("blobs/sha256");
        let manifest = (self.image.digest(), self.image.manifest());
        let mut expected = BTreeSet::new();
        for (digest, content) in self.image.blobs().chain([manifest]) {
            assert_eq!(fs::read(blobs.join(digest.hex())).unwrap(), content);
            expected.insert(digest.hex().to_owned());
        }
        let names = |folder: &Path| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names(&blobs), expected);
        let top: BTreeSet<_> = ["blobs", "index.json", "oci-layout"].map(str::to_owned).into();
        assert_eq!(names(layout), top);
    }

    /// Pushes, dropped ever later, to a repository of its own each; the last one ends by itself.
    pub(super) async fn cut_pushes(&self) -> usize {
        let mut cut = 0;
        for polls in polls() {
            let path = self.created(&format!("push-{polls}")).await;
            let ended = within(polls, self.push(&path).into_future()).await;
            let is_there = self.is_whole(&path).await;
            if let Some(pushed) = ended {
                pushed.unwrap();
                assert!(is_there);
                break;
            }
            cut += 1;
            self.pushed(&path).await;
            assert!(self.is_whole(&path).await, "after {polls} polls");
        }
        cut
    }

    /// Pulls, dropped ever later, into a layout of its own each.
    pub(super) async fn cut_pulls(&self) -> usize {
        let path = self.created("pulled").await;
        self.pushed(&path).await;
        let mut cut = 0;
        for polls in polls() {
            let layout = self.folder.join(format!("pull-{polls}"));
            let ended = within(polls, self.pull(&path, &layout).into_future()).await;
            if let Some(pulled) = ended {
                pulled.unwrap();
                self.assert_whole_layout(&layout);
                break;
            }
            cut += 1;
            // What was dropped may have a moment to write.
            let deadline = Instant::now() + PATIENCE;
            while let Err(error) = self.pull(&path, &layout).await {
                let is_passing = error.is_temporary() && Instant::now() < deadline;
                assert!(is_passing, "after {polls} polls: {error:?}");
                sleep(Duration::from_millis(1)).await;
            }
            self.assert_whole_layout(&layout);
        }
        cut
    }

    /// Copies, dropped ever later, to a repository of its own each.
    pub(super) async fn cut_copies(&self) -> usize {
        let from = self.created("copied").await;
        self.pushed(&from).await;
        let mut cut = 0;
        for polls in polls() {
            let to = self.created(&format!("copy-{polls}")).await;
            let copy = Copy::new(self.backend.clone(), &from, tag().into(), &to)
                .with_endpoint(self.endpoint.clone())
                .with_tag(tag());
            let ended = within(polls, copy.clone().into_future()).await;
            let is_there = self.is_whole(&to).await;
            if let Some(copied) = ended {
                copied.unwrap();
                assert!(is_there);
                break;
            }
            cut += 1;
            copy.await.unwrap();
            assert!(self.is_whole(&to).await, "after {polls} polls");
        }
        cut
    }

    /// Creations, dropped ever later: the repository is there with its settings, or is not.
    pub(super) async fn cut_creations(&self) -> usize {
        let options = CreateOptions::default().with_resource_tag("team", "video");
        let mut cut = 0;
        for polls in polls() {
            let path = self.repository(&format!("create-{polls}"));
            let ended = within(polls, self.backend.create_repository(&path, &options)).await;
            if let Some(created) = ended {
                created.unwrap();
                break;
            }
            cut += 1;
            let again = self.backend.create_repository(&path, &options).await;
            again.unwrap_or_else(|error| panic!("{polls}: {error:?}"));
            let tags = self.backend.describe_repository(&path).await.unwrap().resource_tags;
            assert_eq!(tags.unwrap()["team"], "video", "after {polls} polls");
            self.pushed(&path).await;
        }
        cut
    }
}

fn tag() -> ark_container_core::model::Tag {
    "v1".parse().unwrap()
}
