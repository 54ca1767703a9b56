//! The AWS command line and container clients show the same content as the program, and pull the same images.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use ark_container_core::testing::SampleImage;
use ark_container_fakes::aws::ListedRepository;
use serde_json::Value;

use super::{Cloud, alice, printed};
use crate::clients::{COPY_UNCHANGED, assert_same, contents};
use crate::python_component::python_component;
use crate::sandbox::{OTHER, TBD};
use crate::tools::Tools;

/// Returns the AWS command line in the home of the cloud.
pub(super) fn aws(cloud: &Cloud, line: &str) -> Command {
    let mut command = python_component("aws");
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap())
        .env("HOME", cloud.sandbox.path(""))
        .envs(cloud.aws.environment(alice().access_key()))
        .args(["--output", "json"])
        .args(line.split_whitespace());
    command
}

fn aws_json(cloud: &Cloud, line: &str) -> Value {
    let json = printed(&cloud.sandbox, &mut aws(cloud, line));
    serde_json::from_str(&json).unwrap()
}

/// Returns the JSON objects that the program prints.
fn program_json(cloud: &Cloud, line: &str) -> Vec<Value> {
    let lines = cloud.printed(&format!("{line} --output json"));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Returns AWS with repositories of two organizations, and one repository without an organization.
fn filled_cloud() -> Cloud {
    let cloud = Cloud::with(|account| account.with_list([ListedRepository::new("elsewhere")]));
    cloud.printed(&format!("--create-repository a/b --organization {OTHER}"));
    let create = "--create-repository a --immutable-tags --except-tags latest* --resource-tag";
    cloud.printed(&format!("{create} team=video --organization {TBD}"));
    for (content, tag) in [("one", "v1"), ("two", "v2"), ("two", "latest")] {
        cloud.sandbox.write_image(tag, content);
        cloud.printed(&format!("--push a:{tag} --from oci:{tag} --organization {TBD}"));
    }
    cloud
}

#[test]
fn aws_cli_lists_the_same_repositories() {
    let cloud = filled_cloud();
    let described = aws_json(&cloud, "ecr describe-repositories --page-size 1");
    let described = described["repositories"].as_array().unwrap().clone();
    assert_eq!(described.len(), 3);
    let of_stage = described.iter().filter(|one| text(&one["repositoryName"]).contains('/'));
    let theirs: BTreeSet<String> = of_stage.map(|one| text(&one["repositoryUri"])).collect();
    for line in ["--list-repositories", "--list-repositories --all-pages"] {
        let ours = program_json(&cloud, line);
        let ours: BTreeSet<String> = ours.iter().map(|one| text(&one["url"])).collect();
        assert_eq!(ours, theirs, "{line}");
    }
}

#[test]
fn aws_cli_shows_the_same_repository_settings() {
    let cloud = filled_cloud();
    let name = format!("prod/{TBD}/a");
    let line = format!("ecr describe-repositories --repository-names {name}");
    let theirs = aws_json(&cloud, &line)["repositories"][0].clone();
    let [ours] = &program_json(&cloud, &format!("--list-repositories --organization {TBD}"))[..]
    else {
        panic!("one repository");
    };
    assert_eq!(theirs["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    assert_eq!(ours["tag_mutability"], "immutable");
    let filters = &theirs["imageTagMutabilityExclusionFilters"];
    assert_eq!(filters[0]["filter"], ours["mutability_exclusions"][0]);

    let line =
        format!("ecr list-tags-for-resource --resource-arn {}", text(&theirs["repositoryArn"]));
    let tags = aws_json(&cloud, &line)["tags"].as_array().unwrap().clone();
    let tag = |key: &str| tags.iter().find(|tag| tag["Key"] == key).map(|tag| text(&tag["Value"]));
    assert_eq!(tag("ark:organization").as_deref(), Some(TBD));
    assert_eq!(tag("team").as_deref(), Some("video"));
    assert!(tag("ark:created-by").unwrap().starts_with("user:"));
}

#[test]
fn aws_cli_lists_the_same_images() {
    let cloud = filled_cloud();
    let line = format!("ecr describe-images --repository-name prod/{TBD}/a");
    let details = aws_json(&cloud, &line)["imageDetails"].as_array().unwrap().clone();
    let sorted = |tags: &Value| {
        let tags = tags.as_array().unwrap();
        tags.iter().map(text).collect::<BTreeSet<_>>()
    };
    let theirs: BTreeSet<_> = details
        .iter()
        .map(|image| {
            let size = image["imageSizeInBytes"].as_u64().unwrap();
            (text(&image["imageDigest"]), sorted(&image["imageTags"]), size)
        })
        .collect();
    let ours: BTreeSet<_> = program_json(&cloud, &format!("--list-images a --organization {TBD}"))
        .iter()
        .map(|image| {
            let size = image["size"].as_u64().unwrap();
            (text(&image["digest"]), sorted(&image["tags"]), size)
        })
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 2);
}

#[test]
fn aws_cli_shows_the_same_identity() {
    let cloud = Cloud::new();
    let theirs = aws_json(&cloud, "sts get-caller-identity");
    let report = cloud.printed("--whoami");
    assert!(report.contains(&text(&theirs["Arn"])), "{report}");
    assert!(report.contains(&text(&theirs["Account"])), "{report}");
}

#[test]
fn repository_created_by_aws_cli_is_usable() {
    let cloud = Cloud::new();
    let name = format!("prod/{TBD}/made/elsewhere");
    aws_json(&cloud, &format!("ecr create-repository --repository-name {name}"));
    let listed = cloud.printed("--list-repositories --all-pages");
    assert!(listed.contains("made/elsewhere"), "{listed}");
    let password = printed(&cloud.sandbox, &mut aws(&cloud, "ecr get-login-password"));
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    cloud.sandbox.write_image("sample", "hello");
    let remote = format!("docker://{}:v1", cloud.image("made/elsewhere"));
    let copy =
        format!("skopeo copy -q --dest-creds AWS:{} oci:sample {remote}", password.trim_end());
    tools.printed(&copy);
}

const NAME: &str = "catalog/extract-video";

/// Returns tools that are logged in with a password narrowed to the repository [`NAME`].
fn logged_in(cloud: &Cloud) -> Tools<'_> {
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.narrowed_command(&format!("--login {NAME} --organization {TBD}"));
    let run = tools.log_in("skopeo", &cloud.host(), login);
    assert_eq!(run.code, 0, "{run:?}");
    tools
}

#[test]
fn printed_password_logs_in_every_tool() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    for tool in ["docker", "podman", "skopeo", "buildah"] {
        for narrowed in [false, true] {
            let line = format!("--login {NAME} --organization {TBD}");
            let login = if narrowed { cloud.narrowed_command(&line) } else { cloud.command(&line) };
            let run = tools.log_in(tool, &cloud.host(), login);
            assert!(run.stdout.starts_with("Login Succeeded"), "{tool}: {run:?}");
        }
    }
}

