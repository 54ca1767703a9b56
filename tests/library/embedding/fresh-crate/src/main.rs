//! Lists, creates, pushes and resolves; `fresh-crate NAME:TAG SOURCE`.

use ark_container_core::model::Platform;
use ark_container_core::{Catalog, Result};
use futures_util::TryStreamExt;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(image), Some(source)) = (arguments.next(), arguments.next()) else {
        return Err(ark_container_core::Error::invalid("usage: fresh-crate NAME:TAG SOURCE"));
    };
    let catalog = Catalog::from_env().await?;
    let name = image.split(':').next().unwrap_or_default();
    catalog.create(name).await?;
    catalog.push(&image, &source).await?;
    for url in urls(&catalog).await? {
        println!("{url}");
    }
    let resolved = catalog.resolve_for(&image, &Platform::of_this_machine()).await?;
    println!("{} ({} bytes)", resolved.url, resolved.size);
    Ok(())
}

/// Returns the URLs of all repositories.
async fn urls(catalog: &Catalog) -> Result<Vec<String>> {
    catalog.list().map_ok(|repository| repository.url.to_string()).try_collect().await
}

#[cfg(test)]
mod tests;
