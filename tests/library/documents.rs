//! The documents of the repository: links, quoted errors and environment variables.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::architecture::{rust_files, workspace};

/// Returns every Markdown file of the workspace.
fn documents() -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![workspace()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".md") {
                files.push(path);
            }
        }
    }
    files
}

/// Returns the text of every Rust file below the folders.
fn sources(folders: &[&str]) -> String {
    let mut text = String::new();
    for folder in folders {
        let folder = workspace().join(folder);
        for file in rust_files(&folder) {
            text += &fs::read_to_string(folder.join(file)).unwrap();
        }
    }
    text
}

/// Returns the lines outside of code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut is_fenced = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fence && !is_fenced && !line.starts_with("    ")
    };
    text.lines().filter(is_prose).collect()
}

/// Returns the fragments by which links reach the headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_documents_lead_to_files_and_headings() {
    let documents = documents();
    assert!(documents.len() > 15, "{documents:?}");
    let mut broken = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        let links = prose(&text).into_iter().flat_map(|line| line.split("](").skip(1));
        for target in links.filter_map(|rest| rest.split(')').next()) {
            // Items in the guide of the library, which rustdoc checks, and other sites.
            if target.contains("::") || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let has_fragment = |text: String| anchors(&text).contains(fragment);
            let leads_there = file.exists()
                && (fragment.is_empty() || fs::read_to_string(&file).is_ok_and(has_fragment));
            if !leads_there {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn errors_quoted_in_troubleshooting_exist() {
    let sources = sources(&["ark-container-core/src", "ark-container-cli/src", "tests/cli"]);
    let page = fs::read_to_string(workspace().join("docs/troubleshooting.md")).unwrap();
    let mut count = 0;
    for line in page.lines().filter(|line| line.starts_with("    ")) {
        let Some((kind, quote)) = line.trim_start().split_once(": ") else { continue };
        if !["error", "help", "docker-credential-ark"].contains(&kind) {
            continue;
        }
        for fragment in quote.split('…').map(str::trim).filter(|text| text.len() >= 12) {
            assert!(sources.contains(fragment), "{fragment}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn reference_lists_every_environment_variable() {
    let variables = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("ARK_")).map(str::to_owned).collect()
    };
    let sources = sources(&["ark-container-core/src", "ark-container-cli/src"]);
    let constants = sources.lines().filter(|line| line.contains("_VARIABLE: &str = "));
    let mut defined: BTreeSet<String> = constants.flat_map(variables).collect();
    // The credential helper sets it for the helpers that it runs.
    defined.remove("ARK_WITHIN_CREDENTIAL_HELPER");
    let reference = fs::read_to_string(workspace().join("ark-container-cli/README.md")).unwrap();
    assert_eq!(variables(&reference), defined);
}
