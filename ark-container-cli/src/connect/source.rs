//! From the choice of an identity to what knows who asks.

use std::path::Path;
use std::sync::Arc;

use ark_container_core::Error;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::identity::{
    AwsCaller, ClaimNames, IdentitySource, KeySet, LocalUser, MembershipsFile, Principal,
    PrincipalKind, PrincipalName, TokenFile, TokenIdentity, TokenVerifier, local_user, single_user,
};
use async_trait::async_trait;

use super::Place;
use super::identity::Identity;
use crate::failure::Failure;
use crate::settings::{Claims, IdentitySettings, KeySetLocation, PRINCIPAL_VARIABLE, Verification};

/// What knows who asks. Tokens and keys are read when it is first asked.
///
/// # Errors
/// A failure if nobody can be asking: a name that is none, or no name at all.
pub(super) fn source(
    identity: &Identity,
    settings: &IdentitySettings,
    memberships: Option<MembershipsFile>,
    place: &Place,
) -> Result<Arc<dyn IdentitySource>, Failure> {
    match (identity, place) {
        (Identity::Token { file, .. }, _) => token(file, settings),
        (Identity::AwsCaller { .. }, Place::Ecr(ecr)) => Ok(aws_caller(ecr.clone(), memberships)),
        (Identity::LocalUser { named, .. }, _) => named_user(named.as_deref(), memberships),
        (Identity::AwsCaller { .. }, Place::Local(_)) => named_user(None, memberships),
    }
}

fn token(file: &Path, settings: &IdentitySettings) -> Result<Arc<dyn IdentitySource>, Failure> {
    let (file, names) = (TokenFile::new(file), claim_names(&settings.claims));
    Ok(Arc::new(match &settings.verification {
        Some(verification) => {
            TokenIdentity::verified(file, verifier(verification)?.with_claim_names(names))
        }
        None => TokenIdentity::unverified(file, names),
    }))
}

fn verifier(verification: &Verification) -> Result<TokenVerifier, Failure> {
    let key_set = match &verification.key_set {
        KeySetLocation::File(path) => KeySet::file(path),
        KeySetLocation::Url(url) => {
            KeySet::url(url).map_err(|error| Failure::from(error).within(&verification.origin))?
        }
    };
    let verifier = TokenVerifier::new(key_set, &verification.audience);
    Ok(match &verification.issuer {
        Some(issuer) => verifier.with_issuer(issuer),
        None => verifier,
    })
}

fn claim_names(claims: &Claims) -> ClaimNames {
    let mut names = ClaimNames::default();
    if let Some(claim) = &claims.subject {
        names = names.with_subject(claim);
    }
    if let Some(claim) = &claims.kind {
        names = names.with_kind(claim);
    }
    if let Some(claim) = &claims.organizations {
        names = names.with_organizations(claim);
    }
    if let Some(claim) = &claims.administers {
        names = names.with_administers(claim);
    }
    names
}

fn named_user(
    named: Option<&str>,
    memberships: Option<MembershipsFile>,
) -> Result<Arc<dyn IdentitySource>, Failure> {
    let name = local_user(named).map_err(|error| match error {
        Error::Parse(_) => Failure::from(error).within(PRINCIPAL_VARIABLE),
        _ => Failure::from(error)
            .with_help(format!("say who asks: export {PRINCIPAL_VARIABLE}=user:NAME")),
    })?;
    let user = LocalUser::new(name);
    Ok(Arc::new(match memberships {
        Some(memberships) => user.with_memberships(memberships),
        None => user,
    }))
}

/// Without a memberships file AWS alone decides, and the name is for its records: the system's, so
/// that AWS need not be asked for one.
fn aws_caller(ecr: EcrBackend, memberships: Option<MembershipsFile>) -> Arc<dyn IdentitySource> {
    match (memberships, local_user(None)) {
        (Some(memberships), _) => {
            let ask = move || {
                let ecr = ecr.clone();
                async move { Ok(ecr.caller().await?.arn.clone()) }
            };
            Arc::new(AwsCaller::new(ask, memberships))
        }
        (None, Ok(name)) => Arc::new(single_user(name)),
        (None, Err(_)) => Arc::new(NamedByAws(ecr)),
    }
}

/// Whoever calls AWS, called by their ARN, where the system has no name for the user.
#[derive(Debug)]
struct NamedByAws(EcrBackend);

#[async_trait]
impl IdentitySource for NamedByAws {
    async fn principal(&self) -> Result<Arc<Principal>, Error> {
        let caller = self.0.caller().await?;
        let name = PrincipalName::new(PrincipalKind::User, &caller.arn)?;
        Ok(Arc::new(single_user(name)))
    }
}
