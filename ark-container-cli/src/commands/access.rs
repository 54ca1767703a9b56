//! The caller and its permissions: `--whoami`, `--check-access`.

use ark_container_core::catalog::{
    AwsReport, ChosenIdentity, CredentialsReach, IdentityReport, Membership, Origin, Resource,
    WhoAmI,
};
use ark_container_core::identity::PrincipalName;
use ark_container_core::model::{ImageName, RegistryLocation, RoleArn};
use ark_container_core::permission::{Action, Explanation, IsolationLayer};
use ark_container_core::{Catalog, Error};
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::arguments::OrganizationArgs;
use crate::context::{Context, path_in};
use crate::failure::{Failure, Stop};
use crate::hint::TO_NARROW;
use crate::output::Lines;

/// Show your identity, organizations, registry and isolation layers
///
/// The organizations are shown as '*' if one user owns the registry, or if AWS alone decides. On ecr: the
/// identity comes from AWS.
#[derive(Debug, clap::Args)]
pub(crate) struct WhoamiArgs {}

pub(crate) async fn whoami(WhoamiArgs {}: WhoamiArgs, context: &Context) -> Result<(), Stop> {
    let report = context.connect().await?.whoami().await?;
    if let (Some(aws), RegistryLocation::Ecr { host, .. }) =
        (&report.aws, context.settings.registry())
        && aws.account != host.account()
    {
        context.output.warning(&format!(
            "{} is the account {}'s, and the credentials are the account {}'s",
            report.registry,
            host.account(),
            aws.account,
        ));
    }
    context.output.result(whoami_lines(&report, context).text(), &report)
}

fn whoami_lines(report: &WhoAmI, context: &Context) -> Lines {
    let identity = &report.identity.identity;
    let mut lines = Lines::default();
    lines.line("Principal", &report.principal);
    lines.line("Kind", &report.kind);
    lines.line("Identity", &identity_line(&report.identity));
    if report.organizations.is_empty() {
        lines.line("Organizations", &"none");
    }
    for (index, membership) in report.organizations.iter().enumerate() {
        let label = if index == 0 { "Organizations" } else { "" };
        lines.line(label, &membership_line(membership));
    }
    lines.line("Memberships", &memberships_line(identity, report.memberships_file.as_deref()));
    lines.line("Audit", &report.audit_file.as_deref().unwrap_or("no file"));
    lines.line("Registry", &report.registry);
    lines.line("Host", &report.host);
    match (&report.aws, &report.served_at) {
        (Some(aws), _) => aws_lines(&mut lines, aws, identity),
        (None, Some(address)) => lines.line("Served", &format!("at {address}")),
        (None, None) => {
            lines.line("Served", &format!("no; to serve it: {}", context.serve_command()));
        }
    }
    lines.line("Credentials", &credentials_line(report));
    lines.line("Isolation", &layer_names(&report.isolation_layers));
    lines
}

fn aws_lines(lines: &mut Lines, aws: &AwsReport, identity: &ChosenIdentity) {
    let role = |role: &Option<RoleArn>| role.as_ref().map_or("none", RoleArn::as_str).to_owned();
    lines.line("AWS account", &aws.account);
    lines.line("AWS identity", &aws.arn);
    if let ChosenIdentity::Token { .. } = identity {
        lines.line("Role", &role(&aws.role_arn));
        lines.line("To administer", &role(&aws.administrator_role_arn));
    } else {
        lines.line("Profile", &aws.profile.as_deref().unwrap_or("none chosen"));
        lines.line("Role", &role(&aws.role_arn));
    }
}

/// Returns the identity and the reason for its choice.
fn identity_line(report: &IdentityReport) -> String {
    match &report.identity {
        ChosenIdentity::Token { file, origin, .. } => {
            let reason = match origin {
                Origin::Default => "a role is set, and no AWS credentials were chosen".to_owned(),
                origin => origin.to_string(),
            };
            let signature = match &report.key_set {
                Some(keys) => format!("; its signature is checked with {keys}"),
                None => String::new(),
            };
            format!("the token in {} ({reason}){signature}", file.display())
        }
        ChosenIdentity::AwsCaller { origin: Origin::Default } => {
            "the AWS caller (nothing else was chosen)".to_owned()
        }
        ChosenIdentity::AwsCaller { origin } => format!("the AWS caller ({origin})"),
        ChosenIdentity::LocalUser { named: None, .. } => "the user of this system".to_owned(),
        identity => format!("the named principal ({})", identity.origin()),
    }
}

fn membership_line(membership: &Membership) -> String {
    let role = if membership.administrator { "administrator" } else { "member" };
    match membership.organization {
        Some(organization) => format!("{organization} ({role})"),
        None => format!("* ({role})"),
    }
}

/// Returns the source of the memberships.
fn memberships_line(identity: &ChosenIdentity, file: Option<&str>) -> String {
    match (identity, file) {
        (ChosenIdentity::Token { .. }, None) => "in the token".to_owned(),
        (ChosenIdentity::Token { .. }, Some(file)) => format!("in the token; the rules in {file}"),
        (_, Some(file)) => file.to_owned(),
        (ChosenIdentity::AwsCaller { .. }, None) => "no file: AWS alone decides".to_owned(),
        (_, None) => "no file: single user".to_owned(),
    }
}

