use super::super::sample::{INDEX, MANIFEST, Sample, descriptor, index_of};
use super::*;

fn delete(sample: &Sample, path: &RepositoryPath, reference: &str) -> Result<()> {
    sample.store.delete_image(path, &reference.parse().unwrap())
}

fn digests(sample: &Sample, path: &RepositoryPath) -> Vec<Digest> {
    sample.store.images(path).unwrap().into_iter().map(|image| image.digest).collect()
}

/// An image and an index of it.
fn with_index(sample: &Sample, path: &RepositoryPath) -> (Digest, Digest) {
    let child = sample.manifest(path, b"layer");
    let digest = sample.put(path, "child", MANIFEST, &child).unwrap().digest;
    let descriptor = descriptor(MANIFEST, child.as_bytes());
    let index = index_of(INDEX, &[descriptor.clone(), descriptor]);
    (digest, sample.put(path, "index", INDEX, &index).unwrap().digest)
}

#[test]
fn images_are_described_and_the_newest_come_first() {
    let (sample, path) = Sample::with_repository("a");
    let (child, index) = with_index(&sample, &path);
    sample.push_image(&path, "also", b"layer");
    let images = sample.store.images(&path).unwrap();
    assert_eq!([&images[0].digest, &images[1].digest], [&index, &child]);
    assert!(images[0].pushed_at >= images[1].pushed_at);
    let tags = |image: &Image| image.tags.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!([tags(&images[0]), tags(&images[1])], [vec!["index"], vec!["also", "child"]]);
    let platforms: Vec<_> = images.iter().map(|image| image.platforms[0].to_string()).collect();
    assert_eq!(platforms, ["linux/arm64/v8"; 2]);
    let manifest = |digest: &Digest| {
        sample.store.manifest(&path, &digest.clone().into()).unwrap().bytes.len() as u64
    };
    let config = br#"{"os":"linux","architecture":"arm64","variant":"v8"}"#.len() as u64;
    assert_eq!(images[1].size, manifest(&child) + config + b"layer".len() as u64);
    assert_eq!(images[0].size, manifest(&index) + images[1].size, "a child counts once");
}

#[test]
fn an_index_says_what_its_images_run_on() {
    let (sample, path) = Sample::with_repository("a");
    let child = sample.manifest(&path, b"layer");
    sample.put(&path, "child", MANIFEST, &child).unwrap();
    let on = |platform: &str| {
        let descriptor = descriptor(MANIFEST, child.as_bytes());
        descriptor.replacen('{', &format!(r#"{{"platform":{platform},"#), 1)
    };
    let children = [
        on(r#"{"os":"windows","architecture":"amd64","os.version":"10.0"}"#),
        on(r#"{"os":"linux","architecture":"amd64"}"#),
        // Where the index says nothing, the image's own word is taken.
        on(r#"{"os":"unknown","architecture":"unknown"}"#),
    ];
    sample.put(&path, "index", INDEX, &index_of(INDEX, &children)).unwrap();
    let images = sample.store.images(&path).unwrap();
    let platforms: Vec<_> = images[0].platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8", "windows/amd64"]);
}

#[test]
fn the_last_tag_takes_its_image() {
    let (sample, path) = Sample::with_repository("a");
    let digest = sample.push_image(&path, "v1", b"layer");
    sample.push_image(&path, "v2", b"layer");
    delete(&sample, &path, "v1").unwrap();
    assert_eq!(digests(&sample, &path), [digest]);
    delete(&sample, &path, "v2").unwrap();
    assert!(digests(&sample, &path).is_empty());
    let again = delete(&sample, &path, "v2").unwrap_err();
    assert!(matches!(again, Error::NotFound { kind: ResourceKind::Image, .. }));
}

#[test]
fn an_image_of_an_index_stays_until_the_index_goes() {
    let (sample, path) = Sample::with_repository("a");
    let (child, index) = with_index(&sample, &path);
    let error = delete(&sample, &path, &child.to_string()).unwrap_err();
    assert_eq!(error.to_string(), format!("image {path}@{child} is part of the index {index}"));
    delete(&sample, &path, "child").unwrap();
    assert_eq!(digests(&sample, &path), [index.clone(), child.clone()]);
    delete(&sample, &path, &index.to_string()).unwrap();
    delete(&sample, &path, &child.to_string()).unwrap();
    assert!(sample.store.tags(&path).unwrap().is_empty());
}

#[test]
fn foreign_files_among_manifests_and_tags_are_passed_over() {
    let (sample, path) = Sample::with_repository("a");
    let digest = sample.push_image(&path, "v1", b"layer");
    let folder = sample.store.folder(&path).unwrap();
    let manifests = folder.manifests();
    std::fs::write(manifests.join("sha256/README"), "").unwrap();
    std::fs::write(folder.tags().join("not a tag"), "").unwrap();
    std::os::unix::fs::symlink(folder.manifest(&digest), manifests.join("sha512")).unwrap();
    std::os::unix::fs::symlink(folder.tags().join("v1"), folder.tags().join("link")).unwrap();
    let images = sample.store.images(&path).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].tags.len(), 1);
}
