//! The server's own life: ready, found, ended.

use crate::sandbox::{Sandbox, TBD};

#[test]
fn it_prints_its_address_and_ends_cleanly_on_either_signal() {
    for signal in ["-INT", "-TERM"] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve();
        let address = server.line().trim_end().to_owned();
        assert!(std::net::TcpStream::connect(&address).is_ok(), "{address}");
        assert_eq!(server.end_by(signal), (Some(0), String::new()));
        assert!(std::net::TcpStream::connect(&address).is_err(), "{address}");
    }
}

#[test]
fn the_other_operations_find_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve();
    let host = server.line().trim_end().to_owned();
    let create = format!("--create-repository a --organization {TBD}");
    assert_eq!(sandbox.printed(&create), format!("{host}/prod/{TBD}/a\n"));
    let whoami = sandbox.printed("--whoami");
    assert!(whoami.contains(&format!("Served         at {host}\n")), "{whoami}");
    // A push brings a registry of its own along, which must not pass for the server.
    let url = sandbox.push("a:v1");
    assert!(url.starts_with(&format!("{host}/prod/{TBD}/a@sha256:")), "{url}");
    assert_eq!(server.end_by("-TERM"), (Some(0), String::new()));
    assert!(sandbox.printed("--whoami").contains("Served         no"));
}