fn credentials_line(report: &WhoAmI) -> String {
    if report.credentials_narrowed_to == CredentialsReach::Repository {
        return "narrowed to one repository, and to pull, push or delete in it".to_owned();
    }
    match report.aws.as_ref().is_some_and(|aws| aws.require_scoped) {
        true => format!("none: require_scoped is set; {TO_NARROW}"),
        false => {
            format!("not narrowed: a password reaches all that the identity can; {TO_NARROW}")
        }
    }
}

fn layer_names(layers: &[IsolationLayer]) -> String {
    let name = |layer: &IsolationLayer| match layer {
        IsolationLayer::Policy => "the policy",
        IsolationLayer::Credentials => "the scope of credentials",
        IsolationLayer::Iam => "IAM",
        other => other.as_str(),
    };
    let names: Vec<&str> = layers.iter().map(name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

const CHECK_ACCESS_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --check-access --action push --repository test/repo --organization GUID
  ark-catalog-container-tool --check-access --principal robot:nightly --action pull \\
      --repository prod/GUID/test/repo

Exit codes: 0 allowed, 4 denied. Both are results, on standard output.";

/// Show whether a principal may do an action, by which rule, and which layers enforce it
///
/// The action is not performed, and the repository need not exist.
#[derive(Debug, clap::Args)]
#[command(after_long_help = CHECK_ACCESS_EXAMPLES)]
pub(crate) struct CheckAccessArgs {
    /// Principal, such as user:alice, robot:nightly or ingest-job:42 [default: you]
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,

    /// Action to check
    #[arg(long, value_name = "ACTION", value_parser = action_parser())]
    action: Action,

    /// Name, path or URL of the repository [default: any of the organization]
    #[arg(long, value_name = "NAME|PATH|URL")]
    repository: Option<String>,

    #[command(flatten)]
    owner: OrganizationArgs,
}

fn action_parser() -> impl TypedValueParser<Value = Action> {
    PossibleValuesParser::new(Action::ALL.iter().copied().map(Action::as_str))
        .try_map(|word| word.parse())
}

pub(crate) async fn check_access(args: CheckAccessArgs, context: &Context) -> Result<(), Stop> {
    let principal = args.principal.as_deref().map(str::parse::<PrincipalName>).transpose();
    let principal =
        principal.map_err(|error| Failure::from(Error::Parse(error)).within("--principal"))?;
    let catalog = context.connect().await?;
    let resource = resource(&args, &catalog, context)?;
    let explanation = match principal {
        None => catalog.explain(args.action, resource).await?,
        Some(name) => {
            let explained = catalog.explain_for(name, args.action, resource).await;
            explained.map_err(|error| match error {
                // The principal is not the bearer of the token.
                Error::InvalidInput { .. } => Failure::from(error)
                    .within("--principal")
                    .with_help("name the file of their token: export ARK_JWT_FILE=FILE"),
                _ => error.into(),
            })?
        }
    };
    let is_allowed = explanation.decision.is_allowed();
    let lines = explanation_lines(&explanation);
    context.output.result(lines.text(), &explanation)?;
    let layers = catalog.isolation_layers();
    if is_allowed
        && !layers.contains(&IsolationLayer::Policy)
        && layers.contains(&IsolationLayer::Iam)
    {
        context.output.note(
            "there is no memberships file and no token, so IAM alone decides; IAM is not queried",
        );
    }
    if is_allowed { Ok(()) } else { Err(Stop::Denied) }
}

fn explanation_lines(explanation: &Explanation) -> Lines {
    let decision = &explanation.decision;
    let mut lines = Lines::default();
    lines.line("Principal", &explanation.principal);
    lines.line("Action", &explanation.action);
    lines.line("Organization", &explanation.organization);
    if let Some(repository) = &explanation.repository {
        lines.line("Repository", repository);
    }
    lines.line("Decision", if decision.is_allowed() { &"allowed" } else { &"denied" });
    match decision.reason() {
        Some(reason) => lines.line("Rule", &format!("{}: {reason}", decision.rule())),
        None => lines.line("Rule", &decision.rule()),
    }
    lines.line("Written in", &decision.origin().unwrap_or("the standard rules"));
    lines.line("Enforced by", &layer_names(&explanation.isolation_layers));
    lines
}

/// Returns the repository of the command line, or the organization if there is no repository.
fn resource(
    args: &CheckAccessArgs,
    catalog: &Catalog,
    context: &Context,
) -> Result<Resource, Failure> {
    let typed = args.owner.organization.as_deref();
    let Some(text) = &args.repository else {
        return Ok(context.required_organization(typed)?.into());
    };
    context.organization(typed)?;
    let ImageName { repository: text, .. } = ImageName::parse(text).map_err(Error::Parse)?;
    let owner = context.owner_of(text, typed);
    let path = owner.and_then(|owner| path_in(&catalog.in_organization(owner), text));
    Ok(path.map_err(|failure| failure.within("--repository"))?.into())
}
