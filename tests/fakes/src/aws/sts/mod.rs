//! AWS STS, as its service model of 2011-06-15 has it, in the query protocol.
//!
//! Source: <https://github.com/boto/botocore/blob/develop/botocore/data/sts/2011-06-15/service-2.json.gz>

mod assume;
mod parameters;
mod session;

use super::error::ApiError;
use super::exchange::Exchange;
use super::xml;

/// The operation that nobody signs.
pub(super) const ASSUME_ROLE_WITH_WEB_IDENTITY: &str = "AssumeRoleWithWebIdentity";

/// Answers a request with the name of the answer's outermost element, and what is in it.
pub(super) fn answer(exchange: &mut Exchange<'_>) -> Result<(&'static str, Vec<String>), ApiError> {
    match exchange.operation.as_str() {
        "GetCallerIdentity" => {
            Ok(("GetCallerIdentityResponse", vec![get_caller_identity(exchange)?]))
        }
        "AssumeRole" => Ok(("AssumeRoleResponse", vec![assume::by_caller(exchange)?])),
        ASSUME_ROLE_WITH_WEB_IDENTITY => {
            Ok(("AssumeRoleWithWebIdentityResponse", vec![assume::by_token(exchange)?]))
        }
        operation => Err(ApiError::new(
            exchange.service.words().unknown_operation,
            format!("Could not find operation {operation} for version 2011-06-15"),
        )),
    }
}

/// Nobody needs leave for this.
///
/// Source: `GetCallerIdentityResponse` in the service model: `UserId`, `Account`, `Arn`; and
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
fn get_caller_identity(exchange: &Exchange<'_>) -> Result<String, ApiError> {
    let caller = exchange.caller()?;
    Ok(xml::nested(
        "GetCallerIdentityResult",
        &[
            xml::text("Arn", &caller.arn),
            xml::text("UserId", &caller.user_id),
            xml::text("Account", &caller.account),
        ],
    ))
}

/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>
fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("ValidationError", message)
}

/// What is wrong with a parameter, in STS's words.
fn unsatisfied(value: &str, parameter: &str, constraint: &str) -> ApiError {
    invalid(format!(
        "1 validation error detected: Value '{value}' at '{parameter}' failed to satisfy \
         constraint: {constraint}"
    ))
}
