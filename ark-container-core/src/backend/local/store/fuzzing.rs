//! Private parsers of the store, for the fuzz targets.

use super::manifest_content::{ManifestContent, configured_platform};
use crate::model::{Digest, Platform};

/// The blobs and then the manifests that a manifest of this type names; an error where it is none.
pub fn manifest(media_type: &str, bytes: &[u8]) -> Result<(Vec<Digest>, Vec<Digest>), String> {
    let content = ManifestContent::parse(media_type, bytes).map_err(|error| error.to_string())?;
    let blobs = content.blobs().map(|blob| blob.digest().clone()).collect();
    Ok((blobs, content.children().map(|child| child.digest().clone()).collect()))
}

/// The platform that a configuration names.
pub fn platform(config: &[u8]) -> Option<Platform> {
    configured_platform(config)
}
