//! Failed calls of AWS as [`Error`]s, which are named for what the caller does next.

use std::any::Any;
use std::error::Error as StdError;
use std::{fmt, io, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId as _;
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::aws_credentials::{SourceFailed, UnusableKey};
use super::backend::EcrBackend;
use super::clients::QUOTA_REACHED;
use crate::aws_environment::profile_has;
use crate::error::{BoxError, Error, ResourceKind, is_untrusted, untrusted};
use crate::escape::quote_for_shell;
use crate::model::RepositoryPath;
use crate::secrets::Secrets;

/// The error code of AWS for a missing repository.
pub(super) const REPOSITORY_NOT_FOUND: &str = "RepositoryNotFoundException";

/// A call of AWS, for its errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    backend: &'a EcrBackend,
    /// The operation, such as `list the repositories of`.
    doing: &'a str,
    path: Option<&'a RepositoryPath>,
}

impl EcrBackend {
    /// A call about the registry.
    pub(crate) fn call<'a>(&'a self, doing: &'a str) -> Call<'a> {
        Call { backend: self, doing, path: None }
    }

    /// A call about one repository.
    pub(crate) fn call_on<'a>(&'a self, doing: &'a str, path: &'a RepositoryPath) -> Call<'a> {
        Call { backend: self, doing, path: Some(path) }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            Some(path) => write!(f, "{} {path} in {}", self.doing, self.backend),
            None => write!(f, "{} {}", self.doing, self.backend),
        }
    }
}

/// The meaning of an error code of AWS for the caller.
///
/// Source: the errors of each operation in the service models, and
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Denied,
    Expired,
    Clock,
    WrongKeys,
    NoRepository,
    Invalid,
    Quota,
    Kms,
    Upstream,
    Region,
    Temporary,
    Other,
}

impl Meaning {
    /// `creates` says whether a repository was to be created: only then is a quota reached. Other calls are
    /// throttled with the same code.
    fn of(code: &str, message: &str, status: u16, creates: bool) -> Self {
        // Wrong keys and a wrong clock have the same code.
        let skewed = ["Signature expired", "Signature not yet current", "in the future"];
        match code {
            "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => Self::Clock,
            "InvalidSignatureException" | "SignatureDoesNotMatch"
                if skewed.iter().any(|text| message.contains(text)) =>
            {
                Self::Clock
            }
            "AccessDenied"
            | "AccessDeniedException"
            | "UnauthorizedOperation"
            | "NotAuthorized"
            | "BlockedByOrganizationPolicyException" => Self::Denied,
            "ExpiredToken" | "ExpiredTokenException" => Self::Expired,
            "AuthFailure"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "IDPRejectedClaim"
            | "IDPRejectedClaimException"
            | "InvalidIdentityToken"
            | "InvalidIdentityTokenException"
            | "InvalidSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "OptInRequired"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException" => Self::WrongKeys,
            REPOSITORY_NOT_FOUND => Self::NoRepository,
            "InvalidParameterException"
            | "InvalidTagParameterException"
            | "MalformedPolicyDocument"
            | "MalformedPolicyDocumentException"
            | "PaginationTokenExpiredException"
            | "TooManyTagsException"
            | "ValidationError"
            | "ValidationException" => Self::Invalid,
            QUOTA_REACHED if creates => Self::Quota,
            "KmsException" => Self::Kms,
            "UnableToGetUpstreamImageException" | "UnableToGetUpstreamLayerException" => {
                Self::Upstream
            }
            "RegionDisabledException" => Self::Region,
            QUOTA_REACHED
            | "IDPCommunicationError"
            | "IDPCommunicationErrorException"
            | "PriorRequestNotComplete"
            | "RequestLimitExceeded"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "ServerException"
            | "SlowDown"
            | "Throttling"
            | "ThrottledException"
            | "ThrottlingException"
            | "TooManyRequestsException" => Self::Temporary,
            _ if status >= 500 || status == 429 => Self::Temporary,
            _ => Self::Other,
        }
    }
}

