//! Names in AWS: [`EcrHost`], [`RoleArn`] and [`AdditionalAction`].

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::parse::{ParseError, serde_as_text};
use super::{RegistryHost, RepositoryPath};

/// The number of digits of an AWS account.
const ACCOUNT_LEN: usize = 12;
const HOST_FORM: &str = "<account>.dkr.ecr.<region>.amazonaws.com";

/// A partition of AWS, which has separate accounts, regions and host names.
struct Partition {
    id: &'static str,
    /// The prefix of its regions; empty for the partition of all other regions.
    regions: &'static str,
    suffix: &'static str,
    /// The suffix of its dual-stack hosts, which also support IPv6; `None` if there are no such hosts.
    dual_stack_suffix: Option<&'static str>,
}

/// The partitions. The last one matches every region.
///
/// Sources: <https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json> and, for the host names of
/// registries, <https://github.com/awslabs/amazon-ecr-credential-helper/blob/main/ecr-login/api/client.go>
const PARTITIONS: [Partition; 8] = [
    Partition {
        id: "aws-cn",
        regions: "cn-",
        suffix: "amazonaws.com.cn",
        dual_stack_suffix: Some("on.amazonwebservices.com.cn"),
    },
    Partition {
        id: "aws-us-gov",
        regions: "us-gov-",
        suffix: "amazonaws.com",
        dual_stack_suffix: Some("on.aws"),
    },
    Partition {
        id: "aws-eusc",
        regions: "eusc-",
        suffix: "amazonaws.eu",
        dual_stack_suffix: Some("on.amazonwebservices.eu"),
    },
    Partition { id: "aws-iso", regions: "us-iso-", suffix: "c2s.ic.gov", dual_stack_suffix: None },
    Partition {
        id: "aws-iso-b",
        regions: "us-isob-",
        suffix: "sc2s.sgov.gov",
        dual_stack_suffix: None,
    },
    Partition {
        id: "aws-iso-e",
        regions: "eu-isoe-",
        suffix: "cloud.adc-e.uk",
        dual_stack_suffix: None,
    },
    Partition {
        id: "aws-iso-f",
        regions: "us-isof-",
        suffix: "csp.hci.ic.gov",
        dual_stack_suffix: None,
    },
    Partition {
        id: "aws",
        regions: "",
        suffix: "amazonaws.com",
        dual_stack_suffix: Some("on.aws"),
    },
];

/// The host of an account's ECR registry in one region of AWS.
///
/// ```
/// use ark_container_core::model::EcrHost;
///
/// let host: EcrHost = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse()?;
/// assert_eq!((host.account(), host.region()), ("095412845506", "us-east-1"));
/// assert_eq!(host.partition(), "aws");
///
/// let host: EcrHost = "095412845506.dkr-ecr-fips.us-gov-west-1.on.aws".parse()?;
/// assert!(host.is_fips() && host.is_dual_stack());
///
/// let error = "95412845506.dkr.ecr.us-east-1.amazonaws.com".parse::<EcrHost>().unwrap_err();
/// assert!(error.to_string().contains("an account has 12 digits"));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EcrHost {
    host: RegistryHost,
    region: Box<str>,
    partition: &'static str,
    fips: bool,
    dual_stack: bool,
}

impl EcrHost {
    /// Returns the host as text.
    pub fn as_str(&self) -> &str {
        self.host.as_str()
    }

    /// Returns the host as the host of a registry.
    pub fn registry_host(&self) -> &RegistryHost {
        &self.host
    }

    /// Returns the account that owns the registry, 12 digits.
    pub fn account(&self) -> &str {
        &self.as_str()[..ACCOUNT_LEN]
    }

    /// Returns the region, such as `us-east-1`.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the partition, as in ARNs: `aws`, `aws-cn`, `aws-us-gov`, `aws-eusc`, `aws-iso…`.
    pub fn partition(&self) -> &'static str {
        self.partition
    }

    /// Returns whether the host is a FIPS 140 endpoint, with validated cryptography.
    pub fn is_fips(&self) -> bool {
        self.fips
    }

    /// Returns whether the host supports IPv6 in addition to IPv4.
    pub fn is_dual_stack(&self) -> bool {
        self.dual_stack
    }

    /// Returns the ARN of a repository in this registry.
    ///
    /// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
    pub fn repository_arn(&self, path: &RepositoryPath) -> String {
        self.repository_arn_like(path)
    }

    /// Returns the ARN of the repositories whose paths match `pattern`, for IAM policies.
    pub fn repository_arn_like(&self, pattern: impl fmt::Display) -> String {
        let (account, region) = (self.account(), &self.region);
        format!("arn:{}:ecr:{region}:{account}:repository/{pattern}", self.partition)
    }
}

