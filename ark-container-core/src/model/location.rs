//! [`RegistryLocation`]: the location of a registry, in AWS or in a folder.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::parse::{ParseError, serde_as_text};
use super::{EcrHost, Stage};

/// The host of a registry, with its port unless it is the default port of the scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost(Box<str>);

impl RegistryHost {
    /// Returns the host as text, such as `127.0.0.1:5050`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the registry is on this machine: the host is `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        is_loopback(split_port(&self.0).0)
    }

    /// Returns whether this host is `host`, or `localhost` with the port of `host`. Docker accepts both
    /// names for a registry on this machine.
    pub fn is_alias_of(&self, host: &Self) -> bool {
        let ((name, port), (_, other)) = (split_port(&self.0), split_port(&host.0));
        self == host || name == "localhost" && port == other
    }
}

/// Returns whether a host without its port is this machine: `localhost`, or a loopback address.
pub(crate) fn is_loopback(name: &str) -> bool {
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Splits the port from a host.
pub(crate) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

impl From<SocketAddr> for RegistryHost {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl FromStr for RegistryHost {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "registry host";
        let host = Self(input.into());
        let (name, port) = split_port(&host.0);
        // The standard library validates the text between the brackets of an IPv6 address.
        let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = ipv6 {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(ParseError::new(WHAT, input, "the brackets contain no IPv6 address"));
            }
        } else if name.is_empty() {
            return Err(ParseError::new(WHAT, input, "it is empty"));
        } else {
            let foreign = name
                .char_indices()
                .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')));
            if let Some((offset, character)) = foreign {
                let problem = format!("{character:?} is not allowed");
                return Err(ParseError::at(WHAT, input, offset, problem));
            }
        }
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        if port.is_some_and(|port| !digits(port) || port.parse::<u16>().is_err()) {
            let problem = "the port is not a number from 0 to 65535";
            return Err(ParseError::at(WHAT, input, name.len() + 1, problem));
        }
        Ok(host)
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The location of a registry: AWS ECR, or a folder of this machine.
///
/// ```
/// use ark_container_core::model::RegistryLocation;
///
/// let local: RegistryLocation = "local:".parse()?;
/// assert_eq!(local, RegistryLocation::Local { directory: None });
/// let ecr: RegistryLocation =
///     "ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod".parse()?;
/// assert!(matches!(ecr, RegistryLocation::Ecr { .. }));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegistryLocation {
    /// `ecr://[https://]<host>[/<stage>][/]`; the default stage is `prod`.
    Ecr {
        /// The account's registry.
        host: EcrHost,
        /// The first component of the path of every repository.
        stage: Stage,
    },
    /// `local:[<directory>]`; the default is the user's folder.
    Local {
        /// The folder of the repositories; `None` for `$XDG_DATA_HOME/ark/registry`.
        directory: Option<PathBuf>,
    },
}

impl FromStr for RegistryLocation {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "registry location";
        if let Some(registry) = input.strip_prefix(ECR) {
            ecr(registry)
        } else if let Some(directory) = input.strip_prefix("local:") {
            // In other locations, two slashes precede a host. Here, they start a path at the root folder.
            if let Some(rest) = directory.strip_prefix("//").filter(|rest| !rest.starts_with('/')) {
                let problem = format!("expected a folder, such as local:/{rest} or local:{rest}");
                return Err(ParseError::new(WHAT, input, problem));
            }
            let directory = (!directory.is_empty()).then(|| PathBuf::from(directory));
            Ok(Self::Local { directory })
        } else {
            let problem = match ecr(input) {
                Ok(location) => format!("expected {location}"),
                Err(_) => "expected ecr://<host>/<stage> or local:[<directory>]".to_owned(),
            };
            Err(ParseError::new(WHAT, input, problem))
        }
    }
}

/// The prefix of a location in AWS.
const ECR: &str = "ecr://";

/// Parses the text after [`ECR`]: a host with or without a stage, also in the forms of a browser or the AWS console.
fn ecr(registry: &str) -> Result<RegistryLocation, ParseError> {
    let registry = registry.strip_prefix("https://").unwrap_or(registry);
    let registry = registry.strip_suffix('/').unwrap_or(registry);
    let (host, stage) = match registry.split_once('/') {
        Some((host, stage)) => (host, stage.parse()?),
        None => (registry, Stage::default()),
    };
    if let Some((_, host)) = host.rsplit_once('@') {
        let problem = "a user name and password are not supported; remove them";
        return Err(ParseError::new("registry location", host, problem));
    }
    Ok(RegistryLocation::Ecr { host: host.parse()?, stage })
}

