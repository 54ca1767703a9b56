//! Images pushed to real registries, from layouts and archives.

mod compressed;
mod copy;
mod debian_registry;
mod ecr_parts;
mod faults;
mod local_registry;
mod resume;
mod this_machine;
mod unsteady;

use std::fs;
use std::path::{Path, PathBuf};

use ark_container_core::distribution::Manifest;
use ark_container_core::model::{Descriptor, Digest, media_type};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::ImageSource;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a sample image as a layout and as an archive.
struct Sources {
    folder: TempDir,
    image: SampleImage,
}

impl Sources {
    fn new(image: SampleImage) -> Self {
        let folder = tempfile::tempdir().unwrap();
        image.write_oci_layout(&folder.path().join("layout"), Some("sample")).unwrap();
        image.write_docker_archive(&folder.path().join("image.tar"), &["team/tool:v1"]).unwrap();
        Self { folder, image }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn layout(&self) -> ImageSource {
        ImageSource::oci_layout(self.path("layout"))
    }

    fn archive(&self) -> ImageSource {
        ImageSource::docker_archive(self.path("image.tar"))
    }

    /// Adds a manifest that refers to the image to the layout, and returns its digest.
    fn attach(&self, kind: &str) -> Digest {
        let keep = |media_type: &str, content: &str| {
            let blob = Manifest::new(media_type, content.to_owned());
            let file = self.path("layout/blobs/sha256").join(blob.digest.hex());
            fs::write(file, content).unwrap();
            Descriptor::new(media_type, blob.digest, content.len() as u64)
        };
        let root = self.image.root();
        let size = root.bytes.len() as u64;
        let subject = Descriptor::new(&root.media_type, root.digest.clone(), size);
        let referrer = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind,
            "config": keep("application/vnd.oci.empty.v1+json", "{}"),
            "layers": [keep("text/plain", kind)], "subject": subject
        });
        let referrer = keep(media_type::OCI_MANIFEST, &referrer.to_string());
        let index = self.path("layout/index.json");
        let mut top: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        top["manifests"].as_array_mut().unwrap().push(json!(referrer));
        fs::write(index, top.to_string()).unwrap();
        referrer.digest
    }

    /// Returns the file of one of the layout's layers.
    fn layer(&self) -> PathBuf {
        let (digest, _) = self.image.blobs().next().unwrap();
        self.path("layout/blobs/sha256").join(digest.hex())
    }
}

/// Changes one bit in the middle of a file.
fn damage(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(file, content).unwrap();
}
