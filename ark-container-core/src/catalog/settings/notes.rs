//! [`print_once`]: notes that a program prints once on a machine.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use etcetera::BaseStrategy as _;

use crate::private_folder::{Folder, Limits};

const LIMITS: Limits = Limits {
    prefix: "",
    max_bytes: 4 * 1024,
    max_age: Duration::from_secs(365 * 24 * 60 * 60),
    max_files: 64,
};

/// Returns whether a note has not been printed for this user before, and records that it is printed now.
///
/// The notes are in the cache folder of the user, `$XDG_CACHE_HOME/ark/notes`. If the folder cannot be
/// written, a note is printed each time.
pub fn print_once(note: &str) -> bool {
    let Ok(folders) = etcetera::base_strategy::Xdg::new() else { return true };
    let folder = Folder::new(folders.cache_dir().join("ark/notes"), LIMITS);
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    let stem = format!("{:064x}", hasher.finish());
    let is_printed = matches!(folder.read(&stem), Ok(Some(printed)) if *printed == note.as_bytes());
    if !is_printed {
        // A failed write only means that the note is printed again.
        let _ = folder.write(&stem, note.as_bytes()).and_then(|()| folder.sweep());
    }
    !is_printed
}
