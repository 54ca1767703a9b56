//! Each decision says by which rule it is, what that says, and where it is written.

use std::fs;
use std::time::{Duration, Instant};

use ark_container_core::identity::{Principal, single_user};
use ark_container_core::model::{OrganizationId, Organizations};
use ark_container_core::permission::{
    Action, Decision, Explanation, IsolationLayer, MembershipsPolicy, Policy, PolicyRequest,
    StandardPolicy, explain,
};

use super::OTHER;
use super::memberships::file;

const TBD: OrganizationId = OrganizationId::TBD;
const GLOBAL: OrganizationId = OrganizationId::GLOBAL;

const FILE: &str = r#"
[[organization]]
id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
kinds = ["user"]
members = ["robot:build"]
administrators = ["user:carol"]

[organization.rules]
robot = ["pull", "push"]
ingest-job = []

[[organization]]
id = "77777777-7777-4777-7777-777777777777"
administrators = ["user:carol"]
"#;

#[tokio::test]
async fn a_decision_says_where_its_rule_is_written() {
    let (_folder, file) = file(FILE);
    let policy = MembershipsPolicy::new(file.clone());
    // Who, what, where: whether, by which rule, and the line of the file that says so.
    let explained = [
        ("user:alice", Action::Push, TBD, true, "member", Some(3)),
        ("user:alice", Action::DeleteImage, TBD, false, "administrators-delete", None),
        ("user:alice", Action::Pull, OTHER, false, "not-a-member", None),
        ("user:alice", Action::Pull, GLOBAL, true, "everyone-reads-global", None),
        ("user:alice", Action::Push, GLOBAL, false, "administrators-change-global", None),
        ("user:carol", Action::DeleteRepository, TBD, true, "administrator", Some(3)),
        ("user:carol", Action::Push, GLOBAL, true, "administrator", Some(13)),
        ("robot:build", Action::Push, TBD, true, "organization-rules", Some(9)),
        ("robot:build", Action::ListImages, TBD, false, "organization-rules", Some(9)),
        ("robot:build", Action::DeleteImage, TBD, false, "robots-read", None),
        ("robot:other", Action::Push, TBD, false, "not-a-member", Some(3)),
        ("ingest-job:1", Action::Pull, TBD, false, "not-a-member", Some(3)),
    ];
    for (who, action, organization, allowed, rule, line) in explained {
        let principal = file.current().principal(who.parse().unwrap());
        let request = PolicyRequest::new(&principal, action, organization);
        let explanation = explain(&policy, &request, &[]).await.unwrap();
        let Explanation { decision, .. } = &explanation;
        let context = format!("{who} {action} {organization}: {decision:?}");
        assert_eq!((decision.is_allowed(), decision.rule()), (allowed, rule), "{context}");
        assert!(decision.reason().is_some_and(|reason| !reason.ends_with('.')), "{context}");
        let origin = line.map(|line| format!("{}:{line}", file.path().display()));
        assert_eq!(decision.origin(), origin.as_deref(), "{context}");
    }
}

/// A token's claims make members too: then the file has its rules, and no say in who belongs.
#[tokio::test]
async fn the_file_is_not_the_origin_of_what_a_token_claims() {
    let (_folder, file) = file(FILE);
    let policy = MembershipsPolicy::new(file);
    let claimed = |name: &str, member_of: OrganizationId, administers: Organizations| {
        Principal::new(name.parse().unwrap(), member_of.into(), administers)
    };
    let decide = async |principal: Principal, action| -> Decision {
        policy.decide(&PolicyRequest::new(&principal, action, TBD)).await.unwrap()
    };

    let member = decide(claimed("robot:token", TBD, Organizations::none()), Action::Push).await;
    assert!(member.is_allowed() && member.origin().is_some(), "{member:?}");
    let administrator = decide(claimed("robot:token", TBD, TBD.into()), Action::DeleteImage).await;
    assert_eq!((administrator.rule(), administrator.origin()), ("administrator", None));
    let stranger = decide(claimed("user:alice", OTHER, Organizations::none()), Action::Pull).await;
    assert_eq!((stranger.rule(), stranger.origin()), ("not-a-member", None));
}

#[tokio::test]
async fn explain_lists_active_layers_that_check_the_action() {
    use IsolationLayer::{Credentials, Iam, Policy};
    let alice = single_user("user:alice".parse().unwrap());
    let cases: &[(Action, &[IsolationLayer], &[IsolationLayer])] = &[
        (Action::Push, IsolationLayer::ALL, &[Policy, Credentials, Iam]),
        (Action::CreateRepository, IsolationLayer::ALL, &[Policy, Iam]),
        (Action::ListImages, &[Policy, Credentials], &[Policy]),
        (Action::Pull, &[Credentials], &[Credentials]),
        (Action::ListRepositories, &[], &[]),
    ];
    for (action, active, expected) in cases {
        let request = PolicyRequest::new(&alice, *action, TBD);
        let explanation = explain(&StandardPolicy, &request, active).await.unwrap();
        assert_eq!(explanation.isolation_layers, *expected, "{action}");
    }
}

#[tokio::test]
async fn the_policy_follows_the_file() {
    let (_folder, file) = file(FILE);
    let robot = file.current().principal("robot:build".parse().unwrap());
    let policy = MembershipsPolicy::new(file.clone());
    let push = PolicyRequest::new(&robot, Action::Push, TBD);
    assert!(policy.decide(&push).await.unwrap().is_allowed());
    fs::write(file.path(), FILE.replace(r#"["pull", "push"]"#, r#"["pull"]"#)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while policy.decide(&push).await.unwrap().is_allowed() {
        assert!(Instant::now() < deadline, "the file is not read again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(policy.decide(&push).await.unwrap().rule(), "organization-rules");
}
