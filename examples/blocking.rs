//! A program without async: `cargo run --example blocking` lists the repositories that the user may see.
//!
//! The registry is the default of the command line: on a new machine, the user's own local registry.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use ark_container_core::model::RepositoryUrl;
use ark_container_core::{Catalog, Error, Result};
use futures_util::TryStreamExt;

fn main() -> Result<()> {
    // The runtime works on this thread, and only while `block_on` waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::failed("no runtime").with_source(error))?;
    let catalog = runtime.block_on(Catalog::from_env())?;
    for url in runtime.block_on(urls(&catalog))? {
        println!("{url}");
    }
    Ok(())
}

async fn urls(catalog: &Catalog) -> Result<Vec<RepositoryUrl>> {
    catalog.list().map_ok(|repository| repository.url).try_collect().await
}
