//! Names and GUIDs that are written so as to mean something else.

use crate::sandbox::{OTHER, Sandbox, TBD};

const USAGE: i32 = 2;
const NOT_PERMITTED: i32 = 4;

/// The program on behalf of alice of [`TBD`], with arguments that may hold spaces.
fn alice(sandbox: &Sandbox, arguments: &[&str]) -> crate::sandbox::Run {
    let mut command = sandbox.command("--quiet");
    sandbox.finish(command.args(arguments).env("ARK_PRINCIPAL", "user:alice"))
}

#[test]
fn a_foreign_organization_is_foreign_in_every_spelling() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository there --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    let upper = "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE";
    for (spelling, code) in [
        (OTHER.to_owned(), NOT_PERMITTED),
        (format!("{{{OTHER}}}"), NOT_PERMITTED),
        (format!(" {OTHER} "), NOT_PERMITTED),
        (upper.to_owned(), NOT_PERMITTED),
        (OTHER.replace('-', ""), USAGE),
        (format!("urn:uuid:{OTHER}"), USAGE),
        (format!("{OTHER}x"), USAGE),
        (format!("{TBD}x"), USAGE),
        (format!("{TBD}/../{OTHER}"), USAGE),
        (format!("{TBD},{OTHER}"), USAGE),
        (OTHER.replacen('1', "\u{ff11}", 1), USAGE),
        (OTHER.replacen('-', "\u{2010}", 1), USAGE),
        ("*".to_owned(), USAGE),
        (String::new(), USAGE),
    ] {
        for operation in ["--list-images", "--login", "--create-repository", "--delete-repository"]
        {
            let run = alice(&sandbox, &[operation, "there", "--organization", &spelling]);
            assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{spelling:?}: {run:?}");
        }
        let run = alice(&sandbox, &["--list-repositories", "--organization", &spelling]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{spelling:?}: {run:?}");
    }
    // Her own is her own in each spelling that there is.
    for spelling in [TBD.to_uppercase(), format!("{{{TBD}}}"), format!(" {TBD}")] {
        let run = alice(&sandbox, &["--create-repository", "own", "--organization", &spelling]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains(&format!("/prod/{TBD}/own")), "{run:?}");
    }
}

#[test]
fn no_name_leads_to_another_repository() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository there --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    let before = std::fs::read_dir(sandbox.path("data/ark/registry")).unwrap().count();
    let long = "a".repeat(10_000);
    let (up, encoded) = (format!("../{OTHER}/there"), format!("..%2f{OTHER}%2fthere"));
    let (absolute, deep) = (format!("/prod/{OTHER}/there"), format!("a/../../{OTHER}/there"));
    for name in [
        &up,
        &encoded,
        &absolute,
        &deep,
        "..",
        ".",
        "a//b",
        "a/",
        "There",
        "a b",
        "a\\b",
        "a\nb",
        "a*",
        "\u{0430}pp",
        "app\u{200b}",
        "app\u{202e}",
        "\u{ff41}pp",
        &long,
    ] {
        for operation in
            ["--create-repository", "--list-images", "--login", "--delete-repository", "--push"]
        {
            let mut arguments = vec![operation, name, "--organization", TBD];
            if operation == "--push" {
                arguments.extend(["--from", "oci:nothing"]);
            }
            let run = alice(&sandbox, &arguments);
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (USAGE, ""),
                "{operation} {name:.60}: {run:?}"
            );
            assert!(run.stderr.len() < 1_000, "what is typed is not told at length");
        }
    }
    assert_eq!(std::fs::read_dir(sandbox.path("data/ark/registry")).unwrap().count(), before);
    let rest = sandbox.run_as("user:bob", "--list-repositories");
    assert!(rest.stdout.contains("/there\n"), "{rest:?}");
}
