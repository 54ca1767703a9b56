//! The manual pages, as text for `man`, written from what `--help` is written from.

use std::io;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::args::{Cli, PROGRAM};

/// A page, and the name of its file.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) file: String,
    pub(crate) text: String,
}

/// The program whose command line is docker's protocol, of which clap knows nothing.
const CREDENTIAL_HELPER: &str = "docker-credential-ark";
const CREDENTIAL_HELPER_PAGE: &str = include_str!("../man/docker-credential-ark.1");

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A page for the program, one for each of its operations, and the other program's.
pub(crate) fn pages() -> Vec<Page> {
    let mut program = Cli::command();
    // Hands the global options down to the operations.
    program.build();
    let operations = program.get_subcommands().filter(|operation| !operation.is_hide_set());
    let operations: Vec<&Command> = operations.collect();
    let mut pages = vec![program_page(&program, &operations)];
    pages.extend(operations.into_iter().map(operation_page));
    let text = CREDENTIAL_HELPER_PAGE.replace("VERSION", VERSION);
    pages.push(Page { file: file_name(CREDENTIAL_HELPER), text });
    pages
}

fn program_page(program: &Command, operations: &[&Command]) -> Page {
    let mut page = PageWriter::new(program, PROGRAM);
    page.roff.control("SH", ["OPERATIONS"]);
    for operation in operations {
        page.roff.control("TP", []).text(invocation(operation)).text([roman(about(operation))]);
    }
    let mut others: Vec<String> = operations.iter().map(|operation| page_name(operation)).collect();
    others.push(CREDENTIAL_HELPER.to_owned());
    page.finish(&others)
}

fn operation_page(operation: &Command) -> Page {
    let name = operation.get_name();
    // "Usage: PROGRAM {NAME|--NAME} …", as clap writes it.
    let usage = operation.clone().render_usage().to_string();
    let usage = usage
        .trim_start_matches("Usage: ")
        .replace(&format!("{{{name}|--{name}}}"), &format!("--{name}"));
    let operation = operation.clone().bin_name(PROGRAM).override_usage(usage);
    PageWriter::new(&operation, &page_name(&operation)).finish(&[PROGRAM.to_owned()])
}

/// What the page of an operation is called.
fn page_name(operation: &Command) -> String {
    format!("{PROGRAM}-{}", operation.get_name())
}

fn file_name(page: &str) -> String {
    format!("{page}.1")
}

/// The operation as it is typed, with its operands.
fn invocation(operation: &Command) -> Vec<Inline> {
    let operands = operation.get_positionals().filter_map(|operand| operand.get_value_names());
    let operands = operands.flatten().map(|name| roman(format!(" {name}")));
    std::iter::once(bold(format!("--{}", operation.get_name()))).chain(operands).collect()
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// A page that is being written, section by section.
struct PageWriter {
    name: String,
    /// What `--help` says last.
    after_help: String,
    /// The sections that clap_mangen wrote.
    text: String,
    /// Those that follow.
    roff: Roff,
}

impl PageWriter {
    /// A page up to the options.
    fn new(command: &Command, name: &str) -> Self {
        let about = about(command);
        let named = command.clone().display_name(name).about(about);
        let man = Man::new(named).title(name).source(format!("{PROGRAM} {VERSION}"));
        // An empty date is still to be written, or what follows would be taken for it.
        let man = man.manual("Ark containers").date("\"\"");
        let mut text = rendered(|into| man.render_title(into));
        let definitions = Roff::new().render();
        let mut section = |section: String| {
            // Each begins with what a page has to define once.
            let section = section.strip_prefix(&definitions).unwrap_or(&section);
            // An empty line between two breaks is no good style: it is one space.
            text.push_str(&section.replace("\n.br\n\n.br\n", "\n.sp\n"));
        };
        section(rendered(|into| man.render_name_section(into)));
        section(rendered(|into| man.render_synopsis_section(into)));
        section(rendered(|into| man.render_description_section(into)));
        section(rendered(|into| man.render_options_section(into)));
        let after_help = command.get_after_long_help().map(ToString::to_string);
        let after_help = after_help.unwrap_or_default();
        Self { name: name.to_owned(), after_help, text, roff: Roff::new() }
    }

    /// The page, with what `--help` says last, and which others to see.
    fn finish(mut self, see_also: &[String]) -> Page {
        let mut section = "";
        for paragraph in self.after_help.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            let (heading, paragraph) = match paragraph.split_once('\n') {
                Some(("Example:" | "Examples:", examples)) => ("EXAMPLES", examples),
                _ => ("NOTES", paragraph),
            };
            if heading != section {
                self.roff.control("SH", [heading]);
                section = heading;
            } else {
                self.roff.control("PP", []);
            }
            // Lines that are set in are examples and lists, and stay lines.
            if paragraph.lines().any(|line| line.starts_with("  ")) {
                self.roff.control("nf", []).text([roman(paragraph)]).control("fi", []);
            } else {
                self.roff.text([roman(paragraph)]);
            }
        }
        self.roff.control("SH", ["SEE ALSO"]);
        for (index, page) in see_also.iter().enumerate() {
            let after = if index + 1 < see_also.len() { "(1)," } else { "(1)" };
            self.roff.control("BR", [page.as_str(), after]);
        }
        self.text.push_str(&self.roff.to_roff());
        Page { file: file_name(&self.name), text: self.text }
    }
}

/// What is rendered, as text. Writing to memory cannot fail.
fn rendered(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    let _ = render(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
