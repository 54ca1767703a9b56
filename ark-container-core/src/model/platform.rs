//! [`Platform`]: the operating system and processor that an image requires.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::parse::ParseError;

#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
const UNKNOWN: &str = "unknown";

/// The operating system and processor of an image, with the names of the OCI image specification: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor architecture, such as `amd64`.
    pub architecture: String,
    /// The variant of the processor, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform of containers on this machine: Linux, and the processor of this program.
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        // Containers run Linux on every operating system.
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Returns whether an image for `found` runs on this platform. A platform without a variant admits every variant.
    pub fn admits(&self, found: &Self) -> bool {
        self.os == found.os
            && self.architecture == found.architecture
            && (self.variant.is_none() || self.effective_variant() == found.effective_variant())
    }

    /// Returns whether both are the same platform. An absent variant means the default variant of the processor.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.admits(other) && self.effective_variant() == other.effective_variant()
    }

    /// Returns the platform in the configuration of an image, if there is one.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn of_config(config: impl std::io::Read) -> Option<Self> {
        let fields: PlatformFields = serde_json::from_reader(config).ok()?;
        fields.whole().filter(Self::is_known)
    }

    /// Returns whether the platform is a real one. Builders write `unknown/unknown` for an artifact without
    /// a platform, such as an attestation.
    ///
    /// Source: <https://github.com/moby/buildkit/blob/v0.18.0/docs/attestations/attestation-storage.md>
    #[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
    pub(crate) fn is_known(&self) -> bool {
        self.os != UNKNOWN && self.architecture != UNKNOWN
    }

    /// Returns the variant, or the default variant of the processor.
    ///
    /// Source: <https://github.com/containerd/platforms/blob/v1.0.0/database.go>
    fn effective_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", None) => Some("v8"),
            ("arm", None) => Some("v7"),
            (_, variant) => variant,
        }
    }
}

/// The platform fields of a configuration or descriptor. Each may be missing, `null` or empty.
#[derive(Debug, Deserialize)]
struct PlatformFields {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl PlatformFields {
    /// Returns the platform if it has an operating system and an architecture.
    fn whole(self) -> Option<Platform> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(Platform {
            os: filled(self.os)?,
            architecture: filled(self.architecture)?,
            variant: filled(self.variant),
        })
    }
}

/// Deserializes the platform of a descriptor. A platform without an operating system or architecture is ignored.
pub(super) fn whole<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Platform>, D::Error> {
    let fields: Option<PlatformFields> = Option::deserialize(deserializer)?;
    Ok(fields.and_then(PlatformFields::whole))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Parses `OS/ARCHITECTURE[/VARIANT]`. The processor names of the Linux kernel are accepted, too.
///
/// ```
/// use ark_container_core::model::Platform;
///
/// let platform: Platform = "linux/aarch64/v8".parse()?;
/// assert_eq!(platform.to_string(), "linux/arm64/v8");
/// assert!("arm64".parse::<Platform>().is_err());
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
impl FromStr for Platform {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let invalid = |problem| ParseError::new("platform", input, problem);
        let parts: Vec<&str> = input.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
            _ => return Err(invalid("expected OS/ARCHITECTURE[/VARIANT], such as linux/arm64")),
        };
        let is_word = |part: &&str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part.bytes().all(allowed)
        };
        if !parts.iter().all(is_word) {
            return Err(invalid("each part must consist of letters and digits"));
        }
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platform_parses_its_own_display() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
    }

    #[test]
    fn invalid_platform_is_rejected() {
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux/amd64/"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    #[cfg(any(feature = "local", feature = "push"))]
    fn platform_of_config_is_known_or_absent() {
        for (config, expected) in [
            (r#"{"os":"linux","architecture":"arm","variant":"v7","x":{}}"#, Some("linux/arm/v7")),
            (r#"{"os":"linux","architecture":"amd64","variant":""}"#, Some("linux/amd64")),
            (r#"{"os":"linux","architecture":"amd64","variant":null}"#, Some("linux/amd64")),
            (r#"{"os":"unknown","architecture":"unknown"}"#, None),
            (r#"{"os":"linux"}"#, None),
            ("{}", None),
            ("not json", None),
        ] {
            let found = Platform::of_config(config.as_bytes()).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{config}");
        }
    }

    #[test]
    fn absent_variant_admits_any_variant() {
        for (wanted, found, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/arm64", false),
        ] {
            assert_eq!(platform(wanted).admits(&platform(found)), expected, "{wanted} {found}");
        }
        assert!(platform("linux/arm64").is_same_as(&platform("linux/arm64/v8")));
        assert!(!platform("linux/arm").is_same_as(&platform("linux/arm/v6")));
    }
}
