//! What a change leads to, and what it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{Project, image};
use crate::sandbox::Sandbox;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_what_changed_is_built_and_pushed() {
    let sandbox = Sandbox::new();
    let lists = image("a", "kept folder TAGS 1") + &image("b", "TAGS 1 latest");
    let project = Project::new(&sandbox, &lists);
    project.write("Dockerfile", "FROM scratch\nARG X=0\nLABEL x=$X\nCOPY . /\n");
    project.write("kept", "kept");
    project.write("folder/one", "one");
    project.write("folder/two", "two");
    let project = project.configured("Ninja", &[]);
    assert_eq!(project.built("ark-docker"), (names(&["a", "b"]), names(&["a", "b"])));
    let first = project.read("build/a.image");
    let modified = |name: &str| {
        project.path("build/a-docker/context").join(name).metadata().unwrap().modified().unwrap()
    };
    let kept = modified("kept");

    // A file of one image.
    project.write("folder/one", "changed");
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&["a"])));
    assert_ne!(project.read("build/a.image"), first);
    assert_eq!(modified("kept"), kept, "the copy was not touched");

    // A file that goes, one that comes, and one that can be run.
    fs::remove_file(project.path("folder/one")).unwrap();
    project.write("folder/three", "three");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("folder/two"), executable).unwrap();
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&["a"])));
    let context = project.path("build/a-docker/context/folder");
    assert!(!context.join("one").exists() && context.join("three").is_file());
    assert_eq!(context.join("two").metadata().unwrap().permissions().mode() & 0o111, 0o111);

    // The same content at another time is built, and there is nothing to push.
    project.write("folder/two", "two");
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&[])));

    // What the last push wrote is gone.
    fs::remove_file(project.path("build/b.image")).unwrap();
    fs::remove_file(project.path("build/a.json")).unwrap();
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&["a", "b"])));
    assert!(project.path("build/a.json").is_file() && project.path("build/b.image").is_file());

    // Another registry, chosen where nothing of the project says so.
    let other = format!("local:{}", sandbox.path("other").display());
    let project = project.with("ARK_REGISTRY", &other);
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&["a", "b"])));
    assert_eq!(project.listed("catalog/b")[0]["tags"], serde_json::json!(["1", "latest"]));

    // A tag, and then an argument of the build.
    let change = |from: &str, to: &str| {
        let lists = project.read("CMakeLists.txt").replace(from, to);
        project.write("CMakeLists.txt", &lists);
    };
    change("TAGS 1 latest", "TAGS 2");
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&["b"])));
    change("TAGS 2", "TAGS 2 BUILD_ARGS X=1");
    assert_eq!(project.built("ark-docker"), (names(&["b"]), names(&["b"])));
    change("X=1", "X=2");
    assert_eq!(project.built("ark-docker"), (names(&["b"]), names(&["b"])));
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&[])));
}

#[test]
fn a_new_commit_is_a_new_tag() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &image("a", "")).configured("Ninja", &[]);
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&["a"])));
    let tag = || {
        let record = project.read("build/a.json");
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        record["tag"].as_str().unwrap().to_owned()
    };
    assert_eq!(tag(), "v1");
    project.write("unrelated", "this is in no image");
    project.commit("v2");
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&["a"])));
    assert_eq!(tag(), "v2");
    project.write("hello", "not committed");
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&["a"])));
    assert_eq!(tag(), "v2-dirty");
}
