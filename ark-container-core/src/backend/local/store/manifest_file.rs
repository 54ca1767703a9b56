//! [`ManifestFile`]: a manifest and what was found out about it, as one file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::durable::cannot;
use super::layout::RepositoryFolder;
use super::rfc3339;
use crate::error::{Error, Result};
use crate::model::{Digest, Platform};

/// What is known of a manifest without reading it: the first line of its file, as JSON.
///
/// It is found out when the manifest is put, so that a listing reads neither manifests nor blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestHeader {
    pub(super) media_type: String,
    #[serde(with = "rfc3339")]
    pub(super) pushed_at: SystemTime,
    /// Of the manifest itself, in bytes.
    pub(super) length: u64,
    /// Of the whole image, in bytes.
    pub(super) image_size: u64,
    pub(super) platforms: Vec<Platform>,
    /// The manifests that an index refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) children: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
    /// What listings of referrers say of it, where it has a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

impl ManifestHeader {
    /// The header of a repository's manifest; `None` if there is none.
    pub(super) fn read(folder: &RepositoryFolder, digest: &Digest) -> Result<Option<Self>> {
        Ok(open(folder, digest)?.map(|(header, _)| header))
    }

    /// The file of a manifest with this header.
    pub(super) fn with_manifest(&self, manifest: &[u8]) -> Result<Vec<u8>> {
        let mut file = serde_json::to_vec(self)
            .map_err(|error| Error::failed("cannot describe a manifest", error))?;
        file.push(b'\n');
        file.extend_from_slice(manifest);
        Ok(file)
    }
}

/// A repository's manifest with its header; `None` if there is none.
pub(super) fn read(
    folder: &RepositoryFolder,
    digest: &Digest,
) -> Result<Option<(ManifestHeader, Vec<u8>)>> {
    let Some((header, mut rest)) = open(folder, digest)? else { return Ok(None) };
    let path = folder.manifest(digest);
    let mut bytes = Vec::new();
    rest.read_to_end(&mut bytes).map_err(cannot("read", &path))?;
    if bytes.len() as u64 != header.length {
        return Err(damaged(&path, format!("{} bytes, not {}", bytes.len(), header.length)));
    }
    Ok(Some((header, bytes)))
}

/// The header, and what has the manifest to give.
fn open(
    folder: &RepositoryFolder,
    digest: &Digest,
) -> Result<Option<(ManifestHeader, impl Read + use<>)>> {
    let path = folder.manifest(digest);
    let Some((file, _)) = folder.open(&path)? else { return Ok(None) };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(cannot("read", &path))?;
    let header = serde_json::from_slice(&line).map_err(|error| damaged(&path, error))?;
    Ok(Some((header, reader)))
}

fn damaged(path: &Path, cause: impl Into<crate::error::BoxError>) -> Error {
    Error::failed(format!("{} is damaged", path.display()), cause)
}
