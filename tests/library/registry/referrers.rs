//! What refers to an image.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::server::{OCI_INDEX, OCI_MANIFEST, OURS, Server, path, sha256};

#[tokio::test]
async fn referrers_are_listed_and_filtered() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let subject = client.image(&app, b"layer").await;
    let digest = sha256(subject.to_string().as_bytes());
    let url = format!("/v2/{app}/referrers/{digest}");

    let unknown = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(unknown.header("content-type"), OCI_INDEX);
    let empty = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    assert_eq!(unknown.json(), empty);

    // A referrer may come before what it refers to.
    for kind in ["application/vnd.example.signature", "application/vnd.example.sbom"] {
        let mut referrer = subject.clone();
        referrer["artifactType"] = json!(kind);
        referrer["annotations"] = json!({ "org.example": kind });
        referrer["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": subject.to_string().len() });
        let own = sha256(referrer.to_string().as_bytes());
        let put = client.put_manifest(&app, &own, OCI_MANIFEST, &referrer).await;
        assert_eq!(put.expect(StatusCode::CREATED).header("oci-subject"), digest);
    }
    client.put_manifest(&app, "v1", OCI_MANIFEST, &subject).await.expect(StatusCode::CREATED);

    let all = client.get(&url).await.expect(StatusCode::OK);
    assert!(all.headers.get("oci-filters-applied").is_none());
    assert_eq!(types(&all.json()).len(), 2);

    let sbom = "application/vnd.example.sbom";
    let some = client.get(&format!("{url}?artifactType={sbom}")).await.expect(StatusCode::OK);
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    assert_eq!(types(&some.json()), [sbom]);
    assert_eq!(some.json()["manifests"][0]["annotations"]["org.example"], sbom);
    let none = client.get(&format!("{url}?artifactType=x/y")).await.expect(StatusCode::OK);
    assert_eq!(none.json(), empty);

    let referrer = all.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    client.delete(&format!("/v2/{app}/manifests/{referrer}")).await.expect(StatusCode::ACCEPTED);
    assert_eq!(types(&client.get(&url).await.json()).len(), 1);

    let wrong = client.get(&format!("/v2/{app}/referrers/sha256:x")).await;
    wrong.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

fn types(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap();
    manifests.iter().map(|entry| entry["artifactType"].as_str().unwrap().to_owned()).collect()
}