impl FromStr for EcrHost {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let error = |offset: usize, problem: String| {
            Err(ParseError::at("ECR host", input, offset, problem))
        };
        let digits = input.bytes().take_while(u8::is_ascii_digit).count();
        let Some((account, rest)) = input.split_once('.') else {
            return Err(ParseError::new("ECR host", input, format!("expected {HOST_FORM}")));
        };
        if digits != ACCOUNT_LEN || account.len() != ACCOUNT_LEN {
            let offset = digits.min(ACCOUNT_LEN);
            return error(
                offset,
                format!("an account has {ACCOUNT_LEN} digits ({HOST_FORM}): invalid"),
            );
        }
        let (fips, dual_stack, rest) = if let Some(rest) = rest.strip_prefix("dkr.ecr.") {
            (false, false, rest)
        } else if let Some(rest) = rest.strip_prefix("dkr.ecr-fips.") {
            (true, false, rest)
        } else if let Some(rest) = rest.strip_prefix("dkr-ecr.") {
            (false, true, rest)
        } else if let Some(rest) = rest.strip_prefix("dkr-ecr-fips.") {
            (true, true, rest)
        } else {
            let forms = "dkr.ecr., dkr.ecr-fips., dkr-ecr. or dkr-ecr-fips.";
            return error(ACCOUNT_LEN + 1, format!("expected {forms} after the account,"));
        };
        let region_at = input.len() - rest.len();
        let (region, suffix) = rest.split_once('.').unwrap_or((rest, ""));
        let foreign = region.find(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '-'));
        if let Some(offset) = foreign {
            return error(
                region_at + offset,
                "expected a region such as us-east-1: invalid".to_owned(),
            );
        }
        if !region.contains('-') || region.starts_with('-') || region.ends_with('-') {
            return error(region_at, format!("{region:?} is not a region such as us-east-1,"));
        }
        let suffix_at = (region_at + region.len() + 1).min(input.len());
        let mut partitions = PARTITIONS.iter();
        let Some(partition) = partitions.find(|partition| region.starts_with(partition.regions))
        else {
            return error(region_at, format!("{region:?} is in no known partition"));
        };
        let expected = match (dual_stack, partition.dual_stack_suffix) {
            (false, _) => partition.suffix,
            (true, Some(suffix)) => suffix,
            (true, None) => {
                let problem = format!("{region} has no dual-stack hosts (dkr-ecr):");
                return error(ACCOUNT_LEN + 1, problem);
            }
        };
        if suffix != expected {
            return error(suffix_at, format!("a host in {region} ends with {expected}: invalid"));
        }
        let host = input.parse()?;
        Ok(Self { host, region: region.into(), partition: partition.id, fips, dual_stack })
    }
}

impl fmt::Display for EcrHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

serde_as_text!(EcrHost);

const ROLE_FORM: &str = "arn:<partition>:iam::<account>:role/<name>";
/// The maximum length of an ARN.
///
/// Source: `arnType` in the service model of STS.
const MAX_ARN_LEN: usize = 2048;

/// The ARN of an IAM role, such as `arn:aws:iam::095412845506:role/builds`.
///
/// The parser checks only the form, not whether the role exists or can be assumed.
///
/// ```
/// use ark_container_core::model::RoleArn;
///
/// let role: RoleArn = "arn:aws:iam::095412845506:role/teams/builds".parse()?;
/// assert_eq!(role.as_str(), "arn:aws:iam::095412845506:role/teams/builds");
/// assert!("arn:aws:iam::095412845506:user/alice".parse::<RoleArn>().is_err());
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleArn(Box<str>);

