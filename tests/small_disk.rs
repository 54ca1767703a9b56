//! [`SmallDisk`]: a file system that is soon full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; it goes when it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it on a folder, with limits as `mount` takes them for a tmpfs.
    pub(crate) fn mount(folder: &Path, limits: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", limits, "tmpfs"]).arg(folder);
        let mounted = mount.status().unwrap().success();
        assert!(mounted, "only root may mount a small disk: run the tests as root");
        Self(folder.to_path_buf())
    }

    /// Takes all the room but for so many bytes.
    pub(crate) fn fill(&self, but_for: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        let full = filler.metadata().unwrap().len();
        filler.set_len(full - but_for).unwrap();
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
        // Lazily, since a server that was just told to stop may have a file open.
        let mut umount = Command::new("umount");
        assert!(umount.arg("--lazy").arg(&self.0).status().unwrap().success());
    }
}
