//! Standard output and standard error as such.

use std::io::Read as _;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::sandbox::{Run, Sandbox, TBD};

#[test]
fn a_reader_that_is_gone_ends_it_quietly() {
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
fn the_default_registry_is_named_unless_it_was_chosen() {
    let sandbox = Sandbox::new();
    let stderr = |line: &str| sandbox.run(line).stderr;
    assert_snapshot!(stderr("--list-repositories"), @"note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)");
    assert_eq!(stderr("--list-repositories --quiet"), "");
    assert_eq!(stderr("--list-repositories --registry local:"), "");
    let mut chosen = sandbox.command("--list-repositories");
    assert_eq!(sandbox.finish(chosen.env("ARK_REGISTRY", "local:")).stderr, "");
    sandbox.write("config/ark/container.toml", "registry = 'local:'");
    assert_eq!(stderr("--list-repositories"), "");
}

#[test]
fn the_configuration_file_sets_what_options_would() {
    let sandbox = Sandbox::new();
    let file = format!("registry = 'local:here'\norganization = '{TBD}'\noutput = 'json'\n");
    sandbox.write("config/ark/container.toml", file);
    assert!(sandbox.printed("--create-repository a").starts_with('{'));
    assert!(sandbox.path("config/ark/here").is_dir(), "relative to the file");
    let url = sandbox.printed("--create-repository a --output table");
    assert_eq!(url, format!("127.0.0.1:5050/prod/{TBD}/a\n"));
}

#[test]
fn verbose_tells_decisions_and_no_password() {
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
fn a_reader_may_stop_after_the_first_line() {
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
    Lists, creates, logs in to and uploads to your organizations' container repositories

    Usage: ark-catalog-container-tool <OPERATION> [OPTIONS]

    Operations, with or without the two hyphens:
      list-repositories, --list-repositories
              List the repositories of your organizations
      create-repository, --create-repository
              Create a repository, and print its URL
      login, --login
              Print a password for a repository, to pipe into docker login
      logout, --logout
              Forget the registry's passwords that are cached on this machine, and print the registry
      push, --push
              Upload an image, and print its URL by digest
      pull, --pull
              Fetch an image into a folder in the OCI image layout, and print its URL by digest
      copy, --copy
              Copy an image to another repository of the registry, and print its URL there by digest
      list-images, --list-images
              List the images of a repository: tags, digest, size, when pushed, platform
      delete-repository, --delete-repository
              Delete a repository, and print its URL (administrators)
      delete-image, --delete-image
              Delete an image by tag or digest, and print its URL (administrators)
      serve, --serve
              Serve a local registry until interrupted, and print its address when it is ready
      whoami, --whoami
              Show who you are and why, your organizations, the registry, and the isolation layers
      check-access, --check-access
              Say whether a principal may do something, by which rule, and what would enforce it
      iam-policy, --iam-policy
              Print the IAM policies for a registry whose users have tokens and no AWS accounts
      cmake-dir, --cmake-dir
              Print the folder of the CMake module ArkDocker, for -DArkDocker_DIR
      configure-docker, --configure-docker
              Let docker log in by itself to your registries, and print their hosts
      completions, --completions
              Print the script with which a shell completes operations, options, repositories and tags
      man, --man
              Write the manual pages into a folder, and print their files' names

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
          --registry <LOCATION>  Where the repositories are: ecr://HOST/STAGE or local:[DIR] [env:
                                 ARK_REGISTRY]
          --output <FORMAT>      How to print results and errors [env: ARK_OUTPUT] [default: table]
                                 [possible values: table, json]
      -q, --quiet                Print results and errors only
      -v, --verbose              Tell on standard error what is being done
          --memberships <FILE>   Who is a member of which organization [env: ARK_MEMBERSHIPS]
          --profile <NAME>       On ecr:, the profile of the AWS configuration [env: AWS_PROFILE]
          --region <REGION>      On ecr:, the region; it can only agree with the registry's host
    ");
    let help = sandbox.printed("--login --help");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    assert_snapshot!(lines.join("\n"), @r#"
    Print a password for a repository, to pipe into docker login

    The password opens this repository only; on ecr: this takes a role (role_arn in the settings), and
    without one a warning says how far it reaches. It comes from the cache while it is good for a while
    longer. On a terminal the docker command that takes it is shown, and until when it is valid.

    Usage: ark-catalog-container-tool {login|--login} [OPTIONS] <NAME>

    Arguments:
      <NAME>
              The repository's name, such as catalog/extract-video

    Options:
          --organization <GUID>
              The organization's GUID [env: ARK_ORGANIZATION]

          --access <ACCESS>
              How far the password goes [default: push where you may, else pull]

              Possible values:
              - pull:   Read images
              - push:   Read and upload images
              - delete: Read, upload and delete images

          --docker-config <DIR>
              Log docker in, in a configuration of its own, and print the line that makes docker use it

              docker keeps one login for each registry; with a folder for each repository it has as many
              as that. The login is written into DIR/config.json, and no password is printed.

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --registry <LOCATION>
              Where the repositories are: ecr://HOST/STAGE or local:[DIR] [env: ARK_REGISTRY]

              The default is local:, a folder of this machine below $XDG_DATA_HOME.

          --output <FORMAT>
              How to print results and errors [env: ARK_OUTPUT] [default: table]

              Possible values:
              - table: For people: a table, a URL, a password
              - json:  For programs: one JSON object on a line for each result

      -q, --quiet
              Print results and errors only

      -v, --verbose
              Tell on standard error what is being done

          --memberships <FILE>
              Who is a member of which organization [env: ARK_MEMBERSHIPS]

              The default on local: is the file memberships.toml in the registry's folder, if it exists.

          --profile <NAME>
              On ecr:, the profile of the AWS configuration [env: AWS_PROFILE]

          --region <REGION>
              On ecr:, the region; it can only agree with the registry's host

    Examples:
      ark-catalog-container-tool --login test/repo --organization GUID \
          | docker login --username AWS --password-stdin HOST
      ark-catalog-container-tool --login test/repo --organization GUID --access pull \
          | skopeo login --username AWS --password-stdin HOST
      eval "$(ark-catalog-container-tool --login test/repo --organization GUID --docker-config DIR)"

    HOST is the part of the repository's URL before the first slash. Without it docker would log in to
    Docker Hub. podman, skopeo and buildah need --tls-verify=false for a registry on this machine.
    "#);
    assert_eq!(sandbox.printed("--help --login"), sandbox.printed("login --help"));
}

#[test]
fn on_a_terminal_a_login_shows_the_docker_command() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let told = |line: &str| {
        let told = sandbox.told_at_terminal(&format!("{line} --login a --organization {TBD}"));
        let until = told.find("valid until ").unwrap() + "valid until ".len();
        told.replace(&told[until..until + "2026-01-01T00:00:00Z".len()], "TIME")
    };
    assert_snapshot!(told("--registry local:"), @"
    note: valid until TIME; to use it: ark-catalog-container-tool --login a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --registry local: | docker login --username AWS --password-stdin 127.0.0.1:5050
    note: nothing listens there yet; to serve it: ark-catalog-container-tool --serve --registry local:
    ");
    let server = sandbox.serve();
    let told = told("--registry local: --access pull");
    assert_snapshot!(told.replace(server.line().trim_end(), "127.0.0.1:PORT"), @"note: valid until TIME; to use it: ark-catalog-container-tool --login a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --registry local: --access pull | docker login --username AWS --password-stdin 127.0.0.1:PORT");
    assert_eq!(sandbox.told_at_terminal(&format!("--quiet --login a --organization {TBD}")), "");
}
