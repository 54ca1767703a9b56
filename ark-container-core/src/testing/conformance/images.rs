//! Images: listed and deleted.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;

use super::fixture::{Fixture, kept, tag};
use super::{assert_fails, named_cases};
use crate::backend::{CreateOptions, Image, TagMutability};
use crate::error::{Error, ResourceKind};
use crate::model::{Digest, Reference, RepositoryPath, Tag};
use crate::testing::SampleImage;

named_cases![
    images_of_a_missing_repository_are_not_found,
    each_image_comes_once_with_all_its_tags,
    an_index_comes_with_its_images,
    described_image_is_the_listed_one,
    sizes_are_what_is_stored,
    a_tag_moves_with_a_push,
    an_immutable_tag_stays,
    an_excepted_tag_moves,
    deleting_a_digest_takes_all_its_tags,
    deleting_a_tag_leaves_the_others,
    deleting_the_last_tag_deletes_the_image,
    an_image_of_an_index_outlives_its_last_tag,
    an_image_of_an_index_is_not_deleted_by_digest,
    a_missing_image_is_not_found,
];

/// How far the clocks of this machine and the registry may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A new repository with an index, tagged `multi`, of two images that have no tags.
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
) -> Result<(), Error> {
    fixture.backend().delete_image(path, &reference.into()).await
}

async fn images_of_a_missing_repository_are_not_found(fixture: &Fixture<'_>) {
    let items: Vec<_> = fixture.backend().list_images(&fixture.path("missing")).collect().await;
    assert!(
        matches!(items.as_slice(), [Err(Error::NotFound { kind: ResourceKind::Repository, .. })]),
        "list_images: the only item is NotFound if the repository does not exist: {items:?}"
    );
}

async fn each_image_comes_once_with_all_its_tags(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "list_images: each image comes exactly once, with all its tags in order";
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
    assert_eq!(found.media_type, tagged.media_type(), "an image has its manifest's media type");
    assert!(
        found.platforms.is_empty() || found.platforms == tagged.platforms(),
        "an image tells what it runs on, or nothing of it: {:?}",
        found.platforms
    );
    assert!(
        found.pushed_at > started - CLOCK_SKEW && found.pushed_at < started + CLOCK_SKEW,
        "an image tells when its manifest was put: {:?}",
        found.pushed_at
    );
    let found = find(&images, &untagged.digest(), CONTRACT);
    assert_eq!(found.tags, [], "{CONTRACT}");
}

async fn an_index_comes_with_its_images(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "list_images gives one image per manifest, tagged or not";
    let (path, samples) = repository_with_index(fixture).await;
    let images = fixture.images(&path).await;
    assert_eq!(images.len(), samples.len(), "{CONTRACT}: {images:?}");
    for sample in &samples {
        let found = find(&images, &sample.digest(), CONTRACT);
        let mut platforms = found.platforms.clone();
        platforms.sort();
        assert!(
            platforms.is_empty() || platforms == sample.platforms(),
            "an image tells what it runs on, or nothing of it: {platforms:?}"
        );
        assert_eq!(found.media_type, sample.media_type(), "an image has its manifest's media type");
    }
    let index = find(&images, &samples[0].digest(), CONTRACT);
    assert_eq!(index.tags, [tag("multi")], "an index has its own tags");
}

async fn described_image_is_the_listed_one(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "describe_image gives the image that a tag or digest names";
    let (path, [index, child, other]) = repository_with_index(fixture).await;
    let images = fixture.images(&path).await;
    let backend = fixture.backend();
    for reference in [Reference::Tag(tag("multi")), index.digest().into(), child.digest().into()] {
        let image = kept(backend.describe_image(&path, &reference).await, CONTRACT);
        let listed = find(&images, &image.digest, CONTRACT);
        assert_eq!(
            (&image.tags, image.size, &image.media_type, image.pushed_at),
            (&listed.tags, listed.size, &listed.media_type, listed.pushed_at),
            "{CONTRACT}, as list_images does"
        );
        let is_index = image.digest == index.digest();
        assert_eq!(is_index, image.digest != child.digest(), "{CONTRACT}");
        let children: Vec<Digest> =
            image.children.iter().map(|child| child.digest.clone()).collect();
        let expected = if is_index { vec![child.digest(), other.digest()] } else { Vec::new() };
        assert_eq!(children, expected, "describe_image gives the children of an index in order");
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

async fn sizes_are_what_is_stored(fixture: &Fixture<'_>) {
    let (path, [index, first, second]) = repository_with_index(fixture).await;
    let images = fixture.images(&path).await;
    for sample in [&first, &second] {
        let contract = "an image's size is that of manifest, configuration and layers";
        assert_eq!(find(&images, &sample.digest(), contract).size, sample.size(), "{contract}");
    }
    // Both have the same layer; a registry may count it once, as it is stored, or for each.
    let contract = "an index's size has its images' in it";
    let size = find(&images, &index.digest(), contract).size;
    let most = index.size() + first.size() + second.size();
    assert!(size > first.size() && size <= most, "{contract}: {size} of at most {most}");
}

async fn a_tag_moves_with_a_push(fixture: &Fixture<'_>) {
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

async fn an_immutable_tag_stays(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "pushing another image to an immutable tag is refused";
    let path = fixture.path("immutable");
    let options = CreateOptions::default().with_tag_mutability(TagMutability::Immutable);
    let created = fixture.backend().create_repository(&path, &options).await;
    kept(created, "create_repository creates");
    let first = SampleImage::new("first");
    fixture.put(&path, tag("v1"), &first).await;
    let second = fixture.try_put(&path, tag("v1"), &SampleImage::new("second")).await;
    assert!(second.is_err(), "{CONTRACT}");
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &first.digest(), CONTRACT).tags, [tag("v1")], "{CONTRACT}");
}

async fn an_excepted_tag_moves(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "an exception to immutable tags can be moved";
    let path = fixture.path("excepted");
    let options = CreateOptions::default()
        .with_tag_mutability(TagMutability::Immutable)
        .with_mutability_exclusion("dev-*".parse().expect("a tag pattern"));
    let created = fixture.backend().create_repository(&path, &options).await;
    kept(created, "create_repository creates");
    let (first, second) = (SampleImage::new("first"), SampleImage::new("second"));
    fixture.put(&path, tag("v1"), &first).await;
    for image in [&first, &second] {
        fixture.put(&path, tag("dev-1"), image).await;
    }
    assert!(fixture.try_put(&path, tag("v1"), &second).await.is_err(), "{CONTRACT}, no other");
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &second.digest(), CONTRACT).tags, [tag("dev-1")], "{CONTRACT}");
    assert_eq!(find(&images, &first.digest(), CONTRACT).tags, [tag("v1")], "{CONTRACT}");
}

