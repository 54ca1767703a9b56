//! A custom policy that limits the number of repositories of an organization. `cargo run --example quota_policy`

use std::sync::Arc;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{Action, Decision, Policy, PolicyRequest, StandardPolicy};
use ark_container_core::{Catalog, Error, RegistryBackend, Result};
use futures_util::TryStreamExt;

#[derive(Debug)]
struct Quota(usize, Arc<dyn RegistryBackend>);

#[async_trait::async_trait]
impl Policy for Quota {
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        let decision = StandardPolicy.decide(request).await?;
        if request.action != Action::CreateRepository || !decision.is_allowed() {
            return Ok(decision);
        }
        let repositories = self.1.list_repositories(&request.organization.into());
        let has_room = repositories.try_collect::<Vec<_>>().await?.len() < self.0;
        let denial = Decision::deny("quota").because(format!("{} repositories at most", self.0));
        Ok(if has_room { decision } else { denial })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let backend: Arc<dyn RegistryBackend> = Arc::new(LocalBackend::open(Some(folder.path()))?);
    let builder = Catalog::builder().with_backend(Arc::clone(&backend));
    let catalog = builder.with_policy(Quota(2, backend)).connect().await?;
    let catalog = catalog.in_organization(OrganizationId::TBD);
    catalog.create("first").await?;
    catalog.create("second").await?;
    let denied = catalog.create("third").await;
    assert!(matches!(denied, Err(Error::PermissionDenied { .. })));
    Ok(())
}
