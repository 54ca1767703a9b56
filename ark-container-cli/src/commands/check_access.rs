//! `--check-access`: whether a principal may do something, and why.

use std::fmt;
use std::sync::Arc;

use ark_container_core::identity::{IdentitySource as _, Principal, PrincipalName, single_user};
use ark_container_core::model::{OrganizationId, RepositoryName, RepositoryPath, RepositoryUrl};
use ark_container_core::permission::{Action, IsolationLayer, PolicyRequest, explain};
use ark_container_core::{Error, RegistryBackend as _, RegistryBackendExt as _};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Serialize;

use crate::args::OrganizationArgs;
use crate::connect::{Context, Guard, Identity, isolation_layer_names};
use crate::failure::{Failure, Stop};
use crate::output::Lines;
use crate::settings::missing_organization;

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --check-access --action push --repository test/repo --organization GUID
  ark-catalog-container-tool --check-access --principal robot:nightly --action pull \\
      --repository prod/GUID/test/repo

Exit codes: 0 it is allowed, 4 it is not. Both are results, on standard output.";

/// Say whether a principal may do something, by which rule, and what would enforce it
///
/// Nothing is done, and whether the repository exists is not looked at.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
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

/// The words of [`Action`].
fn action_parser() -> impl clap::builder::TypedValueParser<Value = Action> {
    PossibleValuesParser::new(Action::ALL.iter().map(|action| action.as_str())).try_map(|word| {
        let known = Action::ALL.iter().copied().find(|action| action.as_str() == word);
        known.ok_or("there is no such action")
    })
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

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
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
    let for_people = for_people(&record, &explanation.isolation_layers);
    context.output.result(for_people.text(), &record)?;
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

/// The principal called `name`, as far as it is known here where they belong, or whoever asks.
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

fn for_people(record: &AccessRecord<'_>, layers: &[IsolationLayer]) -> Lines {
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

/// What was typed of the resource.
enum Resource {
    Organization(OrganizationId),
    Name(OrganizationId, RepositoryName),
    Path(RepositoryPath),
    Url(RepositoryUrl),
}

impl Resource {
    /// Checks it as far as that goes without the registry.
    fn new(args: &Args, context: &Context) -> Result<Self, Failure> {
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

    /// The repository, where one was typed; it has to be one of this registry.
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
