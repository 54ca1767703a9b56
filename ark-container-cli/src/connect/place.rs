//! Where the repositories are.

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::RegistryLocation;

use super::Context;
use crate::failure::Failure;
use crate::settings::Origin;

/// How repositories are to be found, where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// By the index of the organization, where there is one.
    ByIndex,
    /// By reading through all that the registry has.
    AllPages,
}

impl Context {
    /// Opens the folder of a local registry.
    pub(crate) fn open_local(&self) -> Result<LocalBackend, Failure> {
        let RegistryLocation::Local { directory } = &self.settings.registry else {
            let message = format!("{} is no folder of this machine", self.settings.registry);
            return Err(Failure::usage(message)
                .with_help("AWS serves it; for a registry on this machine: --registry local:"));
        };
        let local = LocalBackend::open(directory.as_deref())?;
        self.note_unchosen(&local);
        Ok(local)
    }

    /// Says which registry it is where nobody chose one, so that it is not taken for another.
    pub(super) fn note_unchosen(&self, local: &LocalBackend) {
        if self.settings.registry_origin == Origin::Default {
            self.output.note(&format!(
                "the registry is {local}, since none was chosen (--registry, ARK_REGISTRY)"
            ));
        }
    }
}
