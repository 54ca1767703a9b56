//! docker, podman, skopeo and buildah against a registry that is served.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ark_container_core::distribution::Manifest;
use ark_container_core::model::Digest;
use ark_container_core::testing::SampleImage;

pub(crate) mod docker;
mod login;
mod podman;
mod pushed;
mod refusals;
mod skopeo;

/// Left alone, skopeo compresses the layers that it copies.
pub(crate) const COPY_ALL_AS_IT_IS: &str = "skopeo copy -q --all --preserve-digests";

/// The files of a folder that a client wrote, each of which has the digest that it is named by.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let content = fs::read(folder.join(&name)).unwrap();
        if let Some(hex) = name.get(..64) {
            assert_eq!(sha256(&content), format!("sha256:{hex}"), "{name}");
        }
        files.insert(name, content);
    }
    files
}

/// Compares two folders' files, and names those that differ instead of printing them.
#[track_caller]
pub(crate) fn assert_same(left: &BTreeMap<String, Vec<u8>>, right: &BTreeMap<String, Vec<u8>>) {
    assert!(left.keys().eq(right.keys()), "{:?} and {:?}", left.keys(), right.keys());
    for (name, content) in left {
        assert!(*content == right[name], "{name}");
    }
}

type Blob<'a> = (Digest, &'a [u8]);

/// The configuration of an image, and its layers.
fn config_and_layers(image: &SampleImage) -> (Blob<'_>, Vec<Blob<'_>>) {
    let mut blobs: Vec<_> = image.blobs().collect();
    (blobs.pop().unwrap(), blobs)
}

fn sha256(content: &[u8]) -> String {
    Manifest::new("", content.to_vec()).digest.to_string()
}
