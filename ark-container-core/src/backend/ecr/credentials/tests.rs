//! Tests of logins with scripted responses of AWS.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::scripted::{
    ACCOUNT, HOST, Request, Response, Scripted, assumed, authorization, field, principal,
    sdk_config, session, sts_error,
};
use super::*;
use crate::RegistryBackend;
use crate::backend::ecr::EcrBackendBuilder;
use crate::model::{Access, OrganizationId, Stage};

const ROLE: &str = "arn:aws:iam::095412845506:role/registry";
/// The end of the scripted sessions, in the year 2100.
const SESSION_END_SECONDS: u64 = 4_102_444_800;
const HOUR_SECONDS: u64 = 3600;

fn scope() -> Scope {
    Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Push)
}

/// AWS that allows every session and login.
fn generous(request: &Request) -> Response {
    match request.operation.as_str() {
        "AssumeRole" => session("ASIASESSION"),
        "GetAuthorizationToken" => authorization(
            &format!("https://{HOST}"),
            SESSION_END_SECONDS + HOUR_SECONDS,
            "AWS:secret",
        ),
        other => panic!("{other} is not expected"),
    }
}

/// Returns the error of a login with this response.
async fn error_for(response: Response) -> Error {
    let aws = Scripted::new(move |_| response.clone());
    aws.backend.credentials(&scope(), &Default::default()).await.unwrap_err()
}

#[tokio::test]
async fn requested_lifetime_is_sent_to_sts() {
    let hour = CredentialsOptions::default().with_lifetime(Duration::from_secs(HOUR_SECONDS));
    let aws = Scripted::built(|builder| builder.with_role_arn(ROLE), ACCOUNT, generous);
    aws.backend.registry_credentials(&scope(), &hour).await.unwrap();
    assert_eq!(field(&aws.requests()[0], "DurationSeconds"), "3600");

    let two_hours = Duration::from_secs(2 * HOUR_SECONDS);
    let build = |builder: EcrBackendBuilder| {
        builder.with_role_arn(ROLE).with_credentials_lifetime(two_hours)
    };
    let aws = Scripted::built(build, ACCOUNT, generous);
    aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
    aws.backend.registry_credentials(&scope(), &hour).await.unwrap();
    let requests = aws.requests().into_iter().filter(|request| request.operation == "AssumeRole");
    let seconds: Vec<_> = requests.map(|request| field(&request, "DurationSeconds")).collect();
    assert_eq!(seconds, ["7200", "3600"]);
}

#[tokio::test]
async fn lifetime_that_sts_rejects_is_an_error() {
    let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    let refuse = move |_: &Request| sts_error("ValidationError", message);
    let aws = Scripted::built(|builder| builder.with_role_arn(ROLE), ACCOUNT, refuse);
    let options =
        CredentialsOptions::default().with_lifetime(Duration::from_secs(6 * HOUR_SECONDS));
    let error = aws.backend.registry_credentials(&scope(), &options).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().contains("MaxSessionDuration"), "{error}");
    assert_eq!(aws.operations(), ["AssumeRole"]);
}

