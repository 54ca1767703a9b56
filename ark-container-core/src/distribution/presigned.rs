//! What is had at a URL that carries its own permission, such as those of S3.

use reqwest::{Method, StatusCode, Url};
use tokio::time::timeout;

use super::body::read_whole;
use super::client::PATIENCE;
use super::error::{broken, redacted, silent};
use crate::error::{Error, Result};

/// The content at such a URL, no longer than `limit`. Errors do not show its query.
///
/// # Errors
/// [`Error::Temporary`] where it cannot be reached or fails for now; [`Error::Failed`] for other answers.
pub(crate) async fn fetch_presigned(url: &str, limit: usize) -> Result<Vec<u8>> {
    let url: Url = url
        .parse()
        .map_err(|error| Error::failed("the place of a blob is no URL").with_source(error))?;
    let answer = timeout(PATIENCE, reqwest::get(url.clone())).await;
    let answer = answer.map_err(|_| silent(&Method::GET, &url))?;
    let mut response = answer.map_err(|error| broken(&Method::GET, &url, error))?;
    match response.status() {
        StatusCode::OK => read_whole(&mut response, limit).await,
        status => {
            let message = format!("GET {}: HTTP {}", redacted(&url), status.as_u16());
            Err(match status.is_server_error() {
                true => Error::temporary(message),
                false => Error::failed(message),
            })
        }
    }
}
