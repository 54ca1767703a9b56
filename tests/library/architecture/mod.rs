//! Checks the direction of dependencies: `cli → core`, and between the modules of the core as in the table below.
//!
//! Comments, string literals and test modules are ignored.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, exports, test_modules_in_files};

/// The modules that each top-level module of the core may use. A module without a row fails the test.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &["encoding"]),
    ("error", &["model"]),
    ("escape", &[]),
    ("encoding", &[]),
    ("secrets", &["escape"]),
    // The cache names its files by hashes.
    (
        "credentials",
        &[
            "model",
            "error",
            "encoding",
            "escape",
            "secrets",
            "observability",
            "digester",
            "private_folder",
            "files",
        ],
    ),
    ("digester", &["model"]),
    ("private_folder", &["error", "files"]),
    ("observability", &["model", "error"]),
    ("identity", &["model", "error", "encoding", "files"]),
    ("aws_environment", &["error"]),
    (
        "backend",
        &[
            "model",
            "error",
            "escape",
            "secrets",
            "observability",
            "credentials",
            "digester",
            "private_folder",
            "identity",
            "aws_environment",
            "files",
        ],
    ),
    (
        "permission",
        &["model", "error", "observability", "credentials", "identity", "backend", "files"],
    ),
    ("distribution", &["model", "error", "secrets", "observability", "credentials", "digester"]),
    // The backend uses neither `distribution` nor `transfer`: a transfer asks it for credentials.
    // Copies are hashed.
    ("files", &["error", "escape", "encoding", "digester"]),
    ("connection", &["model", "error", "credentials", "backend", "permission", "distribution"]),
    (
        "transfer",
        &[
            "model",
            "error",
            "secrets",
            "observability",
            "credentials",
            "digester",
            "private_folder",
            "files",
            "backend",
            "distribution",
            "connection",
        ],
    ),
    // Documentation only.
    ("guide", &[]),
    // The catalog combines all modules; only tests use it.
    (
        "catalog",
        &[
            "model",
            "error",
            "encoding",
            "escape",
            "files",
            "credentials",
            "digester",
            "private_folder",
            "identity",
            "backend",
            "permission",
            "distribution",
            "connection",
            "transfer",
        ],
    ),
    // Private parsers, re-exported for the fuzz targets.
    ("fuzzing", &["backend", "distribution"]),
    (
        "testing",
        &[
            "model",
            "error",
            "credentials",
            "digester",
            "identity",
            "backend",
            "permission",
            "distribution",
            "transfer",
            "catalog",
        ],
    ),
];

/// Crates and modules that only some modules may use. The model is plain data, for example.
const OUTSIDE: &[(&str, &[&str])] = &[
    (
        "tokio",
        &[
            "backend",
            "connection",
            "credentials",
            "distribution",
            // Waits for the disk in a background thread.
            "files",
            "identity",
            "permission",
            "testing",
            "transfer",
        ],
    ),
    (
        "std::fs",
        &[
            "aws_environment",
            "backend",
            "catalog",
            // Passes open files on.
            "connection",
            "credentials",
            "distribution",
            "identity",
            "permission",
            "files",
            "private_folder",
            "testing",
            "transfer",
        ],
    ),
    ("std::process", &["backend", "credentials", "testing", "transfer"]),
    ("axum", &["backend", "testing"]),
    ("hyper", &["backend", "testing"]),
    ("hyper_util", &["backend", "testing"]),
    // The AWS environment has URLs and certificates. Secrets can be parts of URLs.
    ("reqwest", &["secrets", "aws_environment", "distribution", "identity", "testing"]),
    ("TcpListener", &["backend", "testing"]),
    ("TcpStream", &["backend", "testing"]),
    ("UdpSocket", &[]),
];

/// Files that may open files themselves. All others use the module `files`, which checks for files that another user
/// prepared.
const OPEN_FILES: &[&str] = &[
    // Inside the folder of a registry, which `files` checks as a whole.
    "backend/local/store/",
    "credentials/docker_config.rs",
    // Temporary files, and sources and targets that the user names.
    "transfer/source/spool.rs",
    "transfer/target/archive.rs",
    "testing/",
];

/// A fault of a source file, as a sentence.
type Fault = String;

