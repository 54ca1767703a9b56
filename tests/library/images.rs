//! Images that are inspected, tagged and pruned in a local registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ark_container_core::backend::{CreateOptions, TagMutability};
use ark_container_core::catalog::PruneStep;
use ark_container_core::distribution::Manifest;
use ark_container_core::model::{Access, Digest, OrganizationId, Reference, media_type};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::PlatformChoice;
use ark_container_core::{Catalog, Error};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A catalog over a folder, with a repository `a`.
struct Fixture {
    catalog: Catalog,
    folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_tags(TagMutability::Mutable).await
    }

    async fn with_tags(tag_mutability: TagMutability) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = format!("local:{}", folder.path().join("registry").display());
        let builder = Catalog::builder().with_registry(location.parse().unwrap());
        let builder = builder.with_organization(OrganizationId::TBD);
        let catalog = builder.with_audit(folder.path().join("audit")).connect().await.unwrap();
        let options = CreateOptions::default().with_tag_mutability(tag_mutability);
        catalog.create_with("a", &options).await.unwrap();
        Self { catalog, folder }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Pushes a complete image to the repository `a`.
    async fn push(&self, image: &SampleImage, tag: &str) {
        let layout = self.path(image.digest().hex());
        image.write_oci_layout(&layout, None).unwrap();
        let source = format!("oci:{}", layout.display());
        let push = self.catalog.prepare_push(&format!("a:{tag}"), &source).unwrap();
        push.with_platforms(PlatformChoice::All).await.unwrap();
    }

    /// Puts a referrer of a manifest, by tag or by digest.
    async fn refer(&self, subject: &Manifest, tag: Option<&str>) -> Digest {
        let client = self.catalog.client("a", Access::Push).await.unwrap();
        let config = client.upload_blob_bytes("{}").await.unwrap();
        let descriptor = |media_type: &str, digest: &Digest, size: usize| json!({"mediaType": media_type, "digest": digest, "size": size});
        let mut content = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "artifactType": "application/x.signature",
            "config": descriptor("application/vnd.oci.empty.v1+json", &config, 2), "layers": []
        });
        if tag.is_none() {
            let (digest, size) = (&subject.digest, subject.bytes.len());
            content["subject"] = descriptor(&subject.media_type, digest, size);
        }
        let manifest = Manifest::new(media_type::OCI_MANIFEST, content.to_string());
        let reference: Reference = match tag {
            Some(tag) => tag.parse().unwrap(),
            None => manifest.digest.clone().into(),
        };
        client.put_manifest(&reference, &manifest).await.unwrap();
        manifest.digest
    }

    async fn digests(&self) -> Vec<Digest> {
        let images = self.catalog.images("a").unwrap();
        let mut digests: Vec<_> = images.map_ok(|image| image.digest).try_collect().await.unwrap();
        digests.sort();
        digests
    }

    /// Returns the changes in the audit, as `<action> <reference>`.
    fn changes(&self) -> Vec<String> {
        let audit = std::fs::read_to_string(self.path("audit")).unwrap();
        let events = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let changes = events.filter(|event| event["event"] == "change");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        changes
            .map(|event| format!("{} {}", text(&event["action"]), text(&event["reference"])))
            .collect()
    }
}

fn sorted(mut digests: Vec<Digest>) -> Vec<Digest> {
    digests.sort();
    digests
}

