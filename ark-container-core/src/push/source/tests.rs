//! Sources good and bad, as files on the disk.

use std::error::Error as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::ImageSource;
use crate::digester::Digester;
use crate::error::{Error, ResourceKind};
use crate::model::Algorithm;
use crate::model::media_type;
use crate::push::LocalImage;
use crate::testing::SampleImage;

fn sample(content: &str) -> SampleImage {
    SampleImage::new(content)
}

fn open(source: &ImageSource) -> Result<LocalImage, Error> {
    super::open(source)
}

/// The whole text of the error of opening a source.
fn fault(source: &ImageSource) -> String {
    let error = open(source).unwrap_err();
    assert!(!matches!(error, Error::Temporary { .. }), "{error:?}");
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn layout(image: &SampleImage) -> (TempDir, ImageSource) {
    let folder = tempfile::tempdir().unwrap();
    image.write_oci_layout(folder.path(), None).unwrap();
    let source = ImageSource::oci_layout(folder.path());
    (folder, source)
}

fn blob_file(folder: &TempDir, digest: &crate::model::Digest) -> PathBuf {
    folder.path().join("blobs/sha256").join(digest.hex())
}

/// A docker archive with the members given, in order.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, content).unwrap();
        self
    }

    fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(kind);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    /// The listing of one image, with a configuration for `diff_ids`.
    fn image(self, layers: &[&str], diff_ids: &[String]) -> Self {
        let config = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let listing = json!([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": layers}]);
        self.file("config.json", config.to_string().as_bytes())
            .file("manifest.json", listing.to_string().as_bytes())
    }

    fn save(self) -> (TempDir, ImageSource) {
        save(&self.0.into_inner().unwrap())
    }
}

fn save(content: &[u8]) -> (TempDir, ImageSource) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    fs::write(&file, content).unwrap();
    (folder, ImageSource::docker_archive(file))
}

fn diff_id(content: &[u8]) -> String {
    Digester::digest(Algorithm::Sha256, content).to_string()
}

#[test]
fn the_longest_path_that_exists_is_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("a"), "").unwrap();
    fs::write(at("a:b"), "").unwrap();
    let parsed = |text: String| text.parse::<ImageSource>().unwrap();
    for (text, path, reference) in [
        ("a", "a", None),
        ("a:", "a", None),
        ("a:x", "a", Some("x")),
        ("a:b", "a:b", None),
        ("a:b:h.example:5000/t/n:v1", "a:b", Some("h.example:5000/t/n:v1")),
        ("none:h.example:5000/t/n:v1", "none", Some("h.example:5000/t/n:v1")),
    ] {
        let source = parsed(format!("docker-archive:{}", at(text)));
        assert_eq!(source.path(), Path::new(&at(path)), "{text}");
        assert_eq!(source.reference(), reference, "{text}");
        assert_eq!(parsed(source.to_string()), source, "{text}");
    }
}

#[test]
fn the_kind_is_told_from_what_is_there() {
    let (folder, oci) = layout(&sample("x"));
    let text = folder.path().display().to_string();
    assert_eq!(text.parse::<ImageSource>().unwrap(), oci);
    assert_eq!(format!("{text}:v1").parse::<ImageSource>().unwrap(), oci.with_reference("v1"));
    let (_folder, archive) = Tar::new().image(&[], &[]).save();
    let text = archive.path().display().to_string();
    assert_eq!(text.parse::<ImageSource>().unwrap(), archive);
}

#[test]
fn what_is_no_source_gets_the_choices_named() {
    for text in ["", "nowhere", "docker-daemon:a:1", "/"] {
        let error = text.parse::<ImageSource>().unwrap_err().to_string();
        assert!(error.ends_with("write oci:DIR[:REF] or docker-archive:FILE[:REF]"), "{error}");
    }
    let error = "oci:".parse::<ImageSource>().unwrap_err().to_string();
    assert_eq!(error, "image source \"oci:\" names no path");
    let error = open(&"oci:/nowhere/to/be/found".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::File, .. }), "{error:?}");
}

