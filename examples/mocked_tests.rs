//! How a job that uses the library is tested without a registry, and with one inside the test:
//! `cargo test -p ark-container-examples --example mocked_tests`.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::error::Error as StdError;

use ark_container_core::distribution::Retry;
use ark_container_core::model::RepositoryUrl;
use ark_container_core::{Catalog, Result};

/// The job under test: its repository exists when this returns, though the registry may be busy at first.
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

    /// A mock of which calls are expected, and a catalog over it.
    fn catalog(expect: impl FnOnce(&mut MockRegistryBackend)) -> Catalog {
        let mut mock = MockRegistryBackend::new();
        mock.expect_host().returning(|| HOST.parse().unwrap());
        mock.expect_stage().returning(Default::default);
        expect(&mut mock);
        Catalog::from_backend_as_administrator(mock).in_organization(OrganizationId::TBD)
    }

    #[tokio::test]
    async fn what_is_temporary_is_tried_again() {
        let catalog = catalog(|mock| {
            let mut order = Sequence::new();
            let busy = |_: &_, _: &_| {
                ready(Err(Error::temporary("busy").with_source("as a test wants it")))
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
    async fn what_is_final_is_not() {
        let catalog = catalog(|mock| {
            let broken = |_: &_, _: &_| {
                ready(Err(Error::failed("broken").with_source("as a test wants it")))
            };
            mock.expect_create_repository().once().returning(broken);
        });
        let error = prepare(&catalog, &Retry::default()).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_image_that_is_pushed_is_resolved() {
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
