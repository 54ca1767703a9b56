//! Tests hostile archives and layouts.

use super::*;

/// Adds a member with an extended header.
fn extended(mut tar: Tar, records: &[(&str, &str)], name: &str, content: &[u8]) -> Tar {
    let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
    tar.0.append_pax_extensions(records).unwrap();
    tar.file(name, content)
}

#[test]
fn wrong_size_in_extended_header_is_rejected() {
    for size in ["4294967296", "18446744073709551615", "18446744073709551000"] {
        let archive = extended(Tar::new(), &[("size", size)], "l", b"layer");
        let (_folder, source) = archive.image(&["l"], &[diff_id(b"layer")]).save();
        let fault = fault(&source);
        let known = ["it ends in the middle of l", "the tar archive has an invalid header before"];
        assert!(known.iter().any(|known| fault.contains(known)), "{size}: {fault}");
    }
}

#[test]
fn sparse_file_is_rejected() {
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1099511627776")];
    let (_folder, source) =
        extended(Tar::new(), &records, "l", b"1\n0\n0\n").image(&["l"], &[diff_id(b"")]).save();
    let expected = "its member l is a sparse file; write the archive without tar's --sparse";
    assert!(fault(&source).ends_with(expected), "{}", fault(&source));
}

#[test]
fn repeated_member_with_other_content_is_rejected() {
    let large = vec![7; 300_000];
    let mut other = large.clone();
    other[299_999] = 8;
    for (first, second) in [
        (&b"for the scanner"[..], &b"for the unpacker"[..]),
        (b"same size 1", b"same size 2"),
        (b"", b"x"),
        (&large, &other),
    ] {
        let (_folder, source) =
            Tar::new().file("l", first).file("./l", second).image(&["l"], &[diff_id(first)]).save();
        let fault = fault(&source);
        assert!(fault.ends_with("it has several members l that differ"), "{fault}");
    }
    let different = [
        Tar::new().image(&[], &[]).image(&["l"], &[]),
        Tar::new().image(&[], &[]).link(tar::EntryType::Symlink, "manifest.json", "config.json"),
        Tar::new().link(tar::EntryType::Directory, "manifest.json", "x").image(&[], &[]),
    ];
    for tar in different {
        let (_folder, source) = tar.save();
        let fault = fault(&source);
        assert!(fault.ends_with("it has several members manifest.json that differ"), "{fault}");
    }
    // The image does not use this member.
    let (_folder, source) = Tar::new().file("x", b"1").file("x", b"2").image(&[], &[]).save();
    assert!(open(&source).is_ok(), "{}", fault(&source));
}

#[test]
fn repeated_identical_member_is_accepted() {
    let link = |tar: Tar, kind| tar.link(kind, "link", "l");
    let large = vec![7; 300_000];
    let archive = Tar::new()
        .file("l", &large)
        .file("l", &large)
        .link(tar::EntryType::Link, "l", "l")
        .link(tar::EntryType::Directory, "blobs", "x")
        .link(tar::EntryType::Directory, "blobs", "x");
    let archive = link(link(archive, tar::EntryType::Symlink), tar::EntryType::Symlink);
    let diff_ids = vec![diff_id(&large); 2];
    let (_folder, source) =
        archive.image(&["l", "link"], &diff_ids).image(&["l", "link"], &diff_ids).save();
    assert_eq!(open(&source).unwrap().blobs().len(), 2);
}

#[test]
fn error_of_other_file_shows_no_bytes() {
    let utf16 = |order: fn(u16) -> [u8; 2], text: &str| -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(order).collect()
    };
    let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}", "SECRET".repeat(200));
    let binary: Vec<u8> =
        (0..2000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    // The header has a wrong checksum.
    let mut header = Tar::new().file("SECRET", b"SECRET").bytes();
    header[0] = b'T';
    for (content, kind) in [
        (key.into_bytes(), ": it looks like text"),
        (b"SECRET".to_vec(), ": it looks like text"),
        ("SECRÉT".repeat(200).into_bytes(), ": it looks like text"),
        (b"\n<!DOCTYPE HTML><title>SECRET</title>".to_vec(), ": it looks like an HTML page"),
        (b"<html><body>404 SECRET</body></html>".to_vec(), ": it looks like an HTML page"),
        (
            b"<?xml version=\"1.0\"?><Error>SECRET</Error>".to_vec(),
            ": it looks like an XML document",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:SECRET\nsize 12345\n".to_vec(),
            ": it looks like a Git LFS pointer; fetch the file with git lfs pull",
        ),
        (b"PK\x03\x04SECRET".to_vec(), ": it looks like a zip archive"),
        (utf16(u16::to_le_bytes, &"SECRET".repeat(200)), "write the archive with --output"),
        (utf16(u16::to_be_bytes, "SECRET"), "write the archive with --output"),
        (binary, "is not a tar archive"),
        (header, "is not a tar archive"),
    ] {
        for packed in [content.clone(), zstd::encode_all(&content[..], 1).unwrap()] {
            let (_folder, source) = save(&packed);
            let error = open(&source).unwrap_err();
            let text = format!("{} {error:?}", fault(&source));
            assert!(fault(&source).contains("is not a tar archive"), "{text}");
            assert!(fault(&source).ends_with(kind), "{text}");
            assert!(!text.contains("SECR"), "{text}");
        }
    }
    assert!(fault(&save(b"").1).ends_with("image.tar is empty"));
    let twice = zstd::encode_all(&zstd::encode_all(&b"x"[..], 1).unwrap()[..], 1).unwrap();
    assert!(fault(&save(&twice).1).ends_with("it looks like a file that is compressed twice"));
}