#[tokio::test]
async fn invalid_options_are_rejected_before_any_call() {
    let (hour, day) = (Duration::from_secs(HOUR_SECONDS), Duration::from_secs(24 * HOUR_SECONDS));
    let default = CredentialsOptions::default;
    for (options, text) in [
        (default().with_lifetime(hour), "set role_arn"),
        (default().with_require_scoped(true), "set role_arn"),
        (default().with_lifetime(hour).with_min_remaining(day), "cannot have"),
    ] {
        let aws = Scripted::new(generous);
        let error = aws.backend.registry_credentials(&scope(), &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(aws.operations(), Vec::<String>::new());
    }
}

/// AWS whose sessions end after some minutes, independently of the requested duration.
fn ending_after(minutes: u64) -> impl Fn(&Request) -> Response {
    move |request| match request.operation.as_str() {
        "AssumeRole" => {
            let end = SystemTime::now() + Duration::from_secs(minutes * 60);
            let end = humantime::format_rfc3339_seconds(end).to_string();
            assumed("AssumeRole", "ASIASESSION", &end)
        }
        _ => generous(request),
    }
}

#[tokio::test]
async fn cached_login_needs_minimum_time_remaining() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let default = CredentialsOptions::default;
    let hour = default().with_lifetime(minutes(60));
    for options in [hour.clone(), default().with_min_remaining(minutes(55)), default()] {
        let aws = Scripted::built(|builder| builder.with_role_arn(ROLE), ACCOUNT, ending_after(58));
        for _ in 0..2 {
            aws.backend.registry_credentials(&scope(), &options).await.unwrap();
        }
        assert_eq!(aws.operations().len(), 2, "{options:?}");
    }
    // A cached login is returned only if it does not expire before the minimum time.
    let session_minutes = std::sync::Arc::new(AtomicUsize::new(30));
    let shared = std::sync::Arc::clone(&session_minutes);
    let respond = move |request: &Request| {
        ending_after(shared.load(Ordering::SeqCst).try_into().unwrap())(request)
    };
    let aws = Scripted::built(|builder| builder.with_role_arn(ROLE), ACCOUNT, respond);
    let little = hour.clone().with_min_remaining(minutes(10));
    aws.backend.registry_credentials(&scope(), &little).await.unwrap();
    session_minutes.store(60, Ordering::SeqCst);
    aws.backend.registry_credentials(&scope(), &little).await.unwrap();
    assert_eq!(aws.operations().len(), 2);
    let fresh = aws.backend.registry_credentials(&scope(), &hour).await.unwrap();
    assert_eq!(aws.operations().len(), 4);
    assert!(fresh.expires_at > SystemTime::now() + minutes(55));
}

#[tokio::test]
async fn login_below_minimum_remaining_time_is_an_error() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    for options in [
        CredentialsOptions::default().with_lifetime(minutes(60)),
        CredentialsOptions::default().with_min_remaining(minutes(30)),
    ] {
        let aws = Scripted::built(|builder| builder.with_role_arn(ROLE), ACCOUNT, ending_after(20));
        let error = aws.backend.registry_credentials(&scope(), &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        assert!(error.to_string().contains("were requested"), "{error}");
    }
}

#[tokio::test]
async fn role_narrows_login_to_its_scope() {
    let aws = Scripted::built(
        |builder| builder.with_role_arn(ROLE).with_principal("user:alice"),
        ACCOUNT,
        generous,
    );
    let credentials = aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
    assert_eq!(credentials.narrowing, Narrowing::Scoped);
    assert_eq!(credentials.scope, scope());
    assert_eq!((credentials.host.as_str(), credentials.username.as_str()), (HOST, "AWS"));
    assert_eq!(credentials.password.expose(), "secret");
    let [assume, login] = &aws.requests()[..] else { panic!("{:?}", aws.operations()) };
    assert_eq!((assume.key.as_str(), login.key.as_str()), ("AKIDEXAMPLE", "ASIASESSION"));
    assert_eq!(field(assume, "RoleArn"), ROLE);
    assert_eq!(field(assume, "RoleSessionName"), "user.alice");
    assert_eq!(field(assume, "DurationSeconds"), "43200");
    let policy = field(assume, "Policy");
    assert_eq!(policy, session_policy(&HOST.parse().unwrap(), &scope(), &[]).unwrap());
}

#[tokio::test]
async fn login_expires_no_later_than_its_aws_session() {
    for (login_end, end) in [
        (SESSION_END_SECONDS + HOUR_SECONDS, SESSION_END_SECONDS),
        (SESSION_END_SECONDS - 1, SESSION_END_SECONDS - 1),
    ] {
        let aws = Scripted::built(
            |builder| builder.with_role_arn(ROLE),
            ACCOUNT,
            move |request| match request.operation.as_str() {
                "AssumeRole" => session("ASIASESSION"),
                _ => authorization(&format!("https://{HOST}"), login_end, "AWS:secret"),
            },
        );
        let credentials = aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
        assert_eq!(credentials.expires_at, UNIX_EPOCH + Duration::from_secs(end));
    }
}

#[tokio::test]
async fn login_without_role_has_permissions_of_caller() {
    let aws = Scripted::new(generous);
    let credentials = aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
    assert_eq!(credentials.narrowing, Narrowing::Caller);
    assert_eq!(aws.operations(), ["GetAuthorizationToken"]);
    let end = UNIX_EPOCH + Duration::from_secs(SESSION_END_SECONDS + HOUR_SECONDS);
    assert_eq!(credentials.expires_at, end);
}

