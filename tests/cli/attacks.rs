//! Attacks on other organizations with the program. `tests/README.md` lists every attack.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::{Access, OrganizationId, Scope};
use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;
use tokio::runtime::Runtime;

use crate::access::{Account, OURS, PEOPLE, THEIRS};
use crate::sandbox::{OTHER, Run, Sandbox, TBD};
use crate::tools::Curl;

const USAGE_CODE: i32 = 2;
const NOT_PERMITTED_CODE: i32 = 4;

/// Runs the program as alice of [`TBD`], with arguments that may contain spaces.
fn alice(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let mut command = sandbox.command("--quiet");
    sandbox.finish(command.args(arguments).env("ARK_PRINCIPAL", "user:alice"))
}

#[test]
fn foreign_organization_is_denied_in_every_spelling() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository there --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    let upper = "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE";
    for (spelling, code) in [
        (OTHER.to_owned(), NOT_PERMITTED_CODE),
        (format!("{{{OTHER}}}"), NOT_PERMITTED_CODE),
        (format!(" {OTHER} "), NOT_PERMITTED_CODE),
        (upper.to_owned(), NOT_PERMITTED_CODE),
        (OTHER.replace('-', ""), USAGE_CODE),
        (format!("urn:uuid:{OTHER}"), USAGE_CODE),
        (format!("{OTHER}x"), USAGE_CODE),
        (format!("{TBD}x"), USAGE_CODE),
        (format!("{TBD}/../{OTHER}"), USAGE_CODE),
        (format!("{TBD},{OTHER}"), USAGE_CODE),
        (OTHER.replacen('1', "\u{ff11}", 1), USAGE_CODE),
        (OTHER.replacen('-', "\u{2010}", 1), USAGE_CODE),
        ("*".to_owned(), USAGE_CODE),
        (String::new(), USAGE_CODE),
    ] {
        for operation in ["--list-images", "--login", "--create-repository", "--delete-repository"]
        {
            let run = alice(&sandbox, &[operation, "there", "--organization", &spelling]);
            assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{spelling:?}: {run:?}");
        }
        let run = alice(&sandbox, &["--list-repositories", "--organization", &spelling]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{spelling:?}: {run:?}");
    }
    // Her own organization is accepted in each valid spelling.
    for spelling in [TBD.to_uppercase(), format!("{{{TBD}}}"), format!(" {TBD}")] {
        let run = alice(&sandbox, &["--create-repository", "own", "--organization", &spelling]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains(&format!("/prod/{TBD}/own")), "{run:?}");
    }
}

#[test]
fn crafted_names_are_rejected() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository there --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    let before = std::fs::read_dir(sandbox.path("data/ark/registry")).unwrap().count();
    let long = "a".repeat(10_000);
    let (up, encoded) = (format!("../{OTHER}/there"), format!("..%2f{OTHER}%2fthere"));
    let (absolute, deep) = (format!("/prod/{OTHER}/there"), format!("a/../../{OTHER}/there"));
    for name in [
        &up,
        &encoded,
        &absolute,
        &deep,
        "..",
        ".",
        "a//b",
        "a/",
        "There",
        "a b",
        "a\\b",
        "a\nb",
        "a*",
        "\u{0430}pp",
        "app\u{200b}",
        "app\u{202e}",
        "\u{ff41}pp",
        &long,
    ] {
        for operation in
            ["--create-repository", "--list-images", "--login", "--delete-repository", "--push"]
        {
            let mut arguments = vec![operation, name, "--organization", TBD];
            if operation == "--push" {
                arguments.extend(["--from", "oci:nothing"]);
            }
            let run = alice(&sandbox, &arguments);
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (USAGE_CODE, ""),
                "{operation} {name:.60}: {run:?}"
            );
            assert!(run.stderr.len() < 1_000, "the error repeats a long name");
        }
    }
    assert_eq!(std::fs::read_dir(sandbox.path("data/ark/registry")).unwrap().count(), before);
    let rest = sandbox.run_as("user:bob", "--list-repositories");
    assert!(rest.stdout.contains("/there\n"), "{rest:?}");
}

#[test]
fn memberships_file_writable_by_others_is_rejected() {
    let sandbox = Sandbox::with_memberships();
    let file = sandbox.path("data/ark/registry/memberships.toml");
    let list = format!("--list-repositories --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &list).code, 0);
    for mode in [0o666, 0o664, 0o646, 0o622] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for principal in ["user:alice", "user:carol", "robot:nightly"] {
            let run = sandbox.run_as(principal, &list);
            assert_eq!((run.code, run.stdout.as_str()), (USAGE_CODE, ""), "{mode:o}: {run:?}");
            assert!(run.stderr.contains("chmod go-w"), "{run:?}");
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(sandbox.run_as("user:alice", &list).code, 0);
}

#[test]
fn memberships_folder_writable_by_others_is_rejected() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("shared/memberships.toml", crate::sandbox::MEMBERSHIPS);
    let folder = file.parent().unwrap();
    let run = || {
        let mut command = sandbox.command("--list-repositories");
        command.env("ARK_PRINCIPAL", "user:alice").env("ARK_MEMBERSHIPS", &file);
        sandbox.finish(&mut command)
    };
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run().code, USAGE_CODE, "{:?}", run());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run().code, 0, "{:?}", run());
}

