//! [`Call::error`]: converts the errors of AWS calls to [`Error`]s.

use std::any::Any;
use std::error::Error as StdError;
use std::{fmt, io, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId as _;
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::aws_credentials::{InvalidKey, SourceFailed};
use super::backend::EcrBackend;
use super::clients::QUOTA_REACHED;
use crate::aws_environment::profile_has;
use crate::error::{BoxError, Error, ResourceKind, is_untrusted, untrusted};
use crate::escape::quote_for_shell;
use crate::model::RepositoryPath;
use crate::secrets::Secrets;

/// AWS's error code for a missing repository.
pub(super) const REPOSITORY_NOT_FOUND: &str = "RepositoryNotFoundException";

/// An AWS call, as its errors describe it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    backend: &'a EcrBackend,
    /// The operation, such as `list the repositories of`.
    operation: &'a str,
    path: Option<&'a RepositoryPath>,
}

impl EcrBackend {
    /// Describes a call for the registry.
    pub(crate) fn call<'a>(&'a self, operation: &'a str) -> Call<'a> {
        Call { backend: self, operation, path: None }
    }

    /// Describes a call for one repository.
    pub(crate) fn call_on<'a>(&'a self, operation: &'a str, path: &'a RepositoryPath) -> Call<'a> {
        Call { backend: self, operation, path: Some(path) }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            Some(path) => write!(f, "{} {path} in {}", self.operation, self.backend),
            None => write!(f, "{} {}", self.operation, self.backend),
        }
    }
}

/// The class of an AWS error code, which determines the error for the caller.
///
/// Source: the errors of each operation in the service models, and
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorClass {
    Denied,
    Expired,
    Clock,
    InvalidKeys,
    NoRepository,
    Invalid,
    Quota,
    Kms,
    Upstream,
    Region,
    Temporary,
    Other,
}

impl ErrorClass {
    /// Classifies an error code. The code of a quota means a reached quota only if the call `creates` a repository, and
    /// throttling in other calls.
    fn of(code: &str, message: &str, status: u16, creates: bool) -> Self {
        // Invalid keys and a wrong clock have the same code.
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
            | "UnrecognizedClientException" => Self::InvalidKeys,
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
    /// Returns the error of a failed call.
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
                    return self.invalid_response(status, &request, error);
                };
                let secrets = Secrets::of_environment();
                let message = secrets.strike_out(meta.message().unwrap_or_default().trim());
                let message = &*message;
                let date = service.raw().headers().get("date").unwrap_or("unknown");
                let details = match message {
                    "" => format!("{code}, HTTP {status}{request}"),
                    message => format!("{code}: {message}{request}"),
                };
                let creates = (service.err() as &dyn Any).is::<CreateRepositoryError>();
                let class = ErrorClass::of(code, message, status, creates);
                self.service_error(class, code, message, details, date, &request)
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                self.invalid_response(status, &request, error)
            }
            _ => no_response(self, error),
        }
    }

    /// Returns the error of an invalid response, such as a proxy's page or a truncated response.
    fn invalid_response<E>(
        self,
        status: u16,
        request: &str,
        error: SdkError<E, HttpResponse>,
    ) -> Error
    where
        E: StdError + Send + Sync + 'static,
    {
        let message =
            format!("cannot {self}: the response, HTTP {status}, is not in AWS's format{request}");
        let invalid = match status {
            407 => return invalid_proxy(self, "requires a user name and a password"),
            200..300 | 429 | 500.. => Error::temporary(message),
            _ => Error::failed(message),
        };
        match error.into_source().ok().and_then(|source| copy_error(&*source)) {
            Some(source) => invalid.with_source(source),
            None => invalid,
        }
    }

    fn service_error(
        self,
        class: ErrorClass,
        code: &str,
        message: &str,
        details: String,
        date: &str,
        request: &str,
    ) -> Error {
        let error = match class {
            ErrorClass::Denied => return self.denied(message, request),
            ErrorClass::Expired => Error::unauthenticated(format!(
                "cannot {self}: {} has expired; {}",
                self.backend.config().expired_session(),
                self.backend.config().renewal()
            )),
            ErrorClass::Clock => Error::unauthenticated(format!(
                "cannot {self}: this machine's clock is wrong: AWS's clock says {date}"
            )),
            ErrorClass::InvalidKeys => Error::unauthenticated(format!(
                "cannot {self}: AWS rejected {}",
                self.backend.config().credentials_name()
            )),
            ErrorClass::NoRepository => match self.path {
                Some(path) => return Error::not_found(ResourceKind::Repository, path),
                None => Error::failed(format!("cannot {self}")),
            },
            ErrorClass::Invalid => return Error::invalid(format!("cannot {self}: {details}")),
            ErrorClass::Quota => {
                Error::failed(format!("cannot {self}: a quota of the account is reached"))
            }
            ErrorClass::Kms => Error::failed(format!("cannot {self}: AWS KMS cannot use the key")),
            ErrorClass::Upstream => Error::failed(format!(
                "cannot {self}: AWS cannot read the upstream registry of the pull-through cache"
            )),
            ErrorClass::Region => Error::failed(format!(
                "cannot {self}: the AWS account has not activated STS in the region"
            )),
            ErrorClass::Temporary => Error::temporary(format!("cannot {self}")),
            ErrorClass::Other => Error::failed(format!("cannot {self}")),
        };
        error.with_source(AwsRefusal::new(code, details))
    }

    /// Returns the error of a denied call, with the principal, action and resource from AWS's message:
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
            let reason = if message.is_empty() { "AWS denies it" } else { message };
            let resource = match self.path {
                Some(path) => format!("{path} in {}: {reason}{request}", self.backend),
                None => format!("{}: {reason}{request}", self.backend),
            };
            (self.backend.principal().unwrap_or("the AWS caller"), self.operation, resource)
        });
        let own = self.backend.ecr_host().account();
        if let Some(account) = account_in(principal).filter(|account| *account != own) {
            resource += &format!(
                "; the registry is in the account {own}, and the caller, from {}, in {account}: choose \
                 another profile or registry, or allow the caller in {own}",
                self.backend.config().credentials_source()
            );
        }
        Error::permission_denied(principal, action, resource)
    }
}

