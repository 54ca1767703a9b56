//! Folders in the OCI layout.

use super::*;

#[test]
fn a_layout_gives_its_index_with_everything_below_it() {
    let image = SampleImage::for_two_platforms();
    let (folder, source) = layout(&image);
    let found = open_for(&source, &PlatformChoice::All).unwrap();
    assert_eq!(found.root(), Some(image.root()));
    let children: Vec<_> = image.children().iter().map(|child| child.root().clone()).collect();
    assert_eq!(found.children(), children);
    // Two layers are shared; a layer and a configuration are each image's own.
    let parts = found.parts();
    assert_eq!(parts.len(), 6);
    for (digest, content) in image.children().iter().flat_map(SampleImage::blobs) {
        let blob = parts.iter().map(|part| part.local()).find(|blob| *blob.digest() == digest);
        let blob = blob.unwrap();
        let place = blob_file(&folder, &digest).canonicalize().unwrap();
        assert_eq!(
            (blob.size(), blob.place()),
            (content.len() as u64, place.display().to_string())
        );
    }
}

#[test]
fn an_image_of_a_layout_is_chosen_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("v1", "one"), ("v2", "two")] {
        sample(content).write_oci_layout(folder.path(), Some(name)).unwrap();
    }
    let source = ImageSource::oci_layout(folder.path());
    let found = open(&source.clone().with_reference("v2")).unwrap();
    assert_eq!(found.root(), Some(sample("two").root()));
    assert!(fault(&source).ends_with("has several images; name one of: v1, v2"));
    let none = source.clone().with_reference("v3");
    assert!(fault(&none).ends_with("has no image v3; name one of: v1, v2"));
    assert!(matches!(open(&none), Err(Error::InvalidInput { .. })));

    sample("three").write_oci_layout(folder.path(), Some("v2")).unwrap();
    assert!(fault(&source.with_reference("v2")).ends_with("several images of the name v2"));
}

#[test]
fn damage_to_a_layout_is_found_and_named_before_anything_is_sent() {
    let image = sample("x");
    let layer = image.blobs().next().unwrap().0;

    let (folder, source) = layout(&image);
    let path = blob_file(&folder, &layer);
    fs::write(&path, "short").unwrap();
    assert!(fault(&source).ends_with("it has 5 bytes, and should have 2048"), "{}", fault(&source));

    fs::remove_file(&path).unwrap();
    assert!(fault(&source).ends_with(&format!("{} does not exist", layer.hex())));

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(fault(&source).ends_with("is a symbolic link, not a file"));
    }

    let (folder, source) = layout(&image);
    let path = blob_file(&folder, &image.digest());
    let turned =
        fs::read_to_string(&path).unwrap().replace("\"schemaVersion\":2", "\"schemaVersion\":3");
    fs::write(&path, turned).unwrap();
    assert!(fault(&source).contains("its content is sha256:"));
    fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    assert!(fault(&source).ends_with("is larger than 4194304 bytes"));

    let (folder, source) = layout(&image);
    fs::write(folder.path().join("index.json"), r#"{"manifests":[]}"#).unwrap();
    assert!(fault(&source).ends_with("it has no image"));
    let outside = r#"{"manifests":[{"mediaType":"m","size":1,"digest":"sha256:../../../passwd"}]}"#;
    fs::write(folder.path().join("index.json"), outside).unwrap();
    assert!(fault(&source).contains("is not a valid digest"));
    fs::remove_file(folder.path().join("oci-layout")).unwrap();
    assert!(fault(&source).ends_with("it is no OCI layout, for it has no file oci-layout"));
}

#[test]
fn a_layout_of_something_else_than_images_is_refused() {
    let (folder, source) = layout(&sample("x"));
    let index = fs::read_to_string(folder.path().join("index.json")).unwrap();
    let index = index.replace(media_type::OCI_MANIFEST, "text/plain");
    fs::write(folder.path().join("index.json"), index).unwrap();
    assert!(fault(&source).ends_with("\"text/plain\" is no type of a manifest"));
}

#[test]
fn a_tower_of_indexes_is_refused() {
    let (folder, source) = layout(&sample("x"));
    let mut index = fs::read_to_string(folder.path().join("index.json")).unwrap();
    for _ in 0..8 {
        let digest = Digester::digest(Algorithm::Sha256, index.as_bytes());
        fs::write(blob_file(&folder, &digest), &index).unwrap();
        let entry =
            json!({"mediaType": media_type::OCI_INDEX, "digest": digest, "size": index.len()});
        index = json!({"manifests": [entry]}).to_string();
    }
    fs::write(folder.path().join("index.json"), index).unwrap();
    assert!(fault(&source).ends_with("its indexes name too many others"));
}
