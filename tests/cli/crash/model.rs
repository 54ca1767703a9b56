//! The model of the registry: images, operations, and the possible states after them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ark_container_core::distribution::Client;
use ark_container_core::model::{Digest, Platform, Tag};
use ark_container_core::testing::SampleImage;
use futures_util::stream;

use crate::sandbox::{Random, Sandbox, TBD};

/// The possible states of an object: one, or several while an operation on it is unacknowledged.
#[derive(Debug, Clone)]
pub(super) struct Possible<T>(BTreeSet<T>);

impl<T: Ord + Default> Default for Possible<T> {
    fn default() -> Self {
        Self(BTreeSet::from([T::default()]))
    }
}

impl<T: Ord + Clone + Debug> Possible<T> {
    fn change(&mut self, to: T, acknowledged: bool) {
        if acknowledged {
            self.0.clear();
        }
        self.0.insert(to);
    }

    /// Returns whether `state` is the only possible state.
    pub(super) fn is(&self, state: &T) -> bool {
        self.0.len() == 1 && self.0.contains(state)
    }

    /// Checks that `found` is possible. An observed state is certain afterwards.
    pub(super) fn observe(&mut self, what: &dyn Debug, found: &T) {
        assert!(self.0.contains(found), "{what:?} is {found:?}, and may be {:?}", self.0);
        self.0 = BTreeSet::from([found.clone()]);
    }
}

/// A change by an operation.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Repository {
        name: String,
        there: bool,
    },
    Blob {
        name: String,
        digest: Digest,
    },
    /// `blobs` are the blobs that an existing image names.
    Image {
        name: String,
        digest: Digest,
        there: bool,
        blobs: Vec<Digest>,
    },
    Tag {
        name: String,
        tag: Tag,
        target: Option<Digest>,
    },
}

impl Effect {
    /// Returns the effect that a repository has a blob.
    pub(super) fn blob(name: &str, digest: Digest) -> Self {
        Self::Blob { name: name.to_owned(), digest }
    }

    /// Returns the effect that a repository has an image.
    pub(super) fn image(name: &str, image: &SampleImage) -> Self {
        let blobs = image.blobs().map(|(digest, _)| digest).collect();
        Self::Image { name: name.to_owned(), digest: image.digest(), there: true, blobs }
    }

    /// Returns the effect that a tag names an image.
    pub(super) fn tag(name: &str, tag: &Tag, target: Digest) -> Self {
        Self::Tag { name: name.to_owned(), tag: tag.clone(), target: Some(target) }
    }
}

/// The content of a repository. An object without an entry does not exist.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) there: Possible<bool>,
    pub(super) blobs: BTreeMap<Digest, Possible<bool>>,
    pub(super) images: BTreeMap<Digest, Possible<bool>>,
    /// The blobs that images name, including images that do not exist.
    named: BTreeMap<Digest, Vec<Digest>>,
    pub(super) tags: BTreeMap<Tag, Possible<Option<Digest>>>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) repositories: BTreeMap<String, Contents>,
}

impl Model {
    /// Records that an operation with this effect has started.
    pub(super) fn begin(&mut self, effect: &Effect) {
        self.change(effect, false);
    }

    /// Records that the registry acknowledged this effect.
    pub(super) fn acknowledge(&mut self, effect: &Effect) {
        self.change(effect, true);
    }

    fn change(&mut self, effect: &Effect, acknowledged: bool) {
        match effect.clone() {
            Effect::Repository { name, there } => {
                self.contents(name).there.change(there, acknowledged);
            }
            Effect::Blob { name, digest } => {
                let blob = self.contents(name).blobs.entry(digest).or_default();
                blob.change(true, acknowledged);
            }
            Effect::Image { name, digest, there, blobs } => {
                let contents = self.contents(name);
                if there {
                    contents.named.insert(digest.clone(), blobs);
                } else {
                    // Deleting an image also deletes its blobs that no other image needs.
                    for blob in contents.named.get(&digest).into_iter().flatten() {
                        contents.blobs.entry(blob.clone()).or_default().change(false, false);
                    }
                }
                contents.images.entry(digest).or_default().change(there, acknowledged);
            }
            Effect::Tag { name, tag, target } => {
                self.contents(name).tags.entry(tag).or_default().change(target, acknowledged);
            }
        }
    }

