//! `--whoami`: who asks, why it is they, where they belong, and what they are connected to.

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::identity::Principal;
use ark_container_core::model::{OrganizationId, Organizations, RoleArn};
use ark_container_core::permission::IsolationLayer;
use serde::Serialize;

use crate::connect::{Connection, Context, Identity, Place, isolation_layer_names};
use crate::failure::Stop;
use crate::hint::{TO_NARROW, serve_command};
use crate::output::Lines;
use crate::settings::{Origin, Settings};

/// Show who you are and why, your organizations, the registry, and the active isolation layers
///
/// Every organization shows as '*' where one user owns all, or AWS alone decides. On ecr: AWS is
/// asked who you are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// The report as programs read it.
#[derive(Debug, Serialize)]
struct Report {
    principal: String,
    kind: String,
    identity: IdentityReport,
    organizations: Vec<Membership>,
    memberships_file: Option<String>,
    audit_file: Option<String>,
    registry: String,
    host: String,
    served_at: Option<String>,
    aws: Option<AwsReport>,
    credentials_narrowed_to: Reach,
    walls: Vec<&'static str>,
}

/// Which identity counts, and what chose it.
#[derive(Debug, Serialize)]
struct IdentityReport {
    kind: &'static str,
    origin: String,
    token_file: Option<String>,
    key_set: Option<String>,
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
    administrator_role_arn: Option<RoleArn>,
    require_scoped: bool,
}

/// How far a password for one repository reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Repository,
    Caller,
}

pub(crate) async fn run(Args {}: Args, context: &Context) -> Result<(), Stop> {
    let connection = context.connect().await?;
    let principal = connection.backend.principal().await?;
    let (served_at, aws) = match &connection.place {
        Place::Local(local) => (local.served_at(), None),
        Place::Ecr(ecr) => (None, Some(aws(ecr, context).await?)),
    };
    let settings = &context.settings;
    let layers = connection.guard.isolation_layers();
    let file = connection.guard.memberships.as_ref();
    let memberships_file = file.map(|file| file.path().display().to_string());
    let report = Report {
        principal: principal.to_string(),
        kind: principal.kind().to_string(),
        identity: identity(&connection.guard.identity, settings),
        organizations: memberships(&principal),
        memberships_file,
        audit_file: settings.audit_file.as_ref().map(|path| path.display().to_string()),
        registry: connection.backend.to_string(),
        host: connection.backend.host().to_string(),
        served_at: served_at.map(|address| address.to_string()),
        aws,
        credentials_narrowed_to: match layers.contains(&IsolationLayer::Credentials) {
            true => Reach::Repository,
            false => Reach::Caller,
        },
        walls: layers.iter().copied().map(IsolationLayer::as_str).collect(),
    };
    context.output.result(for_people(&report, &connection, &layers, settings).text(), &report)
}

fn identity(identity: &Identity, settings: &Settings) -> IdentityReport {
    let (kind, origin, token_file) = match identity {
        Identity::Token { file, origin } => ("token", origin, Some(file.display().to_string())),
        Identity::AwsCaller { origin } => ("aws_caller", origin, None),
        Identity::LocalUser { origin, .. } => ("local_user", origin, None),
    };
    let verification = settings.identity.verification.as_ref().filter(|_| token_file.is_some());
    IdentityReport {
        kind,
        origin: origin.to_string(),
        token_file,
        key_set: verification.map(|verification| verification.key_set.to_string()),
    }
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
        administrator_role_arn: settings.administrator_role_arn.clone(),
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

fn for_people(
    report: &Report,
    connection: &Connection,
    layers: &[IsolationLayer],
    settings: &Settings,
) -> Lines {
    let mut lines = Lines::default();
    let mut line = |label: &str, value: &str| lines.line(label, value);
    line("Principal", &report.principal);
    line("Kind", &report.kind);
    line("Identity", &who(&connection.guard.identity, &report.identity));
    if report.organizations.is_empty() {
        line("Organizations", "none");
    }
    for (index, membership) in report.organizations.iter().enumerate() {
        let label = if index == 0 { "Organizations" } else { "" };
        let role = if membership.administrator { "administrator" } else { "member" };
        line(label, &format!("{} ({role})", membership.organization));
    }
    line("Memberships", &belonging(&connection.guard.identity, report.memberships_file.as_deref()));
    line("Audit", report.audit_file.as_deref().unwrap_or("no file"));
    line("Registry", &report.registry);
    line("Host", &report.host);
    match &report.aws {
        Some(aws) => {
            line("AWS account", &aws.account);
            line("AWS identity", &aws.arn);
            let role =
                |role: &Option<RoleArn>| role.as_ref().map_or("none", RoleArn::as_str).to_owned();
            match connection.guard.identity {
                Identity::Token { .. } => {
                    line("Role", &role(&aws.role_arn));
                    line("To administer", &role(&aws.administrator_role_arn));
                }
                _ => {
                    line("Profile", aws.profile.as_deref().unwrap_or("none chosen"));
                    line("Role", &role(&aws.role_arn));
                }
            }
        }
        None => {
            let served = match &report.served_at {
                Some(address) => format!("at {address}"),
                None => format!("no; to serve it: {}", serve_command(settings)),
            };
            line("Served", &served);
        }
    }
    line("Credentials", &credentials(report));
    line("Isolation", &isolation_layer_names(layers));
    lines
}

/// Which identity counts, and why.
fn who(identity: &Identity, report: &IdentityReport) -> String {
    match identity {
        Identity::Token { file, origin } => {
            let why = match origin {
                Origin::Default => "a role is set, and no AWS credentials were chosen".to_owned(),
                origin => origin.to_string(),
            };
            let signature = match &report.key_set {
                Some(keys) => format!("; its signature is checked with {keys}"),
                None => String::new(),
            };
            format!("the token in {} ({why}){signature}", file.display())
        }
        Identity::AwsCaller { origin: Origin::Default } => {
            "the AWS caller (nothing else was chosen)".to_owned()
        }
        Identity::AwsCaller { origin } => format!("the AWS caller ({origin})"),
        Identity::LocalUser { named: None, .. } => "the user of this system".to_owned(),
        Identity::LocalUser { origin, .. } => format!("whoever is named ({origin})"),
    }
}

/// What says where whoever asks belongs.
fn belonging(identity: &Identity, file: Option<&str>) -> String {
    match (identity, file) {
        (Identity::Token { .. }, None) => "in the token".to_owned(),
        (Identity::Token { .. }, Some(file)) => format!("in the token; the rules in {file}"),
        (_, Some(file)) => file.to_owned(),
        (Identity::AwsCaller { .. }, None) => "no file: AWS alone decides".to_owned(),
        (Identity::LocalUser { .. }, None) => "no file: a single user's".to_owned(),
    }
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
