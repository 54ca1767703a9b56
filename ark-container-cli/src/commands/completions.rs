//! `--completions`: the script with which a shell completes, and `--complete`, which it asks.

use std::ffi::OsString;

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::completion::{self, Shell};
use crate::failure::Stop;
use crate::output::print_text;

const EXAMPLES: &str = "\
To complete in this shell, and in those to come:
  bash: ark-catalog-container-tool --completions bash \\
            > ~/.local/share/bash-completion/completions/ark-catalog-container-tool
  zsh: ark-catalog-container-tool --completions zsh > FOLDER/_ark-catalog-container-tool
       where FOLDER is one of $fpath
  fish: ark-catalog-container-tool --completions fish \\
            > ~/.config/fish/completions/ark-catalog-container-tool.fish
  PowerShell: ark-catalog-container-tool --completions powershell >> $PROFILE";

/// Print the script with which a shell completes operations, options, repositories and tags
///
/// The registry is asked for what it has while one types: for two seconds at most, and what it refuses
/// is not completed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Whose script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    print_text(args.shell.script())
}

/// Print what can stand for the last of the words of a command line
#[derive(Debug, clap::Args)]
pub(crate) struct CompleteArgs {
    /// The words behind the program's name, as far as they are typed
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

pub(crate) fn complete(args: &CompleteArgs) -> Result<(), Stop> {
    print_text(&completion::offer(&Cli::command(), &args.words).to_string())
}
