//! [`Images`]: images of several layers, some of which they share.

use std::sync::Arc;

use ark_container_core::model::Platform;
use ark_container_core::testing::SampleImage;

use crate::random::Random;
use crate::sandbox::Sandbox;

const SHARED_LAYERS: usize = 4;

/// An image, with the folder in the sandbox that has it as an OCI layout.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) sample: SampleImage,
    pub(super) layout: String,
}

impl Image {
    /// The images that it consists of, each after those that it names.
    pub(super) fn parts(&self) -> impl Iterator<Item = &SampleImage> {
        self.sample.children().iter().chain([&self.sample])
    }
}

/// Makes one image after the other.
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

    /// An image of two shared layers and one of its own; one in four is for two platforms.
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
