use super::super::tests::{
    CONFIG, INDEX, LAYER, MANIFEST, Sample, StoredManifest, descriptor, index_of, manifest_of, path,
};
use super::*;
use crate::backend::{CreateOptions, TagMutability};
use crate::model::Tag;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn get(sample: &Sample, path: &RepositoryPath, reference: &str) -> Result<StoredManifest> {
    sample.store.manifest(path, &reference.parse().unwrap())
}

fn tag_names(sample: &Sample, path: &RepositoryPath) -> Vec<String> {
    sample.store.tags(path).unwrap().iter().map(Tag::to_string).collect()
}

#[test]
fn manifests_of_all_kinds_keep_their_bytes() {
    let (sample, path) = Sample::with_repository("a");
    let oci = sample.manifest(&path, b"layer");
    let docker = oci.replace(MANIFEST, DOCKER_MANIFEST) + "\n";
    let index = index_of(INDEX, &[descriptor(MANIFEST, oci.as_bytes())]);
    let list = index_of(DOCKER_LIST, &[descriptor(DOCKER_MANIFEST, docker.as_bytes())]);
    for (tag, media_type, text) in [
        ("oci", MANIFEST, &oci),
        ("docker", DOCKER_MANIFEST, &docker),
        ("index", INDEX, &index),
        ("list", DOCKER_LIST, &list),
    ] {
        let put = sample.put(&path, tag, media_type, text).unwrap();
        for reference in [tag, &put.digest.to_string()] {
            let stored = get(&sample, &path, reference).unwrap();
            assert_eq!(stored.bytes, text.as_bytes());
            assert_eq!((stored.media_type.as_str(), &stored.digest), (media_type, &put.digest));
        }
    }
    assert_eq!(tag_names(&sample, &path), ["docker", "index", "list", "oci"]);
}

#[test]
fn manifest_is_put_by_digest_of_either_algorithm() {
    let (sample, path) = Sample::with_repository("a");
    let text = sample.manifest(&path, b"layer");
    let digest = Digester::digest(Algorithm::Sha512, text.as_bytes());
    sample.put(&path, &digest.to_string(), MANIFEST, &text).unwrap();
    assert_eq!(get(&sample, &path, &digest.to_string()).unwrap().digest, digest);
    assert!(tag_names(&sample, &path).is_empty());
    let wrong = Digester::digest(Algorithm::Sha256, b"else");
    let error = sample.put(&path, &wrong.to_string(), MANIFEST, &text).unwrap_err();
    assert!(matches!(error, PutManifestError::WrongDigest { expected, .. } if expected == wrong));
}

#[test]
fn manifest_with_missing_content_is_rejected() {
    let (sample, path) = Sample::with_repository("a");
    let (config, layer) = (descriptor(CONFIG, b"{}"), descriptor(LAYER, b"layer"));
    let text = manifest_of(MANIFEST, &config, std::slice::from_ref(&layer));
    let missing =
        |media_type: &str, text: &str| match sample.put(&path, "v1", media_type, text).unwrap_err()
        {
            PutManifestError::Missing(digest) => digest,
            error => panic!("{error}"),
        };
    assert_eq!(missing(MANIFEST, &text), Digester::digest(Algorithm::Sha256, b"{}"));
    sample.push_blob(&path, b"{}");
    assert_eq!(missing(MANIFEST, &text), Digester::digest(Algorithm::Sha256, b"layer"));
    // A blob with the content of a manifest is not a manifest.
    let index = index_of(INDEX, &[descriptor(MANIFEST, text.as_bytes())]);
    let manifest = sample.push_blob(&path, text.as_bytes());
    assert_eq!(missing(INDEX, &index), manifest);
    assert!(sample.store.images(&path).unwrap().is_empty());
    assert!(tag_names(&sample, &path).is_empty());
    sample.push_blob(&path, b"layer");
    sample.put(&path, "v1", MANIFEST, &text).unwrap();
    sample.put(&path, "index", INDEX, &index).unwrap();
}

