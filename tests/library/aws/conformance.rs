//! The conformance suite over the ECR backend.
//!
//! Cases that an emulator fails are listed with the difference to AWS. Such a case runs too, and must fail, so the
//! lists stay true.

use std::collections::BTreeSet;
use std::sync::Arc;

use ark_container_core::backend::ecr::{EcrBackend, EcrBackendBuilder};
use ark_container_core::model::{EcrHost, OrganizationId, Reference, RepositoryPath, Stage};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::{self, Case, Conformance, HttpImages, PutImage};
use ark_container_core::{BoxError, RegistryBackend};
use async_trait::async_trait;
use aws_config::SdkConfig;

use super::cloud::Cloud;
use super::emulator::{Emulator, REGION};

const ORGANIZATIONS: [OrganizationId; 3] =
    [OrganizationId::TBD, OrganizationId::from_u128(0x0123), OrganizationId::from_u128(u128::MAX)];

/// A case that an emulator fails, and its difference to AWS.
type Excepted = (&'static str, &'static str);

const MOTO: &[Excepted] = &[
    ("image_sizes_match_stored_content", "it gives the size of an image's configuration alone"),
    ("mutable_tag_moves_with_push", "it deletes an image whose only tag moves"),
    ("index_child_outlives_its_last_tag", "it deletes an image of an index"),
    ("index_child_deletion_by_digest_is_conflict", "it deletes an image of an index"),
    ("credentials_cover_scope_and_expire", "its tokens expired in 2015"),
];

const MINISTACK: &[Excepted] = &[
    ("other_mutability_exclusions_are_a_conflict", "it drops exclusion filters"),
    ("excluded_tag_moves", "it moves every tag under IMMUTABLE_WITH_EXCLUSION"),
    ("image_sizes_match_stored_content", "it gives the size of a manifest alone"),
    ("tag_deletion_keeps_other_tags", "it deletes an image with any of its tags"),
    ("index_child_outlives_its_last_tag", "it deletes an image of an index"),
    ("index_child_deletion_by_digest_is_conflict", "it deletes an image of an index"),
];

/// Puts manifests with ECR's API, for an emulator without a registry. Blobs are not needed.
struct ApiImages(aws_sdk_ecr::Client);

#[async_trait]
impl PutImage for ApiImages {
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        let manifest = std::str::from_utf8(image.manifest())?;
        let put = self.0.put_image().repository_name(path.to_string()).image_manifest(manifest);
        let put = put.image_manifest_media_type(image.media_type());
        // Without a digest, moto invents one.
        let put = put.image_digest(image.digest().to_string());
        let put = match reference {
            Reference::Tag(tag) => put.image_tag(tag.as_str()),
            Reference::Digest(_) => put,
        };
        put.send().await?;
        Ok(())
    }
}

/// Returns a builder of the backend of an account's registry.
fn builder(account: &str, config: &SdkConfig) -> EcrBackendBuilder {
    let host: EcrHost = format!("{account}.dkr.ecr.{REGION}.amazonaws.com").parse().unwrap();
    EcrBackend::builder(host, Stage::default()).with_sdk_config(config.clone())
}

/// Runs every case. The cases in `excepted` must fail, and the others must pass.
async fn check(
    backend: impl RegistryBackend + Clone + 'static,
    images: impl PutImage + 'static,
    excepted: &[Excepted],
) {
    let images = Arc::new(images);
    let mut differences = Vec::new();
    for case in conformance::cases() {
        let reason = excepted.iter().find(|(name, _)| *name == case.name()).map(|(_, why)| why);
        match (passes(case, backend.clone(), images.clone()).await, reason) {
            (true, Some(reason)) => {
                differences.push(format!("{} passes, though {reason}", case.name()));
            }
            (false, None) => differences.push(format!("{} fails", case.name())),
            _ => {}
        }
    }
    assert_eq!(differences, Vec::<String>::new());
    let known: BTreeSet<&str> = conformance::cases().map(Case::name).collect();
    assert!(excepted.iter().all(|(name, _)| known.contains(name)), "{excepted:?}");
}

/// Returns whether a case passes. Its panic message is on standard error.
async fn passes(
    case: &'static Case,
    backend: impl RegistryBackend + 'static,
    images: Arc<impl PutImage + 'static>,
) -> bool {
    let running = tokio::spawn(async move {
        case.run(&Conformance::new(&backend, ORGANIZATIONS).with_images(&*images)).await;
    });
    match running.await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_panic());
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_keeps_the_contract_on_the_fake_of_aws() {
    let cloud = Cloud::start().await;
    let config = cloud.config(cloud.admin.access_key(), None);
    let backend = builder(cloud.aws.host().account(), &config).build();
    let registry = cloud.aws.registry_host().clone();
    let images = HttpImages::new(backend.clone()).with_endpoint(registry);
    check(backend, images, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_keeps_the_contract_on_moto() {
    let moto = Emulator::moto();
    let config = moto.sdk_config();
    let images = ApiImages(aws_sdk_ecr::Client::new(&config));
    // moto's index of resource tags has no repositories.
    let backend = builder("123456789012", &config).with_full_scan(true).build();
    check(backend, images, MOTO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_keeps_the_contract_on_ministack() {
    let ministack = Emulator::ministack();
    let config = ministack.sdk_config();
    let backend = builder("000000000000", &config).build();
    let images = HttpImages::new(backend.clone()).with_endpoint(ministack.address);
    check(backend, images, MINISTACK).await;
}
