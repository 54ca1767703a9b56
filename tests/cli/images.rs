//! Inspecting, tagging, deleting and pruning images.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;
use serde_json::Value;

use crate::crash::disk::files_below;
use crate::sandbox::{Run, Sandbox, TBD};

/// Returns a home with an image for two platforms as `a:v1`.
fn sandbox() -> (Sandbox, SampleImage) {
    let image = SampleImage::builder()
        .with_layer([("hello", "hello")])
        .with_own_layer()
        .with_platforms(["linux/amd64", "linux/arm64"].map(|name| name.parse().unwrap()))
        .with_config("Entrypoint", vec!["/bin/tool", "a b"])
        .with_config("Env", vec!["PATH=/bin", "FORGED=a\nDigest         sha256:0"])
        .with_config("User", "nobody")
        .with_label("version", "1.2")
        .build();
    let sandbox = Sandbox::new();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    push(&sandbox, "a:v1", "image", "--create --all-platforms");
    (sandbox, image)
}

fn push(sandbox: &Sandbox, image: &str, layout: &str, options: &str) -> String {
    sandbox.printed(&format!("--push {image} --from oci:{layout} --organization {TBD} {options}"))
}

/// Pushes a different small image for each tag to the repository `a`.
fn push_tags(sandbox: &Sandbox, tags: &[&str]) {
    for tag in tags {
        sandbox.write_image(tag, tag);
        push(sandbox, &format!("a:{tag}"), tag, "--create");
    }
}

/// Returns the tags of the repository `a`, as printed by `--list-images`.
fn tags(sandbox: &Sandbox) -> String {
    let listed = sandbox.printed(&format!("--list-images a --organization {TBD}"));
    let mut tags: Vec<&str> =
        listed.lines().skip(1).map(|row| row.split(' ').next().unwrap()).collect();
    tags.sort_unstable();
    tags.join(" ")
}

/// Replaces each digest with `sha256:` and a letter, in the order of first appearance.
fn without_digests(text: &str) -> String {
    let mut text = text.to_owned();
    for letter in 'A'..='Z' {
        let is_hex = |text: &str| {
            text.len() >= 64 && text.as_bytes()[..64].iter().all(u8::is_ascii_hexdigit)
        };
        let starts = text.match_indices("sha256:").map(|(at, word)| at + word.len());
        let Some(at) = starts.into_iter().find(|at| is_hex(&text[*at..])) else { return text };
        let hex = text[at..at + 64].to_owned();
        text = text.replace(&hex, &letter.to_string());
    }
    text
}

fn failed(run: &Run) -> String {
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}

