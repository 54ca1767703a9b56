//! Who asks and what they may do: `--whoami`, `--check-access`.

use std::fmt;
use std::sync::Arc;

use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::identity::{IdentitySource as _, Principal, PrincipalName, single_user};
use ark_container_core::model::{
    OrganizationId, Organizations, RepositoryName, RepositoryPath, RepositoryUrl, RoleArn,
};
use ark_container_core::permission::{Action, IsolationLayer, PolicyRequest, explain};
use ark_container_core::{Error, RegistryBackend as _, RegistryBackendExt as _};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use crate::arguments::OrganizationArgs;
use crate::connect::{Connection, Context, Guard, Identity, Place, isolation_layer_names};
use crate::failure::{Failure, Stop};
use crate::hint::{TO_NARROW, serve_command};
use crate::output::Lines;
use crate::settings::{Origin, Settings, missing_organization};

/// Show who you are and why, your organizations, the registry, and the isolation layers
///
/// Every organization shows as '*' where one user owns all, or AWS alone decides. On ecr: AWS is
/// asked who you are.
#[derive(Debug, clap::Args)]
pub(crate) struct WhoamiArgs {}

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

/// The identity in use, and the setting that chose it.
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

/// The caller of AWS, and the settings of the calls.
#[derive(Debug, Serialize)]
struct AwsReport {
    account: String,
    arn: String,
    profile: Option<String>,
    role_arn: Option<RoleArn>,
    administrator_role_arn: Option<RoleArn>,
    require_scoped: bool,
}

/// The repositories that a password for one repository opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Repository,
    Caller,
}

