//! Compares the library's OCI documents with the types of the `oci-spec` crate.

use ark_container_core::model::{Descriptor, media_type};
use ark_container_core::testing::SampleImage;
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};

fn same(own: &Descriptor, other: &oci_spec::image::Descriptor) {
    assert_eq!(own.media_type, other.media_type().as_ref());
    assert_eq!(own.digest.to_string(), other.digest().to_string());
    assert_eq!(own.size, other.size());
}

#[test]
fn sample_images_match_the_oci_specification() {
    let image = SampleImage::for_two_platforms();
    assert_eq!(image.media_type(), media_type::OCI_INDEX);
    let index: ImageIndex = serde_json::from_slice(image.manifest()).unwrap();
    assert_eq!(index.schema_version(), 2);
    assert_eq!(index.manifests().len(), image.children().len());
    for (entry, child) in index.manifests().iter().zip(image.children()) {
        assert_eq!(entry.digest().to_string(), child.digest().to_string());
        let platform = entry.platform().as_ref().unwrap();
        let manifest: ImageManifest = serde_json::from_slice(child.manifest()).unwrap();
        let blob = |digest: String| {
            let mut blobs = child.blobs();
            blobs.find(|(own, _)| own.to_string() == digest).unwrap().1
        };
        let config = blob(manifest.config().digest().to_string());
        let config: ImageConfiguration = serde_json::from_slice(config).unwrap();
        assert_eq!(config.architecture(), platform.architecture());
        assert_eq!(config.os(), platform.os());
        assert_eq!(config.rootfs().diff_ids().len(), manifest.layers().len());
        for layer in manifest.layers() {
            assert_eq!(blob(layer.digest().to_string()).len() as u64, layer.size());
        }
    }
}

#[test]
fn descriptors_convert_in_both_directions() {
    let text = format!(
        r#"{{"mediaType":"application/x","digest":"sha512:{}","size":7,"artifactType":"text/plain",
            "urls":["https://example.com/x"],"annotations":{{"a":"1"}},
            "platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}"#,
        "0f".repeat(64)
    );
    let own: Descriptor = serde_json::from_str(&text).unwrap();
    let other: oci_spec::image::Descriptor =
        serde_json::from_value(serde_json::to_value(&own).unwrap()).unwrap();
    same(&own, &other);
    assert_eq!(other.artifact_type().as_ref().unwrap().as_ref(), "text/plain");
    assert_eq!(other.annotations().as_ref().unwrap()["a"], "1");
    assert_eq!(other.platform().as_ref().unwrap().variant().as_deref(), Some("v8"));
    let back: Descriptor = serde_json::from_value(serde_json::to_value(&other).unwrap()).unwrap();
    assert_eq!(back, own);
}