/// Returns the account in the ARN of a principal.
fn account_in(principal: &str) -> Option<&str> {
    principal.split(':').nth(4).filter(|account| !account.is_empty())
}

/// The error response of AWS to a call, as the source of an [`Error`].
///
/// `Display` shows the error code, the message and the id of the request.
#[derive(Debug, thiserror::Error)]
#[error("{details}")]
pub struct AwsRefusal {
    code: Box<str>,
    details: String,
}

impl AwsRefusal {
    fn new(code: &str, details: String) -> Self {
        Self { code: code.into(), details }
    }

    /// Returns AWS's error code, such as `LimitExceededException`.
    pub fn code(&self) -> &str {
        &self.code
    }
}

/// The reason why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoResponse {
    /// The certificate of the server is not trusted, or the server does not speak TLS.
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

impl NoResponse {
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let causes: Vec<String> = chain(error).map(ToString::to_string).collect();
        let contains =
            |texts: &[&str]| causes.iter().any(|one| texts.iter().any(|t| one.contains(t)));
        let is_refused = |error: &(dyn StdError + 'static)| {
            let error = error.downcast_ref::<io::Error>();
            error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if is_untrusted(error) {
            Self::Untrusted
        } else if contains(&["proxy authorization required"]) {
            Self::ProxyAuthentication
        } else if contains(&["proxy", "tunnel"]) {
            Self::Proxy
        } else if contains(&["dns error", "failed to lookup address"]) {
            Self::UnknownHost
        } else if chain(error).any(is_refused) || contains(&["connect timeout"]) {
            Self::Unreachable
        } else {
            Self::Other
        }
    }

    /// Returns whether a retry would fail for the same reason.
    pub(super) fn is_final(self) -> bool {
        self != Self::Other
    }
}

