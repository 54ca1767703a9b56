//! Listings with repositories that other tools created, and with archived images.

use ark_container_core::model::Digest;
use ark_container_core::testing::SampleImage;
use ark_container_fakes::aws::{Fault, ListedRepository};
use insta::assert_snapshot;

use super::clients::aws;
use super::{Cloud, printed};
use crate::sandbox::{Run, TBD};

/// Returns a repository without the resource tag, as Terraform, the console, create-on-push and replication create
/// it.
fn untagged(name: &str) -> ListedRepository {
    ListedRepository::new(format!("prod/{TBD}/{name}"))
}

/// Returns repositories of another organization that fill the first page of DescribeRepositories.
fn others() -> impl Iterator<Item = ListedRepository> {
    let organization = "00000000-0000-4000-8000-000000000000";
    (0..1_000).map(move |number| {
        ListedRepository::new(format!("prod/{organization}/{number:04}"))
            .with_tag("ark:organization", organization)
    })
}

fn list(cloud: &Cloud, options: &str) -> Run {
    let line = format!("--list-repositories --organization {TBD} {options}");
    let run = cloud.sandbox.finish(&mut cloud.command(&line));
    assert_eq!(run.code, 0, "{run:?}");
    run
}

/// Returns the names in a listing.
fn names(run: &Run) -> Vec<&str> {
    run.stdout
        .lines()
        .skip(1)
        .filter_map(|row| row.split_once(&format!("/{TBD}/")))
        .map(|row| row.1)
        .collect()
}

#[test]
fn untagged_repository_of_a_small_account_is_listed() {
    let cloud = Cloud::with(|account| account.with_list([untagged("terraform")]));
    cloud.create(&["a"]);
    cloud.aws.forget_calls();
    let run = list(&cloud, "");
    assert_eq!((names(&run), run.stderr.as_str()), (vec!["a", "terraform"], ""));
    assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), 1);
}

#[test]
fn list_of_a_large_account_may_be_incomplete() {
    let cloud =
        Cloud::with(|account| account.with_list(others()).with_list([untagged("terraform")]));
    cloud.create(&["a"]);
    let run = list(&cloud, "");
    assert_eq!(names(&run), ["a"]);
    assert_snapshot!(run.stderr, @"note: the list may be incomplete: it comes from the tag index of AWS, which lacks repositories without the resource tag ark:organization, and for some minutes new repositories of other users; to add the tag: ark-catalog-container-tool --create-repository NAME; to scan the whole account: ark-catalog-container-tool --list-repositories --all-pages");
    assert_eq!(list(&cloud, "--quiet").stderr, "");
    let all = list(&cloud, "--all-pages");
    assert_eq!((names(&all), all.stderr.as_str()), (vec!["a", "terraform"], ""));
}

#[test]
fn created_repository_is_listed_before_the_index_has_it() {
    let cloud =
        Cloud::with(|account| account.with_list(others()).with_list([untagged("terraform")]));
    cloud.aws.set_index_stale(true);
    cloud.create(&["a", "b"]);
    assert_eq!(names(&list(&cloud, "")), ["a", "b"]);
    // The repository exists, and gets the resource tag.
    cloud.create(&["terraform"]);
    assert_eq!(names(&list(&cloud, "")), ["a", "b", "terraform"]);
    cloud.printed(&format!("--delete-repository a --organization {TBD}"));
    assert_eq!(names(&list(&cloud, "")), ["b", "terraform"]);
    cloud.aws.set_index_stale(false);
    std::fs::remove_dir_all(cloud.sandbox.path(".cache/ark")).unwrap();
    assert_eq!(names(&list(&cloud, "")), ["b", "terraform"]);
}

#[test]
fn account_without_tagging_api_is_scanned() {
    let cloud =
        Cloud::with(|account| account.with_list(others()).with_list([untagged("terraform")]));
    cloud.aws.inject(Fault::error("AccessDeniedException", "no").on("tag:GetResources"));
    for calls_of_the_index in [1, 0] {
        cloud.aws.forget_calls();
        let run = list(&cloud, "");
        assert_eq!((names(&run), run.stderr.as_str()), (vec!["terraform"], ""));
        assert_eq!(cloud.aws.count("tag:GetResources"), calls_of_the_index, "cached for an hour");
        assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), 2);
    }
}

