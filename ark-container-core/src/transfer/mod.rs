//! Transfers images: [`Push`], [`Pull`] and [`Copy`](struct@Copy); and inspects images: [`Inspected`].
//!
//! A push uploads an image from this machine to a repository. A pull downloads an image. A copy does both without using
//! the disk. The order is always the same: blobs, manifests by digest, and the name last, so that an interrupted
//! transfer leaves no name on an incomplete image.

mod blob;
mod cache;
mod compress;
mod copy;
mod decompress;
mod engine;
mod image;
mod inspect;
mod local_file;
mod pending_uploads;
mod platforms;
#[cfg(test)]
#[cfg(feature = "testing")]
mod prepared_layout_tests;
mod progress;
mod pull;
mod push;
mod queue;
mod selector;
mod source;
mod target;
mod upload;

pub use crate::connection::LoginScope;
use crate::error::{Error, Result};
pub use blob::Blob;
pub use compress::Compression;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use compress::compress_on_one_thread;
pub use copy::Copy;
pub use image::Image;
#[cfg(feature = "ecr")]
pub(crate) use image::MAX_CONFIG_BYTES;
pub(crate) use image::Source;
pub use inspect::{
    Inspected, InspectedConfig, InspectedLayer, InspectedManifest, InspectedReferrer, ResolvedImage,
};
pub use platforms::PlatformChoice;
pub use progress::{BlobState, Event, Progress};
pub use pull::{Pull, Pulled};
pub use push::{Push, Pushed};
pub use selector::ImageSelector;
pub use source::ImageSource;
pub(crate) use source::RegistryImage;
pub use target::ImageTarget;

/// Runs blocking work with files on another thread.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await
        .map_err(|error| Error::failed("cannot read or write the image").with_source(error))?
}
