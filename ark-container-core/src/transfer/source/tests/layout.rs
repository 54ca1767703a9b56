//! Tests layouts in folders and archives: their images, platforms and referrers.

use super::*;
use crate::transfer::Blob;

#[test]
fn layout_is_read_with_all_manifests_and_blobs() {
    let image = SampleImage::for_two_platforms();
    let (folder, source) = layout(&image);
    let found = open_for(&source, &PlatformChoice::All).unwrap();
    assert_eq!(found.root(), image.root());
    let children: Vec<_> = image.children().iter().map(|child| child.root().clone()).collect();
    assert_eq!(found.children(), children);
    // Both images share two layers. Each image has one more layer and a configuration.
    assert_eq!(found.blobs().len(), 6);
    for (digest, content) in image.children().iter().flat_map(SampleImage::blobs) {
        let blob = found.blobs().iter().find(|blob| *blob.digest() == digest).unwrap();
        let path = blob_file(&folder, &digest).canonicalize().unwrap();
        assert_eq!(
            (blob.size(), blob.location()),
            (content.len() as u64, path.display().to_string())
        );
    }
}

#[test]
fn image_in_layout_is_selected_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("v1", "one"), ("v2", "two")] {
        sample(content).write_oci_layout(folder.path(), Some(name)).unwrap();
    }
    let source = ImageSource::oci_layout(folder.path());
    let found = open(&source.clone().with_reference("v2")).unwrap();
    assert_eq!(found.root(), sample("two").root());
    assert!(fault(&source).ends_with("has several images; name one of: v1, v2"));
    let none = source.clone().with_reference("v3");
    assert!(fault(&none).ends_with("has no image v3; name one of: v1, v2"));
    assert!(matches!(open(&none), Err(Error::InvalidInput { .. })));

    let third = sample("three");
    third.write_oci_layout(folder.path(), Some("v2")).unwrap();
    let twice = fault(&source.clone().with_reference("v2"));
    assert!(twice.ends_with("has several images v2; name one of: v1, @1, @2"), "{twice}");
    for selector in [format!("@{}", third.digest()), "@2".to_owned()] {
        let found = open(&source.clone().with_reference(selector)).unwrap();
        assert_eq!(found.root(), third.root());
    }
}

#[test]
fn damaged_layout_is_named_before_sending() {
    let image = sample("x");
    let layer = image.blobs().next().unwrap().0;

    let (folder, source) = layout(&image);
    let path = blob_file(&folder, &layer);
    fs::write(&path, "short").unwrap();
    assert!(fault(&source).ends_with("it has 5 bytes, and should have 2048"), "{}", fault(&source));

    fs::remove_file(&path).unwrap();
    assert!(
        fault(&source)
            .ends_with(&format!("it lacks the file {}", blob_file(&folder, &layer).display()))
    );

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(fault(&source).contains("is a symbolic link, not a file"));
    }

    let (folder, source) = layout(&image);
    let path = blob_file(&folder, &image.digest());
    let changed =
        fs::read_to_string(&path).unwrap().replace("\"schemaVersion\":2", "\"schemaVersion\":3");
    fs::write(&path, changed).unwrap();
    assert!(fault(&source).contains("its content is sha256:"));
    fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    assert!(fault(&source).ends_with("is larger than 4194304 bytes"));

    let (folder, source) = layout(&image);
    fs::write(folder.path().join("index.json"), r#"{"manifests":[]}"#).unwrap();
    assert!(fault(&source).ends_with(" lists no image"));
    let outside = r#"{"manifests":[{"mediaType":"m","size":1,"digest":"sha256:../../../passwd"}]}"#;
    fs::write(folder.path().join("index.json"), outside).unwrap();
    assert!(fault(&source).contains("is not a valid digest"));
    fs::remove_file(folder.path().join("oci-layout")).unwrap();
    assert!(fault(&source).ends_with("it is not an OCI layout: the file oci-layout is missing"));
}