    /// Records that blobs without a certain image may be deleted.
    pub(super) fn doubt_unreferenced_blobs(&mut self) {
        for contents in self.repositories.values_mut() {
            let there = |image: &Digest| contents.images.get(image).is_some_and(|it| it.is(&true));
            let named = contents.named.iter().filter(|(image, _)| there(image));
            let referenced: BTreeSet<&Digest> = named.flat_map(|(_, blobs)| blobs).collect();
            for (digest, blob) in &mut contents.blobs {
                if !referenced.contains(digest) {
                    blob.change(false, false);
                }
            }
        }
    }

    fn contents(&mut self, name: String) -> &mut Contents {
        self.repositories.entry(name).or_default()
    }

    /// Returns the repositories that certainly exist.
    pub(super) fn existing(&self) -> Vec<String> {
        let existing = self.repositories.iter().filter(|(_, contents)| contents.there.is(&true));
        existing.map(|(name, _)| name.clone()).collect()
    }
}

impl Contents {
    /// Returns the tags that certainly name an image.
    pub(super) fn tagged(&self) -> Vec<(Tag, Digest)> {
        let tagged = self.tags.iter().filter_map(|(tag, targets)| {
            let mut targets = targets.0.iter();
            match (targets.next(), targets.next()) {
                (Some(Some(digest)), None) => Some((tag.clone(), digest.clone())),
                _ => None,
            }
        });
        tagged.collect()
    }
}

const SHARED_LAYERS: usize = 4;

/// An image, with the folder in the sandbox that has it as an OCI layout.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) sample: SampleImage,
    pub(super) layout: String,
}

impl Image {
    /// Returns the manifests of the image, each after the manifests that it names.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &SampleImage> {
        self.sample.children().iter().chain([&self.sample])
    }
}

/// Generator of images.
#[derive(Debug)]
pub(super) struct Images {
    shared: Vec<Vec<u8>>,
    made: usize,
}

impl Images {
    pub(super) fn new(random: &mut Random) -> Self {
        let shared = (1..=SHARED_LAYERS).map(|n| random.bytes(60_000 * n)).collect();
        Self { shared, made: 0 }
    }

    /// Returns an image with two shared layers and one unique layer. One image in four is for two platforms.
    pub(super) fn next(&mut self, random: &mut Random, sandbox: &Sandbox) -> Arc<Image> {
        let mut builder = SampleImage::builder();
        if random.percent(25) {
            builder = builder.with_platforms(["amd64", "arm64"].map(|architecture| Platform {
                os: "linux".to_owned(),
                architecture: architecture.to_owned(),
                variant: None,
            }));
        }
        builder = builder.with_own_layer();
        for _ in 0..2 {
            let layer = random.pick(&self.shared).unwrap().clone();
            builder = builder.with_layer([("shared", layer)]);
        }
        let len = 1 + random.below(150_000);
        let sample = builder.with_layer([("own", random.bytes(len))]).build();
        self.made += 1;
        let layout = format!("image-{}", self.made);
        sample.write_oci_layout(&sandbox.path(&layout), None).unwrap();
        Arc::new(Image { sample, layout })
    }
}

/// Number of SIGKILL.
const SIGKILL_CODE: i32 = 9;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Create {
        name: String,
    },
    /// Runs the program, which accesses the folder itself.
    Push {
        name: String,
        tag: Tag,
        image: Arc<Image>,
    },
    /// Sends HTTP requests to the server.
    Upload {
        name: String,
        tag: Tag,
        image: Arc<Image>,
    },
    /// Deletes the only tag of an image.
    DeleteImage {
        name: String,
        tag: Tag,
        digest: Digest,
    },
    DeleteRepository {
        name: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Killed,
    Failed(String),
}

