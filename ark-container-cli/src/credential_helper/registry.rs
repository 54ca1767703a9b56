//! The registry that a client means by the name of a server.

use std::net::IpAddr;

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

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &RegistryHost) -> bool {
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