impl RoleArn {
    /// Returns the ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses the form of the IAM reference: a name of 1 to 64 letters, digits and `+=,.@_-`, after an optional
/// path of visible characters.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
impl FromStr for RoleArn {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let expected = |problem: &str| {
            ParseError::new("ARN of a role", input, format!("{problem} ({ROLE_FORM})"))
        };
        let parts: Vec<&str> = input.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts[..] else {
            return Err(expected("it does not have the form"));
        };
        if !partition.starts_with("aws") {
            return Err(expected("expected a partition such as aws, aws-cn or aws-us-gov"));
        }
        if account.len() != ACCOUNT_LEN || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(expected("an account has 12 digits"));
        }
        let name = resource.strip_prefix("role/").ok_or_else(|| expected("it is not a role"))?;
        let foreign = input.char_indices().find(|(_, c)| !c.is_ascii_graphic());
        if let Some((offset, character)) = foreign {
            let problem = format!("{character:?} is not allowed");
            return Err(ParseError::at("ARN of a role", input, offset, problem));
        }
        if name.is_empty() || name.ends_with('/') {
            return Err(expected("the role has no name"));
        }
        if input.len() > MAX_ARN_LEN {
            let problem = format!("it is longer than {MAX_ARN_LEN} characters");
            return Err(ParseError::new("ARN of a role", input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RoleArn);

/// An IAM action that a push needs in addition to ECR actions, and the resource to which it applies.
///
/// Managed signing signs as the principal that pushes. So a policy that narrows credentials must allow the action.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html>
///
/// ```
/// use ark_container_core::model::AdditionalAction;
///
/// let profile = "arn:aws:signer:us-east-1:095412845506:/signing-profiles/release";
/// let sign = AdditionalAction::new("signer:SignPayload", profile)?;
/// assert_eq!(sign.resource(), profile);
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "UncheckedAction")]
pub struct AdditionalAction {
    action: String,
    resource: String,
}

/// An [`AdditionalAction`] in a file, before validation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedAction {
    action: String,
    resource: String,
}

impl TryFrom<UncheckedAction> for AdditionalAction {
    type Error = ParseError;

    fn try_from(UncheckedAction { action, resource }: UncheckedAction) -> Result<Self, ParseError> {
        Self::new(action, resource)
    }
}

