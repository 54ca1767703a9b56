//! [`Memory`]: how many bytes of requests and responses a registry holds in memory at once.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;
use super::manifests::MAX_MANIFEST_BYTES;
use crate::error::Error;

/// Manifests and responses up to this size are not counted: no connection has more than one of them.
const UNCOUNTED_BYTES: usize = 16 * 1024;

/// The manifests that are received and checked at once: one of the maximum size, or more smaller ones. A
/// parsed manifest takes some times its size.
const MANIFEST_BYTES: usize = MAX_MANIFEST_BYTES;

/// The pages of listings that are made, or wait for their client to read them.
const PAGE_BYTES: usize = 4 * MAX_PAGE_BYTES;

/// The maximum size of a page of a listing.
pub(super) const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// The frames of uploads that wait to be written.
const UPLOAD_BYTES: usize = 8 * 1024 * 1024;

/// How long a request waits for others to free their memory.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The memory of all requests of a registry.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    manifests: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let semaphore = |bytes| Arc::new(Semaphore::new(bytes));
        Self {
            manifests: semaphore(MANIFEST_BYTES),
            pages: semaphore(PAGE_BYTES),
            uploads: semaphore(UPLOAD_BYTES),
        }
    }

    /// Waits until a manifest of this size may be received.
    pub(super) async fn manifest(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if bytes <= UNCOUNTED_BYTES {
            return Ok(None);
        }
        in_time(acquire(&self.manifests, bytes)).await.map(Some)
    }

    /// Waits until a page of a listing may be made.
    pub(super) async fn page(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        in_time(acquire(&self.pages, MAX_PAGE_BYTES)).await
    }

    /// Waits until a frame of an upload may be queued.
    pub(super) async fn upload(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        acquire(&self.uploads, bytes).await
    }
}

async fn acquire(
    semaphore: &Arc<Semaphore>,
    bytes: usize,
) -> Result<OwnedSemaphorePermit, ApiError> {
    let bytes = u32::try_from(bytes).map_err(ApiError::internal)?;
    semaphore.clone().acquire_many_owned(bytes).await.map_err(ApiError::internal)
}

/// Limits the wait for memory that slow clients may hold.
async fn in_time<T>(waiting: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let busy = |_| Err(Error::temporary("other requests take all of the memory").into());
    timeout(TIMEOUT, waiting).await.unwrap_or_else(busy)
}

/// Returns bytes that give back the memory of a page once the client has received them.
pub(super) fn counted(page: Vec<u8>, mut permit: OwnedSemaphorePermit) -> Bytes {
    struct Counted {
        bytes: Vec<u8>,
        _permit: OwnedSemaphorePermit,
    }

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    if page.len() <= UNCOUNTED_BYTES {
        return page.into();
    }
    let exact = permit.split(page.len()).unwrap_or(permit);
    Bytes::from_owner(Counted { bytes: page, _permit: exact })
}