#[test]
fn descriptor_that_contradicts_its_content_is_invalid() {
    let (sample, path) = Sample::with_repository("a");
    let text = sample.manifest(&path, b"layer");
    sample.put(&path, "v1", MANIFEST, &text).unwrap();
    let (config, layer) = (descriptor(CONFIG, b"{}"), descriptor(LAYER, b"layer"));
    sample.push_blob(&path, b"{}");
    let child = descriptor(MANIFEST, text.as_bytes());
    let size = format!(r#""size":{}"#, text.len());
    for (media_type, text, expected) in [
        (MANIFEST, manifest_of(MANIFEST, &config.replace(":2}", ":3}"), &[]), "has 2 bytes, not 3"),
        (
            MANIFEST,
            manifest_of(MANIFEST, &config, &[layer.replace(":5}", ":4}")]),
            "5 bytes, not 4",
        ),
        (INDEX, index_of(INDEX, &[layer.replace(":5}", ":0}")]), "has 5 bytes, not 0"),
        (INDEX, index_of(INDEX, &[child.replace(&size, r#""size":7"#)]), "bytes, not 7"),
        (INDEX, index_of(INDEX, &[child.replace(MANIFEST, INDEX)]), "v1+json\", not \""),
    ] {
        let error = sample.put(&path, "v2", media_type, &text).unwrap_err();
        assert!(matches!(&error, PutManifestError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn build_caches_have_blobs_in_an_index() {
    let (sample, path) = Sample::with_repository("a");
    let index = index_of(INDEX, &[descriptor(LAYER, b"layer")]);
    let error = sample.put(&path, "cache", INDEX, &index).unwrap_err();
    assert!(matches!(error, PutManifestError::Missing(_)));
    sample.push_blob(&path, b"layer");
    sample.put(&path, "cache", INDEX, &index).unwrap();
    let size = sample.store.images(&path).unwrap()[0].size;
    assert_eq!(size, index.len() as u64 + 5);
}

#[test]
fn foreign_layer_may_be_missing() {
    let (sample, path) = Sample::with_repository("a");
    sample.push_blob(&path, b"{}");
    let foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"far");
    let foreign = foreign.replacen('{', r#"{"urls":["https://example.com/far"],"#, 1);
    let text = manifest_of(DOCKER_MANIFEST, &descriptor(CONFIG, b"{}"), &[foreign]);
    sample.put(&path, "v1", DOCKER_MANIFEST, &text).unwrap();
}

#[test]
fn immutable_tag_accepts_only_its_own_image() {
    let sample = Sample::new();
    let path = path("a");
    let options = CreateOptions::default().with_tag_mutability(TagMutability::Immutable);
    sample.store.create_repository(&path, &options).unwrap();
    let first = sample.push_image(&path, "v1", b"one");
    assert_eq!(sample.push_image(&path, "v1", b"one"), first);
    let other = sample.manifest(&path, b"two");
    let error = Error::from(sample.put(&path, "v1", MANIFEST, &other).unwrap_err());
    assert_eq!(error.to_string(), format!("image {path}:v1 is immutable and holds {first}"));
    assert!(matches!(error, Error::Conflict { .. }));
    assert_eq!(get(&sample, &path, "v1").unwrap().digest, first);
    assert_eq!(sample.store.images(&path).unwrap().len(), 1);
}

#[test]
fn manifest_keeps_push_time_while_tag_moves() {
    let (sample, path) = Sample::with_repository("a");
    let first = sample.push_image(&path, "v1", b"one");
    let pushed_at = sample.store.images(&path).unwrap()[0].pushed_at;
    let second = sample.push_image(&path, "v1", b"two");
    assert_eq!(get(&sample, &path, "v1").unwrap().digest, second);
    assert_eq!(sample.push_image(&path, "v1", b"one"), first);
    assert_eq!(get(&sample, &path, "v1").unwrap().digest, first);
    let images = sample.store.images(&path).unwrap();
    assert_eq!(images.len(), 2);
    let image = images.into_iter().find(|image| image.digest == first).unwrap();
    assert_eq!(image.pushed_at, pushed_at);
}

#[test]
fn referrers_are_listed_before_and_after_subject_exists() {
    let (sample, path) = Sample::with_repository("a");
    let subject = sample.manifest(&path, b"subject");
    let reference = descriptor(MANIFEST, subject.as_bytes());
    let plain = sample.manifest(&path, b"signature");
    let referrer = |extra: &str| {
        plain.replacen(
            '{',
            &format!(r#"{{"subject":{reference},{extra}"annotations":{{"k":"v"}},"#),
            1,
        )
    };
    let typed = referrer(r#""artifactType":"text/plain","#);
    let put = sample.put(&path, "typed", MANIFEST, &typed).unwrap();
    let subject_digest = put.subject.unwrap();
    let untyped = sample.put(&path, "untyped", MANIFEST, &referrer("")).unwrap().digest;
    sample.put(&path, "v1", MANIFEST, &subject).unwrap();
    let listed = sample.store.referrers(&path, &subject_digest).unwrap();
    assert_eq!(listed.len(), 2);
    let find = |digest: &Digest| {
        let mut found = listed.iter().filter(|d| d.digest.to_string() == digest.to_string());
        found.next().unwrap()
    };
    let first = find(&put.digest);
    assert_eq!(first.artifact_type.as_deref(), Some("text/plain"));
    assert_eq!(first.annotations["k"], "v");
    assert_eq!(first.size, typed.len() as u64);
    // The artifact type defaults to the media type of the configuration.
    assert_eq!(find(&untyped).artifact_type.as_deref(), Some(CONFIG));
    sample.store.delete_manifest(&path, &untyped).unwrap();
    assert_eq!(sample.store.referrers(&path, &subject_digest).unwrap().len(), 1);
}

#[test]
fn referrer_of_killed_push_is_not_listed() {
    let (sample, path) = Sample::with_repository("a");
    let subject = Digester::digest(Algorithm::Sha256, b"subject");
    let digest = sample.push_image(&path, "v1", b"layer");
    let locked = sample.store.lock(&path).unwrap();
    sample
        .store
        .add_referrer(&locked, &subject, &Digester::digest(Algorithm::Sha256, b"x"))
        .unwrap();
    sample.store.add_referrer(&locked, &subject, &digest).unwrap();
    assert!(sample.store.referrers(&path, &subject).unwrap().is_empty());
}

#[test]
fn deleting_manifest_removes_tags_and_deleting_tag_keeps_it() {
    let (sample, path) = Sample::with_repository("a");
    let one = sample.push_image(&path, "v1", b"one");
    sample.push_image(&path, "v2", b"one");
    sample.push_image(&path, "other", b"two");
    sample.store.delete_tag(&path, &"v1".parse().unwrap()).unwrap();
    let again = sample.store.delete_tag(&path, &"v1".parse().unwrap()).unwrap_err();
    assert_eq!(again.to_string(), format!("image {path}:v1 does not exist"));
    assert_eq!(get(&sample, &path, &one.to_string()).unwrap().digest, one);
    sample.store.delete_manifest(&path, &one).unwrap();
    assert_eq!(tag_names(&sample, &path), ["other"]);
    assert!(get(&sample, &path, &one.to_string()).is_err());
    let again = sample.store.delete_manifest(&path, &one).unwrap_err();
    assert!(matches!(again, Error::NotFound { kind: ResourceKind::Image, .. }));
}

#[test]
fn missing_repository_is_reported_before_missing_image() {
    let sample = Sample::new();
    let kind = |error: Error| match error {
        Error::NotFound { kind, .. } => kind,
        error => panic!("{error}"),
    };
    let missing = path("none");
    let text = manifest_of(MANIFEST, &descriptor(CONFIG, b"{}"), &[]);
    let put = Error::from(sample.put(&missing, "v1", MANIFEST, &text).unwrap_err());
    for error in [
        put,
        get(&sample, &missing, "v1").unwrap_err(),
        sample.store.tags(&missing).unwrap_err(),
        sample.store.images(&missing).unwrap_err(),
        sample.store.delete_tag(&missing, &"v1".parse().unwrap()).unwrap_err(),
    ] {
        assert_eq!(kind(error), ResourceKind::Repository);
    }
    // The rejected requests created no folders.
    assert!(!sample.folder.path().join("prod").exists());
}

#[test]
fn truncated_manifest_is_an_error() {
    let (sample, path) = Sample::with_repository("a");
    let digest = sample.push_image(&path, "v1", b"layer");
    let file = sample.store.folder(&path).unwrap().manifest(&digest);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let error = get(&sample, &path, "v1").unwrap_err();
    assert_eq!(error.to_string(), format!("{} is damaged", file.display()));
}

#[test]
fn manifest_beyond_the_limits_is_invalid() {
    let (sample, path) = Sample::with_repository("a");
    let text = sample.manifest(&path, b"layer");
    let with = |fields: &str| text.replacen('{', &format!("{{{fields},"), 1);
    let annotations = |count: usize, value: &str| {
        let entries: Vec<_> = (0..count).map(|n| format!(r#""{n:04}":"{value}""#)).collect();
        entries.join(",")
    };
    let own = |entries: String| with(&format!(r#""annotations":{{{entries}}}"#));
    let unknown: Vec<_> = (0..10_001).map(|n| format!(r#""x{n}":0"#)).collect();
    let platform = format!(r#"{{"os":"{}","architecture":"b"}}"#, "a".repeat(256 * 1024));
    let child = descriptor(MANIFEST, text.as_bytes());
    let on = child.replacen('{', &format!(r#"{{"platform":{platform},"#), 1);
    sample.put(&path, "v1", MANIFEST, &text).unwrap();
    for (media_type, manifest, expected) in [
        (MANIFEST, own(annotations(1001, "")), "it has 1001 annotations, of at most 1000"),
        // A control character has six bytes in JSON.
        (MANIFEST, own(annotations(1000, &r"\u0001".repeat(50))), "bytes, of at most 262144"),
        (MANIFEST, with(&unknown.join(",")), "more than 10000 annotations and unknown fields"),
        (INDEX, index_of(INDEX, &[on]), "bytes, of at most 262144"),
    ] {
        let error = sample.put(&path, "v2", media_type, &manifest).unwrap_err();
        assert!(matches!(&error, PutManifestError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    sample.put(&path, "v2", MANIFEST, &own(annotations(1000, &"v".repeat(240)))).unwrap();
    // The limits do not apply to manifests of other registries.
    ManifestContent::parse(MANIFEST, with(&unknown.join(",")).as_bytes()).unwrap();
}

#[test]
fn annotations_of_older_versions_are_listed_within_the_limits() {
    let (sample, path) = Sample::with_repository("a");
    let subject = descriptor(MANIFEST, sample.manifest(&path, b"subject").as_bytes());
    let text = sample.manifest(&path, b"referrer");
    let text =
        text.replacen('{', &format!(r#"{{"subject":{subject},"annotations":{{"a":"b"}},"#), 1);
    let put = sample.put(&path, "v1", MANIFEST, &text).unwrap();
    let file = sample.store.folder(&path).unwrap().manifest(&put.digest);
    let stored = std::fs::read_to_string(&file).unwrap();
    let long = format!(r#""annotations":{{"long":"{}","#, "x".repeat(300_000));
    let many: Vec<_> = (0..2000).map(|n| format!(r#""{n}":"c""#)).collect();
    let older = stored.replacen(r#""annotations":{"#, &format!("{long}{},", many.join(",")), 1);
    std::fs::write(&file, older).unwrap();
    let [listed] = &sample.store.referrers(&path, &put.subject.unwrap()).unwrap()[..] else {
        panic!()
    };
    assert_eq!(listed.annotations.len(), 1000);
    assert!(!listed.annotations.contains_key("long"));
    assert_eq!(get(&sample, &path, "v1").unwrap().bytes, text.as_bytes());
}
