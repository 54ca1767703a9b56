//! A custom layer that counts the calls of a catalog's backend: `cargo run --example call_counter`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ark_container_core::Catalog;
use ark_container_core::backend::BackendLayer;
use ark_container_core::model::Access;
use ark_container_core::testing::TestRegistry;

#[derive(Debug, Default)]
struct Calls(AtomicUsize);

impl BackendLayer for Calls {
    fn before(&self, _call: &'static str) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (calls, registry) = (Arc::new(Calls::default()), TestRegistry::start()?);
    let builder = Catalog::builder().with_backend(registry.backend().clone());
    let catalog = builder.with_layer(Arc::clone(&calls)).connect().await?;
    let repository = format!("prod/{}/test/repo", ark_container_core::model::OrganizationId::TBD);
    catalog.create(&repository).await?;
    catalog.credentials(&repository, Access::Pull).await?;
    assert_eq!(calls.0.load(Ordering::Relaxed), 2);
    Ok(())
}
