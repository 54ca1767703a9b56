//! From the choice of an identity to what knows who asks.

use std::sync::Arc;

use async_trait::async_trait;

use super::identity::Identity;
use super::place::Place;
use super::settings::{IdentitySettings, PRINCIPAL_VARIABLE, SettingsError};
use crate::error::Error;
use crate::identity::{
    IdentitySource, LocalUser, MembershipsFile, Principal, PrincipalKind, PrincipalName,
    local_user, single_user,
};

/// What knows who asks. Tokens and keys are read when it is first asked.
///
/// # Errors
/// One that says so if nobody can be asking: a name that is none, or no name at all.
pub(super) fn source(
    identity: &Identity,
    settings: &IdentitySettings,
    memberships: Option<MembershipsFile>,
    place: &Place,
) -> Result<Arc<dyn IdentitySource>, SettingsError> {
    match (identity, place) {
        #[cfg(feature = "token")]
        (Identity::Token { file, .. }, _) => token::source(file, settings),
        #[cfg(feature = "ecr")]
        (Identity::AwsCaller { .. }, Place::Ecr(ecr)) => Ok(aws::source(ecr.clone(), memberships)),
        (Identity::LocalUser { named, .. }, _) => named_user(named.as_deref(), memberships),
        #[cfg(not(feature = "token"))]
        (Identity::Token { origin, .. }, _) => {
            let _ = settings;
            Err(super::place::without_feature("a token", "token").within(origin))
        }
        // A caller of AWS, elsewhere than in AWS.
        #[cfg(any(feature = "local", not(feature = "ecr")))]
        (Identity::AwsCaller { .. }, _) => named_user(None, memberships),
    }
}

/// What knows who asks of a backend that the program has opened.
///
/// # Errors
/// [`Error::InvalidInput`] if a memberships file decides about AWS callers and the backend does not say who
/// its caller is.
pub(super) fn source_for_backend(
    identity: &Identity,
    settings: &IdentitySettings,
    memberships: Option<MembershipsFile>,
    place: Option<&Place>,
) -> Result<Arc<dyn IdentitySource>, SettingsError> {
    match (identity, place, memberships) {
        #[cfg(feature = "token")]
        (Identity::Token { file, .. }, ..) => token::source(file, settings),
        #[cfg(not(feature = "token"))]
        (Identity::Token { origin, .. }, ..) => {
            let _ = settings;
            Err(super::place::without_feature("a token", "token").within(origin))
        }
        (Identity::LocalUser { named: None, .. }, _, None) => Ok(this_user()),
        (Identity::LocalUser { named, .. }, _, memberships) => {
            named_user(named.as_deref(), memberships)
        }
        #[cfg(feature = "ecr")]
        (Identity::AwsCaller { .. }, Some(Place::Ecr(ecr)), memberships) => {
            Ok(aws::source(ecr.clone(), memberships))
        }
        // Without memberships AWS alone decides, and the name is for records only.
        (Identity::AwsCaller { .. }, _, None) => Ok(this_user()),
        (Identity::AwsCaller { .. }, _, Some(_)) => Err(SettingsError::invalid(
            "the memberships file decides about AWS callers, and this backend does not say who its caller is",
        )
        .with_help("set an identity source, or open the registry from the settings and add a layer")),
    }
}

pub(super) fn named_user(
    named: Option<&str>,
    memberships: Option<MembershipsFile>,
) -> Result<Arc<dyn IdentitySource>, SettingsError> {
    let name = local_user(named).map_err(|error| match error {
        Error::Parse(_) => SettingsError::from(error).within(PRINCIPAL_VARIABLE),
        _ => SettingsError::from(error)
            .with_help(format!("say who asks: export {PRINCIPAL_VARIABLE}=user:NAME")),
    })?;
    let user = LocalUser::new(name);
    Ok(Arc::new(match memberships {
        Some(memberships) => user.with_memberships(memberships),
        None => user,
    }))
}

/// This system's user as the only one; by another name where the system has none.
pub(super) fn this_user() -> Arc<dyn IdentitySource> {
    match local_user(None) {
        Ok(name) => Arc::new(single_user(name)),
        Err(_) => Arc::new(Nameless),
    }
}

/// A user for whom the system has no name, as in a container that runs under a bare number.
#[derive(Debug)]
struct Nameless;

#[async_trait]
impl IdentitySource for Nameless {
    async fn principal(&self) -> Result<Arc<Principal>, Error> {
        let name = PrincipalName::new(PrincipalKind::User, "nameless")?;
        Ok(Arc::new(single_user(name)))
    }
}

/// Whom a token is for.
#[cfg(feature = "token")]
mod token {
    use std::path::Path;

    use super::*;
    use crate::catalog::settings::{Claims, KeySetLocation, Verification};
    use crate::identity::{ClaimNames, KeySet, TokenFile, TokenIdentity, TokenVerifier};

    pub(super) fn source(
        file: &Path,
        settings: &IdentitySettings,
    ) -> Result<Arc<dyn IdentitySource>, SettingsError> {
        let (file, names) = (TokenFile::new(file), claim_names(&settings.claims));
        Ok(Arc::new(match &settings.verification {
            Some(verification) => {
                TokenIdentity::verified(file, verifier(verification)?.with_claim_names(names))
            }
            None => TokenIdentity::unverified(file, names),
        }))
    }

    fn verifier(verification: &Verification) -> Result<TokenVerifier, SettingsError> {
        let key_set = match &verification.key_set {
            KeySetLocation::File(path) => KeySet::file(path),
            KeySetLocation::Url(url) => KeySet::url(url)
                .map_err(|error| SettingsError::from(error).within(&verification.origin))?,
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
}

/// Whose AWS credentials are used.
#[cfg(feature = "ecr")]
mod aws {
    use super::*;
    use crate::backend::ecr::EcrBackend;
    use crate::identity::AwsCaller;

    /// Without a memberships file AWS alone decides, and the name is for its records: the system's, so
    /// that AWS need not be asked for one.
    pub(super) fn source(
        ecr: EcrBackend,
        memberships: Option<MembershipsFile>,
    ) -> Arc<dyn IdentitySource> {
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
}
