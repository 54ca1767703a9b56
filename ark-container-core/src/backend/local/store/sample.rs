//! Stores, repositories and images for the tests of this module.

use std::io::Read;

use super::manifests::ManifestPut;
use super::{PutManifestError, Store};
use crate::backend::CreateOptions;
use crate::digester::Digester;
use crate::model::{Algorithm, Digest, OrganizationId, RepositoryPath, Stage};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A store in a folder that goes with it.
pub(super) struct Sample {
    pub(super) store: Store,
    pub(super) folder: tempfile::TempDir,
}

impl Sample {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Store::open(folder.path().to_path_buf()).unwrap(), folder }
    }

    /// A store with a repository.
    pub(super) fn with_repository(name: &str) -> (Self, RepositoryPath) {
        let sample = Self::new();
        let path = sample.create(name);
        (sample, path)
    }

    pub(super) fn create(&self, name: &str) -> RepositoryPath {
        let path = path(name);
        self.store.create_repository(&path, &CreateOptions::default()).unwrap();
        path
    }

    /// The store as another process has it.
    pub(super) fn reopened(&self) -> Store {
        Store::open(self.folder.path().to_path_buf()).unwrap()
    }

    pub(super) fn push_blob(&self, path: &RepositoryPath, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        let id = self.store.start_upload(path).unwrap();
        let mut upload = self.store.open_upload(path, &id).unwrap();
        upload.write(bytes).unwrap();
        upload.finish(&digest).unwrap();
        digest
    }

    pub(super) fn read_blob(&self, path: &RepositoryPath, digest: &Digest) -> Vec<u8> {
        let (mut file, size) = self.store.open_blob(path, digest).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        bytes
    }

    /// Pushes an image of one layer to a tag.
    pub(super) fn push_image(&self, path: &RepositoryPath, tag: &str, layer: &[u8]) -> Digest {
        self.put(path, tag, MANIFEST, &self.manifest(path, layer)).unwrap().digest
    }

    /// The manifest of an image whose blobs are pushed.
    pub(super) fn manifest(&self, path: &RepositoryPath, layer: &[u8]) -> String {
        let config = br#"{"os":"linux","architecture":"arm64","variant":"v8"}"#;
        self.push_blob(path, config);
        self.push_blob(path, layer);
        manifest_of(MANIFEST, &descriptor(CONFIG, config), &[descriptor(LAYER, layer)])
    }

    pub(super) fn put(
        &self,
        path: &RepositoryPath,
        reference: &str,
        media_type: &str,
        manifest: &str,
    ) -> Result<ManifestPut, PutManifestError> {
        let reference = reference.parse().unwrap();
        self.store.put_manifest(path, &reference, media_type, manifest.as_bytes())
    }
}

pub(super) fn path(name: &str) -> RepositoryPath {
    path_in(OrganizationId::TBD, name)
}

pub(super) fn path_in(organization: OrganizationId, name: &str) -> RepositoryPath {
    RepositoryPath::new(Stage::default(), organization, name.parse().unwrap()).unwrap()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digester::digest(Algorithm::Sha256, bytes)
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let (digest, size) = (sha256(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

pub(super) fn manifest_of(media_type: &str, config: &str, layers: &[String]) -> String {
    let layers = layers.join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]}}"#
    )
}

pub(super) fn index_of(media_type: &str, manifests: &[String]) -> String {
    let manifests = manifests.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{manifests}]}}"#)
}
