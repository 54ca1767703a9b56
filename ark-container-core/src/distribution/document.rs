//! [`Manifest`]: manifests and indexes as bytes, and as far as it matters for moving images, their JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;

use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Algorithm, Descriptor, Digest, media_type};

/// A manifest or index: its bytes, which are never changed, with their type and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// What it is called.
    pub digest: Digest,
    /// Its type, in the registry's header or its author's descriptor.
    pub media_type: String,
    /// The JSON as it was written.
    pub bytes: Bytes,
}

impl Manifest {
    /// The largest that registries take, in bytes.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>
    pub const MAX_LEN: usize = 4 * 1024 * 1024;

    /// A manifest that is called by its SHA-256.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::with_algorithm(media_type, bytes, Algorithm::Sha256)
    }

    /// A manifest that is called by the hash of a given function.
    pub fn with_algorithm(
        media_type: impl Into<String>,
        bytes: impl Into<Bytes>,
        algorithm: Algorithm,
    ) -> Self {
        let bytes = bytes.into();
        let digest = Digester::digest(algorithm, &bytes);
        Self { digest, media_type: media_type.into(), bytes }
    }
}

/// What a manifest says: one configuration, and layers from the lowest up.
///
/// Its fields are written in this order, and must be for ever: the digest of the same image would
/// change with it.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    #[serde(default)]
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl ImageManifest {
    /// An OCI manifest.
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_MANIFEST.to_owned(), config, layers }
    }

    /// This manifest as it is put.
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_MANIFEST, json(self)?))
    }
}

/// What an index says: its manifests. The answer to a question for referrers has the same form.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md>
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    #[serde(default)]
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    /// An OCI index.
    #[cfg(feature = "testing")]
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_INDEX.to_owned(), manifests }
    }

    /// This index as it is put.
    #[cfg(feature = "testing")]
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_INDEX, json(self)?))
    }
}

/// What a manifest says that refers to another.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Referring {
    pub(crate) subject: Descriptor,
    artifact_type: Option<String>,
    config: Option<Typed>,
    annotations: Option<BTreeMap<String, String>>,
}

/// A descriptor, of which only the type matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: String,
}

impl Referring {
    /// What a manifest says; `None` if it refers to none.
    pub(crate) fn of(manifest: &Manifest) -> Option<Self> {
        serde_json::from_slice(&manifest.bytes).ok()
    }

    /// What lists of referrers say of the manifest.
    pub(super) fn describe(self, manifest: &Manifest) -> Descriptor {
        let Manifest { digest, media_type, bytes } = manifest;
        let own = self.artifact_type.filter(|own| !own.is_empty());
        Descriptor {
            artifact_type: own.or(self.config.map(|config| config.media_type)),
            annotations: self.annotations.unwrap_or_default(),
            ..Descriptor::new(media_type, digest.clone(), bytes.len() as u64)
        }
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document)
        .map_err(|error| Error::failed("writing a manifest").with_source(error))
}
