//! [`ApiError`]: how AWS refuses, in the words of each protocol.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::service::Service;
use super::xml;

/// A refusal, as the service says it.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
}

impl ApiError {
    /// A refusal whose fault is the client's: status 400.
    pub(super) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: code.into(), message: message.into() }
    }

    /// The same with another status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// What went wrong inside, in the service's own words for that.
    pub(super) fn internal(service: Service, error: impl std::fmt::Display) -> Self {
        tracing::warn!(%error, "the fake of AWS failed");
        Self::new(service.words().internal, error.to_string())
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
            xml::text("Type", side),
            xml::text("Code", &self.code),
            xml::text("Message", &self.message),
        ];
        xml::document(
            "ErrorResponse",
            &[xml::nested("Error", &error), xml::text("RequestId", request_id)],
        )
    }
}
