//! Tests the listing of referrers, by the registry and by the client.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn referrers_are_filtered_and_found_by_tag() {
    let entry = |kind: &str| {
        format!(r#"{{"mediaType":"m","size":1,"digest":"{}","artifactType":"{kind}"}}"#, digest())
    };
    let page = format!(r#"{{"manifests":[{},{}]}}"#, entry("sbom"), entry("signature"));
    let new = Scripted::new([answer("200 OK", &[], &page)]);
    let found = new.client().referrers(&digest(), Some("sbom")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(new.requests()[0].line.contains("?artifactType=sbom "));

    let old = Scripted::new([missing(), index(&page.parse().unwrap())]);
    assert_eq!(old.client().referrers(&digest(), None).await.unwrap().len(), 2);
    let tag = digest().to_string().replace(':', "-");
    assert!(old.requests()[1].line.contains(&format!("/manifests/{tag} ")));

    let bare = Scripted::new(vec![answer("404 Not Found", &[], ""); 2]);
    assert!(bare.client().referrers(&digest(), None).await.unwrap().is_empty());

    let null = Scripted::new([answer("200 OK", &[], r#"{"manifests":null}"#)]);
    assert!(null.client().referrers(&digest(), None).await.unwrap().is_empty());
}

#[tokio::test]
async fn invalid_index_of_referrers_is_rejected() {
    for (content, expected) in [
        (json!({"config": {}}), "missing field"),
        (json!({"Manifests": []}), "differs from \"manifests\" only by case"),
        (json!({"mediaType": media_type::OCI_MANIFEST, "manifests": []}), "and came as"),
    ] {
        let registry = Scripted::new([missing(), index(&content)]);
        let error = registry.client().referrers(&digest(), None).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Returns a signature of the manifest with [`digest`].
fn signature() -> Manifest {
    let config = json!({"mediaType": "signature", "size": 2, "digest": digest()});
    let subject = json!({"mediaType": media_type::OCI_MANIFEST, "size": 7, "digest": digest()});
    let manifest = json!({
        "schemaVersion": 2, "config": config, "layers": [], "subject": subject,
        "annotations": {"by": "us"}
    });
    Manifest::new(media_type::OCI_MANIFEST, manifest.to_string())
}

fn listed(signature: &Manifest) -> Value {
    json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": signature.digest,
        "size": signature.bytes.len(), "artifactType": "signature", "annotations": {"by": "us"}
    })
}

async fn put(registry: &Scripted) -> crate::Result<()> {
    let signature = signature();
    let reference = signature.digest.clone().into();
    registry.patient_client().put_manifest(&reference, &signature).await
}

fn created() -> String {
    answer("201 Created", &[], "")
}

fn missing() -> String {
    answer("404 Not Found", &[], "")
}

fn index(content: &Value) -> String {
    let media_type = format!("Content-Type: {}", media_type::OCI_INDEX);
    answer("200 OK", &[&media_type], &content.to_string())
}

/// Returns the request line and the index of the last PUT request.
fn put_last(registry: Scripted) -> (String, Value) {
    let requests = registry.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.header("content-type"), Some(media_type::OCI_INDEX));
    (last.line.clone(), serde_json::from_slice(&last.body).unwrap())
}

#[tokio::test]
async fn registry_with_subject_header_lists_referrers() {
    let subject = format!("OCI-Subject: {}", digest());
    let registry = Scripted::new([answer("201 Created", &[&subject], "")]);
    put(&registry).await.unwrap();
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn referrer_is_added_to_index_at_tag() {
    let registry = Scripted::new([created(), missing(), created()]);
    put(&registry).await.unwrap();
    let (line, written) = put_last(registry);
    let tag = digest().to_string().replace(':', "-");
    assert!(line.starts_with("PUT ") && line.contains(&format!("/manifests/{tag} ")), "{line}");
    assert_eq!(
        written,
        json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [listed(&signature())]
        })
    );

    let other = json!({"mediaType": "m", "digest": digest(), "size": 1, "data": "Kg=="});
    let existing = json!({"schemaVersion": 2, "manifests": [other], "annotations": {"a": "b"}});
    let registry = Scripted::new([created(), index(&existing), created()]);
    put(&registry).await.unwrap();
    let (_, written) = put_last(registry);
    assert_eq!(written["manifests"], json!([other, listed(&signature())]));
    assert_eq!(written["annotations"], existing["annotations"]);

    let empty = json!({"schemaVersion": 2, "manifests": null});
    let registry = Scripted::new([created(), index(&empty), created()]);
    put(&registry).await.unwrap();
    assert_eq!(put_last(registry).1["manifests"], json!([listed(&signature())]));
}

#[tokio::test]
async fn listed_referrer_is_not_added_again() {
    let existing = json!({"schemaVersion": 2, "manifests": [listed(&signature())]});
    let registry = Scripted::new([created(), index(&existing)]);
    put(&registry).await.unwrap();
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn referrers_tag_of_other_content_is_kept() {
    let media_type = format!("Content-Type: {}", media_type::OCI_MANIFEST);
    for other in [answer("200 OK", &[&media_type], "{}"), index(&json!({"schemaVersion": 2}))] {
        let registry = Scripted::new([created(), other]);
        let error = put(&registry).await.unwrap_err().to_string();
        assert!(error.contains(" cannot be listed: tag sha256-"), "{error}");
        assert_eq!(registry.requests().len(), 2);
    }
}

#[tokio::test]
async fn lost_response_leads_to_lookup_of_referrers() {
    let signature = signature();
    let digest = format!("Docker-Content-Digest: {}", signature.digest);
    let stored = || answer("200 OK", &[&digest], "");
    let registry = Scripted::new([String::new(), stored(), index(&json!({"manifests": []}))]);
    put(&registry).await.unwrap();
    assert!(registry.requests()[2].line.contains("/referrers/sha256:"));

    let registry = Scripted::new([String::new(), stored(), missing(), missing(), created()]);
    put(&registry).await.unwrap();
    assert_eq!(put_last(registry).1["manifests"], json!([listed(&signature)]));
}
