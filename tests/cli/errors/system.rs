//! Errors of the operating system.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

#[test]
fn file_in_place_of_the_registry_is_reported() {
    let sandbox = Sandbox::new();
    sandbox.write("data/ark/registry", "");
    assert_snapshot!(reported(&sandbox.run("--quiet --list-repositories")), @"
    exit 1
    error: ~/data/ark/registry is a file, not a folder; replace or remove it
    ");
}

#[test]
fn key_readable_by_others_is_rejected() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox.printed(&format!("--login a --organization {TBD}"));
    let key = sandbox.path("data/ark/registry/key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let login = format!("--quiet --login a --organization {TBD}");
    assert_snapshot!(reported(&sandbox.run(&login)), @"
    exit 2
    error: other users can read or write ~/data/ark/registry/key
      help: restrict its permissions: chmod 600 ~/data/ark/registry/key
    ");
}

#[test]
fn port_in_use_is_reported() {
    let sandbox = Sandbox::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = sandbox.run(&format!("--quiet --serve --listen {address}"));
    assert_snapshot!(reported(&run).replace(&address, "127.0.0.1:PORT"), @"
    exit 1
    error: cannot listen on 127.0.0.1:PORT: Address already in use (os error 98)
      help: stop the process that listens there, or use another port: --listen 0
    ");
}

#[test]
fn full_disk_of_standard_output_is_reported() {
    let sandbox = Sandbox::new();
    let refused = |line: &str| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        reported(&sandbox.finish_into(&mut sandbox.command(line), full))
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
