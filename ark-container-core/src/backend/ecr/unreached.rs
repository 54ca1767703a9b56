//! Why a request never got an answer: no credentials, no name, no trust, no connection, no time.

use std::error::Error as StdError;
use std::iter;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::SdkError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::backend::EcrBackend;
use super::errors::Call;
use crate::error::{BoxError, Error};

/// Where the AWS SDK looks for credentials, in its order.
///
/// Source: <https://docs.aws.amazon.com/sdk-for-rust/latest/dg/credproviders.html>
const LOOKED_AT: &str = "the environment (AWS_ACCESS_KEY_ID), the profile, a web identity \
    (AWS_WEB_IDENTITY_TOKEN_FILE), the roles of a container and of a machine";

/// The error for a request that got no answer.
pub(super) fn error<E>(
    backend: &EcrBackend,
    call: Call<'_>,
    error: SdkError<E, HttpResponse>,
) -> Error
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
        let problem = credentials_problem(backend, credentials);
        let source = own_cause(credentials);
        return match problem {
            Problem::Unauthenticated(message) => {
                Error::Unauthenticated { message: format!("cannot {call}: {message}"), source }
            }
            Problem::Temporary(message) => {
                Error::Temporary { message: format!("cannot {call}: {message}"), source }
            }
        };
    }
    let told: Vec<String> = chain(&*cause).map(|cause| cause.to_string()).collect();
    let tells = |texts: &[&str]| told.iter().any(|cause| texts.iter().any(|t| cause.contains(t)));
    let message = if tells(&["invalid peer certificate", "certificate", "TLS", "tls "]) {
        let message = format!(
            "cannot {call}: the TLS connection to AWS is not trusted; behind a proxy that looks \
             into it, name its certificate in SSL_CERT_FILE"
        );
        return Error::Failed { message, source: Some(cause) };
    } else if tells(&["proxy", "tunnel"]) {
        let message = format!(
            "cannot {call}: the proxy does not let it through (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)"
        );
        return Error::Failed { message, source: Some(cause) };
    } else if tells(&["dns error", "failed to lookup address"]) {
        format!(
            "cannot {call}: the name of its AWS endpoint is not known here: no network, or no such \
             region"
        )
    } else if timed_out {
        format!("cannot {call}: AWS did not answer in time")
    } else if built {
        let message = format!("cannot {call}: no request could be made of it");
        return Error::Failed { message, source: Some(cause) };
    } else {
        format!("cannot {call}: its AWS endpoint cannot be reached")
    };
    Error::Temporary { message, source: Some(cause) }
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
            "there are no AWS credentials in {LOOKED_AT}; for the profile {profile:?}, run \
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
