//! Checks the dependencies of a program that links the core, by feature. ARCHITECTURE.md has the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::architecture::workspace;

const SECTION: &str = "## Build budget of each feature\n";

/// Crates that no feature may add: command line parsers, and other TLS stacks than rustls on aws-lc-rs.
const NEVER: [&str; 9] = [
    "ark-container-cli",
    "boring-sys",
    "clap",
    "indicatif",
    "native-tls",
    "openssl-sys",
    "ring",
    "s2n-tls",
    "tracing-subscriber",
];
/// Crates with at most one version in a tree.
const ONE_VERSION: [&str; 8] =
    ["aws-lc-rs", "h2", "http", "hyper", "jsonwebtoken", "reqwest", "rustls", "tokio"];

/// A row of the table.
struct Budget {
    features: Vec<String>,
    crates: usize,
    /// Crates that must be absent, or single features of crates: `hyper/server`.
    without: Vec<String>,
}

/// Returns the words in backticks of a cell.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn budgets() -> Vec<Budget> {
    let architecture = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = architecture.split_once(SECTION).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, features, crates, _, _, without, _] = cells[..] else { panic!("{row}") };
        Budget {
            features: quoted(features),
            crates: crates.parse().unwrap(),
            without: quoted(without),
        }
    })
    .collect()
}

/// The dependency tree of the core with some features: the versions and features of each crate.
struct Tree {
    versions: BTreeMap<String, BTreeSet<String>>,
    features: BTreeSet<String>,
}

impl Tree {
    /// Runs `cargo tree` offline, for a target that is the same on every machine.
    fn of(package: &str, features: &[String]) -> Self {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--package", package])
            .args(["--target", "x86_64-unknown-linux-gnu", "--edges", "no-dev"])
            .args(["--no-default-features", "--features", &features.join(",")])
            .args(["--prefix", "none", "--format", "{p}|{f}"])
            .current_dir(workspace())
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let mut found = Self { versions: BTreeMap::new(), features: BTreeSet::new() };
        for line in String::from_utf8(tree.stdout).unwrap().lines() {
            let (package, features) = line.split_once('|').unwrap();
            let mut words = package.split(' ').map(str::to_owned);
            let (name, version) = (words.next().unwrap(), words.next().unwrap());
            found.features.extend(features.split(',').map(|feature| format!("{name}/{feature}")));
            found.versions.entry(name).or_default().insert(version);
        }
        found
    }

    fn crates(&self) -> usize {
        self.versions.values().map(BTreeSet::len).sum()
    }

    fn has(&self, what: &str) -> bool {
        self.versions.contains_key(what) || self.features.contains(what)
    }
}

#[test]
fn features_stay_within_their_budget_of_crates() {
    let mut over = Vec::new();
    for Budget { features, crates, without } in budgets() {
        let tree = Tree::of("ark-container-core", &features);
        let named = features.join(", ");
        if tree.crates() > crates {
            over.push(format!("[{named}] {} crates, {crates} are allowed", tree.crates()));
        }
        let without = without.iter().map(String::as_str).chain(NEVER);
        let brought = without.filter(|what| tree.has(what));
        over.extend(brought.map(|what| format!("[{named}] brings {what}")));
        for name in ONE_VERSION {
            let versions = tree.versions.get(name).map_or(0, BTreeSet::len);
            if versions > 1 {
                over.push(format!("[{named}] {versions} versions of {name}"));
            }
        }
    }
    assert!(
        over.is_empty(),
        "the budget of ARCHITECTURE.md is exceeded; `cargo tree -p ark-container-core -e no-dev \
         --no-default-features --features …` shows by what:\n{}",
        over.join("\n")
    );
}

#[test]
fn quickstart_compiles_at_most_the_crates_of_the_readme() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let (stated, _) = readme.split_once(" crates").unwrap();
    let stated: usize = stated.rsplit(' ').next().unwrap().parse().unwrap();
    let tree = Tree::of("quickstart", &[]);
    assert!(tree.crates() <= stated, "{} crates, README.md states {stated}", tree.crates());
    for name in ["aws-config", "axum", "mockall", "serde-saphyr"] {
        assert!(!tree.has(name), "{name}");
    }
}

#[test]
fn features_have_a_budget() {
    let manifest = fs::read_to_string(workspace().join("ark-container-core/Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let features = manifest["features"].as_table().unwrap().keys();
    // Features whose name starts with an underscore are not part of the API.
    let open = features.filter(|feature| *feature != "default" && !feature.starts_with('_'));
    let alone: BTreeSet<Vec<String>> = open.map(|feature| vec![feature.clone()]).collect();
    let budgeted: BTreeSet<Vec<String>> = budgets().into_iter().map(|row| row.features).collect();
    let missing: Vec<_> = alone.difference(&budgeted).collect();
    assert!(missing.is_empty(), "no row in ARCHITECTURE.md: {missing:?}");
    // A crate that is not in Cargo.lock is a typo.
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for what in budgets().iter().flat_map(|row| &row.without) {
        let name = what.split('/').next().unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\n")), "{name} is not in Cargo.lock");
    }
    // The other rows are no features, the default, and all features.
    assert!(budgeted.contains(&Vec::new()), "no row for no features");
    assert_eq!(budgeted.len(), alone.len() + 3);
}
