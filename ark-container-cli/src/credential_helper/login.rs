//! Which registry a client means, and a login to it for all that the caller may use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::catalog::Settings;
use ark_container_core::credentials::{CredentialsOptions, RegistryCredentials};
use ark_container_core::model::{
    Access, OrganizationId, Organizations, RegistryHost, RegistryLocation, Scope,
};
use ark_container_core::permission::Action;
use ark_container_core::{Catalog, Error, RegistryBackend as _};

use crate::arguments::PROGRAM;
use crate::context::Context;
use crate::failure::{Failure, Kind};
use crate::hint::serve_command;

/// Default port of `https:`.
const HTTPS_PORT: &str = ":443";

/// Returns the host that clients push to and pull from.
pub(crate) fn host_of(location: &RegistryLocation) -> Result<RegistryHost, Failure> {
    Ok(match location {
        RegistryLocation::Ecr { host, .. } => host.registry_host().clone(),
        RegistryLocation::Local { directory } => LocalBackend::open(directory.as_deref())?.host(),
    })
}

/// Returns the registry that a client calls `server`; `None` if it is not in the settings.
pub(super) fn registry_of(
    server: &str,
    settings: &Settings,
) -> Result<Option<RegistryLocation>, Failure> {
    let Some(asked) = host_in(server) else { return Ok(None) };
    for location in settings.registries() {
        let is_meant = match location {
            RegistryLocation::Ecr { host, .. } => asked == *host.registry_host(),
            // Only this machine serves a folder.
            RegistryLocation::Local { .. } => {
                is_loopback(&asked) && is_same_registry(&asked, &host_of(location)?)
            }
        };
        if is_meant {
            return Ok(Some(location.clone()));
        }
    }
    Ok(None)
}

/// Returns the host of a server: docker and kaniko send a host, older clients and people a URL, and
/// containers/image may send a repository's path.
fn host_in(server: &str) -> Option<RegistryHost> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    authority.strip_suffix(HTTPS_PORT).unwrap_or(&authority).parse().ok()
}

fn is_loopback(host: &RegistryHost) -> bool {
    let (name, _) = name_and_port(host);
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Whether both are the same; `localhost` is any address of this machine.
fn is_same_registry(asked: &RegistryHost, served: &RegistryHost) -> bool {
    let ((name, port), (_, served_port)) = (name_and_port(asked), name_and_port(served));
    asked == served || (name == "localhost" && port == served_port)
}

fn name_and_port(host: &RegistryHost) -> (&str, Option<&str>) {
    match host.as_str().rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host.as_str(), None),
    }
}

/// Maximum number of attempts of each call to AWS: docker waits for the result.
const MAX_ATTEMPTS: u32 = 2;

/// Maximum number of organizations of a login: the local registry reads 64 KiB of headers, and each
/// organization adds some 170 bytes to the password.
const MAX_ORGANIZATIONS: usize = 300;

/// Gets a login to a registry, from the cache or a new one.
pub(super) async fn login(
    context: Context,
    registry: RegistryLocation,
) -> Result<RegistryCredentials, Failure> {
    let context = context.with_registry(registry)?.with_max_attempts(MAX_ATTEMPTS);
    credentials(&context).await.map_err(|failure| context.advise(failure))
}

