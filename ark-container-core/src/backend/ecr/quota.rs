//! [`QuotaIsFinal`]: no call is made again because a quota is reached.

use aws_sdk_ecr::config::interceptors::InterceptorContext;
use aws_sdk_ecr::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;

/// AWS's code for a quota of the account that is reached.
pub(super) const QUOTA_REACHED: &str = "LimitExceededException";

/// Ends the attempts of a creation when the account has as many repositories as it may.
///
/// In other services this code means throttling, so that the SDK would try for minutes.
///
/// Source: `THROTTLING_ERRORS` of the crate `aws-runtime`, and the errors of CreateRepository in the
/// service model of ECR.
#[derive(Debug)]
pub(super) struct QuotaIsFinal;

impl ClassifyRetry for QuotaIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = match context.output_or_error() {
            Some(Err(error)) => error.as_operation_error(),
            _ => None,
        };
        let code = error
            .and_then(|error| error.downcast_ref::<CreateRepositoryError>())
            .and_then(ProvideErrorMetadata::code);
        match code {
            Some(QUOTA_REACHED) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "a quota that is reached"
    }
}
