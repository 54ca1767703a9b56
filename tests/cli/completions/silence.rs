//! Whoever presses a key is told of no failure, and does not wait for long.

use std::net::TcpListener;

use crate::ecr::Cloud;
use crate::sandbox::{Sandbox, TBD};

const NOTHING: (i32, &str, &str) = (0, "none\n", "");

#[test]
fn what_cannot_be_had_is_not_offered() {
    let sandbox = Sandbox::with_memberships();
    let complete = format!("--complete -- --organization {TBD} --login ");
    let offered = |edit: &dyn Fn(&mut std::process::Command)| {
        let mut command = sandbox.command(&complete);
        command.arg("");
        edit(&mut command);
        sandbox.finish(&mut command)
    };
    let told = |run: &crate::sandbox::Run| (run.code, run.stdout.clone(), run.stderr.clone());
    let nothing = (NOTHING.0, NOTHING.1.to_owned(), NOTHING.2.to_owned());
    for (name, value) in [
        ("ARK_PRINCIPAL", "user:bob"),
        ("ARK_PRINCIPAL", "nobody"),
        ("ARK_REGISTRY", "no-location"),
        ("ARK_REGISTRY", "local:/proc/none"),
        ("ARK_MEMBERSHIPS", "missing.toml"),
    ] {
        let run = offered(&|command| {
            command.env(name, value);
        });
        assert_eq!(told(&run), nothing, "{name}={value}");
    }
    sandbox.write("config/ark/container.toml", "no settings");
    assert_eq!(told(&offered(&|_| ())), nothing);
    // What needs no settings is there as ever.
    assert_eq!(
        sandbox.printed("--complete -- --who"),
        "none\n--whoami\tShow who you are and why, \
        your organizations, the registry, and the isolation layers\n"
    );
    assert!(sandbox.printed("--completions powershell").contains("Register-ArgumentCompleter"));
}

#[test]
fn a_registry_that_does_not_answer_is_not_waited_for() {
    let cloud = Cloud::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = cloud.command(&format!("--complete -- --organization {TBD} --login"));
    command.arg("").env("AWS_ENDPOINT_URL", format!("http://{}", silent.local_addr().unwrap()));
    let run = cloud.sandbox.finish(&mut command);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), NOTHING);
    // It was asked.
    assert!(silent.set_nonblocking(true).is_ok() && silent.accept().is_ok());
}
