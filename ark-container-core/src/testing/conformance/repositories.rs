//! The contract of creating, describing, listing and deleting repositories.

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;

use super::{Fixture, assert_fails, expect_contract, named_cases, tag};
use crate::backend::{CreateOptions, DeleteOptions, TagMutability};
use crate::error::{Error, ResourceKind};
use crate::model::{Access, Organizations, Reference, RepositoryPath, Scope, Stage, TagPattern};
use crate::testing::SampleImage;

named_cases![
    created_repository_is_described_and_listed,
    repeated_creation_returns_same_repository,
    concurrent_creations_succeed,
    other_tag_mutability_is_a_conflict,
    other_mutability_exclusions_are_a_conflict,
    missing_resource_tag_is_a_conflict,
    missing_repository_is_not_found,
    empty_repository_is_deleted_without_force,
    repository_with_images_needs_force,
    deletion_keeps_repositories_with_longer_names,
    path_of_other_stage_is_invalid,
    repository_is_listed_exactly_once,
    listing_excludes_other_organizations,
    listing_of_all_covers_every_organization,
    empty_organization_lists_nothing,
    listing_of_no_organization_is_empty,
];

/// Returns whether the backend sets this resource tag itself.
fn own_tag(key: &str) -> bool {
    key.starts_with("ark:")
}

fn immutable() -> CreateOptions {
    CreateOptions::default().with_tag_mutability(TagMutability::Immutable)
}

async fn created_repository_is_described_and_listed(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.path("new");
    let options = immutable().with_resource_tag("team", "maps").with_resource_tag("stage", "test");
    let created = backend.create_repository(&path, &options).await;
    let created = expect_contract(created, "create_repository creates a repository");
    assert_eq!(*created.url.path(), path, "the URL of a repository ends with its path");
    assert_eq!(
        created.tag_mutability,
        TagMutability::Immutable,
        "create_repository sets the tag mutability"
    );
    let tags = created.resource_tags.clone().unwrap_or_default();
    assert!(
        options.resource_tags.iter().all(|(key, value)| tags.get(key) == Some(value))
            && tags.keys().all(|key| options.resource_tags.contains_key(key) || own_tag(key)),
        "create_repository: sets the resource tags, and only its own in addition: {tags:?}"
    );
    let described = expect_contract(
        backend.describe_repository(&path).await,
        "when create_repository returns, the repository can be described",
    );
    assert_eq!(described, created, "describe_repository: returns the same as create_repository");
    let listed = fixture.listed(&Organizations::from(fixture.organization())).await;
    assert_eq!(listed, [path], "when create_repository returns, the repository is listed");
}

async fn repeated_creation_returns_same_repository(fixture: &Fixture<'_>) {
    let path = fixture.path("twice");
    let options = immutable().with_resource_tag("team", "maps");
    let first = expect_contract(
        fixture.backend().create_repository(&path, &options).await,
        "create_repository creates a repository",
    );
    let second = expect_contract(
        fixture.backend().create_repository(&path, &options).await,
        "create_repository is idempotent: the same request again succeeds",
    );
    assert_eq!(first, second, "create_repository is idempotent: it returns the same repository");
}

async fn concurrent_creations_succeed(fixture: &Fixture<'_>) {
    let path = fixture.path("race");
    let options = CreateOptions::default().with_resource_tag("team", "maps");
    let several = (0..8).map(|_| fixture.backend().create_repository(&path, &options));
    let created = expect_contract(
        try_join_all(several).await,
        "create_repository: two concurrent calls with the same settings succeed",
    );
    assert!(
        created.iter().all(|repository| *repository == created[0]),
        "create_repository: two concurrent calls return the same repository: {created:?}"
    );
    let listed = fixture.listed(&Organizations::from(fixture.organization())).await;
    assert_eq!(listed, [path], "create_repository: two concurrent calls create one repository");
}

async fn other_tag_mutability_is_a_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "create_repository: Conflict if it exists with another tag mutability";
    let backend = fixture.backend();
    let first_and_second =
        [(CreateOptions::default(), immutable()), (immutable(), CreateOptions::default())];
    for (name, (first, second)) in ["mutable", "immutable"].into_iter().zip(first_and_second) {
        let path = fixture.path(name);
        expect_contract(
            backend.create_repository(&path, &first).await,
            "create_repository creates",
        );
        assert_fails!(
            backend.create_repository(&path, &second).await,
            Error::Conflict { kind: ResourceKind::Repository, .. },
            CONTRACT
        );
        let described = expect_contract(backend.describe_repository(&path).await, CONTRACT);
        assert_eq!(
            described.tag_mutability, first.tag_mutability,
            "create_repository: a conflict changes nothing"
        );
    }
}

