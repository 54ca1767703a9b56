use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::scripted::{ACCOUNT, Request, Response, Scripted, described, principal};
use super::*;
use crate::backend::RegistryBackend;
use crate::error::ErrorKind;

const POLICY: &str = r#"{"rules": [{"rulePriority": 1}]}"#;

fn path() -> RepositoryPath {
    "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap()
}

fn whole() -> Value {
    described(&path().to_string())
}

/// AWS with one existing repository.
fn present(repository: Value, policy: Option<&'static str>) -> impl Fn(&Request) -> Response {
    move |request| match request.operation.as_str() {
        "CreateRepository" => Response::error(400, "RepositoryAlreadyExistsException", "it exists"),
        "DescribeRepositories" => Response::ok(json!({"repositories": [repository]})),
        "ListTagsForResource" => Response::ok(json!({"tags": [
            {"Key": "team", "Value": "maps"},
            {"Key": "ark:created-by", "Value": "user:bob"},
            {"Key": "ark:organization", "Value": path().organization()},
        ]})),
        "GetLifecyclePolicy" => match policy {
            Some(policy) => Response::ok(json!({"lifecyclePolicyText": policy})),
            None => Response::error(400, "LifecyclePolicyNotFoundException", "none"),
        },
        "GetRepositoryPolicy" => match policy {
            Some(policy) => Response::ok(json!({"policyText": policy})),
            None => Response::error(400, "RepositoryPolicyNotFoundException", "none"),
        },
        "PutLifecyclePolicy" | "SetRepositoryPolicy" => Response::ok(json!({})),
        other => panic!("{other}"),
    }
}

/// Returns the responses of AWS, which creates each requested repository.
fn fresh(request: &Request) -> Response {
    match request.operation.as_str() {
        "CreateRepository" => Response::ok(json!({"repository": whole()})),
        "DescribeRepositories" => Response::ok(json!({"repositories": [whole()]})),
        _ => Response::ok(json!({})),
    }
}

async fn create(aws: &Scripted, options: &CreateOptions) -> Result<Repository> {
    aws.backend.create_repository(&path(), options).await
}

#[tokio::test]
async fn creation_needs_an_extra_call_for_lifecycle_policy_only() {
    let aws = Scripted::built(|builder| builder.with_principal("user:alice"), ACCOUNT, fresh);
    let options = CreateOptions::default()
        .with_tag_mutability(TagMutability::Immutable)
        .with_mutability_exclusion("dev-*".parse().unwrap())
        .with_resource_tag("team", "maps")
        .with_encryption(Encryption::Kms { key: Some("alias/images".to_owned()) })
        .with_scan_on_push(true)
        .with_lifecycle_policy(POLICY);
    let created = create(&aws, &options).await.unwrap();
    let expected = [
        ("ark:created-by", "user:alice"),
        ("ark:organization", "2ea25035-6aa4-42fb-9955-92288ea1b972"),
        ("team", "maps"),
    ];
    let tags = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(created.resource_tags, Some(tags.into()));
    assert_eq!(
        aws.operations(),
        ["CreateRepository", "DescribeRepositories", "PutLifecyclePolicy"]
    );
    let requests = aws.requests();
    let tags = expected.map(|(key, value)| json!({"Key": key, "Value": value}));
    assert_eq!(
        requests[0].input,
        json!({
            "registryId": ACCOUNT,
            "repositoryName": path().to_string(),
            "tags": tags,
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters":
                [{"filterType": "WILDCARD", "filter": "dev-*"}],
            "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/images"},
            "imageScanningConfiguration": {"scanOnPush": true},
        })
    );
    assert_eq!(requests[2].input["lifecyclePolicyText"], POLICY);
}