impl Call<'_> {
    /// The error for a call that failed.
    pub(crate) fn error<E>(self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let request = match error.request_id() {
            Some(id) => format!(" (AWS request {id})"),
            None => String::new(),
        };
        match &error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let status = service.raw().status().as_u16();
                let Some(code) = meta.code() else {
                    return self.unclear(status, &request, error);
                };
                let secrets = Secrets::of_environment();
                let message = secrets.strike_out(meta.message().unwrap_or_default().trim());
                let message = &*message;
                let date = service.raw().headers().get("date").unwrap_or("unknown");
                let said = match message {
                    "" => format!("{code}, HTTP {status}{request}"),
                    message => format!("{code}: {message}{request}"),
                };
                let creates = (service.err() as &dyn Any).is::<CreateRepositoryError>();
                let meaning = Meaning::of(code, message, status, creates);
                self.refused(meaning, code, message, said, date, &request)
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                self.unclear(status, &request, error)
            }
            _ => unanswered(self, error),
        }
    }

    /// The error for an answer that is not of AWS's form, such as a proxy's page or half an answer.
    fn unclear<E>(self, status: u16, request: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: StdError + Send + Sync + 'static,
    {
        let message =
            format!("cannot {self}: the answer, HTTP {status}, is not as AWS answers{request}");
        let unclear = match status {
            407 => return invalid_proxy(self, "asks for a user and a password"),
            200..300 | 429 | 500.. => Error::temporary(message),
            _ => Error::failed(message),
        };
        match error.into_source().ok().and_then(|source| copied(&*source)) {
            Some(source) => unclear.with_source(source),
            None => unclear,
        }
    }

    fn refused(
        self,
        meaning: Meaning,
        code: &str,
        message: &str,
        said: String,
        date: &str,
        request: &str,
    ) -> Error {
        let error = match meaning {
            Meaning::Denied => return self.denied(message, request),
            Meaning::Expired => Error::unauthenticated(format!(
                "cannot {self}: {} has expired; {}",
                self.backend.config().expired(),
                self.backend.config().renewal()
            )),
            Meaning::Clock => Error::unauthenticated(format!(
                "cannot {self}: this machine's clock is wrong, AWS's says {date}"
            )),
            Meaning::WrongKeys => Error::unauthenticated(format!(
                "cannot {self}: AWS does not take {}",
                self.backend.config().proof()
            )),
            Meaning::NoRepository => match self.path {
                Some(path) => return Error::not_found(ResourceKind::Repository, path),
                None => Error::failed(format!("cannot {self}")),
            },
            Meaning::Invalid => return Error::invalid(format!("cannot {self}: {said}")),
            Meaning::Quota => {
                Error::failed(format!("cannot {self}: a quota of the account is reached"))
            }
            Meaning::Kms => Error::failed(format!("cannot {self}: AWS KMS cannot use the key")),
            Meaning::Upstream => Error::failed(format!(
                "cannot {self}: AWS cannot read the upstream registry of the pull-through cache"
            )),
            Meaning::Region => Error::failed(format!(
                "cannot {self}: the AWS account has not activated STS in the region"
            )),
            Meaning::Temporary => Error::temporary(format!("cannot {self}")),
            Meaning::Other => Error::failed(format!("cannot {self}")),
        };
        error.with_source(AwsRefusal::new(code, said))
    }

    /// Which action on which resource, as AWS words it:
    /// `User: <arn> is not authorized to perform: <action> on resource: <arn> because …`.
    fn denied(self, message: &str, request: &str) -> Error {
        let words = message.strip_prefix("User: ").and_then(|rest| {
            let (principal, rest) = rest.split_once(" is not authorized to perform: ")?;
            let (action, rest) = rest.split_once(" on resource: ").unwrap_or((rest, "*"));
            let (resource, reason) = match rest.split_once(" because ") {
                Some((resource, reason)) => (resource, format!(", because {reason}")),
                None => (rest, String::new()),
            };
            Some((principal, action, format!("{resource}{reason}{request}")))
        });
        let (principal, action, mut resource) = words.unwrap_or_else(|| {
            let said = if message.is_empty() { "AWS denies it" } else { message };
            let resource = match self.path {
                Some(path) => format!("{path} in {}: {said}{request}", self.backend),
                None => format!("{}: {said}{request}", self.backend),
            };
            (self.backend.principal().unwrap_or("the AWS caller"), self.doing, resource)
        });
        let own = self.backend.ecr_host().account();
        if let Some(account) = account_in(principal).filter(|account| *account != own) {
            resource += &format!(
                "; the registry is in the account {own}, and the caller, from {}, in {account}: choose \
                 another profile or registry, or have {own} permit it",
                self.backend.config().credentials_source()
            );
        }
        Error::permission_denied(principal, action, resource)
    }
}

