//! Attempts to reach another organization on AWS ECR: by similar repository names, by logins, and by requests to the
//! registry.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_core::{Error, RegistryBackend as _};
use ark_container_fakes::aws::{AccessKey, ListedRepository};
use aws_sdk_ecr::types::ImageIdentifier;
use futures_util::TryStreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::access::Deployment;
use crate::access::deployment::{AUDIENCE, ISSUER};
use crate::access::matrix::{Layers, OURS, PEOPLE, THEIRS};
use crate::aws::cloud::code;
use crate::registry::server::{OCI_MANIFEST, RegistryClient, answer, descriptor, path, sha256};

/// Returns repository names that resemble those of our organization. Each repository is tagged as ours.
fn similar_repository_names() -> Vec<String> {
    vec![
        format!("prod/{OURS}x/app"),
        format!("prod/{OURS}-x/app"),
        format!("prod/x{OURS}/app"),
        format!("prod/{OURS}"),
        format!("prod2/{OURS}/app"),
        format!("x/prod/{OURS}/app"),
        format!("prod/{}/app", OURS.to_string().replace('-', "")),
        format!("prod/{THEIRS}/{OURS}/app"),
        "djt-mapping-pipeline-ecr".to_owned(),
        format!("{OURS}/app"),
    ]
}

async fn account() -> Deployment {
    let tagged =
        |name: String| ListedRepository::new(name).with_tag("ark:organization", OURS.to_string());
    let deployment = Deployment::start_with(|aws| {
        aws.with_list(similar_repository_names().into_iter().map(tagged))
    })
    .await;
    deployment.create_with_images([path(OURS, "app")]).await;
    deployment
}

