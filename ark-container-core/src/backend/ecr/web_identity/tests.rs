//! Calls by token against an AWS whose answers are prepared.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use futures_util::TryStreamExt;
use serde_json::json;

use super::super::scripted::{
    ACCOUNT, Answer, Asked, HOST, Scripted, assumed, authorization, described, field, principal,
    sts_error,
};
use super::*;
use crate::RegistryBackend;
use crate::backend::{CreateOptions, DeleteOptions, Repository};
use crate::model::{Organizations, Reference, Stage};
use crate::testing::{TestToken, TokenIssuer};

const ACCESS: &str = "arn:aws:iam::095412845506:role/access";
const ADMINISTRATOR: &str = "arn:aws:iam::095412845506:role/administrator";

fn session_by_token(key: &str, end: &str) -> Answer {
    assumed("AssumeRoleWithWebIdentity", key, end)
}

/// A file with a token of `alice` that nobody else has.
struct Holder {
    issuer: TokenIssuer,
    folder: tempfile::TempDir,
}

impl Holder {
    fn new() -> Self {
        let issuer = TokenIssuer::new("https://auth.example.com", "ark").unwrap();
        let holder = Self { issuer, folder: tempfile::tempdir().unwrap() };
        holder.renew("first");
        holder
    }

    /// Puts another token into the file.
    fn renew(&self, id: &str) -> String {
        let token = TestToken::new(&"user:alice".parse().unwrap()).with_claim("jti", id);
        let token = self.issuer.token(&token).unwrap();
        self.put(&token);
        token
    }

    fn put(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("jwt.json")
    }

    /// A backend of the file's holder.
    fn backend(
        &self,
        administrator: bool,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Scripted {
        let file = TokenFile::new(self.path());
        Scripted::built(
            move |builder| {
                let builder = builder.web_identity(file).role_arn(ACCESS).principal("user:alice");
                match administrator {
                    true => builder.administrator_role_arn(ADMINISTRATOR),
                    false => builder,
                }
            },
            ACCOUNT,
            answer,
        )
    }
}

/// An AWS that allows everything; sessions have a key that tells the role, and end in 2100.
fn generous(asked: &Asked) -> Answer {
    let name = |input: &serde_json::Value| input["repositoryName"].as_str().unwrap().to_owned();
    match asked.operation.as_str() {
        "AssumeRoleWithWebIdentity" => {
            let role = field(asked, "RoleArn");
            session_by_token(role.rsplit('/').next().unwrap(), "2100-01-01T00:00:00Z")
        }
        "GetAuthorizationToken" => {
            authorization(&format!("https://{HOST}"), 4_102_444_800, "AWS:secret")
        }
        "DescribeRepositories" => {
            let row = described(&path(OrganizationId::TBD).to_string());
            Answer::ok(json!({ "repositories": [row] }))
        }
        "CreateRepository" | "DeleteRepository" => {
            Answer::ok(json!({ "repository": described(&name(&asked.input)) }))
        }
        "BatchDeleteImage" => Answer::ok(json!({})),
        other => panic!("{other} is not expected"),
    }
}

fn path(organization: OrganizationId) -> RepositoryPath {
    format!("prod/{organization}/a").parse().unwrap()
}

fn assumed_roles(aws: &Scripted) -> Vec<String> {
    let asked = aws.asked().into_iter();
    let sessions = asked.filter(|asked| asked.operation == "AssumeRoleWithWebIdentity");
    sessions.map(|asked| field(&asked, "RoleArn")).collect()
}

async fn list(aws: &Scripted) -> Result<Vec<Repository>> {
    aws.backend.list_repositories(&Organizations::All).try_collect().await
}

#[tokio::test]
async fn a_session_is_had_for_the_token_alone_and_used_until_it_ends() {
    let holder = Holder::new();
    let token = holder.renew("mine");
    let aws = holder.backend(false, generous);
    list(&aws).await.unwrap();
    list(&aws).await.unwrap();
    let [assume, first, second] = &aws.asked()[..] else { panic!("{:?}", aws.operations()) };
    assert_eq!(assume.key, "", "it is not signed");
    assert_eq!(field(assume, "WebIdentityToken"), token);
    assert_eq!(field(assume, "RoleArn"), ACCESS);
    assert_eq!(field(assume, "RoleSessionName"), "user.alice");
    assert_eq!((first.key.as_str(), second.key.as_str()), ("access", "access"));
}

#[tokio::test]
async fn a_new_token_and_a_session_that_ends_soon_ask_for_another_session() {
    let holder = Holder::new();
    let aws = holder.backend(false, generous);
    list(&aws).await.unwrap();
    holder.renew("second");
    list(&aws).await.unwrap();
    assert_eq!(assumed_roles(&aws).len(), 2);

    let soon = humantime::format_rfc3339_seconds(SystemTime::now() + SESSION_EXPIRY_MARGIN / 2)
        .to_string();
    let aws = holder.backend(false, move |asked| match asked.operation.as_str() {
        "AssumeRoleWithWebIdentity" => session_by_token("access", &soon),
        _ => generous(asked),
    });
    list(&aws).await.unwrap();
    list(&aws).await.unwrap();
    assert_eq!(assumed_roles(&aws).len(), 2);
}

#[tokio::test]
async fn what_is_for_administrators_is_done_under_their_role() {
    let holder = Holder::new();
    let ours = path(OrganizationId::TBD);
    let global = path(OrganizationId::GLOBAL);
    let tag = "v1".parse().unwrap();
    let aws = holder.backend(true, generous);
    aws.backend.delete_repository(&ours, &DeleteOptions::default()).await.unwrap();
    aws.backend.delete_image(&ours, &Reference::Tag(tag)).await.unwrap();
    aws.backend.create_repository(&global, &CreateOptions::default()).await.unwrap();
    let keys = aws.asked().into_iter().map(|asked| (asked.operation, asked.key));
    let changes: Vec<_> =
        keys.filter(|(name, _)| name.starts_with("Create") || name.contains("Delete")).collect();
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|(_, key)| key == "administrator"), "{changes:?}");

    let aws = holder.backend(true, generous);
    aws.backend.create_repository(&ours, &CreateOptions::default()).await.unwrap();
    assert_eq!(assumed_roles(&aws), [ACCESS]);
}

