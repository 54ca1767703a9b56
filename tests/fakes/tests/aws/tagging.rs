//! Resource Groups Tagging: the tag index.

use ark_container_fakes::aws::cloud::{Cloud, arn, code};
use ark_container_fakes::aws::{Fault, ListedRepository};
use aws_sdk_ecr::types::Tag;
use aws_sdk_resourcegroupstagging::operation::get_resources::builders::GetResourcesFluentBuilder;
use aws_sdk_resourcegroupstagging::types::TagFilter;

fn of_organization(
    tagging: &aws_sdk_resourcegroupstagging::Client,
    value: &str,
) -> GetResourcesFluentBuilder {
    let filter = TagFilter::builder().key("ark:organization").values(value).build();
    tagging.get_resources().resource_type_filters("ecr:repository").tag_filters(filter)
}

#[tokio::test]
async fn tag_index_finds_an_organization_among_100_000() {
    let listed = (0..100_000).map(|number| {
        let organization = if number % 1_000 == 0 { "ours" } else { "theirs" };
        ListedRepository::new(format!("other/{number}")).with_tag("ark:organization", organization)
    });
    let untagged = ListedRepository::new("never/tagged");
    let cloud = Cloud::start_with(|aws| aws.with_list(listed).with_list([untagged])).await;
    let tagging = cloud.tagging(&cloud.admin);
    let page = of_organization(&tagging, "ours").send().await.unwrap();
    assert_eq!(page.resource_tag_mapping_list().len(), 100);
    assert_eq!(page.pagination_token(), Some(""));
    assert_eq!(page.resource_tag_mapping_list()[0].resource_arn(), Some(arn("other/0").as_str()));

    cloud.aws.inject(Fault::short_page(0).after(1).times(1));
    let pages = of_organization(&tagging, "ours").resources_per_page(40);
    let mut pages = pages.into_paginator().send();
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await {
        sizes.push(page.unwrap().resource_tag_mapping_list().len());
    }
    assert_eq!(sizes, [40, 0, 40, 20]);
}

#[tokio::test]
async fn tag_filters_are_combined() {
    let listed = [("a", "1"), ("b", "2")].map(|(name, value)| {
        ListedRepository::new(name.repeat(2)).with_tag("team", value).with_tag("kind", "x")
    });
    let cloud = Cloud::start_with(|aws| aws.with_list(listed)).await;
    let tagging = cloud.tagging(&cloud.admin);
    let count = async |filters: &[(&str, &[&str])]| {
        let filters = filters.iter().map(|(key, values)| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            TagFilter::builder().key(*key).set_values(Some(values)).build()
        });
        let request = tagging.get_resources().set_tag_filters(Some(filters.collect()));
        request.send().await.unwrap().resource_tag_mapping_list().len()
    };
    assert_eq!(count(&[]).await, 2);
    assert_eq!(count(&[("kind", &[])]).await, 2);
    assert_eq!(count(&[("team", &["1", "2"])]).await, 2);
    assert_eq!(count(&[("team", &["1"]), ("kind", &["x"])]).await, 1);
    assert_eq!(count(&[("team", &["1"]), ("kind", &["y"])]).await, 0);
    let buckets = tagging.get_resources().resource_type_filters("s3").send().await.unwrap();
    assert!(buckets.resource_tag_mapping_list().is_empty());
    for wrong in [0, 101] {
        let page = tagging.get_resources().resources_per_page(wrong).send().await;
        assert_eq!(code(page), "InvalidParameterException");
    }
}

#[tokio::test]
async fn stale_index_omits_new_repository_until_reset() {
    let cloud = Cloud::start().await;
    cloud.aws.set_index_stale(true);
    let tag = Tag::builder().key("ark:organization").value("ours").build().unwrap();
    let create = cloud.ecr(&cloud.admin).create_repository().repository_name("other/new");
    create.tags(tag).send().await.unwrap();
    let tagging = cloud.tagging(&cloud.admin);
    let count = async || {
        let page = of_organization(&tagging, "ours").send().await.unwrap();
        page.resource_tag_mapping_list().len()
    };
    assert_eq!(count().await, 0);
    cloud.aws.set_index_stale(false);
    assert_eq!(count().await, 1);
}