impl fmt::Display for RegistryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecr { host, stage } => write!(f, "ecr://{host}/{stage}"),
            Self::Local { directory: None } => f.write_str("local:"),
            Self::Local { directory: Some(directory) } => {
                write!(f, "local:{}", directory.display())
            }
        }
    }
}

serde_as_text!(RegistryHost, RegistryLocation);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_port() {
        for good in ["localhost", "127.0.0.1:5050", "[::1]", "[::1]:5050", "a-b.example:1"] {
            assert_eq!(good.parse::<RegistryHost>().unwrap().as_str(), good);
        }
        for bad in ["", ":1", "a b", "a:x", "a:70000", "a:+1", "[::1", "[x]:1", "a/b", "u@h"] {
            assert!(bad.parse::<RegistryHost>().is_err(), "{bad}");
        }
        let error = "ex_ample".parse::<RegistryHost>().unwrap_err();
        assert_eq!(error.position(), Some(3));
    }

    #[test]
    fn localhost_is_an_alias_of_loopback_address() {
        let host = |text: &str| text.parse::<RegistryHost>().unwrap();
        for own in ["localhost", "localhost:1", "127.0.0.1:1", "[::1]", "[::1]:1"] {
            assert!(host(own).is_loopback(), "{own}");
        }
        for other in ["192.0.2.1:1", "localhost.example"] {
            assert!(!host(other).is_loopback(), "{other}");
        }
        assert!(host("localhost:1").is_alias_of(&host("127.0.0.1:1")));
        assert!(!host("localhost:2").is_alias_of(&host("127.0.0.1:1")));
        assert!(!host("127.0.0.2:1").is_alias_of(&host("127.0.0.1:1")));
    }

    #[test]
    fn ecr_location_defaults_to_stage_prod() {
        let host = "ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com";
        let location: RegistryLocation = host.parse().unwrap();
        assert_eq!(location.to_string(), format!("{host}/prod"));
        assert!(format!("{host}/a/b").parse::<RegistryLocation>().is_err());
        assert!("ecr://h.example".parse::<RegistryLocation>().is_err());
        assert!("https://h.example".parse::<RegistryLocation>().is_err());
    }

    #[test]
    fn password_in_a_location_is_not_shown() {
        for text in ["ecr://bob:hunter2@h.example/prod", "https://hunter2@h.example"] {
            let error = text.parse::<RegistryLocation>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn copied_ecr_locations_are_accepted_or_corrected() {
        let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com";
        let location = format!("ecr://{host}/dev");
        for spelling in [
            format!("ecr://{host}/dev/"),
            format!("ecr://https://{host}/dev"),
            format!("ecr://https://{host}/dev/"),
        ] {
            let parsed = spelling.parse::<RegistryLocation>().unwrap();
            assert_eq!(parsed.to_string(), location, "{spelling}");
        }
        let slash = format!("ecr://{host}/").parse::<RegistryLocation>().unwrap();
        assert_eq!(slash.to_string(), format!("ecr://{host}/prod"));
        for spelling in [format!("{host}/dev"), format!("https://{host}/dev/")] {
            let error = spelling.parse::<RegistryLocation>().unwrap_err().to_string();
            assert!(error.ends_with(&format!(": expected {location}")), "{error}");
        }
        for root in ["local://", "local://srv/registry"] {
            let error = root.parse::<RegistryLocation>().unwrap_err().to_string();
            assert!(error.contains("expected a folder"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_and_printing_are_inverse(
            account in "[0-9]{12}",
            region in "(us|eu|ap)-[a-z]{1,8}-[1-9]",
            stage in "[a-z0-9]{1,8}",
            directory in "[^/]\\PC{0,40}",
        ) {
            for text in [
                format!("ecr://{account}.dkr.ecr.{region}.amazonaws.com/{stage}"),
                format!("local:{directory}"),
            ] {
                let location: RegistryLocation = text.parse().unwrap();
                prop_assert_eq!(location.to_string(), text);
            }
        }

        #[test]
        fn registry_location_parser_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<RegistryHost>();
            let _ = text.parse::<RegistryLocation>();
        }
    }
}
