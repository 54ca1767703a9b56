//! Invalid settings, and the origin of each in the error.

use std::process::Command;

use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

fn with_variable(name: &str, value: &str, line: &str) -> String {
    let sandbox = Sandbox::new();
    reported(&sandbox.finish(sandbox.command(line).env(name, value)))
}

fn with_file(content: &str) -> String {
    let sandbox = Sandbox::new();
    sandbox.write("config/ark/container.toml", content);
    reported(&sandbox.run("--list-repositories"))
}

#[test]
fn invalid_registry_location_is_rejected() {
    let sandbox = Sandbox::new();
    let line = "--list-repositories --registry https://registry.example";
    assert_snapshot!(reported(&sandbox.run(line)), @r#"
    exit 2
    error: --registry: "https://registry.example" is not a valid registry location: expected ecr://<host>/<stage> or local:[<directory>]
      help: for example: local:, local:/srv/registry or ecr://HOST/prod
    "#);
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com";
    let reported =
        with_variable("ARK_REGISTRY", &format!("https://{host}/dev/"), "--list-repositories");
    assert!(reported.contains(&format!(": expected ecr://{host}/dev\n")), "{reported}");
    assert_snapshot!(with_variable("ARK_REGISTRY", "ecr://a b", "--list-repositories"), @r#"
    exit 2
    error: ARK_REGISTRY: "a b" is not a valid ECR host: expected <account>.dkr.ecr.<region>.amazonaws.com
      help: for example: ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod
    "#);
}

#[test]
fn invalid_variables_are_rejected() {
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
      help: for example: user:alice, robot:nightly or ingest-job:42
    "#);
    assert_snapshot!(with_variable("ARK_MEMBERSHIPS", "none.toml", "--quiet --whoami"), @"
    exit 5
    error: file none.toml does not exist
      help: correct the path of the memberships file: --memberships, ARK_MEMBERSHIPS, or memberships in the configuration file
    ");
}

#[test]
fn tilde_in_a_setting_is_the_home_folder() {
    let sandbox = Sandbox::new();
    let file = "registry = 'local:~/here'\nmemberships = '~/m.toml'\naudit_file = '~/audit'\n";
    sandbox.write("config/ark/container.toml", file);
    sandbox.write("m.toml", format!("[[organization]]\nid = '{TBD}'\nkinds = ['user']\n"));
    let whoami = |command: &mut Command| sandbox.finish(command).stdout;
    let reported = whoami(&mut sandbox.command("--whoami"));
    for line in ["Registry       local:~/here", "Memberships    ~/m.toml", "Audit          ~/audit"]
    {
        assert!(reported.contains(line), "{reported}");
    }
    let reported = whoami(sandbox.command("--whoami").env("ARK_REGISTRY", "local:~/there"));
    assert!(reported.contains("Registry       local:~/there"), "{reported}");
    sandbox.printed(&format!(
        "--create-repository a --registry local:~/elsewhere --memberships=~/m.toml --organization {TBD}"
    ));
    sandbox.write_image("image", "hello");
    let push = format!("--push a --from oci:~/image --metadata-file=~/pushed --organization {TBD}");
    sandbox.printed(&format!("{push} --create"));
    assert!(sandbox.path("pushed").is_file());
    sandbox.printed(&format!("--login a --docker-config=~/docker --organization {TBD}"));
    assert!(sandbox.path("docker/config.json").is_file());
    assert!(!sandbox.path("~").exists() && !sandbox.path("config/ark/~").exists());
}

#[test]
fn home_folder_of_another_user_is_rejected() {
    assert_snapshot!(with_file("registry = 'local:~bob/registry'\n"), @"
    exit 2
    error: ~/config/ark/container.toml: ~bob/registry: only ~ and ~/… are expanded to your home folder
      help: use an absolute path; if ~ is part of the name, put ./ before it
    ");
    for (name, value) in
        [("ARK_REGISTRY", "local:~bob"), ("ARK_JWT_FILE", "~bob/jwt"), ("ARK_KEY_SET", "~bob/keys")]
    {
        let reported = with_variable(name, value, "--whoami");
        assert!(reported.contains(&format!("error: {name}: ~bob")), "{reported}");
    }
    let reported = with_variable("DOCKER_CONFIG", "~/.docker", "--configure-docker");
    assert!(reported.contains("DOCKER_CONFIG: docker takes ~/.docker for a folder"), "{reported}");
}

#[test]
fn wrong_encoding_of_a_file_is_reported() {
    let sandbox = Sandbox::new();
    let reported = |line: &str| reported(&sandbox.run(&format!("--quiet {line}")));
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    sandbox.write("m.toml", [&b"\xff\xfe"[..], &utf16("# x")].concat());
    assert_snapshot!(reported("--whoami --memberships m.toml"), @"
    exit 2
    error: the memberships file m.toml cannot be decoded: it is UTF-16; save it as UTF-8
    ");
    sandbox.write("policy", "\u{feff}{\"rules\": []}");
    let create = format!("--create-repository a --organization {TBD} --lifecycle-policy policy");
    assert_snapshot!(reported(&create), @"
    exit 2
    error: --lifecycle-policy: policy is not JSON: it starts with a byte order mark; save it as UTF-8 without one
    ");
    sandbox.write("config/ark/container.toml", "\u{feff}registry = 'local:'\n");
    assert_eq!(sandbox.run("--whoami").code, 0);
    sandbox.write("config/ark/container.toml", utf16("registry = 'local:'\n"));
    assert_snapshot!(reported("--whoami"), @"
    exit 2
    error: ~/config/ark/container.toml: the configuration file is not TOML: it is UTF-16; save it as UTF-8
    ");
}

#[test]
fn configuration_errors_use_the_configured_output() {
    let sandbox = Sandbox::new();
    let printed = |content: &str, line: &str| {
        sandbox.write("config/ark/container.toml", content);
        sandbox.run(line).stderr
    };
    for content in [
        "output = 'json'\nregistri = 1\n",
        "registry = 'x'\noutput = 'json'\n",
        "output = 'json'\na =\n",
    ] {
        for line in ["--whoami", "--nonsense", "--whoami --registry x"] {
            let stderr = printed(content, line);
            assert!(stderr.starts_with("{\"error\":{"), "{content} {line}: {stderr}");
        }
        for line in ["--whoami --output table", "--output table --whoami"] {
            assert!(printed(content, line).starts_with("error: "), "{content} {line}");
        }
    }
    for line in ["--whoami --output json", "--output=json --whoami"] {
        assert!(printed("registri = 1\n", line).starts_with('{'), "{line}");
    }
}

#[test]
fn empty_variable_is_ignored() {
    let reported = with_variable("ARK_ORGANIZATION", "", "--login a");
    assert!(reported.contains("no organization is given"), "{reported}");
}

#[test]
fn invalid_configuration_file_is_rejected() {
    assert_snapshot!(with_file("output = \"table\"\nregistri = \"local:\"\n"), @"
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
fn unreadable_configuration_file_is_reported() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("config/ark/container.toml")).unwrap();
    assert_snapshot!(reported(&sandbox.run("--list-repositories")), @"
    exit 1
    error: ~/config/ark/container.toml is a folder, not a file; replace or remove it
    ");
}

#[test]
fn invalid_memberships_file_is_rejected() {
    let sandbox = Sandbox::new();
    let memberships = format!("[[organization]]\nid = \"{TBD}\"\nmembers = [\"alice\"]\n");
    sandbox.write("data/ark/registry/memberships.toml", memberships);
    assert_snapshot!(reported(&sandbox.run("--quiet --list-repositories")), @r#"
    exit 2
    error: ~/data/ark/registry/memberships.toml:3:12: "alice" is not a valid principal: expected <kind>:<id>
    "#);
    sandbox.write("other.toml", "organization = 1");
    assert_snapshot!(reported(&sandbox.run("--quiet --whoami --memberships other.toml")), @"
    exit 2
    error: other.toml:1:16: invalid type: integer `1`, expected a sequence
    ");
}
