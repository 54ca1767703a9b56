//! `--man`: writes the manual pages from the definitions of `--help`.

use std::fs;
use std::path::PathBuf;

use ark_container_core::OutputFile;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::arguments::{Cli, PROGRAM, path};
use crate::failure::{Failure, Stop};
use crate::output::print_text;

const EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --man ~/.local/share/man/man1";

/// Page of the credential helper, whose command line is not defined with clap.
const CREDENTIAL_HELPER_FILE: &str = "docker-credential-ark.1";
const CREDENTIAL_HELPER_PAGE: &str = include_str!("../../man/docker-credential-ark.1");

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Write the manual pages into a folder, and print their file names
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Args {
    /// Folder for the pages; created if it does not exist
    #[arg(value_name = "DIR", value_parser = path())]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    fs::create_dir_all(&args.folder)
        .map_err(|error| Failure::io(format!("cannot write {}", args.folder.display()), &error))?;
    for (file, text) in pages() {
        OutputFile::create(&args.folder.join(&file))?.publish(text.as_bytes())?;
        print_text(&format!("{file}\n"))?;
    }
    Ok(())
}

/// Returns the file name and text of each page: for the tool, for each operation, and for the credential
/// helper.
fn pages() -> Vec<(String, String)> {
    let mut program = Cli::command();
    // Adds the global options to the operations.
    program.build();
    let operations = program.get_subcommands().filter(|operation| !operation.is_hide_set());
    let mut pages: Vec<_> = operations.map(operation_page).collect();
    pages.insert(0, page(program.subcommand_help_heading("OPERATIONS")));
    let text = CREDENTIAL_HELPER_PAGE.replace("VERSION", VERSION);
    pages.push((CREDENTIAL_HELPER_FILE.to_owned(), text));
    pages
}

fn operation_page(operation: &Command) -> (String, String) {
    let name = operation.get_name();
    // "Usage: PROGRAM {NAME|--NAME} …", as clap writes it.
    let usage = operation.clone().render_usage().to_string();
    let usage = usage
        .trim_start_matches("Usage: ")
        .replace(&format!("{{{name}|--{name}}}"), &format!("--{name}"));
    page(operation.clone().bin_name(PROGRAM).override_usage(usage))
}

/// Returns the page of clap_mangen, with the end of `--help` and its line breaks as the last section.
fn page(command: Command) -> (String, String) {
    let notes = command.get_after_long_help().map(ToString::to_string);
    let man = Man::new(command.after_long_help(None)).source(format!("{PROGRAM} {VERSION}"));
    // The date is empty, and quoted so that the next field is not parsed as the date.
    let man = man.manual("Ark containers").date("\"\"");
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = man.render(&mut page);
    let mut notes_section = Roff::new();
    if let Some(notes) = notes {
        notes_section.control("SH", ["EXAMPLES AND NOTES"]);
        notes_section.control("nf", []).text([roman(notes)]).control("fi", []);
    }
    // mandoc warns of an empty line between two line breaks: one vertical space replaces them.
    let page = String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.sp\n");
    (man.get_filename(), page + &notes_section.to_roff())
}
