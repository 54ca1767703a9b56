//! What the operating system refuses.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use super::told;
use crate::sandbox::{Sandbox, TBD};

#[test]
fn a_file_where_the_registry_should_be() {
    let sandbox = Sandbox::new();
    sandbox.write("data/ark/registry", "");
    assert_snapshot!(told(&sandbox.run("--quiet --list-repositories")), @"
    exit 1
    error: ~/data/ark/registry is a file, not a folder; replace or remove it
    ");
}

#[test]
fn a_key_that_others_can_read() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox.printed(&format!("--login a --organization {TBD}"));
    let key = sandbox.path("data/ark/registry/key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let login = format!("--quiet --login a --organization {TBD}");
    assert_snapshot!(told(&sandbox.run(&login)), @"
    exit 2
    error: other users can read or write ~/data/ark/registry/key
      help: close it to them: chmod 600 ~/data/ark/registry/key
    ");
}

#[test]
fn a_port_in_use() {
    let sandbox = Sandbox::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = sandbox.run(&format!("--quiet --serve --listen {address}"));
    assert_snapshot!(told(&run).replace(&address, "127.0.0.1:PORT"), @"
    exit 1
    error: cannot listen on 127.0.0.1:PORT: Address already in use (os error 98)
      help: stop the process that listens there, or use another port: --listen 0
    ");
}

#[test]
fn a_full_disk_behind_standard_output() {
    let sandbox = Sandbox::new();
    let refused = |line: &str| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        told(&sandbox.finish_into(&mut sandbox.command(line), full))
    };
    assert_snapshot!(refused("--quiet --list-repositories"), @"
    exit 1
    error: cannot write to standard output: No space left on device (os error 28)
    ");
    for line in ["--quiet --whoami", "--help", "--version", "--quiet --serve --listen 127.0.0.1:0"]
    {
        assert_eq!(refused(line), refused("--quiet --list-repositories"), "{line}");
    }
}
