use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::sample::{Sample, path, path_in};
use super::*;
use crate::backend::CreateOptions;

#[test]
fn organizations_come_in_order_and_only_those_asked_for() {
    let sample = Sample::new();
    let ids = [3u128 << 120, 1, 2].map(OrganizationId::from_u128);
    for id in ids {
        for name in ["b", "a"] {
            let options = CreateOptions::default();
            sample.store.create_repository(&path_in(id, name), &options).unwrap();
        }
    }
    let listed = |organizations: &Organizations| -> Vec<RepositoryPath> {
        let listed = sample.store.repositories(&Stage::default(), organizations);
        listed.map(|listed| listed.unwrap().0).collect()
    };
    let both = |id| [path_in(id, "a"), path_in(id, "b")];
    assert_eq!(listed(&Organizations::All), [both(ids[1]), both(ids[2]), both(ids[0])].concat());
    let some = [ids[0], ids[2], OrganizationId::TBD].into_iter().collect();
    assert_eq!(listed(&some), [both(ids[2]), both(ids[0])].concat());
    assert!(listed(&Organizations::none()).is_empty());
}

#[test]
fn what_is_no_repository_is_passed_over() {
    let (sample, _) = Sample::with_repository("a");
    let stage = sample.folder.path().join("prod");
    let organization = stage.join(OrganizationId::TBD.to_string());
    let upper = stage.join(OrganizationId::GLOBAL.to_string().replace('7', "A"));
    for folder in [stage.join("no-guid"), upper, organization.join("Upper/_repository")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(organization.join("file"), "").unwrap();
    std::fs::create_dir_all(organization.join("empty/folder")).unwrap();
    // As deep as a path may be, and deeper.
    std::fs::create_dir_all(organization.join("d/".repeat(150))).unwrap();
    let listed = sample.store.repositories(&Stage::default(), &Organizations::All);
    let listed: Vec<_> = listed.map(|listed| listed.unwrap().0).collect();
    assert_eq!(listed, [path("a")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn names_come_in_the_order_of_their_bytes(
        names in proptest::collection::btree_set("[ab](-b|\\.b|_b|0)?(/[ab](-b)?){0,2}", 0..12),
    ) {
        let sample = Sample::new();
        for name in &names {
            sample.create(name);
        }
        let listed = sample.store.repositories(&Stage::default(), &Organizations::All);
        let listed: Vec<String> = listed.map(|listed| listed.unwrap().0.name().to_string()).collect();
        let sorted: BTreeSet<String> = names;
        prop_assert_eq!(listed, Vec::from_iter(sorted));
    }
}