#[test]
fn a_layout_gives_its_index_with_everything_below_it() {
    let image = SampleImage::for_two_platforms();
    let (folder, source) = layout(&image);
    let found = open(&source).unwrap();
    assert_eq!(found.root(), image.root());
    let children: Vec<_> = image.children().iter().map(|child| child.root().clone()).collect();
    assert_eq!(found.children(), children);
    // Two layers are shared; a layer and a configuration are each image's own.
    assert_eq!(found.blobs().len(), 6);
    for (digest, content) in image.children().iter().flat_map(SampleImage::blobs) {
        let blob = found.blobs().iter().find(|blob| *blob.digest() == digest).unwrap();
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
    assert_eq!(*found.digest(), sample("two").digest());
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

#[test]
fn a_docker_archive_gives_the_same_image_each_time() {
    let image = sample("x");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    image.write_docker_archive(&file, &["team/tool:v1"]).unwrap();
    let found = open(&ImageSource::docker_archive(&file)).unwrap();
    // The sample's layers are plain tars, so it has the very manifest that is made for the archive.
    assert_eq!(found.root(), image.root());
    let digests: Vec<_> = found.blobs().iter().map(|blob| blob.digest()).collect();
    assert_eq!(digests.len(), 2);
    assert!(image.blobs().all(|(digest, _)| digests.contains(&&digest)));
    // Would it change, all images of users would be sent and stored anew.
    let known = "sha256:7dfb22fc1956aabcf39750c46860a36064e844fec08847dd79af026aa12b96e5";
    assert_eq!(found.digest().to_string(), known);
}

#[test]
fn an_image_of_an_archive_is_chosen_by_its_tag() {
    let listing = |tags: &[&[&str]]| {
        let images: Vec<_> = tags
            .iter()
            .map(|tags| json!({"Config": "c", "RepoTags": tags, "Layers": []}))
            .collect();
        Tar::new()
            .file("c", br#"{"rootfs":{}}"#)
            .file("manifest.json", json!(images).to_string().as_bytes())
            .save()
    };
    let (_folder, source) = listing(&[&["h:5000/a:1", "a:latest"], &["b:1"]]);
    for reference in ["h:5000/a:1", "a", "a:latest", "b:1", "docker.io/library/b:1"] {
        assert!(open(&source.clone().with_reference(reference)).is_ok(), "{reference}");
    }
    let choices = "name one of: h:5000/a:1, a:latest, b:1";
    assert!(fault(&source).ends_with(&format!("has several images; {choices}")));
    let other = source.with_reference("b");
    assert!(fault(&other).ends_with(&format!("has no image b; {choices}")));
    assert!(fault(&listing(&[]).1).ends_with("its listing names no image"));
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
    assert_eq!(
        (image.blobs()[1].size(), image.blobs()[1].digest().to_string()),
        (5, diff_id(b"layer"))
    );
}

#[test]
fn links_out_of_an_archive_or_in_a_circle_are_refused() {
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
    assert!(with_link("layer.tar").ends_with("l/layer.tar is a circle of links"));
    assert!(with_link("gone").ends_with("it has no member l/layer.tar"));
    let (_folder, source) = Tar::new().image(&["../../etc/passwd"], &[diff_id(b"")]).save();
    assert!(fault(&source).ends_with("../../etc/passwd is outside the archive"));
}

#[test]
fn a_layer_that_is_compressed_is_called_by_its_own_digest() {
    for (magic, kind) in [
        (&b"\x1f\x8b\x08rest"[..], media_type::OCI_LAYER_GZIP),
        (&b"\x28\xb5\x2f\xfdrest"[..], media_type::OCI_LAYER_ZSTD),
        (&b""[..], media_type::OCI_LAYER),
    ] {
        let (_folder, source) = Tar::new().file("l", magic).image(&["l"], &[diff_id(b"")]).save();
        let image = open(&source).unwrap();
        assert_eq!(image.blobs()[1].digest().to_string(), diff_id(magic));
        let manifest = String::from_utf8(image.root().bytes.to_vec()).unwrap();
        assert!(manifest.contains(&format!("\"mediaType\":\"{kind}\"")), "{manifest}");
    }
}

#[test]
fn damage_to_an_archive_is_found_and_named_before_anything_is_sent() {
    let whole = || Tar::new().file("l", &[7; 5000]).image(&["l"], &[diff_id(&[7; 5000])]);
    let bytes = whole().0.into_inner().unwrap();
    assert!(fault(&save(&bytes[..3000]).1).ends_with("it ends in the middle of l"));
    assert!(fault(&save(&bytes[..5632]).1).ends_with("for it has no manifest.json"));
    assert!(fault(&save(&bytes[..6000]).1).contains("is no whole archive"));
    assert!(fault(&save(&bytes[1000..]).1).contains("is no whole archive"));

    // A header that promises more than the file has.
    let mut lying = Tar::new().0;
    let mut header = tar::Header::new_gnu();
    header.set_path("l").unwrap();
    header.set_size(u64::from(u32::MAX));
    header.set_cksum();
    lying.append(&header, &b""[..]).unwrap();
    assert!(fault(&save(&lying.into_inner().unwrap()).1).ends_with("in the middle of l"));

    let counted = Tar::new().file("l", b"").image(&["l"], &[]).save();
    assert!(fault(&counted.1).ends_with("its configuration has 0 layers, its listing 1"));
    let large = Tar::new().file("manifest.json", &vec![b' '; 5 << 20]).save();
    assert!(fault(&large.1).ends_with("manifest.json is larger than 4194304 bytes"));
    let nonsense = Tar::new().file("manifest.json", b"{").save();
    assert!(fault(&nonsense.1).contains("manifest.json in "), "{}", fault(&nonsense.1));
    let folder =
        Tar::new().link(tar::EntryType::Directory, "l", "x").image(&["l"], &[diff_id(b"")]);
    assert!(fault(&folder.save().1).ends_with("its member l is a folder"));
}

#[test]
fn what_is_no_docker_archive_gets_a_remedy() {
    assert!(fault(&save(b"\x1f\x8b\x08\0\0\0\0\0\0\0").1).ends_with("first, with gunzip"));
    assert!(fault(&save(b"\x28\xb5\x2f\xfd\0\0\0\0\0\0").1).ends_with("first, with unzstd"));
    let oci = Tar::new().file("oci-layout", b"{}").save();
    assert!(fault(&oci.1).ends_with("unpack it and name the folder, as oci:DIR"));
    assert!(fault(&Tar::new().file("a", b"").save().1).contains("it is no docker archive"));
    let (folder, _) = layout(&sample("x"));
    let fault = fault(&ImageSource::docker_archive(folder.path()));
    assert!(fault.ends_with("is a folder, not a file"), "{fault}");
}

#[test]
fn an_archive_with_too_much_in_its_headers_is_refused() {
    // A name of 65 MiB, as a sparse file would promise it for nothing.
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
    assert!(fault(&ImageSource::docker_archive(path)).contains("too many headers"));
}