impl Operation {
    pub(super) fn repository(&self) -> &str {
        match self {
            Self::Create { name }
            | Self::Push { name, .. }
            | Self::Upload { name, .. }
            | Self::DeleteImage { name, .. }
            | Self::DeleteRepository { name } => name,
        }
    }

    /// Returns the effects of the operation in their order.
    pub(super) fn effects(&self) -> Vec<Effect> {
        let name = self.repository().to_owned();
        match self {
            Self::Create { .. } => vec![Effect::Repository { name, there: true }],
            Self::DeleteRepository { .. } => vec![Effect::Repository { name, there: false }],
            Self::DeleteImage { tag, digest, .. } => vec![
                Effect::Tag { name: name.clone(), tag: tag.clone(), target: None },
                Effect::Image { name, digest: digest.clone(), there: false, blobs: Vec::new() },
            ],
            Self::Push { tag, image, .. } | Self::Upload { tag, image, .. } => {
                let mut effects = Vec::new();
                for part in image.manifests() {
                    let blobs = part.blobs();
                    effects.extend(blobs.map(|(digest, _)| Effect::blob(&name, digest)));
                    effects.push(Effect::image(&name, part));
                }
                effects.push(Effect::tag(&name, tag, image.sample.digest()));
                effects
            }
        }
    }

    /// Returns the command line of the operation. An upload is repeated by the program too.
    fn line(&self) -> String {
        let line = match self {
            Self::Create { name } => format!("--create-repository {name}"),
            Self::Push { name, tag, image } | Self::Upload { name, tag, image } => {
                format!("--push {name}:{tag} --all-platforms --from oci:{}", image.layout)
            }
            Self::DeleteImage { name, tag, .. } => format!("--delete-image {name}:{tag}"),
            Self::DeleteRepository { name } => format!("--delete-repository {name} --force"),
        };
        format!("--quiet {line} --organization {TBD}")
    }

    /// Runs the operation with the program, and kills the process after `kill_after`.
    pub(super) fn run(&self, sandbox: &Sandbox, kill_after: Option<Duration>) -> End {
        let mut command = sandbox.command(&self.line());
        let started = Instant::now();
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(moment) = kill_after {
            while started.elapsed() < moment && process.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(1));
            }
            process.kill().unwrap();
        }
        let output = process.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => End::Done,
            None if output.status.signal() == Some(SIGKILL_CODE) => End::Killed,
            _ => End::Failed(format!("{output:?}")),
        }
    }
}

/// Uploads an image as docker does, with the manifest only under the tag, and reports each acknowledged step.
pub(super) async fn upload(
    client: &Client,
    operation: &Operation,
    mut acknowledged: impl FnMut(Effect),
) -> ark_container_core::Result<()> {
    let Operation::Upload { name, tag, image } = operation else { return Ok(()) };
    for part in image.manifests() {
        for (digest, content) in part.blobs() {
            if !client.blob_exists(&digest).await? {
                let size = content.len() as u64;
                let content = stream::iter([Ok::<_, std::io::Error>(content.to_vec().into())]);
                let upload = client.start_upload().await?;
                client.upload_blob(&upload, &digest, size, content).await?;
            }
            acknowledged(Effect::blob(name, digest));
        }
        let digest = part.digest();
        if digest == image.sample.digest() {
            client.put_manifest(&tag.clone().into(), part.root()).await?;
            acknowledged(Effect::tag(name, tag, digest.clone()));
        } else {
            client.put_manifest(&digest.clone().into(), part.root()).await?;
        }
        acknowledged(Effect::image(name, part));
    }
    Ok(())
}
