//! A login that reaches all that whoever asks may reach, as far as one login can.

use std::collections::BTreeSet;

use ark_container_core::RegistryBackend as _;
use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::model::{Access, OrganizationId, Organizations, RegistryLocation, Scope};
use ark_container_core::permission::Action;
use ark_container_core::{Error, Result};

use crate::args::PROGRAM;
use crate::connect::{Connection, Context, Place};
use crate::failure::{Failure, Kind};
use crate::hint::serve_command;
use crate::output::{Format, Output};
use crate::settings::Settings;

/// How often each call to AWS is tried: who waits for docker would rather know that it does not work.
const ATTEMPTS: u32 = 2;

/// As many organizations as fit into a password which the registry of this machine still reads: it
/// takes 64 KiB of headers, and each organization adds some 170 bytes.
const MOST_ORGANIZATIONS: usize = 300;

/// Gets a login to a registry: from the cache, or from whoever gives it.
pub(super) fn login(
    settings: Settings,
    registry: RegistryLocation,
) -> std::result::Result<RegistryCredentials, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    let context = Context {
        settings: settings.for_registry(registry),
        output: Output { format: Format::Table, quiet: true },
        max_attempts: Some(ATTEMPTS),
    };
    let credentials = runtime.block_on(credentials(&context));
    // What was given up may have threads that still wait.
    runtime.shutdown_background();
    credentials.map_err(|failure| context.advise(failure))
}

async fn credentials(context: &Context) -> std::result::Result<RegistryCredentials, Failure> {
    let connection = context.connect().await?;
    if let Place::Local(local) = &connection.place
        && local.served_at().is_none()
    {
        // Whoever else listens there would get the password.
        let message = format!("nothing serves {local}");
        let help = format!("serve it: {}", serve_command(&context.settings));
        return Err(Failure::new(Kind::Other, message).with_help(help));
    }
    let scope = scope(&connection, &context.settings).await?;
    let organizations = scope.organization_ids().len();
    if organizations > MOST_ORGANIZATIONS {
        let message = format!("a login for {organizations} organizations is too long");
        return Err(for_one_repository(Failure::usage(message)));
    }
    connection.backend.credentials(&scope, &Default::default()).await.map_err(|error| {
        let is_too_wide = matches!(error, Error::InvalidInput { .. }) && organizations > 1;
        let failure = Failure::from(error);
        if is_too_wide { for_one_repository(failure) } else { failure }
    })
}

fn for_one_repository(failure: Failure) -> Failure {
    failure.with_help(format!(
        "log in to one repository at a time: {PROGRAM} --login NAME --organization GUID \
         --docker-config DIR"
    ))
}

/// What a login is to reach: a scope has one access, so it is push to the organizations where the
/// principal may push; if that is nowhere, pull from those where they may pull.
async fn scope(
    connection: &Connection,
    settings: &Settings,
) -> std::result::Result<Scope, Failure> {
    let stage = connection.backend.stage();
    let own = organizations(connection, settings).await?;
    let mut pushed_to = allowed(connection, Action::Push, &own).await?;
    if let Place::Ecr(_) = connection.place {
        // At AWS that takes the role of administrators, which opens nothing else.
        pushed_to.remove(&OrganizationId::GLOBAL);
    }
    if !pushed_to.is_empty() {
        return Ok(Scope::organizations(stage, pushed_to, Access::Push));
    }
    let everybodys = own.into_iter().chain([OrganizationId::GLOBAL]).collect();
    let pulled_from = allowed(connection, Action::Pull, &everybodys).await?;
    Ok(Scope::organizations(stage, pulled_from, Access::Pull))
}

/// Those of the organizations that the policy lets the principal do `action` in.
async fn allowed(
    connection: &Connection,
    action: Action,
    organizations: &BTreeSet<OrganizationId>,
) -> Result<BTreeSet<OrganizationId>> {
    let principal = connection.backend.principal().await?;
    let mut allowed = BTreeSet::new();
    for organization in organizations {
        if connection.guard.policy.decide(&principal, action, *organization)?.is_allowed() {
            allowed.insert(*organization);
        }
    }
    Ok(allowed)
}

/// The organizations of whoever asks; for those who belong to all, the ones that can be told.
async fn organizations(
    connection: &Connection,
    settings: &Settings,
) -> std::result::Result<BTreeSet<OrganizationId>, Failure> {
    match (connection.backend.principal().await?.organizations(), &connection.place) {
        (Organizations::Only(own), _) => Ok(own),
        (Organizations::All, Place::Local(local)) => Ok(local.organizations().await?),
        (Organizations::All, Place::Ecr(_)) => match settings.organization(None)? {
            Some(organization) => Ok(BTreeSet::from([organization])),
            // AWS does not narrow it then, and what it is for is only a name.
            None if settings.ecr.role_arn.is_none() => Ok(BTreeSet::from([OrganizationId::TBD])),
            None => Err(Failure::usage(
                "nothing says which organizations the login is to be narrowed to",
            )
            .with_help(
                "name yours: export ARK_ORGANIZATION=GUID, or organization in the configuration \
                 file",
            )),
        },
    }
}
