use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn digest(name: &str) -> Digest {
    let hex = format!("{:02x}", name.as_bytes()[0]).repeat(32);
    format!("sha256:{hex}").parse().unwrap()
}

/// Returns an image from the text `NAME[CHILDREN]>SUBJECT:TAGS@HOURS`. The tag `sig(NAME)` is that of a
/// signature of another image.
fn image(text: &str) -> Image {
    let (text, hours) = text.split_once('@').unwrap();
    let (text, tags) = text.split_once(':').unwrap_or((text, ""));
    let (text, subject) = text.split_once('>').unwrap_or((text, ""));
    let (name, children) = text.split_once('[').unwrap_or((text, ""));
    let pushed_at = now() - HOUR * hours.parse().unwrap();
    let mut image = Image::new(digest(name), "m", 1, pushed_at);
    image.tags = tags.split_terminator(',').map(tag).collect();
    image.subject = (!subject.is_empty()).then(|| digest(subject));
    let children = children.trim_end_matches(']').split_terminator(',');
    let descriptor = |child| crate::model::Descriptor::new("m", digest(child), 1);
    image.children = children.map(descriptor).collect();
    image
}

fn tag(text: &str) -> Tag {
    match text.strip_prefix("sig(") {
        Some(name) => format!("sha256-{}.sig", digest(&name[..1]).hex()).parse().unwrap(),
        None => text.parse().unwrap(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + HOUR * 500_000
}

/// Returns the names of the deleted images, in the order of deletion.
fn deleted(rules: &PruneRules, repository: &str) -> String {
    let images = repository.split_whitespace().map(image).collect();
    let names = rules.select(images, now()).into_iter().map(|image| {
        let hex = &image.digest.hex()[..2];
        char::from(u8::from_str_radix(hex, 16).unwrap())
    });
    names.collect()
}

fn keep(count: usize) -> PruneRules {
    PruneRules { keep_newest: Some(count), ..PruneRules::default() }
}

fn untagged() -> PruneRules {
    PruneRules { untagged: true, ..PruneRules::default() }
}

#[test]
fn newest_tagged_images_stay() {
    for (count, repository, expected) in [
        (2, "a:v1@9 b:v2@8 c:v3@7", "a"),
        (2, "c:v3@7 a:v1@9 b:v2@8", "a"),
        (3, "a:v1@9 b:v2@8 c:v3@7", ""),
        (0, "a:v1@9 b:v2@8", "ab"),
        // An image with several tags is one image.
        (1, "a:v1,old@9 b:v2,latest@8", "a"),
        // Images without a tag neither count nor are deleted.
        (1, "a:v1@9 b@8 c:v3@7", "a"),
        // Of images with the same time of push, those with the first tags are deleted.
        (1, "a:v1@5 b:v2@5", "a"),
        (1, "", ""),
    ] {
        assert_eq!(deleted(&keep(count), repository), expected, "{count}: {repository}");
    }
    assert_eq!(deleted(&PruneRules::default(), "a:v1@9 b@9"), "");
}

#[test]
fn min_age_keeps_younger_images() {
    let rules = |hours| PruneRules { older_than: Some(HOUR * hours), ..keep(1) };
    assert_eq!(deleted(&rules(8), "a:v1@9 b:v2@8 c:v3@7 d:v4@6"), "ab");
    assert_eq!(deleted(&rules(24), "a:v1@9 b:v2@8"), "");
    let rules = PruneRules { older_than: Some(Duration::MAX), ..keep(0) };
    assert_eq!(deleted(&rules, "a:v1@9"), "");
}

#[test]
fn kept_tags_do_not_count() {
    let patterns = ["release-*", "latest"].map(|pattern| pattern.parse().unwrap());
    let rules = PruneRules { keep_tags: patterns.to_vec(), ..keep(1) };
    assert_eq!(deleted(&rules, "a:v1@9 b:release-1@8 c:v3@7 d:v4,latest@6 e:v5@5"), "ac");
}

#[test]
fn index_is_pruned_with_its_images() {
    for (repository, expected) in [
        ("i[a,b]:v1@9 a@9 b@9 c:v2@8", "iab"),
        ("a@9 b@9 i[a,b]:v1@9 c:v2@8", "iab"),
        // Through an index in an index, one of whose images another index also contains.
        ("i[j]:v1@9 j[a,b]@9 a@9 b@9 k[b]:v2@8", "ija"),
        ("i[a]:v1@9 a@9 k[a]:v2@8", "i"),
        // An index without a tag is kept, and needs its image.
        ("i[a]:v1@9 a@9 u[a]@9 k:v2@8", "i"),
        // An image with a tag is kept.
        ("i[a]:v1@9 a:v2@8", "i"),
        ("i[a]:v2@8 a:v1@9", ""),
        ("i[a]:v1@9 a:v0@9 k:v2@8", "ia"),
        // The index lists an image that the repository lacks, or one image twice.
        ("i[x]:v1@9 k:v2@8", "i"),
        ("i[a,a]:v1@9 a@9 k:v2@8", "ia"),
    ] {
        assert_eq!(deleted(&keep(1), repository), expected, "{repository}");
    }
    let young = PruneRules { older_than: Some(HOUR * 5), ..keep(0) };
    assert_eq!(deleted(&young, "i[a]:v1@9 a:v0@1"), "i");
}

#[test]
fn referrers_are_pruned_with_their_subject() {
    for (repository, expected) in [
        ("a:v1@9 s>a@9 b:v2@8 t>b@8", "as"),
        ("s>a@9 a:v1@9 t>s@9 b:v2@8", "ast"),
        // A referrer with a tag does not count as an image.
        ("a:v1@9 b:v2@8 s>b:v2-sbom@7", "a"),
        ("a:v1@9 s>a:v1-sbom@1 b:v2@8", "as"),
        // A referrer of an image of a kept index.
        ("i[a]:v2@8 a@8 s>a@8 b:v1@9", "b"),
        ("i[a]:v1@9 a@8 s>a@8 b:v2@8", "isa"),
        // A signature is found by its tag, as are the referrers that clients list.
        ("a:v1@9 s:sig(a)@9 b:v2@8 t:sig(b)@1", "as"),
        ("a:v1@9 i[s]:sig(a)@9 s>a@9 b:v2@8", "ais"),
        // The subject does not exist.
        ("s:sig(x)@1 a:v1@9 t>x@1 b:v2@8", "a"),
    ] {
        assert_eq!(deleted(&keep(1), repository), expected, "{repository}");
    }
    let rules = PruneRules { keep_tags: vec!["*-sbom".parse().unwrap()], ..keep(1) };
    let repository = "a:v1@9 s>a:v1-sbom@9 i[c]:v2@8 c@8 t>c:v2-sbom@8 b:v3@7";
    assert_eq!(deleted(&rules, repository), "i", "what a referrer that stays refers to stays");
}

#[test]
fn unneeded_untagged_images_are_pruned() {
    for (repository, expected) in [
        ("a@9 b:v1@9", "a"),
        ("a@9 i[a]:v1@9", ""),
        ("i[a]@9 a@9", "ia"),
        ("a:v1@9 s>a@9", ""),
        ("a@9 s>a@9", "as"),
        ("s>x@9 t:sig(x)@9", "st"),
        // The image may belong to a push in progress.
        ("a@0", ""),
        ("a@1", "a"),
    ] {
        assert_eq!(deleted(&untagged(), repository), expected, "{repository}");
    }
    let rules = PruneRules { older_than: Some(Duration::ZERO), ..untagged() };
    assert_eq!(deleted(&rules, "a@0"), "a");
    let rules = PruneRules { untagged: true, ..keep(1) };
    assert_eq!(deleted(&rules, "a@9 b:v1@9 c:v2@8"), "ab");
}

#[test]
fn referrers_tag_of_sha512_digest_is_found() {
    let subject: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
    let mut images = ["a:v1@9", "b:v2@8", "s:v3@9"].map(image);
    images[0].digest = subject;
    let kept = format!("sha512-{}", "ab".repeat(32));
    images[2].tags = vec![kept.parse().unwrap()];
    let deleted = keep(1).select(images.into(), now());
    let deleted: Vec<String> = deleted.iter().map(|image| image.tags[0].to_string()).collect();
    assert_eq!(deleted, ["v1", &kept]);
}
