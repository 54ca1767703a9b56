//! Logging in with the password that `--login` prints.

use crate::component::component;
use crate::sandbox::Run;
use crate::served::Served;

const TOOLS: [&str; 4] = ["docker", "podman", "skopeo", "buildah"];

#[test]
fn the_printed_password_opens_the_registry_to_every_tool() {
    let served = Served::with_repositories(&["catalog/extract-video"]);
    let tools = served.tools(&[]);
    for tool in TOOLS {
        let login = served.login_command("catalog/extract-video");
        let run = tools.log_in(tool, served.server.host(), login);
        assert_eq!(run.code, 0, "{tool}: {run:?}");
        assert!(run.stdout.starts_with("Login Succeeded"), "{tool}: {run:?}");
    }
}

#[test]
fn any_other_password_is_refused_with_a_message() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&[]);
    let good = served.password("a", "push");
    for wrong in ["wrong\n".to_owned(), format!("{good}x\n")] {
        let wrong = served.sandbox.write("wrong", wrong);
        for tool in TOOLS {
            let mut printer = component("cat");
            printer.arg(&wrong);
            let Run { code, stderr, .. } = tools.log_in(tool, served.server.host(), printer);
            assert_ne!(code, 0, "{tool}");
            // Each puts the registry's 401 into words of its own.
            let told = stderr.contains("invalid username/password") || stderr.contains("401");
            assert!(told, "{tool}: {stderr}");
            assert!(!stderr.contains(&good), "{tool}");
        }
    }
}