/// Returns the violations of the tables in one file. `exports` maps each re-export of the crate root to its module.
fn faults(path: &str, text: &str, exports: &BTreeMap<String, String>) -> Vec<Fault> {
    let source = Source::new(path, text);
    let module = source.module.as_str();
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{path}: module {module} has no row in the table")];
    };
    let mut faults = Vec::new();
    for item in source.root_items() {
        let used = exports.get(&item).unwrap_or(&item).as_str();
        if used != module && !allowed.contains(&used) {
            faults.push(format!("{path}: {module} may not use {used} ({item})"));
        }
    }
    for (outside, users) in OUTSIDE {
        if !users.contains(&module) && source.names(outside) {
            faults.push(format!("{path}: {module} may not use {outside}"));
        }
    }
    let opens =
        ["OpenOptions", "File::options", "File::create"].iter().find(|name| source.names(name));
    if let Some(name) = opens
        && !OPEN_FILES.iter().any(|file| path.starts_with(file))
    {
        faults.push(format!("{path}: only the module files may use {name}"));
    }
    faults
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the Rust files below `folder`, relative to it.
pub(crate) fn rust_files(folder: &Path) -> Vec<String> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn core_modules_depend_as_the_table_says() {
    let folder = workspace().join("ark-container-core/src");
    let read = |file: String| (fs::read_to_string(folder.join(&file)).unwrap(), file);
    let files: Vec<(String, String)> = rust_files(&folder).into_iter().map(read).collect();
    assert!(files.len() > 20, "{}", files.len());
    let lib = files.iter().find(|(_, file)| file == "lib.rs").unwrap();
    let exports = exports(&lib.0);
    assert!(exports.len() >= 4, "{exports:?}");
    let tests: Vec<String> =
        files.iter().flat_map(|(text, file)| test_modules_in_files(file, text)).collect();
    let counts = |file: &str| {
        let is_test = |test: &String| {
            let rest = file.strip_prefix(test.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file != "lib.rs" && !tests.iter().any(is_test)
    };
    let counted = files.iter().filter(|(_, file)| counts(file));
    let faults: Vec<Fault> =
        counted.flat_map(|(text, file)| faults(file, text, &exports)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn core_does_not_depend_on_the_cli() {
    let manifest = workspace().join("ark-container-core/Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let mut dependencies = BTreeSet::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let table = manifest.get(kind).and_then(toml::Value::as_table);
        dependencies.extend(table.into_iter().flat_map(toml::Table::keys).cloned());
    }
    assert!(dependencies.contains("async-trait"), "{dependencies:?}");
    assert!(
        !manifest.contains_key("target"),
        "this test does not read target-specific dependencies"
    );
    let front = |name: &&String| name.starts_with("ark-container") || name.starts_with("clap");
    assert_eq!(dependencies.iter().find(front), None);
}

#[test]
fn forbidden_dependency_is_found() {
    let exports = exports("pub use error::{BoxError, Error};\npub use backend::RegistryBackend;");
    let faults = |path: &str, text: &str| faults(path, text, &exports);
    for (path, text, expected) in [
        ("model/x.rs", "use crate::backend::Image;", "model may not use backend (backend)"),
        ("model/x.rs", "use crate::{model::A, error::{B, C}};", "model may not use error (error)"),
        ("model/x.rs", "fn f(_: super::super::Error) {}", "model may not use error (Error)"),
        (
            "model.rs",
            "fn f(_: super::identity::Principal) {}",
            "model may not use identity (identity)",
        ),
        ("model/mod.rs", "use tokio::fs;", "model may not use tokio"),
        ("model/x.rs", "use std::{fmt, fs};", "model may not use std::fs"),
        ("model/x.rs", "use std::net::TcpStream;", "model may not use TcpStream"),
        ("error.rs", "std::fs::read(\"/\")", "error may not use std::fs"),
        ("error.rs", "use crate::RegistryBackend;", "error may not use backend (RegistryBackend)"),
        (
            "backend/local/x.rs",
            "use crate::permission::Policy;",
            "backend may not use permission (permission)",
        ),
        ("transfer/x.rs", "let t = crate::testing::f();", "transfer may not use testing (testing)"),
        ("news/mod.rs", "", "module news has no row in the table"),
        (
            "identity/x.rs",
            "use std::fs::{self, OpenOptions};",
            "only the module files may use OpenOptions",
        ),
    ] {
        assert_eq!(faults(path, text), [format!("{path}: {expected}")], "{text}");
    }
}

#[test]
fn comments_and_tests_are_ignored() {
    for (path, text) in [
        ("model/x.rs", "//! [`crate::backend`]\n/* crate::error */ use crate::model::A;"),
        ("model/x.rs", "const A: &str = \"crate::error\"; const B: &str = r#\"\"crate::error\"#;"),
        ("model/x.rs", "fn f<'a>(_: &'a str) { g('\"', '\\'', b'\"') } // \" crate::error"),
        ("model/x.rs", "#[cfg(test)]\nmod tests { use crate::error::Error; fn f() {} }"),
        ("model/x.rs", "use super::parse::ParseError; use std::net::SocketAddr;"),
        ("backend/local/x.rs", "use super::super::Image; use crate::backend::Repository;"),
    ] {
        assert_eq!(faults(path, text, &BTreeMap::new()), Vec::<Fault>::new(), "{text}");
    }
    let after = "#[cfg(test)]\nmod tests { fn f() {} } use crate::error::Error;";
    assert_eq!(faults("model/x.rs", after, &BTreeMap::new()).len(), 1);
}

#[test]
fn test_modules_in_files_are_found_by_their_declaration() {
    let found = |text| test_modules_in_files("push/mod.rs", text);
    assert_eq!(found("#[cfg(test)]\nmod tests;"), ["push/tests"]);
    assert_eq!(found("#[cfg(test)]\npub(crate) mod double;"), ["push/double"]);
    assert_eq!(found("#[cfg(test)]\n#[cfg(unix)]\nmod tests;"), ["push/tests"]);
    assert_eq!(found("#[cfg(all(test, feature = \"x\"))]\nmod tests;"), ["push/tests"]);
    for real in ["mod real;", "#[cfg(not(test))]\nmod real;", "#[cfg(test)]\nmod inline {}"] {
        assert_eq!(found(real), Vec::<String>::new(), "{real}");
    }
    let nested = test_modules_in_files("transfer/source.rs", "#[cfg(test)]\nmod tests;");
    assert_eq!(nested, ["transfer/source/tests"]);
}
