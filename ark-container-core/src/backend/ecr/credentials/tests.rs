//! Logins against an AWS whose answers are prepared.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::scripted::{
    ACCOUNT, Answer, Asked, HOST, Scripted, authorization, field, sdk_config, session, sts_error,
};
use super::*;
use crate::RegistryBackend;
use crate::model::{Access, OrganizationId, Stage};

const ROLE: &str = "arn:aws:iam::095412845506:role/registry";
/// When the prepared sessions end, in the year 2100.
const SESSION_END: u64 = 4_102_444_800;
const HOUR: u64 = 3600;

fn scope() -> Scope {
    Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Push)
}

/// An AWS that gives every session and login.
fn generous(asked: &Asked) -> Answer {
    match asked.operation.as_str() {
        "AssumeRole" => session("ASIASESSION"),
        "GetAuthorizationToken" => {
            authorization(&format!("https://{HOST}"), SESSION_END + HOUR, "AWS:secret")
        }
        other => panic!("{other} is not expected"),
    }
}

/// The error of a login whose answer is this, and a text that it must not have.
async fn error_for(answer: Answer) -> Error {
    let aws = Scripted::new(move |_| answer.clone());
    aws.backend.credentials(&scope()).await.unwrap_err()
}

#[tokio::test]
async fn a_login_is_for_as_long_as_was_chosen() {
    let hour = std::time::Duration::from_secs(3600);
    let chosen = |builder: crate::backend::ecr::EcrBackendBuilder| {
        builder.role_arn(ROLE).credentials_lifetime(hour)
    };
    let aws = Scripted::built(chosen, ACCOUNT, generous);
    aws.backend.credentials(&scope()).await.unwrap();
    assert_eq!(field(&aws.asked()[0], "DurationSeconds"), "3600");
}

#[tokio::test]
async fn under_a_role_a_login_is_of_a_session_that_is_narrowed_to_the_scope() {
    let aws = Scripted::built(
        |builder| builder.role_arn(ROLE).principal("user:alice"),
        ACCOUNT,
        generous,
    );
    let credentials = aws.backend.credentials(&scope()).await.unwrap();
    assert_eq!(credentials.narrowing, Narrowing::Scoped);
    assert_eq!(credentials.scope, scope());
    assert_eq!((credentials.host.as_str(), credentials.username.as_str()), (HOST, "AWS"));
    assert_eq!(credentials.password.expose(), "secret");
    let [assume, login] = &aws.asked()[..] else { panic!("{:?}", aws.operations()) };
    assert_eq!((assume.key.as_str(), login.key.as_str()), ("AKIDEXAMPLE", "ASIASESSION"));
    assert_eq!(field(assume, "RoleArn"), ROLE);
    assert_eq!(field(assume, "RoleSessionName"), "user.alice");
    assert_eq!(field(assume, "DurationSeconds"), "43200");
    let policy = field(assume, "Policy");
    assert_eq!(policy, session_policy(&HOST.parse().unwrap(), &scope()).unwrap());
}

#[tokio::test]
async fn a_login_ends_with_the_aws_credentials_that_it_came_from() {
    for (login_end, end) in [(SESSION_END + HOUR, SESSION_END), (SESSION_END - 1, SESSION_END - 1)]
    {
        let aws = Scripted::built(
            |builder| builder.role_arn(ROLE),
            ACCOUNT,
            move |asked| match asked.operation.as_str() {
                "AssumeRole" => session("ASIASESSION"),
                _ => authorization(&format!("https://{HOST}"), login_end, "AWS:secret"),
            },
        );
        let credentials = aws.backend.credentials(&scope()).await.unwrap();
        assert_eq!(credentials.expires_at, UNIX_EPOCH + Duration::from_secs(end));
    }
}

#[tokio::test]
async fn without_a_role_a_login_says_that_it_reaches_whatever_the_caller_does() {
    let aws = Scripted::new(generous);
    let credentials = aws.backend.credentials(&scope()).await.unwrap();
    assert_eq!(credentials.narrowing, Narrowing::Caller);
    assert_eq!(aws.operations(), ["GetAuthorizationToken"]);
    let end = UNIX_EPOCH + Duration::from_secs(SESSION_END + HOUR);
    assert_eq!(credentials.expires_at, end);
}

#[tokio::test]
async fn where_scoped_logins_are_required_a_role_is_too() {
    let required = |role: Option<&str>| {
        let role = role.map(str::to_owned);
        Scripted::built(
            move |builder| {
                let builder = builder.require_scoped(true);
                role.into_iter().fold(builder, |builder, role| builder.role_arn(role))
            },
            ACCOUNT,
            generous,
        )
    };
    let aws = required(None);
    let error = aws.backend.credentials(&scope()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().contains("set role_arn for ecr://"), "{error}");
    assert_eq!(aws.operations(), Vec::<String>::new());
    assert!(required(Some(ROLE)).backend.credentials(&scope()).await.is_ok());
}

#[tokio::test]
async fn a_role_that_gives_no_long_session_gives_an_hour() {
    for message in [
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role \
         chaining.",
    ] {
        let aws = Scripted::built(
            |builder| builder.role_arn(ROLE),
            ACCOUNT,
            move |asked| {
                let long =
                    asked.operation == "AssumeRole" && field(asked, "DurationSeconds") != "3600";
                if long { sts_error("ValidationError", message) } else { generous(asked) }
            },
        );
        aws.backend.credentials(&scope()).await.unwrap();
        assert_eq!(aws.operations(), ["AssumeRole", "AssumeRole", "GetAuthorizationToken"]);
    }
}

