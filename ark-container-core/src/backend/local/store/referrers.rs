//! Referrers: which manifests have another as their subject.
//!
//! An entry is written before its manifest and removed after it, and one whose manifest is missing
//! says nothing; so no referrer is ever forgotten.

use super::Store;
use super::durable::{cannot, remove_file};
use super::layout::{Locked, RepositoryFolder};
use super::manifest_file::ManifestHeader;
use crate::error::Result;
use crate::model::{Descriptor, Digest, RepositoryPath};

impl Store {
    /// The manifests of a repository that have `subject` as theirs, in the order of their digests.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no repository. A subject that does not exist has no
    /// referrers yet, or has them already.
    pub(crate) fn referrers(
        &self,
        path: &RepositoryPath,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let folder = self.folder(path)?;
        let mut descriptors = Vec::new();
        for digest in entries(&folder, subject)? {
            let header = ManifestHeader::read(&folder, &digest)?;
            // The entry of a push that was killed may be another manifest's by now.
            if let Some(header) = header.filter(|header| header.subject.as_ref() == Some(subject)) {
                descriptors.push(describe(digest, header));
            }
        }
        folder.confirm()?;
        Ok(descriptors)
    }

    /// Enters a manifest among the referrers of its subject.
    pub(super) fn add_referrer(
        &self,
        locked: &Locked,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<()> {
        let entry = locked.folder.referrers(subject).join(digest.to_string());
        locked.folder.make_way(&entry)?;
        self.publish(&entry, b"")
    }
}

/// Removes a manifest from the referrers of its subject.
pub(super) fn remove(locked: &Locked, subject: &Digest, digest: &Digest) -> Result<()> {
    let entry = locked.folder.referrers(subject).join(digest.to_string());
    if locked.folder.reaches(&entry)? {
        remove_file(&entry).map_err(cannot("delete", &entry))?;
    }
    Ok(())
}

fn entries(folder: &RepositoryFolder, subject: &Digest) -> Result<Vec<Digest>> {
    let names = folder.file_names(&folder.referrers(subject))?;
    let mut digests: Vec<Digest> =
        names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    digests.sort_unstable();
    Ok(digests)
}

fn describe(digest: Digest, header: ManifestHeader) -> Descriptor {
    let mut descriptor = Descriptor::new(header.media_type, digest, header.length);
    descriptor.artifact_type = header.artifact_type;
    descriptor.annotations = header.annotations;
    descriptor
}
