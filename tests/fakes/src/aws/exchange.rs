//! [`Exchange`]: one request on its way through the fake.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::accounts::Caller;
use super::decision::{self, Circumstances};
use super::error::ApiError;
use super::faults::Kind;
use super::iam::denied_message;
use super::service::Service;
use super::sigv4::{Signature, SignatureError};
use super::world::World;

/// What a service answers.
#[derive(Debug)]
pub(super) enum Reply {
    Json(Value),
    /// A document of the query protocol, whose outermost element has this name.
    Xml(&'static str, Vec<String>),
}

/// A request, and what has become of it so far.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) world: &'a World,
    pub(super) service: Service,
    pub(super) operation: String,
    pub(super) request_id: String,
    pub(super) body: &'a [u8],
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) resources: Vec<String>,
    faults: Vec<Kind>,
}

impl<'a> Exchange<'a> {
    /// A request whose faults are settled here.
    pub(super) fn new(
        world: &'a World,
        service: Service,
        operation: String,
        body: &'a [u8],
        request_id: String,
    ) -> Self {
        let faults = world.faults.meeting(&format!("{}:{operation}", service.prefix()));
        Self {
            world,
            service,
            operation,
            request_id,
            body,
            caller: None,
            resources: Vec::new(),
            faults,
        }
    }

    /// The operation as policies name it.
    pub(super) fn action(&self) -> String {
        format!("{}:{}", self.service.prefix(), self.operation)
    }

    pub(super) fn has_fault(&self, kind: &Kind) -> bool {
        self.faults.contains(kind)
    }

    pub(super) fn delay(&self) -> Duration {
        let delays = self.faults.iter().filter_map(|fault| match fault {
            Kind::Slow(delay) => Some(*delay),
            _ => None,
        });
        delays.sum()
    }

    /// How many entries a page may have, where that is less than `asked`.
    pub(super) fn page_size(&self, asked: usize) -> usize {
        let limits = self.faults.iter().filter_map(|fault| match fault {
            Kind::ShortPage(size) => Some(*size),
            _ => None,
        });
        limits.fold(asked, usize::min)
    }

    /// The refusal that a fault asks for.
    pub(super) fn fault(&self) -> Result<(), ApiError> {
        let words = self.service.words();
        for fault in &self.faults {
            return Err(match fault {
                // Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html>
                Kind::Throttle => ApiError::new(words.throttled, "Rate exceeded"),
                Kind::ServerError => ApiError::new(
                    words.internal,
                    "These errors are usually caused by a server-side issue.",
                )
                .with_status(StatusCode::INTERNAL_SERVER_ERROR),
                Kind::Error { code, message } => ApiError::new(code.clone(), message),
                Kind::ExpiredToken => self.expired_token(),
                _ => continue,
            });
        }
        Ok(())
    }

    /// Finds out who signed the request, and whether they did.
    pub(super) fn authenticate(&mut self, parts: &Parts) -> Result<(), ApiError> {
        let words = self.service.words();
        let refused = |error| match error {
            SignatureError::Missing => {
                ApiError::new(words.missing_token, "Missing Authentication Token")
            }
            SignatureError::Incomplete(problem) => {
                ApiError::new(words.incomplete_signature, problem)
            }
            SignatureError::Wrong(problem) => ApiError::new(words.wrong_signature, problem),
        };
        let refused = |error| refused(error).with_status(words.forbidden);
        let unknown = || {
            let message = "The security token included in the request is invalid.";
            ApiError::new(words.unknown_key, message).with_status(words.forbidden)
        };
        let world = self.world;
        let signature = Signature::of(&parts.headers).map_err(refused)?;
        let credential = world.accounts.credential(&signature.access_key_id);
        let credential = credential.ok_or_else(unknown)?;
        let now = world.clock.now();
        // The global endpoint of STS is in us-east-1.
        // Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_region-endpoints.html>
        let regions: &[&str] = match self.service {
            Service::Sts => &[world.host.region(), "us-east-1"],
            Service::Ecr | Service::Tagging => &[world.host.region()],
        };
        signature.check_scope(now, self.service.signing_name(), regions).map_err(refused)?;
        signature.check(&credential.key.secret, parts, self.body).map_err(refused)?;
        let token = parts.headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
        if token != credential.session_token.as_deref() {
            return Err(unknown());
        }
        let expired = credential.caller.expires_at.is_some_and(|expires_at| expires_at <= now);
        self.caller = Some(credential.caller);
        if expired { Err(self.expired_token()) } else { Ok(()) }
    }

    fn expired_token(&self) -> ApiError {
        let words = self.service.words();
        let message = "The security token included in the request is expired";
        ApiError::new(words.expired_token, message).with_status(words.forbidden)
    }

    /// Who signed the request.
    pub(super) fn caller(&self) -> Result<Arc<Caller>, ApiError> {
        let unsigned = || ApiError::internal(self.service, "an operation without a caller");
        self.caller.clone().ok_or_else(unsigned)
    }

    /// Whether the caller's policies allow an action on a resource, or on `*`.
    pub(super) fn authorize(
        &mut self,
        action: &str,
        resource: &str,
        circumstances: &Circumstances<'_>,
    ) -> Result<(), ApiError> {
        let caller = self.caller()?;
        if !self.resources.iter().any(|known| known == resource) {
            self.resources.push(resource.to_owned());
        }
        decision::check(&caller, action, resource, circumstances).map_err(|refusal| {
            self.access_denied(denied_message(&caller.arn, action, resource, refusal))
        })
    }

    pub(super) fn access_denied(&self, message: String) -> ApiError {
        let words = self.service.words();
        ApiError::new(words.access_denied, message).with_status(words.forbidden)
    }

    /// Reads the members of a request of the JSON protocol.
    ///
    /// One that the fake does not know is refused, so that no test passes because it was overlooked.
    pub(super) fn request<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body)
            .map_err(|error| ApiError::new("SerializationException", error.to_string()))
    }

    pub(super) fn now(&self) -> SystemTime {
        self.world.clock.now()
    }
}
