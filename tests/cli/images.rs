//! Images that are inspected, tagged, deleted and pruned.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;
use serde_json::Value;

use crate::sandbox::{Run, Sandbox, TBD};

/// A home whose repository `a` has an image of two platforms as `v1`.
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

/// Pushes another small image for each tag to the repository `a`.
fn push_tags(sandbox: &Sandbox, tags: &[&str]) {
    for tag in tags {
        sandbox.write_image(tag, tag);
        push(sandbox, &format!("a:{tag}"), tag, "--create");
    }
}

/// The tags in a repository, as `--list-images` prints them.
fn tags(sandbox: &Sandbox) -> String {
    let listed = sandbox.printed(&format!("--list-images a --organization {TBD}"));
    let mut tags: Vec<&str> =
        listed.lines().skip(1).map(|row| row.split(' ').next().unwrap()).collect();
    tags.sort_unstable();
    tags.join(" ")
}

/// Each digest is replaced by `sha256:` and the letter of its first appearance.
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
    assert_snapshot!(without_digests(&report), @"");
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
    assert_snapshot!(inspect("a:v9"), @"");
    assert_snapshot!(inspect("b:v1"), @"");
    assert_snapshot!(inspect("a:v1 --platform linux/s390x"), @"");
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
    assert_snapshot!(failed(&run), @"");
}

#[test]
fn several_images_are_deleted_until_the_first_failure() {
    let sandbox = Sandbox::new();
    push_tags(&sandbox, &["v1", "v2", "v3"]);
    let delete = |images: &str| {
        failed(&sandbox.run(&format!("--delete-image {images} --organization {TBD} --quiet")))
    };
    assert_snapshot!(delete("a:v1 a"), @"");
    assert_eq!(tags(&sandbox), "v1 v2 v3", "names are parsed first");
    assert_snapshot!(delete("a:v1 a:v9 a:v2"), @"");
    assert_eq!(tags(&sandbox), "v2 v3");
    assert_snapshot!(delete("a:v2 a:v3"), @"");
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
    assert_snapshot!(settled(&sandbox.run(&format!("{prune} --dry-run"))), @"");
    assert_eq!(tags(&sandbox), "release-1 v1 v2 v3");
    assert_snapshot!(settled(&sandbox.run(&format!("{prune} --older-than 1d"))), @"");
    assert_snapshot!(settled(&sandbox.run(&prune)), @"");
    assert_eq!(tags(&sandbox), "release-1 v3");
    let json = sandbox
        .printed(&format!("--prune-images a --organization {TBD} --keep 0 --output json --quiet"));
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.len(), &json[1]["tags"][0]), (2, &Value::from("release-1")));
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
    assert_snapshot!(prune("--older-than 1d"), @"");
    assert_snapshot!(prune("--keep 1 --older-than soon"), @"");
    assert_snapshot!(prune("--keep 1 --keep-tags a*b*c*"), @"");
}
