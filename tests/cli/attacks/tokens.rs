//! Tokens that are not what they say, and those of others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use ark_container_core::testing::{TestToken, TokenIssuer};

use crate::access::{Account, OURS, PEOPLE, THEIRS};
use crate::sandbox::Run;

const NOT_AUTHENTICATED: i32 = 3;
const NOT_PERMITTED: i32 = 4;

fn forgeries(issuer: &TokenIssuer) -> Vec<(&'static str, String)> {
    let forger = TokenIssuer::new(issuer.issuer(), issuer.audience()).unwrap();
    let alice = PEOPLE[0].token();
    let sign = |token: &TestToken| issuer.token(token).unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    vec![
        ("it has expired", sign(&alice.clone().expiring_at(an_hour_ago))),
        ("it is for another audience", sign(&alice.clone().with_claim("aud", "another"))),
        ("another key has signed it", forger.token(&alice).unwrap()),
        ("nobody has signed it", issuer.unsigned(&alice)),
        (
            "the public keys have signed it",
            issuer.signed_by_secret(&alice, issuer.key_set_json().as_bytes()),
        ),
        ("it is empty", String::new()),
        ("it is no token", "password".to_owned()),
    ]
}

/// Nothing was done and nothing told, least of all the token.
fn is_refused(what: &str, run: &Run, token: &str, codes: &[i32]) {
    assert!(codes.contains(&run.code) && run.stdout.is_empty(), "{what}: {run:?}");
    let parts = token.split('.').filter(|part| part.len() > 8);
    assert!(!parts.into_iter().any(|part| run.stderr.contains(part)), "{what}: {run:?}");
}

#[test]
fn no_forged_token_gets_a_password_or_a_listing() {
    let account = Account::new();
    let login = format!("--login app --organization {OURS}");
    let good = account.token_file(&PEOPLE[0].token());
    assert_eq!(account.sandbox.finish(&mut account.bearer(&good, &login)).code, 0);
    for (what, token) in forgeries(&account.issuer) {
        let file = account.write_token(&token);
        for line in
            [&login, "--list-repositories", &format!("--list-images app --organization {OURS}")]
        {
            let run = account.sandbox.finish(&mut account.bearer(&file, line));
            // AWS denies an audience that it does not know, and the program cannot tell why.
            is_refused(what, &run, &token, &[NOT_AUTHENTICATED, NOT_PERMITTED]);
            if what != "it is for another audience" {
                assert_eq!(run.code, NOT_AUTHENTICATED, "{what}: {run:?}");
            }
        }
    }
}

#[test]
fn no_forged_token_says_who_asks_where_the_keys_are_known() {
    let account = Account::new();
    let keys = account.sandbox.write("keys.json", account.issuer.key_set_json());
    let local = |file: &str, line: &str| {
        let mut command = account.sandbox.command(line);
        command
            .env("ARK_REGISTRY", "local:")
            .env("ARK_JWT_FILE", account.sandbox.path(file))
            .env("ARK_KEY_SET", &keys)
            .env("ARK_JWT_AUDIENCE", account.issuer.audience());
        account.sandbox.finish(&mut command)
    };
    let create = format!("--create-repository a --organization {OURS}");
    for (what, token) in forgeries(&account.issuer) {
        let file = account.write_token(&token);
        is_refused(what, &local(&file, &create), &token, &[NOT_AUTHENTICATED]);
        is_refused(what, &local(&file, "--list-repositories"), &token, &[NOT_AUTHENTICATED]);
    }
    let alice = account.token_file(&PEOPLE[0].token());
    assert_eq!(local(&alice, &create).code, 0);
    let foreign = format!("--create-repository a --organization {THEIRS}");
    assert_eq!(local(&alice, &foreign).code, NOT_PERMITTED);
}

#[test]
fn no_variable_lends_the_bearer_of_a_token_another_name() {
    let account = Account::new();
    let alice = account.token_file(&PEOPLE[0].token());
    let dora = "user:dora";
    let delete = format!("--delete-repository app --force --organization {OURS}");
    let foreign = format!("--list-images app --organization {THEIRS}");
    for line in [delete, foreign] {
        let mut command = account.bearer(&alice, &line);
        command
            .env("ARK_PRINCIPAL", dora)
            .env("USER", "dora")
            .env("LOGNAME", "dora")
            .env("ARK_MEMBERSHIPS", account.sandbox.path("memberships.toml"));
        let run = account.sandbox.finish(&mut command);
        assert_ne!(run.code, 0, "{line}: {run:?}");
        assert!(!run.stderr.contains("user:dora may not"), "{run:?}");
    }
}

#[test]
fn a_login_that_was_kept_for_one_token_is_not_for_another() {
    let account = Account::new();
    let login = format!("--login app --access pull --organization {OURS}");
    let forger = TokenIssuer::new(account.issuer.issuer(), account.issuer.audience()).unwrap();
    let alice = account.token_file(&PEOPLE[0].token());
    let password = |file: &str| account.sandbox.finish(&mut account.bearer(file, &login));
    let first = password(&alice);
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(password(&alice).stdout, first.stdout, "it is kept");
    let forged = account.write_token(&forger.token(&PEOPLE[0].token()).unwrap());
    let run = password(&forged);
    assert_eq!((run.code, run.stdout.as_str()), (NOT_AUTHENTICATED, ""), "{run:?}");
    // carol may pull there too, and gets a password of her own.
    let carol = password(&account.token_file(&PEOPLE[2].token()));
    assert_eq!(carol.code, 0, "{carol:?}");
    assert_ne!(carol.stdout, first.stdout);
}

#[test]
fn a_token_file_that_others_can_write_is_nobodys() {
    let account = Account::new();
    let file = account.token_file(&PEOPLE[0].token());
    fs::set_permissions(account.sandbox.path(&file), fs::Permissions::from_mode(0o666)).unwrap();
    let run = account.sandbox.finish(&mut account.bearer(&file, "--list-repositories"));
    assert_ne!(run.code, 0, "{run:?}");
    assert_eq!(run.stdout, "", "{run:?}");
    assert!(run.stderr.contains("chmod"), "{run:?}");
}
