//! The ECR backend by token, on the fake of AWS: people and programs without an account of AWS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ark_container_core::backend::ecr::{EcrBackend, EcrBackendBuilder};
use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::credentials::Narrowing;
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{
    Access, OrganizationId, Organizations, Reference, RepositoryPath, Scope, Stage,
};
use ark_container_core::testing::{SampleImage, TestToken, TokenIssuer};
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{Error, RegistryBackend};
use ark_container_fakes::aws::{IdentityProvider, Role};
use futures_util::TryStreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cloud::{Cloud, allow, arn, policy};
use crate::registry::server::{Client, OURS, THEIRS, path};

const ACCESS: &str = "arn:aws:iam::095412845506:role/access";
const ADMINISTRATOR: &str = "arn:aws:iam::095412845506:role/administrator";

/// An account whose roles trust an identity provider, and somebody's home.
struct Deployment {
    cloud: Cloud,
    issuer: TokenIssuer,
    home: TempDir,
}

impl Deployment {
    async fn start() -> Self {
        let issuer = TokenIssuer::new("https://id.example.com", "ark").unwrap();
        let provider = IdentityProvider::new(issuer.issuer(), issuer.key_set_json());
        let cloud = Cloud::start_with(|aws| {
            let aws = aws.with_identity_provider(provider.with_audience("ark"));
            aws.with_role(access_role()).with_role(administrator_role())
        });
        Self { cloud: cloud.await, issuer, home: tempfile::tempdir().unwrap() }
    }

    fn token_file(&self) -> PathBuf {
        self.home.path().join("jwt.json")
    }

    /// Puts a token into the file.
    fn sign_in(&self, token: &TestToken) {
        self.put(&self.issuer.token(token).unwrap());
    }

    fn put(&self, token: &str) {
        let file = self.token_file();
        fs::write(&file, token).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn builder(&self) -> EcrBackendBuilder {
        EcrBackend::builder(self.cloud.aws.host().clone(), Stage::default())
            .with_endpoint_url(self.cloud.aws.endpoint_url())
            .with_web_identity(TokenFile::new(self.token_file()))
            .with_role_arn(ACCESS)
            .with_administrator_role_arn(ADMINISTRATOR)
    }

    fn backend(&self) -> EcrBackend {
        self.builder().build()
    }

    async fn push(&self, backend: &EcrBackend, path: &RepositoryPath) -> Result<(), Error> {
        let layout = self.home.path().join("layout");
        if !layout.exists() {
            SampleImage::builder().build().write_oci_layout(&layout, None).unwrap();
        }
        let source = ImageSource::oci_layout(layout);
        let push = Push::new(Arc::new(backend.clone()), path, source);
        push.with_tag("v1".parse().unwrap()).await.map(drop)
    }
}

fn trust(condition: Value) -> Value {
    policy(json!({
        "Effect": "Allow",
        "Principal": { "Federated": "arn:aws:iam::095412845506:oidc-provider/id.example.com" },
        "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
        "Condition": condition,
    }))
}

/// Members read what is their organization's; those that are users also create and push.
fn access_role() -> Role {
    let ours = arn("prod/${aws:PrincipalTag/organization}/*");
    let account = allow(json!(["ecr:GetAuthorizationToken", "tag:GetResources"]), "*");
    let read = allow(json!(["ecr:Describe*", "ecr:List*", "ecr:BatchGet*", "ecr:Get*"]), &*ours);
    let mut write = allow(
        json!([
            "ecr:CreateRepository",
            "ecr:TagResource",
            "ecr:BatchCheckLayerAvailability",
            "ecr:InitiateLayerUpload",
            "ecr:UploadLayerPart",
            "ecr:CompleteLayerUpload",
            "ecr:PutImage",
        ]),
        &*ours,
    );
    write["Condition"] = json!({ "StringEquals": { "aws:PrincipalTag/kind": "user" } });
    Role::new("access")
        .with_max_session(Duration::from_secs(12 * 60 * 60))
        .with_trust_policy(trust(json!({ "StringEquals": { "id.example.com:aud": "ark" } })))
        .with_policy(policy(json!([account, read, write])))
}

fn administrator_role() -> Role {
    let condition = json!({
        "StringEquals": { "id.example.com:aud": "ark" },
        "Null": { "aws:RequestTag/administers": "false" },
    });
    let administered = arn("prod/${aws:PrincipalTag/administers}/*");
    Role::new("administrator").with_trust_policy(trust(condition)).with_policy(policy(json!([
        allow(json!("ecr:GetAuthorizationToken"), "*"),
        allow(json!("ecr:*"), administered),
    ])))
}

fn token(name: &str, organization: OrganizationId) -> TestToken {
    TestToken::new(&name.parse().unwrap()).with_organizations([organization]).with_session_tags()
}

fn administrator(name: &str, organization: OrganizationId) -> TestToken {
    let token = TestToken::new(&name.parse().unwrap()).with_organizations([organization]);
    token.with_administers([organization]).with_session_tags()
}

async fn create(backend: &EcrBackend, path: &RepositoryPath) -> Result<(), Error> {
    backend.create_repository(path, &CreateOptions::default()).await.map(drop)
}

async fn list(backend: &EcrBackend) -> Result<Vec<String>, Error> {
    let organizations = Organizations::from_iter([OURS]);
    let rows: Vec<_> = backend.list_repositories(&organizations).try_collect().await?;
    Ok(rows.into_iter().map(|row| row.url.path().to_string()).collect())
}

fn denied<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::PermissionDenied { .. })), "{result:?}");
}

