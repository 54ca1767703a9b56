//! Logins that would reach further than they should, or that are somebody else's.

use std::collections::BTreeSet;

use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_core::{Error, RegistryBackend as _};
use futures_util::TryStreamExt as _;

use crate::access::Deployment;
use crate::access::people::{OURS, PEOPLE};
use crate::access::wall::{AUDIENCE, ISSUER, path};

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_login_is_not_for_whoever_says_to_be_the_same() {
    let deployment = Deployment::start().await;
    let cache = tempfile::tempdir().unwrap();
    let bearer = |token: &str| {
        deployment.bearer_with(&deployment.token_file(token), |builder| {
            builder.principal("user:alice").cache_directory(cache.path())
        })
    };
    let sign = |token: &TestToken| deployment.issuer.token(token).unwrap();
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    let alice = sign(&PEOPLE[0].token());
    let password = bearer(&alice).credentials(&scope, &Default::default()).await.unwrap().password;
    let again = bearer(&alice).credentials(&scope, &Default::default()).await.unwrap().password;
    assert_eq!(again.expose(), password.expose(), "it is kept for her");

    // A token that says to be alice's, and bob's own: neither gets what was kept.
    let forger = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    let forged = bearer(&forger.token(&PEOPLE[0].token()).unwrap())
        .credentials(&scope, &Default::default())
        .await;
    assert!(matches!(forged, Err(Error::Unauthenticated { .. })), "{forged:?}");
    let unsigned =
        bearer(&forger.unsigned(&PEOPLE[0].token())).credentials(&scope, &Default::default()).await;
    assert!(matches!(unsigned, Err(Error::Unauthenticated { .. })), "{unsigned:?}");
    // AWS gives bob a password, which opens nothing of the scope: that is what the table shows.
    let bobs = bearer(&sign(&PEOPLE[1].token()))
        .credentials(&scope, &Default::default())
        .await
        .unwrap()
        .password;
    assert_ne!(bobs.expose(), password.expose());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_policy_that_overflows_gives_no_wider_login() {
    let deployment = Deployment::start_with(|aws| aws.packed_limit(600)).await;
    let backend = deployment.bearer(&PEOPLE[0].token());
    // Too long for AWS as it packs policies, and too long to be asked for.
    for count in [4, 40] {
        let organizations = (0..count).map(OrganizationId::from_u128);
        let scope = Scope::organizations(Stage::default(), organizations, Access::Push);
        let refused = backend.credentials(&scope, &Default::default()).await;
        assert!(matches!(refused, Err(Error::InvalidInput { .. })), "{refused:?}");
    }
    assert_eq!(deployment.cloud.aws.count("ecr:GetAuthorizationToken"), 0);
}

/// Identifiers that a session of AWS cannot be named after as they are.
const HOSTILE: [&str; 8] = [
    "a b",
    "a/b",
    "a*b",
    "../../role/administrator",
    "alice,Value=administrator",
    "${aws:PrincipalTag/administers}",
    "\u{202e}ecila",
    "\"}]}",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_identifier_of_a_principal_becomes_another_session() {
    let deployment = Deployment::start().await;
    let long = "a".repeat(200);
    let subjects = HOSTILE.into_iter().chain([&*long]);
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    for subject in subjects.clone() {
        let token = PEOPLE[0].token().with_claim("sub", subject);
        let file = deployment.token_file(&deployment.issuer.token(&token).unwrap());
        let principal = format!("user:{subject}");
        let backend = deployment.bearer_with(&file, |builder| builder.principal(&principal));
        backend
            .credentials(&scope, &Default::default())
            .await
            .unwrap_or_else(|error| panic!("{subject:?}: {error:?}"));
    }
    let calls = deployment.cloud.aws.calls();
    let sessions: BTreeSet<String> = calls
        .into_iter()
        .filter(|call| call.action == "ecr:GetAuthorizationToken")
        .filter_map(|call| call.principal)
        .collect();
    assert_eq!(sessions.len(), subjects.count(), "{sessions:?}");
    for session in sessions {
        let name = session.strip_prefix("arn:aws:sts::095412845506:assumed-role/ark-access/");
        assert!(name.is_some_and(|name| !name.contains('/') && name.len() <= 64), "{session}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_one_organization_is_no_administrator_by_asking() {
    let deployment = Deployment::start().await;
    deployment.furnish([path(OURS, "app")]).await;
    // What alice's token says to this program is not what it says to AWS.
    let token = PEOPLE[0].token().with_administers([OURS, OrganizationId::GLOBAL]);
    let backend = deployment.bearer(&token);
    let options = ark_container_core::backend::DeleteOptions::default().with_force(true);
    let refused = backend.delete_repository(&path(OURS, "app"), &options).await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
    let global = path(OrganizationId::GLOBAL, "app");
    let refused = backend.create_repository(&global, &Default::default()).await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
    let rows = backend.list_repositories(&Organizations::from(OURS));
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1);
}