async fn other_mutability_exclusions_are_a_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "create_repository: Conflict if it exists with other exclusions";
    let backend = fixture.backend();
    let filter = |text: &str| text.parse::<TagPattern>().expect("a tag pattern");
    let options = immutable().with_mutability_exclusion(filter("dev-*"));
    let path = fixture.path("exceptions");
    let created = expect_contract(
        backend.create_repository(&path, &options).await,
        "create_repository: sets exclusions from the tag mutability",
    );
    assert_eq!(created.mutability_exclusions, options.mutability_exclusions, "{CONTRACT}");
    for other in [
        immutable(),
        options.clone().with_mutability_exclusion(filter("latest")),
        CreateOptions::default(),
    ] {
        assert_fails!(
            backend.create_repository(&path, &other).await,
            Error::Conflict { kind: ResourceKind::Repository, .. },
            CONTRACT
        );
    }
    let again = expect_contract(backend.create_repository(&path, &options).await, CONTRACT);
    assert_eq!(again, created, "create_repository is idempotent: it returns the same repository");
}

async fn missing_resource_tag_is_a_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str =
        "create_repository: Conflict if it exists without a requested resource tag";
    let backend = fixture.backend();
    let path = fixture.path("tagged");
    let team = CreateOptions::default().with_resource_tag("team", "maps");
    let both = team.clone().with_resource_tag("stage", "test");
    let first =
        expect_contract(backend.create_repository(&path, &both).await, "create_repository creates");
    let fewer = expect_contract(
        backend.create_repository(&path, &team).await,
        "create_repository: additional resource tags are not a conflict",
    );
    assert_eq!(fewer, first, "create_repository: returns an existing repository unchanged");
    for other in [
        team.clone().with_resource_tag("owner", "alice"),
        CreateOptions::default().with_resource_tag("team", "video"),
    ] {
        assert_fails!(
            backend.create_repository(&path, &other).await,
            Error::Conflict { kind: ResourceKind::Repository, .. },
            CONTRACT
        );
    }
    let described = expect_contract(backend.describe_repository(&path).await, CONTRACT);
    assert_eq!(described, first, "create_repository: a conflict changes nothing");
}

async fn missing_repository_is_not_found(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.path("missing");
    assert_fails!(
        backend.describe_repository(&path).await,
        Error::NotFound { kind: ResourceKind::Repository, .. },
        "describe_repository: NotFound if it does not exist"
    );
    for force in [false, true] {
        assert_fails!(
            backend.delete_repository(&path, &DeleteOptions::default().with_force(force)).await,
            Error::NotFound { kind: ResourceKind::Repository, .. },
            "delete_repository: NotFound if it does not exist"
        );
    }
}

async fn empty_repository_is_deleted_without_force(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.repository("empty").await;
    expect_contract(
        backend.delete_repository(&path, &DeleteOptions::default()).await,
        "delete_repository deletes an empty repository",
    );
    assert_gone(fixture, &path).await;
    expect_contract(
        backend.create_repository(&path, &immutable()).await,
        "create_repository: a deleted repository can be created again",
    );
}

async fn repository_with_images_needs_force(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.repository("full").await;
    let image = SampleImage::new("full");
    fixture.put(&path, tag("latest"), &image).await;
    assert_fails!(
        backend.delete_repository(&path, &DeleteOptions::default()).await,
        Error::Conflict { kind: ResourceKind::Repository, .. },
        "delete_repository: Conflict if it has images and force is not set"
    );
    let images = fixture.images(&path).await;
    let whole = images.len() == 1 && images[0].digest == image.digest();
    assert!(whole, "delete_repository: deletes everything or nothing: {images:?}");
    expect_contract(
        backend.delete_repository(&path, &DeleteOptions::default().with_force(true)).await,
        "delete_repository: with force, its images are deleted too",
    );
    assert_gone(fixture, &path).await;
    fixture.create(&path).await;
    let images = fixture.images(&path).await;
    assert!(images.is_empty(), "delete_repository: no image remains: {images:?}");
}

