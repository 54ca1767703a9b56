//! [`SmallDisk`]: a file system that is soon full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; it goes when it is dropped.
pub(super) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// With limits as `mount` takes them for a tmpfs.
    pub(super) fn mount(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", limits, "tmpfs"]).arg(folder.path());
        let mounted = mount.status().unwrap().success();
        assert!(mounted, "only root may mount a small disk: run the tests as root");
        Self(folder)
    }

    /// Where a registry can be.
    pub(super) fn registry(&self) -> PathBuf {
        self.path().join("registry")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Takes all the room but for so many bytes.
    pub(super) fn fill(&self, but_for: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        let full = filler.metadata().unwrap().len();
        filler.set_len(full - but_for).unwrap();
    }

    /// Makes so many files that not one more can be made.
    pub(super) fn fill_with_files(&self) {
        fs::create_dir(self.filler()).unwrap();
        let is_made = |number| File::create(self.filler().join(format!("{number}"))).is_ok();
        assert!((0..10_000).any(|number: u32| !is_made(number)), "there is no end of files");
    }

    pub(super) fn free(&self) {
        let filler = self.filler();
        if filler.is_dir() {
            fs::remove_dir_all(filler).unwrap();
        } else {
            fs::remove_file(filler).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a server that was just told to stop may have a file open.
        let mut umount = Command::new("umount");
        assert!(umount.arg("--lazy").arg(self.path()).status().unwrap().success());
    }
}
