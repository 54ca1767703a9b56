//! The shells, and the script with which each asks.

use clap::ValueEnum;

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// The Z shell
    Zsh,
    /// The friendly interactive shell
    Fish,
    /// PowerShell, of Microsoft
    Powershell,
}

impl Shell {
    /// What the shell is to read when it starts.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("scripts/ark-catalog-container-tool.bash"),
            Self::Zsh => include_str!("scripts/_ark-catalog-container-tool"),
            Self::Fish => include_str!("scripts/ark-catalog-container-tool.fish"),
            Self::Powershell => include_str!("scripts/ark-catalog-container-tool.ps1"),
        }
    }
}
