use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::scripted::{ACCOUNT, Answer, Asked, Scripted, described, principal};
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

/// AWS with one repository that was there before.
fn present(repository: Value, policy: Option<&'static str>) -> impl Fn(&Asked) -> Answer {
    move |asked| match asked.operation.as_str() {
        "CreateRepository" => Answer::error(400, "RepositoryAlreadyExistsException", "it exists"),
        "DescribeRepositories" => Answer::ok(json!({"repositories": [repository]})),
        "ListTagsForResource" => Answer::ok(json!({"tags": [
            {"Key": "team", "Value": "maps"},
            {"Key": "ark:created-by", "Value": "user:bob"},
            {"Key": "ark:organization", "Value": path().organization()},
        ]})),
        "GetLifecyclePolicy" => match policy {
            Some(policy) => Answer::ok(json!({"lifecyclePolicyText": policy})),
            None => Answer::error(400, "LifecyclePolicyNotFoundException", "none"),
        },
        "GetRepositoryPolicy" => match policy {
            Some(policy) => Answer::ok(json!({"policyText": policy})),
            None => Answer::error(400, "RepositoryPolicyNotFoundException", "none"),
        },
        "PutLifecyclePolicy" | "SetRepositoryPolicy" => Answer::ok(json!({})),
        other => panic!("{other}"),
    }
}

/// AWS that creates what is asked for.
fn fresh(asked: &Asked) -> Answer {
    match asked.operation.as_str() {
        "CreateRepository" => Answer::ok(json!({"repository": whole()})),
        "DescribeRepositories" => Answer::ok(json!({"repositories": [whole()]})),
        _ => Answer::ok(json!({})),
    }
}

async fn create(aws: &Scripted, options: &CreateOptions) -> Result<Repository> {
    aws.backend.create_repository(&path(), options).await
}

