//! What is built and pushed, by each generator.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::Project;
use crate::sandbox::TBD;
use crate::served::Served;

/// A program, files of the project and one that is made, and values that shells and lists would split.
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
  FILES "etc/sp ace" scripts ${CMAKE_CURRENT_BINARY_DIR}/outside made/version
  BUILD_ARGS "VALUE=a;b 'c' \"d\" \\e" CONFIG=$<CONFIG>
  CREATE)
"#;

/// Builds the project and looks at what comes out; `which` chooses the CMake.
fn image_comes_out(
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
fn ninja() {
    image_comes_out("Ninja", &["-DCMAKE_BUILD_TYPE=Debug"], "build", |project| project);
}

#[test]
fn make_with_the_oldest_cmake() {
    image_comes_out("Unix Makefiles", &["-DCMAKE_BUILD_TYPE=Debug"], "build", |project| {
        project.with_oldest_cmake()
    });
}

#[test]
fn ninja_for_several_configurations() {
    image_comes_out("Ninja Multi-Config", &[], "build/Debug", |project| project);
}

#[test]
fn a_project_of_projects() {
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
