//! [`SmallDisk`]: a small file system that a test can fill.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory. Dropping it unmounts it.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts the file system on a folder, with the size limits of `mount` for a tmpfs.
    pub(crate) fn mount(folder: &Path, limits: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", limits, "tmpfs"]).arg(folder);
        let mounted = mount.status().unwrap().success();
        assert!(mounted, "only root may mount a small disk: run the tests as root");
        Self(folder.to_path_buf())
    }

    /// Fills the disk except for `free` bytes.
    pub(crate) fn fill(&self, free: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        let full = filler.metadata().unwrap().len();
        filler.set_len(full - free).unwrap();
    }

    pub(crate) fn free(&self) {
        let filler = self.filler();
        if filler.is_dir() {
            fs::remove_dir_all(filler).unwrap();
        } else {
            fs::remove_file(filler).unwrap();
        }
    }

    pub(crate) fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A server that was just stopped may still have a file open, so the unmount is lazy.
        let mut umount = Command::new("umount");
        assert!(umount.arg("--lazy").arg(&self.0).status().unwrap().success());
    }
}
