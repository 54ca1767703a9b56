//! The examples of a custom layer and policy, and of a service that acts for other principals.

use std::io::Write;
use std::process::Stdio;

use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{SampleImage, TestRegistry};

use super::{example, printed, succeeded};

#[test]
fn custom_layer_and_policy_apply() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["call_counter", "quota_policy"] {
        succeeded(&mut example(name, folder.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promotion_service_uses_the_permissions_of_each_caller() {
    let registry = TestRegistry::start().unwrap();
    let catalog = registry.catalog().in_organization(OrganizationId::TBD);
    let folder = tempfile::tempdir().unwrap();
    SampleImage::new("app").write_oci_layout(folder.path(), None).unwrap();
    for name in ["app/staging", "app/release"] {
        catalog.create(name).await.unwrap();
    }
    let source = format!("oci:{}", folder.path().display());
    let pushed = catalog.push("app/staging:v7", &source).await.unwrap();
    let memberships = folder.path().join("memberships.toml");
    let members = r#"members = ["user:alice", "robot:nightly"]"#;
    let text = format!("[[organization]]\nid = \"{}\"\n{members}\n", OrganizationId::TBD);
    std::fs::write(&memberships, text).unwrap();

    let mut command = example("promotion_service", registry.backend().directory());
    command.arg(&memberships).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut service = command.spawn().unwrap();
    let requests =
        b"user:alice app/staging:v7 app/release:v7\nrobot:nightly app/staging:v7 app/release:v8\n";
    service.stdin.take().unwrap().write_all(requests).unwrap();
    let (output, _) = printed(&service.wait_with_output().unwrap());
    let promoted = output.lines().find(|line| line.starts_with("promoted ")).unwrap();
    assert!(promoted.ends_with(&pushed.digest().to_string()), "{output}");
    assert!(output.contains("refused app/release:v8: robot:nightly may not"), "{output}");
}
