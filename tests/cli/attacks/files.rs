//! Files that somebody else has written, or could.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use ark_container_core::testing::SampleImage;

use crate::isolation::tokens::Tokens;
use crate::sandbox::{OTHER, Sandbox, TBD};

const USAGE: i32 = 2;

#[test]
fn a_memberships_file_that_others_can_write_opens_nothing() {
    let sandbox = Sandbox::with_memberships();
    let file = sandbox.path("data/ark/registry/memberships.toml");
    let list = format!("--list-repositories --organization {TBD}");
    assert_eq!(sandbox.run_as("user:alice", &list).code, 0);
    for mode in [0o666, 0o664, 0o646, 0o622] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for principal in ["user:alice", "user:carol", "robot:nightly"] {
            let run = sandbox.run_as(principal, &list);
            assert_eq!((run.code, run.stdout.as_str()), (USAGE, ""), "{mode:o}: {run:?}");
            assert!(run.stderr.contains("chmod go-w"), "{run:?}");
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(sandbox.run_as("user:alice", &list).code, 0);
}

#[test]
fn a_memberships_file_in_a_folder_that_others_can_write_opens_nothing() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("shared/memberships.toml", crate::sandbox::MEMBERSHIPS);
    let folder = file.parent().unwrap();
    let run = || {
        let mut command = sandbox.command("--list-repositories");
        command.env("ARK_PRINCIPAL", "user:alice").env("ARK_MEMBERSHIPS", &file);
        sandbox.finish(&mut command)
    };
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run().code, USAGE, "{:?}", run());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run().code, 0, "{:?}", run());
}

#[test]
fn a_link_in_the_folder_of_the_registry_leads_nowhere() {
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

    // Where the organizations' folders are is told by that of a repository.
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
    let tokens = Tokens::serve(&sandbox);
    let curl = tokens.organization_wide(TBD);
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

/// The folder that has a folder called `name`.
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
