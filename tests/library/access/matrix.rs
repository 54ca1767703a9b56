//! The access matrix: persons, isolation layers, target organizations, and the reviewed outcome of each operation. The
//! library, the command line, docker and ministack are compared with it.

use std::fmt;

use ark_container_core::identity::Principal;
use ark_container_core::model::{OrganizationId, Organizations};
use ark_container_core::testing::TestToken;

/// The reviewed table. A test of the library compares it with the outcomes.
pub(crate) const REVIEWED: &str = include_str!("outcomes.txt");

/// The organization of alice, the robot, the ingest job and the administrator.
pub(crate) const OURS: OrganizationId = OrganizationId::TBD;
/// The organization of bob.
pub(crate) const THEIRS: OrganizationId =
    OrganizationId::from_u128(0x1111_1111_2222_3333_4444_5555_5555_5555);
/// An organization without members.
pub(crate) const THIRD: OrganizationId =
    OrganizationId::from_u128(0x3333_3333_2222_3333_4444_5555_5555_5555);
/// An organization without repositories and members.
pub(crate) const MISSING: OrganizationId =
    OrganizationId::from_u128(0x9999_9999_9999_4999_8999_9999_9999_9999);

/// The organizations that have repositories.
pub(crate) const FURNISHED: [OrganizationId; 4] = [OURS, THEIRS, THIRD, OrganizationId::GLOBAL];

/// A row of the table: a person, their own organization, and a foreign one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person {
    name: &'static str,
    member_of: &'static [OrganizationId],
    administers: &'static [OrganizationId],
    own: OrganizationId,
    foreign: OrganizationId,
}

/// All persons. carol has two rows, since she is a member of two organizations.
pub(crate) const PEOPLE: [Person; 8] = [
    Person { name: "user:alice", member_of: &[OURS], administers: &[], own: OURS, foreign: THEIRS },
    Person { name: "user:bob", member_of: &[THEIRS], administers: &[], own: THEIRS, foreign: OURS },
    Person {
        name: "user:carol",
        member_of: &[OURS, THEIRS],
        administers: &[],
        own: OURS,
        foreign: THIRD,
    },
    Person {
        name: "user:carol",
        member_of: &[OURS, THEIRS],
        administers: &[],
        own: THEIRS,
        foreign: THIRD,
    },
    Person {
        name: "robot:nightly",
        member_of: &[OURS],
        administers: &[],
        own: OURS,
        foreign: THEIRS,
    },
    Person {
        name: "ingest-job:42",
        member_of: &[OURS],
        administers: &[],
        own: OURS,
        foreign: THEIRS,
    },
    Person {
        name: "user:dora",
        member_of: &[OURS],
        administers: &[OURS],
        own: OURS,
        foreign: THEIRS,
    },
    Person {
        name: "user:erin",
        member_of: &[OURS],
        administers: &[OrganizationId::GLOBAL],
        own: OURS,
        foreign: THEIRS,
    },
];

impl Person {
    pub(crate) fn principal(&self) -> Principal {
        let all_of = |some: &[OrganizationId]| some.iter().copied().collect::<Organizations>();
        let name = self.name.parse().unwrap();
        Principal::new(name, all_of(self.member_of), all_of(self.administers))
    }

