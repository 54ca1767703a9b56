//! A custom backend. A backend that passes the conformance suite can be wrapped and opened as a catalog like those of
//! the library: `cargo run --example custom_backend`.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

mod memory;

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use ark_container_core::backend::{Image, TagMutability};

use ark_container_core::identity::single_user;
use ark_container_core::model::{Descriptor, OrganizationId, Reference, RepositoryPath};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::{self, Conformance, PutImage};
use ark_container_core::{BoxError, Catalog, Error as ArkError, ResourceKind};
use async_trait::async_trait;
use futures_util::TryStreamExt;

use crate::memory::MemoryBackend;

/// Stores an image in memory. Other backends upload it over HTTP.
#[async_trait]
impl PutImage for MemoryBackend {
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        let digest = image.digest();
        self.with(path, |kept| {
            let mut tags = Vec::new();
            if let Reference::Tag(tag) = reference {
                let repository = &kept.repository;
                let excepted =
                    repository.mutability_exclusions.iter().any(|filter| filter.matches(tag));
                let moves = (repository.tag_mutability == TagMutability::Mutable) != excepted;
                let elsewhere = |image: &Image| image.digest != digest && image.tags.contains(tag);
                if !moves && kept.images.iter().any(elsewhere) {
                    return Err(ArkError::conflict(ResourceKind::Image, tag, "is immutable"));
                }
                kept.images.iter_mut().for_each(|image| image.tags.retain(|other| other != tag));
                tags.push(tag.clone());
            }
            if let Some(known) = kept.images.iter_mut().find(|known| known.digest == digest) {
                known.tags.extend(tags);
                known.tags.sort();
                return Ok(());
            }
            let now = SystemTime::now();
            let mut new = Image::new(digest.clone(), image.media_type(), image.size(), now);
            // The size of an index includes its images.
            new.size += image.children().iter().map(SampleImage::size).sum::<u64>();
            new.platforms = image.platforms().to_vec();
            new.tags = tags;
            let child = |child: &SampleImage| {
                let size = child.manifest().len() as u64;
                Descriptor::new(child.media_type(), child.digest(), size)
            };
            new.children = image.children().iter().map(child).collect();
            kept.images.push(new);
            Ok(())
        })?;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let backend = MemoryBackend { host: "memory.invalid".parse()?, kept: Arc::default() };

    // Checks every case of the contract. Panics at the first one that fails.
    let organizations = [1, 2, 3].map(OrganizationId::from_u128);
    conformance::all(&Conformance::new(&backend, organizations).with_images(&backend)).await;
    println!("{backend} keeps the contract in {} cases", conformance::cases().count());

    // The standard policy works for any backend.
    let user = single_user("user:alice".parse()?);
    let guarded = Permissioned::new(backend.clone(), StandardPolicy, user);
    conformance::all(&Conformance::new(&guarded, organizations).with_images(&backend)).await;
    println!("and behind the standard policy");

    let catalog =
        Catalog::from_backend_as_administrator(backend).in_organization(OrganizationId::TBD);
    println!("created {}", catalog.create("test/repo").await?.url);
    let listed: Vec<_> = catalog.list().try_collect().await?;
    println!("listed  {} of {}", listed.len(), catalog.principal().await?);
    Ok(())
}