#[tokio::test]
async fn invalid_options_are_rejected_before_any_call() {
    let many = (0..6).fold(CreateOptions::default(), |options, number| {
        options.with_mutability_exclusion(format!("v{number}").parse().unwrap())
    });
    for (options, text) in [
        (many, "6 exceptions to the tag mutability, of at most 5"),
        (CreateOptions::default().with_resource_tag("ark:organization", "x"), "is reserved"),
        (CreateOptions::default().with_lifecycle_policy("{"), "is not JSON"),
    ] {
        let aws = Scripted::new(fresh);
        let error = create(&aws, &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(aws.requests().is_empty());
    }
}

#[tokio::test]
async fn existing_repository_with_same_settings_is_returned() {
    let mut repository = whole();
    let key = "arn:aws:kms:us-east-1:095412845506:key/1234";
    repository["encryptionConfiguration"] = json!({"encryptionType": "KMS", "kmsKey": key});
    repository["imageScanningConfiguration"] = json!({"scanOnPush": true});
    let kms = |key: Option<&str>| Encryption::Kms { key: key.map(str::to_owned) };
    for options in [
        CreateOptions::default(),
        CreateOptions::default().with_resource_tag("team", "maps"),
        CreateOptions::default().with_scan_on_push(true).with_encryption(kms(None)),
        CreateOptions::default().with_encryption(kms(Some(key))),
        CreateOptions::default().with_encryption(kms(Some("1234"))),
        CreateOptions::default().with_encryption(kms(Some("alias/images"))),
        CreateOptions::default().with_lifecycle_policy(" {\"rules\":[{\"rulePriority\":1}]}"),
    ] {
        let aws = Scripted::new(present(repository.clone(), Some(POLICY)));
        let found = create(&aws, &options).await.unwrap();
        assert_eq!(found.resource_tags.unwrap()["ark:created-by"], "user:bob");
        assert!(!aws.operations().contains(&"PutLifecyclePolicy".to_owned()));
    }
}

#[tokio::test]
async fn existing_repository_gets_the_organization_tag() {
    let untagged = |tagging: Response| {
        let present = present(whole(), None);
        Scripted::new(move |request| match request.operation.as_str() {
            "ListTagsForResource" => {
                Response::ok(json!({"tags": [{"Key": "by", "Value": "terraform"}]}))
            }
            "TagResource" => tagging.clone(),
            _ => present(request),
        })
    };
    let organization = path().organization().to_string();
    let aws = untagged(Response::ok(json!({})));
    let found = create(&aws, &CreateOptions::default()).await.unwrap();
    assert_eq!(found.resource_tags.unwrap()[ORGANIZATION_TAG], organization);
    let requests = aws.requests();
    let tagged = requests.iter().find(|request| request.operation == "TagResource").unwrap();
    assert_eq!(tagged.input["tags"], json!([{"Key": ORGANIZATION_TAG, "Value": organization}]));
    assert!(tagged.input["resourceArn"].as_str().unwrap().ends_with(&path().to_string()));
    // A caller without permission to tag the repository gets it nevertheless.
    let aws = untagged(Response::error(400, "AccessDeniedException", "no"));
    let found = create(&aws, &CreateOptions::default()).await.unwrap();
    assert_eq!(found.resource_tags.unwrap().get(ORGANIZATION_TAG), None);
}

#[tokio::test]
async fn dual_layer_encryption_is_created_and_compared() {
    let key = "arn:aws:kms:us-east-1:095412845506:key/1234";
    let mut repository = whole();
    repository["encryptionConfiguration"] = json!({"encryptionType": "KMS_DSSE", "kmsKey": key});
    let with = |encryption| CreateOptions::default().with_encryption(encryption);
    let own = with(Encryption::KmsDsse { key: Some("1234".to_owned()) });
    let aws = Scripted::new(fresh);
    create(&aws, &own).await.unwrap();
    let encryption = &aws.requests()[0].input["encryptionConfiguration"];
    assert_eq!(*encryption, json!({"encryptionType": "KMS_DSSE", "kmsKey": "1234"}));
    for same in [own, with(Encryption::KmsDsse { key: None })] {
        create(&Scripted::new(present(repository.clone(), None)), &same).await.unwrap();
    }
    let other = with(Encryption::Kms { key: None });
    let error = create(&Scripted::new(present(repository, None)), &other).await.unwrap_err();
    let expected = format!("with the encryption KMS_DSSE with the key {key}");
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn conflict_names_the_difference() {
    let mut excepted = whole();
    excepted["imageTagMutability"] = "MUTABLE_WITH_EXCLUSION".into();
    excepted["imageTagMutabilityExclusionFilters"] =
        json!([{"filterType": "WILDCARD", "filter": "v*"}]);
    let options = CreateOptions::default;
    let kms = Encryption::Kms { key: None };
    for (repository, options, text) in [
        (whole(), options().with_tag_mutability(TagMutability::Immutable), "with mutable tags"),
        (excepted, options(), "with mutable tags except v*"),
        (
            whole(),
            options().with_mutability_exclusion("v*".parse().unwrap()),
            "with mutable tags, without exceptions",
        ),
        (whole(), options().with_encryption(kms), "with the encryption AES256"),
        (whole(), options().with_scan_on_push(true), "without a scan on push"),
        (whole(), options().with_resource_tag("team", "video"), "the resource tag team=video"),
        (whole(), options().with_lifecycle_policy("{}"), "with another lifecycle policy"),
    ] {
        let aws = Scripted::new(present(repository, Some(POLICY)));
        let error = create(&aws, &options).await.unwrap_err();
        let expected = format!("repository {} already exists ", path());
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.to_string().ends_with(text), "{error}");
    }
}

#[tokio::test]
async fn retry_after_lost_response_succeeds() {
    let first = Mutex::new(true);
    let present = present(whole(), None);
    let aws = Scripted::new(move |request| {
        // AWS created the repository, but the response was lost.
        if request.operation == "CreateRepository" && std::mem::take(&mut *first.lock().unwrap()) {
            return Response::raw(504, String::new());
        }
        present(request)
    });
    create(&aws, &CreateOptions::default()).await.unwrap();
    assert_eq!(aws.operations()[..2], ["CreateRepository", "CreateRepository"]);
}

#[tokio::test]
async fn repeated_request_sets_policy_after_failure() {
    let options = CreateOptions::default().with_lifecycle_policy(POLICY);
    for (code, expected) in [
        ("ServerException", ErrorKind::Temporary),
        ("AccessDeniedException", ErrorKind::PermissionDenied),
        ("ValidationException", ErrorKind::InvalidInput),
        ("SomethingNew", ErrorKind::Failed),
    ] {
        let aws = Scripted::new(move |request| match request.operation.as_str() {
            "PutLifecyclePolicy" => Response::error(400, code, "no"),
            _ => fresh(request),
        });
        let error = create(&aws, &options).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("the repository {} exists", path())), "{text}");
        assert!(text.contains("repeat the same request"), "{text}");
    }
    let aws = Scripted::new(present(whole(), None));
    create(&aws, &options).await.unwrap();
    assert_eq!(aws.operations().last().unwrap(), "PutLifecyclePolicy");
}

