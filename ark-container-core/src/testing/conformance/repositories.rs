//! Repositories: created, described, deleted.

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;

use super::fixture::{Fixture, kept, tag};
use super::{assert_fails, named_cases};
use crate::backend::{CreateOptions, DeleteOptions, TagMutability};
use crate::error::{Error, ResourceKind};
use crate::model::{Access, Organizations, Reference, RepositoryPath, Scope, Stage, TagPattern};
use crate::testing::SampleImage;

named_cases![
    what_is_created_is_described_and_listed,
    creating_again_gives_the_same_answer,
    creating_at_once_succeeds_for_everyone,
    another_tag_mutability_is_a_conflict,
    other_exceptions_to_the_mutability_are_a_conflict,
    a_resource_tag_that_is_missing_is_a_conflict,
    a_missing_repository_is_not_found,
    an_empty_repository_is_deleted_without_force,
    a_repository_with_images_is_deleted_by_force_only,
    deleting_leaves_names_that_continue_alone,
    another_stage_is_invalid,
];

/// Whether a resource tag is the backend's own.
fn own_tag(key: &str) -> bool {
    key.starts_with("ark:")
}

fn immutable() -> CreateOptions {
    CreateOptions::default().with_tag_mutability(TagMutability::Immutable)
}

async fn what_is_created_is_described_and_listed(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.path("new");
    let options = immutable().with_resource_tag("team", "maps").with_resource_tag("stage", "test");
    let created = backend.create_repository(&path, &options).await;
    let created = kept(created, "create_repository creates a repository");
    assert_eq!(*created.url.path(), path, "a repository's URL ends with its path");
    assert_eq!(
        created.tag_mutability,
        TagMutability::Immutable,
        "create_repository sets the tag mutability"
    );
    let tags = created.resource_tags.clone().unwrap_or_default();
    assert!(
        options.resource_tags.iter().all(|(key, value)| tags.get(key) == Some(value))
            && tags.keys().all(|key| options.resource_tags.contains_key(key) || own_tag(key)),
        "create_repository puts the resource tags on it, and none but its own besides: {tags:?}"
    );
    let described = kept(
        backend.describe_repository(&path).await,
        "when create_repository returns, the repository can be described",
    );
    assert_eq!(described, created, "describe_repository tells what create_repository told");
    let listed = fixture.listed(&Organizations::from(fixture.organization())).await;
    assert_eq!(listed, [path], "when create_repository returns, the repository is listed");
}

async fn creating_again_gives_the_same_answer(fixture: &Fixture<'_>) {
    let path = fixture.path("twice");
    let options = immutable().with_resource_tag("team", "maps");
    let first = kept(
        fixture.backend().create_repository(&path, &options).await,
        "create_repository creates a repository",
    );
    let second = kept(
        fixture.backend().create_repository(&path, &options).await,
        "create_repository is idempotent: the same request again succeeds",
    );
    assert_eq!(first, second, "create_repository is idempotent: with the same answer");
}

async fn creating_at_once_succeeds_for_everyone(fixture: &Fixture<'_>) {
    let path = fixture.path("race");
    let options = CreateOptions::default().with_resource_tag("team", "maps");
    let several = (0..8).map(|_| fixture.backend().create_repository(&path, &options));
    let created = kept(
        try_join_all(several).await,
        "create_repository: two at once with the same settings both succeed",
    );
    assert!(
        created.iter().all(|repository| *repository == created[0]),
        "create_repository: two at once get the same answer: {created:?}"
    );
    let listed = fixture.listed(&Organizations::from(fixture.organization())).await;
    assert_eq!(listed, [path], "two create_repository at once make one repository");
}

async fn another_tag_mutability_is_a_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "create_repository: Conflict if it exists with another tag mutability";
    let backend = fixture.backend();
    let first_and_second =
        [(CreateOptions::default(), immutable()), (immutable(), CreateOptions::default())];
    for (name, (first, second)) in ["mutable", "immutable"].into_iter().zip(first_and_second) {
        let path = fixture.path(name);
        kept(backend.create_repository(&path, &first).await, "create_repository creates");
        assert_fails!(
            backend.create_repository(&path, &second).await,
            Error::Conflict { kind: ResourceKind::Repository, .. },
            CONTRACT
        );
        let described = kept(backend.describe_repository(&path).await, CONTRACT);
        assert_eq!(
            described.tag_mutability, first.tag_mutability,
            "create_repository: a conflict changes nothing"
        );
    }
}

async fn other_exceptions_to_the_mutability_are_a_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "create_repository: Conflict if it exists with other exceptions";
    let backend = fixture.backend();
    let filter = |text: &str| text.parse::<TagPattern>().expect("a tag pattern");
    let options = immutable().with_mutability_exclusion(filter("dev-*"));
    let path = fixture.path("exceptions");
    let created = kept(
        backend.create_repository(&path, &options).await,
        "create_repository takes exceptions to the tag mutability",
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
    let again = kept(backend.create_repository(&path, &options).await, CONTRACT);
    assert_eq!(again, created, "create_repository is idempotent: with the same answer");
}

