//! `--whoami`: who asks, where they belong, and what they are connected to.

use std::fmt::Write as _;

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::identity::Principal;
use ark_container_core::model::{OrganizationId, Organizations, RoleArn};
use serde::Serialize;

use crate::connect::{Context, Place};
use crate::failure::Stop;
use crate::hint::{TO_NARROW, serve_command};

/// Show who you are, your organizations, the registry, and how far passwords reach
///
/// Every organization shows as '*' where there is no memberships file, and one user owns all. On ecr:
/// AWS is asked who you are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// The report as programs read it.
#[derive(Debug, Serialize)]
struct Report {
    principal: String,
    kind: String,
    organizations: Vec<Membership>,
    memberships_file: Option<String>,
    registry: String,
    host: String,
    served_at: Option<String>,
    aws: Option<AwsReport>,
    credentials_narrowed_to: Reach,
    walls: Vec<Wall>,
}

/// One organization, or `*` for every one.
#[derive(Debug, Serialize)]
struct Membership {
    organization: String,
    administrator: bool,
}

/// Who one is to AWS, and how it is asked.
#[derive(Debug, Serialize)]
struct AwsReport {
    account: String,
    arn: String,
    profile: Option<String>,
    role_arn: Option<RoleArn>,
    require_scoped: bool,
}

/// How far a password for one repository reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Repository,
    Caller,
}

/// What refuses one organization what is another's.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Wall {
    /// The policy of this program, from the memberships file.
    Memberships,
    /// The registry, from the scope that a password is narrowed to.
    Credentials,
    /// AWS, from what the identity is granted there.
    Iam,
}

pub(crate) async fn run(Args {}: Args, context: &Context) -> Result<(), Stop> {
    let connection = context.connect()?;
    let principal = connection.backend.principal().await?;
    let (served_at, aws) = match &connection.place {
        Place::Local(local) => (local.served_at(), None),
        Place::Ecr(ecr) => (None, Some(aws(ecr, context).await?)),
    };
    let reach = match &aws {
        Some(AwsReport { role_arn: None, .. }) => Reach::Caller,
        // What `local:` does too: its registry checks the scope of a password at each request.
        _ => Reach::Repository,
    };
    let walls = [
        connection.memberships.is_some().then_some(Wall::Memberships),
        (reach == Reach::Repository).then_some(Wall::Credentials),
        aws.is_some().then_some(Wall::Iam),
    ];
    let report = Report {
        principal: principal.to_string(),
        kind: principal.kind().to_string(),
        organizations: memberships(&principal),
        memberships_file: connection.memberships.map(|path| path.display().to_string()),
        registry: connection.backend.to_string(),
        host: connection.backend.host().to_string(),
        served_at: served_at.map(|address| address.to_string()),
        aws,
        credentials_narrowed_to: reach,
        walls: walls.into_iter().flatten().collect(),
    };
    context.output.result(&for_people(&report, context), &report)
}

async fn aws(ecr: &EcrBackend, context: &Context) -> Result<AwsReport, Stop> {
    let settings = &context.settings.ecr;
    let caller = ecr.caller().await?;
    if caller.account != ecr.ecr_host().account() {
        context.output.warning(&format!(
            "{ecr} is the account {}'s, and the credentials are the account {}'s",
            ecr.ecr_host().account(),
            caller.account,
        ));
    }
    Ok(AwsReport {
        account: caller.account.clone(),
        arn: caller.arn.clone(),
        profile: settings.profile.clone(),
        role_arn: settings.role_arn.clone(),
        require_scoped: settings.require_scoped,
    })
}

fn memberships(principal: &Principal) -> Vec<Membership> {
    match principal.organizations() {
        // Whoever belongs everywhere administers everywhere or nowhere; any organization will tell.
        Organizations::All => vec![Membership {
            organization: "*".to_owned(),
            administrator: principal.administers(OrganizationId::TBD),
        }],
        Organizations::Only(organizations) => organizations
            .into_iter()
            .map(|organization| Membership {
                organization: organization.to_string(),
                administrator: principal.administers(organization),
            })
            .collect(),
    }
}

fn for_people(report: &Report, context: &Context) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let newline = if text.is_empty() { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{newline}{label:<14} {value}");
    };
    line("Principal", &report.principal);
    line("Kind", &report.kind);
    if report.organizations.is_empty() {
        line("Organizations", "none");
    }
    for (index, membership) in report.organizations.iter().enumerate() {
        let label = if index == 0 { "Organizations" } else { "" };
        let role = if membership.administrator { "administrator" } else { "member" };
        line(label, &format!("{} ({role})", membership.organization));
    }
    line("Memberships", report.memberships_file.as_deref().unwrap_or("no file: a single user's"));
    line("Registry", &report.registry);
    line("Host", &report.host);
    match &report.aws {
        Some(aws) => {
            line("AWS account", &aws.account);
            line("AWS identity", &aws.arn);
            line("Profile", aws.profile.as_deref().unwrap_or("none chosen"));
            line("Role", aws.role_arn.as_ref().map_or("none", RoleArn::as_str));
        }
        None => {
            let served = match &report.served_at {
                Some(address) => format!("at {address}"),
                None => format!("no; to serve it: {}", serve_command(&context.settings)),
            };
            line("Served", &served);
        }
    }
    line("Credentials", &credentials(report));
    let walls: Vec<&str> = report.walls.iter().copied().map(Wall::for_people).collect();
    line("Walls", if walls.is_empty() { "none".to_owned() } else { walls.join(", ") }.as_str());
    text
}

fn credentials(report: &Report) -> String {
    let required = report.aws.as_ref().is_some_and(|aws| aws.require_scoped);
    match report.credentials_narrowed_to {
        Reach::Repository => {
            "narrowed to one repository, and to pull, push or delete in it".to_owned()
        }
        Reach::Caller if required => format!("none: require_scoped is set; {TO_NARROW}"),
        Reach::Caller => {
            format!("not narrowed: a password reaches all that the identity does; {TO_NARROW}")
        }
    }
}

impl Wall {
    fn for_people(self) -> &'static str {
        match self {
            Self::Memberships => "the memberships file",
            Self::Credentials => "the scope of credentials",
            Self::Iam => "IAM",
        }
    }
}