/// Returns the error of a request without a response.
fn no_response<E>(call: Call<'_>, error: SdkError<E, HttpResponse>) -> Error
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
    // Every kind except a response of the service has a cause.
    let cause = match error.into_source() {
        Ok(cause) => cause,
        Err(error) => Box::new(error),
    };
    if let Some(credentials) = chain(&*cause).find_map(|e| e.downcast_ref::<CredentialsError>()) {
        return credentials_problem(call, credentials);
    }
    let error = match NoResponse::of(&*cause) {
        NoResponse::Untrusted => untrusted(format!("cannot {call}")),
        NoResponse::ProxyAuthentication => {
            invalid_proxy(call, "requires a user name and a password")
        }
        NoResponse::Proxy => invalid_proxy(call, "does not connect to the endpoint"),
        NoResponse::UnknownHost => Error::temporary(format!(
            "cannot {call}: the host name of its AWS endpoint cannot be resolved: no network, or no \
             such region"
        )),
        NoResponse::Other if timed_out => {
            Error::temporary(format!("cannot {call}: AWS did not respond in time"))
        }
        NoResponse::Unreachable | NoResponse::Other if is_connection => {
            Error::temporary(format!("cannot {call}: its AWS endpoint cannot be reached"))
        }
        NoResponse::Unreachable | NoResponse::Other => {
            Error::invalid(format!("cannot {call}: the request cannot be made"))
        }
    };
    match copy_error(&*cause) {
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

/// Returns the error of missing or invalid credentials.
fn credentials_problem(call: Call<'_>, error: &CredentialsError) -> Error {
    if chain(error).any(|cause| cause.is::<InvalidKey>()) {
        return Error::invalid(format!("cannot {call}")).with_source(InvalidKey);
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
    let causes: Vec<String> = chain(failure).map(ToString::to_string).collect();
    let contains = |text: &str| causes.iter().any(|cause| cause.contains(text));
    let has = |key| name.ends_with(&format!("{profile:?}")) && profile_has(&profile, key);
    let problem = if contains("SSO") || has("sso_session") || has("sso_start_url") {
        let problem = match contains("expired") || contains("Unauthorized") {
            true => format!("the SSO session of the profile {profile:?} has expired"),
            false => format!("the profile {profile:?} has no SSO session"),
        };
        format!("{problem}: run `aws sso login --profile {quoted}`")
    } else if has("mfa_serial") {
        format!(
            "the role of the profile {profile:?} requires a code of the MFA device (mfa_serial), for \
             which only the AWS command line prompts: run `eval \"$(aws configure export-credentials \
             --profile {quoted} --format env)\"`"
        )
    } else if has("login_session") {
        format!("{name} has no session of `aws login`: run `aws login --profile {quoted}`")
    } else {
        format!("{name} returned no AWS credentials")
    };
    let message = format!("cannot {call}: {problem}");
    let error = match chain(failure).any(|cause| cause.is::<ConnectorError>()) {
        true => Error::temporary(message),
        false => Error::unauthenticated(message),
    };
    match failure.source().and_then(copy_error) {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

/// Copies an error and its causes as text, without the texts that contain the request.
///
/// The SDK prints the request with its token if the endpoint is not a URL. Some errors are available only by reference.
fn copy_error(error: &(dyn StdError + 'static)) -> Option<BoxError> {
    let secrets = Secrets::of_environment();
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    let texts = texts.into_iter().rev().filter(|text| !text.contains("to request `"));
    let texts = texts.map(|text| secrets.strike_out(&text).into_owned());
    texts.fold(None, |source, text| Some(Box::new(CopiedError { text, source }) as _))
}

/// The text of an error, with its causes.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct CopiedError {
    text: String,
    source: Option<BoxError>,
}

/// Returns an error and its causes.
fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::super::scripted::{Response, Scripted};
    use super::{AwsRefusal, NoResponse};
    use crate::backend::RegistryBackend;
    use crate::error::{Error, ErrorKind};
    use crate::model::RepositoryPath;

    fn path() -> RepositoryPath {
        "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap()
    }

    /// Returns the error of a deletion with this response of AWS.
    async fn error(response: Response) -> Error {
        let aws = Scripted::new(move |_| response.clone());
        aws.backend.delete_repository(&path(), &Default::default()).await.unwrap_err()
    }

    #[test]
    fn missing_response_is_classified_by_error_text() {
        for (text, expected, is_final) in [
            ("invalid peer certificate: UnknownIssuer", NoResponse::Untrusted, true),
            ("proxy authorization required", NoResponse::ProxyAuthentication, true),
            ("tunnel error: unsuccessful", NoResponse::Proxy, true),
            ("dns error", NoResponse::UnknownHost, true),
            ("HTTP connect timeout occurred after 3s", NoResponse::Unreachable, true),
            ("HTTP read timeout occurred after 30s", NoResponse::Other, false),
            ("connection reset", NoResponse::Other, false),
        ] {
            let reason = NoResponse::of(&std::io::Error::other(text));
            assert_eq!((reason, reason.is_final()), (expected, is_final), "{text}");
        }
    }

    #[tokio::test]
    async fn error_codes_map_to_error_kinds_and_texts() {
        let table = [
            (400, "ExpiredTokenException", ErrorKind::Unauthenticated, "aws sso login --profile"),
            (403, "ExpiredToken", ErrorKind::Unauthenticated, "has expired"),
            (
                400,
                "UnrecognizedClientException",
                ErrorKind::Unauthenticated,
                "AWS rejected the credentials",
            ),
            (
                403,
                "InvalidClientTokenId",
                ErrorKind::Unauthenticated,
                "AWS rejected the credentials",
            ),
            (
                400,
                "InvalidSignatureException",
                ErrorKind::Unauthenticated,
                "AWS rejected the credentials",
            ),
            (
                403,
                "RequestTimeTooSkewed",
                ErrorKind::Unauthenticated,
                "clock is wrong: AWS's clock says Mon, 02 Nov",
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
            let error = error(Response::error(status, code, "the message")).await;
            let refusal = error.source().map(|source| source.downcast_ref::<AwsRefusal>().unwrap());
            let shown =
                format!("{error}: {}", refusal.map(ToString::to_string).unwrap_or_default());
            assert_eq!(error.kind(), expected, "{code}: {shown}");
            for part in [text, "the message", "AWS request 7a1b"] {
                assert_eq!(shown.matches(part).count(), 1, "{code}: {shown}");
            }
            assert!(refusal.is_none_or(|refusal| refusal.code() == code), "{shown}");
        }
    }

    #[tokio::test]
    async fn missing_or_full_repository_is_named() {
        let missing = error(Response::error(400, "RepositoryNotFoundException", "no")).await;
        assert_eq!(missing.to_string(), format!("repository {} does not exist", path()));
        let full = error(Response::error(400, "RepositoryNotEmptyException", "no")).await;
        assert_eq!(full.to_string(), format!("repository {} has images", path()));
    }

    #[tokio::test]
    async fn denial_names_action_and_resource() {
        let message = "User: arn:aws:iam::095412845506:user/alice is not authorized to perform: \
        ecr:DeleteRepository on resource: arn:aws:ecr:us-east-1:095412845506:repository/x because \
        no identity-based policy allows the ecr:DeleteRepository action";
        let error = error(Response::error(400, "AccessDeniedException", message)).await;
        assert_eq!(
            error.to_string(),
            "arn:aws:iam::095412845506:user/alice may not ecr:DeleteRepository \
         arn:aws:ecr:us-east-1:095412845506:repository/x, because no identity-based policy allows \
         the ecr:DeleteRepository action (AWS request 7a1b)"
        );
    }

    #[tokio::test]
    async fn expired_signature_is_a_clock_error() {
        let message = "Signature expired: 20261102T090000Z is now earlier than 20261102T095500Z";
        let error = error(Response::error(400, "InvalidSignatureException", message)).await;
        assert!(error.to_string().contains("clock is wrong"), "{error}");
    }

    #[tokio::test]
    async fn invalid_response_is_an_error_with_its_causes() {
        let error = error(Response::raw(200, "<html>".to_owned())).await;
        assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
        let mut cause = error.source();
        assert!(cause.is_some());
        let mut texts = vec![error.to_string()];
        while let Some(error) = cause {
            assert!(!texts.contains(&error.to_string()), "{texts:?}");
            texts.push(error.to_string());
            cause = error.source();
        }
    }

    #[tokio::test]
    async fn tokens_in_a_message_of_aws_are_redacted() {
        let session = "IQoJb3JpZ2luX2VjEHYaCXVzLWVhc3QtMSJHMEUCIQDrf8".repeat(4);
        let message = format!(
            "The Canonical String should have been 'POST\nx-amz-security-token:{session}\n', see \
             https://alice:hunter2@h.example/"
        );
        for (status, code) in
            [(403, "SignatureDoesNotMatch"), (400, "AccessDenied"), (400, "Other")]
        {
            let error = error(Response::error(status, code, &message)).await;
            let shown = format!(
                "{error} {error:?} {}",
                error.source().map_or_else(String::new, |e| e.to_string())
            );
            assert!(shown.contains("x-amz-security-token:***"), "{shown}");
            assert!(!shown.contains("IQoJ") && !shown.contains("hunter2"), "{shown}");
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
            move |_| Response::error(400, "AccessDeniedException", message),
        );
        let error = aws.backend.describe_repository(&path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let expected = "no resource-based policy allows the ecr:DescribeRepositories action (AWS \
            request 7a1b); the registry is in the account 095412845506, and the caller, from the profile \
            \"builds\", in 111122223333: choose another profile or registry, or allow the caller in \
            095412845506";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(!aws.operations().contains(&"GetCallerIdentity".to_owned()));
    }
}
