//! Manifests, memberships, and the claims of tokens of the local registry.

use std::collections::BTreeSet;

use ark_container_core::Error;
use ark_container_core::fuzzing::registry;
use ark_container_core::identity::{Memberships, PrincipalKind};
use ark_container_core::model::{
    Access, Action, Descriptor, OrganizationId, RepositoryPath, Scope, Stage, media_type,
};
use serde_json::Value;

const ARNS: [&str; 4] = [
    "arn:aws:iam::095412845506:user/alice",
    "arn:aws:sts::095412845506:assumed-role/ark-build/i-0123",
    "arn:aws:sts::095412845506:assumed-role/AWSReservedSSO_Developer_1f2e/alice",
    "arn:aws:iam::095412845506:root",
];

/// Checks that the content of a manifest agrees with its JSON, and that no text is both image and index.
pub fn manifest(data: &[u8]) {
    let read = |media_type| registry::manifest(media_type, data).ok();
    let images = [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].map(read);
    let indexes = [media_type::OCI_INDEX, media_type::DOCKER_MANIFEST_LIST].map(read);
    let accepted = images.iter().chain(&indexes).flatten().count();
    assert!(
        accepted == 0 || images.iter().all(Option::is_none) || indexes.iter().all(Option::is_none)
    );
    for (blobs, children) in images.iter().chain(&indexes).flatten() {
        let text = std::str::from_utf8(data).expect("JSON is UTF-8");
        // Ignored fields may have numbers and unpaired surrogates that this parser rejects.
        let Ok(json) = serde_json::from_str::<Value>(text) else { continue };
        let digests = |list: &Value| -> Vec<String> {
            let list = list.as_array().into_iter().flatten();
            list.map(|found| found["digest"].as_str().expect("a digest").to_owned()).collect()
        };
        let config = json["config"]["digest"].as_str().map(str::to_owned);
        let named: Vec<String> = config.into_iter().chain(digests(&json["layers"])).collect();
        let texts = |found: &[_]| found.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(blobs), named);
        assert_eq!(texts(children), digests(&json["manifests"]));
    }
    if let Some(platform) = registry::platform(data) {
        assert!(!platform.os.is_empty() && !platform.architecture.is_empty());
    }
    if let Ok(descriptor) = serde_json::from_slice::<Descriptor>(data) {
        let written = serde_json::to_string(&descriptor).expect("it is JSON");
        assert_eq!(serde_json::from_str::<Descriptor>(&written).ok(), Some(descriptor));
    }
}

/// Checks that the claim of a token has exactly one form for each scope.
///
/// An input that is not a claim is a list: an access level, a stage, and organizations or a path.
pub fn scope(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some((scope, written)) = registry::scope(text) {
        let claims = |text: &str| -> Vec<[Value; 3]> {
            let claims: Vec<Value> = serde_json::from_str(text).expect("it is a list");
            claims
                .iter()
                .map(|claim| ["type", "name", "actions"].map(|key| claim[key].clone()))
                .collect()
        };
        assert_eq!(claims(text), claims(&written));
        check_round_trip(&scope);
    }
    let mut lines = text.lines();
    let (Some(access), Some(stage)) = (lines.next(), lines.next()) else { return };
    let levels = [Access::Pull, Access::Push, Access::Delete];
    let Some(access) = levels.into_iter().find(|level| level.actions() == access) else { return };
    if let Ok(path) = stage.parse::<RepositoryPath>() {
        let scope = Scope::repository(path.clone(), access);
        check_round_trip(&scope);
        assert!(levels.iter().all(|level| scope.covers(&path, *level) == (*level <= access)));
    }
    let Ok(stage) = stage.parse::<Stage>() else { return };
    let organizations: BTreeSet<OrganizationId> =
        lines.filter_map(|line| line.parse().ok()).collect();
    if !organizations.is_empty() {
        let scope = Scope::organizations(stage, organizations.clone(), access);
        check_round_trip(&scope);
        assert_eq!(scope.organization_ids(), organizations);
    }
}

fn check_round_trip(scope: &Scope) {
    let claim = registry::access(scope).expect("it is JSON");
    let (found, written) = registry::scope(&claim).expect("its own claim is read");
    assert_eq!((&found, written), (scope, claim));
    assert!(found.to_string().split(' ').count() >= 1);
}

/// Checks that an error has a position, and that no principal has more permissions than a file may give.
pub fn memberships(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let memberships = match Memberships::parse(text, "m.toml") {
        Ok(memberships) => memberships,
        Err(Error::InvalidInput { message, .. }) => {
            let position = message.strip_prefix("m.toml:").expect("the file first");
            let mut numbers = position.splitn(3, ':').map(str::parse::<usize>);
            let lines = text.split('\n').count();
            assert!(matches!(numbers.next(), Some(Ok(line)) if (1..=lines).contains(&line)));
            assert!(matches!(numbers.next(), Some(Ok(column)) if column >= 1));
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    let mut names =
        vec!["user:alice".to_owned(), "robot:nightly".to_owned(), "ingest-job:1".to_owned()];
    for arn in ARNS {
        let found = memberships.aws_principal(arn).expect("it is an ARN");
        names.extend(found.map(|name| name.to_string()));
    }
    for name in names {
        let principal = memberships.principal(name.parse().expect("a name of a principal"));
        let known = [OrganizationId::TBD, OrganizationId::GLOBAL];
        for organization in known {
            assert!(!principal.administers(organization) || principal.is_member_of(organization));
            assert!(
                !principal.is_member_of(organization) || memberships.origin(organization).is_some()
            );
        }
    }
    for kind in [PrincipalKind::User, PrincipalKind::Robot, PrincipalKind::IngestJob] {
        assert!(memberships.rule(OrganizationId::GLOBAL, kind).is_none());
        if let Some(rule) = memberships.rule(OrganizationId::TBD, kind) {
            assert!(!rule.allows(Action::DeleteRepository) && !rule.allows(Action::DeleteImage));
            assert!(!rule.allows(Action::Push) || rule.allows(Action::Pull));
        }
    }
}
