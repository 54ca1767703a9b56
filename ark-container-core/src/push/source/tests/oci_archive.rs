//! Archives of the OCI layout, alone and within those of docker.

use super::*;

fn archive(image: &SampleImage, name: Option<&str>) -> Tar {
    let folder = tempfile::tempdir().unwrap();
    image.write_oci_layout(folder.path(), name).unwrap();
    Tar::new().folder(folder.path())
}

#[test]
fn an_archive_gives_what_its_folder_gives() {
    let image = SampleImage::for_two_platforms();
    let (_folder, from_folder) = layout(&image);
    let (_archive, from_archive) = archive(&image, Some("v1")).save_oci();
    let open = |source| open_for(source, &PlatformChoice::All).unwrap();
    let (folder, archive) = (open(&from_folder), open(&from_archive));
    assert_eq!(archive.root(), Some(image.root()));
    assert_eq!(archive.children(), folder.children());
    assert_eq!(digests(&archive), digests(&folder));
    let place = archive.parts()[0].local().place();
    let path = from_archive.path().unwrap().display().to_string();
    assert!(place.starts_with("blobs/sha256/") && place.ends_with(&path), "{place}");
    // Without a prefix it is told from what is in it.
    let told: ImageSource = format!("{path}:v1").parse().unwrap();
    assert_eq!(open(&told).root(), Some(image.root()));
}

#[test]
fn what_is_read_of_an_archive_is_the_blob() {
    let image = sample("x");
    let (_folder, source) = archive(&image, None).save_oci();
    let found = open(&source).unwrap();
    // The file is kept open: what becomes of its name is of no concern.
    fs::remove_file(source.path().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (digest, content) in image.blobs() {
        let parts = found.parts();
        let part = parts.iter().find(|part| *part.local().digest() == digest).unwrap();
        let pieces = runtime.block_on(async {
            let pieces = part.local().pieces(1).await.unwrap();
            pieces.try_collect::<Vec<_>>().await.unwrap()
        });
        assert!(pieces.concat() == content[1..], "{digest}");
    }
}

#[test]
fn an_archive_that_is_compressed_gives_the_same() {
    let image = sample("x");
    let plain = archive(&image, None).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    // Several members, one after the other, are one stream for both.
    let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    twice.write_all(&plain[..1000]).unwrap();
    let mut members = twice.finish().unwrap();
    let mut rest = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    rest.write_all(&plain[1000..]).unwrap();
    members.extend(rest.finish().unwrap());
    for packed in [&gzip, &zstd, &members] {
        let (_folder, source) = save(packed);
        let source = ImageSource::oci_archive(source.path().unwrap());
        assert_eq!(open(&source).unwrap().root(), Some(image.root()));
    }
    let (_folder, cut) = save(&gzip[..gzip.len() / 2]);
    assert!(fault(&cut).contains("image.tar cannot be read: "), "{}", fault(&cut));
}

/// What docker 25 and later writes: a layout, with a listing beside it.
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
fn layers_that_docker_left_uncompressed_are_compressed_by_the_push() {
    let (_folder, source) = saved_by_docker(&sample("x")).save();
    let found = open(&source).unwrap();
    assert_eq!(found.root(), None);
    assert!(matches!(found.parts()[1], crate::push::Part::Tar(_)));
    let wanted = PlatformChoice::One("linux/arm64".parse().unwrap());
    let error = open_for(&source, &wanted).unwrap_err().to_string();
    assert!(error.ends_with("has no image for linux/arm64; it has: linux/amd64"), "{error}");
}

#[test]
fn an_image_as_docker_got_it_keeps_its_digest() {
    // Docker has several platforms in its index, and only what it pulled of them.
    let folder = tempfile::tempdir().unwrap();
    let layer = write_blob(&folder, media_type::OCI_LAYER_GZIP, b"\x1f\x8b\x08compressed");
    let config = br#"{"os":"linux","architecture":"arm64","rootfs":{"diff_ids":[]}}"#;
    let config = write_blob(&folder, media_type::OCI_CONFIG, config);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let mut here = write_blob(&folder, media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
    let digest = here.digest.clone();
    here.platform = Some("linux/arm64".parse().unwrap());
    let mut absent = Descriptor::new(media_type::OCI_MANIFEST, image_digest("absent"), 100);
    absent.platform = Some("linux/amd64".parse().unwrap());
    let index = json!({"schemaVersion": 2, "manifests": [absent, here]}).to_string();
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
        assert_eq!(found.root().unwrap().digest, digest, "{reference}");
    }
    assert!(
        fault(&source.clone().with_reference("b")).ends_with("name one of: docker.io/library/a:1")
    );
    let error = open_for(&source, &PlatformChoice::All).unwrap_err().to_string();
    assert!(error.contains("has no member blobs/sha256/"), "{error}");
}

fn image_digest(content: &str) -> Digest {
    Digester::digest(Algorithm::Sha256, content.as_bytes())
}
