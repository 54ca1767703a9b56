//! Images that are pushed to the registry and described by the API.

use ark_container_fakes::aws::cloud::{Cloud, code, ours};
use ark_container_fakes::registry_client::{
    OCI_INDEX, OCI_MANIFEST, OURS, descriptor, path, sample, sha256,
};
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageFailureCode, ImageIdentifier, ImageStatus, ImageStatusFilter,
    TargetStorageClass,
};
use reqwest::StatusCode;
use serde_json::json;

fn tag(tag: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag).build()
}

fn digest(digest: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_digest(digest).build()
}

#[tokio::test]
async fn pushed_images_are_described_by_the_api() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&cloud.admin);
    let client = cloud.log_in(&ecr).await;
    let app = path(OURS, "app");
    let tagged = client.push_image(&app, "v1", &sample(1_000)).await;
    let untagged = client.image(&app, &sample(2_000)).await;
    let untagged_digest = sha256(untagged.to_string().as_bytes());
    let put = client.put_manifest(&app, &untagged_digest, OCI_MANIFEST, &untagged).await;
    put.expect(StatusCode::CREATED);

    let described = ecr.describe_images().repository_name(ours());
    let described = described.image_ids(tag("v1")).send().await.unwrap();
    let [image] = described.image_details() else { panic!("{described:?}") };
    assert_eq!(image.image_digest(), Some(tagged.as_str()));
    assert_eq!(image.image_tags(), ["v1"]);
    assert_eq!(image.image_manifest_media_type(), Some(OCI_MANIFEST));
    assert!(image.image_size_in_bytes().unwrap() > 1_000);

    let listed = ecr.list_images().repository_name(ours()).max_results(1).into_paginator();
    let mut pages = listed.send();
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await {
        ids.extend(page.unwrap().image_ids.unwrap());
    }
    ids.sort_by_key(|id| id.image_tag().is_none());
    let both = ImageIdentifier::builder().image_digest(&tagged).image_tag("v1").build();
    assert_eq!(ids, [both, digest(&untagged_digest)]);
    assert_eq!(cloud.aws.count("ecr:ListImages"), 2);

    let got = ecr.batch_get_image().repository_name(ours());
    let got = got.image_ids(digest(&untagged_digest)).image_ids(tag("v2")).send().await.unwrap();
    assert_eq!(got.images()[0].image_manifest(), Some(untagged.to_string().as_str()));
    assert_eq!(got.failures()[0].failure_code(), Some(&ImageFailureCode::ImageNotFound));
    let missing = ecr.describe_images().repository_name(ours()).image_ids(tag("v2")).send().await;
    assert_eq!(code(missing), "ImageNotFoundException");
}

#[tokio::test]
async fn last_tag_deletes_its_image_unless_index_refers_to_it() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&cloud.admin);
    let client = cloud.log_in(&ecr).await;
    let app = path(OURS, "app");
    let single = client.push_image(&app, "v1", &sample(10)).await;
    client.push_image(&app, "v2", &sample(10)).await;
    let child = client.image(&app, &sample(20)).await;
    let child_digest = sha256(child.to_string().as_bytes());
    client
        .put_manifest(&app, &child_digest, OCI_MANIFEST, &child)
        .await
        .expect(StatusCode::CREATED);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, child.to_string().as_bytes())],
    });
    client.put_manifest(&app, "multi", OCI_INDEX, &index).await.expect(StatusCode::CREATED);

    let delete = |id| ecr.batch_delete_image().repository_name(ours()).image_ids(id).send();
    let removed = delete(tag("v1")).await.unwrap();
    assert_eq!(removed.image_ids()[0].image_digest(), Some(single.as_str()));
    client.get(&format!("/v2/{app}/manifests/{single}")).await.expect(StatusCode::OK);
    delete(tag("v2")).await.unwrap();
    client.get(&format!("/v2/{app}/manifests/{single}")).await.expect(StatusCode::NOT_FOUND);

    let refused = delete(digest(&child_digest)).await.unwrap();
    let expected = Some(&ImageFailureCode::ImageReferencedByManifestList);
    assert_eq!(refused.failures()[0].failure_code(), expected);
    let missing = delete(tag("v9")).await.unwrap();
    assert_eq!(missing.failures()[0].failure_code(), Some(&ImageFailureCode::ImageNotFound));

    let full = ecr.delete_repository().repository_name(ours()).send().await;
    assert_eq!(code(full), "RepositoryNotEmptyException");
    ecr.delete_repository().repository_name(ours()).force(true).send().await.unwrap();
}

#[tokio::test]
async fn immutable_tag_is_kept_except_by_filter() {
    use aws_sdk_ecr::types::{
        ImageTagMutability, ImageTagMutabilityExclusionFilter as Filter,
        ImageTagMutabilityExclusionFilterType as Kind,
    };
    let cloud = Cloud::start().await;
    let ecr = cloud.ecr(&cloud.admin);
    let filter = Filter::builder().filter_type(Kind::Wildcard).filter("dev-*").build().unwrap();
    let create = ecr.create_repository().repository_name(ours());
    let create = create.image_tag_mutability(ImageTagMutability::ImmutableWithExclusion);
    create.image_tag_mutability_exclusion_filters(filter).send().await.unwrap();
    let client = cloud.log_in(&ecr).await;
    let app = path(OURS, "app");
    for tag in ["v1", "dev-1"] {
        client.push_image(&app, tag, &sample(10)).await;
    }
    let other = client.image(&app, &sample(20)).await;
    client.put_manifest(&app, "dev-1", OCI_MANIFEST, &other).await.expect(StatusCode::CREATED);
    let moved = client.put_manifest(&app, "v1", OCI_MANIFEST, &other).await;
    assert!(moved.expect(StatusCode::BAD_REQUEST).message().contains("already exists in the"));
}

#[tokio::test]
async fn archived_image_is_shown_on_demand_and_not_served() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&cloud.admin);
    let client = cloud.log_in(&ecr).await;
    let app = path(OURS, "app");
    let image = client.push_image(&app, "v1", &sample(10)).await;
    let store = |class: TargetStorageClass| {
        let request = ecr.update_image_storage_class().repository_name(ours());
        request.image_id(digest(&image)).target_storage_class(class).send()
    };
    let archived = store(TargetStorageClass::Archive).await.unwrap();
    assert_eq!(archived.image_status(), Some(&ImageStatus::Archived));
    let describe = || ecr.describe_images().repository_name(ours());
    assert!(describe().send().await.unwrap().image_details().is_empty());
    let by_tag = describe().image_ids(tag("v1")).send().await;
    assert_eq!(code(by_tag), "ImageNotFoundException");
    let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    let shown = describe().image_ids(tag("v1")).filter(any).send().await.unwrap();
    assert_eq!(shown.image_details()[0].image_status(), Some(&ImageStatus::Archived));
    let got = ecr.batch_get_image().repository_name(ours()).image_ids(tag("v1")).send();
    let failure = got.await.unwrap().failures.unwrap().remove(0);
    assert_eq!(failure.failure_code(), Some(&ImageFailureCode::ImageNotFound));
    client.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::NOT_FOUND);
    let full = ecr.delete_repository().repository_name(ours()).send().await;
    assert_eq!(code(full), "RepositoryNotEmptyException");

    store(TargetStorageClass::Standard).await.unwrap();
    assert_eq!(describe().send().await.unwrap().image_details().len(), 1);
    client.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::OK);
}
