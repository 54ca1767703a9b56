//! Read-only operations write nothing to any registry folder.

use std::fs;

use crate::credential_helper::{folder, helper};
use crate::sandbox::{BINARY, Sandbox, TBD};

/// Returns the read-only operations that need no repository.
fn reading() -> [String; 3] {
    [
        "--whoami".to_owned(),
        "--list-repositories".to_owned(),
        format!("--check-access --action pull --organization {TBD}"),
    ]
}

#[test]
fn reading_creates_no_registry_in_a_project() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("project/main.c", "");
    let project = file.parent().unwrap();
    for line in reading() {
        let run = sandbox.run(&format!("{line} --registry local:project"));
        assert_eq!(run.code, 2, "{line}: {run:?}");
        let expected = "~/project is not the folder of a registry: it has main.c, and no file \
            \"version\"; name a folder that is empty or does not exist";
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
    let create = format!("--create-repository a --organization {TBD} --registry local:project");
    assert_eq!(sandbox.run(&create).code, 2);
    assert_eq!(fs::read_dir(project).unwrap().count(), 1);
}

#[test]
fn reading_works_without_a_registry_and_creates_none() {
    let sandbox = Sandbox::new();
    // Not even root can create a folder in /proc.
    for data in [sandbox.path("data").display().to_string(), "/proc/none".to_owned()] {
        for line in reading() {
            let run = sandbox.finish(sandbox.command(&line).env("XDG_DATA_HOME", &data));
            assert_eq!(run.code, 0, "{line}: {run:?}");
        }
        let mut configure = sandbox.command("--configure-docker");
        configure.env("PATH", folder()).env("XDG_DATA_HOME", &data);
        assert_eq!(sandbox.finish(&mut configure).stdout, "127.0.0.1:5050\n");
        let mut list = helper(&sandbox, "list", "");
        assert_eq!(
            sandbox.finish(list.env("XDG_DATA_HOME", &data)).stdout,
            "{\"127.0.0.1:5050\":\"AWS\"}\n"
        );
    }
    assert!(!sandbox.path("data").exists());
}

#[test]
fn serve_listens_on_a_port_of_this_machine() {
    let sandbox = Sandbox::new();
    for listen in ["0", "localhost:0", "[::1]:0"] {
        let server = sandbox.serve_by(sandbox.command(&format!("--serve --listen {listen}")));
        let expected = if listen.starts_with('[') { "[::1]:" } else { "127.0.0.1:" };
        assert!(server.host().starts_with(expected), "{listen}: {}", server.line());
    }
}

#[test]
fn serve_warns_of_an_address_without_docker_entry() {
    let sandbox = Sandbox::new();
    let serve = || {
        let line = format!("exec {BINARY} --serve --registry local:data --listen 0 2> reported");
        let server = sandbox.serve_by(sandbox.shell(&line));
        let host = server.host().to_owned();
        assert_eq!(server.end_by("-TERM").0, Some(0));
        (host, fs::read_to_string(sandbox.path("reported")).unwrap())
    };
    assert_eq!(serve().1, "");
    let configure = "--quiet --configure-docker --registry local:data";
    assert_eq!(sandbox.finish(sandbox.command(configure).env("PATH", folder())).code, 0);
    let (host, reported) = serve();
    let expected = format!(
        "warning: docker logs in to 127.0.0.1:5050 automatically, but not to {host}; to configure it: \
         ark-catalog-container-tool --configure-docker --registry local:"
    );
    assert!(reported.starts_with(&expected), "{reported}");
}
