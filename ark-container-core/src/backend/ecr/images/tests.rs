use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::super::scripted::{ACCOUNT, HOST, Request, Response, Scripted};
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
async fn images_of_all_pages_have_sorted_tags() {
    let aws = Scripted::new(|request| match request.input["nextToken"].as_str() {
        None => Response::ok(json!({"imageDetails": [detail(1, &["b", "a"])], "nextToken": "x"})),
        Some("x") => Response::ok(json!({"imageDetails": [], "nextToken": "y"})),
        _ => Response::ok(json!({"imageDetails": [detail(2, &[])]})),
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
async fn archived_image_is_listed_and_suggests_restore() {
    let mut archived = detail(2, &["v1"]);
    archived["imageStatus"] = "ARCHIVED".into();
    let aws = Scripted::new(move |request| {
        assert_eq!(request.input["filter"], json!({"imageStatus": "ANY"}));
        match request.input["imageIds"].is_null() {
            true => Response::ok(json!({"imageDetails": [detail(1, &[]), archived]})),
            false => Response::ok(json!({"imageDetails": [archived]})),
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
    let aws = Scripted::new(move |_| Response::ok(json!({"imageDetails": details})));
    let images = images(&aws).await.unwrap();
    let listed: Vec<_> = images[0].tags.iter().map(Tag::as_str).collect();
    assert_eq!((images.len(), listed), (2, vec!["a", &*long]));
}

#[tokio::test]
async fn deletion_of_full_repository_counts_its_images() {
    let full = |images: Value, next: Value| {
        let images = json!({"imageDetails": images, "nextToken": next});
        Scripted::new(move |request| match request.operation.as_str() {
            "DescribeImages" => Response::ok(images.clone()),
            _ => Response::error(400, "RepositoryNotEmptyException", "no"),
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
async fn image_listing_of_missing_repository_is_one_error() {
    let aws = Scripted::new(|_| Response::error(400, "RepositoryNotFoundException", "no"));
    let items: Vec<_> = aws.backend.list_images(&path()).collect().await;
    assert!(
        matches!(items.as_slice(), [Err(Error::NotFound { kind: ResourceKind::Repository, .. })]),
        "{items:?}"
    );
}

#[tokio::test]
async fn invalid_image_is_an_error() {
    for (field, value) in [
        ("imageDigest", json!("latest")),
        ("imageSizeInBytes", json!(-1)),
        ("imagePushedAt", Value::Null),
        ("imageTags", json!(["a b"])),
    ] {
        let mut detail = detail(1, &[]);
        detail[field] = value;
        let aws = Scripted::new(move |_| Response::ok(json!({"imageDetails": [detail]})));
        let error = images(&aws).await.unwrap_err();
        assert!(matches!(error, Error::Failed { source: Some(_), .. }), "{field}: {error:?}");
    }
}

#[tokio::test]
async fn deletion_names_account_and_image() {
    for reference in ["v1".to_owned(), digest(1)] {
        let deleted = json!({"imageIds": [{"imageDigest": digest(1), "imageTag": "v1"}]});
        let aws = Scripted::new(move |_| Response::ok(deleted.clone()));
        let reference: Reference = reference.parse().unwrap();
        let deleted = aws.backend.delete_image(&path(), &reference).await.unwrap();
        assert_eq!(deleted.unwrap().to_string(), digest(1));
        let input = &aws.requests()[0].input;
        assert_eq!(input["registryId"], ACCOUNT);
        let field = match &reference {
            Reference::Tag(_) => "imageTag",
            Reference::Digest(_) => "imageDigest",
        };
        assert_eq!(input["imageIds"], json!([{ field: reference.to_string() }]));
    }
}

#[tokio::test]
async fn failed_deletion_gives_the_reason() {
    let failed = async |code: &str| {
        let failure = json!({"failureCode": code, "failureReason": "the reason"});
        let aws =
            Scripted::new(move |_| Response::ok(json!({"imageIds": [], "failures": [failure]})));
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
    let aws = Scripted::new(|request| match request.operation.as_str() {
        "DescribeImages" => Response::ok(json!({"imageDetails": [detail(1, &["v1"])]})),
        "BatchGetImage" => manifest_response(media_type::OCI_INDEX, &index()),
        other => panic!("{other}"),
    });
    let image = aws.backend.describe_image(&path(), &"v1".parse().unwrap()).await.unwrap();
    assert_eq!((image.digest.to_string(), image.children.len()), (digest(1), 2));
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let image_ids: Vec<Value> =
        aws.requests().iter().map(|request| request.input["imageIds"].clone()).collect();
    assert_eq!(image_ids, [json!([{"imageTag": "v1"}]), json!([{"imageDigest": digest(1)}])]);
}

#[tokio::test]
async fn missing_image_is_not_found_when_described() {
    let aws = Scripted::new(|_| Response::error(400, IMAGE_NOT_FOUND, "no"));
    let error = aws.backend.describe_image(&path(), &"v1".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("image {HOST}/{}:v1 does not exist", path()));
}

const NAME: &str = "djt-mapping-pipeline-ecr";

fn digest_of(content: &str) -> Digest {
    Digester::digest(Algorithm::Sha256, content.as_bytes())
}

/// Returns a manifest with this configuration of 10 bytes and one layer of 1,000 bytes.
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

fn manifest_response(media_type: &str, text: &str) -> Response {
    Response::ok(json!({"images": [{
        "imageId": {"imageDigest": digest_of(text)},
        "imageManifest": text,
        "imageManifestMediaType": media_type,
    }]}))
}

/// AWS with only the index as `latest` and its images.
fn respond(request: &Request) -> Response {
    assert_eq!(request.operation, "BatchGetImage");
    assert_eq!(request.input["repositoryName"], NAME);
    let id = &request.input["imageIds"][0];
    let known = ["amd64", "arm64"].map(manifest);
    let by_digest = known.iter().find(|text| id["imageDigest"] == digest_of(text).to_string());
    match (id["imageTag"].as_str(), by_digest) {
        (Some("latest"), _) => manifest_response(media_type::OCI_INDEX, &index()),
        (None, Some(text)) => manifest_response(media_type::OCI_MANIFEST, text),
        _ => Response::ok(json!({"failures": [{"failureCode": "ImageNotFound", "imageId": id}]})),
    }
}

async fn catalog(aws: &Scripted, outside: bool) -> Catalog {
    let builder = Catalog::builder().with_backend(aws.backend.clone());
    builder.with_outside_repositories(outside).connect().await.unwrap()
}

#[tokio::test]
async fn image_outside_of_organizations_is_resolved() {
    let aws = Scripted::new(respond);
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
async fn platform_of_single_image_comes_from_its_config() {
    const CONFIG: &str = r#"{"os": "linux", "architecture": "arm64"}"#;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let blob = format!("http://{}/blob?secret", server.local_addr().unwrap());
    let aws = Scripted::new(move |request| match request.operation.as_str() {
        "BatchGetImage" => manifest_response(media_type::DOCKER_MANIFEST, &manifest(CONFIG)),
        _ => Response::ok(json!({"downloadUrl": blob})),
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
async fn missing_image_repository_or_blob_is_not_found() {
    let aws = Scripted::new(respond);
    let error = catalog(&aws, true).await.resolve(&format!("{HOST}/{NAME}:v9")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("image {HOST}/{NAME}:v9 does not exist"));
    let gone = Scripted::new(|_| Response::error(400, REPOSITORY_NOT_FOUND, "no"));
    let error = catalog(&gone, true).await.resolve(&format!("{HOST}/x/y")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("repository {HOST}/x/y does not exist"));
    for code in ["LayersNotFoundException", "LayerInaccessibleException"] {
        let aws = Scripted::new(move |_| Response::error(400, code, "no"));
        let layer = digest_of("layer");
        let error = aws.backend.outside_blob(NAME, &layer).await.unwrap_err();
        assert_eq!(error.to_string(), format!("blob {layer} in {HOST}/{NAME} does not exist"));
    }
}

#[tokio::test]
async fn outside_repositories_are_rejected_by_default() {
    let aws = Scripted::new(respond);
    let catalog = catalog(&aws, false).await;
    let error = catalog.resolve(&format!("{HOST}/{NAME}:latest")).await.unwrap_err();
    assert!(error.to_string().contains("with_outside_repositories(true)"), "{error}");
    assert_eq!(aws.requests().len(), 0);
}

#[tokio::test]
async fn manifest_with_another_digest_is_rejected() {
    let aws = Scripted::new(|_| {
        Response::ok(json!({"images": [{
            "imageId": {"imageDigest": digest_of("a")}, "imageManifest": "b",
        }]}))
    });
    let error = catalog(&aws, true).await.resolve(&format!("{HOST}/{NAME}")).await.unwrap_err();
    assert!(error.to_string().ends_with("has another digest"), "{error}");
}