#[tokio::test]
async fn everything_but_the_lifecycle_policy_goes_into_one_call() {
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
    let asked = aws.asked();
    let tags = expected.map(|(key, value)| json!({"Key": key, "Value": value}));
    assert_eq!(
        asked[0].input,
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
    assert_eq!(asked[2].input["lifecyclePolicyText"], POLICY);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_asked() {
    let many = (0..6).fold(CreateOptions::default(), |options, number| {
        options.with_mutability_exclusion(format!("v{number}").parse().unwrap())
    });
    for (options, text) in [
        (many, "6 exceptions to the tag mutability, of at most 5"),
        (CreateOptions::default().with_resource_tag("ark:organization", "x"), "ark: is its own"),
        (CreateOptions::default().with_lifecycle_policy("{"), "is no JSON"),
    ] {
        let aws = Scripted::new(fresh);
        let error = create(&aws, &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(aws.asked().is_empty());
    }
}

#[tokio::test]
async fn what_exists_as_asked_for_is_returned() {
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
    let untagged = |tagging: Answer| {
        let present = present(whole(), None);
        Scripted::new(move |asked| match asked.operation.as_str() {
            "ListTagsForResource" => {
                Answer::ok(json!({"tags": [{"Key": "by", "Value": "terraform"}]}))
            }
            "TagResource" => tagging.clone(),
            _ => present(asked),
        })
    };
    let organization = path().organization().to_string();
    let aws = untagged(Answer::ok(json!({})));
    let found = create(&aws, &CreateOptions::default()).await.unwrap();
    assert_eq!(found.resource_tags.unwrap()[ORGANIZATION_TAG], organization);
    let asked = aws.asked();
    let tagged = asked.iter().find(|asked| asked.operation == "TagResource").unwrap();
    assert_eq!(tagged.input["tags"], json!([{"Key": ORGANIZATION_TAG, "Value": organization}]));
    assert!(tagged.input["resourceArn"].as_str().unwrap().ends_with(&path().to_string()));
    // Who may not tag it can use it nevertheless.
    let aws = untagged(Answer::error(400, "AccessDeniedException", "no"));
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
    let asked = &aws.asked()[0].input["encryptionConfiguration"];
    assert_eq!(*asked, json!({"encryptionType": "KMS_DSSE", "kmsKey": "1234"}));
    for same in [own, with(Encryption::KmsDsse { key: None })] {
        create(&Scripted::new(present(repository.clone(), None)), &same).await.unwrap();
    }
    let other = with(Encryption::Kms { key: None });
    let error = create(&Scripted::new(present(repository, None)), &other).await.unwrap_err();
    let expected = format!("with the encryption KMS_DSSE with the key {key}");
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn a_conflict_names_the_difference() {
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
            "with mutable tags alone",
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
async fn a_timeout_that_was_retried_is_a_success() {
    let first = Mutex::new(true);
    let present = present(whole(), None);
    let aws = Scripted::new(move |asked| {
        // It was created, but the answer got lost.
        if asked.operation == "CreateRepository" && std::mem::take(&mut *first.lock().unwrap()) {
            return Answer::raw(504, String::new());
        }
        present(asked)
    });
    create(&aws, &CreateOptions::default()).await.unwrap();
    assert_eq!(aws.operations()[..2], ["CreateRepository", "CreateRepository"]);
}

#[tokio::test]
async fn a_policy_that_fails_leaves_what_the_same_request_finishes() {
    let options = CreateOptions::default().with_lifecycle_policy(POLICY);
    for (code, expected) in [
        ("ServerException", ErrorKind::Temporary),
        ("AccessDeniedException", ErrorKind::PermissionDenied),
        ("ValidationException", ErrorKind::InvalidInput),
        ("SomethingNew", ErrorKind::Failed),
    ] {
        let aws = Scripted::new(move |asked| match asked.operation.as_str() {
            "PutLifecyclePolicy" => Answer::error(400, code, "no"),
            _ => fresh(asked),
        });
        let error = create(&aws, &options).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("the repository {} exists", path())), "{text}");
        assert!(text.contains("the same request again"), "{text}");
    }
    let aws = Scripted::new(present(whole(), None));
    create(&aws, &options).await.unwrap();
    assert_eq!(aws.operations().last().unwrap(), "PutLifecyclePolicy");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_yet_is_waited_for() {
    let late = |times: usize, other: fn(&Asked) -> Answer| {
        let left = Mutex::new(times);
        move |asked: &Asked| {
            let mut left = left.lock().unwrap();
            if asked.operation == "DescribeRepositories" && *left > 0 {
                *left -= 1;
                return Answer::error(400, "RepositoryNotFoundException", "not yet");
            }
            other(asked)
        }
    };
    create(&Scripted::new(late(3, fresh)), &CreateOptions::default()).await.unwrap();
    let existing = |asked: &Asked| present(whole(), None)(asked);
    create(&Scripted::new(late(3, existing)), &CreateOptions::default()).await.unwrap();
    let never = Scripted::new(late(usize::MAX, fresh));
    let error = create(&never, &CreateOptions::default()).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("is created"), "{error}");
    assert!(never.asked().len() < 10);
}

#[tokio::test]
async fn nothing_is_created_in_another_account() {
    let aws = Scripted::built(
        |builder| builder,
        "111122223333",
        |asked| {
            assert_eq!(asked.input["registryId"], ACCOUNT);
            Answer::error(400, "AccessDeniedException", "no")
        },
    );
    let error = create(&aws, &CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::PermissionDenied, "{error}");
}

/// AWS, for a backend that gives each repository a policy.
fn guarded(
    policy: &'static str,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> Scripted {
    Scripted::built(|builder| builder.with_repository_policy(policy), ACCOUNT, answer)
}

#[tokio::test]
async fn who_may_use_a_repository_is_said_before_which_images_expire() {
    let aws = guarded(r#"{"Statement": []}"#, fresh);
    let options = CreateOptions::default().with_lifecycle_policy(POLICY);
    create(&aws, &options).await.unwrap();
    assert_eq!(aws.operations()[2..], ["SetRepositoryPolicy", "PutLifecyclePolicy"]);
    let asked = &aws.asked()[2].input;
    assert_eq!(asked["policyText"], r#"{"Statement": []}"#);
    assert_eq!(asked["registryId"], ACCOUNT);
    assert_eq!(asked.get("force"), None);
}

#[tokio::test]
async fn a_repository_policy_is_finished_and_never_replaced() {
    let options = CreateOptions::default();
    let aws = guarded("{}", |asked| match asked.operation.as_str() {
        "SetRepositoryPolicy" => Answer::error(400, "AccessDeniedException", "no"),
        _ => fresh(asked),
    });
    let error = create(&aws, &options).await.unwrap_err().to_string();
    assert!(error.contains("without its repository policy; the same request again"), "{error}");

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
    assert!(error.contains("the repository policy is no JSON"), "{error}");
    assert!(aws.asked().is_empty());
}

#[tokio::test]
async fn creator_tag_names_acting_principal() {
    let aws = Scripted::built(|builder| builder.with_principal("robot:service"), ACCOUNT, fresh);
    for (name, value) in [
        ("user:alice", "user:alice"),
        // AWS does not accept these characters in the value of a tag.
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
fn lists_have_no_order_and_one_value_needs_none() {
    let written = r#"{"Statement":[{"Action":["b","a"],"Effect":"Deny"}]}"#;
    assert!(same_policy(written, r#"{ "Statement": {"Effect":"Deny","Action":["a","b"]} }"#));
    assert!(!same_policy(written, r#"{"Statement":[{"Action":["a"],"Effect":"Deny"}]}"#));
    assert!(!same_policy(written, "{"));
    assert!(!same_policy("{", "{"));
}
