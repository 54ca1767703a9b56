//! Creation, listing, tagging and deletion of repositories.

use std::collections::BTreeSet;

use ark_container_fakes::aws::cloud::{Cloud, arn, code, message, ours};
use ark_container_fakes::aws::{ListedRepository, User};
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType, Tag,
};

#[tokio::test]
async fn repository_is_described_as_created() {
    let cloud = Cloud::start().await;
    let ecr = cloud.ecr(&cloud.admin);
    let filter = ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev-*")
        .build()
        .unwrap();
    let encryption = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms);
    let created = ecr
        .create_repository()
        .repository_name(ours())
        .tags(Tag::builder().key("ark:organization").value("ours").build().unwrap())
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(filter)
        .encryption_configuration(encryption.build().unwrap())
        .send()
        .await
        .unwrap();
    let created = created.repository.unwrap();
    let described = ecr.describe_repositories().repository_names(ours()).send().await.unwrap();
    let [described] = described.repositories() else { panic!("{described:?}") };
    assert_eq!(*described, created);
    assert_eq!(described.registry_id(), Some("095412845506"));
    assert_eq!(described.repository_arn(), Some(arn(&ours()).as_str()));
    let uri = format!("{}/{}", cloud.aws.registry_host(), ours());
    assert_eq!(described.repository_uri(), Some(uri.as_str()));
    assert_eq!(described.image_tag_mutability_exclusion_filters()[0].filter(), "dev-*");
    let key = described.encryption_configuration().unwrap().kms_key().unwrap();
    assert!(key.starts_with("arn:aws:kms:us-east-1:095412845506:key/"), "{key}");

    let tags = ecr.list_tags_for_resource().resource_arn(arn(&ours())).send().await.unwrap();
    assert_eq!((tags.tags()[0].key(), tags.tags()[0].value()), ("ark:organization", "ours"));
}

#[tokio::test]
async fn existing_and_missing_repository_have_ecr_errors() {
    let cloud = Cloud::start().await;
    let ecr = cloud.ecr(&cloud.admin);
    let create = || ecr.create_repository().repository_name(ours()).send();
    create().await.unwrap();
    let again = create().await.unwrap_err().into_service_error();
    assert!(again.is_repository_already_exists_exception(), "{again:?}");
    let missing = ecr.describe_repositories();
    let missing = missing.repository_names(ours()).repository_names("other/x").send().await;
    let missing = missing.unwrap_err().into_service_error();
    assert!(missing.is_repository_not_found_exception(), "{missing:?}");
    assert!(
        missing.to_string().contains("The repository with name 'other/x' does not exist in the")
    );

    ecr.delete_repository().repository_name(ours()).send().await.unwrap();
    let gone = ecr.delete_repository().repository_name(ours()).send().await;
    assert_eq!(code(gone), "RepositoryNotFoundException");
    assert!(ecr.describe_repositories().send().await.unwrap().repositories().is_empty());
}

#[tokio::test]
async fn invalid_creation_is_rejected() {
    let cloud = Cloud::start().await;
    let ecr = cloud.ecr(&cloud.admin);
    let create = || ecr.create_repository().repository_name("other/a");
    let tag = |key: String| Tag::builder().key(key).value("").build().unwrap();
    let many = (0..51).map(|number| tag(number.to_string())).collect();
    assert_eq!(code(create().set_tags(Some(many)).send().await), "TooManyTagsException");
    let reserved = create().tags(tag("aws:x".into())).send().await;
    assert_eq!(code(reserved), "InvalidTagParameterException");
    let no_filters = create().image_tag_mutability(ImageTagMutability::MutableWithExclusion);
    assert_eq!(code(no_filters.send().await), "InvalidParameterException");
    let aes = EncryptionConfiguration::builder().encryption_type(EncryptionType::Aes256);
    let aes = aes.kms_key("alias/x").build().unwrap();
    let with_key = create().encryption_configuration(aes).send().await;
    assert_eq!(code(with_key), "InvalidParameterException");
    let name = ecr.create_repository().repository_name("Other/a").send().await;
    assert!(message(name).contains("'repositoryName'"));
    assert_eq!(
        cloud.ecr(&cloud.admin).describe_repositories().send().await.unwrap().repositories().len(),
        0
    );
}