async fn deletion_keeps_repositories_with_longer_names(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let short = fixture.repository("a").await;
    let mut others = Vec::new();
    for name in ["a/b", "a/b/c", "ab"] {
        others.push(fixture.repository(name).await);
    }
    let image = SampleImage::new("nested");
    fixture.put(&others[0], tag("latest"), &image).await;
    expect_contract(
        backend.delete_repository(&short, &DeleteOptions::default()).await,
        "delete_repository: the images of `a/b` do not belong to `a`",
    );
    assert_fails!(
        backend.describe_repository(&short).await,
        Error::NotFound { kind: ResourceKind::Repository, .. },
        "delete_repository: other repositories may have longer names"
    );
    const CONTRACT: &str = "delete_repository: repositories with longer names are not changed";
    for path in &others {
        expect_contract(backend.describe_repository(path).await, CONTRACT);
    }
    let images = fixture.images(&others[0]).await;
    assert!(images.len() == 1 && images[0].digest == image.digest(), "{CONTRACT}: {images:?}");
}

async fn path_of_other_stage_is_invalid(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "a path of another stage causes InvalidInput";
    let backend = fixture.backend();
    let own = fixture.path("staged");
    let stage: Stage = format!("{}-other", backend.stage()).parse().expect("a stage");
    let path = RepositoryPath::new(stage.clone(), own.organization(), own.name().clone());
    let path = path.expect("a short path");
    let invalid = |error: Option<Error>, method: &str| {
        assert!(
            matches!(error, Some(Error::InvalidInput { .. })),
            "{CONTRACT}: {method} returned {error:?}"
        );
    };
    let created = backend.create_repository(&path, &CreateOptions::default()).await;
    invalid(created.err(), "create_repository");
    invalid(backend.describe_repository(&path).await.err(), "describe_repository");
    let deleted = backend.delete_repository(&path, &DeleteOptions::default()).await;
    invalid(deleted.err(), "delete_repository");
    let images: Result<Vec<_>, Error> = backend.list_images(&path).try_collect().await;
    invalid(images.err(), "list_images");
    let latest = Reference::from(tag("latest"));
    invalid(backend.delete_image(&path, &latest).await.err(), "delete_image");
    let one = Scope::repository(path.clone(), Access::Pull);
    invalid(backend.credentials(&one, &Default::default()).await.err(), "credentials");
    let all = Scope::organizations(stage, [path.organization()], Access::Pull);
    invalid(backend.credentials(&all, &Default::default()).await.err(), "credentials");
}

async fn assert_gone(fixture: &Fixture<'_>, path: &RepositoryPath) {
    assert_fails!(
        fixture.backend().describe_repository(path).await,
        Error::NotFound { kind: ResourceKind::Repository, .. },
        "delete_repository: a deleted repository is not found"
    );
    let listed = fixture.listed(&Organizations::from(path.organization())).await;
    assert!(!listed.contains(path), "delete_repository: a deleted repository is not listed");
}

/// Creates repositories with nested names, and returns them in the order of their paths.
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

async fn repository_is_listed_exactly_once(fixture: &Fixture<'_>) {
    let created = several(fixture).await;
    let mut listed = fixture.listed(&Organizations::from(fixture.organization())).await;
    listed.sort();
    assert_eq!(listed, created, "list_repositories: each repository is listed exactly once");
}

async fn listing_excludes_other_organizations(fixture: &Fixture<'_>) {
    // The same name in both organizations.
    let own = fixture.repository("same").await;
    let other = fixture.path_in(fixture.other_organization(), "same");
    fixture.create(&other).await;
    for path in [own, other] {
        let listed = fixture.listed(&Organizations::from(path.organization())).await;
        assert_eq!(
            listed,
            [path],
            "list_repositories: lists the requested organizations and no others"
        );
    }
}

async fn listing_of_all_covers_every_organization(fixture: &Fixture<'_>) {
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
            "list_repositories: each repository of {organizations:?} is listed exactly once"
        );
    }
}

async fn empty_organization_lists_nothing(fixture: &Fixture<'_>) {
    const CONTRACT: &str =
        "list_repositories: an organization without repositories has an empty listing";
    let empty = fixture.empty_organization();
    let listed = fixture.listed(&Organizations::from(empty)).await;
    assert!(listed.is_empty(), "{CONTRACT}: {listed:?}");
    let path = fixture.repository("only").await;
    let both = [empty, path.organization()].into_iter().collect();
    assert_eq!(fixture.listed(&both).await, [path], "{CONTRACT}");
}

async fn listing_of_no_organization_is_empty(fixture: &Fixture<'_>) {
    fixture.repository("only").await;
    let listed = fixture.listed(&Organizations::none()).await;
    assert!(
        listed.is_empty(),
        "list_repositories: the listing of no organization is empty: {listed:?}"
    );
}
