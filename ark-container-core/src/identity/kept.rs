//! [`Kept`]: a principal that stays the same for as long as what it follows from does.

use std::sync::{Arc, Mutex, PoisonError};

use super::Principal;
use super::memberships::Memberships;

/// The last principal, and the memberships that it was found in.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Arc<Memberships>, Arc<Principal>)>>);

impl Kept {
    /// The principal that `find` found in these very memberships, or finds now.
    pub(super) fn principal<E>(
        &self,
        memberships: Arc<Memberships>,
        find: impl FnOnce(&Memberships) -> Result<Principal, E>,
    ) -> Result<Arc<Principal>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, principal)) = &*kept
            && Arc::ptr_eq(from, &memberships)
        {
            return Ok(Arc::clone(principal));
        }
        let principal = Arc::new(find(&memberships)?);
        *kept = Some((memberships, Arc::clone(&principal)));
        Ok(principal)
    }
}