#[test]
fn expired_page_token_restarts_a_list() {
    let cloud =
        Cloud::with(|account| account.with_list(others()).with_list([untagged("terraform")]));
    cloud.aws.inject(Fault::expired_page_token().on("ecr:DescribeRepositories").after(1).times(1));
    let list = cloud.printed("--list-repositories --all-pages");
    let mut rows: Vec<&str> = list.lines().skip(1).collect();
    assert_eq!(rows.len(), 1_001);
    rows.dedup();
    assert_eq!(rows.len(), 1_001, "no repository is listed twice");
    assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), 4);
}

fn archived_image(cloud: &Cloud) -> Digest {
    let digest = SampleImage::new("hello").digest();
    let archive = format!(
        "ecr update-image-storage-class --repository-name prod/{TBD}/a \
         --image-id imageDigest={digest} --target-storage-class ARCHIVE"
    );
    printed(&cloud.sandbox, &mut aws(cloud, &archive));
    digest
}

#[test]
fn archived_image_is_listed_counted_and_restored() {
    let cloud = Cloud::new();
    cloud.create(&["a"]);
    for (folder, content) in [("first", "hello"), ("second", "world")] {
        cloud.sandbox.write_image(folder, content);
        cloud.printed(&format!("--push a:{folder} --from oci:{folder} --organization {TBD}"));
    }
    let digest = archived_image(&cloud);
    let images = cloud.printed(&format!("--list-images a --organization {TBD}"));
    let row = images.lines().find(|row| row.contains(&digest.to_string())).unwrap();
    assert!(row.ends_with("- (archived)"), "{images}");
    assert_eq!(images.matches("archived").count(), 1);
    let images = cloud.printed(&format!("--list-images a --organization {TBD} --output json"));
    assert_eq!(images.matches(r#""state":"archived""#).count(), 1, "{images}");

    let prune = format!("--prune-images a --keep 0 --untagged --dry-run --organization {TBD}");
    assert!(!cloud.printed(&prune).contains(&digest.to_string()));
    let delete = cloud.run(&format!("--delete-repository a --organization {TBD}"));
    let full = format!("repository prod/{TBD}/a has 2 images, 1 of them archived\n");
    assert!(delete.stderr.contains(&full), "{delete:?}");

    let pull = format!("--pull a:first --to oci:out --organization {TBD}");
    let missing = cloud.run(&pull);
    let error =
        missing.stderr.replace(&cloud.host(), "HOST").replace(&digest.to_string(), "DIGEST");
    assert_snapshot!(format!("exit {}\n{error}", missing.code), @r"
    exit 5
    error: image HOST/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:first does not exist: it is archived; restore it: aws ecr update-image-storage-class --region us-east-1 --registry-id 095412845506 --repository-name prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a --image-id imageDigest=DIGEST --target-storage-class STANDARD
      help: list the images: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    let (_, restore) = missing.stderr.split_once("restore it: aws ").unwrap();
    let restore = restore.lines().next().unwrap();
    printed(&cloud.sandbox, &mut aws(&cloud, restore));
    cloud.printed(&pull);
}

#[test]
fn tag_that_clients_refuse_is_listed() {
    let cloud = Cloud::new();
    cloud.create(&["a"]);
    cloud.sandbox.write_image("first", "hello");
    cloud.printed(&format!("--push a:v1 --from oci:first --organization {TBD}"));
    let long = "v".repeat(300);
    cloud.aws.add_long_tag(&format!("prod/{TBD}/a"), &SampleImage::new("hello").digest(), &long);
    let images = cloud.printed(&format!("--list-images a --organization {TBD}"));
    assert!(images.contains(&format!("v1,{long} ")), "{images}");
    // Such an image counts as tagged.
    let prune =
        format!("--prune-images a --untagged --older-than 0s --dry-run --organization {TBD}");
    assert_eq!(cloud.printed(&prune).lines().count(), 1);
}

#[test]
fn dual_layer_encryption_is_created() {
    let cloud = Cloud::new();
    let create = |options: &str| {
        cloud.run(&format!("--create-repository a --organization {TBD} --encryption {options}"))
    };
    for options in ["kms-dsse", "kms-dsse:alias/images"] {
        assert_eq!(create(options).code, 0, "{options}");
    }
    let describe = format!("ecr describe-repositories --repository-names prod/{TBD}/a");
    let described = printed(&cloud.sandbox, &mut aws(&cloud, &describe));
    assert!(described.contains(r#""encryptionType": "KMS_DSSE""#), "{described}");
    assert_eq!(create("kms").code, 6);
    assert_eq!(create("aes256:key").code, 2);
}
