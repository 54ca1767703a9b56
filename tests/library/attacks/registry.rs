//! Requests of AWS's registry that go from one organization to another, with a narrowed password. The
//! local registry's are in `tests/library/registry/access.rs` and `tests/cli/isolation/registry.rs`.

use ark_container_core::RegistryBackend as _;
use ark_container_core::model::{Access, Scope, Stage};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::access::Deployment;
use crate::access::people::{OURS, PEOPLE, THEIRS};
use crate::access::wall::path;
use crate::registry::server::{Client, OCI_MANIFEST, answer, descriptor, sha256};

const NAMES: [&str; 2] = ["app", "none"];

/// A deployment with the repository `app` of both organizations, and who may do everything there.
async fn two_organizations() -> (Deployment, Client) {
    let deployment = Deployment::start().await;
    deployment.furnish([path(OURS, "app"), path(THEIRS, "app")]).await;
    let administrator =
        deployment.cloud.log_in(&deployment.cloud.ecr(&deployment.cloud.admin)).await;
    (deployment, administrator)
}

/// alice with the passwords that her token gets her: for one repository, and for all of ours.
async fn alice(deployment: &Deployment) -> [Client; 2] {
    let backend = deployment.bearer(&PEOPLE[0].token());
    let scopes = [
        Scope::repository(path(OURS, "app"), Access::Push),
        Scope::organizations(Stage::default(), [OURS], Access::Push),
    ];
    let mut clients = Vec::new();
    for scope in scopes {
        let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
        let address = credentials.host.as_str().parse().unwrap();
        clients.push(Client::new(address, credentials.password.expose()));
    }
    clients.try_into().ok().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_across_organizations_is_denied_at_aws_whether_or_not_the_repository_exists()
{
    let (deployment, administrator) = two_organizations().await;
    let secret = administrator.push_blob(&path(THEIRS, "app"), b"secret").await;
    let upload = administrator.start_upload(&path(THEIRS, "app")).await;
    let upload = upload.rsplit_once('/').unwrap().1;
    for client in alice(&deployment).await {
        for (method, end) in [
            (Method::GET, "tags/list".to_owned()),
            (Method::GET, "tags/list?n=1".to_owned()),
            (Method::GET, "manifests/v1".to_owned()),
            (Method::HEAD, "manifests/v1".to_owned()),
            (Method::GET, format!("blobs/{secret}")),
            (Method::HEAD, format!("blobs/{secret}")),
            (Method::GET, format!("referrers/{secret}")),
            (Method::GET, format!("blobs/uploads/{upload}")),
            (Method::POST, "blobs/uploads/".to_owned()),
            (Method::POST, format!("blobs/uploads/?mount={secret}&from={}", path(OURS, "app"))),
            (Method::PATCH, format!("blobs/uploads/{upload}")),
            (Method::PUT, format!("blobs/uploads/{upload}?digest={secret}")),
            (Method::PUT, "manifests/v1".to_owned()),
            (Method::DELETE, "manifests/v1".to_owned()),
        ] {
            let [there, absent] = NAMES.map(|name| format!("/v2/{}/{end}", path(THEIRS, name)));
            let there = answer(client.request(method.clone(), &there).body("x")).await;
            let absent = answer(client.request(method.clone(), &absent).body("x")).await;
            assert_eq!(there.status, StatusCode::FORBIDDEN, "{method} {end}");
            assert_eq!(absent.status, StatusCode::FORBIDDEN, "{method} {end}");
            let text = |body| String::from_utf8(body).unwrap();
            assert_eq!(
                text(there.body).replace("/app", "/none"),
                text(absent.body),
                "{method} {end}"
            );
        }
        let catalog = client.get("/v2/_catalog").await;
        assert!(!catalog.status.is_success(), "{catalog:?}");
    }
    // It is all there still, for one who may.
    let url = format!("/v2/{}/manifests/v1", path(THEIRS, "app"));
    administrator.get(&url).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_blob_crosses_over_at_aws_even_where_the_account_mounts() {
    let (deployment, administrator) = two_organizations().await;
    deployment.cloud.aws.set_blob_mounting(true);
    let secret = administrator.push_blob(&path(THEIRS, "app"), b"secret").await;
    let own = path(OURS, "app");
    for client in alice(&deployment).await {
        for from in NAMES.map(|name| path(THEIRS, name)) {
            let mount = format!("/v2/{own}/blobs/uploads/?mount={secret}&from={from}");
            client.post(&mount).await.expect(StatusCode::ACCEPTED);
        }
        client.get(&format!("/v2/{own}/blobs/{secret}")).await.expect(StatusCode::NOT_FOUND);
        // Nor does a manifest bring along what it names.
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", b"secret"),
            "layers": [],
        });
        assert_eq!(manifest["config"]["digest"], sha256(b"secret"));
        let refused = client.put_manifest(&own, "v9", OCI_MANIFEST, &manifest).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    }
    // Within an organization it does mount, so it was not for want of the setting.
    deployment.furnish([path(OURS, "other")]).await;
    let blob = administrator.push_blob(&path(OURS, "other"), b"ours").await;
    let [_, wide] = alice(&deployment).await;
    let mount = format!("/v2/{own}/blobs/uploads/?mount={blob}&from={}", path(OURS, "other"));
    wide.post(&mount).await.expect(StatusCode::CREATED);
}
