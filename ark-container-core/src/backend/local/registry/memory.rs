//! [`Memory`]: how many bytes of requests and responses a registry holds in memory at once.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;
use super::manifests::MAX_MANIFEST_BYTES;
use crate::error::Error;

/// Manifests up to this size are not counted: no connection sends more than one at once.
const UNCOUNTED_MANIFEST_BYTES: usize = 16 * 1024;

/// The manifests that are received and checked at once: one of the maximum size, or more smaller ones. A
/// parsed manifest needs several times its size.
const MANIFEST_BYTES: usize = MAX_MANIFEST_BYTES;

/// The listings that are read from the disk at once.
const LISTINGS: usize = 4;

/// Pages of listings up to this size are not counted. All pages of tags are smaller, and so are those of
/// referrers with usual annotations.
const UNCOUNTED_PAGE_BYTES: usize = 160 * 1024;

/// The larger pages that wait for their clients to read them.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The frames of uploads that wait to be written.
const UPLOAD_BYTES: usize = 8 * 1024 * 1024;

/// The large chunks of blobs that are read or wait for their clients to receive them.
const LARGE_CHUNKS: usize = 12;

/// How long a request waits for others to free their memory.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The memory of all requests of a registry.
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
            manifests: semaphore(MANIFEST_BYTES),
            listings: semaphore(LISTINGS),
            pages: semaphore(PAGE_BYTES),
            uploads: semaphore(UPLOAD_BYTES),
            large_chunks: semaphore(LARGE_CHUNKS),
        }
    }

    /// Waits until a manifest of this size may be received.
    pub(super) async fn manifest(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if bytes <= UNCOUNTED_MANIFEST_BYTES {
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
    /// The memory for large pages is in use by clients that have not read theirs.
    pub(super) fn page(&self, page: Vec<u8>) -> Result<Bytes, ApiError> {
        if page.len() <= UNCOUNTED_PAGE_BYTES {
            return Ok(page.into());
        }
        let bytes = u32::try_from(page.len()).map_err(ApiError::internal)?;
        let permit = self.pages.clone().try_acquire_many_owned(bytes).map_err(|_| busy())?;
        Ok(counted(page, Some(permit)))
    }

    /// Returns the permit for a large chunk, unless there are too many.
    pub(super) fn large_chunk(&self) -> Option<OwnedSemaphorePermit> {
        self.large_chunks.clone().try_acquire_owned().ok()
    }

    /// Returns the permit for a frame of an upload, unless it has to wait for one.
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
    timeout(TIMEOUT, waiting).await.unwrap_or_else(|_| Err(busy()))
}

fn busy() -> ApiError {
    Error::temporary("other requests take all of the memory").into()
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