#[tokio::test]
async fn what_else_is_wrong_with_a_role_is_told_at_once() {
    let refused = |code: &'static str, message: &'static str| async move {
        let aws = Scripted::built(
            |builder| builder.role_arn(ROLE),
            ACCOUNT,
            move |_| sts_error(code, message),
        );
        let error = aws.backend.credentials(&scope()).await.unwrap_err();
        assert_eq!(aws.operations(), ["AssumeRole"], "{code}");
        error
    };
    let error = refused("PackedPolicyTooLarge", "Packed size 101%").await;
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().contains("(Packed size 101%); ask for fewer"), "{error}");
    let error = refused("AccessDenied", "no").await;
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    assert!(error.to_string().contains(ROLE), "{error}");
    let error = refused("ValidationError", "roleArn is odd").await;
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
}

#[tokio::test]
async fn too_many_organizations_are_refused_before_anything_is_asked() {
    let aws = Scripted::built(|builder| builder.role_arn(ROLE), ACCOUNT, generous);
    let many = (0..30).map(OrganizationId::from_u128);
    let scope = Scope::organizations(Stage::default(), many, Access::Pull);
    let error = aws.backend.credentials(&scope).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert_eq!(aws.operations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stand_in_for_the_registry_is_named_by_its_own_address() {
    let aws = Scripted::new(|_| authorization("http://127.0.0.1:5051/", SESSION_END, "AWS:secret"));
    let credentials = aws.backend.credentials(&scope()).await.unwrap();
    assert_eq!(credentials.host.as_str(), "127.0.0.1:5051");
}

#[tokio::test]
async fn a_login_to_another_account_is_no_login_and_says_so() {
    let other = HOST.replace("095412845506", "111122223333");
    let answer = authorization(&format!("https://{other}"), SESSION_END, "AWS:secret");
    let error = error_for(answer).await;
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("095412845506") && error.contains("111122223333"), "{error}");
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_told_without_its_secret() {
    let endpoint = format!("https://{HOST}");
    let mut answers = vec![
        Answer::ok(json!({})),
        Answer::ok(json!({"authorizationData": []})),
        Answer::ok(json!({"authorizationData": [{}]})),
        authorization("https:///", SESSION_END, "AWS:hunter2"),
        authorization(&endpoint, SESSION_END, "hunter2"),
        authorization(&endpoint, SESSION_END, "EVE:hunter2"),
        authorization(&endpoint, SESSION_END, "AWS:"),
    ];
    let with = |field: &str, value: Value| {
        let mut data = json!({
            "authorizationToken": STANDARD.encode("AWS:hunter2"),
            "expiresAt": SESSION_END,
            "proxyEndpoint": endpoint,
        });
        data[field] = value;
        Answer::ok(json!({ "authorizationData": [data] }))
    };
    answers.push(with("authorizationToken", json!("hunter2%")));
    answers.push(with("expiresAt", Value::Null));
    for answer in answers {
        let shown = format!("{answer:?}");
        let error = error_for(answer).await;
        assert!(matches!(error, Error::Failed { .. } | Error::Parse(_)), "{shown}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_login_is_remembered_for_its_scope_role_principal_and_caller_only() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("credentials");
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let calls_of = |key: &'static str, role: &'static str, principal: &'static str| {
        let (directory, count) = (directory.clone(), count.clone());
        async move {
            let keys = Credentials::new(key, "secret", None, None, "test");
            let provider = aws_sdk_ecr::config::SharedCredentialsProvider::new(keys);
            let config = sdk_config().into_builder().credentials_provider(provider).build();
            let aws = Scripted::built(
                |builder| {
                    let builder = builder.sdk_config(config).cache_directory(directory);
                    builder.role_arn(role).principal(principal)
                },
                ACCOUNT,
                move |asked| {
                    count.fetch_add(1, Ordering::SeqCst);
                    generous(asked)
                },
            );
            aws.backend.credentials(&scope()).await.unwrap();
            aws.backend.credentials(&scope()).await.unwrap();
            aws.operations().len()
        }
    };
    assert_eq!(calls_of("AKIAONE", ROLE, "user:alice").await, 2);
    assert_eq!(calls_of("AKIAONE", ROLE, "user:alice").await, 0);
    assert_eq!(calls_of("AKIATWO", ROLE, "user:alice").await, 2);
    assert_eq!(calls_of("AKIAONE", "arn:aws:iam::095412845506:role/other", "user:alice").await, 2);
    assert_eq!(calls_of("AKIAONE", ROLE, "user:bob").await, 2);
    assert_eq!(count.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn a_temporary_key_is_remembered_as_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("credentials");
    let operations = |key: &'static str, account: &'static str| {
        let directory = directory.clone();
        async move {
            let token = Some("token".to_owned());
            let keys = Credentials::new(key, "secret", token, None, "test");
            let provider = aws_sdk_ecr::config::SharedCredentialsProvider::new(keys);
            let config = sdk_config().into_builder().credentials_provider(provider).build();
            let aws = Scripted::built(
                |builder| builder.sdk_config(config).cache_directory(directory).role_arn(ROLE),
                account,
                generous,
            );
            aws.backend.credentials(&scope()).await.unwrap();
            aws.operations()
        }
    };
    let all = ["GetCallerIdentity", "AssumeRole", "GetAuthorizationToken"];
    assert_eq!(operations("ASIA1", ACCOUNT).await, all);
    assert_eq!(operations("ASIA1", ACCOUNT).await, Vec::<String>::new());
    assert_eq!(operations("ASIA2", ACCOUNT).await, ["GetCallerIdentity"]);
    assert_eq!(operations("ASIA2", ACCOUNT).await, Vec::<String>::new());
    assert_eq!(operations("ASIA3", "111122223333").await, all);
}
