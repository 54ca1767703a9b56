//! What refers to an image goes along with it.

use super::*;

/// Adds a manifest to a layout that refers to another.
fn refer(folder: &TempDir, subject: &Descriptor, what: &str) -> Descriptor {
    let config = write_blob(folder, "application/vnd.oci.empty.v1+json", b"{}");
    let layer = write_blob(folder, "text/plain", what.as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "config": config, "layers": [layer], "subject": subject});
    let entry = write_blob(folder, media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
    let path = folder.path().join("index.json");
    let mut top: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // The last comes first: nothing may hang on the order.
    top["manifests"].as_array_mut().unwrap().insert(0, json!(entry));
    fs::write(path, top.to_string()).unwrap();
    entry
}

#[test]
fn what_refers_to_the_image_goes_along_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (image, other) = (sample("x"), sample("y"));
    image.write_oci_layout(folder.path(), Some("v1")).unwrap();
    let entry = |image: &SampleImage| {
        let size = image.manifest().len() as u64;
        Descriptor::new(image.media_type(), image.digest(), size)
    };
    let signature = refer(&folder, &entry(&image), "signature");
    let countersigned = refer(&folder, &signature, "signature of the signature");
    let source = ImageSource::oci_layout(folder.path());
    // There is one image, for what refers to it is not one.
    let found = open(&source).unwrap();
    assert_eq!(found.root(), Some(image.root()));
    let referrers: Vec<_> = found.referrers().iter().map(|found| &found.digest).collect();
    assert_eq!(referrers, [&signature.digest, &countersigned.digest]);
    // Of each its layer, and the configuration that both have.
    assert_eq!(found.parts().len(), image.blobs().count() + 3);

    other.write_oci_layout(folder.path(), Some("v2")).unwrap();
    let foreign = refer(&folder, &entry(&other), "other");
    let found = open(&source.clone().with_reference("v1")).unwrap();
    assert_eq!(found.referrers().len(), 2);
    let found = open(&source.clone().with_reference("v2")).unwrap();
    assert_eq!(found.referrers()[0].digest, foreign.digest);
    assert!(fault(&source).ends_with("has several images; name one of: v1, v2"));
}

#[test]
fn a_referrer_that_is_damaged_is_of_no_image() {
    let (folder, source) = layout(&sample("x"));
    let image = sample("x");
    let subject =
        Descriptor::new(image.media_type(), image.digest(), image.manifest().len() as u64);
    let signature = refer(&folder, &subject, "signature");
    fs::write(blob_file(&folder, &signature.digest), "{}").unwrap();
    assert!(fault(&source).contains("has several images"));
}