#[tokio::test]
async fn required_scoped_login_requires_a_role() {
    let required = |role: Option<&str>| {
        let role = role.map(str::to_owned);
        Scripted::built(
            move |builder| {
                let builder = builder.with_require_scoped(true);
                role.into_iter().fold(builder, |builder, role| builder.with_role_arn(role))
            },
            ACCOUNT,
            generous,
        )
    };
    let aws = required(None);
    let error = aws.backend.credentials(&scope(), &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().contains("set role_arn for ecr://"), "{error}");
    assert_eq!(aws.operations(), Vec::<String>::new());
    assert!(required(Some(ROLE)).backend.credentials(&scope(), &Default::default()).await.is_ok());
}

#[tokio::test]
async fn session_falls_back_to_one_hour() {
    for message in [
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role \
         chaining.",
    ] {
        let aws = Scripted::built(
            |builder| builder.with_role_arn(ROLE),
            ACCOUNT,
            move |request| {
                let long = request.operation == "AssumeRole"
                    && field(request, "DurationSeconds") != "3600";
                if long { sts_error("ValidationError", message) } else { generous(request) }
            },
        );
        aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
        assert_eq!(aws.operations(), ["AssumeRole", "AssumeRole", "GetAuthorizationToken"]);
    }
}

#[tokio::test]
async fn other_errors_of_a_role_are_not_retried() {
    let refused = |code: &'static str, message: &'static str| async move {
        let aws = Scripted::built(
            |builder| builder.with_role_arn(ROLE),
            ACCOUNT,
            move |_| sts_error(code, message),
        );
        let error = aws.backend.credentials(&scope(), &Default::default()).await.unwrap_err();
        assert_eq!(aws.operations(), ["AssumeRole"], "{code}");
        error
    };
    let error = refused("PackedPolicyTooLarge", "Packed size 101%").await;
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().contains("(Packed size 101%); request fewer"), "{error}");
    let error = refused("AccessDenied", "no").await;
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    assert!(error.to_string().contains(ROLE), "{error}");
    let error = refused("ValidationError", "roleArn is odd").await;
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
}

#[tokio::test]
async fn too_many_organizations_are_rejected_before_any_call() {
    let aws = Scripted::built(|builder| builder.with_role_arn(ROLE), ACCOUNT, generous);
    let many = (0..30).map(OrganizationId::from_u128);
    let scope = Scope::organizations(Stage::default(), many, Access::Pull);
    let error = aws.backend.credentials(&scope, &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert_eq!(aws.operations(), Vec::<String>::new());
}

#[tokio::test]
async fn emulator_is_named_by_its_own_address() {
    let aws = Scripted::new(|_| {
        authorization("http://127.0.0.1:5051/", SESSION_END_SECONDS, "AWS:secret")
    });
    let credentials = aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
    assert_eq!(credentials.host.as_str(), "127.0.0.1:5051");
}

#[tokio::test]
async fn login_of_another_account_is_for_the_configured_host() {
    let other = HOST.replace("095412845506", "111122223333");
    let aws = Scripted::built(
        |builder| builder,
        "111122223333",
        move |_| authorization(&format!("https://{other}"), SESSION_END_SECONDS, "AWS:secret"),
    );
    let credentials = aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
    assert_eq!(credentials.host.as_str(), HOST);
}

#[tokio::test]
async fn invalid_login_is_an_error_without_its_secret() {
    let endpoint = format!("https://{HOST}");
    let mut responses = vec![
        Response::ok(json!({})),
        Response::ok(json!({"authorizationData": []})),
        Response::ok(json!({"authorizationData": [{}]})),
        authorization("https:///", SESSION_END_SECONDS, "AWS:hunter2"),
        authorization(&endpoint, SESSION_END_SECONDS, "hunter2"),
        authorization(&endpoint, SESSION_END_SECONDS, "EVE:hunter2"),
        authorization(&endpoint, SESSION_END_SECONDS, "AWS:"),
    ];
    let with = |field: &str, value: Value| {
        let mut data = json!({
            "authorizationToken": STANDARD.encode("AWS:hunter2"),
            "expiresAt": SESSION_END_SECONDS,
            "proxyEndpoint": endpoint,
        });
        data[field] = value;
        Response::ok(json!({ "authorizationData": [data] }))
    };
    responses.push(with("authorizationToken", json!("hunter2%")));
    responses.push(with("expiresAt", Value::Null));
    for response in responses {
        let shown = format!("{response:?}");
        let error = error_for(response).await;
        assert!(matches!(error, Error::Failed { .. } | Error::Parse(_)), "{shown}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn cached_login_is_separate_by_role_principal_and_caller() {
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
                    let builder = builder.with_sdk_config(config).with_cache_directory(directory);
                    builder.with_role_arn(role).with_principal(principal)
                },
                ACCOUNT,
                move |request| {
                    count.fetch_add(1, Ordering::SeqCst);
                    generous(request)
                },
            );
            aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
            aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
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
async fn temporary_key_is_cached_without_a_call() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("credentials");
    let operations = |key: &'static str| {
        let directory = directory.clone();
        async move {
            let keys = Credentials::new(key, "secret", Some("token".to_owned()), None, "test");
            let provider = aws_sdk_ecr::config::SharedCredentialsProvider::new(keys);
            let config = sdk_config().into_builder().credentials_provider(provider).build();
            let aws = Scripted::built(
                |builder| {
                    builder
                        .with_sdk_config(config)
                        .with_cache_directory(directory)
                        .with_role_arn(ROLE)
                },
                ACCOUNT,
                generous,
            );
            aws.backend.credentials(&scope(), &Default::default()).await.unwrap();
            aws.operations()
        }
    };
    let all = ["AssumeRole", "GetAuthorizationToken"];
    assert_eq!(operations("ASIA1").await, all);
    assert_eq!(operations("ASIA1").await, Vec::<String>::new());
    assert_eq!(operations("ASIA2").await, all);
    for file in fs::read_dir(&directory).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            assert!(!fs::read_to_string(file.path()).unwrap().contains("ASIA"));
        }
    }
}

