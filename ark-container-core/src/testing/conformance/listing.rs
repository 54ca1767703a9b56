//! Listings of repositories.

use super::fixture::Fixture;
use super::named_cases;
use crate::model::{Organizations, RepositoryPath};

named_cases![
    each_repository_comes_exactly_once,
    no_repository_comes_from_another_organization,
    all_organizations_are_each_of_them,
    an_organization_without_repositories_adds_nothing,
    no_organization_has_no_repositories,
];

/// Creates repositories whose names nest, and gives them in the order of their paths.
async fn several(fixture: &Fixture<'_>) -> Vec<RepositoryPath> {
    let mut paths = Vec::new();
    for number in 0..12 {
        for name in [format!("n{number}"), format!("n{number}/nested")] {
            paths.push(fixture.repository(&name).await);
        }
    }
    paths.sort();
    paths
}

async fn each_repository_comes_exactly_once(fixture: &Fixture<'_>) {
    let created = several(fixture).await;
    let mut listed = fixture.listed(&Organizations::from(fixture.organization())).await;
    listed.sort();
    assert_eq!(listed, created, "list_repositories: each repository comes exactly once");
}

async fn no_repository_comes_from_another_organization(fixture: &Fixture<'_>) {
    // The same name in both, which only the organization tells apart.
    let own = fixture.repository("same").await;
    let other = fixture.path_in(fixture.other_organization(), "same");
    fixture.create(&other).await;
    for path in [own, other] {
        let listed = fixture.listed(&Organizations::from(path.organization())).await;
        assert_eq!(
            listed,
            [path],
            "list_repositories gives the repositories of the organizations asked for, no others"
        );
    }
}

async fn all_organizations_are_each_of_them(fixture: &Fixture<'_>) {
    let other = fixture.path_in(fixture.other_organization(), "same");
    fixture.create(&other).await;
    let mut created = vec![fixture.repository("same").await, other];
    created.sort();
    let both = [fixture.organization(), fixture.other_organization()].into_iter().collect();
    for organizations in [both, Organizations::All] {
        let mut listed = fixture.listed(&organizations).await;
        listed.sort();
        assert_eq!(
            listed, created,
            "list_repositories: each repository of {organizations:?} comes exactly once"
        );
    }
}

async fn an_organization_without_repositories_adds_nothing(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "list_repositories: an organization without repositories adds nothing";
    let empty = fixture.empty_organization();
    let listed = fixture.listed(&Organizations::from(empty)).await;
    assert!(listed.is_empty(), "{CONTRACT}: {listed:?}");
    let path = fixture.repository("only").await;
    let both = [empty, path.organization()].into_iter().collect();
    assert_eq!(fixture.listed(&both).await, [path], "{CONTRACT}");
}

async fn no_organization_has_no_repositories(fixture: &Fixture<'_>) {
    fixture.repository("only").await;
    let listed = fixture.listed(&Organizations::none()).await;
    assert!(listed.is_empty(), "list_repositories of no organization gives nothing: {listed:?}");
}