pub(crate) async fn whoami(WhoamiArgs {}: WhoamiArgs, context: &Context) -> Result<(), Stop> {
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
    context.output.result(whoami_lines(&report, &connection, &layers, settings).text(), &report)
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
        // A member of every organization administers all of them or none.
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

fn whoami_lines(
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

/// Returns the identity and why it is used.
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

/// Returns the source of the memberships.
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

const CHECK_ACCESS_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --check-access --action push --repository test/repo --organization GUID
  ark-catalog-container-tool --check-access --principal robot:nightly --action pull \\
      --repository prod/GUID/test/repo

Exit codes: 0 it is allowed, 4 it is not. Both are results, on standard output.";

/// Say whether a principal may do something, by which rule, and what would enforce it
///
/// Nothing is done, and whether the repository exists is not looked at.
#[derive(Debug, clap::Args)]
#[command(after_long_help = CHECK_ACCESS_EXAMPLES)]
pub(crate) struct CheckAccessArgs {
    /// Who would do it, as user:alice, robot:nightly or ingest-job:42 [default: you]
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,

    /// What they would do
    #[arg(long, value_name = "ACTION", value_parser = action_parser())]
    action: Action,

    /// With which repository: its name, path or URL [default: any of the organization]
    #[arg(long, value_name = "NAME|PATH|URL")]
    repository: Option<String>,

    #[command(flatten)]
    owner: OrganizationArgs,
}

fn action_parser() -> impl TypedValueParser<Value = Action> {
    PossibleValuesParser::new(Action::ALL.map(Action::as_str)).try_map(|word| word.parse())
}

/// The answer as programs read it.
#[derive(Debug, Serialize)]
struct AccessRecord<'a> {
    principal: String,
    action: &'static str,
    organization: OrganizationId,
    repository: Option<&'a RepositoryPath>,
    allowed: bool,
    rule: &'a str,
    reason: Option<&'a str>,
    origin: Option<&'a str>,
    walls: Vec<&'static str>,
}

pub(crate) async fn check_access(args: CheckAccessArgs, context: &Context) -> Result<(), Stop> {
    let principal = args.principal.as_deref().map(str::parse).transpose();
    let principal =
        principal.map_err(|error| Failure::from(Error::Parse(error)).within("--principal"))?;
    let resource = Resource::new(&args, context)?;
    let guard = context.guard()?;
    let repository = resource.repository(&guard)?;
    let organization = resource.organization();
    let principal = principal_called(principal, &guard).await?;
    let layers = guard.isolation_layers();
    let request = match &repository {
        Some(path) => PolicyRequest::for_repository(&principal, args.action, path),
        None => PolicyRequest::new(&principal, args.action, organization),
    };
    let explanation = explain(guard.policy.as_ref(), &request, &layers).await?;
    let record = AccessRecord {
        principal: principal.to_string(),
        action: args.action.as_str(),
        organization,
        repository: repository.as_ref(),
        allowed: explanation.decision.is_allowed(),
        rule: explanation.decision.rule(),
        reason: explanation.decision.reason(),
        origin: explanation.decision.origin(),
        walls: explanation.isolation_layers.iter().map(|layer| layer.as_str()).collect(),
    };
    let lines = check_access_lines(&record, &explanation.isolation_layers);
    context.output.result(lines.text(), &record)?;
    let is_active = |layer| layers.contains(&layer);
    if record.allowed && !is_active(IsolationLayer::Policy) && is_active(IsolationLayer::Iam) {
        context.output.note(
            "there is no memberships file and no token, so that IAM alone decides: it is not asked",
        );
    }
    match record.allowed {
        true => Ok(()),
        false => Err(Stop::Denied),
    }
}

/// Returns the principal called `name`, with the memberships that are known here; the caller by default.
async fn principal_called(
    name: Option<PrincipalName>,
    guard: &Guard,
) -> Result<Arc<Principal>, Failure> {
    let Some(name) = name else { return Ok(guard.source.principal().await?) };
    if let Identity::Token { .. } = guard.identity {
        let bearer = guard.source.principal().await?;
        if *bearer.name() == name {
            return Ok(bearer);
        }
        let problem = format!("where {name} belongs is in their token, and this is {bearer}'s");
        return Err(Failure::usage(problem)
            .within("--principal")
            .with_help("name the file of their token: export ARK_JWT_FILE=FILE"));
    }
    Ok(Arc::new(match &guard.memberships {
        Some(file) => file.current().principal(name),
        None => single_user(name),
    }))
}

fn check_access_lines(record: &AccessRecord<'_>, layers: &[IsolationLayer]) -> Lines {
    let mut lines = Lines::default();
    lines.line("Principal", &record.principal);
    lines.line("Action", record.action);
    lines.line("Organization", &record.organization.to_string());
    if let Some(repository) = record.repository {
        lines.line("Repository", &repository.to_string());
    }
    lines.line("Decision", if record.allowed { "allowed" } else { "denied" });
    match record.reason {
        Some(reason) => lines.line("Rule", &format!("{}: {reason}", record.rule)),
        None => lines.line("Rule", record.rule),
    }
    lines.line("Written in", record.origin.unwrap_or("the standard rules"));
    lines.line("Enforced by", &isolation_layer_names(layers));
    lines
}

/// The resource as it was typed.
enum Resource {
    Organization(OrganizationId),
    Name(OrganizationId, RepositoryName),
    Path(RepositoryPath),
    Url(RepositoryUrl),
}

impl Resource {
    /// Parses the arguments.
    fn new(args: &CheckAccessArgs, context: &Context) -> Result<Self, Failure> {
        let typed = args.owner.organization.as_deref();
        let organization =
            || context.settings.organization(typed)?.ok_or_else(missing_organization);
        let Some(text) = &args.repository else { return organization().map(Self::Organization) };
        let invalid = |error| Failure::from(Error::Parse(error)).within("--repository");
        let guid_at = text.split('/').position(|part| part.parse::<OrganizationId>().is_ok());
        let resource = match guid_at {
            Some(1) => Self::Path(text.parse().map_err(invalid)?),
            Some(2) => Self::Url(text.parse().map_err(invalid)?),
            _ => return Ok(Self::Name(organization()?, text.parse().map_err(invalid)?)),
        };
        let named = resource.organization();
        match typed.map(|_| organization()).transpose()? {
            Some(other) if other != named => Err(Failure::usage(format!(
                "--organization {other}: the repository is the organization {named}'s"
            ))),
            _ => Ok(resource),
        }
    }

    fn organization(&self) -> OrganizationId {
        match self {
            Self::Organization(organization) | Self::Name(organization, _) => *organization,
            Self::Path(path) => path.organization(),
            Self::Url(url) => url.path().organization(),
        }
    }

    /// Returns the repository if one was typed; it has to be in this registry.
    fn repository(&self, guard: &Guard) -> Result<Option<RepositoryPath>, Failure> {
        let backend = guard.place.backend();
        let path = match self {
            Self::Organization(_) => return Ok(None),
            Self::Name(organization, name) => backend.repository_path(*organization, name)?,
            Self::Url(url) if *url.host() != backend.host() => {
                return Err(elsewhere(url, backend));
            }
            Self::Url(url) => url.path().clone(),
            Self::Path(path) => path.clone(),
        };
        match *path.stage() == backend.stage() {
            true => Ok(Some(path)),
            false => Err(elsewhere(path, backend)),
        }
    }
}

fn elsewhere(repository: impl fmt::Display, registry: impl fmt::Display) -> Failure {
    Failure::usage(format!("{repository} is not in {registry}"))
        .within("--repository")
        .with_help("choose its registry: --registry LOCATION, or ARK_REGISTRY")
}
