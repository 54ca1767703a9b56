//! [`Place`]: where the repositories are, opened.

use std::any::Any;
use std::sync::Arc;

use crate::backend::RegistryBackend;
#[cfg(feature = "ecr")]
use crate::backend::ecr::EcrBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;

/// The kinds of registry that a catalog opens by itself.
///
/// It does as it is told: who may tell it is for others to decide.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    #[cfg(feature = "local")]
    Local(LocalBackend),
    /// An account's registry in AWS.
    #[cfg(feature = "ecr")]
    Ecr(EcrBackend),
}

impl Place {
    /// The registry as any other.
    pub fn backend(&self) -> Arc<dyn RegistryBackend> {
        match *self {
            #[cfg(feature = "local")]
            Self::Local(ref local) => Arc::new(local.clone()),
            #[cfg(feature = "ecr")]
            Self::Ecr(ref ecr) => Arc::new(ecr.clone()),
        }
    }

    /// What a backend that a program opened is, if it is one of these kinds.
    pub(super) fn of(backend: &dyn Any) -> Option<Self> {
        #[cfg(feature = "local")]
        if let Some(local) = backend.downcast_ref::<LocalBackend>() {
            return Some(Self::Local(local.clone()));
        }
        #[cfg(feature = "ecr")]
        if let Some(ecr) = backend.downcast_ref::<EcrBackend>() {
            return Some(Self::Ecr(ecr.clone()));
        }
        let _ = backend;
        None
    }
}