#[tokio::test]
async fn principals_do_not_share_logins_or_sessions() {
    for (role, calls) in [(Some(ROLE), 2), (None, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("credentials");
        let build = |builder: EcrBackendBuilder| {
            let builder =
                builder.with_cache_directory(directory.clone()).with_principal("robot:service");
            role.into_iter().fold(builder, EcrBackendBuilder::with_role_arn)
        };
        let aws = Scripted::built(build, ACCOUNT, generous);
        for name in ["user:alice", "user:bob", "user:alice", "robot:service"] {
            let backend = aws.backend.acting_as(&principal(name));
            backend.credentials(&scope(), &Default::default()).await.unwrap();
        }
        let requests = aws.requests();
        assert_eq!(requests.len(), 3 * calls);
        let sessions = requests.iter().filter(|request| request.operation == "AssumeRole");
        let names: Vec<_> = sessions.map(|request| field(request, "RoleSessionName")).collect();
        let expected = ["user.alice", "user.bob", "robot.service"];
        assert_eq!(names, if role.is_some() { &expected[..] } else { &[] });
        let again = Scripted::built(build, ACCOUNT, generous);
        for name in ["user:alice", "user:bob"] {
            again
                .backend
                .acting_as(&principal(name))
                .credentials(&scope(), &Default::default())
                .await
                .unwrap();
        }
        assert_eq!(again.operations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn denied_call_names_acting_principal() {
    let aws = Scripted::new(|_| Response::error(400, "AccessDeniedException", "no"));
    let alice = aws.backend.acting_as(&principal("user:alice"));
    let error = alice.credentials(&scope(), &Default::default()).await.unwrap_err();
    assert!(error.to_string().starts_with("user:alice may not"), "{error}");
}

#[test]
fn endpoint_matches_host_by_name_or_port() {
    for (host, url, expected) in [
        ("127.0.0.1:5000", "http://127.0.0.1:4566", true),
        ("a.localhost.example:4566", "http://localhost:4566/", true),
        ("vpce.example", "https://vpce.example", true),
        ("example.com", "http://127.0.0.1:4566", false),
        ("example.com:5000", "http://127.0.0.1:4566", false),
        ("example.com", "https://vpce.example", false),
    ] {
        assert_eq!(is_host_of(host, url), expected, "{host} {url}");
    }
}