#[tokio::test]
async fn inspected_index_has_platforms_layers_and_referrers() {
    let fixture = Fixture::new().await;
    let image = SampleImage::builder()
        .with_layer([("hello", "hello")])
        .with_own_layer()
        .with_platforms(["linux/amd64", "linux/arm64/v8"].map(|name| name.parse().unwrap()))
        .with_config("Entrypoint", vec!["/bin/tool"])
        .with_config("Cmd", vec!["--help"])
        .with_config("Env", vec!["A=b"])
        .with_config("WorkingDir", "/work")
        .with_config("User", "")
        .with_label("version", "1.2")
        .build();
    fixture.push(&image, "v1").await;
    let child = image.children()[1].root();
    let signature = fixture.refer(child, None).await;
    let tag = format!("sha256-{}.sig", image.digest().hex());
    let tagged = fixture.refer(image.root(), Some(&tag)).await;

    let inspected = fixture.catalog.inspect("a:v1").await.unwrap();
    assert_eq!(inspected.image, fixture.catalog.resolve("a:v1").await.unwrap());
    let [_, arm] = inspected.manifests.as_slice() else { panic!("{inspected:?}") };
    assert_eq!((&arm.digest, arm.size), (&child.digest, image.children()[1].size()));
    // The layer that both platforms have counts once.
    let manifests: u64 = inspected.manifests.iter().map(|manifest| manifest.size).sum();
    let whole = image.size() + manifests - arm.layers[0].size;
    assert_eq!(inspected.image.size, whole);
    assert_eq!(arm.platform, Some("linux/arm64/v8".parse().unwrap()));
    assert_eq!(arm.layers.len(), 2);
    assert!(arm.layers.iter().all(|layer| layer.media_type == media_type::OCI_LAYER), "{arm:?}");
    assert!(arm.created.as_deref().unwrap().ends_with('Z'));
    let config = arm.config.as_ref().unwrap();
    assert_eq!(
        (&*config.entrypoint, &*config.cmd),
        (&["/bin/tool".to_owned()][..], &["--help".to_owned()][..])
    );
    assert_eq!(config.env, ["A=b"]);
    assert_eq!((config.working_dir.as_deref(), &config.user), (Some("/work"), &None));
    assert_eq!(config.labels["version"], "1.2");
    let referrers: Vec<_> =
        inspected.referrers.iter().map(|found| (&found.digest, &found.subject)).collect();
    assert_eq!(referrers, [(&signature, &child.digest), (&tagged, &image.digest())]);
    assert_eq!(inspected.referrers[0].artifact_type.as_deref(), Some("application/x.signature"));
    assert_eq!(inspected.referrers[1].tag, Some(tag.parse().unwrap()));
    assert!(inspected.documents.is_empty());
}

#[tokio::test]
async fn inspected_platform_has_its_documents() {
    let fixture = Fixture::new().await;
    let image = SampleImage::for_two_platforms();
    fixture.push(&image, "v1").await;
    let arm = "linux/arm64".parse().unwrap();
    let inspect = fixture.catalog.inspect("a:v1").with_platform(arm).with_documents(true);
    let inspected = tokio::spawn(inspect.into_future()).await.unwrap().unwrap();
    let child = image.children()[1].root();
    assert_eq!(inspected.image.digest(), &child.digest);
    assert_eq!(inspected.documents.len(), 2);
    assert_eq!(inspected.documents[&child.digest].as_bytes(), &child.bytes);
    let json = serde_json::to_value(&inspected).unwrap();
    let config = json["manifests"][0]["config"]["digest"].as_str().unwrap();
    assert_eq!(json["documents"][config]["architecture"], "arm64");
    assert_eq!(
        (&json["platforms"], &json["digest"]),
        (&json!(["linux/arm64"]), &json!(child.digest))
    );
}

#[tokio::test]
async fn inspected_artifact_has_no_config() {
    let fixture = Fixture::new().await;
    let image = SampleImage::new("signed");
    fixture.push(&image, "v1").await;
    let signature = fixture.refer(image.root(), None).await;
    let inspected = fixture.catalog.inspect(format!("a@{signature}")).await.unwrap();
    let [artifact] = inspected.manifests.as_slice() else { panic!("{inspected:?}") };
    assert_eq!((&artifact.platform, &artifact.config, &artifact.created), (&None, &None, &None));
    assert_eq!(artifact.artifact_type, "application/x.signature");
    let missing = fixture.catalog.inspect("a:v9").await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}

