//! Archives and layouts that are made to do harm.

use super::*;

/// A member whose extended header says of it what is given.
fn extended(mut tar: Tar, records: &[(&str, &str)], name: &str, content: &[u8]) -> Tar {
    let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
    tar.0.append_pax_extensions(records).unwrap();
    tar.file(name, content)
}

#[test]
fn made_up_size_in_extended_header_is_refused() {
    for size in ["4294967296", "18446744073709551615", "18446744073709551000"] {
        let archive = extended(Tar::new(), &[("size", size)], "l", b"layer");
        let (_folder, source) = archive.image(&["l"], &[diff_id(b"layer")]).save();
        assert!(fault(&source).contains("is no whole archive"), "{size}: {}", fault(&source));
    }
}

#[test]
fn a_file_with_holes_is_refused() {
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1099511627776")];
    let (_folder, source) =
        extended(Tar::new(), &records, "l", b"1\n0\n0\n").image(&["l"], &[diff_id(b"")]).save();
    assert!(fault(&source).ends_with("its member l is a file with holes"), "{}", fault(&source));
}

#[test]
fn a_member_that_is_there_twice_is_refused() {
    let (_folder, source) = Tar::new()
        .file("l", b"for who checks")
        .file("./l", b"for who unpacks")
        .image(&["l"], &[diff_id(b"for who checks")])
        .save();
    assert!(fault(&source).ends_with("its member l is there twice"), "{}", fault(&source));
    let (_folder, source) = Tar::new().image(&[], &[]).image(&[], &[]).save();
    assert!(fault(&source).ends_with("its member manifest.json is there twice"));
    // Folders harm nobody.
    let folder = |tar: Tar| tar.link(tar::EntryType::Directory, "blobs", "x");
    let (_folder, source) = folder(folder(Tar::new())).image(&[], &[]).save();
    assert!(open(&source).is_ok());
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
fn manifests_that_are_too_much_together_are_refused() {
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
fn index_with_repeated_entries_is_visited_once() {
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
