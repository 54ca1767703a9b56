//! Tests docker archives.

use std::collections::HashMap;

use super::*;
use crate::distribution::Manifest;

#[test]
fn docker_archive_has_a_reproducible_image() {
    let image = sample("x");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    image.write_docker_archive(&file, &["team/tool:v1"]).unwrap();
    let found = open(&ImageSource::docker_archive(&file)).unwrap();
    assert_eq!(digests(&found).len(), 2);
    assert!(image.blobs().all(|(digest, _)| digests(&found).contains(&digest)));
    // The layers of the sample are uncompressed, so the manifest is that of the sample.
    assert_eq!(found.root(), image.root());
    // A changed digest would make users send and store all their images again.
    let known = "sha256:7dfb22fc1956aabcf39750c46860a36064e844fec08847dd79af026aa12b96e5";
    assert_eq!(found.root().digest.to_string(), known);
    assert!(found.with_compressed_layers(&HashMap::new()).unwrap().is_none());
    let tar = found.blobs().iter().find(|blob| blob.is_tar()).unwrap();
    let compressed = Descriptor::new(media_type::OCI_LAYER_GZIP, image_digest("gzip"), 4);
    let written = found.with_compressed_layers(&HashMap::from([(tar.digest(), &compressed)]));
    let root = String::from_utf8(written.unwrap().unwrap().root().bytes.to_vec()).unwrap();
    let expected = root_with_layer(image.root(), tar.digest(), tar.size(), &compressed);
    assert_eq!(root, expected);
}

/// Returns the text of a manifest whose uncompressed layer is replaced.
fn root_with_layer(root: &Manifest, tar: &Digest, size: u64, compressed: &Descriptor) -> String {
    let text = String::from_utf8(root.bytes.to_vec()).unwrap();
    let old = serde_json::to_string(&Descriptor::new(media_type::OCI_LAYER, tar.clone(), size));
    text.replace(&old.unwrap(), &serde_json::to_string(compressed).unwrap())
}

#[test]
fn image_in_archive_is_selected_by_tag() {
    let listing = |tags: &[&[&str]]| {
        let config = |index: usize| format!("c{index}");
        let images: Vec<_> = tags
            .iter()
            .enumerate()
            .map(|(index, tags)| json!({"Config": config(index), "RepoTags": tags, "Layers": []}))
            .collect();
        let mut tar = Tar::new();
        for index in 0..tags.len() {
            let content = json!({"author": index, "rootfs": {}}).to_string();
            tar = tar.file(&config(index), content.as_bytes());
        }
        tar.file("manifest.json", json!(images).to_string().as_bytes()).save()
    };
    let (_folder, source) = listing(&[&["h:5000/a:1", "a:latest"], &["b:1"]]);
    for reference in ["h:5000/a:1", "a", "a:latest", "b:1", "docker.io/library/b:1"] {
        assert!(open(&source.clone().with_reference(reference)).is_ok(), "{reference}");
    }
    let choices = "name one of: h:5000/a:1, b:1";
    assert!(fault(&source).ends_with(&format!("has several images; {choices}")));
    let other = source.with_reference("b");
    assert!(fault(&other).ends_with(&format!("has no image b; {choices}")));
    assert!(fault(&listing(&[]).1).ends_with("lists no image"));
    // Images without a name are selected by position.
    let (_folder, source) = listing(&[&[], &["b:1"], &[]]);
    assert!(fault(&source).ends_with("name one of: @0, b:1, @2"), "{}", fault(&source));
    for position in ["@0", "@1", "@2"] {
        assert!(open(&source.clone().with_reference(position)).is_ok(), "{position}");
    }
    assert!(fault(&source.with_reference("@3")).contains("has no image @3"));
}

