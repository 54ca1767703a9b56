//! [`Layout`]: the files of a layout, wherever they are.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

use super::super::archive::Archive;
use super::super::damaged;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest};
use crate::push::{LocalBlob, regular_file};

/// The file that makes a folder or an archive a layout.
pub(in super::super) const MARKER: &str = "oci-layout";

/// The files of a layout.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Layout<'a> {
    /// In a folder.
    Folder(&'a Path),
    /// In an archive, which is not unpacked.
    Archive(&'a Archive),
}

impl<'a> Layout<'a> {
    /// What errors call it.
    pub(super) fn name(self) -> Cow<'a, str> {
        match self {
            Self::Folder(path) => path.to_string_lossy(),
            Self::Archive(archive) => archive.file().name().into(),
        }
    }

    /// What errors call a file of it.
    pub(super) fn place(self, name: &str) -> String {
        match self {
            Self::Folder(path) => path.join(name).display().to_string(),
            Self::Archive(archive) => format!("{name} in {}", archive.file().name()),
        }
    }

    /// Whether it has a file of this name.
    pub(super) fn has(self, name: &str) -> bool {
        match self {
            Self::Folder(path) => path.join(name).is_file(),
            Self::Archive(archive) => archive.has(name),
        }
    }

    /// A file that is to be held in memory: no larger than a manifest may be.
    pub(super) fn read(self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Folder(path) => regular_file::read(&path.join(name), Manifest::MAX_LEN),
            Self::Archive(archive) => archive.read(name, Manifest::MAX_LEN),
        }
    }

    /// What the JSON of a file says.
    pub(super) fn parse<T: for<'de> Deserialize<'de>>(
        self,
        name: &str,
        content: &[u8],
    ) -> Result<T> {
        serde_json::from_slice(content).map_err(|error| {
            Error::failed(format!("{} makes no sense", self.place(name))).with_source(error)
        })
    }

    /// A manifest or index, which is what its descriptor says.
    pub(super) fn manifest(self, descriptor: &Descriptor) -> Result<Manifest> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.read(&name)?;
        let algorithm = descriptor.digest.algorithm();
        let manifest = Manifest::with_algorithm(&descriptor.media_type, bytes, algorithm);
        if manifest.digest != descriptor.digest {
            let problem = format!("its content is {}", manifest.digest);
            return Err(damaged(self.place(&name), problem));
        }
        self.check_size(descriptor, manifest.bytes.len() as u64)?;
        Ok(manifest)
    }

    /// A configuration or layer, whose content is yet to be looked at.
    pub(super) fn blob(self, descriptor: &Descriptor) -> Result<LocalBlob> {
        let Descriptor { digest, size, .. } = descriptor;
        let name = blob_name(digest);
        match self {
            Self::Folder(path) => {
                let path = path.join(name);
                self.check_size(descriptor, regular_file::size(&path)?)?;
                Ok(LocalBlob::file(digest.clone(), *size, path))
            }
            Self::Archive(archive) => {
                let region = archive.find(&name)?;
                self.check_size(descriptor, region.size)?;
                let file = archive.file();
                Ok(LocalBlob::member(digest.clone(), *size, file, region.offset, name))
            }
        }
    }

    fn check_size(self, descriptor: &Descriptor, found: u64) -> Result<()> {
        let promised = descriptor.size;
        if found == promised {
            return Ok(());
        }
        let problem = format!("it has {found} bytes, and should have {promised}");
        Err(damaged(self.place(&blob_name(&descriptor.digest)), problem))
    }
}

/// The file of a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
