//! [`PlatformChoice`]: which of an index's images is meant.

use crate::model::Platform;

/// Which platforms of an image are meant, where its index has several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PlatformChoice {
    /// The image as it is, which must be for one platform: of several, none is guessed.
    ///
    /// An index goes whole, with what is attached to its image. Where an index names several
    /// platforms and only one of them is on this machine, as docker has it after a pull, that one is
    /// meant.
    #[default]
    Only,
    /// The image for this platform, without the index around it.
    One(Platform),
    /// The whole index with everything in it.
    All,
}

/// Names platforms, each once.
pub(super) fn listed<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let mut names: Vec<String> = platforms.into_iter().map(Platform::to_string).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}
