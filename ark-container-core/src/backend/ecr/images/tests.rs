use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::super::scripted::{ACCOUNT, Answer, Scripted};
use super::*;
use crate::backend::RegistryBackend;

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
        let aws = Scripted::new(|_| Answer::ok(json!({"imageIds": [], "failures": []})));
        let reference: Reference = reference.parse().unwrap();
        aws.backend.delete_image(&path(), &reference).await.unwrap();
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
