//! Tests a job that uses the library, with a mock and with a registry in the test:
//! `cargo test -p ark-container-examples --example mocked_tests`.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::error::Error as StdError;

use ark_container_core::distribution::Retry;
use ark_container_core::model::RepositoryUrl;
use ark_container_core::{Catalog, Result};

/// Creates a repository, and retries while the registry is busy: the job under test.
async fn prepare(catalog: &Catalog, retry: &Retry) -> Result<RepositoryUrl> {
    Ok(retry.run(|| catalog.create("job/output")).await?.url)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let catalog = Catalog::from_env().await?;
    println!("{}", prepare(&catalog, &Retry::default()).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use ark_container_core::Error;
    use ark_container_core::backend::Repository;
    use ark_container_core::model::OrganizationId;
    use ark_container_core::testing::{MockRegistryBackend, SampleImage, TestRegistry, ready};
    use mockall::Sequence;

    use super::*;

    const HOST: &str = "registry.invalid";

    /// Returns a catalog over a mock with the expected calls.
    fn catalog(expect: impl FnOnce(&mut MockRegistryBackend)) -> Catalog {
        let mut mock = MockRegistryBackend::new();
        mock.expect_host().returning(|| HOST.parse().unwrap());
        mock.expect_stage().returning(Default::default);
        expect(&mut mock);
        Catalog::from_backend_as_administrator(mock).in_organization(OrganizationId::TBD)
    }

    #[tokio::test]
    async fn temporary_error_is_retried() {
        let catalog = catalog(|mock| {
            let mut order = Sequence::new();
            let busy = |_: &_, _: &_| {
                ready(Err(Error::temporary("busy").with_source("the test makes it fail")))
            };
            mock.expect_create_repository().once().in_sequence(&mut order).returning(busy);
            mock.expect_create_repository().once().in_sequence(&mut order).returning(|path, _| {
                ready(Ok(Repository::new(RepositoryUrl::new(HOST.parse().unwrap(), path.clone()))))
            });
        });
        let url = prepare(&catalog, &Retry::default()).await.unwrap();
        assert_eq!(url.to_string(), format!("{HOST}/prod/{}/job/output", OrganizationId::TBD));
    }

    #[tokio::test]
    async fn permanent_error_is_not_retried() {
        let catalog = catalog(|mock| {
            let broken = |_: &_, _: &_| {
                ready(Err(Error::failed("broken").with_source("the test makes it fail")))
            };
            mock.expect_create_repository().once().returning(broken);
        });
        let error = prepare(&catalog, &Retry::default()).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }

    #[tokio::test]
    async fn pushed_image_is_resolved() {
        let registry = TestRegistry::start().unwrap();
        let catalog = registry.catalog().in_organization(OrganizationId::TBD);
        prepare(&catalog, &Retry::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let image = SampleImage::new("result");
        image.write_oci_layout(folder.path(), None).unwrap();
        let source = format!("oci:{}", folder.path().display());
        catalog.push("job/output:v1", &source).await.unwrap();
        let resolved = catalog.resolve("job/output:v1").await.unwrap();
        assert_eq!(resolved.digest(), &image.digest());
    }
}