/// The account in the ARN of a principal.
fn account_in(principal: &str) -> Option<&str> {
    principal.split(':').nth(4).filter(|account| !account.is_empty())
}

/// What AWS said when it refused a call: the source of errors that are due to it, printed with AWS's
/// code, its message and the id of the request.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct AwsRefusal {
    code: Box<str>,
    said: String,
}

impl AwsRefusal {
    fn new(code: &str, said: String) -> Self {
        Self { code: code.into(), said }
    }

    /// AWS's name for the reason, such as `LimitExceededException`.
    pub fn code(&self) -> &str {
        &self.code
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// There is no TLS connection that is trusted.
    Untrusted,
    /// The proxy requires a user name and password.
    ProxyAuthentication,
    /// The proxy cannot be reached, or does not connect to the host.
    Proxy,
    UnknownHost,
    /// The connection is refused, or packets are lost.
    Unreachable,
    Other,
}

impl Unanswered {
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let told: Vec<String> = chain(error).map(ToString::to_string).collect();
        let tells = |texts: &[&str]| told.iter().any(|one| texts.iter().any(|t| one.contains(t)));
        let is_refused = |error: &(dyn StdError + 'static)| {
            let error = error.downcast_ref::<io::Error>();
            error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if is_untrusted(error) {
            Self::Untrusted
        } else if tells(&["proxy authorization required"]) {
            Self::ProxyAuthentication
        } else if tells(&["proxy", "tunnel"]) {
            Self::Proxy
        } else if tells(&["dns error", "failed to lookup address"]) {
            Self::UnknownHost
        } else if chain(error).any(is_refused) || tells(&["connect timeout"]) {
            Self::Unreachable
        } else {
            Self::Other
        }
    }

