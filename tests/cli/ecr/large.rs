//! An account with as many repositories as AWS allows.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use ark_container_fakes::aws::{Fault, ListedRepository};

use super::Cloud;
use crate::memory::{MIB, watched};
use crate::sandbox::TBD;

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const REPOSITORIES: usize = 100_000;
const OURS: usize = 100;
/// A build with debugging takes 16 MiB more than one without.
const LIMIT: u64 = 48 * MIB;

/// As many as there may be, [`OURS`] of them of [`TBD`] and the rest of many others.
fn full_account() -> Cloud {
    let listed = (0..REPOSITORIES).map(|index| {
        let organization = match index % (REPOSITORIES / OURS) {
            0 => TBD.to_owned(),
            other => format!("{other:08x}-0000-4000-8000-000000000000"),
        };
        ListedRepository::new(format!("prod/{organization}/catalog/extract-{index:06}"))
            .with_tag("ark:organization", organization)
    });
    Cloud::with(|account| account.list(listed))
}

#[test]
fn a_full_account_is_listed_in_little_memory() {
    let cloud = full_account();
    let rows = cloud.sandbox.path("rows");
    let mut list = cloud.command("--list-repositories --all-pages");
    let process = list.stdout(File::create(&rows).unwrap()).spawn().unwrap();
    let (peak, succeeded) = watched(process);
    assert!(succeeded);
    let rows = BufReader::new(File::open(rows).unwrap()).lines().count();
    assert_eq!(rows, REPOSITORIES + 1, "with a line of headings");
    assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), REPOSITORIES / 1000);
    assert!(0 < peak && peak < LIMIT, "it took {} KiB", peak / 1024);
}

#[test]
fn the_first_row_comes_with_the_first_page() {
    let cloud = full_account();
    // Later than any test may take.
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
fn an_organizations_repositories_are_found_by_the_index() {
    let cloud = full_account();
    let listed = cloud.printed(&format!("--list-repositories --organization {TBD}"));
    assert_eq!(listed.lines().count(), OURS + 1, "with a line of headings");
    let actions: Vec<String> = cloud.aws.calls().into_iter().map(|call| call.action).collect();
    assert_eq!(actions, ["tag:GetResources", "ecr:DescribeRepositories"]);
}
