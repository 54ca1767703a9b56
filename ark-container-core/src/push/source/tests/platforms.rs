//! Which platform of an image is meant.

use super::*;

fn one(platform: &str) -> PlatformChoice {
    PlatformChoice::One(platform.parse().unwrap())
}

#[test]
fn of_several_platforms_none_is_guessed() {
    let (folder, source) = layout(&SampleImage::for_two_platforms());
    let path = folder.path().canonicalize().unwrap();
    let error = open(&source).unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "{} has an image for several platforms; choose one (--platform) or all \
             (--all-platforms) of: linux/amd64, linux/arm64",
            path.display()
        )
    );
}

#[test]
fn one_platform_comes_without_the_index_and_the_others() {
    let image = SampleImage::for_two_platforms();
    let (folder, source) = layout(&image);
    // What is not asked for need not be there.
    fs::remove_file(blob_file(&folder, &image.children()[0].digest())).unwrap();
    let found = open_for(&source, &one("linux/arm64/v8")).unwrap();
    assert_eq!(found.root(), Some(image.children()[1].root()));
    assert!(found.children().is_empty());
    assert_eq!(found.parts().len(), image.children()[1].blobs().count());
    let error = open_for(&source, &one("linux/s390x")).unwrap_err().to_string();
    let expected = "has no image for linux/s390x; it has: linux/amd64, linux/arm64";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn an_image_without_an_index_is_for_the_platform_that_it_says() {
    let (_folder, source) = layout(&SampleImage::for_architecture("x", "arm64"));
    for choice in [one("linux/arm64"), PlatformChoice::Only, PlatformChoice::All] {
        assert!(open_for(&source, &choice).is_ok(), "{choice:?}");
    }
    let error = open_for(&source, &one("linux/amd64")).unwrap_err().to_string();
    assert!(error.ends_with("has no image for linux/amd64; it has: linux/arm64"), "{error}");
}

#[test]
fn a_variant_is_to_be_chosen_only_where_there_are_several() {
    let platforms = ["linux/arm/v6", "linux/arm/v7", "linux/amd64/v3"];
    let platforms = platforms.map(|platform| platform.parse().unwrap());
    let image = SampleImage::builder().with_own_layer().with_platforms(platforms).build();
    let (_folder, source) = layout(&image);
    let found = |choice: &str| open_for(&source, &one(choice)).unwrap().root().cloned();
    assert_eq!(found("linux/arm/v6").as_ref(), Some(image.children()[0].root()));
    assert_eq!(found("linux/arm").as_ref(), Some(image.children()[1].root()));
    assert_eq!(found("linux/amd64").as_ref(), Some(image.children()[2].root()));
    assert!(open_for(&source, &one("linux/arm/v5")).is_err());
}

#[test]
fn what_is_attached_to_an_image_is_no_platform_and_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let image = sample("x");
    image.write_oci_layout(folder.path(), None).unwrap();
    let config = write_blob(&folder, media_type::OCI_CONFIG, b"{}");
    let statement = json!({"schemaVersion": 2, "config": config, "layers": []}).to_string();
    let mut attestation = write_blob(&folder, media_type::OCI_MANIFEST, statement.as_bytes());
    attestation.platform = Some("unknown/unknown".parse().unwrap());
    let root = image.root();
    let mut entry = Descriptor::new(&root.media_type, root.digest.clone(), root.bytes.len() as u64);
    entry.platform = Some("linux/amd64".parse().unwrap());
    let index = json!({"schemaVersion": 2, "manifests": [entry, attestation]}).to_string();
    let index = write_blob(&folder, media_type::OCI_INDEX, index.as_bytes());
    let top = json!({"manifests": [index]}).to_string();
    fs::write(folder.path().join("index.json"), top).unwrap();
    let source = ImageSource::oci_layout(folder.path());
    let found = open(&source).unwrap();
    assert_eq!(found.root().unwrap().digest, index.digest);
    assert_eq!(found.children().len(), 2);
    let found = open_for(&source, &one("linux/amd64")).unwrap();
    assert_eq!(found.root(), Some(root));
}