fn unauthenticated<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Unauthenticated { .. })), "{result:?}");
}

#[tokio::test]
async fn user_without_aws_account_does_everything() {
    let aws = Deployment::start().await;
    aws.sign_in(&token("user:alice", OURS));
    let backend = aws.builder().with_principal("user:alice").build();
    let app = path(OURS, "app");
    create(&backend, &app).await.unwrap();
    assert_eq!(list(&backend).await.unwrap(), [app.to_string()]);
    aws.push(&backend, &app).await.unwrap();
    let images: Vec<_> = backend.list_images(&app).try_collect().await.unwrap();
    assert_eq!(images.len(), 1);
    let scope = Scope::repository(app.clone(), Access::Pull);
    let login = backend.credentials(&scope, &Default::default()).await.unwrap();
    assert_eq!(login.narrowing, Narrowing::Scoped);
    let client = Client::new(login.host.as_str().parse().unwrap(), login.password.expose());
    client.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::OK);
    client.post(&format!("/v2/{app}/blobs/uploads/")).await.expect(StatusCode::FORBIDDEN);

    let expected = "arn:aws:sts::095412845506:assumed-role/access/user.alice";
    let calls = aws.cloud.aws.calls();
    let signed = calls.iter().filter_map(|call| call.principal.as_deref());
    assert!(signed.clone().count() > 10 && signed.into_iter().all(|arn| arn == expected));
    denied(create(&backend, &path(THEIRS, "app")).await);
    denied(aws.push(&backend, &path(THEIRS, "app")).await);
    denied(backend.describe_repository(&path(THEIRS, "app")).await);
}

#[tokio::test]
async fn a_robot_reads_and_does_not_push() {
    let aws = Deployment::start().await;
    aws.sign_in(&token("user:alice", OURS));
    let app = path(OURS, "app");
    create(&aws.backend(), &app).await.unwrap();
    aws.sign_in(&token("robot:nightly", OURS));
    let robot = aws.backend();
    assert_eq!(list(&robot).await.unwrap(), [app.to_string()]);
    denied(create(&robot, &path(OURS, "other")).await);
    denied(aws.push(&robot, &app).await);
}

#[tokio::test]
async fn administrator_role_deletes_and_changes_global() {
    let aws = Deployment::start().await;
    aws.sign_in(&token("user:alice", OURS));
    let backend = aws.backend();
    let (app, global) = (path(OURS, "app"), path(OrganizationId::GLOBAL, "app"));
    create(&backend, &app).await.unwrap();
    aws.push(&backend, &app).await.unwrap();
    denied(create(&backend, &global).await);
    denied(backend.delete_repository(&app, &DeleteOptions::default()).await);

    aws.sign_in(&administrator("user:carol", OURS));
    denied(create(&backend, &global).await);
    backend.delete_image(&app, &Reference::Tag("v1".parse().unwrap())).await.unwrap();
    backend.delete_repository(&app, &DeleteOptions::default()).await.unwrap();
    aws.sign_in(&administrator("user:root", OrganizationId::GLOBAL));
    create(&backend, &global).await.unwrap();
    aws.push(&backend, &global).await.unwrap();
    let other = path(OURS, "other");
    denied(backend.delete_repository(&other, &DeleteOptions::default()).await);
}

