use super::*;
use crate::error::ResourceKind;
use crate::model::Organizations;

const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

fn error(text: &str) -> String {
    let error = Memberships::parse(text, "m.toml").unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn empty_file_has_no_members() {
    let nobody = Memberships::parse("", "m.toml").unwrap();
    let alice = nobody.principal("user:alice".parse().unwrap());
    assert_eq!(alice.organizations(), Organizations::none());
}

#[test]
fn missing_file_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memberships.toml");
    let error = Memberships::load(&path).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::File, .. }));
    assert_eq!(error.to_string(), format!("file {} does not exist", path.display()));
    assert!(matches!(Memberships::load(folder.path()), Err(Error::Failed { .. })));
}

#[test]
fn load_errors_name_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path();
    std::fs::write(path, "x = 1").unwrap();
    let error = Memberships::load(path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:1:1: unknown field", path.display())), "{error}");
    std::fs::write(path, b"\xff").unwrap();
    let error = Memberships::load(path).unwrap_err();
    let expected =
        format!("the memberships file {} cannot be decoded: it is not UTF-8", path.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn parse_errors_have_line_and_column() {
    assert_eq!(
        error(&format!("[[organization]]\nid = \"{TBD}\"\nmember = []\n")),
        "m.toml:3:1: unknown field `member`, expected one of `id`, `kinds`, `members`, \
         `administrators`, `rules`",
    );
    assert_eq!(error("# é\n[[organization]]\nmembers = []\n"), "m.toml:2:1: missing field `id`");
    assert_eq!(
        error("[[organization]]\nid = \"x\""),
        "m.toml:2:6: \"x\" is not a valid organization GUID: expected a hexadecimal digit \
         (32 hexadecimal digits as 8-4-4-4-12) but found 'x' at character 1",
    );
    assert_eq!(
        error(&format!("[[organization]]\nid = \"{TBD}\"\nkinds = [\"user\", \"admin\"]")),
        "m.toml:3:18: \"admin\" is not a valid principal kind: expected user, robot or \
         ingest-job",
    );
    assert_eq!(
        error(&format!("[[organization]]\nid = \"{TBD}\"\nmembers = [\"alice\"]")),
        "m.toml:3:12: \"alice\" is not a valid principal: expected <kind>:<id>",
    );
    assert!(error("[[organization]\n").starts_with("m.toml:1:"));
}

#[test]
fn organization_listed_twice_is_rejected() {
    let braces = format!("{{{}}}", TBD.to_uppercase());
    let text = format!("[[organization]]\nid = \"{TBD}\"\n[[organization]]\nid = '{braces}'\n");
    assert_eq!(error(&text), format!("m.toml:4:6: organization {TBD} is listed twice"));
}

fn with_rules(rules: &str) -> String {
    format!("[[organization]]\nid = \"{TBD}\"\n[organization.rules]\n{rules}\n")
}

#[test]
fn rule_applies_to_one_kind_and_organization() {
    let text = with_rules("robot = [\"read\", \"push\"]\ningest-job = []");
    let memberships = Memberships::parse(&text, "m.toml").unwrap();
    let allowed = |kind| {
        let rule = memberships.rule(OrganizationId::TBD, kind)?;
        let allowed: Vec<Action> =
            Action::ALL.iter().copied().filter(|action| rule.allows(*action)).collect();
        Some((allowed, rule.origin().to_string()))
    };
    let robots = vec![
        Action::ListRepositories,
        Action::DescribeRepository,
        Action::ListImages,
        Action::Pull,
        Action::Push,
    ];
    assert_eq!(allowed(PrincipalKind::Robot), Some((robots, "m.toml:4".to_owned())));
    assert_eq!(allowed(PrincipalKind::IngestJob), Some((Vec::new(), "m.toml:5".to_owned())));
    assert_eq!(allowed(PrincipalKind::User), None);
    assert_eq!(memberships.rule(OrganizationId::from_u128(1), PrincipalKind::Robot), None);
    assert_eq!(memberships.origin(OrganizationId::TBD).unwrap().as_ref(), "m.toml:2");
    assert_eq!(memberships.origin(OrganizationId::from_u128(1)), None);
}

#[test]
fn rule_word_names_an_action() {
    for (word, expected) in [
        ("create", Action::CreateRepository),
        ("create-repository", Action::CreateRepository),
        ("list-images", Action::ListImages),
        ("pull", Action::Pull),
    ] {
        let memberships = Memberships::parse(&with_rules(&format!("user = ['{word}']")), "m.toml");
        let memberships = memberships.unwrap();
        let rule = memberships.rule(OrganizationId::TBD, PrincipalKind::User).unwrap();
        assert!(
            Action::ALL.iter().copied().all(|action| rule.allows(action) == (action == expected))
        );
    }
}

#[test]
fn invalid_rules_are_rejected() {
    assert_eq!(
        error(&with_rules("user = [\"read\", \"delete-image\"]")),
        "m.toml:4:17: \"delete-image\" is reserved for administrators",
    );
    assert!(error(&with_rules("user = ['delete-repository']")).starts_with("m.toml:4:9: "));
    assert_eq!(
        error(&with_rules("user = ['delete']")),
        "m.toml:4:9: \"delete\" is not a rule: expected read, create, push, or an action such as \
         pull or list-images",
    );
    assert_eq!(
        error(&with_rules("admin = []")),
        "m.toml:4:1: unknown field `admin`, expected one of `user`, `robot`, `ingest-job`",
    );
    assert!(error(&with_rules("user = 'read'")).starts_with("m.toml:4:8: invalid type"));
    let global = with_rules("robot = []").replace(TBD, &OrganizationId::GLOBAL.to_string());
    assert_eq!(
        error(&global),
        "m.toml:4:9: the global organization cannot have rules: they would apply to every \
         principal",
    );
}

fn mapped(tables: &str, caller: &str) -> Option<String> {
    let memberships = Memberships::parse(tables, "m.toml").unwrap();
    memberships.aws_principal(caller).unwrap().map(|name| name.to_string())
}

fn mapping(arn: &str, principal: &str) -> String {
    format!("[[aws]]\narn = \"{arn}\"\nprincipal = \"{principal}\"\n")
}

const TRUSTED: &str = "trust_session_name = true\n";
const BUILD: &str = "arn:aws:iam::095412845506:role/ark-build";
const SESSIONS: &str = "arn:aws:sts::095412845506:assumed-role/ark-build";

#[test]
fn first_matching_aws_table_applies() {
    let first = mapping(&format!("{SESSIONS}/admin-*"), "user:{session}") + TRUSTED;
    let tables = first + &mapping(BUILD, "robot:build") + &mapping(BUILD, "robot:never");
    assert_eq!(mapped(&tables, &format!("{SESSIONS}/x")).unwrap(), "robot:build");
    assert_eq!(mapped(&tables, &format!("{SESSIONS}/admin-1")).unwrap(), "user:admin-1");
    assert_eq!(mapped(&tables, "arn:aws:iam::095412845506:user/admin-1"), None);
    assert_eq!(mapped("", &format!("{SESSIONS}/x")), None);
}

#[test]
fn session_placeholder_is_part_of_the_id() {
    let tables = mapping(BUILD, "ingest-job:a-{session}-{session}@x") + TRUSTED;
    assert_eq!(mapped(&tables, &format!("{SESSIONS}/7")).unwrap(), "ingest-job:a-7-7@x");
    assert_eq!(mapped(&tables, &format!("{SESSIONS}/user:x")), None);
    assert!(error(&(mapping(BUILD, "{session}:x") + TRUSTED)).contains("principal kind"));
    assert!(error(&(mapping(BUILD, "{session}") + TRUSTED)).contains("expected <kind>:<id>"));
}

#[test]
fn session_name_needs_trust_session_name() {
    let untrusted = "trusts the session name, which the caller that assumes the role chooses; to \
                     allow that, add trust_session_name = true";
    assert_eq!(
        error(&mapping(BUILD, "user:{session}")),
        format!("m.toml:3:13: \"user:{{session}}\" {untrusted}"),
    );
    let one = format!("{SESSIONS}/alice");
    assert_eq!(error(&mapping(&one, "user:alice")), format!("m.toml:2:7: {one:?} {untrusted}"));
    let trusted = mapping(&one, "user:alice") + TRUSTED;
    assert_eq!(mapped(&trusted, &one).unwrap(), "user:alice");
    assert_eq!(mapped(&trusted, &format!("{SESSIONS}/bob")), None);
}

#[test]
fn invalid_aws_tables_have_line_and_column() {
    let alice = "arn:aws:iam::095412845506:user/alice";
    assert_eq!(
        error(&(mapping(alice, "user:{session}") + TRUSTED)),
        "m.toml:3:13: \"user:{session}\" cannot contain {session}: an IAM user has no session",
    );
    assert_eq!(
        error(&mapping(alice, "user:{name}")),
        "m.toml:3:13: \"user:{name}\" may contain no placeholder other than {session}",
    );
    assert_eq!(
        error(&mapping("arn:aws:iam::*:user/alice", "user:alice")),
        "m.toml:2:7: \"arn:aws:iam::*:user/alice\" does not describe AWS callers: an account has \
         12 digits and cannot be a pattern",
    );
    assert!(error(&mapping(alice, "alice")).starts_with("m.toml:3:13: "));
    assert!(error("[[aws]]\narn = ''").starts_with("m.toml:1:1: missing field `principal`"));
    assert!(error("[[aws]]\nuser = ''").starts_with("m.toml:2:1: unknown field `user`"));
}

#[test]
fn positions_count_characters_from_one() {
    let text = Text::new("é=1\n\nx", "m.toml");
    let places = [0, 1, 2, 4, 5, 6, 7, 99].map(|offset| text.line_and_column(offset));
    assert_eq!(places, [(1, 1), (1, 1), (1, 2), (1, 4), (2, 1), (3, 1), (3, 2), (3, 2)]);
    assert_eq!(&*text.origin(6), "m.toml:3");
    assert_eq!(Text::new("", "m.toml").line_and_column(0), (1, 1));
}
