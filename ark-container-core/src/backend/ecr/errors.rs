//! Failed calls of AWS as [`Error`]s, which are named for what the caller does next.

use std::any::Any;
use std::error::Error as StdError;
use std::{fmt, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId as _;
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::backend::EcrBackend;
use super::clients::QUOTA_REACHED;
use crate::error::{BoxError, Error, ResourceKind};
use crate::model::RepositoryPath;

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
                let message = meta.message().unwrap_or_default().trim();
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
            200..300 | 429 | 500.. => Error::temporary(message),
            _ => Error::failed(message),
        };
        match error.into_source() {
            Ok(source) => unclear.with_source(source),
            Err(_) => unclear,
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

/// Where the AWS SDK looks for credentials, in its order.
///
/// Source: <https://docs.aws.amazon.com/sdk-for-rust/latest/dg/credproviders.html>
const CREDENTIALS_SOURCES: &str = "the environment (AWS_ACCESS_KEY_ID), the profile, a web identity \
    (AWS_WEB_IDENTITY_TOKEN_FILE), the roles of a container and of a machine";

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
    let built = matches!(error, SdkError::ConstructionFailure(_));
    // Every kind but an answer of the service has a cause.
    let cause = match error.into_source() {
        Ok(cause) => cause,
        Err(error) => Box::new(error),
    };
    if let Some(credentials) = chain(&*cause).find_map(|e| e.downcast_ref::<CredentialsError>()) {
        let problem = credentials_problem(call.backend, credentials);
        let error = match problem {
            Problem::Unauthenticated(message) => {
                Error::unauthenticated(format!("cannot {call}: {message}"))
            }
            Problem::Temporary(message) => Error::temporary(format!("cannot {call}: {message}")),
        };
        return match own_cause(credentials) {
            Some(cause) => error.with_source(cause),
            None => error,
        };
    }
    let told: Vec<String> = chain(&*cause).map(|cause| cause.to_string()).collect();
    let tells = |texts: &[&str]| told.iter().any(|cause| texts.iter().any(|t| cause.contains(t)));
    let message = if tells(&["invalid peer certificate", "certificate", "TLS", "tls "]) {
        let message = format!(
            "cannot {call}: the TLS connection to AWS is not trusted; behind a proxy that looks \
             into it, name its certificate in SSL_CERT_FILE"
        );
        return Error::failed(message).with_source(cause);
    } else if tells(&["proxy", "tunnel"]) {
        let message = format!(
            "cannot {call}: the proxy does not let it through (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)"
        );
        return Error::failed(message).with_source(cause);
    } else if tells(&["dns error", "failed to lookup address"]) {
        format!(
            "cannot {call}: the name of its AWS endpoint is not known here: no network, or no such \
             region"
        )
    } else if timed_out {
        format!("cannot {call}: AWS did not answer in time")
    } else if built {
        let message = format!("cannot {call}: no request could be made of it");
        return Error::failed(message).with_source(cause);
    } else {
        format!("cannot {call}: its AWS endpoint cannot be reached")
    };
    Error::temporary(message).with_source(cause)
}

enum Problem {
    Unauthenticated(String),
    Temporary(String),
}

/// Why there are no credentials, and what gets some.
fn credentials_problem(backend: &EcrBackend, error: &CredentialsError) -> Problem {
    let profile = backend.config().profile_in_use();
    let told: Vec<String> = chain(error).map(|cause| cause.to_string()).collect();
    let tells = |text: &str| told.iter().any(|cause| cause.contains(text));
    let sign_in = format!("run `aws sso login --profile {profile}`");
    if tells("SSO") || tells("sso") {
        return Problem::Unauthenticated(if tells("expired") || tells("Unauthorized") {
            format!("the SSO session of the profile {profile:?} has expired: {sign_in}")
        } else {
            format!("the profile {profile:?} has no SSO session: {sign_in}")
        });
    }
    // The metadata service is the last that is asked: its failure means that nothing else had any.
    let none = matches!(error, CredentialsError::CredentialsNotLoaded(_)) || tells("IMDS");
    match error {
        _ if none && backend.config().profile.is_some() => Problem::Unauthenticated(format!(
            "the profile {profile:?} of the AWS configuration does not exist or gives no \
             credentials: run `aws configure --profile {profile}` or {sign_in}, or choose another \
             profile"
        )),
        _ if none => Problem::Unauthenticated(format!(
            "there are no AWS credentials in {CREDENTIALS_SOURCES}; for the profile {profile:?}, run \
             `aws configure --profile {profile}` or {sign_in}, or choose another profile"
        )),
        CredentialsError::InvalidConfiguration(_) => Problem::Unauthenticated(format!(
            "the profile {profile:?} of the AWS configuration gives no credentials"
        )),
        CredentialsError::ProviderTimedOut(_) => Problem::Temporary(format!(
            "AWS credentials of the profile {profile:?} did not come in time"
        )),
        _ => Problem::Unauthenticated(format!(
            "the AWS credentials of the profile {profile:?} cannot be had"
        )),
    }
}

/// The cause of an error, taken out of it as text, link by link.
///
/// The SDK keeps what it caused in a cell that only lends it.
fn own_cause(error: &CredentialsError) -> Option<BoxError> {
    let texts: Vec<String> = chain(error).skip(1).map(ToString::to_string).collect();
    texts.into_iter().rev().fold(None, |source, text| Some(Box::new(Told { text, source }) as _))
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
    use super::AwsRefusal;
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
