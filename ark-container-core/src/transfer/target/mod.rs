//! Targets of a transfer on this machine.

pub(super) mod layout;
