//! A service with one registry for many users. Each request has a token of the identity provider, and the service's
//! policy authorizes it.
//!
//!     ARK_REGISTRY=… cargo run --example catalog_service -- \
//!         --listen 127.0.0.1:8080 --key-set keys.json --audience ark --audit-file audit.jsonl
//!
//! | request | answer |
//! |---|---|
//! | `GET /repositories[?organization=GUID]` | the caller's repositories, one JSON object on a line |
//! | `POST /repositories` `{"organization", "name"}` | creates a repository |
//! | `POST /credentials` `{"organization", "name", "access": "pull" or "push"}` | a login to a repository |
//! | `GET /metrics` | counters and durations, for Prometheus |
//!
//! Run the service behind a proxy with TLS: requests and responses contain tokens and passwords.

#![expect(clippy::print_stderr, reason = "this program talks to a person")]

mod service;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use ark_container_core::identity::{KeySet, TokenVerifier};
use ark_container_core::model::Action;
use ark_container_core::permission::{Decision, Policy, StandardPolicy, policy_fn};
use ark_container_core::{Catalog, RegistryBackend, observability};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;

use crate::service::Service;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options(std::env::args().skip(1))?;
    let option = |name: &str| options.get(name).ok_or_else(|| format!("--{name} is missing"));
    let metrics = PrometheusBuilder::new().install_recorder()?;
    observability::describe();

    let keys = option("key-set")?;
    let keys = if keys.contains("://") { KeySet::url(keys)? } else { KeySet::file(keys) };
    let verifier = TokenVerifier::new(keys, option("audience")?);
    let catalog = Catalog::builder().with_environment().with_policy(policy());
    let catalog = catalog.with_audit(option("audit-file")?).connect().await?;
    eprintln!("acting in {catalog} as {}", catalog.principal().await?);

    // A catalog of another principal is as cheap as a clone, so each request has its own.
    let acting = move |principal| -> Arc<dyn RegistryBackend> {
        Arc::new(catalog.acting_as(principal).backend().clone())
    };
    let service = Service { verifier, acting: Arc::new(acting), metrics };
    let listener = TcpListener::bind(option("listen")?).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    axum::serve(listener, service.router()).with_graceful_shutdown(interrupted()).await?;
    Ok(())
}

/// Returns the standard policy without deletions.
fn policy() -> impl Policy {
    policy_fn(|request| match request.action {
        Action::DeleteRepository | Action::DeleteImage => {
            Ok(Decision::deny("nothing-is-deleted-here"))
        }
        _ => Ok(StandardPolicy.decision(request)),
    })
}

/// Parses pairs of `--NAME VALUE`.
fn options(
    mut arguments: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut options = BTreeMap::new();
    while let Some(name) = arguments.next() {
        let name =
            name.strip_prefix("--").ok_or_else(|| format!("{name} is no option"))?.to_owned();
        let value = arguments.next().ok_or_else(|| format!("--{name} takes a value"))?;
        options.insert(name, value);
    }
    Ok(options)
}

/// Waits for an interrupt. If signals cannot be handled, waits forever.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
