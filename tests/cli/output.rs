//! Output of successful operations: only the result is on standard output.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::identity::{alice, provider};
use crate::sandbox::{Run, Sandbox, TBD};

#[test]
fn closed_output_ends_the_program_quietly() {
    let sandbox = Sandbox::new();
    for line in ["--list-repositories", "--whoami", "--help", "--version"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sandbox.command(&format!("--quiet {line}"));
        let Run { code, stderr, .. } = sandbox.finish_into(&mut command, writer);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
    }
}

#[test]
fn default_registry_is_named_unless_chosen() {
    let sandbox = Sandbox::new();
    let stderr = |line: &str| sandbox.run(line).stderr;
    assert_snapshot!(stderr("--list-repositories"), @"note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)");
    for line in ["--list-repositories", "--whoami --output json", "--list-repositories --quiet"] {
        assert_eq!(stderr(line), "", "{line}: the note is printed once on a machine");
    }
    // Without a cache folder, the note is printed each time.
    let sandbox = Sandbox::new();
    sandbox.write(".cache", "no folder");
    let stderr = |line: &str| sandbox.run(line).stderr;
    assert_eq!(stderr("--list-repositories --quiet"), "");
    assert_eq!(stderr("--whoami"), stderr("--list-repositories"));
    assert!(stderr("--whoami --output json").starts_with("{\"note\":\"the registry is "));
    assert_eq!(stderr("--list-repositories --registry local:"), "");
    let mut chosen = sandbox.command("--list-repositories");
    assert_eq!(sandbox.finish(chosen.env("ARK_REGISTRY", "local:")).stderr, "");
    sandbox.write("config/ark/container.toml", "registry = 'local:'");
    assert_eq!(stderr("--list-repositories"), "");
}

#[test]
fn configuration_file_sets_options() {
    let sandbox = Sandbox::new();
    let file = format!("registry = 'local:here'\norganization = '{TBD}'\noutput = 'json'\n");
    sandbox.write("config/ark/container.toml", file);
    assert!(sandbox.printed("--create-repository a").starts_with('{'));
    assert!(sandbox.path("config/ark/here").is_dir(), "relative to the file");
    let url = sandbox.printed("--create-repository a --output table");
    assert_eq!(url, format!("127.0.0.1:5050/prod/{TBD}/a\n"));
}

#[test]
fn verbose_output_has_decisions_and_no_password() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let login = sandbox.run(&format!("--verbose --login a --organization {TBD}"));
    assert!(login.stderr.contains("ark::audit"), "{}", login.stderr);
    let signature = login.stdout.trim().rsplit('.').next().unwrap();
    assert!(!login.stderr.contains(signature));
    let push = format!("--verbose --push a --from oci:image --organization {TBD}");
    sandbox.write_image("image", "hello");
    let push = sandbox.run(&push);
    assert_eq!(push.code, 0, "{push:?}");
    assert!(!push.stderr.contains("Basic ") && !push.stderr.contains("eyJ"), "{}", push.stderr);
}

#[test]
fn warnings_are_printed_once_in_the_format_of_the_output() {
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    sandbox.write("token", provider().token(&alice()).unwrap());
    fs::set_permissions(sandbox.path("token"), Permissions::from_mode(0o644)).unwrap();
    sandbox.write(".cache", "no folder");
    let run = |more: &str| {
        let line = format!("--push a --from oci:image --create --organization {TBD} {more}");
        let mut command = sandbox.command(&line);
        command.env("ARK_JWT_FILE", "token").env("ARK_REGISTRY", "local:");
        let run = sandbox.finish(&mut command);
        assert_eq!(run.code, 0, "{run:?}");
        run.stderr
    };
    let reported = run("");
    let warnings =
        reported.lines().filter(|line| line.starts_with("warning: ")).collect::<Vec<_>>();
    assert_snapshot!(warnings.join("\n"), @"
    warning: other users can read the token in token; restrict it: chmod 600 token
    warning: the push cache in ~/.cache/ark/push cannot be used: ~/.cache is a file, not a folder; replace or remove it
    ");
    assert!(
        reported.lines().all(|line| line.starts_with("warning: ") || line.starts_with("note: "))
    );
    assert_eq!(run("--quiet"), "");
    for more in ["--output json", "--verbose --output json"] {
        let reported = run(more);
        let records: Vec<Value> =
            reported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count =
            |label: &str| records.iter().filter(|record| record.get(label).is_some()).count();
        assert_eq!(count("warning"), warnings.len(), "{reported}");
        assert_eq!(count("log") > 0, more.contains("--verbose"), "{reported}");
    }
}

#[test]
fn reader_may_stop_after_the_first_line() {
    let sandbox = Sandbox::new();
    for index in 0..3 {
        sandbox.printed(&format!("--create-repository a{index} --organization {TBD}"));
    }
    let mut command = sandbox.command("--quiet --list-repositories");
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 41];
    process.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first[..], b"Organization                         URL\n");
    drop(process.stdout.take());
    assert!(process.wait().unwrap().code() == Some(0));
}

