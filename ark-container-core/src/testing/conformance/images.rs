//! The contract of listing and deleting images.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;

use super::{Fixture, assert_fails, expect_contract, named_cases, tag};
use crate::backend::{CreateOptions, Image, TagMutability};
use crate::error::{Error, ResourceKind};
use crate::model::{Digest, Reference, RepositoryPath, Tag};
use crate::testing::SampleImage;

named_cases![
    listing_missing_repository_is_not_found,
    image_is_listed_once_with_all_tags,
    index_is_listed_with_its_images,
    described_image_equals_listed_image,
    image_sizes_match_stored_content,
    mutable_tag_moves_with_push,
    immutable_tag_does_not_move,
    excluded_tag_moves,
    digest_deletion_removes_all_tags,
    tag_deletion_keeps_other_tags,
    last_tag_deletion_deletes_image,
    index_child_outlives_its_last_tag,
    index_child_deletion_by_digest_is_conflict,
    missing_image_is_not_found,
];

/// The maximum difference between the clocks of this machine and the registry.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Creates a repository with an index, tagged `multi`, of two images without tags.
async fn repository_with_index(fixture: &Fixture<'_>) -> (RepositoryPath, [SampleImage; 3]) {
    let path = fixture.repository("index").await;
    let images = ["amd64", "arm64"].map(|processor| SampleImage::for_architecture("x", processor));
    for image in &images {
        fixture.put(&path, image.digest(), image).await;
    }
    let [first, second] = images;
    let index = SampleImage::index(&[&first, &second]);
    fixture.put(&path, tag("multi"), &index).await;
    (path, [index, first, second])
}

fn find<'i>(images: &'i [Image], digest: &Digest, contract: &str) -> &'i Image {
    let found: Vec<&Image> = images.iter().filter(|image| image.digest == *digest).collect();
    assert_eq!(found.len(), 1, "{contract}: {digest} among {images:?}");
    found[0]
}

async fn delete(
    fixture: &Fixture<'_>,
    path: &RepositoryPath,
    reference: impl Into<Reference>,
) -> Result<Option<Digest>, Error> {
    fixture.backend().delete_image(path, &reference.into()).await
}

async fn listing_missing_repository_is_not_found(fixture: &Fixture<'_>) {
    let items: Vec<_> = fixture.backend().list_images(&fixture.path("missing")).collect().await;
    assert!(
        matches!(items.as_slice(), [Err(Error::NotFound { kind: ResourceKind::Repository, .. })]),
        "list_images: the only item is NotFound if the repository does not exist: {items:?}"
    );
}

async fn image_is_listed_once_with_all_tags(fixture: &Fixture<'_>) {
    const CONTRACT: &str =
        "list_images: each image is listed exactly once, with all its tags in order";
    let path = fixture.repository("several").await;
    let started = SystemTime::now();
    let (tagged, untagged) = (SampleImage::new("tagged"), SampleImage::new("untagged"));
    for name in ["b", "a", "B", "1.0"] {
        fixture.put(&path, tag(name), &tagged).await;
    }
    fixture.put(&path, untagged.digest(), &untagged).await;
    let images = fixture.images(&path).await;
    assert_eq!(images.len(), 2, "{CONTRACT}: {images:?}");
    let found = find(&images, &tagged.digest(), CONTRACT);
    assert_eq!(found.tags, ["1.0", "B", "a", "b"].map(tag), "{CONTRACT}");
    assert_eq!(
        found.media_type,
        tagged.media_type(),
        "an image has the media type of its manifest"
    );
    assert!(
        found.platforms.is_empty() || found.platforms == tagged.platforms(),
        "an image has its platforms, or none: {:?}",
        found.platforms
    );
    assert!(
        found.pushed_at > started - CLOCK_SKEW && found.pushed_at < started + CLOCK_SKEW,
        "an image has the time at which its manifest was uploaded: {:?}",
        found.pushed_at
    );
    let found = find(&images, &untagged.digest(), CONTRACT);
    assert_eq!(found.tags, [], "{CONTRACT}");
}

async fn index_is_listed_with_its_images(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "list_images: one image per manifest, tagged or not";
    let (path, samples) = repository_with_index(fixture).await;
    let images = fixture.images(&path).await;
    assert_eq!(images.len(), samples.len(), "{CONTRACT}: {images:?}");
    for sample in &samples {
        let found = find(&images, &sample.digest(), CONTRACT);
        let mut platforms = found.platforms.clone();
        platforms.sort();
        assert!(
            platforms.is_empty() || platforms == sample.platforms(),
            "an image has its platforms, or none: {platforms:?}"
        );
        assert_eq!(
            found.media_type,
            sample.media_type(),
            "an image has the media type of its manifest"
        );
    }
    let index = find(&images, &samples[0].digest(), CONTRACT);
    assert_eq!(index.tags, [tag("multi")], "an index has its own tags");
}

