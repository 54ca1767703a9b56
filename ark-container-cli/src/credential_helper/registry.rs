//! Lookup of the registry that a client names as a server.

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::catalog::Settings;
use ark_container_core::model::{RegistryHost, RegistryLocation};

use crate::failure::Failure;

/// Default port of `https:`.
const HTTPS_PORT: &str = ":443";

/// Returns the host that clients push to and pull from.
pub(crate) fn host_of(location: &RegistryLocation) -> Result<RegistryHost, Failure> {
    Ok(match location {
        RegistryLocation::Ecr { host, .. } => host.registry_host().clone(),
        RegistryLocation::Local { directory } => LocalBackend::open(directory.as_deref())?.host(),
    })
}

/// Returns the registry that a client names as `server`, or `None` if it is not in the settings.
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
                asked.is_loopback() && asked.is_alias_of(&host_of(location)?)
            }
        };
        if is_meant {
            return Ok(Some(location.clone()));
        }
    }
    Ok(None)
}

/// Returns the host of a server. docker and kaniko send a host, older clients and users send a URL, and
/// containers/image may send the path of a repository.
fn host_in(server: &str) -> Option<RegistryHost> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    authority.strip_suffix(HTTPS_PORT).unwrap_or(&authority).parse().ok()
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
}
