//! The services of the fake, their errors, and the XML of the query protocol.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

/// A service of the fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ecr,
    Tagging,
    Sts,
}

/// The error codes of a service for the errors that all services have.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>, and `errors` in the service
/// models of ECR and Resource Groups Tagging.
#[derive(Debug)]
pub(super) struct ErrorCodes {
    /// The status of a request that cannot be authenticated or is not allowed.
    pub(super) forbidden: StatusCode,
    pub(super) missing_token: &'static str,
    pub(super) incomplete_signature: &'static str,
    pub(super) wrong_signature: &'static str,
    pub(super) unknown_key: &'static str,
    pub(super) expired_token: &'static str,
    pub(super) access_denied: &'static str,
    pub(super) throttled: &'static str,
    pub(super) internal: &'static str,
    pub(super) unknown_operation: &'static str,
}

const JSON: ErrorCodes = ErrorCodes {
    forbidden: StatusCode::BAD_REQUEST,
    missing_token: "MissingAuthenticationTokenException",
    incomplete_signature: "IncompleteSignatureException",
    wrong_signature: "InvalidSignatureException",
    unknown_key: "UnrecognizedClientException",
    expired_token: "ExpiredTokenException",
    access_denied: "AccessDeniedException",
    throttled: "ThrottlingException",
    internal: "ServerException",
    unknown_operation: "UnknownOperationException",
};

const TAGGING: ErrorCodes =
    ErrorCodes { throttled: "ThrottledException", internal: "InternalServiceException", ..JSON };

const QUERY: ErrorCodes = ErrorCodes {
    forbidden: StatusCode::FORBIDDEN,
    missing_token: "MissingAuthenticationToken",
    incomplete_signature: "IncompleteSignature",
    wrong_signature: "SignatureDoesNotMatch",
    unknown_key: "InvalidClientTokenId",
    expired_token: "ExpiredToken",
    access_denied: "AccessDenied",
    throttled: "Throttling",
    internal: "InternalFailure",
    unknown_operation: "InvalidAction",
};

impl Service {
    /// Returns the service and the operation of a request.
    ///
    /// Source: `targetPrefix` in the service models, and
    /// <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>
    pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Option<(Self, String)> {
        let Some(target) = headers.get("x-amz-target") else {
            let action = form_urlencoded::parse(body).find(|(name, _)| name == "Action");
            return action.map(|(_, action)| (Self::Sts, action.into_owned()));
        };
        let (prefix, operation) = target.to_str().ok()?.split_once('.')?;
        let service = match prefix {
            "AmazonEC2ContainerRegistry_V20150921" => Self::Ecr,
            "ResourceGroupsTaggingAPI_20170126" => Self::Tagging,
            _ => return None,
        };
        Some((service, operation.to_owned()))
    }

    /// Returns the prefix of the service's actions in policies.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Tagging => "tag",
            Self::Sts => "sts",
        }
    }

    /// Returns the name of the service in signatures.
    ///
    /// Source: `signingName`, else `endpointPrefix`, in the service models.
    pub(super) fn signing_name(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Tagging => "tagging",
            Self::Sts => "sts",
        }
    }

    pub(super) fn error_codes(self) -> &'static ErrorCodes {
        match self {
            Self::Ecr => &JSON,
            Self::Tagging => &TAGGING,
            Self::Sts => &QUERY,
        }
    }
}

/// An error response of a service.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
}

impl ApiError {
    /// Creates an error of the client, with status 400.
    pub(super) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: code.into(), message: message.into() }
    }

    /// Sets the status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Logs an internal error and creates its response.
    pub(super) fn internal(service: Service, error: impl std::fmt::Display) -> Self {
        tracing::warn!(%error, "the fake of AWS failed");
        Self::new(service.error_codes().internal, error.to_string())
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Source: <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization>
    pub(super) fn to_json(&self, service: Service) -> Value {
        // The models of ECR and of Resource Groups Tagging differ here.
        let member = match service {
            Service::Tagging => "Message",
            Service::Ecr | Service::Sts => "message",
        };
        json!({ "__type": self.code, member: self.message })
    }

    /// Source: <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html#operation-error-serialization>
    pub(super) fn to_xml(&self, request_id: &str) -> String {
        let side = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        let error = [
            xml_text("Type", side),
            xml_text("Code", &self.code),
            xml_text("Message", &self.message),
        ];
        xml_document(
            "ErrorResponse",
            &[xml_nested("Error", &error), xml_text("RequestId", request_id)],
        )
    }
}

/// The namespace of the responses of STS.
///
/// Source: `xmlNamespace` in the service model of STS, 2011-06-15.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Returns an element with a text.
pub(super) fn xml_text(name: &str, content: &str) -> String {
    let mut escaped = String::with_capacity(content.len());
    for character in content.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 does not allow these characters in any form.
            '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    format!("<{name}>{escaped}</{name}>")
}

/// Returns an element with child elements.
pub(super) fn xml_nested(name: &str, children: &[String]) -> String {
    format!("<{name}>{}</{name}>", children.concat())
}

/// Returns the root element of a response.
pub(super) fn xml_document(name: &str, children: &[String]) -> String {
    format!("<{name} xmlns=\"{NAMESPACE}\">{}</{name}>\n", children.concat())
}

/// Returns whether all characters of a text are allowed in the key or value of a tag.
pub(super) fn is_tag_text(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_texts_is_escaped() {
        assert_eq!(xml_text("A", "<b>&\"\u{1}"), "<A>&lt;b&gt;&amp;&quot;\u{fffd}</A>");
        assert_eq!(
            xml_nested("A", &[xml_text("B", ""), xml_text("C", "1")]),
            "<A><B></B><C>1</C></A>"
        );
    }
}
