//! Images pushed to real registries, from layouts and archives.

mod compressed;
mod debian_registry;
mod ecr_parts;
mod faults;
mod local_registry;
mod resume;
mod unsteady;

use std::fs;
use std::path::{Path, PathBuf};

use ark_container_core::push::ImageSource;
use ark_container_core::testing::SampleImage;
use tempfile::TempDir;

/// A folder with a sample image in it, as a layout and as an archive.
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

    /// The file of one of the layout's layers.
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
