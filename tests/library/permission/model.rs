//! The rules as the design has them, over the words of a random memberships file: it knows nothing
//! of how the library reads files or decides.

use std::fmt::Write as _;

use ark_container_core::model::OrganizationId;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::subsequence;

/// Two that differ in the last digit, the global one, and one that is mostly zeros.
pub(super) const ORGANIZATIONS: [OrganizationId; 4] = [
    OrganizationId::TBD,
    OrganizationId::from_u128(OrganizationId::TBD.as_u128() + 1),
    OrganizationId::GLOBAL,
    OrganizationId::from_u128(1),
];

pub(super) const NAMES: [&str; 6] =
    ["user:alice", "user:bob", "robot:alice", "robot:nightly", "ingest-job:1", "ingest-job:2"];

const KINDS: [&str; 3] = ["user", "robot", "ingest-job"];
const READS: [&str; 4] = ["list-repositories", "describe-repository", "list-images", "pull"];
const ADDS: [&str; 2] = ["create-repository", "push"];

/// Every word that a rule may have.
const RULE_WORDS: [&str; 8] = [
    "read",
    "create",
    "push",
    "pull",
    "list-repositories",
    "list-images",
    "describe-repository",
    "create-repository",
];

/// What one organization's table in the file says.
#[derive(Debug, Clone)]
pub(super) struct Table {
    id: OrganizationId,
    kinds: Vec<&'static str>,
    members: Vec<&'static str>,
    administrators: Vec<&'static str>,
    /// The words for each of `KINDS` that has a rule.
    rules: [Option<Vec<&'static str>>; 3],
}

impl Table {
    /// The same for fewer: who is a member by kind alone is none.
    pub(super) fn without_kinds(self) -> Self {
        Self { kinds: Vec::new(), ..self }
    }
}

pub(super) fn tables() -> impl Strategy<Value = Vec<Table>> {
    let some = || subsequence(NAMES.to_vec(), 0..=3);
    let rule = || of(subsequence(RULE_WORDS.to_vec(), 0..=3));
    let kinds = subsequence(KINDS.to_vec(), 0..=2);
    let lists = (kinds, some(), some(), [rule(), rule(), rule()]);
    let listed = subsequence(ORGANIZATIONS.to_vec(), 0..=ORGANIZATIONS.len());
    (listed, vec(lists, ORGANIZATIONS.len())).prop_map(|(listed, lists)| {
        let tables = listed.into_iter().zip(lists);
        tables
            .map(|(id, (kinds, members, administrators, rules))| {
                let rules = if id == OrganizationId::GLOBAL { [None, None, None] } else { rules };
                Table { id, kinds, members, administrators, rules }
            })
            .collect()
    })
}

pub(super) fn as_toml(tables: &[Table]) -> String {
    let mut text = String::new();
    for Table { id, kinds, members, administrators, rules } in tables {
        // A list's debug form is TOML too.
        writeln!(text, "[[organization]]\nid = \"{id}\"\nkinds = {kinds:?}").unwrap();
        writeln!(text, "members = {members:?}\nadministrators = {administrators:?}").unwrap();
        writeln!(text, "[organization.rules]").unwrap();
        for (kind, words) in KINDS.iter().zip(rules) {
            if let Some(words) = words {
                writeln!(text, "{kind} = {words:?}").unwrap();
            }
        }
    }
    text
}

/// Whether `who` belongs to `organization`.
pub(super) fn belongs(tables: &[Table], who: &str, organization: OrganizationId) -> bool {
    let kind = who.split(':').next().unwrap();
    tables.iter().any(|table| {
        let listed = table.members.contains(&who) || table.administrators.contains(&who);
        table.id == organization && (listed || table.kinds.contains(&kind))
    })
}

/// Whether `who` may do `action` in `organization`.
pub(super) fn may(tables: &[Table], who: &str, action: &str, organization: OrganizationId) -> bool {
    let kind = who.split(':').next().unwrap();
    let table = tables.iter().find(|table| table.id == organization);
    if table.is_some_and(|table| table.administrators.contains(&who)) {
        return true;
    }
    let reads = READS.contains(&action);
    if organization == OrganizationId::GLOBAL {
        return reads;
    }
    if !belongs(tables, who, organization) || !reads && !ADDS.contains(&action) {
        return false;
    }
    let position = KINDS.iter().position(|known| *known == kind).unwrap();
    match table.and_then(|table| table.rules[position].as_ref()) {
        None => reads || kind == "user",
        Some(words) => words.iter().any(|word| match *word {
            "read" => reads,
            "create" => action == "create-repository",
            word => action == word,
        }),
    }
}
