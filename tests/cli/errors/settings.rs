//! Settings that are wrong, and where they came from.

use insta::assert_snapshot;

use super::told;
use crate::sandbox::{Sandbox, TBD};

fn with_variable(name: &str, value: &str, line: &str) -> String {
    let sandbox = Sandbox::new();
    told(&sandbox.finish(sandbox.command(line).env(name, value)))
}

fn with_file(content: &str) -> String {
    let sandbox = Sandbox::new();
    sandbox.write("config/ark/container.toml", content);
    told(&sandbox.run("--list-repositories"))
}

#[test]
fn bad_registry_location() {
    let sandbox = Sandbox::new();
    let line = "--list-repositories --registry https://registry.example";
    assert_snapshot!(told(&sandbox.run(line)), @r#"
    exit 2
    error: --registry: "https://registry.example" is not a valid registry location: expected ecr://<host>/<stage> or local:[<directory>]
      help: as local:, local:/srv/registry or ecr://HOST/prod
    "#);
    assert_snapshot!(with_variable("ARK_REGISTRY", "ecr://a b", "--list-repositories"), @r#"
    exit 2
    error: ARK_REGISTRY: "a b" is not a valid ECR host: expected <account>.dkr.ecr.<region>.amazonaws.com
      help: as ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod
    "#);
}

#[test]
fn bad_variables() {
    let login = "--login a";
    assert_snapshot!(with_variable("ARK_ORGANIZATION", "tbd", login), @r#"
    exit 2
    error: ARK_ORGANIZATION: "tbd" is not a valid organization GUID: expected a hexadecimal digit (32 hexadecimal digits as 8-4-4-4-12) but found 't' at character 1
      help: your organizations: ark-catalog-container-tool --whoami
    "#);
    assert_snapshot!(with_variable("ARK_OUTPUT", "yaml", login), @r#"
    exit 2
    error: ARK_OUTPUT: "yaml" is neither table nor json
    "#);
    assert_snapshot!(with_variable("ARK_PRINCIPAL", "alice", "--quiet --whoami"), @r#"
    exit 2
    error: ARK_PRINCIPAL: "alice" is not a valid principal: expected <kind>:<id>
      help: as user:alice, robot:nightly or ingest-job:42
    "#);
    assert_snapshot!(with_variable("ARK_MEMBERSHIPS", "none.toml", "--quiet --whoami"), @"
    exit 5
    error: file none.toml does not exist
      help: it was chosen as the memberships file, by option, environment or file
    ");
}

#[test]
fn an_empty_variable_is_no_setting() {
    let told = with_variable("ARK_ORGANIZATION", "", "--login a");
    assert!(told.contains("no organization is given"), "{told}");
}

#[test]
fn bad_configuration_file() {
    assert_snapshot!(with_file("output = \"json\"\nregistri = \"local:\"\n"), @"
    exit 2
    error: ~/config/ark/container.toml:2:1: unknown field `registri`, expected one of `registry`, `registries`, `organization`, `output`, `memberships`, `audit_file`, `identity`, `ecr`
    ");
    assert_snapshot!(with_file("# é\norganization = \"tbd\"\n"), @r#"
    exit 2
    error: ~/config/ark/container.toml:2:16: "tbd" is not a valid organization GUID: expected a hexadecimal digit (32 hexadecimal digits as 8-4-4-4-12) but found 't' at character 1
    "#);
    assert_snapshot!(with_file("registry = local:\n"), @"
    exit 2
    error: ~/config/ark/container.toml:1:12: string values must be quoted, expected literal string
    ");
}

#[test]
fn unreadable_configuration_file() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("config/ark/container.toml")).unwrap();
    assert_snapshot!(told(&sandbox.run("--list-repositories")), @"
    exit 1
    error: ~/config/ark/container.toml is a folder, not a file; replace or remove it
    ");
}

#[test]
fn bad_memberships_file() {
    let sandbox = Sandbox::new();
    let memberships = format!("[[organization]]\nid = \"{TBD}\"\nmembers = [\"alice\"]\n");
    sandbox.write("data/ark/registry/memberships.toml", memberships);
    assert_snapshot!(told(&sandbox.run("--quiet --list-repositories")), @r#"
    exit 2
    error: ~/data/ark/registry/memberships.toml:3:12: "alice" is not a valid principal: expected <kind>:<id>
    "#);
    sandbox.write("other.toml", "organization = 1");
    assert_snapshot!(told(&sandbox.run("--quiet --whoami --memberships other.toml")), @"
    exit 2
    error: other.toml:1:16: invalid type: integer `1`, expected a sequence
    ");
}
