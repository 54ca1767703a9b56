//! [`Service`]: which of AWS's services a request is for, and the words in which each refuses.

use hyper::StatusCode;
use hyper::header::HeaderMap;

/// A service that the fake has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ecr,
    Tagging,
    Sts,
}

/// What services call the same refusals.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>, and `errors` in the service
/// models of ECR and Resource Groups Tagging.
#[derive(Debug)]
pub(super) struct Words {
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

const JSON: Words = Words {
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

const TAGGING: Words =
    Words { throttled: "ThrottledException", internal: "InternalServiceException", ..JSON };

const QUERY: Words = Words {
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
    /// What the request asks for: the service, and the operation's name.
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

    /// What policies call it in their actions.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Tagging => "tag",
            Self::Sts => "sts",
        }
    }

    /// What signatures are made for.
    ///
    /// Source: `signingName`, else `endpointPrefix`, in the service models.
    pub(super) fn signing_name(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Tagging => "tagging",
            Self::Sts => "sts",
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::Ecr => &JSON,
            Self::Tagging => &TAGGING,
            Self::Sts => &QUERY,
        }
    }
}
