//! What people read.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;

use crate::sandbox::{OTHER, Sandbox, TBD};

/// The same with every digit of a time as 9.
fn settled(text: &str) -> String {
    let digit = |character: char| if character.is_ascii_digit() { '9' } else { character };
    let word = |word: &str| match word.get(4..5) == Some("-") && word.ends_with('Z') {
        true => word.chars().map(digit).collect(),
        false => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn images_have_tags_digest_size_time_and_platforms() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let list = format!("--list-images a --organization {TBD}");
    assert_snapshot!(sandbox.printed(&list), @"Tags                 Digest                                                                      Size Pushed at            Platforms");
    let index = SampleImage::for_two_platforms();
    index.write_oci_layout(&sandbox.path("index"), None).unwrap();
    let url = sandbox
        .printed(&format!("--push a:v1 --from oci:index --all-platforms --organization {TBD}"));
    assert_eq!(url, format!("127.0.0.1:5050/prod/{TBD}/a@{}\n", index.digest()));
    let listed = sandbox.printed(&list);
    assert_eq!(listed.lines().count(), 4, "a header, the index, and its two images: {listed}");
    let row = listed.lines().find(|row| row.starts_with("v1 ")).unwrap();
    let row = settled(row).replace(&index.digest().to_string(), "sha256:INDEX");
    assert_snapshot!(row, @"v1                   sha256:INDEX 615.3 kB 9999-99-99T99:99:99Z linux/amd64,linux/arm64");
}

#[test]
fn pushes_tell_what_was_sent_and_what_was_there() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox.write_image("image", "hello");
    // How long it took comes last.
    let push = |tag: &str| {
        let run = sandbox.run(&format!("--push a{tag} --from oci:image --organization {TBD}"));
        run.stderr.rsplit_once("; ").unwrap().0.to_owned()
    };
    assert_snapshot!(push(""), @"
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    note: a:latest: blobs sent: 2 (2.3 kB); there already: 0 (0 B)
    ");
    assert_snapshot!(push(":v2"), @"
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    note: a:v2: blobs sent: 0 (0 B); there already: 2 (2.3 kB)
    ");
    let listed = sandbox.printed(&format!("--list-images a --organization {TBD}"));
    assert!(listed.contains("\nlatest,v2 "), "{listed}");
}

#[test]
fn docker_archives_are_pushed_too() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let image = SampleImage::new("hello");
    image.write_docker_archive(&sandbox.path("image.tar"), &["a:v1"]).unwrap();
    let push = format!("--push a:v1 --from docker-archive:image.tar --organization {TBD}");
    let url = sandbox.printed(&push);
    assert!(url.starts_with(&format!("127.0.0.1:5050/prod/{TBD}/a@sha256:")), "{url}");
    assert_eq!(sandbox.printed(&push), url);
}

#[test]
fn deletions_print_the_url() {
    let sandbox = Sandbox::new();
    let digest_url = sandbox.push("a:v1");
    sandbox.push("a:v2");
    let delete = |what: &str| sandbox.printed(&format!("--delete-{what} --organization {TBD}"));
    let url = format!("127.0.0.1:5050/prod/{TBD}/a");
    assert_eq!(delete("image a:v1"), format!("{url}:v1\n"));
    let (_, digest) = digest_url.trim().split_once('@').unwrap();
    assert_eq!(delete(&format!("image a@{digest}")), digest_url);
    assert_eq!(delete("repository a"), format!("{url}\n"));
}

#[test]
fn whoami_reports_identity_organizations_and_registry() {
    let sandbox = Sandbox::new();
    assert_snapshot!(sandbox.run_as("user:alice", "--whoami").stdout, @"
    Principal      user:alice
    Kind           user
    Identity       whoever is named (ARK_PRINCIPAL)
    Organizations  * (administrator)
    Memberships    no file: a single user's
    Audit          no file
    Registry       local:~/data/ark/registry
    Host           127.0.0.1:5050
    Served         no; to serve it: ark-catalog-container-tool --serve
    Credentials    narrowed to one repository, and to pull, push or delete in it
    Isolation      the scope of credentials
    ");
    let sandbox = Sandbox::with_memberships();
    assert_snapshot!(sandbox.run_as("user:carol", "--whoami").stdout, @"
    Principal      user:carol
    Kind           user
    Identity       whoever is named (ARK_PRINCIPAL)
    Organizations  2ea25035-6aa4-42fb-9955-92288ea1b972 (administrator)
    Memberships    ~/data/ark/registry/memberships.toml
    Audit          no file
    Registry       local:~/data/ark/registry
    Host           127.0.0.1:5050
    Served         no; to serve it: ark-catalog-container-tool --serve
    Credentials    narrowed to one repository, and to pull, push or delete in it
    Isolation      the policy, the scope of credentials
    ");
    assert_snapshot!(sandbox.run_as("robot:other", "--whoami").stdout, @"
    Principal      robot:other
    Kind           robot
    Identity       whoever is named (ARK_PRINCIPAL)
    Organizations  none
    Memberships    ~/data/ark/registry/memberships.toml
    Audit          no file
    Registry       local:~/data/ark/registry
    Host           127.0.0.1:5050
    Served         no; to serve it: ark-catalog-container-tool --serve
    Credentials    narrowed to one repository, and to pull, push or delete in it
    Isolation      the policy, the scope of credentials
    ");
}

#[test]
fn listings_show_only_ones_own_organizations() {
    let sandbox = Sandbox::with_memberships();
    for (principal, organization) in [("user:alice", TBD), ("user:bob", OTHER)] {
        let create = format!("--create-repository a --organization {organization}");
        assert_eq!(sandbox.run_as(principal, &create).code, 0);
    }
    let listed = sandbox.run_as("user:alice", "--list-repositories").stdout;
    assert!(listed.contains(TBD) && !listed.contains(OTHER), "{listed}");
}

#[test]
fn a_robot_gets_a_password_for_pull_and_is_told_so() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository test/repo --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
    let login = format!("--login test/repo --organization {TBD}");
    let run = sandbox.run_as("robot:nightly", &login);
    assert_snapshot!(run.stderr, @"
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    note: the password is for pull only: robot:nightly may not push here
    ");
    let scope = |principal: &str, more: &str| {
        let run = sandbox.run_as(principal, &format!("{login} --output json {more}"));
        let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        json["scope"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned()
    };
    assert_eq!(scope("robot:nightly", ""), "pull");
    assert_eq!(scope("user:alice", ""), "pull,push");
    assert_eq!(scope("user:alice", "--access pull"), "pull");
    assert_eq!(scope("user:carol", "--access delete"), "pull,push,delete");
}