async fn credentials(context: &Context) -> Result<RegistryCredentials, Failure> {
    let catalog = context.connect().await?;
    if context.is_local() && catalog.served_at().is_none() {
        // Another program that listens there would get the password.
        let message = format!("nothing serves {catalog}");
        let help = format!("serve it: {}", serve_command(&context.settings));
        return Err(Failure::new(Kind::Other, message).with_help(help));
    }
    let scope = scope(&catalog, context).await?;
    let organizations = scope.organization_ids().len();
    if organizations > MAX_ORGANIZATIONS {
        let message = format!("a login for {organizations} organizations is too long");
        return Err(for_one_repository(Failure::usage(message)));
    }
    let options = CredentialsOptions::default();
    catalog.credentials_for(&scope, &options).await.map_err(|error| {
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

/// Returns the scope of the login. A scope has one access level, so it is push to the organizations where
/// the caller may push; if there are none, pull from those where they may pull.
async fn scope(catalog: &Catalog, context: &Context) -> Result<Scope, Failure> {
    let stage = catalog.backend().stage();
    let own = organizations(catalog, context).await?;
    let mut writable = allowed(catalog, Action::Push, &own).await?;
    if !context.is_local() {
        // AWS requires the administrator role for it, which permits nothing else.
        writable.remove(&OrganizationId::GLOBAL);
    }
    if !writable.is_empty() {
        return Ok(Scope::organizations(stage, writable, Access::Push));
    }
    let others = own.into_iter().chain([OrganizationId::GLOBAL]).collect();
    let readable = allowed(catalog, Action::Pull, &others).await?;
    Ok(Scope::organizations(stage, readable, Access::Pull))
}

/// Returns the organizations in which the policy allows an action.
async fn allowed(
    catalog: &Catalog,
    action: Action,
    organizations: &BTreeSet<OrganizationId>,
) -> Result<BTreeSet<OrganizationId>, Failure> {
    let mut allowed = BTreeSet::new();
    for organization in organizations {
        if catalog.allows(action, *organization).await? {
            allowed.insert(*organization);
        }
    }
    Ok(allowed)
}

/// Returns the organizations of the caller; for a caller of every organization, the known ones.
async fn organizations(
    catalog: &Catalog,
    context: &Context,
) -> Result<BTreeSet<OrganizationId>, Failure> {
    let Organizations::Only(own) = catalog.organizations().await? else {
        return match context.organization(None)? {
            Some(organization) => Ok(BTreeSet::from([organization])),
            // AWS does not narrow the login then, and the organization is only a name.
            None if context.settings.role_arn().is_none() => {
                Ok(BTreeSet::from([OrganizationId::TBD]))
            }
            None => Err(Failure::usage(
                "nothing says which organizations the login is to be narrowed to",
            )
            .with_help(
                "name yours: export ARK_ORGANIZATION=GUID, or organization in the configuration \
                 file",
            )),
        };
    };
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_a_host_a_url_or_a_path() {
        let ecr = "095412845506.dkr.ecr.us-east-1.amazonaws.com";
        for spelling in [
            ecr.to_owned(),
            format!("{ecr}:443"),
            format!("https://{ecr}"),
            format!("https://{ecr}/"),
            format!("https://{ecr}/v2/"),
            format!("http://{ecr}:443/v1?x#y"),
            format!("{ecr}/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a/b"),
            ecr.to_uppercase(),
        ] {
            assert_eq!(host_in(&spelling).unwrap().as_str(), ecr, "{spelling}");
        }
        assert_eq!(host_in("http://127.0.0.1:5050/").unwrap().as_str(), "127.0.0.1:5050");
        assert_eq!(host_in("[::1]:5050/a").unwrap().as_str(), "[::1]:5050");
        for none in ["/", "https://", "user:password@host", "a b", "host:port", "\u{0}"] {
            assert_eq!(host_in(none), None, "{none:?}");
        }
    }

    #[test]
    fn localhost_is_the_same_registry_as_its_address() {
        let host = |text: &str| text.parse::<RegistryHost>().unwrap();
        for own in ["localhost", "localhost:1", "127.0.0.1:1", "[::1]", "[::1]:1"] {
            assert!(is_loopback(&host(own)), "{own}");
        }
        assert!(!is_loopback(&host("192.0.2.1:1")) && !is_loopback(&host("localhost.example")));
        assert!(is_same_registry(&host("localhost:1"), &host("127.0.0.1:1")));
        assert!(!is_same_registry(&host("localhost:2"), &host("127.0.0.1:1")));
        assert!(!is_same_registry(&host("127.0.0.2:1"), &host("127.0.0.1:1")));
    }
}
