//! A disk without room: a clear error, nothing that was acknowledged is lost, and it works once there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ark_container_core::testing::SampleImage;

use super::disk::{self, REGISTRY};
use crate::sandbox::{BINARY, Sandbox, TBD};

/// A small file system in memory; it goes when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"]).arg(folder);
        let mounted = mount.status().unwrap().success();
        assert!(mounted, "only root may mount a small disk: run the tests as root");
        Self(folder.to_path_buf())
    }

    /// Takes all the room but for so many bytes.
    fn fill(&self, but_for: u64) {
        let path = self.0.join("filler");
        let mut filler = File::create(&path).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        let full = filler.metadata().unwrap().len();
        filler.set_len(full - but_for).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

/// Writes the layout of an image whose layer has this length, and says how to push it to `a`.
fn push_line(sandbox: &Sandbox, tag: &str, len: usize) -> String {
    let image = SampleImage::builder().with_seed(len as u64).with_random_layer(len);
    image.build().write_oci_layout(&sandbox.path(tag), None).unwrap();
    format!("--quiet --push a:{tag} --from oci:{tag} --organization {TBD}")
}

fn tags(sandbox: &Sandbox) -> Vec<String> {
    let tags = fs::read_dir(sandbox.path(REGISTRY).join(format!("prod/{TBD}/a/_repository/tags")));
    let mut tags: Vec<_> =
        tags.unwrap().map(|tag| tag.unwrap().file_name().into_string().unwrap()).collect();
    tags.sort();
    tags
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let disk = SmallDisk::mount(&sandbox.path("data"));
    let create = |name: &str| format!("--quiet --create-repository {name} --organization {TBD}");
    let listing = format!("--quiet --list-images a --organization {TBD}");
    sandbox.printed(&create("a"));
    sandbox.printed(&push_line(&sandbox, "v1", 100_000));
    let listed = sandbox.printed(&listing);

    // In the middle of a layer, at its start, and before anything.
    let large = push_line(&sandbox, "v2", 1_000_000);
    for room in [400_000, 8192, 0] {
        disk.fill(room);
        let run = sandbox.run(&large);
        assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{room}: {run:?}");
        assert!(run.stderr.contains("the registry's disk is full"), "{room}: {}", run.stderr);
        assert_eq!(sandbox.printed(&listing), listed);
        assert_eq!(
            disk::leftovers(&sandbox),
            Vec::<PathBuf>::new(),
            "it fills the disk no further"
        );
        disk::check(&sandbox);
        disk.free();
    }
    disk.fill(0);
    let run = sandbox.run(&create("b"));
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
    let listed = sandbox.printed("--quiet --list-repositories");
    assert_eq!(listed.lines().count(), 2, "the header and a: {listed}");
    disk.free();

    sandbox.printed(&large);
    sandbox.printed(&create("b"));
    assert_eq!(tags(&sandbox), ["v1", "v2"]);
    disk::check(&sandbox);
}

#[test]
fn what_is_piped_in_or_saved_needs_room_for_a_while() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--quiet --create-repository a --organization {TBD}"));
    let image = SampleImage::builder().with_random_layer(10_000_000).build();
    let archive = sandbox.path("image.tar");
    image.write_docker_archive(&archive, &["a:1"]).unwrap();
    let script = "#!/bin/sh\ncase $1 in image) printf '%064d' 0;; save) cat \"$ARCHIVE\";; esac\n";
    let docker = sandbox.write("bin/docker", script);
    fs::set_permissions(docker, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let push = |source: &str, folder: &Path| {
        let pipe = if source == "-" { "cat image.tar |" } else { "" };
        let push = format!("--push a:v1 --from {source} --organization {TBD}");
        let line = format!("{pipe} {BINARY} --quiet {push}");
        let mut push = sandbox.shell(&line);
        push.env("TMPDIR", folder).env("PATH", &path).env("ARCHIVE", &archive);
        sandbox.finish(&mut push)
    };
    let small = sandbox.path("small");
    let disk = SmallDisk::mount(&small);
    for (source, name) in [("-", "standard input"), ("docker-daemon:a:1", "docker-daemon:a:1")] {
        let run = push(source, &small);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        let expected =
            format!("there is no room for {name} in ~/small; make some, or set TMPDIR to");
        assert!(run.stderr.contains(&expected), "{run:?}");
        assert_eq!(fs::read_dir(&small).unwrap().count(), 0, "nothing is left");
        assert_eq!(push(source, &sandbox.path("")).code, 0);
    }
    drop(disk);
    assert_ne!(push("-", &sandbox.path("absent")).code, 0);
}

#[test]
fn a_blob_that_the_system_cuts_is_refused_and_pushed_again() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--quiet --create-repository a --organization {TBD}"));
    sandbox.printed(&push_line(&sandbox, "v1", 10_000));
    let large = push_line(&sandbox, "v2", 1_000_000);
    // The limit is in blocks of 512 or 1024 bytes; beyond it, a write fails as on a full disk.
    let mut limited = Command::new("sh");
    let limits = "trap '' XFSZ; ulimit -f 400; exec \"$@\"";
    let tool = sandbox.command(&large);
    limited.args(["-c", limits, "sh"]).arg(tool.get_program()).args(tool.get_args());
    limited.current_dir(sandbox.path("")).env_clear();
    for (name, value) in tool.get_envs() {
        limited.env(name, value.unwrap());
    }
    limited.env("PATH", std::env::var_os("PATH").unwrap());
    let run = sandbox.finish(&mut limited);
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("File too large"), "{}", run.stderr);
    assert_eq!(tags(&sandbox), ["v1"]);
    disk::check(&sandbox);
    sandbox.printed(&large);
    assert_eq!(tags(&sandbox), ["v1", "v2"]);
    disk::check(&sandbox);
}
