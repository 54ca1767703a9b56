//! The media types of manifests, configurations and layers.
//!
//! Sources: <https://github.com/opencontainers/image-spec/blob/v1.1.0/media-types.md> and, for docker,
//! <https://distribution.github.io/distribution/spec/manifest-v2-2/>

/// An OCI manifest: one image.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index: one image for several platforms.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An OCI layer that is not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer, compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer, compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// A docker manifest, schema 2: one image.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A docker manifest list: one image for several platforms.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Returns the docker media type for a layer of this OCI media type, with the same compression.
#[cfg(feature = "push")]
pub(crate) fn docker_layer(media_type: &str) -> &'static str {
    match media_type {
        OCI_LAYER_ZSTD => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        _ => "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
}

/// Returns whether this is the media type of a layer that may not be redistributed. A registry may lack such a layer.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md#non-distributable-layers>
#[cfg(any(feature = "local", feature = "push"))]
pub(crate) fn is_nondistributable(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// Returns whether this is the media type of an index, which lists manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
}

/// Returns whether this is the media type of a manifest, which lists a configuration and layers.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}
