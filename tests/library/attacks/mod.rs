//! Attempts to reach another organization. `tests/README.md` lists every attack and the tests that show that it fails.

mod aws;
mod names;

use std::collections::BTreeSet;
use std::fs;

use crate::architecture::{rust_files, workspace};

const LIST: &str = include_str!("../../README.md");

#[test]
fn listed_attacks_have_tests() {
    let table = LIST.split("\n## Attacks\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 15, "{rows:?}");
    let named: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| {
            let tests: Vec<_> =
                row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
            assert!(!tests.is_empty(), "{row}");
            tests
        })
        .collect();
    let mut functions = BTreeSet::new();
    for folder in ["ark-container-core/src", "tests"] {
        let folder = workspace().join(folder);
        for file in rust_files(&folder) {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            let after = text.split("fn ").skip(1);
            functions.extend(after.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
    let missing: Vec<_> = named.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Every test of this folder is in the table.
    for (file, text) in [("aws", include_str!("aws.rs")), ("names", include_str!("names.rs"))] {
        for test in text.split("#[t").skip(1).filter_map(|rest| rest.split("fn ").nth(1)) {
            let name = test.split_once('(').unwrap().0;
            assert!(named.contains(name), "{file}: {name}");
        }
    }
}