#[tokio::test(start_paused = true)]
async fn creation_waits_until_repository_is_visible() {
    let late = |times: usize, other: fn(&Request) -> Response| {
        let left = Mutex::new(times);
        move |request: &Request| {
            let mut left = left.lock().unwrap();
            if request.operation == "DescribeRepositories" && *left > 0 {
                *left -= 1;
                return Response::error(400, "RepositoryNotFoundException", "not yet");
            }
            other(request)
        }
    };
    create(&Scripted::new(late(3, fresh)), &CreateOptions::default()).await.unwrap();
    let existing = |request: &Request| present(whole(), None)(request);
    create(&Scripted::new(late(3, existing)), &CreateOptions::default()).await.unwrap();
    let never = Scripted::new(late(usize::MAX, fresh));
    let error = create(&never, &CreateOptions::default()).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("is created"), "{error}");
    assert!(never.requests().len() < 10);
}

#[tokio::test]
async fn creation_names_the_account_of_the_registry() {
    let aws = Scripted::built(
        |builder| builder,
        "111122223333",
        |request| {
            assert_eq!(request.input["registryId"], ACCOUNT);
            Response::error(400, "AccessDeniedException", "no")
        },
    );
    let error = create(&aws, &CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::PermissionDenied, "{error}");
}

/// AWS for a backend with a repository policy.
fn guarded(
    policy: &'static str,
    respond: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Scripted {
    Scripted::built(|builder| builder.with_repository_policy(policy), ACCOUNT, respond)
}

#[tokio::test]
async fn repository_policy_is_set_before_lifecycle_policy() {
    let aws = guarded(r#"{"Statement": []}"#, fresh);
    let options = CreateOptions::default().with_lifecycle_policy(POLICY);
    create(&aws, &options).await.unwrap();
    assert_eq!(aws.operations()[2..], ["SetRepositoryPolicy", "PutLifecyclePolicy"]);
    let input = &aws.requests()[2].input;
    assert_eq!(input["policyText"], r#"{"Statement": []}"#);
    assert_eq!(input["registryId"], ACCOUNT);
    assert_eq!(input.get("force"), None);
}

#[tokio::test]
async fn repository_policy_is_added_and_never_replaced() {
    let options = CreateOptions::default();
    let aws = guarded("{}", |request| match request.operation.as_str() {
        "SetRepositoryPolicy" => Response::error(400, "AccessDeniedException", "no"),
        _ => fresh(request),
    });
    let error = create(&aws, &options).await.unwrap_err().to_string();
    assert!(error.contains("without its repository policy; repeat the same request"), "{error}");

    let aws = guarded("{}", present(whole(), None));
    create(&aws, &options).await.unwrap();
    assert_eq!(aws.operations().last().unwrap(), "SetRepositoryPolicy");

    let aws = guarded(r#"{"rules":{"rulePriority":1}}"#, present(whole(), Some(POLICY)));
    create(&aws, &options).await.unwrap();
    assert_eq!(aws.operations().last().unwrap(), "GetRepositoryPolicy");

    let aws = guarded("{}", present(whole(), Some(POLICY)));
    let error = create(&aws, &options).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    assert!(error.to_string().ends_with("with another repository policy"), "{error}");

    let aws = guarded("{", fresh);
    let error = create(&aws, &options).await.unwrap_err().to_string();
    assert!(error.contains("the repository policy is not JSON"), "{error}");
    assert!(aws.requests().is_empty());
}

#[tokio::test]
async fn creator_tag_names_acting_principal() {
    let aws = Scripted::built(|builder| builder.with_principal("robot:service"), ACCOUNT, fresh);
    for (name, value) in [
        ("user:alice", "user:alice"),
        // AWS rejects these characters in the value of a tag.
        ("user:bob, of the \"team\"", "user:bob--of-the--team-+"),
    ] {
        let backend = aws.backend.acting_as(&principal(name));
        let created = backend.create_repository(&path(), &CreateOptions::default()).await.unwrap();
        let creator = &created.resource_tags.unwrap()[CREATED_BY_TAG];
        assert!(creator.starts_with(value), "{creator}");
    }
    let own = create(&aws, &CreateOptions::default()).await.unwrap();
    assert_eq!(own.resource_tags.unwrap()[CREATED_BY_TAG], "robot:service");
}

#[test]
fn policies_are_equal_despite_list_order_and_form() {
    let written = r#"{"Statement":[{"Action":["b","a"],"Effect":"Deny"}]}"#;
    assert!(same_policy(written, r#"{ "Statement": {"Effect":"Deny","Action":["a","b"]} }"#));
    assert!(!same_policy(written, r#"{"Statement":[{"Action":["a"],"Effect":"Deny"}]}"#));
    assert!(!same_policy(written, "{"));
    assert!(!same_policy("{", "{"));
}