async fn described_image_equals_listed_image(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "describe_image: returns the image of a tag or digest";
    let (path, [index, child, other]) = repository_with_index(fixture).await;
    let images = fixture.images(&path).await;
    let backend = fixture.backend();
    for reference in [Reference::Tag(tag("multi")), index.digest().into(), child.digest().into()] {
        let image = expect_contract(backend.describe_image(&path, &reference).await, CONTRACT);
        let listed = find(&images, &image.digest, CONTRACT);
        assert_eq!(
            (&image.tags, image.size, &image.media_type, image.pushed_at),
            (&listed.tags, listed.size, &listed.media_type, listed.pushed_at),
            "{CONTRACT}, with the fields of list_images"
        );
        let is_index = image.digest == index.digest();
        assert_eq!(is_index, image.digest != child.digest(), "{CONTRACT}");
        let children: Vec<Digest> =
            image.children.iter().map(|child| child.digest.clone()).collect();
        let expected = if is_index { vec![child.digest(), other.digest()] } else { Vec::new() };
        assert_eq!(children, expected, "describe_image: returns the children of an index in order");
    }
    for reference in [Reference::Tag(tag("absent")), SampleImage::new("absent").digest().into()] {
        assert_fails!(
            backend.describe_image(&path, &reference).await,
            Error::NotFound { kind: ResourceKind::Image, .. },
            "describe_image: NotFound if the image does not exist"
        );
        assert_fails!(
            backend.describe_image(&fixture.path("missing"), &reference).await,
            Error::NotFound { kind: ResourceKind::Repository, .. },
            "describe_image: NotFound if the repository does not exist"
        );
    }
}

async fn image_sizes_match_stored_content(fixture: &Fixture<'_>) {
    let (path, [index, first, second]) = repository_with_index(fixture).await;
    let images = fixture.images(&path).await;
    for sample in [&first, &second] {
        let contract = "the size of an image is that of manifest, configuration and layers";
        assert_eq!(find(&images, &sample.digest(), contract).size, sample.size(), "{contract}");
    }
    // Both have the same layer. A registry may count the layer once, as stored, or for each image.
    let contract = "the size of an index includes its images";
    let size = find(&images, &index.digest(), contract).size;
    let most = index.size() + first.size() + second.size();
    assert!(size > first.size() && size <= most, "{contract}: {size} of at most {most}");
}

async fn mutable_tag_moves_with_push(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "a push moves a mutable tag";
    let path = fixture.repository("moved").await;
    let (first, second) = (SampleImage::new("first"), SampleImage::new("second"));
    for image in [&first, &second] {
        fixture.put(&path, tag("latest"), image).await;
    }
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &second.digest(), CONTRACT).tags, [tag("latest")], "{CONTRACT}");
    assert_eq!(find(&images, &first.digest(), CONTRACT).tags, [], "{CONTRACT}");
}

async fn immutable_tag_does_not_move(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "a push of another image to an immutable tag fails";
    let path = fixture.path("immutable");
    let options = CreateOptions::default().with_tag_mutability(TagMutability::Immutable);
    let created = fixture.backend().create_repository(&path, &options).await;
    expect_contract(created, "create_repository creates");
    let first = SampleImage::new("first");
    fixture.put(&path, tag("v1"), &first).await;
    let second = fixture.try_put(&path, tag("v1"), &SampleImage::new("second")).await;
    assert!(second.is_err(), "{CONTRACT}");
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &first.digest(), CONTRACT).tags, [tag("v1")], "{CONTRACT}");
}

async fn excluded_tag_moves(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "a push moves a tag that is excluded from immutability";
    let path = fixture.path("excepted");
    let options = CreateOptions::default()
        .with_tag_mutability(TagMutability::Immutable)
        .with_mutability_exclusion("dev-*".parse().expect("a tag pattern"));
    let created = fixture.backend().create_repository(&path, &options).await;
    expect_contract(created, "create_repository creates");
    let (first, second) = (SampleImage::new("first"), SampleImage::new("second"));
    fixture.put(&path, tag("v1"), &first).await;
    for image in [&first, &second] {
        fixture.put(&path, tag("dev-1"), image).await;
    }
    assert!(
        fixture.try_put(&path, tag("v1"), &second).await.is_err(),
        "{CONTRACT}, and no other tag"
    );
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &second.digest(), CONTRACT).tags, [tag("dev-1")], "{CONTRACT}");
    assert_eq!(find(&images, &first.digest(), CONTRACT).tags, [tag("v1")], "{CONTRACT}");
}