#[tokio::test]
async fn without_the_role_that_is_needed_the_error_says_what_to_set() {
    let holder = Holder::new();
    let aws = holder.backend(false, |_| panic!("nothing is asked"));
    let (ours, options) = (path(OrganizationId::TBD), DeleteOptions::default());
    let error = aws.backend.delete_repository(&ours, &options).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().ends_with("set administrator_role_arn"), "{error}");
    let file = TokenFile::new(holder.path());
    let aws = Scripted::built(|builder| builder.web_identity(file), ACCOUNT, generous);
    let error = list(&aws).await.unwrap_err();
    assert!(error.to_string().ends_with("to use it by token: set role_arn"), "{error}");
}

#[tokio::test]
async fn a_login_is_narrowed_and_of_the_role_that_its_scope_takes() {
    let holder = Holder::new();
    for (organization, access, role) in [
        (OrganizationId::TBD, Access::Pull, ACCESS),
        (OrganizationId::TBD, Access::Push, ACCESS),
        (OrganizationId::TBD, Access::Delete, ADMINISTRATOR),
        (OrganizationId::GLOBAL, Access::Pull, ACCESS),
        (OrganizationId::GLOBAL, Access::Push, ADMINISTRATOR),
    ] {
        let scopes = [
            Scope::repository(path(organization), access),
            Scope::organizations(Stage::default(), [organization], access),
        ];
        for scope in scopes {
            let aws = holder.backend(true, generous);
            let credentials = aws.backend.credentials(&scope, &Default::default()).await.unwrap();
            assert_eq!(credentials.narrowing, crate::credentials::Narrowing::Scoped);
            let [assume, login] = &aws.asked()[..] else { panic!("{:?}", aws.operations()) };
            assert_eq!(field(assume, "RoleArn"), role, "{scope}");
            let policy = session_policy(&HOST.parse().unwrap(), &scope).unwrap();
            assert_eq!(field(assume, "Policy"), policy);
            assert_eq!(login.key, role.rsplit('/').next().unwrap());
        }
    }
}

