//! The contract of credentials for a scope.

use std::time::SystemTime;

use super::{Fixture, assert_fails, expect_contract, named_cases};
use crate::error::Error;
use crate::model::{Access, Scope};

named_cases![
    credentials_cover_scope_and_expire,
    credentials_cover_missing_repository,
    credentials_cover_organizations,
    scope_without_organizations_is_invalid,
];

const LEVELS: [Access; 3] = [Access::Pull, Access::Push, Access::Delete];

async fn credentials_cover_scope_and_expire(fixture: &Fixture<'_>) {
    let path = fixture.path("present");
    let repository = fixture.create(&path).await;
    for access in LEVELS {
        let scope = Scope::repository(path.clone(), access);
        let credentials = fixture.backend().credentials(&scope, &Default::default()).await;
        let credentials =
            expect_contract(credentials, "credentials: issued for a scope of one repository");
        assert_eq!(
            credentials.host,
            *repository.url.host(),
            "credentials: the host is that of repository URLs"
        );
        assert!(
            !credentials.username.is_empty() && !credentials.password.expose().is_empty(),
            "credentials: they have a user name and a password"
        );
        assert!(
            credentials.expires_at > SystemTime::now(),
            "credentials: they are not expired when issued"
        );
        assert!(
            credentials.scope.covers(&path, access),
            "credentials: their scope covers the requested one: {} for {scope}",
            credentials.scope
        );
    }
}

async fn credentials_cover_missing_repository(fixture: &Fixture<'_>) {
    let path = fixture.path("to-come");
    let scope = Scope::repository(path.clone(), Access::Push);
    let credentials = expect_contract(
        fixture.backend().credentials(&scope, &Default::default()).await,
        "credentials: a scope may contain a repository that does not exist yet",
    );
    assert!(
        credentials.scope.covers(&path, Access::Push),
        "credentials: their scope covers the requested one"
    );
}

async fn credentials_cover_organizations(fixture: &Fixture<'_>) {
    let organizations = [fixture.organization(), fixture.other_organization()];
    let stage = fixture.backend().stage();
    let scope = Scope::organizations(stage, organizations, Access::Push);
    let credentials = expect_contract(
        fixture.backend().credentials(&scope, &Default::default()).await,
        "credentials: issued for a scope of several organizations",
    );
    for organization in organizations {
        let path = fixture.path_in(organization, "any");
        assert!(
            credentials.scope.covers(&path, Access::Push),
            "credentials: their scope covers the requested one: {} for {scope}",
            credentials.scope
        );
    }
}

async fn scope_without_organizations_is_invalid(fixture: &Fixture<'_>) {
    for access in LEVELS {
        let scope = Scope::organizations(fixture.backend().stage(), [], access);
        assert_fails!(
            fixture.backend().credentials(&scope, &Default::default()).await,
            Error::InvalidInput { .. },
            "credentials: InvalidInput if the scope contains no organization"
        );
    }
}
