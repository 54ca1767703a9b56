use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::super::scripted::{ACCOUNT, Answer, Asked, HOST, Scripted};
use super::*;
use crate::backend::RegistryBackend;
use crate::catalog::Catalog;
use crate::digester::Digester;
use crate::model::{Algorithm, Platform};

fn path() -> RepositoryPath {
    "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap()
}

fn digest(number: u8) -> String {
    format!("sha256:{}", format!("{number:02x}").repeat(32))
}

fn detail(number: u8, tags: &[&str]) -> Value {
    json!({
        "registryId": ACCOUNT,
        "repositoryName": path().to_string(),
        "imageDigest": digest(number),
        "imageTags": tags,
        "imageSizeInBytes": 1234,
        "imagePushedAt": 1_790_000_000,
        "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
    })
}

async fn images(aws: &Scripted) -> Result<Vec<Image>> {
    aws.backend.list_images(&path()).try_collect().await
}

#[tokio::test]
async fn images_come_page_by_page_with_their_tags_in_order() {
    let aws = Scripted::new(|asked| match asked.input["nextToken"].as_str() {
        None => Answer::ok(json!({"imageDetails": [detail(1, &["b", "a"])], "nextToken": "x"})),
        Some("x") => Answer::ok(json!({"imageDetails": [], "nextToken": "y"})),
        _ => Answer::ok(json!({"imageDetails": [detail(2, &[])]})),
    });
    let images = images(&aws).await.unwrap();
    let [first, second] = images.as_slice() else { panic!("{images:?}") };
    assert_eq!(first.digest.to_string(), digest(1));
    assert_eq!(first.tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((first.size, first.platforms.len()), (1234, 0));
    assert_eq!(first.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert!(second.tags.is_empty());
}

#[tokio::test]
async fn archived_image_is_listed_and_says_how_to_restore_it() {
    let mut archived = detail(2, &["v1"]);
    archived["imageStatus"] = "ARCHIVED".into();
    let aws = Scripted::new(move |asked| {
        assert_eq!(asked.input["filter"], json!({"imageStatus": "ANY"}));
        match asked.input["imageIds"].is_null() {
            true => Answer::ok(json!({"imageDetails": [detail(1, &[]), archived]})),
            false => Answer::ok(json!({"imageDetails": [archived]})),
        }
    });
    let states: Vec<_> = images(&aws).await.unwrap().iter().map(|image| image.state).collect();
    assert_eq!(states, [ImageState::Active, ImageState::Archived]);
    let error = aws.backend.describe_image(&path(), &"v1".parse().unwrap()).await.unwrap_err();
    let Error::NotFound { source: Some(source), .. } = &error else { panic!("{error:?}") };
    let expected = format!(
        "it is archived; restore it: aws ecr update-image-storage-class --region us-east-1 \
         --registry-id {ACCOUNT} --repository-name {} --image-id imageDigest={} \
         --target-storage-class STANDARD",
        path(),
        digest(2)
    );
    assert_eq!(source.to_string(), expected);
}

#[tokio::test]
async fn tag_of_300_characters_is_listed() {
    let long = "v".repeat(300);
    let tags = [long.clone(), "a".to_owned()];
    let details = json!([detail(1, &tags.each_ref().map(String::as_str)), detail(2, &[])]);
    let aws = Scripted::new(move |_| Answer::ok(json!({"imageDetails": details})));
    let images = images(&aws).await.unwrap();
    let listed: Vec<_> = images[0].tags.iter().map(Tag::as_str).collect();
    assert_eq!((images.len(), listed), (2, vec!["a", &*long]));
}

#[tokio::test]
async fn full_repository_says_what_it_has() {
    let full = |images: Value, next: Value| {
        let images = json!({"imageDetails": images, "nextToken": next});
        Scripted::new(move |asked| match asked.operation.as_str() {
            "DescribeImages" => Answer::ok(images.clone()),
            _ => Answer::error(400, "RepositoryNotEmptyException", "no"),
        })
    };
    let mut archived = detail(3, &[]);
    archived["imageStatus"] = "ARCHIVED".into();
    for (aws, problem) in [
        (full(json!([detail(1, &[])]), Value::Null), "has 1 image"),
        (full(json!([detail(1, &[]), archived]), Value::Null), "has 2 images, 1 of them archived"),
        (full(json!([archived]), "more".into()), "has more than 1 images, 1 of them archived"),
        (full(json!([]), Value::Null), "has images"),
    ] {
        let deleted = aws.backend.delete_repository(&path(), &Default::default()).await;
        assert_eq!(deleted.unwrap_err().to_string(), format!("repository {} {problem}", path()));
    }
}

#[tokio::test]
async fn images_of_a_missing_repository_are_one_error() {
    let aws = Scripted::new(|_| Answer::error(400, "RepositoryNotFoundException", "no"));
    let items: Vec<_> = aws.backend.list_images(&path()).collect().await;
    assert!(
        matches!(items.as_slice(), [Err(Error::NotFound { kind: ResourceKind::Repository, .. })]),
        "{items:?}"
    );
}

#[tokio::test]
async fn an_image_that_makes_no_sense_is_an_error() {
    for (field, value) in [
        ("imageDigest", json!("latest")),
        ("imageSizeInBytes", json!(-1)),
        ("imagePushedAt", Value::Null),
        ("imageTags", json!(["a b"])),
    ] {
        let mut detail = detail(1, &[]);
        detail[field] = value;
        let aws = Scripted::new(move |_| Answer::ok(json!({"imageDetails": [detail]})));
        let error = images(&aws).await.unwrap_err();
        assert!(matches!(error, Error::Failed { source: Some(_), .. }), "{field}: {error:?}");
    }
}

#[tokio::test]
async fn a_deletion_names_the_account_and_one_image() {
    for reference in ["v1".to_owned(), digest(1)] {
        let deleted = json!({"imageIds": [{"imageDigest": digest(1), "imageTag": "v1"}]});
        let aws = Scripted::new(move |_| Answer::ok(deleted.clone()));
        let reference: Reference = reference.parse().unwrap();
        let deleted = aws.backend.delete_image(&path(), &reference).await.unwrap();
        assert_eq!(deleted.unwrap().to_string(), digest(1));
        let asked = &aws.asked()[0].input;
        assert_eq!(asked["registryId"], ACCOUNT);
        let field = match &reference {
            Reference::Tag(_) => "imageTag",
            Reference::Digest(_) => "imageDigest",
        };
        assert_eq!(asked["imageIds"], json!([{ field: reference.to_string() }]));
    }
}

#[tokio::test]
async fn a_deletion_that_fails_says_why() {
    let failed = async |code: &str| {
        let failure = json!({"failureCode": code, "failureReason": "the reason"});
        let aws =
            Scripted::new(move |_| Answer::ok(json!({"imageIds": [], "failures": [failure]})));
        aws.backend.delete_image(&path(), &digest(1).parse().unwrap()).await.unwrap_err()
    };
    let missing = failed("ImageNotFound").await;
    assert!(matches!(missing, Error::NotFound { kind: ResourceKind::Image, .. }), "{missing}");
    let child = failed("ImageReferencedByManifestList").await;
    assert!(matches!(child, Error::Conflict { kind: ResourceKind::Image, .. }), "{child}");
    let other = failed("KmsError").await;
    assert!(other.to_string().ends_with("KmsError: the reason"), "{other}");
}

#[tokio::test]
async fn described_image_has_children_and_platforms() {
    let aws = Scripted::new(|asked| match asked.operation.as_str() {
        "DescribeImages" => Answer::ok(json!({"imageDetails": [detail(1, &["v1"])]})),
        "BatchGetImage" => manifest_answer(media_type::OCI_INDEX, &index()),
        other => panic!("{other}"),
    });
    let image = aws.backend.describe_image(&path(), &"v1".parse().unwrap()).await.unwrap();
    assert_eq!((image.digest.to_string(), image.children.len()), (digest(1), 2));
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let asked: Vec<Value> =
        aws.asked().iter().map(|asked| asked.input["imageIds"].clone()).collect();
    assert_eq!(asked, [json!([{"imageTag": "v1"}]), json!([{"imageDigest": digest(1)}])]);
}

#[tokio::test]
async fn missing_image_is_not_found_when_described() {
    let aws = Scripted::new(|_| Answer::error(400, IMAGE_NOT_FOUND, "no"));
    let error = aws.backend.describe_image(&path(), &"v1".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("image {HOST}/{}:v1 does not exist", path()));
}

const NAME: &str = "djt-mapping-pipeline-ecr";

fn digest_of(content: &str) -> Digest {
    Digester::digest(Algorithm::Sha256, content.as_bytes())
}

/// A manifest with this configuration, of 10 bytes, and one layer of 1000.
fn manifest(config: &str) -> String {
    let blob = |digest: &Digest, size: u64| json!({"mediaType": media_type::OCI_CONFIG, "digest": digest, "size": size});
    let (config, layer) = (blob(&digest_of(config), 10), blob(&digest_of("layer"), 1000));
    json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string()
}

fn index() -> String {
    let entry = |architecture: &str| {
        let text = manifest(architecture);
        json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest_of(&text), "size": text.len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let images = [entry("amd64"), entry("arm64")];
    json!({"schemaVersion": 2, "manifests": images}).to_string()
}

fn manifest_answer(media_type: &str, text: &str) -> Answer {
    Answer::ok(json!({"images": [{
        "imageId": {"imageDigest": digest_of(text)},
        "imageManifest": text,
        "imageManifestMediaType": media_type,
    }]}))
}

/// What AWS has: the index as `latest`, its images, and nothing else.
fn answer(asked: &Asked) -> Answer {
    assert_eq!(asked.operation, "BatchGetImage");
    assert_eq!(asked.input["repositoryName"], NAME);
    let id = &asked.input["imageIds"][0];
    let known = ["amd64", "arm64"].map(manifest);
    let by_digest = known.iter().find(|text| id["imageDigest"] == digest_of(text).to_string());
    match (id["imageTag"].as_str(), by_digest) {
        (Some("latest"), _) => manifest_answer(media_type::OCI_INDEX, &index()),
        (None, Some(text)) => manifest_answer(media_type::OCI_MANIFEST, text),
        _ => Answer::ok(json!({"failures": [{"failureCode": "ImageNotFound", "imageId": id}]})),
    }
}

async fn catalog(aws: &Scripted, outside: bool) -> Catalog {
    let builder = Catalog::builder().with_backend(aws.backend.clone());
    builder.with_outside_repositories(outside).connect().await.unwrap()
}

#[tokio::test]
async fn an_image_of_no_organization_is_resolved() {
    let aws = Scripted::new(answer);
    let catalog = catalog(&aws, true).await;
    let resolved = catalog.resolve(&format!("{HOST}/{NAME}")).await.unwrap();
    let index = index();
    assert_eq!(resolved.url, format!("{HOST}/{NAME}@{}", digest_of(&index)));
    let manifests = index.len() + manifest("amd64").len() + manifest("arm64").len();
    assert_eq!(resolved.size, manifests as u64 + 10 + 10 + 1000);
    let platforms: Vec<String> = resolved.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(resolved.media_type, media_type::OCI_INDEX);
}

#[tokio::test]
async fn a_configuration_says_what_a_single_image_runs_on() {
    const CONFIG: &str = r#"{"os": "linux", "architecture": "arm64"}"#;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let blob = format!("http://{}/blob?secret", server.local_addr().unwrap());
    let aws = Scripted::new(move |asked| match asked.operation.as_str() {
        "BatchGetImage" => manifest_answer(media_type::DOCKER_MANIFEST, &manifest(CONFIG)),
        _ => Answer::ok(json!({"downloadUrl": blob})),
    });
    let serving = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let _ = client.read(&mut [0; 4096]).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", CONFIG.len());
        client.write_all((head + CONFIG).as_bytes()).unwrap();
    });
    let platform: Platform = "linux/arm64".parse().unwrap();
    let single = catalog(&aws, true).await;
    let single = single.resolve(&format!("{HOST}/{NAME}:v1")).await.unwrap();
    serving.join().unwrap();
    assert_eq!(single.platforms, [platform]);
}

#[tokio::test]
async fn what_aws_does_not_have_is_not_found() {
    let aws = Scripted::new(answer);
    let error = catalog(&aws, true).await.resolve(&format!("{HOST}/{NAME}:v9")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("image {HOST}/{NAME}:v9 does not exist"));
    let gone = Scripted::new(|_| Answer::error(400, REPOSITORY_NOT_FOUND, "no"));
    let error = catalog(&gone, true).await.resolve(&format!("{HOST}/x/y")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("repository {HOST}/x/y does not exist"));
    for code in ["LayersNotFoundException", "LayerInaccessibleException"] {
        let aws = Scripted::new(move |_| Answer::error(400, code, "no"));
        let layer = digest_of("layer");
        let error = aws.backend.outside_blob(NAME, &layer).await.unwrap_err();
        assert_eq!(error.to_string(), format!("blob {layer} in {HOST}/{NAME} does not exist"));
    }
}

#[tokio::test]
async fn a_program_has_to_want_it() {
    let aws = Scripted::new(answer);
    let catalog = catalog(&aws, false).await;
    let error = catalog.resolve(&format!("{HOST}/{NAME}:latest")).await.unwrap_err();
    assert!(error.to_string().contains("with_outside_repositories(true)"), "{error}");
    assert_eq!(aws.asked().len(), 0);
}

#[tokio::test]
async fn what_is_of_another_digest_is_no_answer() {
    let aws = Scripted::new(|_| {
        Answer::ok(json!({"images": [{
            "imageId": {"imageDigest": digest_of("a")}, "imageManifest": "b",
        }]}))
    });
    let error = catalog(&aws, true).await.resolve(&format!("{HOST}/{NAME}")).await.unwrap_err();
    assert!(error.to_string().ends_with("has another digest"), "{error}");
}
