//! Logins to ECR: cache, concurrency, restrictions and logout; and listings of a full account.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use ark_container_fakes::aws::{Fault, ListedRepository};
use insta::assert_snapshot;

use super::{Cloud, printed, printed_by_all};
use crate::load::{MIB, watched};
use crate::sandbox::{OTHER, TBD};
use crate::tools::Tools;

const TOKEN: &str = "ecr:GetAuthorizationToken";

fn login(name: &str) -> String {
    format!("--quiet --login {name} --organization {TBD}")
}

#[test]
fn concurrent_processes_share_one_password() {
    let cloud = Cloud::new();
    printed_by_all((0..20).map(|_| cloud.narrowed_command(&login("a"))));
    assert_eq!(cloud.aws.count(TOKEN), 1);
    assert_eq!(cloud.aws.count("sts:AssumeRole"), 1);
}

#[test]
fn password_is_cached_by_scope_and_identity() {
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
fn logout_deletes_cached_passwords() {
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
fn expired_password_is_not_cached() {
    let cloud = Cloud::new();
    // A time in 2015, as from a server with a wrong clock.
    let past = UNIX_EPOCH + Duration::from_secs(1_420_000_000);
    cloud.aws.date_tokens(past);
    for count in 1..=2 {
        cloud.printed(&login("a"));
        assert_eq!(cloud.aws.count(TOKEN), count);
    }
}

#[test]
fn cached_password_is_private() {
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

/// Returns AWS with the repository `a` in two organizations, and an image in the other organization.
fn two_organizations() -> Cloud {
    let cloud = Cloud::new();
    cloud.sandbox.write_image("sample", "hello");
    for organization in [TBD, OTHER] {
        cloud.printed(&format!("--create-repository a --organization {organization}"));
    }
    cloud.printed(&format!("--push a:v1 --from oci:sample --organization {OTHER}"));
    cloud
}

#[test]
fn unrestricted_password_comes_with_a_warning() {
    let cloud = two_organizations();
    let run = cloud.run(&format!("--login a --organization {TBD}"));
    assert_eq!(run.code, 0, "{run:?}");
    let quiet = cloud.run(&format!("--quiet --login a --organization {TBD}"));
    assert_eq!(quiet.stderr, run.stderr);
    let warning = run.stderr.replace(&cloud.host(), "HOST");
    assert_snapshot!(warning, @"warning: the password is for every repository of HOST that your AWS identity can reach, not only for prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a; to narrow it, set a role that can be assumed: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN");
    // The warning is true.
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.command(&format!("--login a --organization {TBD}"));
    assert_eq!(tools.log_in("skopeo", &cloud.host(), login).code, 0);
    tools.printed(&format!("skopeo inspect --raw docker://{}", cloud.image_of(OTHER, "a:v1")));
}

#[test]
fn unrestricted_password_is_denied_by_require_scoped() {
    let cloud = two_organizations();
    let mut login = cloud.command(&format!("--login a --organization {TBD}"));
    let run = cloud.sandbox.finish(login.env("ARK_REQUIRE_SCOPED", "true"));
    assert_snapshot!(cloud.reported(&run), @r"
    exit 2
    error: credentials limited to repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:pull,push need an IAM role; set role_arn for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod, or allow wider credentials with require_scoped = false
    ");
    assert_eq!(cloud.aws.count("ecr:GetAuthorizationToken"), 1, "only for the push");
    let mut login = cloud.narrowed_command(&format!("--login a --organization {TBD}"));
    printed(&cloud.sandbox, login.env("ARK_REQUIRE_SCOPED", "true"));
}

#[test]
fn expired_password_is_denied_at_ecr() {
    let cloud = two_organizations();
    cloud.aws.set_token_lifetime(Duration::ZERO);
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.narrowed_command(&format!("--login a --organization {TBD}"));
    let run = tools.log_in("skopeo", &cloud.host(), login);
    assert!(run.stderr.contains("403 (Forbidden)"), "{run:?}");
}

/// Maximum number of repositories of an account.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const REPOSITORIES: usize = 100_000;
const OURS: usize = 100;
/// Maximum memory of a listing. A debug build uses 16 MiB more than a release build.
const MAX_MEMORY_BYTES: u64 = 48 * MIB;

/// Returns an account with the maximum number of repositories, [`OURS`] of them in [`TBD`] and the others in many
/// organizations.
fn full_account() -> Cloud {
    let listed = (0..REPOSITORIES).map(|index| {
        let organization = match index % (REPOSITORIES / OURS) {
            0 => TBD.to_owned(),
            other => format!("{other:08x}-0000-4000-8000-000000000000"),
        };
        ListedRepository::new(format!("prod/{organization}/catalog/extract-{index:06}"))
            .with_tag("ark:organization", organization)
    });
    Cloud::with(|account| account.with_list(listed))
}

#[test]
fn full_account_is_listed_in_little_memory() {
    let cloud = full_account();
    let rows = cloud.sandbox.path("rows");
    let mut list = cloud.command("--list-repositories --all-pages");
    let process = list.stdout(File::create(&rows).unwrap()).spawn().unwrap();
    let (peak, succeeded) = watched(process);
    assert!(succeeded);
    let rows = BufReader::new(File::open(rows).unwrap()).lines().count();
    assert_eq!(rows, REPOSITORIES + 1, "with a line of headings");
    assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), REPOSITORIES / 1000);
    assert!(0 < peak && peak < MAX_MEMORY_BYTES, "{} KiB of memory", peak / 1024);
}

#[test]
fn first_row_comes_with_the_first_page() {
    let cloud = full_account();
    // A delay longer than any test.
    let never = Fault::slow(Duration::from_secs(3600));
    cloud.aws.inject(never.on("ecr:DescribeRepositories").after(1));
    let mut list = cloud.command("--list-repositories --all-pages --output json");
    let mut process = list.stdout(Stdio::piped()).spawn().unwrap();
    let mut rows = BufReader::new(process.stdout.take().unwrap());
    let mut row = String::new();
    rows.read_line(&mut row).unwrap();
    assert!(row.starts_with(r#"{"organization":"#), "{row}");
    assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), 1);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn organization_listing_uses_the_tag_index() {
    let cloud = full_account();
    let listed = cloud.printed(&format!("--list-repositories --organization {TBD}"));
    assert_eq!(listed.lines().count(), OURS + 1, "with a line of headings");
    let mut actions: Vec<String> = cloud.aws.calls().into_iter().map(|call| call.action).collect();
    actions.sort();
    assert_eq!(
        actions,
        ["ecr:DescribeRepositories", "ecr:DescribeRepositories", "tag:GetResources"],
        "the first pages of the account and of the index concurrently, and the repositories by name"
    );
}
