//! [`Outcome`]: what is known of a layer when its pieces have ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::model::{Descriptor, Digest};
use crate::push::LocalBlob;

/// What a layer became, for whoever passes its pieces on. Clones share it.
#[derive(Debug, Clone, Default)]
pub(in crate::push) struct Outcome(Arc<Mutex<Option<Settled>>>);

#[derive(Debug, Clone)]
pub(super) enum Settled {
    /// The manifest will say this of it.
    Became(Descriptor),
    /// It was not what its diff ID says.
    Damaged { found: Digest },
}

impl Outcome {
    pub(super) fn set(&self, settled: Settled) {
        *lock(&self.0) = Some(settled);
    }

    /// What the manifest will say of it; `None` unless all its pieces came and were right.
    pub(in crate::push) fn descriptor(&self) -> Option<Descriptor> {
        match &*lock(&self.0) {
            Some(Settled::Became(descriptor)) => Some(descriptor.clone()),
            _ => None,
        }
    }

    /// The error that names the file, if the layer is not what its diff ID says.
    pub(in crate::push) fn fault(&self, tar: &LocalBlob) -> Option<Error> {
        let found = match &*lock(&self.0) {
            Some(Settled::Damaged { found }) => found.clone(),
            _ => return None,
        };
        let (place, diff_id) = (tar.place(), tar.digest());
        let message = format!("{place} is damaged: it is not {diff_id} but {found}");
        Some(Error::failed(message))
    }
}

/// Nothing here is left half changed by a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
