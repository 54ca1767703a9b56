//! The memberships file and the rules together, against a model that knows neither.

use std::fmt::Write as _;

use ark_container_core::identity::{Memberships, PrincipalKind, PrincipalName};
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{Action, Policy, StandardPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const ORGANIZATIONS: [OrganizationId; 3] =
    [OrganizationId::TBD, OrganizationId::GLOBAL, OrganizationId::from_u128(1)];
const NAMES: [&str; 6] =
    ["user:alice", "user:bob", "robot:alice", "robot:nightly", "ingest-job:1", "ingest-job:2"];
const KINDS: [&str; 3] = ["user", "robot", "ingest-job"];

/// What one organization's table in the file says.
#[derive(Debug, Clone)]
struct Table {
    id: OrganizationId,
    kinds: Vec<&'static str>,
    members: Vec<&'static str>,
    administrators: Vec<&'static str>,
}

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let some = || subsequence(NAMES.to_vec(), 0..=3);
    let lists = (subsequence(KINDS.to_vec(), 0..=2), some(), some());
    let listed = subsequence(ORGANIZATIONS.to_vec(), 0..=ORGANIZATIONS.len());
    (listed, vec(lists, ORGANIZATIONS.len())).prop_map(|(listed, lists)| {
        let tables = listed.into_iter().zip(lists);
        tables
            .map(|(id, (kinds, members, administrators))| Table {
                id,
                kinds,
                members,
                administrators,
            })
            .collect()
    })
}

fn as_toml(tables: &[Table]) -> String {
    let mut text = String::new();
    for Table { id, kinds, members, administrators } in tables {
        // A list's debug form is TOML too.
        writeln!(text, "[[organization]]\nid = \"{id}\"\nkinds = {kinds:?}").unwrap();
        writeln!(text, "members = {members:?}\nadministrators = {administrators:?}").unwrap();
    }
    text
}

/// The rules as sentences of the design, over the words of the file.
fn may(tables: &[Table], who: &str, action: &str, organization: OrganizationId) -> bool {
    let kind = who.split(':').next().unwrap();
    let table = tables.iter().find(|table| table.id == organization);
    let administers = table.is_some_and(|table| table.administrators.contains(&who));
    let belongs = administers
        || table.is_some_and(|table| table.kinds.contains(&kind) || table.members.contains(&who));
    let reads = ["list-repositories", "describe-repository", "list-images", "pull"];
    let adds = ["create-repository", "push"];
    let global = organization == OrganizationId::GLOBAL;
    administers
        || reads.contains(&action) && (belongs || global)
        || adds.contains(&action) && belongs && kind == "user" && !global
}

proptest! {
    #[test]
    fn decisions_agree_with_the_model(
        tables in tables(),
        who in select(NAMES.to_vec()),
        organization in select(ORGANIZATIONS.to_vec()),
    ) {
        let memberships = Memberships::parse(&as_toml(&tables), "random.toml").unwrap();
        let principal = memberships.principal(who.parse().unwrap());
        for action in Action::ALL {
            let decision = StandardPolicy.decide(&principal, action, organization).unwrap();
            let expected = may(&tables, who, action.as_str(), organization);
            prop_assert_eq!(decision.is_allowed(), expected, "{} {}", action, decision.rule());
        }
    }

    #[test]
    fn whoever_is_in_no_file_reads_the_global_organization_only(
        tables in tables(),
        organization in select(ORGANIZATIONS.to_vec()),
    ) {
        let tables: Vec<Table> =
            tables.into_iter().map(|table| Table { kinds: Vec::new(), ..table }).collect();
        let memberships = Memberships::parse(&as_toml(&tables), "random.toml").unwrap();
        for kind in PrincipalKind::ALL {
            let stranger = PrincipalName::new(kind, "stranger").unwrap();
            let stranger = memberships.principal(stranger);
            let allowed = Action::ALL
                .into_iter()
                .filter(|action| {
                    StandardPolicy.decide(&stranger, *action, organization).unwrap().is_allowed()
                })
                .count();
            let expected = if organization == OrganizationId::GLOBAL { 4 } else { 0 };
            prop_assert_eq!(allowed, expected);
        }
    }

    #[test]
    fn no_text_panics(text in "(\\PC|[\\[\\]={}\"'\n#,]|organization|id|kinds|members){0,40}") {
        if let Err(error) = Memberships::parse(&text, "random.toml") {
            prop_assert!(error.to_string().starts_with("random.toml:"));
        }
    }
}
