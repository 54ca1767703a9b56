use super::{example, succeeded};

#[test]
fn custom_backend_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, _) = succeeded(&mut example("custom_backend", folder.path()));
    let lines: Vec<&str> = printed.lines().collect();
    let [suite, guarded, created, listed] = lines[..] else { panic!("{printed}") };
    assert!(suite.starts_with("memory:memory.invalid keeps the contract in "), "{suite}");
    assert_eq!(guarded, "and behind the standard policy");
    assert!(created.starts_with("created memory.invalid/prod/") && created.ends_with("/test/repo"));
    assert!(listed.starts_with("listed  1 of user:"), "{listed}");
}

#[test]
fn custom_backend_has_at_most_170_lines() {
    let source = include_str!("../../../examples/custom_backend/memory.rs");
    let lines = source.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 170, "{lines}");
}