#[tokio::test(flavor = "multi_thread")]
async fn similar_repository_names_are_not_listed() {
    let deployment = account().await;
    for layers in Layers::ALL {
        let backend = deployment.backend(layers, &PEOPLE[0]);
        for asked in [Organizations::from(OURS), Organizations::All] {
            let listed = backend.list_repositories(&asked).try_collect::<Vec<_>>().await;
            if layers == Layers::Aws && asked == Organizations::All {
                assert!(matches!(listed, Err(Error::PermissionDenied { .. })), "{listed:?}");
                continue;
            }
            let rows = listed.unwrap();
            let paths: Vec<_> = rows.iter().map(|row| row.url.path().clone()).collect();
            let ours = paths.iter().filter(|path| path.organization() == OURS);
            assert_eq!(ours.collect::<Vec<_>>(), [&path(OURS, "app")], "{layers:?}");
            assert!(paths.iter().all(|found| found.organization() == OURS));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_cannot_reach_similar_repository_names() {
    let deployment = account().await;
    // The token is used without the library, so the session is not narrowed.
    let token = deployment.issuer.token(&PEOPLE[0].token()).unwrap();
    let nobody = AccessKey::new("AKIANOBODY", "nothing");
    let sts = aws_sdk_sts::Client::new(&deployment.cloud.config(&nobody, None));
    let assumed = sts
        .assume_role_with_web_identity()
        .role_arn("arn:aws:iam::095412845506:role/ark-access")
        .role_session_name("alice")
        .web_identity_token(token);
    let session = assumed.send().await.unwrap().credentials.unwrap();
    let ecr = deployment.cloud.ecr_of(&session);
    let image = ImageIdentifier::builder().image_tag("v1").build();
    let get =
        |name: String| ecr.batch_get_image().repository_name(name).image_ids(image.clone()).send();
    let own = get(path(OURS, "app").to_string()).await.unwrap();
    assert_eq!(own.images().len(), 1);
    for name in similar_repository_names() {
        assert_eq!(code(get(name.clone()).await), "AccessDeniedException", "{name}");
        let deleted = ecr.delete_repository().repository_name(&name).force(true).send().await;
        assert_eq!(code(deleted), "AccessDeniedException", "{name}");
        let again = ecr.create_repository().repository_name(format!("{name}/new")).send().await;
        assert_eq!(code(again), "AccessDeniedException", "{name}");
    }
    // The password for the whole organization does not reach them either.
    let backend = deployment.bearer(&PEOPLE[0].token());
    let scope = Scope::organizations(Stage::default(), [OURS], Access::Push);
    let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
    let address = credentials.host.as_str().parse().unwrap();
    let client = RegistryClient::new(address, credentials.password.expose());
    for name in similar_repository_names() {
        let answer = client.get(&format!("/v2/{name}/tags/list")).await;
        assert!(answer.status.is_client_error(), "{name}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_login_is_for_its_own_token() {
    let deployment = Deployment::start().await;
    let cache = tempfile::tempdir().unwrap();
    let bearer = |token: &str| {
        deployment.bearer_with(&deployment.token_file(token), |builder| {
            builder.with_principal("user:alice").with_cache_directory(cache.path())
        })
    };
    let sign = |token: &TestToken| deployment.issuer.token(token).unwrap();
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    let alice = sign(&PEOPLE[0].token());
    let password = bearer(&alice).credentials(&scope, &Default::default()).await.unwrap().password;
    let again = bearer(&alice).credentials(&scope, &Default::default()).await.unwrap().password;
    assert_eq!(again.expose(), password.expose(), "the password is cached");

    // A forged token of alice and a token of bob do not get the cached password.
    let forger = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    let forged = bearer(&forger.token(&PEOPLE[0].token()).unwrap())
        .credentials(&scope, &Default::default())
        .await;
    assert!(matches!(forged, Err(Error::Unauthenticated { .. })), "{forged:?}");
    let unsigned =
        bearer(&forger.unsigned(&PEOPLE[0].token())).credentials(&scope, &Default::default()).await;
    assert!(matches!(unsigned, Err(Error::Unauthenticated { .. })), "{unsigned:?}");
    // AWS gives bob a password that grants nothing in the scope. The access table shows that.
    let bobs = bearer(&sign(&PEOPLE[1].token()))
        .credentials(&scope, &Default::default())
        .await
        .unwrap()
        .password;
    assert_ne!(bobs.expose(), password.expose());
}

#[tokio::test(flavor = "multi_thread")]
async fn overflowing_session_policy_is_rejected() {
    let deployment = Deployment::start_with(|aws| aws.with_packed_limit(600)).await;
    let backend = deployment.bearer(&PEOPLE[0].token());
    // 4 organizations exceed the packed limit of AWS, and 40 the limit of the library.
    for count in [4, 40] {
        let organizations = (0..count).map(OrganizationId::from_u128);
        let scope = Scope::organizations(Stage::default(), organizations, Access::Push);
        let refused = backend.credentials(&scope, &Default::default()).await;
        assert!(matches!(refused, Err(Error::InvalidInput { .. })), "{refused:?}");
    }
    assert_eq!(deployment.cloud.aws.count("ecr:GetAuthorizationToken"), 0);
}

/// Identifiers that cannot be the name of an AWS session.
const HOSTILE: [&str; 8] = [
    "a b",
    "a/b",
    "a*b",
    "../../role/administrator",
    "alice,Value=administrator",
    "${aws:PrincipalTag/administers}",
    "\u{202e}ecila",
    "\"}]}",
];

#[tokio::test(flavor = "multi_thread")]
async fn principal_identifier_cannot_name_another_session() {
    let deployment = Deployment::start().await;
    let long = "a".repeat(200);
    let subjects = HOSTILE.into_iter().chain([&*long]);
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    for subject in subjects.clone() {
        let token = PEOPLE[0].token().with_claim("sub", subject);
        let file = deployment.sign(&token);
        let principal = format!("user:{subject}");
        let backend = deployment.bearer_with(&file, |builder| builder.with_principal(&principal));
        backend
            .credentials(&scope, &Default::default())
            .await
            .unwrap_or_else(|error| panic!("{subject:?}: {error:?}"));
    }
    let calls = deployment.cloud.aws.calls();
    let sessions: BTreeSet<String> = calls
        .into_iter()
        .filter(|call| call.action == "ecr:GetAuthorizationToken")
        .filter_map(|call| call.principal)
        .collect();
    assert_eq!(sessions.len(), subjects.count(), "{sessions:?}");
    for session in sessions {
        let name = session.strip_prefix("arn:aws:sts::095412845506:assumed-role/ark-access/");
        assert!(name.is_some_and(|name| !name.contains('/') && name.len() <= 64), "{session}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn false_claims_do_not_make_an_administrator() {
    let deployment = Deployment::start().await;
    deployment.create_with_images([path(OURS, "app")]).await;
    // The forged claims are visible to the library, but AWS reads only the session tags of the token.
    let token = PEOPLE[0].token().with_administers([OURS, OrganizationId::GLOBAL]);
    let backend = deployment.bearer(&token);
    let options = ark_container_core::backend::DeleteOptions::default().with_force(true);
    let refused = backend.delete_repository(&path(OURS, "app"), &options).await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
    let global = path(OrganizationId::GLOBAL, "app");
    let refused = backend.create_repository(&global, &Default::default()).await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
    let rows = backend.list_repositories(&Organizations::from(OURS));
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1);
}

const NAMES: [&str; 2] = ["app", "none"];

/// Returns a deployment with the repository `app` in two organizations, and a client with full access to both.
async fn two_organizations() -> (Deployment, RegistryClient) {
    let deployment = Deployment::start().await;
    deployment.create_with_images([path(OURS, "app"), path(THEIRS, "app")]).await;
    let administrator =
        deployment.cloud.log_in(&deployment.cloud.ecr(&deployment.cloud.admin)).await;
    (deployment, administrator)
}

/// Returns clients with the passwords of alice: for one repository, and for all of our organization.
async fn alice(deployment: &Deployment) -> [RegistryClient; 2] {
    let backend = deployment.bearer(&PEOPLE[0].token());
    let scopes = [
        Scope::repository(path(OURS, "app"), Access::Push),
        Scope::organizations(Stage::default(), [OURS], Access::Push),
    ];
    let mut clients = Vec::new();
    for scope in scopes {
        let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
        let address = credentials.host.as_str().parse().unwrap();
        clients.push(RegistryClient::new(address, credentials.password.expose()));
    }
    clients.try_into().ok().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_across_organizations_are_denied_alike_at_aws() {
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
    // The administrator can still read everything.
    let url = format!("/v2/{}/manifests/v1", path(THEIRS, "app"));
    administrator.get(&url).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_across_organizations_is_denied_at_aws() {
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
        // A manifest does not mount the blobs that it refers to either.
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
    // Mounting is on: within an organization it works.
    deployment.create_with_images([path(OURS, "other")]).await;
    let blob = administrator.push_blob(&path(OURS, "other"), b"ours").await;
    let [_, wide] = alice(&deployment).await;
    let mount = format!("/v2/{own}/blobs/uploads/?mount={blob}&from={}", path(OURS, "other"));
    wide.post(&mount).await.expect(StatusCode::CREATED);
}

/// Returns forged tokens that grant more than bob has, each with its defect.
fn forgeries(issuer: &TokenIssuer) -> Vec<(&'static str, String)> {
    let other = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    let alice = PEOPLE[0].token();
    let sign = |token: &TestToken| issuer.token(token).unwrap();
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let good = sign(&alice);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    // The claims of the administrator with the header and the signature of alice.
    let administrator = sign(&PEOPLE[6].token());
    let claims = administrator.split('.').nth(1).unwrap();
    vec![
        ("expired", sign(&alice.clone().expiring_at(ago(3_600)))),
        ("not valid yet", sign(&alice.clone().not_before(SystemTime::now() + HOUR))),
        ("another audience", sign(&alice.clone().with_claim("aud", "another"))),
        ("no audience", sign(&alice.clone().without_claim("aud"))),
        ("another issuer", sign(&alice.clone().with_claim("iss", "https://evil.example"))),
        ("another key", other.token(&alice).unwrap()),
        (
            "another key with an unknown ID",
            other.token(&alice.clone().with_header("kid", "evil")).unwrap(),
        ),
        ("unsigned", issuer.unsigned(&alice)),
        (
            "signed with the public key set as HMAC secret",
            issuer.signed_by_secret(&alice, issuer.key_set_json().as_bytes()),
        ),
        ("no signature", format!("{message}.")),
        ("claims of another token", format!("{header}.{claims}.{signature}")),
        ("another algorithm in the header", sign(&alice.clone().with_header("alg", "RS256"))),
        (
            "its own key in the header",
            other
                .token(&alice.with_header("jwk", serde_json::from_str::<serde_json::Value>(
                    &other.key_set_json(),
                )
                .unwrap()["keys"][0].clone()))
                .unwrap(),
        ),
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn forged_token_gets_no_session_at_aws() {
    let deployment = Deployment::start().await;
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    let good = deployment.bearer(&PEOPLE[0].token());
    good.credentials(&scope, &Default::default()).await.unwrap();
    for (wrong, token) in forgeries(&deployment.issuer) {
        let backend = deployment.bearer_of(&token);
        for refused in [
            backend.credentials(&scope, &Default::default()).await.map(drop),
            backend.describe_repository(&path(OURS, "app")).await.map(drop),
        ] {
            match refused {
                // AWS answers AccessDenied to a token for an audience that the provider does not have.
                Err(Error::Unauthenticated { .. } | Error::PermissionDenied { .. }) => {}
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
    assert_eq!(
        deployment.cloud.aws.count("ecr:GetAuthorizationToken"),
        1,
        "only the valid token gets a password"
    );
}
