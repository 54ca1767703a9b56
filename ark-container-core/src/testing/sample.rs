//! [`SampleImageBuilder`]: what is to be in a sample image, and how it gets there.

#![expect(clippy::expect_used, reason = "test code: what is built in memory is always whole")]

use std::io;

use serde::Serialize;
use tokio_util::bytes::Bytes;

use super::SampleImage;
use crate::distribution::ImageManifest;
use crate::error::Result;
use crate::model::{Descriptor, media_type};
use crate::model::{Digest, Platform};

const CREATED: &str = "2026-01-01T00:00:00Z";

/// What is to be in a [`SampleImage`].
///
/// ```
/// use ark_container_core::testing::SampleImage;
///
/// let image = SampleImage::builder()
///     .with_layer([("bin/tool", "#!/bin/sh\n"), ("etc/tool.toml", "")])
///     .with_random_layer(1 << 20)
///     .build();
/// assert_eq!(image.blobs().count(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct SampleImageBuilder {
    seed: u64,
    platforms: Vec<Platform>,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
enum Layer {
    Files(Vec<(String, Vec<u8>)>),
    Random(usize),
    Own,
}

impl SampleImageBuilder {
    pub(super) fn new() -> Self {
        Self { seed: 0, platforms: vec![linux("amd64")], layers: Vec::new() }
    }

    /// This image with another seed: the random layers have other content of the same size.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// This image with one more layer, of these files.
    pub fn with_layer<N: Into<String>, C: Into<Vec<u8>>>(
        mut self,
        files: impl IntoIterator<Item = (N, C)>,
    ) -> Self {
        let files = files.into_iter().map(|(name, content)| (name.into(), content.into()));
        self.layers.push(Layer::Files(files.collect()));
        self
    }

    /// This image with one more layer: a file of `size` bytes that no compression makes smaller.
    pub fn with_random_layer(mut self, size: usize) -> Self {
        self.layers.push(Layer::Random(size));
        self
    }

    /// This image with one more layer, which is another one for each platform.
    pub fn with_own_layer(mut self) -> Self {
        self.layers.push(Layer::Own);
        self
    }

    /// This image for other platforms: an index, if it is not one.
    pub fn with_platforms(self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        Self { platforms: platforms.into_iter().collect(), ..self }
    }

    /// Builds the image in memory.
    ///
    /// # Panics
    /// If the name of a file cannot be in an archive: it is empty, absolute or leads outside.
    pub fn build(&self) -> SampleImage {
        let images: Vec<_> =
            self.platforms.iter().map(|platform| self.build_for(platform)).collect();
        match <[_; 1]>::try_from(images) {
            Ok([image]) => image,
            Err(images) => SampleImage::index(&images.iter().collect::<Vec<_>>()),
        }
    }

    fn build_for(&self, platform: &Platform) -> SampleImage {
        let mut blobs = Vec::new();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let archive = match layer {
                Layer::Files(files) => archive(files),
                Layer::Random(size) => {
                    let content = random(self.seed.wrapping_add(index as u64), *size);
                    archive(&[(format!("random-{index}"), content)])
                }
                Layer::Own => {
                    archive(&[("platform".to_owned(), format!("{platform}\n").into_bytes())])
                }
            };
            layers.push(SampleImage::keep(&mut blobs, media_type::OCI_LAYER, archive));
        }
        let config = config(platform, &layers);
        let config = SampleImage::keep(&mut blobs, media_type::OCI_CONFIG, config);
        SampleImage {
            root: whole(ImageManifest::new(config, layers).to_manifest()),
            platforms: vec![platform.clone()],
            blobs,
            children: Vec::new(),
        }
    }
}

/// Linux on a processor, such as `amd64`.
pub(super) fn linux(architecture: &str) -> Platform {
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
}

/// A manifest that was just written.
pub(super) fn whole<T>(written: Result<T>) -> T {
    written.expect("memory takes it")
}

/// An image's configuration, in one order: its digest must not depend on how a map is sorted.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md>
#[derive(Serialize)]
struct Config<'a> {
    created: &'a str,
    #[serde(flatten)]
    platform: &'a Platform,
    rootfs: RootFs<'a>,
    history: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: Vec<&'a Digest>,
}

#[derive(Clone, Serialize)]
struct Step<'a> {
    created: &'a str,
    created_by: &'a str,
}

fn config(platform: &Platform, layers: &[Descriptor]) -> Bytes {
    let diff_ids = layers.iter().map(|layer| &layer.digest).collect();
    let config = Config {
        created: CREATED,
        platform,
        rootfs: RootFs { r#type: "layers", diff_ids },
        history: vec![Step { created: CREATED, created_by: "sample" }; layers.len()],
    };
    serde_json::to_vec(&config).expect("memory takes it").into()
}

fn archive(files: &[(String, Vec<u8>)]) -> Bytes {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut builder, name, content).expect("the name can be in an archive");
    }
    builder.into_inner().expect("memory takes it").into()
}

/// Adds a file with nothing in its header that differs from one machine or day to another.
pub(super) fn append<W: io::Write>(
    builder: &mut tar::Builder<W>,
    name: &str,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    builder.append_data(&mut header, name, content)
}

/// Bytes that look random and are the same for the same seed: SplitMix64.
///
/// Source: <https://prng.di.unimi.it/splitmix64.c>
fn random(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        content.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    content.truncate(size);
    content
}
