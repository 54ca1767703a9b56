//! Denied operations.

use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{OTHER, Sandbox, TBD};

fn by(sandbox: &Sandbox, principal: &str, line: &str) -> String {
    reported(&sandbox.run_as(principal, &format!("--quiet {line}")))
}

#[test]
fn create_by_non_member_is_denied() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository test/repo --organization {TBD}");
    assert_snapshot!(by(&sandbox, "user:bob", &create), @"
    exit 4
    error: user:bob may not create prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    assert_snapshot!(by(&sandbox, "robot:nightly", &create), @"
    exit 4
    error: robot:nightly may not create prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    let global =
        "--create-repository test/repo --organization 77777777-7777-4777-7777-777777777777";
    assert_snapshot!(by(&sandbox, "user:alice", global), @"
    exit 4
    error: user:alice may not create prod/77777777-7777-4777-7777-777777777777/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
}

#[test]
fn delete_by_member_is_denied() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository test/repo --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
    let delete = format!("--delete-repository test/repo --organization {TBD}");
    assert_snapshot!(by(&sandbox, "user:alice", &delete), @"
    exit 4
    error: user:alice may not delete prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    let delete_image = format!("--delete-image test/repo:v1 --organization {TBD}");
    assert_snapshot!(by(&sandbox, "user:alice", &delete_image), @"
    exit 4
    error: user:alice may not delete images of prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    assert_eq!(sandbox.run_as("user:carol", &delete).code, 0);
}

#[test]
fn push_and_login_without_permission_are_denied() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository test/repo --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
    sandbox.write_image("image", "hello");
    let push = format!("--push test/repo:v1 --from oci:image --organization {TBD}");
    assert_snapshot!(by(&sandbox, "robot:nightly", &push), @"
    exit 4
    error: robot:nightly may not push to prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    let login = format!("--login test/repo --organization {TBD}");
    assert_snapshot!(by(&sandbox, "robot:nightly", &format!("{login} --access push")), @"
    exit 4
    error: robot:nightly may not push to prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    assert_snapshot!(by(&sandbox, "user:alice", &format!("{login} --access delete")), @"
    exit 4
    error: user:alice may not delete images of prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
}

#[test]
fn denial_is_the_same_for_missing_repositories() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository there --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    for line in ["--login", "--list-images", "--create-repository", "--delete-repository"] {
        let answer = |name: &str| {
            by(&sandbox, "user:alice", &format!("{line} {name} --organization {OTHER}"))
        };
        assert_eq!(answer("there"), answer("absent").replace("absent", "there"), "{line}");
    }
    let list = format!("--list-repositories --organization {OTHER}");
    assert_snapshot!(by(&sandbox, "user:alice", &list), @"
    exit 4
    error: user:alice may not list the repositories of organization 11111111-2222-3333-4444-555555555555
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
}
