//! A service that promotes images for many users, each with their own permissions.
//!
//!     cargo run --example promotion_service -- MEMBERSHIPS-FILE <requests
//!
//! A request is a line `PRINCIPAL IMAGE TARGET`, such as `user:alice app/staging:v7 app/release:v7`. The policy
//! decides whether the principal may read the image and write the target. The registry records the principal, not the
//! service. `ARK_REGISTRY` and `ARK_ORGANIZATION` select the registry and the organization.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::error::Error;

use ark_container_core::identity::{MembershipsFile, PrincipalName};
use ark_container_core::{Catalog, Result as ArkResult};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("expected a memberships file")?;
    let memberships = MembershipsFile::open(&file)?;
    let builder = Catalog::builder().with_environment().with_memberships(&file);
    let catalog = builder.connect().await?;

    let mut promotions = JoinSet::new();
    let mut requests = BufReader::new(tokio::io::stdin()).lines();
    while let Some(request) = requests.next_line().await? {
        let [principal, image, target] = *request.split_whitespace().collect::<Vec<_>>() else {
            return Err(format!("expected PRINCIPAL IMAGE TARGET, got {request:?}").into());
        };
        let principal = memberships.current().principal(principal.parse::<PrincipalName>()?);
        let caller = catalog.acting_as(principal);
        promotions.spawn(promote(caller, image.to_owned(), target.to_owned()));
    }
    while let Some(promotion) = promotions.join_next().await {
        println!("{}", promotion?);
    }
    Ok(())
}

/// Promotes one image and returns a line with the result.
async fn promote(catalog: Catalog, image: String, target: String) -> String {
    match copy(&catalog, &image, &target).await {
        Ok(url) => format!("promoted {url}"),
        Err(error) => format!("refused {target}: {error}"),
    }
}

async fn copy(catalog: &Catalog, image: &str, target: &str) -> ArkResult<String> {
    let copied = catalog.copy(image, target).await?;
    Ok(copied.url.to_string())
}