async fn digest_deletion_removes_all_tags(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: a digest deletes the image with all its tags";
    let path = fixture.repository("digest").await;
    let (gone, stays) = (SampleImage::new("gone"), SampleImage::new("stays"));
    for (name, image) in [("a", &gone), ("b", &gone), ("c", &stays)] {
        fixture.put(&path, tag(name), image).await;
    }
    let deleted = expect_contract(delete(fixture, &path, gone.digest()).await, CONTRACT);
    assert_deleted(deleted, &gone, CONTRACT);
    let images = fixture.images(&path).await;
    assert_eq!(images.len(), 1, "{CONTRACT}: {images:?}");
    assert_eq!(find(&images, &stays.digest(), CONTRACT).tags, [tag("c")], "{CONTRACT}");
    for name in ["a", "b"] {
        assert_missing(fixture, &path, tag(name)).await;
    }
}

async fn tag_deletion_keeps_other_tags(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: if the image has other tags, only the tag is deleted";
    let path = fixture.repository("tag").await;
    let image = SampleImage::new("image");
    for name in ["a", "b"] {
        fixture.put(&path, tag(name), &image).await;
    }
    assert_deleted(
        expect_contract(delete(fixture, &path, tag("a")).await, CONTRACT),
        &image,
        CONTRACT,
    );
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &image.digest(), CONTRACT).tags, [tag("b")], "{CONTRACT}");
}

async fn last_tag_deletion_deletes_image(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: the last tag is deleted with the image";
    let path = fixture.repository("last").await;
    fixture.put(&path, tag("only"), &SampleImage::new("image")).await;
    expect_contract(delete(fixture, &path, tag("only")).await, CONTRACT);
    let images = fixture.images(&path).await;
    assert!(images.is_empty(), "{CONTRACT}: {images:?}");
}

async fn index_child_outlives_its_last_tag(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: an image of an index keeps its manifest without tags";
    let (path, [_, child, _]) = repository_with_index(fixture).await;
    fixture.put(&path, tag("child"), &child).await;
    expect_contract(delete(fixture, &path, tag("child")).await, CONTRACT);
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &child.digest(), CONTRACT).tags, [], "{CONTRACT}");
}

async fn index_child_deletion_by_digest_is_conflict(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: Conflict for the digest of an image of an index";
    let (path, [index, child, _]) = repository_with_index(fixture).await;
    assert_fails!(
        delete(fixture, &path, child.digest()).await,
        Error::Conflict { kind: ResourceKind::Image, .. },
        CONTRACT
    );
    find(&fixture.images(&path).await, &child.digest(), CONTRACT);
    let contract = "delete_image: an index can be deleted, and then its images";
    expect_contract(delete(fixture, &path, index.digest()).await, contract);
    find(&fixture.images(&path).await, &child.digest(), contract);
    expect_contract(delete(fixture, &path, child.digest()).await, contract);
    assert_eq!(fixture.images(&path).await.len(), 1, "{contract}");
}

async fn missing_image_is_not_found(fixture: &Fixture<'_>) {
    let absent = SampleImage::new("absent").digest();
    let path = fixture.repository("present").await;
    assert_missing(fixture, &path, tag("absent")).await;
    assert_fails!(
        delete(fixture, &path, absent).await,
        Error::NotFound { kind: ResourceKind::Image, .. },
        "delete_image: NotFound if the image does not exist"
    );
    assert_fails!(
        delete(fixture, &fixture.path("missing"), tag("absent")).await,
        Error::NotFound { kind: ResourceKind::Repository, .. },
        "delete_image: NotFound if the repository does not exist"
    );
}

/// Fails unless a deletion returned the digest of the image, or no digest.
fn assert_deleted(deleted: Option<Digest>, image: &SampleImage, contract: &str) {
    assert!(deleted.is_none_or(|digest| digest == image.digest()), "{contract}: its digest");
}

async fn assert_missing(fixture: &Fixture<'_>, path: &RepositoryPath, tag: Tag) {
    assert_fails!(
        delete(fixture, path, tag).await,
        Error::NotFound { kind: ResourceKind::Image, .. },
        "delete_image: NotFound if no image has the tag"
    );
}
