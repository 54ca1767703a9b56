//! Reading what registries answer: never longer than there is room for, never waiting for ever.

use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;

use super::client::PATIENCE;
use super::error::{broken, redacted, silent};
use crate::error::{Error, Result};

/// How much of a refusal is read, and of what nobody reads.
pub(super) const SHORT_LEN: usize = 64 * 1024;

/// The next piece of an answer's body; `None` at its end.
pub(super) async fn next_piece(response: &mut Response) -> Result<Option<Bytes>> {
    match timeout(PATIENCE, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(broken(&Method::GET, response.url(), error)),
        Err(_) => Err(silent(&Method::GET, response.url())),
    }
}

/// The start of a body, and whether that is all of it or why reading ended.
pub(super) async fn read_up_to(response: &mut Response, limit: usize) -> (Vec<u8>, Result<bool>) {
    let mut body = Vec::new();
    loop {
        match next_piece(response).await {
            Ok(Some(piece)) => {
                let room = limit - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.len() > room {
                    return (body, Ok(false));
                }
            }
            Ok(None) => return (body, Ok(true)),
            Err(error) => return (body, Err(error)),
        }
    }
}

/// A body that must be whole and no longer than `limit`.
pub(super) async fn read_whole(response: &mut Response, limit: usize) -> Result<Vec<u8>> {
    match read_up_to(response, limit).await {
        (body, Ok(true)) => Ok(body),
        (_, Ok(false)) => {
            let url = redacted(response.url());
            let message = format!("GET {url}: the answer is longer than {limit} bytes");
            Err(Error::failed(message))
        }
        (_, Err(error)) => Err(error),
    }
}

/// A body as JSON.
pub(super) fn parse_json<T: DeserializeOwned>(response: &Response, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let url = redacted(response.url());
        Error::failed(format!("GET {url}: the answer makes no sense")).with_source(error)
    })
}
