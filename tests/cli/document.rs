//! The commands of the containers page, letter by letter but for the GUID, on `local:`.

use crate::sandbox::{OTHER, Sandbox, TBD};

#[test]
fn listing_shows_the_documented_table() {
    let sandbox = Sandbox::new();
    let header = "Organization                         URL\n";
    assert_eq!(sandbox.printed("--list-repositories"), header);
    for name in ["catalog/extract-video", "catalog/extract-gps", "catalog/extract-annotations"] {
        sandbox.printed(&format!("--create-repository {name} --organization {TBD}"));
    }
    sandbox.printed(&format!("--create-repository a --organization {OTHER}"));
    let host = "127.0.0.1:5050";
    let other = format!("{OTHER} {host}/prod/{OTHER}/a\n");
    let mut tbd = String::new();
    for name in ["catalog/extract-annotations", "catalog/extract-gps", "catalog/extract-video"] {
        tbd.push_str(&format!("{TBD} {host}/prod/{TBD}/{name}\n"));
    }
    assert_eq!(sandbox.printed("--list-repositories"), format!("{header}{other}{tbd}"));
    let narrowed = sandbox.printed(&format!("--list-repositories --organization {TBD}"));
    assert_eq!(narrowed, format!("{header}{tbd}"));
}

#[test]
fn creating_returns_the_full_url() {
    let sandbox = Sandbox::new();
    let create = format!("--create-repository test/repo --organization {TBD}");
    let url = format!("127.0.0.1:5050/prod/{TBD}/test/repo\n");
    assert_eq!(sandbox.printed(&create), url);
    assert_eq!(sandbox.printed(&create), url);
}

#[test]
fn login_returns_a_password_and_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository catalog/extract-video --organization {TBD}"));
    let login = format!("--login catalog/extract-video --organization {TBD}");
    let run = sandbox.run(&format!("--quiet {login}"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let password = run.stdout.strip_suffix('\n').unwrap();
    assert!(password.len() > 100 && !password.contains(char::is_whitespace));
    let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    assert!(password.bytes().all(url_safe), "it needs no quotes anywhere");
}

#[test]
fn operations_are_flags_or_subcommands() {
    let sandbox = Sandbox::new();
    let create = format!("--create-repository test/repo --organization {TBD}");
    let url = sandbox.printed(&create);
    for line in [
        format!("create-repository test/repo --organization {TBD}"),
        format!("--organization {TBD} --create-repository test/repo"),
        format!("--organization={TBD} --create-repository=test/repo"),
        format!("--output table create-repository --organization {TBD} -- test/repo"),
    ] {
        assert_eq!(sandbox.printed(&line), url, "{line}");
    }
}