async fn deleting_a_digest_takes_all_its_tags(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: by digest, with all its tags";
    let path = fixture.repository("digest").await;
    let (gone, stays) = (SampleImage::new("gone"), SampleImage::new("stays"));
    for (name, image) in [("a", &gone), ("b", &gone), ("c", &stays)] {
        fixture.put(&path, tag(name), image).await;
    }
    kept(delete(fixture, &path, gone.digest()).await, CONTRACT);
    let images = fixture.images(&path).await;
    assert_eq!(images.len(), 1, "{CONTRACT}: {images:?}");
    assert_eq!(find(&images, &stays.digest(), CONTRACT).tags, [tag("c")], "{CONTRACT}");
    for name in ["a", "b"] {
        assert_missing(fixture, &path, tag(name)).await;
    }
}

async fn deleting_a_tag_leaves_the_others(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: a tag, while the image has others";
    let path = fixture.repository("tag").await;
    let image = SampleImage::new("image");
    for name in ["a", "b"] {
        fixture.put(&path, tag(name), &image).await;
    }
    kept(delete(fixture, &path, tag("a")).await, CONTRACT);
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &image.digest(), CONTRACT).tags, [tag("b")], "{CONTRACT}");
}

async fn deleting_the_last_tag_deletes_the_image(fixture: &Fixture<'_>) {
    const CONTRACT: &str = "delete_image: a tag, and the image with its last tag";
    let path = fixture.repository("last").await;
    fixture.put(&path, tag("only"), &SampleImage::new("image")).await;
    kept(delete(fixture, &path, tag("only")).await, CONTRACT);
    let images = fixture.images(&path).await;
    assert!(images.is_empty(), "{CONTRACT}: {images:?}");
}

async fn an_image_of_an_index_outlives_its_last_tag(fixture: &Fixture<'_>) {
    const CONTRACT: &str =
        "delete_image: an image that an index refers to keeps its manifest without tags";
    let (path, [_, child, _]) = repository_with_index(fixture).await;
    fixture.put(&path, tag("child"), &child).await;
    kept(delete(fixture, &path, tag("child")).await, CONTRACT);
    let images = fixture.images(&path).await;
    assert_eq!(find(&images, &child.digest(), CONTRACT).tags, [], "{CONTRACT}");
}

async fn an_image_of_an_index_is_not_deleted_by_digest(fixture: &Fixture<'_>) {
    const CONTRACT: &str =
        "delete_image: Conflict if it is named by digest and an index refers to it";
    let (path, [index, child, _]) = repository_with_index(fixture).await;
    assert_fails!(
        delete(fixture, &path, child.digest()).await,
        Error::Conflict { kind: ResourceKind::Image, .. },
        CONTRACT
    );
    find(&fixture.images(&path).await, &child.digest(), CONTRACT);
    let contract = "delete_image deletes an index, and then its images";
    kept(delete(fixture, &path, index.digest()).await, contract);
    find(&fixture.images(&path).await, &child.digest(), contract);
    kept(delete(fixture, &path, child.digest()).await, contract);
    assert_eq!(fixture.images(&path).await.len(), 1, "{contract}");
}

async fn a_missing_image_is_not_found(fixture: &Fixture<'_>) {
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

async fn assert_missing(fixture: &Fixture<'_>, path: &RepositoryPath, tag: Tag) {
    assert_fails!(
        delete(fixture, path, tag).await,
        Error::NotFound { kind: ResourceKind::Image, .. },
        "delete_image: NotFound if no image has the tag"
    );
}