#[test]
fn inspect_prints_a_report() {
    let (sandbox, _) = sandbox();
    let report = sandbox.printed(&format!("--inspect a:v1 --organization {TBD}"));
    assert_snapshot!(without_digests(&report), @r#"
    Image          127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a@sha256:A
    Media type     application/vnd.oci.image.index.v1+json
    Size           8.8 kB
    Platforms      linux/amd64, linux/arm64

    Platform       linux/amd64
    Digest         sha256:B
    Media type     application/vnd.oci.image.manifest.v1+json
    Size           5.2 kB
    Created        2026-01-01T00:00:00Z
    Entrypoint     ["/bin/tool","a b"]
    User           nobody
    Environment    PATH=/bin
    Environment    FORGED=a\nDigest         sha256:0
    Label          version=1.2
    Layer          sha256:C   2.0 kB application/vnd.oci.image.layer.v1.tar
    Layer          sha256:D   2.0 kB application/vnd.oci.image.layer.v1.tar

    Platform       linux/arm64
    Digest         sha256:E
    Media type     application/vnd.oci.image.manifest.v1+json
    Size           5.2 kB
    Created        2026-01-01T00:00:00Z
    Entrypoint     ["/bin/tool","a b"]
    User           nobody
    Environment    PATH=/bin
    Environment    FORGED=a\nDigest         sha256:0
    Label          version=1.2
    Layer          sha256:C   2.0 kB application/vnd.oci.image.layer.v1.tar
    Layer          sha256:F   2.0 kB application/vnd.oci.image.layer.v1.tar
    "#);
}

#[test]
fn inspect_prints_one_digest() {
    let (sandbox, image) = sandbox();
    let inspect = |options: &str| {
        sandbox.printed(&format!("inspect a:v1 --organization {TBD} --digest {options}"))
    };
    assert_eq!(inspect(""), format!("{}\n", image.digest()));
    let arm = image.children()[1].digest();
    assert_eq!(inspect("--platform linux/arm64"), format!("{arm}\n"));
    let json: Value = serde_json::from_str(&inspect("--output json")).unwrap();
    assert_eq!(json["digest"], image.digest().to_string());
}

#[test]
fn inspect_prints_raw_documents() {
    let (sandbox, image) = sandbox();
    let inspect = format!("--inspect a:v1 --organization {TBD} --raw");
    assert_eq!(sandbox.printed(&inspect).as_bytes(), image.manifest());
    let json: Value =
        serde_json::from_str(&sandbox.printed(&format!("{inspect} --output json"))).unwrap();
    assert_eq!(json["documents"].as_object().unwrap().len(), 5);
    assert_eq!(json["manifests"][1]["config"]["labels"]["version"], "1.2");
    let index = &json["documents"][image.digest().to_string()];
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
}

#[test]
fn inspect_names_what_is_missing() {
    let (sandbox, _) = sandbox();
    let inspect = |words: &str| {
        let run = sandbox.run(&format!("--inspect {words} --organization {TBD} --quiet"));
        without_digests(&failed(&run))
    };
    assert_snapshot!(inspect("a:v9"), @"
    exit 5
    error: image 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v9 does not exist
      help: list the images: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(inspect("b:v1"), @"
    exit 5
    error: repository 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/b does not exist
      help: list the repositories: ark-catalog-container-tool --list-repositories --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(inspect("a:v1 --platform linux/s390x"), @"
    exit 2
    error: 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a has no image for linux/s390x; it has: linux/amd64, linux/arm64
    ");
}

#[test]
fn tag_adds_a_tag() {
    let (sandbox, image) = sandbox();
    let url = format!("127.0.0.1:5050/prod/{TBD}/a@{}\n", image.digest());
    assert_eq!(sandbox.printed(&format!("--tag a:v1 v2 --organization {TBD}")), url);
    let copied = sandbox.run(&format!("--copy a:v2 --to :v3 --organization {TBD}"));
    assert_eq!((copied.code, copied.stdout), (0, url.clone()));
    assert!(tags(&sandbox).ends_with("v1,v2,v3"), "{}", tags(&sandbox));
    let json = sandbox.printed(&format!("--tag a:v1 v4 --organization {TBD} --output json"));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::json!({"url": url.trim(), "tag": "v4"}));
}

#[test]
fn copy_without_tag_reads_latest() {
    let (sandbox, _) = sandbox();
    let copy = format!("--copy a --to b:v1 --organization {TBD} --quiet");
    let run = sandbox.run(&copy);
    assert!(run.code == 5 && run.stderr.contains("a:latest"), "{run:?}");
}

#[test]
fn immutable_tag_is_not_moved() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --immutable-tags --organization {TBD}"));
    push_tags(&sandbox, &["v1", "v2"]);
    let run = sandbox.run(&format!("--tag a:v1 v2 --organization {TBD} --quiet"));
    assert_snapshot!(failed(&run), @"
    exit 6
    error: image 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v2 cannot be changed: the tags of this repository are immutable
      help: choose a tag that is not in use: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

#[test]
fn several_images_are_deleted_until_the_first_failure() {
    let sandbox = Sandbox::new();
    push_tags(&sandbox, &["v1", "v2", "v3"]);
    let delete = |images: &str| {
        failed(&sandbox.run(&format!("--delete-image {images} --organization {TBD} --quiet")))
    };
    assert_snapshot!(delete("a:v1 a"), @r#"
    exit 2
    error: "a" names no image: add :TAG or @DIGEST
      help: to delete the whole repository: ark-catalog-container-tool --delete-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    "#);
    assert_eq!(tags(&sandbox), "v1 v2 v3", "names are parsed first");
    assert_snapshot!(delete("a:v1 a:v9 a:v2"), @"
    exit 5
    127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v1
    error: image prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v9 does not exist
      help: list the images: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_eq!(tags(&sandbox), "v2 v3");
    assert_snapshot!(delete("a:v2 a:v3"), @"
    exit 0
    127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v2
    127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v3
    ");
}

#[test]
fn prune_keeps_the_newest() {
    let sandbox = Sandbox::new();
    push_tags(&sandbox, &["v1", "release-1", "v2", "v3"]);
    let prune = format!("--prune-images a --organization {TBD} --keep 1 --keep-tags release-*");
    let settled = |run: &Run| {
        let digits = |word: &str| match word.ends_with('Z') && word.starts_with("20") {
            true => "TIME".to_owned(),
            false => word.to_owned(),
        };
        let text = without_digests(&failed(run));
        let lines = text.lines().filter(|line| !line.contains("since none was chosen"));
        let lines = lines.map(|line| line.split(' ').map(digits).collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(settled(&sandbox.run(&format!("{prune} --dry-run"))), @"
    exit 0
    Tags                 Digest                                                                      Size Pushed at            Platforms
    v2                   sha256:A   2.7 kB TIME linux/amd64
    v1                   sha256:B   2.7 kB TIME linux/amd64
    note: 2 of 4 images would be deleted
    ");
    assert_eq!(tags(&sandbox), "release-1 v1 v2 v3");
    assert_snapshot!(settled(&sandbox.run(&format!("{prune} --older-than 1d"))), @"
    exit 0
    Tags                 Digest                                                                      Size Pushed at            Platforms
    note: 0 of 4 images will be deleted
    ");
    assert_snapshot!(settled(&sandbox.run(&prune)), @"
    exit 0
    Tags                 Digest                                                                      Size Pushed at            Platforms
    v2                   sha256:A   2.7 kB TIME linux/amd64
    v1                   sha256:B   2.7 kB TIME linux/amd64
    note: 2 of 4 images will be deleted
    ");
    assert_eq!(tags(&sandbox), "release-1 v3");
    let json = sandbox
        .printed(&format!("--prune-images a --organization {TBD} --keep 0 --output json --quiet"));
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.len(), &json[1]["tags"][0]), (2, &Value::from("release-1")));
}

#[test]
fn deleted_and_pruned_images_free_disk_space() {
    let sandbox = Sandbox::new();
    push_tags(&sandbox, &["v1", "v2", "v3"]);
    // The second push finds all blobs.
    push(&sandbox, "a:v1", "v1", "");
    let blobs = || {
        let files = files_below(&sandbox.path(format!("data/ark/registry/prod/{TBD}/a")));
        files.into_keys().filter(|name| name.contains("/blobs/")).count()
    };
    assert_eq!(blobs(), 6, "a configuration and a layer each");
    sandbox.printed(&format!("--delete-image a:v1 --organization {TBD}"));
    assert_eq!(blobs(), 4);
    sandbox.printed(&format!("--prune-images a --organization {TBD} --keep 0"));
    assert_eq!(blobs(), 0);
}

#[test]
fn prune_is_for_administrators() {
    let sandbox = Sandbox::with_memberships();
    sandbox.write_image("image", "hello");
    let push = format!("--push a:v1 --from oci:image --create --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &push).code, 0);
    let prune = format!("--prune-images a --keep 0 --organization {TBD} --quiet");
    let denied = sandbox.run_as("user:alice", &prune);
    assert!(denied.code == 4 && denied.stderr.contains("may not delete images of"), "{denied:?}");
    assert_eq!(sandbox.run_as("user:carol", &prune).code, 0);
}

#[test]
fn prune_needs_a_rule() {
    let sandbox = Sandbox::new();
    let prune = |options: &str| {
        failed(&sandbox.run(&format!("--prune-images a --organization {TBD} {options}")))
    };
    let age_alone = prune("--older-than 1d");
    assert!(age_alone.starts_with("exit 2\n") && age_alone.contains("--keep <N>"), "{age_alone}");
    assert_snapshot!(prune("--keep 1 --older-than soon"), @"
    exit 2
    error: invalid value 'soon' for '--older-than <AGE>': expected number at 0

    For more information, try '--help'.
    ");
    assert_snapshot!(prune("--keep 1 --keep-tags a*b*c*"), @r#"
    exit 2
    error: --keep-tags: "a*b*c*" is not a valid tag pattern: more than 2 '*', at character 6
      help: use letters, digits, '_', '.', '-' and up to two '*', such as 'dev-*'
    "#);
}
