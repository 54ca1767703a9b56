//! Errors of the command line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

/// Returns the error of an invalid command line, which must create nothing.
fn refused(line: &str) -> String {
    let sandbox = Sandbox::new();
    let reported = reported(&sandbox.run(line));
    assert!(!sandbox.path("data").exists(), "{line} created something");
    reported
}

#[test]
fn missing_operation_is_rejected() {
    let help = Sandbox::new().printed("-h");
    let error = "exit 2\nerror: no operation is given\n  help: list the operations: ark-catalog-container-tool --help\n";
    assert_eq!(refused(""), format!("{error}\n{help}\n"));
    assert_eq!(refused("--quiet"), refused(""));
}

#[test]
fn two_operations_are_rejected() {
    assert_snapshot!(refused("--login a --push b"), @"
    exit 2
    error: two operations are given: --login and --push
      help: run each operation in a command of its own
    ");
    assert_snapshot!(refused("--login a --login=b"), @"
    exit 2
    error: --login is given twice
    ");
}

#[test]
fn unknown_flag_is_rejected() {
    assert_snapshot!(refused("--list-repositorys"), @"
    exit 2
    error: unexpected argument '--list-repositorys' found

      tip: a similar argument exists: '--list-repositories'

    Usage: ark-catalog-container-tool <OPERATION> [OPTIONS]

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--list-repositories --organisation x"), @"
    exit 2
    error: unexpected argument '--organisation' found

      tip: a similar argument exists: '--organization'

    Usage: ark-catalog-container-tool {list-repositories|--list-repositories} --organization <GUID>

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--organisation x --login a"), @"
    exit 2
    error: unexpected argument '--organisation' found

      tip: a similar argument exists: '--organization'

    Usage: ark-catalog-container-tool {login|--login} --organization <GUID> <NAME>

    For more information, try '--help'.
    ");
}

#[test]
fn unknown_operation_is_rejected() {
    assert_snapshot!(refused("lst-images a"), @"
    exit 2
    error: unrecognized subcommand 'lst-images'

      tip: a similar subcommand exists: 'list-images'

    Usage: ark-catalog-container-tool <OPERATION> [OPTIONS]

    For more information, try '--help'.
    ");
}

#[test]
fn missing_operand_is_rejected() {
    assert_snapshot!(refused("--create-repository"), @"
    exit 2
    error: the following required arguments were not provided:
      <NAME>

    Usage: ark-catalog-container-tool {create-repository|--create-repository} <NAME>

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--push a"), @"
    exit 2
    error: the following required arguments were not provided:
      --from <SOURCE>

    Usage: ark-catalog-container-tool {push|--push} --from <SOURCE> <NAME[:TAG]>

    For more information, try '--help'.
    ");
}

#[test]
fn missing_value_is_rejected() {
    assert_snapshot!(refused("--organization --login a"), @"
    exit 2
    error: a value is required for '--organization <GUID>' but none was supplied

    For more information, try '--help'.
    ");
}

#[test]
fn extra_operand_is_rejected() {
    assert_snapshot!(refused("--login a b"), @"
    exit 2
    error: unexpected argument 'b' found

    Usage: ark-catalog-container-tool {login|--login} [OPTIONS] <NAME>

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--list-repositories=a"), @"
    exit 2
    error: unexpected argument 'a' found

    Usage: ark-catalog-container-tool {list-repositories|--list-repositories} [OPTIONS]

    For more information, try '--help'.
    ");
}

#[test]
fn conflicting_options_are_rejected() {
    assert_snapshot!(refused("--whoami --quiet --verbose"), @"
    exit 2
    error: the argument '--quiet' cannot be used with '--verbose'

    Usage: ark-catalog-container-tool {whoami|--whoami} --quiet

    For more information, try '--help'.
    ");
}

#[test]
fn argument_that_is_not_utf8_is_rejected() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("--login");
    command.arg(OsStr::from_bytes(b"a\xff"));
    assert_snapshot!(reported(&sandbox.finish(&mut command)), @r#"
    exit 2
    error: the argument "a\xFF" is not UTF-8
    "#);
}

#[test]
fn missing_organization_is_rejected() {
    for line in [
        "--create-repository a",
        "--login a",
        "--push a --from oci:x",
        "--list-images a",
        "--delete-repository a",
        "--delete-image a:v1",
    ] {
        assert_eq!(refused(line), refused("--login a"), "{line}");
    }
    assert_snapshot!(refused("--login a"), @"
    exit 2
    error: no organization is given
      help: give --organization GUID, or set it once: export ARK_ORGANIZATION=GUID
            ark-catalog-container-tool --whoami shows your organizations
    ");
}

#[test]
fn invalid_organization_is_rejected() {
    assert_snapshot!(refused("--login a --organization tbd"), @r#"
    exit 2
    error: --organization: "tbd" is not a valid organization GUID: expected a hexadecimal digit (32 hexadecimal digits as 8-4-4-4-12) but found 't' at character 1
      help: your organizations: ark-catalog-container-tool --whoami
    "#);
    assert_snapshot!(refused("--login a --organization 2ea25035-6aa4-42fb-9955-92288ea1b97"), @r#"
    exit 2
    error: --organization: "2ea25035-6aa4-42fb-9955-92288ea1b97" is not a valid organization GUID: it is too short: 35 of 36 characters (32 hexadecimal digits as 8-4-4-4-12)
      help: your organizations: ark-catalog-container-tool --whoami
    "#);
    assert_snapshot!(refused("--list-repositories --organization 2ea25035x6aa4"), @r#"
    exit 2
    error: --organization: "2ea25035x6aa4" is not a valid organization GUID: expected a hyphen (32 hexadecimal digits as 8-4-4-4-12) but found 'x' at character 9
      help: your organizations: ark-catalog-container-tool --whoami
    "#);
}

#[test]
fn invalid_repository_name_is_rejected() {
    let create = |name: &str| refused(&format!("--organization {TBD} --create-repository {name}"));
    assert_snapshot!(create("catalog/Extract"), @r#"
    exit 2
    error: "catalog/Extract" is not a valid repository name: upper case 'E' is not allowed at character 9
      help: use lower-case words separated by slashes, such as catalog/extract-video
    "#);
    assert_snapshot!(create("catalog//extract"), @r#"
    exit 2
    error: "catalog//extract" is not a valid repository name: a component is empty, next to the slash at character 9
      help: use lower-case words separated by slashes, such as catalog/extract-video
    "#);
    assert_snapshot!(create("café"), @r#"
    exit 2
    error: "café" is not a valid repository name: 'é' is not allowed at character 4
      help: use lower-case words separated by slashes, such as catalog/extract-video
    "#);
    assert_snapshot!(create("../../etc/passwd"), @r#"
    exit 2
    error: "../../etc/passwd" is not a valid repository name: a component may not start with '.', at character 1
      help: use lower-case words separated by slashes, such as catalog/extract-video
    "#);
}

#[test]
fn long_repository_name_is_rejected() {
    let name = "n".repeat(218);
    assert_snapshot!(refused(&format!("--create-repository {name} --organization {TBD}")), @r#"
    exit 2
    error: "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"… is not a valid repository name: 218 characters, the maximum is 217
      help: use lower-case words separated by slashes, such as catalog/extract-video
    "#);
}

#[test]
fn invalid_tag_or_digest_is_rejected() {
    let push = |image: &str| refused(&format!("--push {image} --from oci:x --organization {TBD}"));
    assert_snapshot!(push("a:v/1"), @r#"
    exit 2
    error: "a:v/1" is not a valid repository name: ':' is not allowed at character 2
      help: use lower-case words separated by slashes, such as catalog/extract-video
    "#);
    assert_snapshot!(push("a:"), @r#"
    exit 2
    error: "" is not a valid tag: it is empty
      help: use letters, digits, '_', '.' and '-', such as v1.2
    "#);
    assert_snapshot!(push(&format!("a@sha256:{}", "0".repeat(64))), @r#"
    exit 2
    error: "a@sha256:0000000000000000000000000000000000000000000000000000000000000000": a push takes a tag
      help: use a tag; the digest of the image is printed after the transfer
    "#);
    let delete = |image: &str| refused(&format!("--delete-image {image} --organization {TBD}"));
    assert_snapshot!(delete("a"), @r#"
    exit 2
    error: "a" names no image: add :TAG or @DIGEST
      help: to delete the whole repository: ark-catalog-container-tool --delete-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    "#);
    assert_snapshot!(delete("a@sha256:12"), @r#"
    exit 2
    error: "sha256:12" is not a valid digest: 2 hexadecimal digits, not 64
    "#);
}

#[test]
fn invalid_choice_is_rejected() {
    assert_snapshot!(refused("--whoami --output yaml"), @"
    exit 2
    error: invalid value 'yaml' for '--output <FORMAT>'
      [possible values: table, json]

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(&format!("--login a --organization {TBD} --access write")), @"
    exit 2
    error: invalid value 'write' for '--access <ACCESS>'
      [possible values: pull, push, delete]

    For more information, try '--help'.
    ");
}

#[test]
fn invalid_resource_tag_is_rejected() {
    let create =
        |tags: &str| refused(&format!("--create-repository a --organization {TBD} {tags}"));
    assert_snapshot!(create("--resource-tag team"), @r#"
    exit 2
    error: --resource-tag: "team" is not KEY=VALUE
    "#);
    assert_snapshot!(create("--resource-tag team=a --resource-tag team=b"), @r#"
    exit 2
    error: --resource-tag: "team" is given twice
    "#);
}

#[test]
fn invalid_listen_address_is_rejected() {
    assert_snapshot!(refused("--serve --listen registry:5050"), @"
    exit 2
    error: invalid value 'registry:5050' for '--listen <[ADDRESS:]PORT>': it is not PORT, localhost:PORT or ADDRESS:PORT

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--serve --listen 0.0.0.0:5050"), @"
    exit 2
    error: --listen 0.0.0.0:5050: passwords would cross the network as plain text
      help: listen on 127.0.0.1:5050, and give others access through a tunnel (ssh -L 5050:127.0.0.1:5050 THIS_HOST) or a proxy that speaks TLS
    ");
}

#[test]
fn json_error_matches_text_error() {
    assert_snapshot!(refused("--output json"), @r#"
    exit 2
    {"error":{"kind":"usage","message":"no operation is given","causes":[],"help":"list the operations: ark-catalog-container-tool --help","exit_code":2}}
    "#);
    assert_snapshot!(refused("--lgoin a --output=json"), @r#"
    exit 2
    {"error":{"kind":"usage","message":"unexpected argument '--lgoin' found","causes":[],"help":"tip: a similar argument exists: '--login'\n\nUsage: ark-catalog-container-tool <OPERATION> [OPTIONS]\n\nFor more information, try '--help'.","exit_code":2}}
    "#);
    assert_snapshot!(refused(&format!("--login A --organization {TBD} --output json")), @r#"
    exit 2
    {"error":{"kind":"usage","message":"\"A\" is not a valid repository name: upper case 'A' is not allowed at character 1","causes":[],"help":"use lower-case words separated by slashes, such as catalog/extract-video","exit_code":2}}
    "#);
}
