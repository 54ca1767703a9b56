//! The example `catalog_service` for benches/catalog-service.sh, with a fake of AWS that has 10,000 organizations of ten
//! repositories each.
//!
//! `catalog-service guarded|bare TOKENS` serves until its standard input ends, and prints its URL. `bare` has no
//! permission layer. The program writes a line for each of 100 users to the file TOKENS: a token, its organization, and
//! a repository of that organization.

#![expect(clippy::print_stdout, reason = "benches/catalog-service.sh reads the URL")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::Observed;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::identity::{KeySet, TokenVerifier, single_user};
use ark_container_core::model::{OrganizationId, Stage};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_fakes::aws::{FakeAws, ListedRepository, User};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use metrics_exporter_prometheus::PrometheusBuilder;
use service::Service;
use tokio::net::TcpListener;

#[path = "../examples/catalog_service/service.rs"]
mod service;

const ORGANIZATIONS: u128 = 10_000;
const REPOSITORIES_PER_ORGANIZATION: usize = 10;
const USERS: u128 = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(layer), Some(tokens)) = (arguments.next(), arguments.next().map(PathBuf::from))
    else {
        return Err("expected guarded or bare, and a file".into());
    };
    let folder = tempfile::tempdir()?;
    let user = User::administrator("service");
    let store = LocalBackend::open(Some(folder.path()))?;
    let repositories = (0..ORGANIZATIONS).flat_map(|organization| {
        (0..REPOSITORIES_PER_ORGANIZATION).map(move |number| repository(organization, number))
    });
    let aws =
        FakeAws::builder(store).with_user(user.clone()).with_list(repositories).start().await?;
    let ecr = EcrBackend::builder(aws.host().clone(), Stage::default())
        .with_sdk_config(sdk_config(&aws, &user))
        .with_cache_directory(folder.path().join("cache"))
        .build();
    let backend: Arc<dyn RegistryBackend> = Arc::new(Observed::new(ecr));

    let issuer = TokenIssuer::new("https://issuer.invalid", "ark")?;
    let keys = folder.path().join("keys.json");
    fs::write(&keys, issuer.key_set_json())?;
    fs::write(&tokens, users(&issuer)?)?;
    let verifier = TokenVerifier::new(KeySet::file(keys), "ark");
    let acting: service::Acting = match layer.as_str() {
        "bare" => Arc::new(move |_| Arc::clone(&backend)),
        _ => {
            let nobody = single_user("robot:nobody".parse()?);
            let guarded = Permissioned::new(backend, StandardPolicy, nobody);
            Arc::new(move |principal| Arc::new(guarded.for_principal(principal)))
        }
    };
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let router = Service { verifier, acting, metrics }.router();
    let serving = tokio::spawn(async { axum::serve(listener, router).await });
    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    serving.abort();
    Ok(())
}

fn repository(organization: u128, number: usize) -> ListedRepository {
    let organization = OrganizationId::from_u128(organization);
    ListedRepository::new(format!("prod/{organization}/catalog/job-{number}"))
        .with_tag("ark:organization", organization.to_string())
}

/// Returns the lines of the file TOKENS. The organizations of the users are distributed evenly.
fn users(issuer: &TokenIssuer) -> Result<String, Box<dyn Error>> {
    let mut lines = String::new();
    for user in 0..USERS {
        let organization = OrganizationId::from_u128(user * ORGANIZATIONS / USERS);
        let token = TestToken::new(&format!("user:u{user}").parse()?);
        let token = issuer.token(&token.with_organizations([organization]))?;
        writeln!(
            lines,
            "{token} {organization} catalog/job-{}",
            user % REPOSITORIES_PER_ORGANIZATION as u128
        )?;
    }
    Ok(lines)
}

fn sdk_config(aws: &FakeAws, user: &User) -> SdkConfig {
    let key = user.access_key();
    let credentials = Credentials::new(&key.id, &key.secret, None, None, "bench");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(aws.endpoint_url())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}