#[test]
fn layout_with_other_media_type_is_rejected() {
    let (folder, source) = layout(&sample("x"));
    let index = fs::read_to_string(folder.path().join("index.json")).unwrap();
    let index = index.replace(media_type::OCI_MANIFEST, "text/plain");
    fs::write(folder.path().join("index.json"), index).unwrap();
    assert!(fault(&source).ends_with("\"text/plain\" is not the media type of a manifest"));
}

#[test]
fn deeply_nested_indexes_are_rejected() {
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
    assert!(fault(&source).ends_with("its indexes are nested more than 4 deep"));
}

/// Writes a manifest or index into a layout as its only image.
fn write_root(folder: &TempDir, media_type: &str, content: &str) {
    let digest = Digester::digest(Algorithm::Sha256, content.as_bytes());
    fs::write(blob_file(folder, &digest), content).unwrap();
    let entry = json!({"mediaType": media_type, "digest": digest, "size": content.len(),
        "annotations": null, "platform": {"os": "linux"}, "urls": null});
    let index = json!({"schemaVersion": 2, "mediaType": null, "manifests": [entry]}).to_string();
    fs::write(folder.path().join("index.json"), index).unwrap();
}

#[test]
fn layout_manifest_has_the_rules_of_the_registry() {
    let image = sample("x");
    let text = std::str::from_utf8(&image.root().bytes).unwrap().to_owned();
    let layers = text.find(r#","layers""#).unwrap();
    for (content, expected) in [
        (text.clone(), Ok(2)),
        (format!("{}}}", &text[..layers]), Ok(1)),
        (format!(r#"{},"layers":null}}"#, &text[..layers]), Ok(1)),
        (text.replacen('{', r#"{"annotations":{"a":null},"subject":null,"#, 1), Ok(2)),
        (text.replacen('{', r#"{"Layers":[],"#, 1), Err(r#"the key "Layers" differs"#)),
        (text.replacen('{', r#"{"config":null,"#, 1), Err(r#"the key "config" occurs twice"#)),
        (text.replacen('{', r#"{"manifests":[],"#, 1), Err("only an index has manifests")),
        (text.replacen('2', "1", 1), Err("its schema version is 1, not 2")),
    ] {
        let (folder, source) = layout(&image);
        write_root(&folder, media_type::OCI_MANIFEST, &content);
        match expected {
            Ok(blobs) => {
                let opened = open_for(&source, &PlatformChoice::AsIs).unwrap();
                assert_eq!(opened.blobs().len(), blobs, "{content}");
            }
            Err(expected) => {
                let error = fault(&source);
                assert!(error.starts_with("manifest sha256:"), "{error}");
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}

#[test]
fn index_can_list_hundreds_of_manifests_and_blobs() {
    let image = sample("x");
    let (folder, source) = layout(&image);
    let mut children = Vec::new();
    for number in 0..300 {
        let text = std::str::from_utf8(&image.root().bytes).unwrap();
        let content = text.replacen('{', &format!(r#"{{"annotations":{{"n":"{number}"}},"#), 1);
        let digest = Digester::digest(Algorithm::Sha256, content.as_bytes());
        fs::write(blob_file(&folder, &digest), &content).unwrap();
        children.push(json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest,
            "size": content.len()}));
    }
    let cached = Digester::digest(Algorithm::Sha256, b"cached");
    fs::write(blob_file(&folder, &cached), "cached").unwrap();
    children.push(json!({"mediaType": media_type::OCI_LAYER_GZIP, "digest": cached, "size": 6}));
    let index = json!({"schemaVersion": 2, "manifests": children}).to_string();
    write_root(&folder, media_type::OCI_INDEX, &index);
    let opened = open_for(&source, &PlatformChoice::All).unwrap();
    assert_eq!((opened.children().len(), opened.blobs().len()), (300, 3));
}

fn one(platform: &str) -> PlatformChoice {
    PlatformChoice::One(platform.parse().unwrap())
}

#[test]
fn image_with_missing_platform_is_rejected() {
    let image = SampleImage::builder()
        .with_platforms(
            ["linux/amd64", "linux/arm64", "linux/s390x"].map(|platform| platform.parse().unwrap()),
        )
        .build();
    let (folder, source) = layout(&image);
    let path = folder.path().canonicalize().unwrap();
    for choice in [PlatformChoice::AsIs, PlatformChoice::All] {
        assert_eq!(open_for(&source, &choice).unwrap().root(), image.root());
    }
    fs::remove_file(blob_file(&folder, &image.children()[0].digest())).unwrap();
    for choice in [PlatformChoice::AsIs, PlatformChoice::All] {
        let error = open_for(&source, &choice).unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        let expected = format!(
            "{} does not have all platforms of the image; it has linux/arm64, linux/s390x, and lacks \
             linux/amd64",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    fs::remove_file(blob_file(&folder, &image.children()[1].digest())).unwrap();
    assert!(open(&source).is_err() && open_for(&source, &PlatformChoice::All).is_err());
}

#[test]
fn platforms_listed_in_layout_are_one_image() {
    let folder = tempfile::tempdir().unwrap();
    for architecture in ["amd64", "arm64"] {
        let image = SampleImage::for_architecture("x", architecture);
        image.write_oci_layout(folder.path(), Some("v1")).unwrap();
    }
    let arm = SampleImage::for_architecture("x", "arm64");
    let source = ImageSource::oci_layout(folder.path());
    for source in [source.clone(), source.clone().with_reference("v1")] {
        let whole = open(&source).unwrap();
        assert_eq!(
            (whole.root().media_type.as_str(), whole.children().len()),
            (media_type::OCI_INDEX, 2)
        );
        assert_eq!(open_for(&source, &one("linux/arm64")).unwrap().root(), arm.root());
        assert!(open_for(&source, &one("linux/s390x")).is_err());
    }
    assert_eq!(open(&source.with_reference("@1")).unwrap().root(), arm.root());
}

#[test]
fn selected_platform_is_read_without_the_index() {
    let image = SampleImage::for_two_platforms();
    let (folder, source) = layout(&image);
    // The other platform may be missing.
    fs::remove_file(blob_file(&folder, &image.children()[0].digest())).unwrap();
    let found = open_for(&source, &one("linux/arm64/v8")).unwrap();
    assert_eq!(found.root(), image.children()[1].root());
    assert!(found.children().is_empty());
    assert_eq!(found.blobs().len(), image.children()[1].blobs().count());
    let error = open_for(&source, &one("linux/s390x")).unwrap_err().to_string();
    let expected = "has no image for linux/s390x; it has: linux/arm64";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn image_without_index_has_platform_of_its_config() {
    let (_folder, source) = layout(&SampleImage::for_architecture("x", "arm64"));
    for choice in [one("linux/arm64"), PlatformChoice::AsIs, PlatformChoice::All] {
        assert!(open_for(&source, &choice).is_ok(), "{choice:?}");
    }
    let error = open_for(&source, &one("linux/amd64")).unwrap_err().to_string();
    assert!(error.ends_with("has no image for linux/amd64; it has: linux/arm64"), "{error}");
}

#[test]
fn platform_variant_is_optional_if_unambiguous() {
    let platforms = ["linux/arm/v6", "linux/arm/v7", "linux/amd64/v3"];
    let platforms = platforms.map(|platform| platform.parse().unwrap());
    let image = SampleImage::builder().with_own_layer().with_platforms(platforms).build();
    let (_folder, source) = layout(&image);
    let found = |choice: &str| open_for(&source, &one(choice)).unwrap().root().clone();
    assert_eq!(found("linux/arm/v6"), *image.children()[0].root());
    assert_eq!(found("linux/arm"), *image.children()[1].root());
    assert_eq!(found("linux/amd64"), *image.children()[2].root());
    assert!(open_for(&source, &one("linux/arm/v5")).is_err());
}

#[test]
fn attestation_is_read_and_is_no_platform() {
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
    assert_eq!(found.root().digest, index.digest);
    assert_eq!(found.children().len(), 2);
    let found = open_for(&source, &one("linux/amd64")).unwrap();
    assert_eq!(found.root(), root);
}

/// Adds a referrer of `subject` to a layout.
fn refer(folder: &TempDir, subject: &Descriptor, content: &str) -> Descriptor {
    let config = write_blob(folder, "application/vnd.oci.empty.v1+json", b"{}");
    let layer = write_blob(folder, "text/plain", content.as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "config": config, "layers": [layer], "subject": subject});
    let entry = write_blob(folder, media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
    let path = folder.path().join("index.json");
    let mut top: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // The referrer precedes its subject, since the order must not matter.
    top["manifests"].as_array_mut().unwrap().insert(0, json!(entry));
    fs::write(path, top.to_string()).unwrap();
    entry
}

#[test]
fn image_is_read_with_its_referrers_only() {
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
    // The layout has only one image, since its referrers are no images.
    let found = open(&source).unwrap();
    assert_eq!(found.root(), image.root());
    let referrers: Vec<_> = found.referrers().iter().map(|found| &found.digest).collect();
    assert_eq!(referrers, [&signature.digest, &countersigned.digest]);
    // Each referrer has a layer, and both share the configuration.
    assert_eq!(found.blobs().len(), image.blobs().count() + 3);

    other.write_oci_layout(folder.path(), Some("v2")).unwrap();
    let foreign = refer(&folder, &entry(&other), "other");
    let found = open(&source.clone().with_reference("v1")).unwrap();
    assert_eq!(found.referrers().len(), 2);
    let found = open(&source.clone().with_reference("v2")).unwrap();
    assert_eq!(found.referrers()[0].digest, foreign.digest);
    assert!(fault(&source).ends_with("has several images; name one of: v1, v2"));
}

#[test]
fn damaged_referrer_has_no_subject() {
    let (folder, source) = layout(&sample("x"));
    let image = sample("x");
    let subject =
        Descriptor::new(image.media_type(), image.digest(), image.manifest().len() as u64);
    let signature = refer(&folder, &subject, "signature");
    fs::write(blob_file(&folder, &signature.digest), "{}").unwrap();
    assert!(fault(&source).contains("has several images"));
}

fn archive(image: &SampleImage, name: Option<&str>) -> Tar {
    let folder = tempfile::tempdir().unwrap();
    image.write_oci_layout(folder.path(), name).unwrap();
    Tar::new().folder(folder.path())
}

#[test]
fn archive_has_the_same_image_as_its_folder() {
    let image = SampleImage::for_two_platforms();
    let (_folder, from_folder) = layout(&image);
    let (_archive, from_archive) = archive(&image, Some("v1")).save_oci();
    let open = |source| open_for(source, &PlatformChoice::All).unwrap();
    let (folder, archive) = (open(&from_folder), open(&from_archive));
    assert_eq!(archive.root(), image.root());
    assert_eq!(archive.children(), folder.children());
    assert_eq!(digests(&archive), digests(&folder));
    let location = archive.blobs()[0].location();
    let path = from_archive.path().unwrap().display().to_string();
    assert!(location.starts_with("blobs/sha256/") && location.ends_with(&path), "{location}");
    // Without a prefix, the format is detected from the members.
    let detected: ImageSource = format!("{path}:v1").parse().unwrap();
    assert_eq!(open(&detected).root(), image.root());
}

#[test]
fn blob_in_archive_is_read_from_its_offset() {
    let image = sample("x");
    let (_folder, source) = archive(&image, None).save_oci();
    let found = open(&source).unwrap();
    // The open file can still be read after it is removed.
    fs::remove_file(source.path().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (digest, content) in image.blobs() {
        let blob = found.blobs().iter().find(|blob| *blob.digest() == digest).unwrap();
        let pieces = runtime.block_on(async {
            let pieces = blob.pieces(1).await.unwrap();
            pieces.try_collect::<Vec<_>>().await.unwrap()
        });
        assert!(pieces.concat() == content[1..], "{digest}");
    }
}

#[test]
fn compressed_archive_has_the_same_image() {
    let image = sample("x");
    let plain = archive(&image, None).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    // Concatenated gzip members are one stream.
    let mut first = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    first.write_all(&plain[..1000]).unwrap();
    let mut members = first.finish().unwrap();
    let mut rest = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    rest.write_all(&plain[1000..]).unwrap();
    members.extend(rest.finish().unwrap());
    for packed in [&gzip, &zstd, &members] {
        let (_folder, source) = save(packed);
        let source = ImageSource::oci_archive(source.path().unwrap());
        assert_eq!(open(&source).unwrap().root(), image.root());
    }
    let (_folder, cut) = save(&gzip[..gzip.len() / 2]);
    assert!(fault(&cut).contains("image.tar cannot be read: "), "{}", fault(&cut));
}

/// Returns an archive of docker 25 or later: a layout with a listing.
fn saved_by_docker(image: &SampleImage) -> Tar {
    let (config, _) = image.blobs().last().unwrap();
    let layers: Vec<String> = image
        .blobs()
        .map(|(digest, _)| format!("blobs/sha256/{}", digest.hex()))
        .take(image.blobs().count() - 1)
        .collect();
    let listing = json!([{"Config": format!("blobs/sha256/{}", config.hex()),
        "RepoTags": ["a:1"], "Layers": layers}]);
    archive(image, None).file("manifest.json", listing.to_string().as_bytes())
}

#[test]
fn uncompressed_layers_of_docker_are_compressed() {
    let (_folder, source) = saved_by_docker(&sample("x")).save();
    let found = open(&source).unwrap();
    assert!(found.blobs().iter().any(Blob::is_tar));
    let wanted = PlatformChoice::One("linux/arm64".parse().unwrap());
    let error = open_for(&source, &wanted).unwrap_err().to_string();
    assert!(error.ends_with("has no image for linux/arm64; it has: linux/amd64"), "{error}");
}

#[test]
fn pulled_image_in_docker_keeps_its_digest() {
    // Docker keeps the index with all platforms, but only the pulled platform.
    let folder = tempfile::tempdir().unwrap();
    let layer = write_blob(&folder, media_type::OCI_LAYER_GZIP, b"\x1f\x8b\x08compressed");
    let config = br#"{"os":"linux","architecture":"arm64","rootfs":{"diff_ids":[]}}"#;
    let config = write_blob(&folder, media_type::OCI_CONFIG, config);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let mut pulled = write_blob(&folder, media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
    let digest = pulled.digest.clone();
    pulled.platform = Some("linux/arm64".parse().unwrap());
    let mut absent = Descriptor::new(media_type::OCI_MANIFEST, image_digest("absent"), 100);
    absent.platform = Some("linux/amd64".parse().unwrap());
    let index = json!({"schemaVersion": 2, "manifests": [absent, pulled]}).to_string();
    let mut index = write_blob(&folder, media_type::OCI_INDEX, index.as_bytes());
    let name = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    index.annotations.extend([
        name("io.containerd.image.name", "docker.io/library/a:1"),
        name("org.opencontainers.image.ref.name", "1"),
    ]);
    let top = json!({"schemaVersion": 2, "manifests": [index]}).to_string();
    fs::write(folder.path().join("index.json"), top).unwrap();
    fs::write(folder.path().join("oci-layout"), "{}").unwrap();
    let listing = json!([{"Config": "x", "RepoTags": ["a:1"], "Layers": ["y"]}]).to_string();
    let (_archive, source) =
        Tar::new().folder(folder.path()).file("manifest.json", listing.as_bytes()).save();
    for reference in ["a:1", "1", "docker.io/library/a:1"] {
        let found = open(&source.clone().with_reference(reference)).unwrap();
        assert_eq!(found.root().digest, digest, "{reference}");
    }
    assert!(
        fault(&source.clone().with_reference("b")).ends_with("name one of: docker.io/library/a:1")
    );
    let error = open_for(&source, &PlatformChoice::All).unwrap_err().to_string();
    assert!(error.ends_with("it has linux/arm64, and lacks linux/amd64"), "{error}");
}
