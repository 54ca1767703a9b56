//! [`IdentitySource`]: whoever knows who asks, now.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::Principal;
use crate::error::Result;

/// Knows who asks.
///
/// It is asked at each operation, so that a long-running program notices a renewed token or a changed
/// memberships file; a source keeps what it knows, and answers at once while nothing has changed.
///
/// A [`Principal`] is the source of itself. A service that acts for many needs no source: it gives
/// [`Permissioned::for_principal`](crate::permission::Permissioned::for_principal) whoever it has
/// authenticated.
#[async_trait]
pub trait IdentitySource: Debug + Send + Sync + 'static {
    /// Who asks.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`](crate::Error::Unauthenticated) if nobody is known to be asking, or
    /// their proof has expired or is not genuine; others if it cannot be found out.
    async fn principal(&self) -> Result<Arc<Principal>>;
}

#[async_trait]
impl IdentitySource for Principal {
    async fn principal(&self) -> Result<Arc<Principal>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl IdentitySource for Arc<Principal> {
    async fn principal(&self) -> Result<Arc<Principal>> {
        Ok(Arc::clone(self))
    }
}

#[async_trait]
impl IdentitySource for Arc<dyn IdentitySource> {
    async fn principal(&self) -> Result<Arc<Principal>> {
        self.as_ref().principal().await
    }
}
