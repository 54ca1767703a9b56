//! A repository, a login to it and an image in it, on this machine alone: `cargo run --example quickstart`.
//!
//! It uses your own local registry, or the folder that `ARK_REGISTRY=local:DIR` names.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::env;
use std::sync::Arc;

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::credentials::CredentialsOptions;
use ark_container_core::identity::{Memberships, Principal, local_user, single_user};
use ark_container_core::model::{
    Access, OrganizationId, RegistryLocation, RepositoryUrl, Scope, Tag,
};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::push::{ImageSource, Push};
use ark_container_core::testing::SampleImage;
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt, Result};
use futures_util::TryStreamExt;

const ORGANIZATION: OrganizationId = OrganizationId::TBD;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let local = open()?;
    let guarded = Permissioned::new(local.clone(), Arc::new(StandardPolicy), principal(&local)?);
    println!("{} uses {guarded}", guarded.principal().await?);

    let path = guarded.repository_path(ORGANIZATION, &"quickstart/hello".parse()?)?;
    let repository = guarded.create_repository(&path, &CreateOptions::default()).await?;
    println!("created   {}", repository.url);

    // What `--login` prints is the password of such credentials.
    let scope = Scope::repository(path, Access::Push);
    let credentials = guarded.credentials(&scope, &CredentialsOptions::default()).await?;
    println!("logged in {} on {}", credentials.scope, credentials.host);

    let tag: Tag = "v1".parse()?;
    push(&local, Arc::new(guarded.clone()), &repository.url, &tag).await?;
    list(&guarded, &repository.url).await?;
    print_what_to_type_next(&local, &repository.url, &tag);
    Ok(())
}

/// Opens the registry: a folder, which is created if need be. Nothing has to be running.
fn open() -> Result<LocalBackend, Box<dyn std::error::Error>> {
    let location = env::var("ARK_REGISTRY").unwrap_or_else(|_| "local:".to_owned());
    match location.parse()? {
        RegistryLocation::Local { directory } => Ok(LocalBackend::open(directory.as_deref())?),
        elsewhere => Err(format!("ARK_REGISTRY={elsewhere}: quickstart wants a local:").into()),
    }
}

/// The user of this machine, in the organizations that the registry's memberships file gives them;
/// without such a file, in all.
fn principal(local: &LocalBackend) -> Result<Principal> {
    let name = local_user(env::var("ARK_PRINCIPAL").ok().as_deref())?;
    match Memberships::load(&local.directory().join("memberships.toml")) {
        Ok(memberships) => Ok(memberships.principal(name)),
        Err(Error::NotFound { .. }) => Ok(single_user(name)),
        Err(error) => Err(error),
    }
}

/// Builds an image and uploads it, to a registry that is served meanwhile.
async fn push(
    local: &LocalBackend,
    guarded: Arc<dyn RegistryBackend>,
    repository: &RepositoryUrl,
    tag: &Tag,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let image = SampleImage::builder().with_layer([("hello.txt", "Hello!\n")]).build();
    image.write_oci_layout(folder.path(), None)?;

    // The push asks the backend for credentials itself: the policy has its say here too.
    let source = ImageSource::oci_layout(folder.path());
    let push = Push::new(guarded, repository.path(), source).with_local(local);
    let pushed = push.with_tag(tag.clone()).await?;
    println!("pushed    {} ({} bytes)", pushed.url, pushed.bytes_sent);
    Ok(())
}

async fn list(guarded: &dyn RegistryBackend, repository: &RepositoryUrl) -> Result<()> {
    println!("\nThe organization's repositories:");
    let mut repositories = guarded.list_repositories(&ORGANIZATION.into());
    while let Some(repository) = repositories.try_next().await? {
        println!("  {}", repository.url);
    }
    println!("The images of {}:", repository.path().name());
    let mut images = guarded.list_images(repository.path());
    while let Some(image) = images.try_next().await? {
        let tags = image.tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ");
        println!("  {} {} bytes, tags: {tags}", image.digest, image.size);
    }
    Ok(())
}

/// Every line works as it is, in a shell at the top of the checkout.
fn print_what_to_type_next(local: &LocalBackend, repository: &RepositoryUrl, tag: &Tag) {
    let (host, name) = (repository.host(), repository.path().name());
    let image = repository.image(tag.clone());
    let tool = "ark-catalog-container-tool";
    println!("\nWhat to type next:");
    println!("  cargo build --release -p ark-container-cli && PATH=$PWD/target/release:$PATH");
    println!("  {tool} --list-repositories");
    println!("  {tool} --list-images {name} --organization {ORGANIZATION}");
    if local.served_at().is_none() {
        println!("  {tool} --serve &");
    }
    println!(
        "  {tool} --login {name} --organization {ORGANIZATION} | \
         docker login --username AWS --password-stdin {host}"
    );
    println!("  docker pull {image}");
}