#[tokio::test]
async fn tagged_image_keeps_its_other_tags() {
    let fixture = Fixture::new().await;
    let image = SampleImage::for_two_platforms();
    fixture.push(&image, "v1").await;
    let tagged = fixture.catalog.tag("a:v1", "v2").await.unwrap();
    assert_eq!(tagged.url.reference(), &image.digest().into());
    let by_digest = format!("a@{}", image.digest());
    fixture.catalog.tag(&by_digest, "v2").await.unwrap();
    let described = fixture.catalog.describe_image(&by_digest).await.unwrap();
    assert_eq!(described.tags, ["v1", "v2"].map(|tag| tag.parse().unwrap()));
    assert_eq!(fixture.changes()[2..], ["push v2", "push v2"]);
    let error = fixture.catalog.tag("a:v1", "no tag").await.unwrap_err();
    assert!(matches!(error, Error::Parse(_)), "{error}");
}

#[tokio::test]
async fn immutable_tag_is_not_moved_by_tag() {
    let fixture = Fixture::with_tags(TagMutability::Immutable).await;
    fixture.push(&SampleImage::new("one"), "v1").await;
    fixture.push(&SampleImage::new("two"), "v2").await;
    fixture.catalog.tag("a:v1", "v1").await.unwrap();
    let error = fixture.catalog.tag("a:v1", "v2").await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn prune_deletes_indexes_with_their_images_and_referrers() {
    let fixture = Fixture::new().await;
    let (old, new) = (SampleImage::for_two_platforms(), SampleImage::new("new"));
    fixture.push(&old, "v1").await;
    let signature = fixture.refer(old.children()[0].root(), None).await;
    fixture.push(&new, "v2").await;
    let kept = fixture.refer(new.root(), None).await;
    let before = fixture.digests().await;

    let plan = fixture.catalog.prune("a").with_kept_newest(1).plan().await.unwrap();
    assert_eq!((plan.images.len(), plan.kept, &plan.images[0].digest), (4, 2, &old.digest()));
    assert_eq!(fixture.digests().await, before, "a plan deletes nothing");
    let prune = fixture.catalog.prune("a").with_kept_newest(1);
    let pruned = tokio::spawn(prune.into_future()).await.unwrap().unwrap();
    assert!(pruned.deleted.iter().any(|image| image.digest == signature), "{pruned:?}");
    assert_eq!((pruned.deleted.len(), pruned.changed.len(), pruned.kept), (4, 0, 2));
    assert_eq!(fixture.digests().await, sorted(vec![new.digest(), kept]));
    let deletions: Vec<_> =
        pruned.deleted.iter().map(|image| format!("delete-image {}", image.digest)).collect();
    assert!(fixture.changes().ends_with(&deletions), "{:?}", fixture.changes());
}

#[tokio::test]
async fn prune_skips_images_changed_since_the_plan() {
    let fixture = Fixture::new().await;
    let images = ["one", "two", "three"].map(SampleImage::new);
    for (image, tag) in images.iter().zip(["v1", "v2", "v3"]) {
        fixture.push(image, tag).await;
    }
    let plan = fixture.catalog.prune("a").with_kept_newest(0).plan().await.unwrap();
    assert_eq!(plan.images.len(), 3);
    fixture.catalog.tag("a:v1", "stable").await.unwrap();
    fixture.catalog.delete_image("a:v2").await.unwrap();
    let steps: Vec<_> = plan.run().try_collect().await.unwrap();
    let changed = |step: &&PruneStep| matches!(step, PruneStep::Changed(_));
    assert_eq!(steps.iter().filter(changed).count(), 2, "{steps:?}");
    assert_eq!(fixture.digests().await, [images[0].digest()]);
}

#[tokio::test]
async fn prune_of_untagged_images_skips_recent_ones() {
    let fixture = Fixture::new().await;
    fixture.push(&SampleImage::new("one"), "v1").await;
    let moved = SampleImage::new("two");
    fixture.push(&moved, "v1").await;
    let prune = || fixture.catalog.prune("a").with_untagged(true);
    assert_eq!(prune().await.unwrap().deleted, []);
    let pruned = prune().with_min_age(Duration::ZERO).await.unwrap();
    assert_eq!((pruned.deleted.len(), pruned.kept), (1, 1));
    assert_eq!(fixture.digests().await, [moved.digest()]);
    let missing = fixture.catalog.prune("b").with_untagged(true).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}