#[test]
fn skopeo_index_comes_back_unchanged_from_ecr() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = logged_in(&cloud);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&cloud.sandbox.path("sample"), Some("v1")).unwrap();
    let remote = format!("docker://{}:v1", cloud.image(NAME));
    tools.printed(&format!("{COPY_UNCHANGED} oci:sample {remote}"));
    tools.printed(&format!("{COPY_UNCHANGED} {remote} oci:pulled"));
    let blobs = |folder: &str| contents(&cloud.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
}

#[test]
fn podman_image_comes_back() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = logged_in(&cloud);
    // The layer is larger than a part of ECR, and podman sends it as one stream.
    let image = SampleImage::builder().with_random_layer(12_000_000).with_own_layer().build();
    image.write_oci_layout(&cloud.sandbox.path("sample"), None).unwrap();
    tools.printed("podman pull -q oci:sample");
    let id = tools.printed("podman images -q");
    let remote = format!("{}:v1", cloud.image(NAME));
    tools.printed(&format!("podman push -q {id} docker://{remote}"));
    tools.printed("podman rmi -a -f");
    tools.printed(&format!("podman pull -q {remote}"));
    assert_eq!(tools.printed("podman images -q"), id);
}

#[test]
fn skopeo_pulls_the_pushed_image() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&cloud.sandbox.path("sample"), None).unwrap();
    let push = format!("--push {NAME}:v1 --from oci:sample --all-platforms --organization {TBD}");
    let url = printed(&cloud.sandbox, &mut cloud.narrowed_command(&push));
    assert_eq!(url.trim_end(), format!("{}@{}", cloud.image(NAME), image.digest()));
    let tools = logged_in(&cloud);
    tools.printed(&format!("{COPY_UNCHANGED} docker://{} oci:pulled", url.trim_end()));
    let blobs = |folder: &str| contents(&cloud.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
}

#[test]
fn large_layer_is_sent_to_ecr_once() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let image = SampleImage::builder().with_random_layer(40_000_000).build();
    image.write_oci_layout(&cloud.sandbox.path("sample"), None).unwrap();
    let push = |tag: &str| {
        let line = format!("--push {NAME}:{tag} --from oci:sample --organization {TBD}");
        let pushed = cloud.printed(&format!("{line} --output json"));
        serde_json::from_str::<serde_json::Value>(&pushed).unwrap()
    };
    assert_eq!(push("v1")["blobs_sent"], 2);
    let again = push("v2");
    assert_eq!((&again["blobs_sent"], &again["blobs_skipped"]), (&0.into(), &2.into()));
}

#[test]
fn printed_urls_of_an_emulator_are_accepted_back() {
    let cloud = Cloud::new();
    let url = cloud.printed(&format!("--create-repository a/b --organization {TBD}"));
    assert_eq!(url.trim_end(), cloud.image("a/b"));
    let by_name = cloud.printed(&format!("--list-images a/b --organization {TBD}"));
    let of_aws = format!("{}/prod/{TBD}/a/b", cloud.aws.host());
    let fips = of_aws.replace("dkr.ecr.", "dkr.ecr-fips.");
    for same in [url.trim_end(), &of_aws, &fips] {
        assert_eq!(cloud.printed(&format!("--list-images {same}")), by_name, "{same}");
    }
}
