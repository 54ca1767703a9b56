//! Builds and pushes with the CMake module: generators, builders, incremental builds and interrupts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Project, image};
use crate::ecr::{Cloud, ROLE, alice};
use crate::sandbox::{Sandbox, Served, TBD};
use crate::tools::{Daemon, component};

/// CMake commands with a program, source files, a generated file, and values that shells and lists would split.
const LISTS: &str = r#"
add_executable(app app.c)
add_custom_command(OUTPUT made/version COMMAND ${CMAKE_COMMAND} -E make_directory made
  COMMAND ${CMAKE_COMMAND} -E echo 7 > made/version)
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/outside "outside")
ark_add_docker(app
  ORGANIZATION 2EA25035-6AA4-42FB-9955-92288EA1B972
  REPOSITORY catalog/app
  DOCKERFILE docker/Dockerfile.app
  TARGETS app
  FILES "etc/sp ace" scripts ${CMAKE_CURRENT_BINARY_DIR}/outside made/version scripts/deep/run.sh
        "${CMAKE_CURRENT_SOURCE_DIR}/etc/sp ace"
  BUILD_ARGS "VALUE=a;b 'c' \"d\" \\e" CONFIG=$<CONFIG>
  CREATE)
"#;

/// Builds a project and checks the image and the result files; `which` chooses the CMake.
fn generator_builds_an_image(
    generator: &str,
    options: &[&str],
    results: &str,
    which: impl FnOnce(Project<'_>) -> Project<'_>,
) {
    let served = Served::with_repositories(&["catalog/app"]);
    let tools = served.tools(&["catalog/app"]);
    let project = Project::with_languages(&served.sandbox, "C", LISTS);
    project.write("app.c", "int main(void) { return 0; }\n");
    let steps =
        "FROM scratch\nARG VALUE\nARG CONFIG\nLABEL value=$VALUE config=$CONFIG\nCOPY . /\n";
    project.write("docker/Dockerfile.app", steps);
    project.write("etc/sp ace", "settings");
    project.write("scripts/deep/run.sh", "#!/bin/sh\n");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("scripts/deep/run.sh"), executable).unwrap();
    project.write("unnamed", "this stays outside");
    project.commit("release/2.0+1");
    let project = which(project).configured(generator, options);

    assert_eq!(project.built("all"), (vec![], vec![]), "no image is part of all");
    let app = || vec!["app".to_owned()];
    assert_eq!(project.built("app-docker-image"), (app(), vec![]));
    assert_eq!(project.built("app-docker"), (vec![], app()));
    for target in ["app-docker", "ark-docker", "app-docker-image"] {
        assert_eq!(project.built(target), (vec![], vec![]), "{target}");
    }

    let url = project.read(&format!("{results}/app.image"));
    let record: Value =
        serde_json::from_str(&project.read(&format!("{results}/app.json"))).unwrap();
    assert_eq!(url, format!("{}\n", record["url"].as_str().unwrap()));
    assert!(url.starts_with(&format!("{}@sha256:", served.image("catalog/app"))), "{url}");
    assert_eq!(record["tag"], "release-2.0-1");

    let files = project.pulled(&tools, &format!("{}:release-2.0-1", served.image("catalog/app")));
    let read = |name: &str| fs::read(files.join(name)).unwrap();
    assert_eq!(read("app"), fs::read(project.path(format!("{results}/app"))).unwrap());
    assert_eq!(read("etc/sp ace"), b"settings");
    assert_eq!(read("outside"), b"outside");
    assert_eq!(read("made/version"), b"7\n");
    let mode = files.join("scripts/deep/run.sh").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let mut names: Vec<_> =
        fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["app", "etc", "made", "outside", "scripts"]);

    let inspected = tools.printed(&format!("skopeo inspect docker://{}", url.trim_end()));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Labels"]["value"], r#"a;b 'c' "d" \e"#);
    assert_eq!(inspected["Labels"]["config"], "Debug");
}

#[test]
fn ninja_builds_an_image() {
    generator_builds_an_image("Ninja", &["-DCMAKE_BUILD_TYPE=Debug"], "build", |project| project);
}

#[test]
fn make_of_the_oldest_cmake_builds_an_image() {
    generator_builds_an_image(
        "Unix Makefiles",
        &["-DCMAKE_BUILD_TYPE=Debug"],
        "build",
        |project| project.with_oldest_cmake(),
    );
}

#[test]
fn ninja_multi_config_builds_an_image() {
    generator_builds_an_image("Ninja Multi-Config", &[], "build/Debug", |project| project);
}

