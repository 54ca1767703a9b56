//! A layer of one's own: it counts the logins that a catalog gives out. `cargo run --example call_counter`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ark_container_core::backend::{BackendLayer, RegistryBackend};
use ark_container_core::credentials::{CredentialsOptions, RegistryCredentials};
use ark_container_core::model::{Access, OrganizationId, Scope};
use ark_container_core::{Catalog, Result};

#[derive(Debug, Default)]
struct Logins(AtomicUsize);

#[async_trait::async_trait]
impl BackendLayer for Logins {
    async fn credentials(
        &self,
        inner: &dyn RegistryBackend,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        self.0.fetch_add(1, Ordering::Relaxed);
        inner.credentials(scope, options).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let location = format!("local:{}", folder.path().display());
    let logins = Arc::new(Logins::default());
    let builder = Catalog::builder().with_registry(location.parse()?);
    let builder = builder.with_organization(OrganizationId::TBD).with_layer(Arc::clone(&logins));
    builder.connect().await?.credentials("test/repo", Access::Pull).await?;
    Ok(assert_eq!(logins.0.load(Ordering::Relaxed), 1))
}
