//! Whose repositories a session reaches, with AWS alone to refuse.

use ark_container_core::RegistryBackend;
use ark_container_core::model::{Access, OrganizationId, Scope};

use super::{
    A, ACCESS, ADMINISTRATOR, B, Deployment, GLOBAL, LEGACY, app, create_repositories, may, token,
};

const READS: [&str; 2] = ["read", "read tags"];
const PUSHES: [&str; 3] = ["read", "read tags", "settle"];
const NOTHING: [&str; 0] = [];

/// Repositories that are nobody's: of another stage, of a GUID with more behind it, and of long ago.
fn strays() -> [String; 3] {
    [LEGACY.to_owned(), format!("dev/{A}/app"), format!("prod/{A}x/app")]
}

#[tokio::test]
async fn members_push_to_their_own_and_read_global() {
    let deployment = Deployment::start().await;
    create_repositories(&deployment).await;
    for (name, of, in_a, in_b) in [
        ("user:alice", &[A][..], &PUSHES[..], &NOTHING[..]),
        ("user:bob", &[B], &NOTHING, &PUSHES),
        ("user:carol", &[A, B], &PUSHES, &PUSHES),
        ("user:nobody", &[], &NOTHING, &NOTHING),
        ("robot:build", &[A], &READS, &NOTHING),
        ("ingest-job:7", &[B], &NOTHING, &READS),
        // The identity provider may not make members of the global organization either.
        ("user:dave", &[GLOBAL], &NOTHING, &NOTHING),
    ] {
        // Under this role, nobody is an administrator.
        let ecr = deployment.ecr(ACCESS, &token(name, of, &[A, B, GLOBAL])).await.unwrap();
        assert_eq!(may(&ecr, &app(A)).await, in_a, "{name}");
        assert_eq!(may(&ecr, &app(B)).await, in_b, "{name}");
        assert_eq!(may(&ecr, &app(GLOBAL)).await, READS, "{name}");
        for stray in strays() {
            assert_eq!(may(&ecr, &stray).await, NOTHING, "{name} {stray}");
        }
    }
}

#[tokio::test]
async fn administrators_delete_in_their_organizations() {
    let everything = ["settle", "delete an image", "delete"];
    for (administers, deleted) in
        [(&[A][..], &[A][..]), (&[B, GLOBAL], &[B, GLOBAL]), (&[GLOBAL], &[GLOBAL])]
    {
        let deployment = Deployment::start().await;
        create_repositories(&deployment).await;
        let dora = token("user:dora", &[A, B], administers);
        let ecr = deployment.ecr(ADMINISTRATOR, &dora).await.unwrap();
        for organization in [A, B, GLOBAL] {
            let expected = if deleted.contains(&organization) { &everything[..] } else { &NOTHING };
            assert_eq!(may(&ecr, &app(organization)).await, expected, "{administers:?}");
        }
        for stray in strays() {
            assert_eq!(may(&ecr, &stray).await, NOTHING, "{administers:?} {stray}");
        }
    }
}

#[tokio::test]
async fn session_reaches_ten_organizations_at_most() {
    let deployment = Deployment::start().await;
    let organizations: Vec<OrganizationId> = (1..=11).map(OrganizationId::from_u128).collect();
    let ecr = deployment.cloud.ecr(&deployment.cloud.admin);
    for organization in &organizations {
        ecr.create_repository().repository_name(app(*organization)).send().await.unwrap();
    }
    let alice = token("user:alice", &organizations, &organizations);
    for (role, may_what) in
        [(ACCESS, &PUSHES[..]), (ADMINISTRATOR, &["settle", "delete an image", "delete"])]
    {
        let ecr = deployment.ecr(role, &alice).await.unwrap();
        for organization in &organizations[..9] {
            assert_eq!(may(&ecr, &app(*organization)).await, may_what, "{organization}");
        }
        assert_eq!(may(&ecr, &app(organizations[10])).await, NOTHING);
    }
    // The tags leave room for the policy that narrows a login.
    let backend = deployment.bearer(&alice);
    let scope = Scope::repository(app(organizations[9]).parse().unwrap(), Access::Delete);
    backend.credentials(&scope, &Default::default()).await.unwrap();
}
