//! Every action × every kind of principal × every standing in an organization.

use ark_container_core::Error;
use ark_container_core::RegistryBackend;
use ark_container_core::identity::{Principal, PrincipalKind, PrincipalName};
use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::permission::Action;
use ark_container_core::testing::MockRegistryBackend;

use super::{OTHER, attempt, expecting_one, guarded};

/// The rules of the catalog, written out. `global-*` asks about the global organization, the other
/// standings about an ordinary one; an outsider is a member and administrator of another.
const RULES: &str = "
                                list-repositories  create-repository  describe-repository  delete-repository  list-images  delete-image  pull  push
user        outsider            no                 no                 no                   no                 no           no            no    no
user        member              yes                yes                yes                  no                 yes          no            yes   yes
user        administrator       yes                yes                yes                  yes                yes          yes           yes   yes
user        global-outsider     yes                no                 yes                  no                 yes          no            yes   no
user        global-member       yes                no                 yes                  no                 yes          no            yes   no
user        global-administrator yes               yes                yes                  yes                yes          yes           yes   yes
robot       outsider            no                 no                 no                   no                 no           no            no    no
robot       member              yes                no                 yes                  no                 yes          no            yes   no
robot       administrator       yes                yes                yes                  yes                yes          yes           yes   yes
robot       global-outsider     yes                no                 yes                  no                 yes          no            yes   no
robot       global-member       yes                no                 yes                  no                 yes          no            yes   no
robot       global-administrator yes               yes                yes                  yes                yes          yes           yes   yes
ingest-job  outsider            no                 no                 no                   no                 no           no            no    no
ingest-job  member              yes                no                 yes                  no                 yes          no            yes   no
ingest-job  administrator       yes                yes                yes                  yes                yes          yes           yes   yes
ingest-job  global-outsider     yes                no                 yes                  no                 yes          no            yes   no
ingest-job  global-member       yes                no                 yes                  no                 yes          no            yes   no
ingest-job  global-administrator yes               yes                yes                  yes                yes          yes           yes   yes
";

const STANDINGS: usize = 6;

/// One answer of the table.
#[derive(Debug)]
struct Cell {
    kind: PrincipalKind,
    standing: &'static str,
    action: Action,
    allowed: bool,
}

fn cells() -> Vec<Cell> {
    let mut lines = RULES.lines().filter(|line| !line.is_empty());
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let actions = header
        .iter()
        .map(|word| Action::ALL.into_iter().find(|action| action.to_string() == *word).unwrap());
    let actions: Vec<Action> = actions.collect();
    assert_eq!(actions, Action::ALL, "the table has a column for every action");
    let mut cells = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, standing, answers @ ..] = words.as_slice() else { panic!("{line}") };
        assert_eq!(answers.len(), actions.len(), "{line}");
        for (action, answer) in actions.iter().zip(answers) {
            let kind = kind.parse().unwrap();
            let allowed = *answer == "yes";
            assert!(allowed || *answer == "no", "{line}");
            cells.push(Cell { kind, standing, action: *action, allowed });
        }
    }
    cells
}

impl Cell {
    /// The organization that is asked about.
    fn organization(&self) -> OrganizationId {
        match self.standing.starts_with("global-") {
            true => OrganizationId::GLOBAL,
            false => OrganizationId::TBD,
        }
    }

    fn principal(&self) -> Principal {
        let name = PrincipalName::new(self.kind, "somebody").unwrap();
        let (here, elsewhere) = (Organizations::from(self.organization()), OTHER.into());
        match self.standing.trim_start_matches("global-") {
            "outsider" => Principal::new(name, Organizations::from(OTHER), elsewhere),
            "member" => Principal::new(name, here, elsewhere),
            "administrator" => Principal::new(name, Organizations::none(), here),
            standing => panic!("{standing}"),
        }
    }
}

#[test]
fn the_table_is_complete() {
    let cells = cells();
    let rows: std::collections::BTreeSet<_> =
        cells.iter().map(|cell| (cell.kind, cell.standing)).collect();
    assert_eq!(rows.len(), PrincipalKind::ALL.len() * STANDINGS);
    assert_eq!(cells.len(), rows.len() * Action::ALL.len());
}

#[tokio::test]
async fn every_decision_is_as_written() {
    for cell in cells() {
        let organization = cell.organization();
        // A mock without expectations panics at any call: what is denied never gets there.
        let inner = match cell.allowed {
            true => expecting_one(cell.action, organization),
            false => MockRegistryBackend::new(),
        };
        let backend = guarded(inner, cell.principal());
        let answer = attempt(&backend, cell.action, organization).await;
        match (cell.allowed, answer) {
            (true, Ok(())) | (false, Err(Error::PermissionDenied { .. })) => {}
            (_, answer) => panic!("{cell:?}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn credentials_that_delete_are_for_administrators() {
    for cell in cells().into_iter().filter(|cell| cell.action == Action::DeleteImage) {
        let organization = cell.organization();
        let inner = match cell.allowed {
            true => expecting_one(Action::Push, organization),
            false => MockRegistryBackend::new(),
        };
        let backend = guarded(inner, cell.principal());
        let scope = Scope::organizations(Stage::default(), [organization], Access::Delete);
        let answer = backend.credentials(&scope, &Default::default()).await;
        assert_eq!(answer.is_ok(), cell.allowed, "{cell:?}: {answer:?}");
    }
}

#[tokio::test]
async fn credentials_need_every_organization_of_their_scope() {
    let alice = Principal::new(
        "user:alice".parse().unwrap(),
        Organizations::from(OrganizationId::TBD),
        Organizations::none(),
    );
    let backend = guarded(MockRegistryBackend::new(), alice);
    let both = [OrganizationId::TBD, OTHER];
    let scope = Scope::organizations(Stage::default(), both, Access::Pull);
    let error = backend.credentials(&scope, &Default::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("user:alice may not pull from organization {OTHER}"));
    let nothing = Scope::organizations(Stage::default(), [], Access::Pull);
    let error = backend.credentials(&nothing, &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
}

#[tokio::test]
async fn a_denial_names_who_what_and_where() {
    let robot =
        Principal::new("robot:nightly".parse().unwrap(), Organizations::All, Organizations::none());
    let backend = guarded(MockRegistryBackend::new(), robot);
    let error = attempt(&backend, Action::Push, OrganizationId::TBD).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "robot:nightly may not push to \
         prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video"
    );
}