    /// Returns the identifier without the kind.
    pub(crate) fn id(&self) -> &'static str {
        self.name.split_once(':').unwrap().1
    }

    /// Returns the tags of the person's AWS sessions.
    pub(crate) fn session_tags(&self) -> Vec<(String, String)> {
        let kind = self.name.split_once(':').unwrap().0.to_owned();
        let mut tags = vec![("kind".to_owned(), kind)];
        for (tag, organizations) in
            [("organization", self.member_of), ("administers", self.administers)]
        {
            for (index, organization) in organizations.iter().enumerate() {
                let slot = if index == 0 { String::new() } else { (index + 1).to_string() };
                tags.push((format!("{tag}{slot}"), organization.to_string()));
            }
        }
        tags
    }

    /// Returns the token that the identity provider issues to the person.
    pub(crate) fn token(&self) -> TestToken {
        TestToken::new(&self.name.parse().unwrap())
            .with_organizations(self.member_of.iter().copied())
            .with_administers(self.administers.iter().copied())
            .with_session_tags()
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |organization: &OrganizationId| match *organization {
            OURS => "ours",
            THEIRS => "theirs",
            OrganizationId::GLOBAL => "global",
            _ => "another",
        };
        write!(
            f,
            "{} of {}",
            self.name,
            self.member_of.iter().map(word).collect::<Vec<_>>().join(" and ")
        )?;
        for administered in self.administers {
            write!(f, ", administrator of {}", word(administered))?;
        }
        match self.member_of {
            [_, _, ..] => write!(f, "; own is {}", word(&self.own)),
            _ => Ok(()),
        }
    }
}

/// The isolation layers between a person and a repository: a group of columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layers {
    /// The policy, over AWS credentials that may do everything.
    Policy,
    /// IAM and the session policy, for the bearer of a token without a policy in the process.
    Aws,
    /// The policy, over the AWS credentials of the bearer of a token.
    Both,
}

impl Layers {
    pub(crate) const ALL: [Self; 3] = [Self::Policy, Self::Aws, Self::Both];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Policy => "the policy alone",
            Self::Aws => "AWS alone",
            Self::Both => "both",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Aws => "aws",
            Self::Both => "both",
        }
    }
}

/// The shared repository of each organization, for persons who may not delete it.
pub(crate) const SHARED: &str = "app";

/// Returns the repository of a cell: the shared one, or one of the person's own if the person may delete it.
pub(crate) fn repository_name(layers: Layers, person: &Person, target: Target) -> String {
    match person.principal().administers(target.of(person)) {
        true => format!("{}-{}", person.id(), layers.word()),
        false => SHARED.to_owned(),
    }
}

/// Returns every repository of the table, by organization and name.
pub(crate) fn repositories() -> Vec<(OrganizationId, String)> {
    let mut repositories: Vec<_> = FURNISHED.map(|id| (id, SHARED.to_owned())).into();
    for layers in Layers::ALL {
        for person in &PEOPLE {
            let own = Target::ALL
                .map(|target| (target.of(person), repository_name(layers, person, target)));
            repositories.extend(own.into_iter().filter(|(_, name)| name != SHARED));
        }
    }
    repositories
}

/// A column of the table: the organization that owns the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Own,
    Foreign,
    Global,
    Missing,
}

impl Target {
    pub(crate) const ALL: [Self; 4] = [Self::Own, Self::Foreign, Self::Global, Self::Missing];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Foreign => "foreign",
            Self::Global => "global",
            Self::Missing => "missing",
        }
    }

    /// Returns the organization for a person.
    pub(crate) fn of(self, person: &Person) -> OrganizationId {
        match self {
            Self::Own => person.own,
            Self::Foreign => person.foreign,
            Self::Global => OrganizationId::GLOBAL,
            Self::Missing => MISSING,
        }
    }
}

/// Returns the reviewed outcome of an operation, such as `yes`.
pub(crate) fn reviewed_outcome(
    layers: Layers,
    person: &Person,
    operation: &str,
    target: Target,
) -> &'static str {
    let title = REVIEWED.lines().next().unwrap();
    let heading = person.to_string();
    let mut lines = REVIEWED.lines().skip_while(|line| *line != heading).skip(1);
    let heads = lines.next().unwrap();
    let line = lines.take_while(|line| !line.is_empty()).find(|line| {
        let rest = line.trim_start().strip_prefix(operation);
        rest.is_some_and(|rest| rest.starts_with("  "))
    });
    let line = line.unwrap_or_else(|| panic!("{heading}: no line {operation:?}"));
    let group = title.find(layers.title()).unwrap_or_else(|| panic!("no columns {layers:?}"));
    let column = group + heads[group..].find(target.word()).unwrap();
    line[column..].split_whitespace().next().unwrap()
}
