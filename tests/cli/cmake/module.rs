//! `--cmake-dir`: the module that is part of the program, or was installed with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;

use super::{Project, image};
use crate::errors::told;
use crate::sandbox::{BINARY, Sandbox};

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cmake")
}

#[test]
fn the_program_alone_has_the_module() {
    let sandbox = Sandbox::new();
    let folder = PathBuf::from(
        sandbox
            .printed("--cmake-dir")
            .trim_end()
            .replace('~', sandbox.path("").to_str().unwrap().trim_end_matches('/')),
    );
    assert!(folder.starts_with(sandbox.path("data/ark/cmake")), "{}", folder.display());
    let mut count = 0;
    for file in fs::read_dir(source_folder()).unwrap() {
        let file = file.unwrap().path();
        let copy = fs::read(folder.join(file.file_name().unwrap())).unwrap();
        assert!(copy == fs::read(&file).unwrap(), "{}", file.display());
        count += 1;
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), count + 1, "and which program it is from");

    // It is found, and builds with this program.
    let project = Project::new(&sandbox, &image("a", "TAGS 1"));
    let options = [&format!("-DArkDocker_DIR={}", folder.display()), "-UARK_CONTAINER_TOOL"]
        .map(String::from);
    let project = project.configured("Ninja", &[&options[0], &options[1]]);
    assert!(project.read("build/CMakeCache.txt").contains(&format!("={BINARY}\n")));
    assert_eq!(project.built("ark-docker").1, ["a"]);

    // What was damaged is made good, and what is right is left alone.
    let config = folder.join("ArkDockerConfig.cmake");
    let before = config.metadata().unwrap().modified().unwrap();
    fs::write(folder.join("ArkDocker.cmake"), "damaged").unwrap();
    sandbox.printed("--cmake-dir");
    let right = fs::read(source_folder().join("ArkDocker.cmake")).unwrap();
    assert!(fs::read(folder.join("ArkDocker.cmake")).unwrap() == right);
    assert_eq!(config.metadata().unwrap().modified().unwrap(), before);

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = told(&sandbox.run("--cmake-dir"));
    let name = folder.file_name().unwrap().to_str().unwrap();
    assert_snapshot!(refused.replace(name, "VERSION"), @"
    exit 1
    error: cannot write the CMake module to ~/data/ark/cmake/VERSION: other users can write to it
      help: choose a folder that is yours: export XDG_DATA_HOME=DIR
    ");
}

#[test]
fn a_package_has_the_module_beside_the_program() {
    let sandbox = Sandbox::new();
    let program = sandbox.path("usr/bin/ark-catalog-container-tool");
    let module = sandbox.path("usr/share/cmake/ArkDocker");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::create_dir_all(&module).unwrap();
    fs::hard_link(BINARY, &program).or_else(|_| fs::copy(BINARY, &program).map(drop)).unwrap();
    for file in fs::read_dir(source_folder()).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, module.join(file.file_name().unwrap())).unwrap();
    }
    let run = sandbox.finish(Command::new(&program).args(["--cmake-dir", "--output", "json"]));
    assert_eq!(run.stdout, "{\"directory\":\"~/usr/share/cmake/ArkDocker\"}\n");

    let project = Project::new(&sandbox, &image("a", "TAGS 1"));
    let directory = format!("-DArkDocker_DIR={}", module.display());
    let project = project.configured("Ninja", &[&directory, "-UARK_CONTAINER_TOOL"]);
    let cache = project.read("build/CMakeCache.txt");
    assert!(cache.contains(&format!("={}\n", program.display())), "{cache}");
}

#[test]
fn the_version_is_the_programs() {
    let file = fs::read_to_string(source_folder().join("ArkDockerConfigVersion.cmake")).unwrap();
    assert!(file.contains(concat!("set(PACKAGE_VERSION ", env!("CARGO_PKG_VERSION"), ")\n")));
    let sandbox = Sandbox::new();
    for (asked, found) in [("0.1", true), ("0.1.0", true), ("0.2", false), ("0.0.9", false)] {
        let project = Project::new(&sandbox, "");
        let lists =
            project.read("CMakeLists.txt").replace("ArkDocker ", &format!("ArkDocker {asked} "));
        project.write("CMakeLists.txt", &lists);
        let _ = fs::remove_dir_all(project.path(".git"));
        assert_eq!(project.configure("Ninja", &[]).code == 0, found, "{asked}");
    }
}
