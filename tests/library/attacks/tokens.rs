//! Tokens that are not what they say: AWS takes none of them, nor does who has the provider's keys.

use std::time::{Duration, SystemTime};

use ark_container_core::identity::{
    IdentitySource as _, KeySet, TokenFile, TokenIdentity, TokenVerifier,
};
use ark_container_core::model::{Access, Scope};
use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_core::{Error, RegistryBackend as _};

use crate::access::Deployment;
use crate::access::people::{OURS, PEOPLE};
use crate::access::wall::{AUDIENCE, ISSUER, path};

/// Tokens that say what bob would like to be, each with what is wrong with it.
fn forgeries(issuer: &TokenIssuer) -> Vec<(&'static str, String)> {
    let other = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    let alice = PEOPLE[0].token();
    let sign = |token: &TestToken| issuer.token(token).unwrap();
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let good = sign(&alice);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    // The claims of the administrator under the header and the signature of alice.
    let administrator = sign(&PEOPLE[6].token());
    let claims = administrator.split('.').nth(1).unwrap();
    vec![
        ("it has expired", sign(&alice.clone().expiring_at(ago(3_600)))),
        ("it is not good yet", sign(&alice.clone().not_before(SystemTime::now() + HOUR))),
        ("it is for another audience", sign(&alice.clone().with_claim("aud", "another"))),
        ("it is for nobody", sign(&alice.clone().without_claim("aud"))),
        ("it is of another issuer", sign(&alice.clone().with_claim("iss", "https://evil.example"))),
        ("another key has signed it", other.token(&alice).unwrap()),
        (
            "another key has signed it, by a name that is not known",
            other.token(&alice.clone().with_header("kid", "evil")).unwrap(),
        ),
        ("nobody has signed it", issuer.unsigned(&alice)),
        (
            "the public keys have signed it as a secret",
            issuer.signed_by_secret(&alice, issuer.key_set_json().as_bytes()),
        ),
        ("its signature is missing", format!("{message}.")),
        ("its claims are of another token", format!("{header}.{claims}.{signature}")),
        ("it says another algorithm", sign(&alice.clone().with_header("alg", "RS256"))),
        (
            "it brings its own key",
            other
                .token(&alice.with_header("jwk", serde_json::from_str::<serde_json::Value>(
                    &other.key_set_json(),
                )
                .unwrap()["keys"][0].clone()))
                .unwrap(),
        ),
    ]
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_token_becomes_a_session_of_aws() {
    let deployment = Deployment::start().await;
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    let good = deployment.bearer(&PEOPLE[0].token());
    good.credentials(&scope, &Default::default()).await.unwrap();
    for (wrong, token) in forgeries(&deployment.issuer) {
        let backend = deployment.bearer_of(&token);
        for refused in [
            backend.credentials(&scope, &Default::default()).await.map(drop),
            backend.describe_repository(&path(OURS, "app")).await.map(drop),
        ] {
            match refused {
                // AWS says of an audience that the provider is not registered for that it denies.
                Err(Error::Unauthenticated { .. } | Error::PermissionDenied { .. }) => {}
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
    assert_eq!(deployment.cloud.aws.count("ecr:GetAuthorizationToken"), 1, "the good one's");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_token_names_a_principal_to_who_has_the_keys() {
    let issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (keys, file) = (folder.path().join("keys.json"), folder.path().join("jwt.json"));
    std::fs::write(&keys, issuer.key_set_json()).unwrap();
    let verifier = TokenVerifier::new(KeySet::file(&keys), AUDIENCE).with_issuer(ISSUER);
    let principal = verifier.verify(&issuer.token(&PEOPLE[0].token()).unwrap()).await.unwrap();
    assert_eq!(principal, PEOPLE[0].principal());
    for (wrong, token) in forgeries(&issuer) {
        let refused = verifier.verify(&token).await;
        assert!(matches!(refused, Err(Error::Unauthenticated { .. })), "{wrong}: {refused:?}");
        let message = refused.unwrap_err().to_string();
        assert!(
            !token.split('.').any(|part| !part.is_empty() && message.contains(part)),
            "{wrong}"
        );
        // The same for a program that takes its own token from a file.
        std::fs::write(&file, &token).unwrap();
        let keys = TokenVerifier::new(KeySet::file(&keys), AUDIENCE).with_issuer(ISSUER);
        let refused = TokenIdentity::verified(TokenFile::new(&file), keys).principal().await;
        assert!(matches!(refused, Err(Error::Unauthenticated { .. })), "{wrong}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_withdrawn_opens_nothing() {
    let mut issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    let old = issuer.token(&PEOPLE[0].token()).unwrap();
    issuer.rotate().unwrap();
    issuer.retire_former_keys();
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, issuer.key_set_json()).unwrap();
    let verifier = TokenVerifier::new(KeySet::file(&keys), AUDIENCE).with_issuer(ISSUER);
    assert!(matches!(verifier.verify(&old).await, Err(Error::Unauthenticated { .. })));
    verifier.verify(&issuer.token(&PEOPLE[0].token()).unwrap()).await.unwrap();
}