#[tokio::test]
async fn listing_has_pages_of_100_and_up_to_1000() {
    let names: BTreeSet<String> = (0..2_345).map(|number| format!("other/{number}")).collect();
    let listed: Vec<_> = names.iter().map(ListedRepository::new).collect();
    let cloud = Cloud::start_with(|aws| aws.with_list(listed)).await;
    let ecr = cloud.ecr(&cloud.admin);
    for (asked, calls) in [(None, 24), (Some(1_000), 3), (Some(7), 335)] {
        cloud.aws.forget_calls();
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = ecr.describe_repositories().set_max_results(asked).set_next_token(token);
            let page = page.send().await.unwrap();
            found.extend(
                page.repositories().iter().map(|r| r.repository_name().unwrap().to_owned()),
            );
            match page.next_token {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        assert_eq!(found.len(), names.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names);
        assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), calls, "{asked:?}");
    }
    for wrong in [0, 1_001] {
        let page = ecr.describe_repositories().max_results(wrong).send().await;
        assert_eq!(code(page), "InvalidParameterException");
    }
    let token = ecr.describe_repositories().next_token("mine").send().await;
    assert_eq!(code(token), "InvalidParameterException");
    let both = ecr.describe_repositories().repository_names("other/1").max_results(5).send().await;
    assert_eq!(code(both), "InvalidParameterException");
    let many = (0..101).map(|number| format!("other/{number}")).collect();
    let many = ecr.describe_repositories().set_repository_names(Some(many)).send().await;
    assert_eq!(code(many), "InvalidParameterException");
}

#[tokio::test]
async fn listing_of_100_000_repositories_takes_100_calls() {
    let listed = (0..100_000).map(|number| ListedRepository::new(format!("other/{number:06}")));
    let cloud = Cloud::start_with(|aws| aws.with_list(listed)).await;
    let ecr = cloud.ecr(&cloud.admin);
    let mut pages = ecr.describe_repositories().max_results(1_000).into_paginator().send();
    let mut found = 0;
    while let Some(page) = pages.next().await {
        found += page.unwrap().repositories().len();
    }
    assert_eq!((found, cloud.aws.count("ecr:DescribeRepositories")), (100_000, 100));
    let full = ecr.create_repository().repository_name("other/more").send().await;
    assert_eq!(code(full), "LimitExceededException");
}

#[tokio::test]
async fn tag_resource_adds_and_replaces_tags() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&cloud.admin);
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
    for tags in [vec![tag("a", "1"), tag("b", "1")], vec![tag("b", "2")]] {
        let request = ecr.tag_resource().resource_arn(arn(&ours())).set_tags(Some(tags));
        request.send().await.unwrap();
    }
    let tags = ecr.list_tags_for_resource().resource_arn(arn(&ours())).send().await.unwrap();
    assert_eq!(tags.tags(), [tag("a", "1"), tag("b", "2")]);
    let missing = ecr.list_tags_for_resource().resource_arn(arn("other/x")).send().await;
    assert_eq!(code(missing), "RepositoryNotFoundException");
    let wrong = ecr.list_tags_for_resource().resource_arn("arn:aws:s3:::x").send().await;
    assert_eq!(code(wrong), "InvalidParameterException");
}

#[tokio::test]
async fn lifecycle_policy_is_returned_as_put() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&cloud.admin);
    let get = || ecr.get_lifecycle_policy().repository_name(ours()).send();
    assert_eq!(code(get().await), "LifecyclePolicyNotFoundException");
    let put = |text: &str| {
        ecr.put_lifecycle_policy().repository_name(ours()).lifecycle_policy_text(text).send()
    };
    assert_eq!(code(put("{}").await), "InvalidParameterException");
    assert_eq!(code(put(&"x".repeat(100)).await), "InvalidParameterException");
    let text = format!(r#"{{"rules":[{{"rulePriority":1,"description":"{}"}}]}}"#, "x".repeat(80));
    put(&text).await.unwrap();
    assert_eq!(get().await.unwrap().lifecycle_policy_text(), Some(text.as_str()));
}

#[tokio::test]
async fn accounts_have_their_own_repositories() {
    let stranger = User::administrator("stranger").with_account("222222222222");
    let cloud = Cloud::start_with(|aws| aws.with_user(stranger.clone())).await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&stranger);
    assert!(ecr.describe_repositories().send().await.unwrap().repositories().is_empty());
    let created = ecr.create_repository().repository_name(ours()).send().await.unwrap();
    assert_eq!(created.repository.unwrap().registry_id(), Some("222222222222"));
    let foreign = ecr.describe_repositories().registry_id("095412845506").send().await;
    assert!(message(foreign).contains("because no resource-based policy allows"));
    // A token of the other account has no access to this account.
    let client = cloud.log_in(&ecr).await;
    let tags = client.get(&format!("/v2/{}/tags/list", ours())).await;
    tags.expect_error(reqwest::StatusCode::FORBIDDEN, "DENIED");
}