#[tokio::test]
async fn a_login_is_remembered_for_one_token() {
    let holder = Holder::new();
    let folder = tempfile::tempdir().unwrap();
    let backend = |folder: &Path| {
        let (file, folder) = (TokenFile::new(holder.path()), folder.to_owned());
        Scripted::built(
            move |builder| builder.web_identity(file).role_arn(ACCESS).cache_directory(folder),
            ACCOUNT,
            generous,
        )
    };
    let scope = Scope::repository(path(OrganizationId::TBD), Access::Pull);
    backend(folder.path()).backend.credentials(&scope, &Default::default()).await.unwrap();
    let again = backend(folder.path());
    again.backend.credentials(&scope, &Default::default()).await.unwrap();
    assert_eq!(again.operations(), Vec::<String>::new());
    holder.renew("of somebody else");
    let other = backend(folder.path());
    other.backend.credentials(&scope, &Default::default()).await.unwrap();
    assert_eq!(other.operations(), ["AssumeRoleWithWebIdentity", "GetAuthorizationToken"]);
}

#[tokio::test]
async fn what_sts_says_of_a_token_is_an_error_by_its_meaning() {
    type Is = fn(&Error) -> bool;
    let unauthenticated: Is = |error| matches!(error, Error::Unauthenticated { .. });
    let cases: [(&str, &str, Is, &str); 6] = [
        (
            "InvalidIdentityToken",
            "Incorrect token audience",
            unauthenticated,
            "does not take the token in",
        ),
        ("IDPRejectedClaim", "no", unauthenticated, "does not take the token in"),
        (
            "ExpiredTokenException",
            "Token expired",
            unauthenticated,
            "has expired; put a new token in",
        ),
        (
            "IDPCommunicationError",
            "try again",
            |error| matches!(error, Error::Temporary { .. }),
            "cannot assume the role",
        ),
        (
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            |error| matches!(error, Error::PermissionDenied { .. }),
            "user:alice may not assume the role",
        ),
        (
            "PackedPolicyTooLarge",
            "Packed policy consumes 110%",
            |error| matches!(error, Error::InvalidInput { .. }),
            "ask for fewer organizations",
        ),
    ];
    let holder = Holder::new();
    for (code, message, is, text) in cases {
        let aws = holder.backend(false, move |_| sts_error(code, message));
        let scope = Scope::repository(path(OrganizationId::TBD), Access::Pull);
        let error = aws.backend.credentials(&scope, &Default::default()).await.unwrap_err();
        assert!(is(&error), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_asked() {
    let holder = Holder::new();
    fs::remove_file(holder.path()).unwrap();
    let aws = holder.backend(true, |_| panic!("nothing is asked"));
    let error = list(&aws).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    let late = TestToken::new(&"user:alice".parse().unwrap());
    let late = late.expiring_at(SystemTime::now() - Duration::from_secs(3600));
    holder.put(&holder.issuer.token(&late).unwrap());
    let scope = Scope::repository(path(OrganizationId::TBD), Access::Pull);
    let error = aws.backend.credentials(&scope, &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
}

#[tokio::test]
async fn principals_share_no_session_by_token() {
    let holder = Holder::new();
    let aws = holder.backend(true, generous);
    let ours = path(OrganizationId::TBD);
    for name in ["user:alice", "user:bob", "user:alice", "user:bob"] {
        let backend = aws.backend.acting_as(&principal(name));
        backend.create_repository(&ours, &CreateOptions::default()).await.unwrap();
        backend.delete_repository(&ours, &DeleteOptions::default()).await.unwrap();
        backend
            .credentials(&Scope::repository(ours.clone(), Access::Pull), &Default::default())
            .await
            .unwrap();
    }
    let asked = aws.asked().into_iter();
    let sessions = asked.filter(|asked| asked.operation == "AssumeRoleWithWebIdentity");
    let names: Vec<_> = sessions.map(|asked| field(&asked, "RoleSessionName")).collect();
    // The access role, the role of administrators, and the login of each principal.
    assert_eq!(names, [["user.alice"; 3], ["user.bob"; 3]].concat());
}