#[test]
fn nested_projects_build_each_image() {
    let served = Served::with_repositories(&["catalog/one"]);
    let lists = "add_subdirectory(one)\nadd_subdirectory(other)\nadd_subdirectory(one again)\n";
    let project = Project::new(&served.sandbox, lists);
    let part = |name: &str| {
        format!(
            "cmake_minimum_required(VERSION 3.22)\nproject({name} LANGUAGES NONE)\n\
             find_package(ArkDocker REQUIRED)\n\
             get_filename_component(folder ${{CMAKE_CURRENT_BINARY_DIR}} NAME)\n\
             ark_add_docker({name}-${{folder}} ORGANIZATION {TBD} REPOSITORY catalog/{name} FILES hello \
             TAGS ${{folder}} CREATE)\n"
        )
    };
    for name in ["one", "other"] {
        project.write(&format!("{name}/CMakeLists.txt"), &part(name));
        project.write(&format!("{name}/Dockerfile"), "FROM scratch\nCOPY hello /\n");
        project.write(&format!("{name}/hello"), name);
    }
    let project = project.configured("Ninja", &[]);
    let all = vec!["one-again".to_owned(), "one-one".to_owned(), "other-other".to_owned()];
    assert_eq!(project.built("ark-docker"), (all.clone(), all));
    assert_eq!(project.built("ark-docker"), (vec![], vec![]));
    for (file, repository) in [
        ("build/one/one-one.image", "catalog/one"),
        ("build/again/one-again.image", "catalog/one"),
        ("build/other/other-other.image", "catalog/other"),
    ] {
        let url = project.read(file);
        assert!(url.starts_with(&format!("{}@sha256:", served.image(repository))), "{url}");
    }
}

/// Builds, pushes and pulls an image. Then removes the image from the builder, and pushes it again.
fn builder_pushes_an_image(builder: &str, more: &[(&str, &str)], remove: &[&str]) {
    let served = Served::with_repositories(&["catalog/a"]);
    let tools = served.tools(&["catalog/a"]);
    let mut project = Project::new(&served.sandbox, &image("a", "TAGS 1"));
    for (name, value) in more.iter().chain(&[("ARK_DOCKER_BUILDER", builder)]) {
        project = project.with(name, value);
    }
    let project = project.configured("Ninja", &[]);
    let a = || vec!["a".to_owned()];
    assert_eq!(project.built("ark-docker"), (a(), a()));
    let files = project.pulled(&tools, &format!("{}:1", served.image("catalog/a")));
    assert_eq!(fs::read(files.join("hello")).unwrap(), b"hello");
    assert_eq!(project.built("ark-docker"), (vec![], vec![]));

    let mut command = project.command(component(remove[0]));
    let run = served.sandbox.finish(command.args(&remove[1..]));
    assert_eq!(run.code, 0, "{run:?}");
    fs::remove_file(project.path("build/a.image")).unwrap();
    let run = project.build("ark-docker", &[]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(project.path("build/a.image").is_file());
}

#[test]
fn podman_pushes_an_image() {
    builder_pushes_an_image("podman", &[], &["podman", "rmi", "--all", "--force"]);
}

#[test]
fn docker_pushes_an_image() {
    let daemon = Daemon::start();
    let host = daemon.host();
    let prune = ["docker", "--host", &host, "image", "prune", "--all", "--force"];
    builder_pushes_an_image("docker", &[("DOCKER_HOST", &host)], &prune);
}

#[test]
fn first_working_builder_is_chosen() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &image("a", "TAGS 1"))
        .with("ARK_DOCKER_BUILDER", "")
        .with("DOCKER_HOST", "unix:///nowhere")
        .configured("Ninja", &[]);
    assert_eq!(project.built("ark-docker").1, ["a"]);
    assert!(project.read("build/a-docker/built.cmake").contains("[podman:"));
    // The cache variable of the project overrides the environment.
    let project = project.with("ARK_DOCKER_BUILDER", "docker");
    let project = project.configured("Ninja", &["-DARK_DOCKER_BUILDER=buildah"]);
    assert_eq!(project.built("ark-docker").0, ["a"]);
    assert!(project.read("build/a-docker/built.cmake").contains("[oci:"));
}