#[test]
fn help_and_version_are_results() {
    let sandbox = Sandbox::new();
    let version = sandbox.printed("--version");
    assert_eq!(version, format!("ark-catalog-container-tool {}\n", env!("CARGO_PKG_VERSION")));
    assert_snapshot!(sandbox.printed("-h"), @"
    Manages your organizations' container repositories, in AWS ECR or in a local registry

    Usage: ark-catalog-container-tool <OPERATION> [OPTIONS]

    Operations, with or without the two hyphens:
      list-repositories, --list-repositories
              List the repositories of your organizations
      create-repository, --create-repository
              Create a repository, and print its URL
      login, --login
              Print a password for a repository, to pipe into docker login
      logout, --logout
              Delete the registry's cached passwords on this machine, and print the registry
      push, --push
              Upload an image, and print its URL by digest
      pull, --pull
              Fetch an image to this machine, and print its URL by digest
      copy, --copy
              Copy an image from any registry to a repository, and print its new URL by digest
      list-images, --list-images
              List the images of a repository: tags, digest, size, time of the push, platforms
      inspect, --inspect
              Show an image: digest, size, platforms, layers, configuration and referrers
      tag, --tag
              Add a tag to an image, and print its URL by digest
      delete-repository, --delete-repository
              Delete a repository, and print its URL (administrators)
      delete-image, --delete-image
              Delete images by tag or digest, and print the URL of each (administrators)
      prune-images, --prune-images
              Delete the old images of a repository, and print them (administrators)
      serve, --serve
              Serve a local registry until interrupted, and print its address when it is ready
      whoami, --whoami
              Show your identity, organizations, registry and isolation layers
      check-access, --check-access
              Show whether a principal may do an action, by which rule, and which layers enforce it
      iam-policy, --iam-policy
              Print the IAM policies for a registry whose users have tokens and no AWS accounts
      cmake-dir, --cmake-dir
              Print the folder of the CMake module ArkDocker, for -DArkDocker_DIR
      configure-docker, --configure-docker
              Configure docker to log in to your registries automatically, and print their hosts
      completions, --completions
              Print the script with which a shell completes operations, options, repositories and tags
      man, --man
              Write the manual pages into a folder, and print their file names

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
          --registry <LOCATION>  Registry: ecr://HOST/STAGE or local:[DIR] [env: ARK_REGISTRY]
          --output <FORMAT>      Format of results and errors [env: ARK_OUTPUT] [default: table]
                                 [possible values: table, json]
      -q, --quiet                Print only results, errors, and the warning that a password reaches a
                                 whole account
      -v, --verbose              Print a log on standard error
          --memberships <FILE>   File with the members of each organization [env: ARK_MEMBERSHIPS]
          --profile <NAME>       Profile of the AWS configuration, on ecr: only [env: AWS_PROFILE]
          --region <REGION>      Region, on ecr: only; must be the region of the registry's host
    ");
    let help = sandbox.printed("--login --help");
    for part in [
        "Print a password for a repository, to pipe into docker login\n\nThe password is for this",
        "Usage: ark-catalog-container-tool {login|--login} [OPTIONS] <NAME>\n\nArguments:\n",
        "- delete: Read, upload and delete images\n",
        "Global options:\n",
        "Examples:\n  ark-catalog-container-tool --login test/repo --organization GUID \\\n",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert_eq!(sandbox.printed("--help --login"), sandbox.printed("login --help"));
}

#[test]
fn login_at_a_terminal_shows_the_docker_command() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let reported = |line: &str| {
        let reported = sandbox.terminal_output(&format!("{line} --login a --organization {TBD}"));
        let until = reported.find("valid until ").unwrap() + "valid until ".len();
        reported.replace(&reported[until..until + "2026-01-01T00:00:00Z".len()], "TIME")
    };
    assert_snapshot!(reported("--registry local:"), @"
    note: valid until TIME; to use it: ark-catalog-container-tool --login a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --registry local: | docker login --username AWS --password-stdin 127.0.0.1:5050
    note: the registry is not served yet; to serve it: ark-catalog-container-tool --serve --registry local:
    ");
    let server = sandbox.serve();
    let reported = reported("--registry local: --access pull");
    assert_snapshot!(reported.replace(server.line().trim_end(), "127.0.0.1:PORT"), @"note: valid until TIME; to use it: ark-catalog-container-tool --login a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --registry local: --access pull | docker login --username AWS --password-stdin 127.0.0.1:PORT");
    assert_eq!(sandbox.terminal_output(&format!("--quiet --login a --organization {TBD}")), "");
}

/// Replaces every digit of a time with 9.
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
fn push_reports_sent_and_existing_blobs() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox.write_image("image", "hello");
    // The duration is last.
    let push = |tag: &str| {
        let run = sandbox.run(&format!("--push a{tag} --from oci:image --organization {TBD}"));
        run.stderr.rsplit_once("; ").unwrap().0.to_owned()
    };
    assert_snapshot!(push(""), @"
    note: a:latest: blobs sent: 2 (2.3 kB); skipped: 0 (0 B)
    ");
    assert_snapshot!(push(":v2"), @"
    note: a:v2: blobs sent: 0 (0 B); skipped: 2 (2.3 kB)
    ");
    let listed = sandbox.printed(&format!("--list-images a --organization {TBD}"));
    assert!(listed.contains("\nlatest,v2 "), "{listed}");
}

#[test]
fn docker_archive_is_pushed() {
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
    Identity       the named principal (ARK_PRINCIPAL)
    Organizations  * (administrator)
    Memberships    no file: single user
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
    Identity       the named principal (ARK_PRINCIPAL)
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
    Identity       the named principal (ARK_PRINCIPAL)
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
fn robot_login_is_for_pull() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository test/repo --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
    let login = format!("--login test/repo --organization {TBD}");
    let run = sandbox.run_as("robot:nightly", &login);
    assert_snapshot!(run.stderr, @"
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

/// Returns the JSON objects that a run prints.
fn objects(sandbox: &Sandbox, line: &str) -> Vec<Value> {
    let printed = sandbox.printed(&format!("{line} --output json"));
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn object(sandbox: &Sandbox, line: &str) -> Value {
    let mut objects = objects(sandbox, line);
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

/// Removes a time from an object, and checks its format.
fn take_time(object: &mut Value, name: &str) {
    let time = object.as_object_mut().unwrap().remove(name).unwrap();
    let time = time.as_str().unwrap().as_bytes();
    assert!(time.len() == 20 && time[10] == b'T' && time[19] == b'Z', "{time:?}");
}

#[test]
fn repository_json_has_documented_fields() {
    let sandbox = Sandbox::new();
    assert_eq!(objects(&sandbox, "--list-repositories"), Vec::<Value>::new());
    let create = format!(
        "--create-repository a/b --organization {TBD} --immutable-tags --resource-tag team=x=y"
    );
    let expected = json!({
        "organization": TBD,
        "name": "a/b",
        "url": format!("127.0.0.1:5050/prod/{TBD}/a/b"),
        "tag_mutability": "immutable",
        "mutability_exclusions": [],
        "resource_tags": {"team": "x=y"},
    });
    for line in [&create, "--list-repositories"] {
        let mut repository = object(&sandbox, line);
        take_time(&mut repository, "created_at");
        assert_eq!(repository, expected);
    }
    let deleted = object(&sandbox, &format!("--delete-repository a/b --organization {TBD}"));
    assert_eq!(deleted, json!({"url": expected["url"]}));
}

#[test]
fn image_json_has_documented_fields() {
    let sandbox = Sandbox::new();
    let url = sandbox.push("a:v1");
    let (repository, digest) = url.trim().split_once('@').unwrap();
    let mut image = object(&sandbox, &format!("--list-images a --organization {TBD}"));
    take_time(&mut image, "pushed_at");
    assert!(image["size"].as_u64().unwrap() > 1000);
    image.as_object_mut().unwrap().remove("size");
    let expected = json!({
        "tags": ["v1"],
        "digest": digest,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "platforms": ["linux/amd64"],
        "state": "active",
    });
    assert_eq!(image, expected);
    let deleted = object(&sandbox, &format!("--delete-image a:v1 --organization {TBD}"));
    assert_eq!(deleted, json!({"url": format!("{repository}:v1")}));
}

#[test]
fn push_json_has_documented_fields() {
    let sandbox = Sandbox::new();
    let url = sandbox.push("a:v1");
    let push = format!("--push a:v2 --from oci:pushed --organization {TBD}");
    let mut pushed = object(&sandbox, &push);
    assert!(pushed["bytes_skipped"].as_u64().unwrap() > 1000);
    pushed.as_object_mut().unwrap().remove("bytes_skipped");
    let seconds = pushed.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0);
    let expected = json!({
        "url": url.trim(), "tag": "v2", "blobs_sent": 0, "bytes_sent": 0, "blobs_skipped": 2,
        "blobs_mounted": 0, "bytes_mounted": 0, "bytes_resumed": 0, "bytes_saved": 0, "retries": 0,
    });
    assert_eq!(pushed, expected);
}

#[test]
fn login_json_has_documented_fields() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let mut login = object(&sandbox, &format!("--login a --organization {TBD}"));
    take_time(&mut login, "expires_at");
    let password = login.as_object_mut().unwrap().remove("password").unwrap();
    assert!(password.as_str().unwrap().len() > 100);
    let expected = json!({
        "host": "127.0.0.1:5050",
        "username": "AWS",
        "scope": format!("repository:prod/{TBD}/a:pull,push"),
        "narrowed": true,
    });
    assert_eq!(login, expected);
}

#[test]
fn whoami_json_has_documented_fields() {
    let sandbox = Sandbox::with_memberships();
    let run = sandbox.run_as("user:carol", "--whoami --output json");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let expected = json!({
        "principal": "user:carol",
        "kind": "user",
        "identity": {
            "kind": "local_user",
            "origin": "ARK_PRINCIPAL",
            "token_file": null,
            "key_set": null,
        },
        "organizations": [{"organization": TBD, "administrator": true}],
        "memberships_file": "~/data/ark/registry/memberships.toml",
        "audit_file": null,
        "registry": "local:~/data/ark/registry",
        "host": "127.0.0.1:5050",
        "served_at": null,
        "aws": null,
        "credentials_narrowed_to": "repository",
        "isolation_layers": ["policy", "credentials"],
    });
    assert_eq!(report, expected);
}

#[test]
fn serve_json_has_address_and_directory() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve_with("--output json");
    let served: Value = serde_json::from_str(server.line()).unwrap();
    let whoami = object(&sandbox, "--whoami");
    assert_eq!(served["address"], whoami["served_at"]);
    assert_eq!(served["directory"], sandbox.path("data/ark/registry").to_str().unwrap());
}

#[test]
fn notes_are_json() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("--list-repositories --output json");
    let note: Value = serde_json::from_str(&run.stderr).unwrap();
    assert!(note["note"].as_str().unwrap().contains("none was chosen"), "{note}");
}

#[test]
fn server_prints_its_address_and_ends_on_signals() {
    for signal in ["-INT", "-TERM"] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve();
        let address = server.line().trim_end().to_owned();
        assert!(std::net::TcpStream::connect(&address).is_ok(), "{address}");
        assert_eq!(server.end_by(signal), (Some(0), String::new()));
        assert!(std::net::TcpStream::connect(&address).is_err(), "{address}");
    }
}

#[test]
fn other_operations_find_the_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve();
    let host = server.line().trim_end().to_owned();
    let create = format!("--create-repository a --organization {TBD}");
    assert_eq!(sandbox.printed(&create), format!("{host}/prod/{TBD}/a\n"));
    let whoami = sandbox.printed("--whoami");
    assert!(whoami.contains(&format!("Served         at {host}\n")), "{whoami}");
    // A push starts a temporary server, which must not be used as the server of the registry.
    let url = sandbox.push("a:v1");
    assert!(url.starts_with(&format!("{host}/prod/{TBD}/a@sha256:")), "{url}");
    assert_eq!(server.end_by("-TERM"), (Some(0), String::new()));
    assert!(sandbox.printed("--whoami").contains("Served         no"));
}

#[test]
fn printed_urls_and_paths_are_accepted_back() {
    let sandbox = Sandbox::new();
    sandbox.write_image("sample", "hello");
    let printed = |line: &str| sandbox.printed(line).trim_end().to_owned();
    let url = printed(&format!("--create-repository test/repo --organization {TBD}"));
    let (_, path) = url.split_once('/').unwrap();
    let path_at_localhost = format!("localhost:5050/{path}");
    let image = printed(&format!("--push {path}:v1 --from oci:sample --quiet"));
    let images = printed(&format!("--list-images {url}"));
    for line in [
        format!("--create-repository {url}"),
        format!("--create-repository https://{path_at_localhost}"),
        format!("--list-images {image}"),
        format!("--list-images https://{url}:v1"),
        format!("--inspect http://{url}:v1"),
        format!("--tag {url}:v1 stable"),
        format!("--check-access --action pull --repository {image}"),
        format!("--prune-images https://{url} --keep 9"),
        format!("--login {image}"),
        format!("--login {path}"),
        format!("--login {url} --organization {TBD}"),
        format!("--pull {image} --to oci:pulled"),
        format!("--pull {url}:v1 --to oci:pulled"),
        format!("--push {url}:v2 --from oci:sample"),
        format!("--copy {image} --to {url}:v3"),
        format!("--copy {path}:v1 --to other/repo:v3 --to-organization {TBD}"),
        format!("--delete-image {url}:v2"),
        format!("--delete-image {url}:v3"),
    ] {
        if line.contains("other/repo") {
            printed(&format!("--create-repository other/repo --organization {TBD}"));
        }
        printed(&format!("{line} --quiet"));
    }
    printed(&format!("--delete-image {url}:stable"));
    assert_eq!(printed(&format!("--list-images {path}")), images);
    for operation in ["--delete-repository", "--prune-images --untagged"] {
        let run = sandbox.run(&format!("{operation} {image} --quiet"));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
        assert!(run.stderr.contains(&format!("--delete-image {image}")), "{run:?}");
    }
    printed(&format!("--delete-repository https://{url} --force"));
    assert!(!sandbox.printed("--list-repositories").contains("test/repo"));
}

#[test]
fn url_of_another_registry_or_stage_is_rejected() {
    let sandbox = Sandbox::new();
    let reported = |name: String| {
        let run = sandbox.run(&format!("--create-repository {name} --organization {TBD} --quiet"));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{name}");
        run.stderr
    };
    assert_snapshot!(reported(format!("registry.example/prod/{TBD}/a")), @"
    error: registry.example/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a names the registry registry.example, not 127.0.0.1:5050; the name of an image in another registry starts with docker://
      help: choose its registry: --registry LOCATION, or ARK_REGISTRY
    ");
    assert_snapshot!(reported(format!("dev/{TBD}/a")), @"
    error: dev/2ea25035-6aa4-42fb-9955-92288ea1b972/a belongs to the stage dev, but this registry uses the stage prod
      help: choose its registry: --registry LOCATION, or ARK_REGISTRY
    ");
    assert_snapshot!(reported("my.team/a".to_owned()), @"
    error: my.team/a names the registry my.team, not 127.0.0.1:5050; the name of an image in another registry starts with docker://
      help: if this is a name, use the path: prod/2ea25035-6aa4-42fb-9955-92288ea1b972/my.team/a
    ");
}
