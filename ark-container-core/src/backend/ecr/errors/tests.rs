use std::error::Error as _;

use super::super::scripted::{Answer, Scripted};
use super::AwsRefusal;
use crate::backend::RegistryBackend;
use crate::error::Error;
use crate::model::RepositoryPath;

fn path() -> RepositoryPath {
    "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap()
}

/// What a deletion fails with when AWS answers so.
async fn error(answer: Answer) -> Error {
    let aws = Scripted::new(move |_| answer.clone());
    aws.backend.delete_repository(&path(), &Default::default()).await.unwrap_err()
}

fn variant(error: &Error) -> &'static str {
    match error {
        Error::InvalidInput { .. } => "InvalidInput",
        Error::Unauthenticated { .. } => "Unauthenticated",
        Error::PermissionDenied { .. } => "PermissionDenied",
        Error::NotFound { .. } => "NotFound",
        Error::Conflict { .. } => "Conflict",
        Error::Temporary { .. } => "Temporary",
        Error::Failed { .. } => "Failed",
        _ => "another",
    }
}

#[tokio::test]
async fn each_answer_is_the_error_that_says_what_to_do_next() {
    let table = [
        (400, "ExpiredTokenException", "Unauthenticated", "aws sso login --profile"),
        (403, "ExpiredToken", "Unauthenticated", "has expired"),
        (400, "UnrecognizedClientException", "Unauthenticated", "does not take the credentials"),
        (403, "InvalidClientTokenId", "Unauthenticated", "does not take the credentials"),
        (400, "InvalidSignatureException", "Unauthenticated", "does not take the credentials"),
        (403, "RequestTimeTooSkewed", "Unauthenticated", "clock is wrong, AWS's says Mon, 02 Nov"),
        (400, "AccessDeniedException", "PermissionDenied", "the AWS caller may not delete"),
        (400, "ThrottlingException", "Temporary", "ThrottlingException"),
        (400, "TooManyRequestsException", "Temporary", "TooManyRequestsException"),
        (500, "ServerException", "Temporary", "ServerException"),
        (503, "SomethingNew", "Temporary", "SomethingNew"),
        (429, "SomethingNew", "Temporary", "SomethingNew"),
        (400, "LimitExceededException", "Failed", "a quota of the account is reached"),
        (400, "KmsException", "Failed", "AWS KMS cannot use the key"),
        (400, "InvalidParameterException", "InvalidInput", "InvalidParameterException"),
        (400, "ValidationException", "InvalidInput", "ValidationException"),
        (400, "TooManyTagsException", "InvalidInput", "TooManyTagsException"),
        (400, "SomethingNew", "Failed", "SomethingNew"),
    ];
    for (status, code, expected, text) in table {
        let error = error(Answer::error(status, code, "the message")).await;
        let refusal = error.source().map(|source| source.downcast_ref::<AwsRefusal>().unwrap());
        let told = format!("{error}: {}", refusal.map(ToString::to_string).unwrap_or_default());
        assert_eq!(variant(&error), expected, "{code}: {told}");
        for part in [text, "the message", "AWS request 7a1b"] {
            assert_eq!(told.matches(part).count(), 1, "{code}: {told}");
        }
        assert!(refusal.is_none_or(|refusal| refusal.code() == code), "{told}");
    }
}

#[tokio::test]
async fn what_is_missing_or_in_the_way_is_named() {
    let missing = error(Answer::error(400, "RepositoryNotFoundException", "no")).await;
    assert_eq!(missing.to_string(), format!("repository {} does not exist", path()));
    let full = error(Answer::error(400, "RepositoryNotEmptyException", "no")).await;
    assert_eq!(full.to_string(), format!("repository {} has images", path()));
}

#[tokio::test]
async fn a_denial_says_which_action_on_which_resource() {
    let message = "User: arn:aws:iam::095412845506:user/alice is not authorized to perform: \
        ecr:DeleteRepository on resource: arn:aws:ecr:us-east-1:095412845506:repository/x because \
        no identity-based policy allows the ecr:DeleteRepository action";
    let error = error(Answer::error(400, "AccessDeniedException", message)).await;
    assert_eq!(
        error.to_string(),
        "arn:aws:iam::095412845506:user/alice may not ecr:DeleteRepository \
         arn:aws:ecr:us-east-1:095412845506:repository/x, because no identity-based policy allows \
         the ecr:DeleteRepository action (AWS request 7a1b)"
    );
}

#[tokio::test]
async fn a_signature_in_the_past_is_the_clock_s_fault() {
    let message = "Signature expired: 20261102T090000Z is now earlier than 20261102T095500Z";
    let error = error(Answer::error(400, "InvalidSignatureException", message)).await;
    assert!(error.to_string().contains("clock is wrong"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_aws_s_is_told_with_its_cause() {
    let error = error(Answer::raw(200, "<html>".to_owned())).await;
    assert_eq!(variant(&error), "Temporary", "{error}");
    let mut cause = error.source();
    assert!(cause.is_some());
    let mut told = vec![error.to_string()];
    while let Some(error) = cause {
        assert!(!told.contains(&error.to_string()), "{told:?}");
        told.push(error.to_string());
        cause = error.source();
    }
}

#[tokio::test]
async fn a_denial_of_another_account_says_so() {
    for code in ["AccessDeniedException", "RepositoryNotFoundException"] {
        let aws = Scripted::built(
            |builder| builder.profile("builds"),
            "111122223333",
            move |_| Answer::error(400, code, "no"),
        );
        let error = aws.backend.describe_repository(&path()).await.unwrap_err();
        let told = error.to_string();
        assert_eq!(variant(&error), "InvalidInput", "{told}");
        for part in ["095412845506", "111122223333", "\"builds\"", "user/alice"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
