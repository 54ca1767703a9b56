//! The manual pages.

use std::collections::BTreeSet;
use std::fs;

use crate::component::component;
use crate::sandbox::Sandbox;

#[test]
fn there_is_one_for_each_operation_and_readers_find_nothing_wrong() {
    let sandbox = Sandbox::new();
    let written: BTreeSet<String> =
        sandbox.printed("--man man1").lines().map(str::to_owned).collect();
    let help = sandbox.printed("--help");
    // "  push, --push  Upload an image", and for an option "  -h, --help  Print help".
    let operations = help.lines().filter_map(|line| line.trim_start().split_once(", --"));
    let operations = operations.map(|(name, _)| name).filter(|name| !name.starts_with('-'));
    let pages = operations.map(|operation| format!("ark-catalog-container-tool-{operation}.1"));
    let mut expected: BTreeSet<String> = pages.collect();
    assert!(expected.contains("ark-catalog-container-tool-push.1"), "{help}");
    for program in ["ark-catalog-container-tool.1", "docker-credential-ark.1"] {
        expected.insert(program.to_owned());
    }
    assert_eq!(written, expected);
    for page in written {
        let page = sandbox.path("man1").join(page);
        // groff is what most systems read pages with, mandoc the others.
        let groff =
            component("groff").args(["-k", "-ww", "-z", "-man", "-Tutf8"]).arg(&page).output();
        let groff = groff.unwrap();
        assert!(groff.status.success() && groff.stderr.is_empty(), "{groff:?}");
        let mandoc = component("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output();
        let told = String::from_utf8(mandoc.unwrap().stdout).unwrap();
        // A page that is generated has no date of its own.
        let told: Vec<&str> = told.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn they_say_what_the_help_says() {
    let sandbox = Sandbox::new();
    sandbox.printed("--man man1");
    let man = component("man")
        .arg("-l")
        .arg(sandbox.path("man1/ark-catalog-container-tool-login.1"))
        .env("MANWIDTH", "200")
        .output()
        .unwrap();
    let text = String::from_utf8(man.stdout).unwrap();
    for line in [
        "ark-catalog-container-tool-login - Print a password for a repository, to pipe into docker login",
        "ark-catalog-container-tool --login [OPTIONS] <NAME>",
        "--access <ACCESS>",
        "| docker login --username AWS --password-stdin HOST",
        "podman, skopeo and buildah need --tls-verify=false",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let page = fs::read_to_string(sandbox.path("man1/docker-credential-ark.1")).unwrap();
    assert!(page.contains(env!("CARGO_PKG_VERSION")), "{page}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    let run = sandbox.run("--man file/man1");
    assert_eq!(
        (run.code, run.stderr.contains("error: cannot write file/man1: ")),
        (1, true),
        "{run:?}"
    );
}