#[test]
fn removed_memberships_file_is_rejected() {
    let sandbox = Sandbox::with_memberships();
    let file = sandbox.path("data/ark/registry/memberships.toml");
    let create = format!("--create-repository a --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:alice", &create).code, 4);
    fs::rename(&file, sandbox.path("moved")).unwrap();
    let run = sandbox.run_as("user:alice", &create);
    assert_snapshot!(format!("exit {}\n{}", run.code, run.stderr), @"
    exit 2
    error: the registry had memberships, and its memberships file ~/data/ark/registry/memberships.toml does not exist
      help: restore the file, or choose another one: --memberships FILE; if you are the only user of the registry: rm ~/data/ark/registry/had-memberships
    ");
    // A dangling link is not a missing file either.
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    let run = sandbox.run_as("user:alice", &create);
    assert!(run.code == 1 && run.stderr.contains("nowhere, which does not exist"), "{run:?}");
    fs::remove_file(&file).unwrap();
    let chosen = format!("{create} --memberships moved");
    assert_eq!(sandbox.run_as("user:alice", &chosen).code, 4);
    fs::remove_file(sandbox.path("data/ark/registry/had-memberships")).unwrap();
    assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
}

#[test]
fn links_in_the_registry_folder_are_ignored() {
    let sandbox = Sandbox::with_memberships();
    let image = SampleImage::new("secret");
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    for line in [
        format!("--create-repository there --organization {OTHER}"),
        format!("--push there:v1 --from oci:image --organization {OTHER}"),
    ] {
        assert_eq!(sandbox.run_as("user:bob", &line).code, 0, "{line}");
    }
    let create = format!("--create-repository own --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &create).code, 0);

    // The folder that contains the folders of both organizations.
    let stage = find(&sandbox.path("data/ark/registry"), OTHER);
    let (ours, theirs) = (stage.join(TBD), stage.join(OTHER));
    symlink(theirs.join("there"), ours.join("link")).unwrap();
    symlink(&theirs, ours.join("all")).unwrap();
    symlink("/etc", ours.join("etc")).unwrap();

    let list = format!("--list-repositories --organization {TBD}");
    let listed = sandbox.run_as("user:alice", &list);
    assert_eq!(
        listed.stdout.lines().filter(|line| line.contains("/prod/")).count(),
        1,
        "{listed:?}"
    );
    let server = sandbox.serve();
    let curl = Curl::new(server.host(), Some(&password_for(&sandbox, TBD)));
    for name in ["link", "all/there", "etc"] {
        let run =
            sandbox.run_as("user:alice", &format!("--list-images {name} --organization {TBD}"));
        assert_eq!((run.code, run.stdout.as_str()), (5, ""), "{name}: {run:?}");
        for url in ["manifests/v1", "tags/list", &format!("manifests/{}", image.digest())] {
            let answer = curl.send("GET", &format!("/v2/prod/{TBD}/{name}/{url}"), &[]);
            assert_eq!(answer.status, 404, "{name} {url}: {answer:?}");
        }
    }
}

/// Returns a password for everything in an organization.
fn password_for(sandbox: &Sandbox, organization: &str) -> String {
    let backend = LocalBackend::open(Some(&sandbox.path("data/ark/registry"))).unwrap();
    let organization: OrganizationId = organization.parse().unwrap();
    let scope = Scope::organizations(backend.stage(), [organization], Access::Delete);
    let credentials =
        Runtime::new().unwrap().block_on(backend.credentials(&scope, &Default::default())).unwrap();
    credentials.password.expose().to_owned()
}

/// Returns the folder that contains a folder called `name`.
fn find(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join(name).is_dir() {
            return folder;
        }
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir()));
    }
    panic!("no folder {name}");
}

#[test]
fn variables_do_not_rename_the_bearer_of_a_token() {
    let account = Account::new();
    let alice = account.token_file(&PEOPLE[0].token());
    let dora = "user:dora";
    let delete = format!("--delete-repository app --force --organization {OURS}");
    let foreign = format!("--list-images app --organization {THEIRS}");
    for line in [delete, foreign] {
        let mut command = account.bearer(&alice, &line);
        command
            .env("ARK_PRINCIPAL", dora)
            .env("USER", "dora")
            .env("LOGNAME", "dora")
            .env("ARK_MEMBERSHIPS", account.sandbox.path("memberships.toml"));
        let run = account.sandbox.finish(&mut command);
        assert_ne!(run.code, 0, "{line}: {run:?}");
        assert!(!run.stderr.contains("user:dora may not"), "{run:?}");
    }
}
