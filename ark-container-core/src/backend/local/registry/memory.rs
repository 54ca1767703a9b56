//! [`Memory`]: limits of the memory for requests and responses of a registry.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;
use super::manifests::MAX_MANIFEST_BYTES;
use crate::error::Error;

/// The maximum size of a manifest that is not counted. A connection sends one manifest at a time.
const MAX_UNCOUNTED_MANIFEST_BYTES: usize = 16 * 1024;

/// The maximum total size of the manifests that are received and checked concurrently: one of the maximum size, or
/// several smaller ones. A parsed manifest needs several times its size.
const MAX_MANIFESTS_BYTES: usize = MAX_MANIFEST_BYTES;

/// The maximum number of listings that are read from the disk concurrently.
const MAX_LISTINGS: usize = 4;

/// The maximum size of a page of a listing that is not counted. Pages of tags, and of referrers with usual annotations,
/// are smaller.
const MAX_UNCOUNTED_PAGE_BYTES: usize = 160 * 1024;

/// The maximum total size of larger pages that clients have not received yet.
const MAX_PAGES_BYTES: usize = 4 * 1024 * 1024;

/// The maximum total size of the frames of uploads that are not written yet.
const MAX_UPLOADS_BYTES: usize = 8 * 1024 * 1024;

/// The maximum number of large chunks of blobs that are read, or that clients have not received yet.
const MAX_LARGE_CHUNKS: usize = 12;

/// The time that a request waits for memory of other requests.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(30);

/// The memory limits of all requests of a registry.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    manifests: Arc<Semaphore>,
    listings: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    large_chunks: Arc<Semaphore>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            manifests: semaphore(MAX_MANIFESTS_BYTES),
            listings: semaphore(MAX_LISTINGS),
            pages: semaphore(MAX_PAGES_BYTES),
            uploads: semaphore(MAX_UPLOADS_BYTES),
            large_chunks: semaphore(MAX_LARGE_CHUNKS),
        }
    }

    /// Waits until a manifest of this size may be received.
    pub(super) async fn manifest(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if bytes <= MAX_UNCOUNTED_MANIFEST_BYTES {
            return Ok(None);
        }
        in_time(acquire(&self.manifests, bytes)).await.map(Some)
    }

    /// Waits until a listing may be read from the disk.
    pub(super) async fn listing(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        in_time(acquire(&self.listings, 1)).await
    }

    /// Returns a page of a listing, whose memory is counted until the client has received it.
    ///
    /// # Errors
    /// Returns `503 Service Unavailable` if clients that have not received their pages use all memory for large pages.
    pub(super) fn page(&self, page: Vec<u8>) -> Result<Bytes, ApiError> {
        if page.len() <= MAX_UNCOUNTED_PAGE_BYTES {
            return Ok(page.into());
        }
        let bytes = u32::try_from(page.len()).map_err(ApiError::internal)?;
        let permit = self.pages.clone().try_acquire_many_owned(bytes).map_err(|_| busy())?;
        Ok(counted(page, Some(permit)))
    }

    /// Returns the permit for a large chunk; `None` if too many are in memory.
    pub(super) fn large_chunk(&self) -> Option<OwnedSemaphorePermit> {
        self.large_chunks.clone().try_acquire_owned().ok()
    }

    /// Returns the permit for a frame of an upload; `None` if the frame must wait.
    pub(super) fn try_upload(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let bytes = u32::try_from(bytes).map_err(ApiError::internal)?;
        Ok(self.uploads.clone().try_acquire_many_owned(bytes).ok())
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
    timeout(MEMORY_TIMEOUT, waiting).await.unwrap_or_else(|_| Err(busy()))
}

fn busy() -> ApiError {
    Error::temporary("other requests use all of the memory").into()
}

/// Returns bytes that hold a permit until they are sent.
pub(super) fn counted(bytes: Vec<u8>, permit: Option<OwnedSemaphorePermit>) -> Bytes {
    struct Counted {
        bytes: Vec<u8>,
        _permit: OwnedSemaphorePermit,
    }

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    match permit {
        Some(permit) => Bytes::from_owner(Counted { bytes, _permit: permit }),
        None => bytes.into(),
    }
}
