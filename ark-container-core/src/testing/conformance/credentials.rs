//! Credentials for a scope.

use std::time::SystemTime;

use super::fixture::{Fixture, kept};
use super::{assert_fails, named_cases};
use crate::error::Error;
use crate::model::{Access, Scope};

named_cases![
    credentials_reach_the_scope_for_a_while,
    credentials_reach_a_repository_to_come,
    credentials_reach_organizations,
    a_scope_without_organizations_is_invalid,
];

const LEVELS: [Access; 3] = [Access::Pull, Access::Push, Access::Delete];

async fn credentials_reach_the_scope_for_a_while(fixture: &Fixture<'_>) {
    let path = fixture.path("present");
    let repository = fixture.create(&path).await;
    for access in LEVELS {
        let scope = Scope::repository(path.clone(), access);
        let credentials = fixture.backend().credentials(&scope, &Default::default()).await;
        let credentials = kept(credentials, "credentials open the registry to the scope");
        assert_eq!(
            credentials.host,
            *repository.url.host(),
            "credentials are for the host that repositories' URLs name"
        );
        assert!(
            !credentials.username.is_empty() && !credentials.password.expose().is_empty(),
            "credentials have a user name and a password"
        );
        assert!(
            credentials.expires_at > SystemTime::now(),
            "credentials are good when they are given"
        );
        assert!(
            credentials.scope.covers(&path, access),
            "credentials say how far they reach: {} for {scope}",
            credentials.scope
        );
    }
}

async fn credentials_reach_a_repository_to_come(fixture: &Fixture<'_>) {
    let path = fixture.path("to-come");
    let scope = Scope::repository(path.clone(), Access::Push);
    let credentials = kept(
        fixture.backend().credentials(&scope, &Default::default()).await,
        "credentials: a scope may name a repository that is yet to be created",
    );
    assert!(credentials.scope.covers(&path, Access::Push), "credentials say how far they reach");
}

async fn credentials_reach_organizations(fixture: &Fixture<'_>) {
    let organizations = [fixture.organization(), fixture.other_organization()];
    let stage = fixture.backend().stage();
    let scope = Scope::organizations(stage, organizations, Access::Push);
    let credentials = kept(
        fixture.backend().credentials(&scope, &Default::default()).await,
        "credentials open the registry to several organizations",
    );
    for organization in organizations {
        let path = fixture.path_in(organization, "any");
        assert!(
            credentials.scope.covers(&path, Access::Push),
            "credentials say how far they reach: {} for {scope}",
            credentials.scope
        );
    }
}

async fn a_scope_without_organizations_is_invalid(fixture: &Fixture<'_>) {
    for access in LEVELS {
        let scope = Scope::organizations(fixture.backend().stage(), [], access);
        assert_fails!(
            fixture.backend().credentials(&scope, &Default::default()).await,
            Error::InvalidInput { .. },
            "credentials: InvalidInput if the scope names no organization"
        );
    }
}
