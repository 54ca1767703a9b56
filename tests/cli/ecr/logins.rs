//! Passwords: asked for once, kept, shared between processes, and forgotten.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, UNIX_EPOCH};

use super::{Cloud, printed, printed_by_all};
use crate::sandbox::TBD;

const TOKEN: &str = "ecr:GetAuthorizationToken";

fn login(name: &str) -> String {
    format!("--quiet --login {name} --organization {TBD}")
}

#[test]
fn twenty_processes_at_once_ask_for_one_password() {
    let cloud = Cloud::new();
    printed_by_all((0..20).map(|_| cloud.narrowed_command(&login("a"))));
    assert_eq!(cloud.aws.count(TOKEN), 1);
    assert_eq!(cloud.aws.count("sts:AssumeRole"), 1);
}

#[test]
fn a_password_is_kept_for_its_scope_and_identity_alone() {
    let cloud = Cloud::new();
    let first = printed(&cloud.sandbox, &mut cloud.narrowed_command(&login("a")));
    cloud.aws.forget_calls();
    assert_eq!(printed(&cloud.sandbox, &mut cloud.narrowed_command(&login("a"))), first);
    assert_eq!(cloud.aws.count(TOKEN), 0);
    let pull = format!("{} --access pull", login("a"));
    for other in [login("b"), pull] {
        assert_ne!(printed(&cloud.sandbox, &mut cloud.narrowed_command(&other)), first);
    }
    assert_ne!(cloud.printed(&login("a")), first, "without a role");
    assert_eq!(cloud.aws.count(TOKEN), 3);
}

#[test]
fn a_logout_forgets_the_passwords() {
    let cloud = Cloud::new();
    cloud.printed(&login("a"));
    let registry = cloud.printed("--logout");
    assert_eq!(registry.trim_end(), format!("ecr://{}/prod", cloud.aws.host()));
    cloud.printed(&login("a"));
    assert_eq!(cloud.aws.count(TOKEN), 2);
    assert_eq!(cloud.printed("--logout --all"), "*\n");
    cloud.printed(&login("a"));
    assert_eq!(cloud.aws.count(TOKEN), 3);
}

#[test]
fn a_password_that_is_said_to_have_expired_long_ago_is_asked_for_each_time_and_no_more() {
    let cloud = Cloud::new();
    // A moment in 2015, as from a server whose clock is wrong.
    let past = UNIX_EPOCH + Duration::from_secs(1_420_000_000);
    cloud.aws.date_tokens(past);
    for count in 1..=2 {
        cloud.printed(&login("a"));
        assert_eq!(cloud.aws.count(TOKEN), count);
    }
}

#[test]
fn nobody_else_can_read_what_is_kept() {
    let cloud = Cloud::new();
    let password = cloud.printed(&login("a"));
    let password = password.trim_end();
    let mut folders = vec![cloud.sandbox.path(".cache")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(password) {
                found += 1;
                let mode = path.metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", path.display());
            }
        }
    }
    assert_eq!(found, 1);
}