impl AdditionalAction {
    /// Creates an action such as `signer:SignPayload` on the resource with this ARN, or on `*`.
    ///
    /// # Errors
    /// [`ParseError`] if the action or the resource is invalid, or if the action belongs to ECR, IAM or
    /// STS. The isolation of organizations depends on those services.
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Result<Self, ParseError> {
        let (action, resource) = (action.into(), resource.into());
        let is_word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-*".contains(c))
        };
        let is_pair = |(service, name): (&str, &str)| is_word(service) && is_word(name);
        if !action.split_once(':').is_some_and(is_pair) {
            let problem = "it does not have the form <service>:<Action>";
            return Err(ParseError::new("action of IAM", &action, problem));
        }
        let service = action.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if service.contains('*') || ["ecr", "iam", "sts"].contains(&service.as_str()) {
            let problem =
                "actions of ECR, IAM and STS, and actions of all services, are not allowed";
            return Err(ParseError::new("action of IAM", &action, problem));
        }
        let is_text = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        if resource != "*" && !(resource.starts_with("arn:") && resource.chars().all(is_text)) {
            let problem = "it is neither an ARN nor *";
            return Err(ParseError::new("resource of IAM", &resource, problem));
        }
        Ok(Self { action, resource })
    }

    /// Returns the action.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Returns the resource.
    pub fn resource(&self) -> &str {
        &self.resource
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host_error(input: &str) -> String {
        input.parse::<EcrHost>().unwrap_err().to_string()
    }

    #[test]
    fn ecr_host_has_region_and_partition() {
        for (rest, region, partition, fips, dual_stack) in [
            ("dkr.ecr.us-east-1.amazonaws.com", "us-east-1", "aws", false, false),
            ("dkr.ecr-fips.us-east-2.amazonaws.com", "us-east-2", "aws", true, false),
            ("dkr-ecr.eu-west-1.on.aws", "eu-west-1", "aws", false, true),
            ("dkr-ecr-fips.us-west-2.on.aws", "us-west-2", "aws", true, true),
            ("dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn", false, false),
            ("dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", "aws-cn", false, true),
            (
                "dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                "aws-us-gov",
                true,
                false,
            ),
            ("dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "aws-eusc", false, false),
            ("dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "aws-iso", false, false),
            ("dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", "aws-iso-b", false, false),
            ("dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", "aws-iso-e", false, false),
            (
                "dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
                "us-isof-south-1",
                "aws-iso-f",
                false,
                false,
            ),
        ] {
            let text = format!("095412845506.{rest}");
            let host: EcrHost = text.parse().unwrap();
            assert_eq!(host.to_string(), text);
            assert_eq!(host.account(), "095412845506");
            assert_eq!((host.region(), host.partition()), (region, partition), "{text}");
            assert_eq!((host.is_fips(), host.is_dual_stack()), (fips, dual_stack), "{text}");
        }
    }

    #[test]
    fn ecr_host_errors_have_a_position() {
        assert!(host_error("").ends_with("expected <account>.dkr.ecr.<region>.amazonaws.com"));
        assert!(host_error("h.example").contains("an account has 12 digits"));
        assert!(
            host_error("0954128455067.dkr.ecr.us-east-1.amazonaws.com")
                .ends_with("at character 13")
        );
        assert!(
            host_error("095412845506.ecr.us-east-1.amazonaws.com")
                .ends_with("after the account, at character 14")
        );
        assert!(
            host_error("095412845506.dkr.ecr.us-East-1.amazonaws.com").ends_with("at character 25")
        );
        assert!(
            host_error("095412845506.dkr.ecr.useast1.amazonaws.com").ends_with("at character 22")
        );
        assert!(
            host_error("095412845506.dkr.ecr.us-east-1.amazonaws.com.cn")
                .ends_with("ends with amazonaws.com: invalid at character 32")
        );
        assert!(host_error("095412845506.dkr.ecr.us-east-1").ends_with("at character 31"));
        assert!(
            host_error("095412845506.dkr-ecr.us-iso-east-1.on.aws").contains("no dual-stack hosts")
        );
        assert!(
            host_error("095412845506.dkr.ecr.us-east-1.amazonaws.com:443").contains("ends with")
        );
    }

    #[test]
    fn repository_arn_has_the_host_partition() {
        let host: EcrHost = "095412845506.dkr.ecr.cn-north-1.amazonaws.com.cn".parse().unwrap();
        let path = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap();
        assert_eq!(
            host.repository_arn(&path),
            "arn:aws-cn:ecr:cn-north-1:095412845506:repository/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a"
        );
        assert!(host.repository_arn_like("prod/*").ends_with(":repository/prod/*"));
    }

    proptest! {
        #[test]
        fn ecr_host_parser_never_panics(text in "(095412845506)?(\\.dkr[.-]ecr)?\\PC{0,40}") {
            if let Ok(host) = text.parse::<EcrHost>() {
                prop_assert_eq!(host.to_string(), text);
            }
        }
    }

    #[test]
    fn role_arn_must_name_an_account_role() {
        let error = |text: &str| text.parse::<RoleArn>().unwrap_err().to_string();
        assert!(error("builds").contains("does not have the form"));
        assert!(error("arn:aws:sts::095412845506:assumed-role/builds/x").contains("the form"));
        assert!(error("arn:aws:iam::095412845506:user/alice").contains("not a role"));
        assert!(error("arn:aws:iam::95412845506:role/builds").contains("12 digits"));
        assert!(error("arn:moon:iam::095412845506:role/builds").contains("partition"));
        assert!(error("arn:aws:iam::095412845506:role/").contains("no name"));
        assert!(error("arn:aws:iam::095412845506:role/teams/").contains("no name"));
        assert!(error("arn:aws:iam::095412845506:role/a b").contains("at character 33"));
        let long = format!("arn:aws:iam::095412845506:role/{}", "a".repeat(MAX_ARN_LEN));
        assert!(error(&long).contains("longer than 2048"));
    }

    #[test]
    fn invalid_additional_action_is_rejected() {
        let error = |action: &str, resource: &str| {
            AdditionalAction::new(action, resource).unwrap_err().to_string()
        };
        AdditionalAction::new("signer:Sign*", "*").unwrap();
        for action in ["", "SignPayload", "signer:", ":x", "signer:Sign Payload", "a:b:c"] {
            assert!(error(action, "*").contains("<service>:<Action>"), "{action}");
        }
        for action in ["ecr:*", "ECR:PutImage", "*:*", "e*:Put", "sts:AssumeRole", "iam:PassRole"] {
            assert!(error(action, "*").contains("are not allowed"), "{action}");
        }
        for resource in ["", "profile", "arn:aws:signer:\"", "arn:a b", "arn:é"] {
            assert!(error("signer:SignPayload", resource).contains("neither an ARN"), "{resource}");
        }
    }

    proptest! {
        #[test]
        fn role_arn_parses_its_own_display(
            partition in "aws(-cn|-us-gov|-iso-b)?",
            account in "[0-9]{12}",
            name in "([a-z]{1,8}/){0,2}[A-Za-z0-9+=,.@_-]{1,64}",
        ) {
            let text = format!("arn:{partition}:iam::{account}:role/{name}");
            prop_assert_eq!(text.parse::<RoleArn>().unwrap().to_string(), text);
        }

        #[test]
        fn role_arn_parser_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<RoleArn>();
        }
    }
}
