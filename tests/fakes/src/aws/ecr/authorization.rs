//! `GetAuthorizationToken`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::aws::clock::epoch_seconds;
use crate::aws::decision::Circumstances;
use crate::aws::error::ApiError;
use crate::aws::exchange::Exchange;
use crate::aws::secret;
use ark_container_core::credentials::USERNAME;

/// As long as those of AWS, whose length has broken clients.
const PASSWORD_BYTES: usize = 1_400;

/// Source: `GetAuthorizationTokenRequest` in the service model. What `registryIds` asks for is what
/// everybody gets: the token opens whatever its principal may reach.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    #[serde(default, rename = "registryIds")]
    _registry_ids: Vec<String>,
}

/// Answers `{ authorizationData: [{ authorizationToken, expiresAt, proxyEndpoint }] }`.
pub(super) fn get_token(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let _: Request = exchange.request()?;
    exchange.authorize("ecr:GetAuthorizationToken", "*", &Circumstances::default())?;
    let password =
        secret::<PASSWORD_BYTES>().map_err(|error| ApiError::internal(exchange.service, error))?;
    let token = STANDARD.encode(format!("{USERNAME}:{password}"));
    let world = exchange.world;
    let expires_at = world.logins.add(password, exchange.caller()?, exchange.now());
    let endpoint = world.front.get().unwrap_or(&world.registry_host);
    Ok(json!({ "authorizationData": [{
        "authorizationToken": token,
        "expiresAt": epoch_seconds(expires_at),
        "proxyEndpoint": format!("http://{endpoint}"),
    }] }))
}
