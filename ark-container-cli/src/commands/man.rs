//! `--man`: the manual pages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Stop};
use crate::manual;
use crate::output::print_text;

const EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --man ~/.local/share/man/man1";

/// Write the manual pages into a folder, and print their files' names
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Args {
    /// Where to write them; it is made where it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let unwritten = |path: &Path, error: &io::Error| {
        Failure::io(format!("cannot write {}", path.display()), error)
    };
    fs::create_dir_all(&args.folder).map_err(|error| unwritten(&args.folder, &error))?;
    for page in manual::pages() {
        let path = args.folder.join(&page.file);
        fs::write(&path, page.text).map_err(|error| unwritten(&path, &error))?;
        print_text(&format!("{}\n", page.file))?;
    }
    Ok(())
}
