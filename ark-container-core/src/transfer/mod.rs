//! Transfers of images: [`Push`], [`Pull`], [`Copy`](struct@Copy) and [`Resolve`].
//!
//! A push uploads an image of this machine to a repository, a pull downloads one, and a copy does both without
//! using the disk. The order of publication is always the same: blobs, manifests by digest, and the name last,
//! so that an interrupted transfer leaves no name on an incomplete image.

mod cache;
mod compress;
mod copy;
mod decompress;
mod download;
mod local_file;
mod local_image;
mod pending_uploads;
mod progress;
mod pull;
mod push;
mod remote_image;
mod selector;
mod source;
mod target;
mod upload;

pub use crate::connection::LoginScope;
pub use compress::Compression;
pub use copy::{Copied, Copy};
pub use local_image::{Layer, LocalBlob, LocalImage, Part, PlatformChoice};
pub use progress::{BlobState, Event, Progress};
pub use pull::{Pull, Pulled};
pub use push::{Push, Pushed};
#[cfg(feature = "ecr")]
pub(crate) use remote_image::{MAX_CONFIG_BYTES, ManifestSource};
pub use remote_image::{Resolve, ResolvedImage};
pub use selector::ImageSelector;
pub use source::ImageSource;
pub use target::ImageTarget;