#[test]
fn platforms_are_one_index() {
    for builder in ["podman", "buildah"] {
        let sandbox = Sandbox::new();
        let lists = image("a", "TAGS 1 PLATFORMS linux/amd64 linux/arm64") + &image("b", "TAGS 1");
        let project = Project::new(&sandbox, &lists)
            .with("ARK_DOCKER_BUILDER", builder)
            // Settings of a toolchain file for a cross build.
            .configured(
                "Ninja",
                &["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"],
            );
        project.built("ark-docker");
        let platforms = |name: &str| project.listed(name)[0]["platforms"].clone();
        let both = json!(["linux/amd64", "linux/arm64"]);
        assert_eq!(platforms("catalog/a"), both, "{builder}");
        assert_eq!(platforms("catalog/b"), json!(["linux/arm64"]), "{builder}");
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn unchanged_images_are_not_built_or_pushed() {
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
    assert_eq!(modified("kept"), kept, "the copy was not written");

    // A removed file, a new file, and a file that becomes executable.
    fs::remove_file(project.path("folder/one")).unwrap();
    project.write("folder/three", "three");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("folder/two"), executable).unwrap();
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&["a"])));
    let context = project.path("build/a-docker/context/folder");
    assert!(!context.join("one").exists() && context.join("three").is_file());
    assert_eq!(context.join("two").metadata().unwrap().permissions().mode() & 0o111, 0o111);

    // A file with the same content and a new time is built, but not pushed.
    project.write("folder/two", "two");
    assert_eq!(project.built("ark-docker"), (names(&["a"]), names(&[])));

    // The result files of the last push are removed.
    fs::remove_file(project.path("build/b.image")).unwrap();
    fs::remove_file(project.path("build/a.json")).unwrap();
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&["a", "b"])));
    assert!(project.path("build/a.json").is_file() && project.path("build/b.image").is_file());

    // Another registry, chosen by the environment.
    let other = format!("local:{}", sandbox.path("other").display());
    let project = project.with("ARK_REGISTRY", &other);
    assert_eq!(project.built("ark-docker"), (names(&[]), names(&["a", "b"])));
    assert_eq!(project.listed("catalog/b")[0]["tags"], serde_json::json!(["1", "latest"]));

    // A changed tag, and then a changed build argument.
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
fn new_commit_changes_the_default_tag() {
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

const IMAGE_COUNT: usize = 20;

#[test]
fn twenty_images_take_one_login() {
    let cloud = Cloud::new();
    let lists: String = (0..IMAGE_COUNT)
        .map(|number| {
            let tags = if number == 7 { "TAGS 1 2 3" } else { "" };
            image(&format!("image-{number}"), &format!("number-{number} {tags}"))
        })
        .collect();
    let mut project = Project::new(&cloud.sandbox, &lists);
    for number in 0..IMAGE_COUNT {
        project.write(&format!("number-{number}"), &number.to_string());
    }
    project.commit("v2");
    for (name, value) in cloud.aws.environment(alice().access_key()) {
        project = project.with(name, &value);
    }
    let role = format!("arn:aws:iam::{}:role/{ROLE}", cloud.aws.host().account());
    let project = project
        .with("ARK_REGISTRY", &format!("ecr://{}/prod", cloud.aws.host()))
        .with("ARK_ROLE_ARN", &role)
        .configured("Ninja", &[]);

    let run = project.build("ark-docker", &["-j", "4"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(cloud.aws.count("ecr:GetAuthorizationToken"), 1);
    assert_eq!(cloud.aws.count("sts:AssumeRole"), 1);
    let urls: Vec<String> = (0..IMAGE_COUNT)
        .map(|number| project.read(&format!("build/image-{number}.image")))
        .collect();
    for (number, url) in urls.iter().enumerate() {
        let expected = format!("{}@sha256:", cloud.image(&format!("catalog/image-{number}")));
        assert!(url.starts_with(&expected), "{url}");
    }
    let digests: BTreeSet<&str> =
        urls.iter().filter_map(|url| url.split_once('@')).map(|(_, digest)| digest).collect();
    assert_eq!(digests.len(), IMAGE_COUNT, "each image is different");
    let tags = |name: &str| project.listed(name)[0]["tags"].clone();
    assert_eq!(tags("catalog/image-7"), serde_json::json!(["1", "2", "3"]));
    assert_eq!(tags("catalog/image-19"), serde_json::json!(["v2"]));
    assert_eq!(project.built("ark-docker"), (vec![], vec![]));
}

#[test]
fn interrupted_build_leaves_no_process() {
    let sandbox = Sandbox::new();
    let builder =
        "#!/bin/sh\n[ \"$1\" = info ] && exit\necho $$ > \"$HOME/builder\"\nexec sleep 600\n";
    let stub = sandbox.write("stubs/buildah", builder);
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("stubs").display(), std::env::var("PATH").unwrap());
    let project = Project::new(&sandbox, &image("a", "TAGS 1")).with("PATH", &path);
    let project = project.configured("Ninja", &[]);

    let mut ninja = project.command(component("ninja"));
    ninja.args(["-C", "build", "ark-docker"]).stdout(Stdio::null());
    let mut ninja = ninja.spawn().unwrap();
    let file = sandbox.path("builder");
    let id = wait_for(|| fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n')));
    let id = id.trim();
    let signal = |name: &str, id: &str| Command::new("kill").args([name, id]).status().unwrap();
    assert!(signal("-INT", &ninja.id().to_string()).success());
    assert!(!ninja.wait().unwrap().success());
    let process = std::path::PathBuf::from(format!("/proc/{id}"));
    wait_for(|| (!process.exists()).then_some(()));
    assert!(!project.path("build/a-docker/image.done").exists());
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "timeout");
        sleep(Duration::from_millis(20));
    }
}
