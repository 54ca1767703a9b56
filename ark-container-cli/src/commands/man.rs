//! `--man`: the manual pages, written from what `--help` is written from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::{Cli, PROGRAM};
use crate::failure::{Failure, Stop};
use crate::output::print_text;

/// The program that has no command line of its own that clap would know of.
const CREDENTIAL_HELPER: (&str, &str) =
    ("docker-credential-ark.1", include_str!("../../man/docker-credential-ark.1"));

const EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --man ~/.local/share/man/man1";

/// Write the manual pages into a folder, and print what they are called
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Args {
    /// Where to write them; it is made where it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    fs::create_dir_all(&args.folder).map_err(|error| unwritten(&args.folder, &error))?;
    for (name, page) in pages()? {
        let path = args.folder.join(&name);
        fs::write(&path, page).map_err(|error| unwritten(&path, &error))?;
        print_text(&format!("{name}\n"))?;
    }
    Ok(())
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("cannot write {}", path.display()), error)
}

/// A page for the program, one for each operation, and the other program's, by their files' names.
fn pages() -> Result<Vec<(String, String)>, Failure> {
    let mut program = Cli::command();
    program.build();
    let operations: Vec<&Command> =
        program.get_subcommands().filter(|operation| !operation.is_hide_set()).collect();
    let mut pages = vec![(format!("{PROGRAM}.1"), String::new())];
    Ok(pages)
}