#[tokio::test]
async fn a_long_run_goes_on_with_the_token_that_is_renewed() {
    let aws = Deployment::start().await;
    let soon = SystemTime::now() + Duration::from_secs(600);
    aws.sign_in(&token("robot:nightly", OURS).expiring_at(soon));
    let backend = aws.backend();
    list(&backend).await.unwrap();
    let sessions = || aws.cloud.aws.count("sts:AssumeRoleWithWebIdentity");
    assert_eq!(sessions(), 1);
    let ago = SystemTime::now() - Duration::from_secs(120);
    aws.sign_in(&token("robot:nightly", OURS).expiring_at(ago));
    unauthenticated(list(&backend).await);
    aws.sign_in(&token("robot:nightly", OURS));
    list(&backend).await.unwrap();
    list(&backend).await.unwrap();
    assert_eq!(sessions(), 2);
}

#[tokio::test]
async fn what_is_in_the_file_counts_and_not_who_was_there_before() {
    let aws = Deployment::start().await;
    let backend = aws.builder().with_cache_directory(aws.home.path().join("cache")).build();
    aws.sign_in(&token("user:alice", OURS));
    let app = path(OURS, "app");
    create(&backend, &app).await.unwrap();
    aws.push(&backend, &app).await.unwrap();
    let scope = Scope::repository(app.clone(), Access::Push);
    let logins = || aws.cloud.aws.count("ecr:GetAuthorizationToken");
    let before = logins();
    backend.credentials(&scope, &Default::default()).await.unwrap();
    assert_eq!(logins(), before, "alice's login is remembered");

    // Somebody of another organization gets a login of their own, which opens nothing here.
    aws.sign_in(&token("user:bob", THEIRS));
    denied(backend.describe_repository(&app).await);
    denied(aws.push(&backend, &app).await);
    // A registry has no room for words where it denies a HEAD, so a new login is tried, once.
    assert_eq!(logins(), before + 2);

    // A forgery that says it is alice's meets neither her session nor her login.
    let forger = TokenIssuer::new(aws.issuer.issuer(), "ark").unwrap();
    let alice = token("user:alice", OURS);
    for forged in [forger.token(&alice).unwrap(), aws.issuer.unsigned(&alice)] {
        aws.put(&forged);
        unauthenticated(list(&backend).await);
        unauthenticated(backend.credentials(&scope, &Default::default()).await);
    }
    aws.sign_in(&alice.with_claim("aud", "somebody else"));
    unauthenticated(list(&backend).await);
    unauthenticated(backend.credentials(&scope, &Default::default()).await);
    assert_eq!(logins(), before + 2);
}

/// What the child of the test below asks AWS through.
const CHILD_ENDPOINT: &str = "ARK_TEST_AWS";
const CHILD_TOKEN: &str = "ARK_TEST_TOKEN_FILE";

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn child_that_lists() {
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse().unwrap();
    let backend = EcrBackend::builder(host, Stage::default())
        .with_endpoint_url(std::env::var(CHILD_ENDPOINT).unwrap())
        .with_web_identity(TokenFile::new(std::env::var_os(CHILD_TOKEN).unwrap()))
        .with_role_arn(ACCESS)
        .build();
    list(&backend).await.unwrap();
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    backend.credentials(&scope, &Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_aws_credentials_are_looked_for() {
    let aws = Deployment::start().await;
    aws.sign_in(&token("user:alice", OURS));
    let touched = aws.home.path().join("touched");
    let config = aws.home.path().join("config");
    let process = format!("[default]\ncredential_process = touch {}\n", touched.display());
    fs::write(&config, process).unwrap();
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let test = "aws::web_identity::child_that_lists";
        child.args(["--exact", test, "--ignored", "--nocapture"]);
        child.env(CHILD_ENDPOINT, aws.cloud.aws.endpoint_url());
        child.env(CHILD_TOKEN, aws.token_file());
        child.env("AWS_CONFIG_FILE", &config);
        child.env("AWS_SHARED_CREDENTIALS_FILE", &config);
        child
    };
    let mut with_keys = child();
    with_keys.env("AWS_ACCESS_KEY_ID", "AKIASTRANGER").env("AWS_SECRET_ACCESS_KEY", "x");
    let mut with_profile = child();
    with_profile.env("AWS_PROFILE", "default").env_remove("AWS_ACCESS_KEY_ID");
    with_profile.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
    for mut child in [with_keys, with_profile] {
        let before = aws.cloud.aws.calls().len();
        let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(aws.cloud.aws.calls().len() > before, "{output:?}");
    }
    assert!(aws.cloud.aws.calls().iter().all(|call| call.error.is_none()));
    assert!(!touched.exists(), "the profile's credential_process was run");
}