#[test]
fn image_in_archive_is_selected_by_id() {
    let configs = [&br#"{"rootfs":{},"os":"linux"}"#[..], br#"{"rootfs":{},"os":"windows"}"#];
    let listing = json!([{"Config": "c0", "Layers": []}, {"Config": "c1", "Layers": []}]);
    let (_folder, source) = Tar::new()
        .file("c0", configs[0])
        .file("c1", configs[1])
        .file("manifest.json", listing.to_string().as_bytes())
        .save();
    for config in configs {
        let id = diff_id(config);
        let image = open(&source.clone().with_reference(format!("@{id}"))).unwrap();
        assert_eq!(digests(&image)[0].to_string(), id);
    }
    let other = source.with_reference(diff_id(b"other"));
    assert!(fault(&other).ends_with("name one of: @0, @1"), "{}", fault(&other));
}

#[test]
fn links_within_an_archive_are_followed() {
    let (_folder, source) = Tar::new()
        .file("one/layer.tar", b"layer")
        .link(tar::EntryType::Symlink, "two/layer.tar", "../one/layer.tar")
        .link(tar::EntryType::Link, "three/layer.tar", "two/layer.tar")
        .image(
            &["one/layer.tar", "./two/layer.tar", "three/layer.tar"],
            &vec![diff_id(b"layer"); 3],
        )
        .save();
    let image = open(&source).unwrap();
    assert_eq!(image.blobs().len(), 2);
    let layer = &image.blobs()[1];
    assert_eq!((layer.size(), layer.digest().to_string()), (5, diff_id(b"layer")));
}

#[test]
fn outside_links_and_link_loops_are_rejected() {
    let with_link = |target: &str| {
        let (folder, source) = Tar::new()
            .link(tar::EntryType::Symlink, "l/layer.tar", target)
            .image(&["l/layer.tar"], &[diff_id(b"")])
            .save();
        let fault = fault(&source);
        drop(folder);
        fault
    };
    assert!(with_link("/etc/passwd").ends_with("l/layer.tar is a link out of the archive"));
    assert!(with_link("../../etc/passwd").ends_with("l/layer.tar is a link out of the archive"));
    assert!(with_link("layer.tar").ends_with("the links of its member l/layer.tar form a loop"));
    assert!(with_link("gone").ends_with("it has no member l/layer.tar"));
    let (_folder, source) = Tar::new().image(&["../../etc/passwd"], &[diff_id(b"")]).save();
    assert!(fault(&source).ends_with("../../etc/passwd is outside the archive"));
}

#[test]
fn compressed_layer_is_verified_against_its_diff_id() {
    let content = vec![7; 100_000];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&content).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&content[..], 1).unwrap();
    let archive = |layer: &[u8], diff_id: String| {
        Tar::new().file("l", layer).image(&["l"], &[diff_id]).save()
    };
    for (layer, kind) in [(&gzip, media_type::OCI_LAYER_GZIP), (&zstd, media_type::OCI_LAYER_ZSTD)]
    {
        let (_folder, source) = archive(layer, diff_id(&content));
        let image = open(&source).unwrap();
        assert_eq!(image.blobs()[1].digest().to_string(), diff_id(layer));
        let manifest = String::from_utf8(image.root().bytes.to_vec()).unwrap();
        assert!(manifest.contains(&format!("\"mediaType\":\"{kind}\"")), "{manifest}");

        let other = fault(&archive(layer, diff_id(b"other")).1);
        assert!(other.contains("its member l is damaged: it is not sha256:"), "{other}");
        let cut = fault(&archive(&layer[..layer.len() - 5], diff_id(&content)).1);
        assert!(cut.contains("l in ") && cut.contains(" is damaged"), "{cut}");
        let trailing = fault(&archive(&[layer, &b"rest"[..]].concat(), diff_id(&content)).1);
        assert!(trailing.contains(" is damaged"), "{trailing}");
    }
}

#[test]
fn damaged_archive_is_named_before_sending() {
    let whole = || Tar::new().file("l", &[7; 5000]).image(&["l"], &[diff_id(&[7; 5000])]);
    let bytes = whole().0.into_inner().unwrap();
    assert!(fault(&save(&bytes[..3000]).1).ends_with("it ends in the middle of l"));
    assert!(fault(&save(&bytes[..5632]).1).ends_with("manifest.json is missing"));
    let cut = fault(&save(&bytes[..6000]).1);
    assert!(cut.ends_with("the tar archive ends in the middle of a header"), "{cut}");
    assert!(fault(&save(&bytes[1000..]).1).ends_with("is not a tar archive"));
    let mut overwritten = bytes.clone();
    overwritten[5700..5720].fill(b'x');
    let overwritten = fault(&save(&overwritten).1);
    assert!(overwritten.ends_with("has an invalid header before byte 6144"), "{overwritten}");

    // The size in the header is larger than the file.
    let mut truncated = Tar::new().0;
    let mut header = tar::Header::new_gnu();
    header.set_path("l").unwrap();
    header.set_size(u64::from(u32::MAX));
    header.set_cksum();
    truncated.append(&header, &b""[..]).unwrap();
    assert!(fault(&save(&truncated.into_inner().unwrap()).1).ends_with("in the middle of l"));

    let counted = Tar::new().file("l", b"").image(&["l"], &[]).save();
    assert!(fault(&counted.1).ends_with("its configuration has 0 layers, its listing 1"));
    let large = Tar::new().file("manifest.json", &vec![b' '; 5 << 20]).save();
    assert!(fault(&large.1).ends_with("manifest.json is larger than 4194304 bytes"));
    let invalid = Tar::new().file("manifest.json", b"{").save();
    assert!(fault(&invalid.1).contains("manifest.json in "), "{}", fault(&invalid.1));
    let folder =
        Tar::new().link(tar::EntryType::Directory, "l", "x").image(&["l"], &[diff_id(b"")]);
    assert!(fault(&folder.save().1).ends_with("its member l is a folder"));
}

#[test]
fn error_of_other_format_suggests_the_prefix() {
    let oci = Tar::new().file("oci-layout", b"{}").save();
    assert!(fault(&oci.1).ends_with("name it as oci-archive:FILE"));
    assert!(fault(&Tar::new().file("a", b"").save().1).contains("it is not a docker archive"));
    let (folder, _) = layout(&sample("x"));
    let fault = fault(&ImageSource::docker_archive(folder.path()));
    assert!(fault.ends_with(&format!("name it as oci:{}", folder.path().display())), "{fault}");
    let docker = ImageSource::oci_archive(Tar::new().image(&[], &[]).save().1.path().unwrap());
    assert!(matches!(open(&docker), Err(Error::NotFound { .. })));
    let (_folder, docker) = Tar::new().image(&[], &[]).save_oci();
    assert!(super::fault(&docker).ends_with("name it as docker-archive:FILE"));
    let layout_of_a_file = ImageSource::oci_layout(docker.path().unwrap());
    assert!(
        super::fault(&layout_of_a_file).contains("it is a file, not a folder; name it as oci-arch")
    );
}

#[test]
fn archive_with_oversized_headers_is_rejected() {
    // The long name has 1 TiB. The sparse file needs almost no disk space.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_path("././@LongLink").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(1 << 41).unwrap();
    assert!(
        fault(&ImageSource::docker_archive(path))
            .contains("its headers have more than 67108864 bytes")
    );
}
