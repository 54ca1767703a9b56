//! The memberships file and the rules together, against a model that knows neither.

use ark_container_core::identity::{Memberships, MembershipsFile, PrincipalKind, PrincipalName};
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{
    Action, Decision, MembershipsPolicy, Policy, PolicyRequest, StandardPolicy,
};
use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::NamedTempFile;

use super::model::{NAMES, ORGANIZATIONS, Table, as_toml, may, tables};

/// A memberships file with this text, which only its owner can write.
pub(super) fn file(text: &str) -> (NamedTempFile, MembershipsFile) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let memberships = MembershipsFile::open(file.path()).unwrap();
    (file, memberships)
}

const CALLERS: [&str; 3] = [
    "arn:aws:iam::095412845506:user/teams/alice",
    "arn:aws:sts::095412845506:assumed-role/ark-build/i-0123",
    "arn:aws:iam::095412845506:root",
];

/// Files that are tables of the right names with values that are nearly right.
fn values() -> impl Strategy<Value = String> {
    let organization =
        ("(read|create|push|pull|delete-image|\\PC){0,1}", "(user|robot|ingest-job|x)");
    let organization = organization.prop_map(|(word, kind)| {
        let id = OrganizationId::TBD;
        format!("[[organization]]\nid = '{id}'\n[organization.rules]\n{kind} = [{word:?}]\n")
    });
    let arn = "arn:aws:(iam|sts)::095412845506:(user/|role/|assumed-role/|[a-z*?/:]|\\PC){0,6}";
    let aws = (arn, "(user|robot):(a|\\{|\\}|\\{session\\}|\\PC){0,4}", any::<bool>());
    let aws = aws.prop_map(|(arn, principal, trust)| {
        format!("[[aws]]\narn = {arn:?}\nprincipal = {principal:?}\ntrust_session_name = {trust}\n")
    });
    (vec(organization, 0..=1), vec(aws, 0..=3))
        .prop_map(|(organizations, aws)| organizations.concat() + &aws.concat())
}

fn decide(policy: &dyn Policy, request: &PolicyRequest<'_>) -> Decision {
    policy.decide(request).now_or_never().unwrap().unwrap()
}

proptest! {
    #[test]
    fn decisions_agree_with_the_model(
        tables in tables(),
        who in select(NAMES.to_vec()),
        organization in select(ORGANIZATIONS.to_vec()),
    ) {
        let (_folder, file) = file(&as_toml(&tables));
        let principal = file.current().principal(who.parse().unwrap());
        let policy = MembershipsPolicy::new(file);
        for &action in Action::ALL {
            let decision = decide(&policy, &PolicyRequest::new(&principal, action, organization));
            let expected = may(&tables, who, action.as_str(), organization);
            prop_assert_eq!(decision.is_allowed(), expected, "{} {}", action, decision.rule());
        }
    }

    #[test]
    fn whoever_is_in_no_file_reads_the_global_organization_only(
        tables in tables(),
        organization in select(ORGANIZATIONS.to_vec()),
    ) {
        let tables: Vec<Table> = tables.into_iter().map(Table::without_kinds).collect();
        let (_folder, file) = file(&as_toml(&tables));
        let policies: [&dyn Policy; 2] = [&StandardPolicy, &MembershipsPolicy::new(file.clone())];
        for (kind, policy) in PrincipalKind::ALL.iter().copied().flat_map(|kind| policies.map(|policy| (kind, policy))) {
            let stranger = PrincipalName::new(kind, "stranger").unwrap();
            let stranger = file.current().principal(stranger);
            let allowed = Action::ALL.iter().copied()
                .filter(|action| {
                    decide(policy, &PolicyRequest::new(&stranger, *action, organization)).is_allowed()
                })
                .count();
            let expected = if organization == OrganizationId::GLOBAL { 4 } else { 0 };
            prop_assert_eq!(allowed, expected);
        }
    }

    #[test]
    fn no_text_panics(
        text in "(\\PC|[\\[\\]={}\"'\n#,.]|organization|id|kinds|members|rules|robot|aws|arn|principal){0,40}"
    ) {
        if let Err(error) = Memberships::parse(&text, "random.toml") {
            prop_assert!(error.to_string().starts_with("random.toml:"));
        }
    }

    #[test]
    fn no_value_panics(text in values(), caller in select(CALLERS.to_vec())) {
        match Memberships::parse(&text, "random.toml") {
            Ok(memberships) => {
                let principal = memberships.aws_principal(caller).unwrap();
                let is_filled_in = principal.is_none_or(|name| !name.id().contains(['{', '}']));
                prop_assert!(is_filled_in);
            }
            Err(error) => prop_assert!(error.to_string().starts_with("random.toml:"), "{}", error),
        }
    }
}
