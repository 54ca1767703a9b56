//! The workflows of GitHub Actions, the example's too.

use std::fs;
use std::path::{Path, PathBuf};

use super::root;
use crate::python_component::python_component;

/// The workflow files below a folder, but for what was built there.
fn workflows(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let looked_at = paths.filter(|path| !path.is_symlink() && !path.ends_with("target"));
    let in_workflows = folder.ends_with(".github/workflows");
    looked_at
        .flat_map(|path| match path.extension() {
            _ if path.is_dir() => workflows(&path),
            Some(extension) if in_workflows && (extension == "yml" || extension == "yaml") => {
                vec![path]
            }
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn they_are_what_github_takes_and_may_no_more_than_they_need() {
    let workflows = workflows(&root());
    assert!(workflows.iter().any(|path| path.ends_with(".github/workflows/release.yml")));
    let check = python_component("check-jsonschema")
        .args(["--builtin-schema", "vendor.github-workflows"])
        .args(&workflows)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    for path in workflows {
        let text = fs::read_to_string(&path).unwrap();
        let place = path.display();
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{place}: what may it do?");
        for action in text
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            let known = action.starts_with("actions/") && action.contains("@v");
            assert!(known || action.starts_with("./"), "{place}: {action}");
        }
    }
}
