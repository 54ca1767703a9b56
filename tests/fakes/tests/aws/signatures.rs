//! Signatures of requests: keys, regions and times.

use ark_container_fakes::aws::cloud::{Cloud, code, message, one_attempt};
use ark_container_fakes::aws::{AccessKey, User};
use reqwest::StatusCode;

#[tokio::test]
async fn signature_with_wrong_secret_is_rejected() {
    let cloud = Cloud::start().await;
    cloud.ecr(&cloud.admin).describe_repositories().send().await.unwrap();
    let wrong = AccessKey::new(&cloud.admin.access_key().id, "wrong");
    let wrong = User::new("admin").with_access_key(wrong);
    let refused = cloud.ecr(&wrong).describe_repositories().send().await;
    assert_eq!(code(refused), "InvalidSignatureException");
    let refused = cloud.sts(&wrong).get_caller_identity().send().await;
    assert_eq!(code(refused), "SignatureDoesNotMatch");
    assert_eq!(cloud.aws.calls()[1].principal, None);
}

#[tokio::test]
async fn unknown_key_has_error_code_of_its_service() {
    let cloud = Cloud::start().await;
    let unknown = User::new("unknown");
    let refused = cloud.ecr(&unknown).describe_repositories().send().await;
    assert_eq!(code(refused), "UnrecognizedClientException");
    let refused = cloud.sts(&unknown).get_caller_identity().send().await;
    assert_eq!(code(refused), "InvalidClientTokenId");
    // A session token that does not belong to the key.
    let config = cloud.config(cloud.admin.access_key(), Some("token"));
    let refused = aws_sdk_ecr::Client::new(&config).describe_repositories().send().await;
    assert_eq!(code(refused), "UnrecognizedClientException");
}

#[tokio::test]
async fn signature_is_for_one_region_except_for_sts() {
    let host = "095412845506.dkr.ecr.cn-north-1.amazonaws.com.cn".parse().unwrap();
    let cloud = Cloud::start_with(|aws| aws.with_host(host)).await;
    let created = cloud.ecr(&cloud.admin).create_repository().repository_name("other/a").send();
    let arn = created.await.unwrap().repository.unwrap().repository_arn.unwrap();
    assert_eq!(arn, "arn:aws-cn:ecr:cn-north-1:095412845506:repository/other/a");
    let config = cloud.config(cloud.admin.access_key(), None).into_builder();
    let config = config.region(aws_config::Region::new("us-east-1")).build();
    let refused = aws_sdk_ecr::Client::new(&config).describe_repositories().send().await;
    assert_eq!(message(refused), "Credential should be scoped to a valid region.");
    aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.unwrap();
}

#[tokio::test]
async fn signature_allows_15_minutes_of_clock_skew() {
    let cloud = Cloud::start().await;
    // Each request has a new client, because a client may correct its clock after a response.
    let config = one_attempt(&cloud);
    let ask = || aws_sdk_ecr::Client::new(&config).describe_repositories().send();
    for seconds in [-890, 890] {
        cloud.aws.set_clock_ahead(seconds);
        ask().await.unwrap();
    }
    cloud.aws.set_clock_ahead(1_000);
    assert!(message(ask().await).starts_with("Signature expired: "));
    cloud.aws.set_clock_ahead(-1_000);
    assert!(message(ask().await).starts_with("Signature not yet current: "));
}

#[tokio::test]
async fn unsigned_request_is_rejected() {
    let cloud = Cloud::start().await;
    let request = |target: &str| {
        let client = reqwest::Client::new().post(cloud.aws.endpoint_url());
        client.header("x-amz-target", format!("AmazonEC2ContainerRegistry_V20150921.{target}"))
    };
    let refused = request("DescribeRepositories").body("{}").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.text().await.unwrap().contains("MissingAuthenticationTokenException"));
    let query = "Action=GetCallerIdentity&Version=2011-06-15";
    let refused = reqwest::Client::new().post(cloud.aws.endpoint_url()).body(query).send().await;
    let refused = refused.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.text().await.unwrap().contains("<Code>MissingAuthenticationToken</Code>"));
    // The name of the only unsigned operation is rejected for other services.
    let refused = request("AssumeRoleWithWebIdentity").body("{}").send().await.unwrap();
    assert!(refused.text().await.unwrap().contains("MissingAuthenticationTokenException"));
}
