//! Runs each target with its seeds and some thousand variations of them, the same ones in each run.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[path = "variation.rs"]
mod variation;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ark_container_fuzz::{TARGETS, Target};
use variation::Variations;

/// The maximum memory of the process of a target.
const MAX_MEMORY_BYTES: u64 = 512 << 20;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()
    };
    fs::read_dir(folder).unwrap().map(name).collect()
}

/// Runs the seeds of a target and `count` variations of them. `ARK_FUZZ_VARIATIONS` overrides the number.
fn replay(name: &'static str, count: usize) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    let asked = std::env::var("ARK_FUZZ_VARIATIONS").ok().map(|count| count.parse().unwrap());
    run((name, target), &seeds, asked.unwrap_or(count));
    let memory = peak_memory();
    assert!(memory < MAX_MEMORY_BYTES, "{name} took {memory} bytes of memory");
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder("seeds").join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run((name, target): Target, seeds: &[Vec<u8>], count: usize) {
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let variations = Variations::of(seeds).take(count);
    for input in seeds.iter().cloned().chain(variations) {
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let shown = input.escape_ascii();
            panic!("{name} failed, as shown above, for the input b\"{shown}\"");
        }
    }
}

/// Returns the peak memory of the process in bytes.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

macro_rules! replay {
    ($($name:ident: $count:expr;)+) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), $count);
            }
        )+

        #[test]
        fn targets_have_seeds_and_fuzzers() {
            let targets = TARGETS.map(|(name, _)| name.to_owned());
            assert_eq!(BTreeSet::from([$(stringify!($name).to_owned()),+]), targets.into());
            assert_eq!(names(&folder("seeds")), TARGETS.map(|(name, _)| name.to_owned()).into());
            let fuzzers = names(&folder("libfuzzer/fuzz_targets"));
            assert_eq!(fuzzers, TARGETS.map(|(name, _)| name.to_owned()).into());
        }
    };
}

replay! {
    answers: 120;
    archive: 800;
    client_headers: 5000;
    location: 5000;
    manifest: 5000;
    memberships: 3000;
    organization: 5000;
    platform: 5000;
    reference: 5000;
    registry: 600;
    repository: 5000;
    scope: 5000;
    server_headers: 5000;
    tag_filter: 5000;
    token: 1500;
}

#[test]
fn failing_variation_is_reported_with_its_input() {
    fn fails(data: &[u8]) {
        assert!(data.len() > 2, "it is short");
    }
    let message = catch_unwind(|| run(("fails", fails), &[b"four".to_vec()], 1000)).unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("fails failed, as shown above, for the input b\""), "{message}");
}