async fn a_resource_tag_that_is_missing_is_a_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str =
        "create_repository: Conflict if it exists without a resource tag that was asked for";
    let backend = fixture.backend();
    let path = fixture.path("tagged");
    let team = CreateOptions::default().with_resource_tag("team", "maps");
    let both = team.clone().with_resource_tag("stage", "test");
    let first = kept(backend.create_repository(&path, &both).await, "create_repository creates");
    let fewer = kept(
        backend.create_repository(&path, &team).await,
        "create_repository: a repository with more resource tags than asked for is no conflict",
    );
    assert_eq!(fewer, first, "create_repository returns an existing repository as it is");
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
    let described = kept(backend.describe_repository(&path).await, CONTRACT);
    assert_eq!(described, first, "create_repository: a conflict changes nothing");
}

async fn a_missing_repository_is_not_found(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.path("missing");
    assert_fails!(
        backend.describe_repository(&path).await,
        Error::NotFound { kind: ResourceKind::Repository, .. },
        "describe_repository: NotFound if there is none"
    );
    for force in [false, true] {
        assert_fails!(
            backend.delete_repository(&path, &DeleteOptions::default().with_force(force)).await,
            Error::NotFound { kind: ResourceKind::Repository, .. },
            "delete_repository: NotFound if there is none"
        );
    }
}

async fn an_empty_repository_is_deleted_without_force(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.repository("empty").await;
    kept(
        backend.delete_repository(&path, &DeleteOptions::default()).await,
        "delete_repository deletes an empty repository",
    );
    assert_gone(fixture, &path).await;
    kept(
        backend.create_repository(&path, &immutable()).await,
        "create_repository: a deleted repository is in nobody's way",
    );
}

async fn a_repository_with_images_is_deleted_by_force_only(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let path = fixture.repository("full").await;
    let image = SampleImage::new("full");
    fixture.put(&path, tag("latest"), &image).await;
    assert_fails!(
        backend.delete_repository(&path, &DeleteOptions::default()).await,
        Error::Conflict { kind: ResourceKind::Repository, .. },
        "delete_repository: Conflict if it has images and force is off"
    );
    let images = fixture.images(&path).await;
    let whole = images.len() == 1 && images[0].digest == image.digest();
    assert!(whole, "delete_repository: whole or not at all: {images:?}");
    kept(
        backend.delete_repository(&path, &DeleteOptions::default().with_force(true)).await,
        "delete_repository deletes its images too where force is on",
    );
    assert_gone(fixture, &path).await;
    fixture.create(&path).await;
    let images = fixture.images(&path).await;
    assert!(images.is_empty(), "delete_repository leaves no image behind: {images:?}");
}

async fn deleting_leaves_names_that_continue_alone(fixture: &Fixture<'_>) {
    let backend = fixture.backend();
    let short = fixture.repository("a").await;
    let mut others = Vec::new();
    for name in ["a/b", "a/b/c", "ab"] {
        others.push(fixture.repository(name).await);
    }
    let image = SampleImage::new("nested");
    fixture.put(&others[0], tag("latest"), &image).await;
    kept(
        backend.delete_repository(&short, &DeleteOptions::default()).await,
        "delete_repository: the images of `a/b` are not those of `a`",
    );
    assert_fails!(
        backend.describe_repository(&short).await,
        Error::NotFound { kind: ResourceKind::Repository, .. },
        "delete_repository deletes a repository whose name others continue"
    );
    const CONTRACT: &str = "delete_repository: names that continue this one's are untouched";
    for path in &others {
        kept(backend.describe_repository(path).await, CONTRACT);
    }
    let images = fixture.images(&others[0]).await;
    assert!(images.len() == 1 && images[0].digest == image.digest(), "{CONTRACT}: {images:?}");
}

async fn another_stage_is_invalid(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "a path of another stage is InvalidInput";
    let backend = fixture.backend();
    let own = fixture.path("staged");
    let stage: Stage = format!("{}-other", backend.stage()).parse().expect("a stage");
    let path = RepositoryPath::new(stage.clone(), own.organization(), own.name().clone());
    let path = path.expect("a short path");
    let invalid = |error: Option<Error>, method: &str| {
        assert!(
            matches!(error, Some(Error::InvalidInput { .. })),
            "{CONTRACT}: {method} gave {error:?}"
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
        "delete_repository: what is deleted is not described"
    );
    let listed = fixture.listed(&Organizations::from(path.organization())).await;
    assert!(!listed.contains(path), "delete_repository: what is deleted is not listed");
}