#[test]
fn error_of_invalid_header_shows_no_bytes() {
    let mut bytes = Tar::new().file("l", b"layer").bytes();
    bytes.truncate(1024);
    bytes.extend("SECRET".repeat(500).bytes());
    let (_folder, source) = save(&bytes);
    let text = format!("{} {:?}", fault(&source), open(&source).unwrap_err());
    assert!(text.contains("the tar archive has an invalid header before byte 1536"), "{text}");
    assert!(!text.contains("SECR"), "{text}");
}

#[test]
fn missing_file_in_layout_is_an_error() {
    let image = sample("x");
    for missing in [image.digest(), image.blobs().next().unwrap().0] {
        let (folder, source) = layout(&image);
        fs::remove_file(blob_file(&folder, &missing)).unwrap();
        let error = open(&source).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        assert!(
            error.to_string().contains("the layout is incomplete, it lacks the file"),
            "{error}"
        );
    }
}

#[test]
fn oci_archive_is_checked_against_its_descriptors() {
    let image = sample("x");
    let damaged = |digest: &Digest, content: &[u8]| {
        let (folder, _) = layout(&image);
        fs::write(blob_file(&folder, digest), content).unwrap();
        let (_folder, source) = Tar::new().folder(folder.path()).save_oci();
        fault(&source)
    };
    let layer = image.blobs().next().unwrap().0;
    assert!(damaged(&layer, b"short").ends_with("it has 5 bytes, and should have 2048"));
    assert!(damaged(&image.digest(), b"{}").contains("its content is sha256:"));
    let large = damaged(&image.digest(), &vec![b' '; 5 << 20]);
    assert!(large.ends_with("is larger than 4194304 bytes"), "{large}");
    let (folder, _) = layout(&image);
    let path = blob_file(&folder, &layer);
    fs::remove_file(&path).unwrap();
    let name = format!("blobs/sha256/{}", layer.hex());
    let (_folder, source) = Tar::new()
        .folder(folder.path())
        .link(tar::EntryType::Symlink, &name, "../../../etc/passwd")
        .save_oci();
    assert!(fault(&source).ends_with("is a link out of the archive"), "{}", fault(&source));
}

#[test]
fn total_size_of_manifests_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_blob(&folder, media_type::OCI_CONFIG, b"{}");
    let padding = " ".repeat(4_000_000);
    let manifests: Vec<Descriptor> = (0..9)
        .map(|number| {
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
            let content = format!("{manifest}{padding}{}", " ".repeat(number));
            write_blob(&folder, media_type::OCI_MANIFEST, content.as_bytes())
        })
        .collect();
    let index = json!({"manifests": manifests}).to_string();
    let index = write_blob(&folder, media_type::OCI_INDEX, index.as_bytes());
    fs::write(folder.path().join("oci-layout"), "{}").unwrap();
    let top = json!({"manifests": [index]}).to_string();
    fs::write(folder.path().join("index.json"), top).unwrap();
    let source = ImageSource::oci_layout(folder.path());
    let error = open_for(&source, &PlatformChoice::All).unwrap_err().to_string();
    assert!(error.ends_with("its manifests have more than 33554432 bytes"), "{error}");
}

#[test]
fn repeated_index_is_read_once() {
    let (folder, source) = layout(&sample("x"));
    let top = fs::read(folder.path().join("index.json")).unwrap();
    let top: serde_json::Value = serde_json::from_slice(&top).unwrap();
    let mut entry = top["manifests"][0].clone();
    for _ in 0..4 {
        let index = json!({"manifests": vec![entry; 200]}).to_string();
        entry = json!(write_blob(&folder, media_type::OCI_INDEX, index.as_bytes()));
    }
    let top = json!({"manifests": [entry]}).to_string();
    fs::write(folder.path().join("index.json"), top).unwrap();
    assert!(open(&source).is_ok(), "{}", fault(&source));
}