    /// Whether another attempt meets the same.
    pub(super) fn is_final(self) -> bool {
        self != Self::Other
    }
}

/// The error for a request that got no answer.
fn unanswered<E>(call: Call<'_>, error: SdkError<E, HttpResponse>) -> Error
where
    E: StdError + Send + Sync + 'static,
{
    let timed_out = match &error {
        SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => failure.is_timeout(),
        _ => false,
    };
    let is_connection = match &error {
        SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => !failure.is_user() && !failure.is_other(),
        _ => false,
    };
    // Every kind but an answer of the service has a cause.
    let cause = match error.into_source() {
        Ok(cause) => cause,
        Err(error) => Box::new(error),
    };
    if let Some(credentials) = chain(&*cause).find_map(|e| e.downcast_ref::<CredentialsError>()) {
        return credentials_problem(call, credentials);
    }
    let error = match Unanswered::of(&*cause) {
        Unanswered::Untrusted => untrusted(format!("cannot {call}")),
        Unanswered::ProxyAuthentication => invalid_proxy(call, "asks for a user and a password"),
        Unanswered::Proxy => invalid_proxy(call, "does not connect to the endpoint"),
        Unanswered::UnknownHost => Error::temporary(format!(
            "cannot {call}: the name of its AWS endpoint is not known here: no network, or no such \
             region"
        )),
        Unanswered::Other if timed_out => {
            Error::temporary(format!("cannot {call}: AWS did not answer in time"))
        }
        Unanswered::Unreachable | Unanswered::Other if is_connection => {
            Error::temporary(format!("cannot {call}: its AWS endpoint cannot be reached"))
        }
        Unanswered::Unreachable | Unanswered::Other => {
            Error::invalid(format!("cannot {call}: the request cannot be made"))
        }
    };
    match copied(&*cause) {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn invalid_proxy(call: Call<'_>, problem: &str) -> Error {
    Error::invalid(format!("cannot {call}: the proxy {problem}")).with_help(
        "correct HTTPS_PROXY (or HTTP_PROXY, ALL_PROXY), such as http://USER:PASSWORD@HOST:PORT, or \
         name the host of the endpoint in NO_PROXY",
    )
}

/// The error for credentials that a source does not provide.
fn credentials_problem(call: Call<'_>, error: &CredentialsError) -> Error {
    if chain(error).any(|cause| cause.is::<UnusableKey>()) {
        return Error::invalid(format!("cannot {call}")).with_source(UnusableKey);
    }
    let profile = call.backend.config().profile_in_use();
    let quoted = quote_for_shell(&profile);
    let failed = chain(error).find_map(|cause| cause.downcast_ref::<SourceFailed>());
    let Some(SourceFailed { name, error: failure }) = failed else {
        let problem = match profile.as_str() {
            "default" => "no AWS credentials were found".to_owned(),
            _ => format!(
                "the profile {profile:?} does not exist in the AWS configuration, or has no credentials"
            ),
        };
        return Error::unauthenticated(format!(
            "cannot {call}: {problem}: run `aws configure --profile {quoted}` or `aws login --profile \
             {quoted}`"
        ));
    };
    let told: Vec<String> = chain(failure).map(ToString::to_string).collect();
    let tells = |text: &str| told.iter().any(|cause| cause.contains(text));
    let has = |key| name.ends_with(&format!("{profile:?}")) && profile_has(&profile, key);
    let problem = if tells("SSO") || has("sso_session") || has("sso_start_url") {
        let problem = match tells("expired") || tells("Unauthorized") {
            true => format!("the SSO session of the profile {profile:?} has expired"),
            false => format!("the profile {profile:?} has no SSO session"),
        };
        format!("{problem}: run `aws sso login --profile {quoted}`")
    } else if has("mfa_serial") {
        format!(
            "the role of the profile {profile:?} requires a code of the device in mfa_serial, which \
             only the AWS command line asks for: run `eval \"$(aws configure export-credentials \
             --profile {quoted} --format env)\"`"
        )
    } else if has("login_session") {
        format!("{name} has no session of `aws login`: run `aws login --profile {quoted}`")
    } else {
        format!("{name} gives no AWS credentials")
    };
    let message = format!("cannot {call}: {problem}");
    let error = match chain(failure).any(|cause| cause.is::<ConnectorError>()) {
        true => Error::temporary(message),
        false => Error::unauthenticated(message),
    };
    match failure.source().and_then(copied) {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

/// Copies an error and its causes as text, without the text that has the request.
///
/// The SDK prints the request, with its token, where an endpoint is no URL; and it lends some errors only.
fn copied(error: &(dyn StdError + 'static)) -> Option<BoxError> {
    let secrets = Secrets::of_environment();
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    let texts = texts.into_iter().rev().filter(|text| !text.contains("to request `"));
    let texts = texts.map(|text| secrets.strike_out(&text).into_owned());
    texts.fold(None, |source, text| Some(Box::new(Told { text, source }) as _))
}

/// A cause as it was told.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Told {
    text: String,
    source: Option<BoxError>,
}

/// An error and its causes.
fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::super::scripted::{Answer, Scripted};
    use super::{AwsRefusal, Unanswered};
    use crate::backend::RegistryBackend;
    use crate::error::{Error, ErrorKind};
    use crate::model::RepositoryPath;

    fn path() -> RepositoryPath {
        "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap()
    }

    /// What a deletion fails with when AWS answers so.
    async fn error(answer: Answer) -> Error {
        let aws = Scripted::new(move |_| answer.clone());
        aws.backend.delete_repository(&path(), &Default::default()).await.unwrap_err()
    }

    #[test]
    fn reason_of_a_missing_answer_is_read_from_its_causes() {
        for (text, expected, is_final) in [
            ("invalid peer certificate: UnknownIssuer", Unanswered::Untrusted, true),
            ("proxy authorization required", Unanswered::ProxyAuthentication, true),
            ("tunnel error: unsuccessful", Unanswered::Proxy, true),
            ("dns error", Unanswered::UnknownHost, true),
            ("HTTP connect timeout occurred after 3s", Unanswered::Unreachable, true),
            ("HTTP read timeout occurred after 30s", Unanswered::Other, false),
            ("connection reset", Unanswered::Other, false),
        ] {
            let reason = Unanswered::of(&std::io::Error::other(text));
            assert_eq!((reason, reason.is_final()), (expected, is_final), "{text}");
        }
    }

    #[tokio::test]
    async fn each_answer_is_the_error_that_says_what_to_do_next() {
        let table = [
            (400, "ExpiredTokenException", ErrorKind::Unauthenticated, "aws sso login --profile"),
            (403, "ExpiredToken", ErrorKind::Unauthenticated, "has expired"),
            (
                400,
                "UnrecognizedClientException",
                ErrorKind::Unauthenticated,
                "does not take the credentials",
            ),
            (
                403,
                "InvalidClientTokenId",
                ErrorKind::Unauthenticated,
                "does not take the credentials",
            ),
            (
                400,
                "InvalidSignatureException",
                ErrorKind::Unauthenticated,
                "does not take the credentials",
            ),
            (
                403,
                "RequestTimeTooSkewed",
                ErrorKind::Unauthenticated,
                "clock is wrong, AWS's says Mon, 02 Nov",
            ),
            (
                400,
                "AccessDeniedException",
                ErrorKind::PermissionDenied,
                "the AWS caller may not delete",
            ),
            (400, "ThrottlingException", ErrorKind::Temporary, "ThrottlingException"),
            (400, "TooManyRequestsException", ErrorKind::Temporary, "TooManyRequestsException"),
            (500, "ServerException", ErrorKind::Temporary, "ServerException"),
            (503, "SomethingNew", ErrorKind::Temporary, "SomethingNew"),
            (429, "SomethingNew", ErrorKind::Temporary, "SomethingNew"),
            (400, "LimitExceededException", ErrorKind::Temporary, "LimitExceededException"),
            (
                400,
                "UnableToGetUpstreamImageException",
                ErrorKind::Failed,
                "the upstream registry of the pull-through cache",
            ),
            (
                400,
                "UnableToGetUpstreamLayerException",
                ErrorKind::Failed,
                "the upstream registry of the pull-through cache",
            ),
            (403, "RegionDisabledException", ErrorKind::Failed, "not activated STS in the region"),
            (
                400,
                "MalformedPolicyDocument",
                ErrorKind::InvalidInput,
                "MalformedPolicyDocument: the message",
            ),
            (400, "KmsException", ErrorKind::Failed, "AWS KMS cannot use the key"),
            (
                400,
                "InvalidParameterException",
                ErrorKind::InvalidInput,
                "InvalidParameterException",
            ),
            (400, "ValidationException", ErrorKind::InvalidInput, "ValidationException"),
            (400, "TooManyTagsException", ErrorKind::InvalidInput, "TooManyTagsException"),
            (400, "SomethingNew", ErrorKind::Failed, "SomethingNew"),
        ];
        for (status, code, expected, text) in table {
            let error = error(Answer::error(status, code, "the message")).await;
            let refusal = error.source().map(|source| source.downcast_ref::<AwsRefusal>().unwrap());
            let told = format!("{error}: {}", refusal.map(ToString::to_string).unwrap_or_default());
            assert_eq!(error.kind(), expected, "{code}: {told}");
            for part in [text, "the message", "AWS request 7a1b"] {
                assert_eq!(told.matches(part).count(), 1, "{code}: {told}");
            }
            assert!(refusal.is_none_or(|refusal| refusal.code() == code), "{told}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_or_in_the_way_is_named() {
        let missing = error(Answer::error(400, "RepositoryNotFoundException", "no")).await;
        assert_eq!(missing.to_string(), format!("repository {} does not exist", path()));
        let full = error(Answer::error(400, "RepositoryNotEmptyException", "no")).await;
        assert_eq!(full.to_string(), format!("repository {} has images", path()));
    }

    #[tokio::test]
    async fn a_denial_says_which_action_on_which_resource() {
        let message = "User: arn:aws:iam::095412845506:user/alice is not authorized to perform: \
        ecr:DeleteRepository on resource: arn:aws:ecr:us-east-1:095412845506:repository/x because \
        no identity-based policy allows the ecr:DeleteRepository action";
        let error = error(Answer::error(400, "AccessDeniedException", message)).await;
        assert_eq!(
            error.to_string(),
            "arn:aws:iam::095412845506:user/alice may not ecr:DeleteRepository \
         arn:aws:ecr:us-east-1:095412845506:repository/x, because no identity-based policy allows \
         the ecr:DeleteRepository action (AWS request 7a1b)"
        );
    }

    #[tokio::test]
    async fn a_signature_in_the_past_is_the_clock_s_fault() {
        let message = "Signature expired: 20261102T090000Z is now earlier than 20261102T095500Z";
        let error = error(Answer::error(400, "InvalidSignatureException", message)).await;
        assert!(error.to_string().contains("clock is wrong"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_aws_s_is_told_with_its_cause() {
        let error = error(Answer::raw(200, "<html>".to_owned())).await;
        assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
        let mut cause = error.source();
        assert!(cause.is_some());
        let mut told = vec![error.to_string()];
        while let Some(error) = cause {
            assert!(!told.contains(&error.to_string()), "{told:?}");
            told.push(error.to_string());
            cause = error.source();
        }
    }

    #[tokio::test]
    async fn tokens_in_a_message_of_aws_are_struck_out() {
        let session = "IQoJb3JpZ2luX2VjEHYaCXVzLWVhc3QtMSJHMEUCIQDrf8".repeat(4);
        let message = format!(
            "The Canonical String should have been 'POST\nx-amz-security-token:{session}\n', see \
             https://alice:hunter2@h.example/"
        );
        for (status, code) in
            [(403, "SignatureDoesNotMatch"), (400, "AccessDenied"), (400, "Other")]
        {
            let error = error(Answer::error(status, code, &message)).await;
            let told = format!(
                "{error} {error:?} {}",
                error.source().map_or_else(String::new, |e| e.to_string())
            );
            assert!(told.contains("x-amz-security-token:***"), "{told}");
            assert!(!told.contains("IQoJ") && !told.contains("hunter2"), "{told}");
        }
    }

    #[tokio::test]
    async fn denial_of_another_account_names_both_accounts() {
        let message = "User: arn:aws:sts::111122223333:assumed-role/builds/alice is not authorized to \
            perform: ecr:DescribeRepositories on resource: arn:aws:ecr:us-east-1:095412845506:\
            repository/x because no resource-based policy allows the ecr:DescribeRepositories action";
        let aws = Scripted::built(
            |builder| builder.with_profile("builds"),
            "111122223333",
            move |_| Answer::error(400, "AccessDeniedException", message),
        );
        let error = aws.backend.describe_repository(&path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let expected = "no resource-based policy allows the ecr:DescribeRepositories action (AWS \
            request 7a1b); the registry is in the account 095412845506, and the caller, from the profile \
            \"builds\", in 111122223333: choose another profile or registry, or have 095412845506 permit \
            it";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(!aws.operations().contains(&"GetCallerIdentity".to_owned()));
    }
}
