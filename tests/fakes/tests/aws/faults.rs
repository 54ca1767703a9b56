//! Faults of the fake of AWS on demand.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use ark_container_fakes::aws::cloud::{Cloud, code, one_attempt, ours};
use ark_container_fakes::aws::{Fault, ListedRepository};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};

#[tokio::test]
async fn faults_have_error_codes_of_their_service() {
    let cloud = Cloud::start().await;
    let config = one_attempt(&cloud);
    let (ecr, sts) = (aws_sdk_ecr::Client::new(&config), aws_sdk_sts::Client::new(&config));
    cloud.aws.inject(Fault::throttle().on("ecr:DescribeRepositories").times(1));
    cloud.aws.inject(Fault::throttle().on("sts:GetCallerIdentity").times(1));
    assert_eq!(code(ecr.describe_repositories().send().await), "ThrottlingException");
    ecr.describe_repositories().send().await.unwrap();
    assert_eq!(code(sts.get_caller_identity().send().await), "Throttling");
    sts.get_caller_identity().send().await.unwrap();

    cloud.aws.inject(Fault::server_error().times(1));
    let failed = ecr.describe_repositories().send().await.unwrap_err();
    assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
    assert_eq!(failed.code(), Some("ServerException"));
    cloud.aws.inject(Fault::expired_token().times(1));
    assert_eq!(code(ecr.describe_repositories().send().await), "ExpiredTokenException");
    cloud.aws.inject(Fault::error("KmsException", "no").on("ecr:CreateRepository"));
    let refused = ecr.create_repository().repository_name(ours()).send().await;
    assert!(refused.unwrap_err().into_service_error().is_kms_exception());
    cloud.aws.clear_faults();
    ecr.create_repository().repository_name(ours()).send().await.unwrap();
}

#[tokio::test]
async fn lost_answer_has_effect_and_cut_connection_has_none() {
    let cloud = Cloud::start().await;
    let ecr = aws_sdk_ecr::Client::new(&one_attempt(&cloud));
    let create = || ecr.create_repository().repository_name(ours()).send();
    cloud.aws.inject(Fault::cut().on("ecr:CreateRepository").times(1));
    assert!(matches!(create().await.unwrap_err(), SdkError::DispatchFailure(_)));
    cloud.aws.inject(Fault::lost_answer().on("ecr:CreateRepository").times(1));
    assert!(matches!(create().await.unwrap_err(), SdkError::DispatchFailure(_)));
    assert_eq!(code(create().await), "RepositoryAlreadyExistsException");
}

#[tokio::test]
async fn slow_fault_delays_response() {
    let cloud = Cloud::start().await;
    cloud.aws.inject(Fault::slow(Duration::from_millis(150)));
    let started = Instant::now();
    cloud.ecr(&cloud.admin).describe_repositories().send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn short_pages_lose_no_repository() {
    let names: BTreeSet<String> = (0..40).map(|number| format!("other/{number}")).collect();
    let listed: Vec<_> = names.iter().map(ListedRepository::new).collect();
    let cloud = Cloud::start_with(|aws| aws.with_list(listed).with_seed(42)).await;
    let ecr = cloud.ecr(&cloud.admin);
    cloud.aws.inject(Fault::short_page(0).with_probability(0.3));
    cloud.aws.inject(Fault::short_page(3));
    let (mut found, mut token, mut empty) = (Vec::new(), None::<String>, 0);
    loop {
        let page = ecr.describe_repositories().set_next_token(token.clone()).send().await.unwrap();
        assert!(page.next_token.is_none() || page.next_token != token);
        empty += usize::from(page.repositories().is_empty());
        found.extend(page.repositories().iter().map(|r| r.repository_name().unwrap().to_owned()));
        match page.next_token {
            Some(next) => token = Some(next),
            None => break,
        }
    }
    assert!(empty > 0);
    assert_eq!(found.len(), names.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names);

    cloud.aws.clear_faults();
    cloud.aws.inject(Fault::repeated_token());
    let page = |token| ecr.describe_repositories().max_results(10).set_next_token(token).send();
    let first = page(None).await.unwrap().next_token;
    let second = page(first.clone()).await.unwrap().next_token;
    assert!(first.is_some() && first == second);
}

#[tokio::test]
async fn expired_page_token_is_rejected() {
    let listed = ["ab", "cd"].map(|name| ListedRepository::new(name).with_tag("k", "v"));
    let cloud = Cloud::start_with(|aws| aws.with_list(listed)).await;
    cloud.aws.inject(Fault::expired_page_token());
    let ecr = cloud.ecr(&cloud.admin);
    let page = |token| ecr.describe_repositories().max_results(1).set_next_token(token).send();
    let token = page(None).await.unwrap().next_token;
    assert_eq!(code(page(token).await), "InvalidParameterException");
    let tagging = cloud.tagging(&cloud.admin);
    let page =
        |token| tagging.get_resources().resources_per_page(1).set_pagination_token(token).send();
    let token = page(None).await.unwrap().pagination_token;
    assert_eq!(code(page(token).await), "PaginationTokenExpiredException");
}

#[tokio::test]
async fn token_date_and_lifetime_can_be_set() {
    let cloud = Cloud::start().await;
    let ecr = cloud.ecr(&cloud.admin);
    cloud.aws.set_token_lifetime(Duration::ZERO);
    let client = cloud.log_in(&ecr).await;
    let expired = client.get("/v2/").await.expect(reqwest::StatusCode::FORBIDDEN);
    assert!(expired.message().contains("Your authorization token has expired"));
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_420_070_400);
    cloud.aws.date_tokens(past);
    let given = ecr.get_authorization_token().send().await.unwrap();
    assert_eq!(given.authorization_data()[0].expires_at().unwrap().secs(), 1_420_070_400);
}
