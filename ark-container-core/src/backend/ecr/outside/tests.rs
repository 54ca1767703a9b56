use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::json;

use super::super::scripted::{Answer, Asked, HOST, Scripted};
use super::*;
use crate::catalog::Catalog;
use crate::digester::Digester;
use crate::model::{Algorithm, Platform};

const NAME: &str = "djt-mapping-pipeline-ecr";

fn digest(content: &str) -> Digest {
    Digester::digest(Algorithm::Sha256, content.as_bytes())
}

/// A manifest with this configuration, of 10 bytes, and one layer of 1000.
fn manifest(config: &str) -> String {
    let blob = |digest: &Digest, size: u64| json!({"mediaType": media_type::OCI_CONFIG, "digest": digest, "size": size});
    let (config, layer) = (blob(&digest(config), 10), blob(&digest("layer"), 1000));
    json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string()
}

fn index() -> String {
    let entry = |architecture: &str| {
        let text = manifest(architecture);
        json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest(&text), "size": text.len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let images = [entry("amd64"), entry("arm64")];
    json!({"schemaVersion": 2, "manifests": images}).to_string()
}

fn image(media_type: &str, text: &str) -> Answer {
    Answer::ok(json!({"images": [{
        "imageId": {"imageDigest": digest(text)},
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
    let by_digest = known.iter().find(|text| id["imageDigest"] == digest(text).to_string());
    match (id["imageTag"].as_str(), by_digest) {
        (Some("latest"), _) => image(media_type::OCI_INDEX, &index()),
        (None, Some(text)) => image(media_type::OCI_MANIFEST, text),
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
    assert_eq!(resolved.url, format!("{HOST}/{NAME}@{}", digest(&index)));
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
        "BatchGetImage" => image(media_type::DOCKER_MANIFEST, &manifest(CONFIG)),
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
            "imageId": {"imageDigest": digest("a")}, "imageManifest": "b",
        }]}))
    });
    let error = catalog(&aws, true).await.resolve(&format!("{HOST}/{NAME}")).await.unwrap_err();
    assert!(error.to_string().ends_with("is something else"), "{error}");
}
