//! Shell completion of operations, options and values.
//!
//! `--completions` prints the script of a shell. The scripts in `completion/` pass the words of the line to the
//! hidden operation `--complete`, and show its output. Operations and options come from the clap [`Command`];
//! repositories, tags and organizations come from the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use ark_container_core::Catalog;
use ark_container_core::model::Organizations;
use clap::{Arg, ArgAction, Command, CommandFactory as _, ValueEnum};
use futures_util::TryStreamExt as _;

use crate::arguments::{Cli, END_OF_OPTIONS, GlobalOptions};
use crate::context::Context;
use crate::failure::Stop;
use crate::output::print_text;
use crate::program::block_on;

/// Maximum time of a query to the registry: the user waits for it after a key press.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
To install the completion script:
  bash: ark-catalog-container-tool --completions bash \\
            > ~/.local/share/bash-completion/completions/ark-catalog-container-tool
  zsh: ark-catalog-container-tool --completions zsh > FOLDER/_ark-catalog-container-tool
       where FOLDER is one of $fpath
  fish: ark-catalog-container-tool --completions fish \\
            > ~/.config/fish/completions/ark-catalog-container-tool.fish
  PowerShell: ark-catalog-container-tool --completions powershell >> $PROFILE";

/// Print the script with which a shell completes operations, options, repositories and tags
///
/// Names and tags come from the registry while you type. A query takes two seconds at most, and completes
/// nothing if it fails.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ScriptArgs {
    /// Shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// GNU bash
    Bash,
    /// The Z shell
    Zsh,
    /// The friendly interactive shell
    Fish,
    /// Microsoft PowerShell
    Powershell,
}

pub(crate) fn print_script(args: &ScriptArgs) -> Result<(), Stop> {
    print_text(match args.shell {
        Shell::Bash => include_str!("completion/ark-catalog-container-tool.bash"),
        Shell::Zsh => include_str!("completion/_ark-catalog-container-tool"),
        Shell::Fish => include_str!("completion/ark-catalog-container-tool.fish"),
        Shell::Powershell => include_str!("completion/ark-catalog-container-tool.ps1"),
    })
}

/// Print the completions of the last word of a command line
#[derive(Debug, clap::Args)]
pub(crate) struct CompleteArgs {
    /// Words after the program's name, up to the cursor
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

pub(crate) fn complete(args: &CompleteArgs) -> Result<(), Stop> {
    print_text(&offer(&Cli::command(), &args.words).to_string())
}

/// Candidates for the shell, and the kind of paths that the shell completes itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    candidates: Vec<Candidate>,
    paths: Paths,
}

/// A possible word, and its help.
type Candidate = (String, Option<String>);

/// The kind of paths that a shell completes itself, since the shell can quote them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Paths {
    #[default]
    None,
    Files,
    Folders,
}

impl From<Paths> for Offer {
    fn from(paths: Paths) -> Self {
        Self { candidates: Vec::new(), paths }
    }
}

impl Offer {
    /// Returns the candidates that start with the typed text.
    fn matching(candidates: impl IntoIterator<Item = Candidate>, typed: &str) -> Self {
        let candidates = candidates.into_iter().filter(|(word, _)| word.starts_with(typed));
        Self { candidates: candidates.collect(), paths: Paths::None }
    }

    /// Returns the words that start with the typed text, as candidates without help.
    fn matching_words(words: impl IntoIterator<Item = String>, typed: &str) -> Self {
        Self::matching(words.into_iter().map(|word| (word, None)), typed)
    }
}

/// Format for the scripts: the kind of paths on the first line, then one candidate on each line, with its help
/// after a tab.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.paths {
            Paths::None => "none\n",
            Paths::Files => "files\n",
            Paths::Folders => "folders\n",
        })?;
        self.candidates.iter().try_for_each(|(word, help)| {
            let help = help.as_deref().and_then(|help| help.lines().next());
            writeln!(f, "{word}\t{}", help.unwrap_or_default())
        })
    }
}

/// Returns the completions of the last word of `words`, which is incomplete and may be empty.
fn offer(command: &Command, words: &[OsString]) -> Offer {
    let Some((current, before)) = words.split_last() else { return Offer::default() };
    // A word that is not UTF-8 can only be the name of a file.
    let Some(current) = current.to_str() else { return Paths::Files.into() };
    let mut line = TypedLine {
        command,
        operation: None,
        values: BTreeMap::new(),
        operands: 0,
        option_without_value: None,
        only_operands: false,
    };
    before.iter().for_each(|word| line.read(&word.to_string_lossy()));
    if let Some(option) = line.option_without_value
        && !current.starts_with("--")
    {
        return value_offer(option, current, &line);
    }
    if line.only_operands || !current.starts_with('-') {
        return match (line.operand(), line.operation) {
            (Some(operand), _) => value_offer(operand, current, &line),
            (None, None) if line.operands == 0 && !line.only_operands => {
                Offer::matching(operations(command, ""), current)
            }
            (None, _) => Offer::default(),
        };
    }
    let Some((name, typed)) = current.split_once('=') else {
        let operations = line.operation.is_none().then(|| operations(command, "--"));
        return Offer::matching(operations.into_iter().flatten().chain(line.options()), current);
    };
    let long = name.trim_start_matches('-');
    let argument = match line.operation_called(long) {
        Some(operation) => operation.get_positionals().next(),
        None => line.option_called(long),
    };
    let mut offer =
        argument.map(|argument| value_offer(argument, typed, &line)).unwrap_or_default();
    for (word, _) in &mut offer.candidates {
        word.insert_str(0, &format!("{name}="));
    }
    offer
}

/// Returns the operations, as flags or as subcommands.
fn operations<'a>(
    command: &'a Command,
    hyphens: &'a str,
) -> impl Iterator<Item = Candidate> + use<'a> {
    let operations = command.get_subcommands().filter(|operation| !operation.is_hide_set());
    operations.map(move |operation| {
        let about = operation.get_about().map(ToString::to_string);
        (format!("{hyphens}{}", operation.get_name()), about)
    })
}

/// The words before the incomplete word.
struct TypedLine<'a> {
    command: &'a Command,
    operation: Option<&'a Command>,
    /// Values by the name of their option, without hyphens.
    values: BTreeMap<String, String>,
    operands: usize,
    /// The option whose value is the next word.
    option_without_value: Option<&'a Arg>,
    only_operands: bool,
}

impl<'a> TypedLine<'a> {
    fn read(&mut self, word: &str) {
        if let Some(option) = self.option_without_value.take()
            && (word == "-" || !word.starts_with('-'))
        {
            let name = option.get_long().unwrap_or_default();
            self.values.insert(name.to_owned(), word.to_owned());
        } else if self.only_operands {
            self.operands += 1;
        } else if word == END_OF_OPTIONS {
            self.only_operands = true;
        } else if let Some(long) = word.strip_prefix("--") {
            self.read_long(long);
        } else if word == "-" || !word.starts_with('-') {
            match self.operation_called(word) {
                Some(operation) if self.operation.is_none() && self.operands == 0 => {
                    self.operation = Some(operation);
                }
                _ => self.operands += 1,
            }
        }
    }

    fn read_long(&mut self, long: &str) {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        if let Some(operation) = self.operation_called(name) {
            self.operation = Some(operation);
            self.operands += usize::from(value.is_some());
        } else if let Some(option) = self.option_called(name) {
            match value {
                Some(value) => drop(self.values.insert(name.to_owned(), value.to_owned())),
                None if option.get_action().takes_values() => {
                    self.option_without_value = Some(option);
                }
                None => {}
            }
        }
    }

    /// Returns the value of an option.
    fn value(&self, option: &str) -> Option<&str> {
        self.values.get(option).map(String::as_str)
    }

    /// Returns the available options, those of the operation first.
    fn options(&self) -> impl Iterator<Item = Candidate> + use<'a> {
        let options = self.arguments().filter(|option| !option.is_hide_set());
        options.filter_map(|option| {
            Some((format!("--{}", option.get_long()?), option.get_help().map(ToString::to_string)))
        })
    }

    fn arguments(&self) -> impl Iterator<Item = &'a Arg> + use<'a> {
        let own = self.operation.into_iter().flat_map(Command::get_arguments);
        own.chain(self.command.get_arguments())
    }

    /// Returns the next operand of the operation. The last operand may be repeatable.
    fn operand(&self) -> Option<&'a Arg> {
        let operation = self.operation?;
        let is_list = |operand: &&Arg| matches!(operand.get_action(), ArgAction::Append);
        let next = operation.get_positionals().nth(self.operands);
        next.or_else(|| operation.get_positionals().last().filter(is_list))
    }

    fn operation_called(&self, name: &str) -> Option<&'a Command> {
        self.command.get_subcommands().find(|operation| operation.get_name() == name)
    }

    /// Returns an option of the operation, or of any operation if none is given.
    fn option_called(&self, name: &str) -> Option<&'a Arg> {
        let others = self.command.get_subcommands().flat_map(Command::get_arguments);
        let others = others.filter(|_| self.operation.is_none());
        self.arguments().chain(others).find(|option| option.get_long() == Some(name))
    }
}

/// A prefix of a value, its help, and the kind of paths after it.
type ValuePrefix = (&'static str, &'static str, Paths);

const IMAGE_SOURCES: &[ValuePrefix] = &[
    ("docker-daemon:", "An image of docker", Paths::None),
    ("podman:", "An image of podman", Paths::None),
    ("docker-archive:", "An archive of docker save", Paths::Files),
    ("oci:", "A folder in the OCI image layout", Paths::Folders),
    ("oci-archive:", "A tar archive of such a folder", Paths::Files),
];
const IMAGE_TARGETS: &[ValuePrefix] =
    &[("oci:", "A folder in the OCI image layout", Paths::Folders)];
const REGISTRY_LOCATIONS: &[ValuePrefix] = &[
    ("local:", "A folder on this machine", Paths::Folders),
    ("ecr://", "The registry of an AWS account", Paths::None),
];

/// Returns the values of an argument that start with the typed text: its choices, or values of the kind that
/// its value name denotes.
fn value_offer(argument: &Arg, typed: &str, line: &TypedLine<'_>) -> Offer {
    let choices = argument.get_possible_values();
    if !choices.is_empty() {
        let choices = choices.iter().filter(|choice| !choice.is_hide_set());
        let choices = choices.map(|choice| {
            (choice.get_name().to_owned(), choice.get_help().map(ToString::to_string))
        });
        return Offer::matching(choices, typed);
    }
    match value_name(argument) {
        "GUID" => Offer::matching_words(organizations(line), typed),
        "SOURCE" => prefixed_offer(IMAGE_SOURCES, Paths::Files, typed),
        "TARGET" => prefixed_offer(IMAGE_TARGETS, Paths::None, typed),
        "LOCATION" => prefixed_offer(REGISTRY_LOCATIONS, Paths::None, typed),
        "FILE" => Paths::Files.into(),
        "DIR" => Paths::Folders.into(),
        name if names_repository(argument) => {
            let own = if name == "NAME2[:TAG2]" { line.value("to-organization") } else { None };
            let owner = own.or_else(|| line.value("organization"));
            match typed.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
                Some((repository, _)) if name.contains(":TAG") => {
                    let tags = tags(line, owner, repository).into_iter();
                    Offer::matching_words(tags.map(|tag| format!("{repository}:{tag}")), typed)
                }
                _ => {
                    let colon = if name.starts_with("NAME:TAG") { ":" } else { "" };
                    let names = repositories(line, owner).into_iter();
                    Offer::matching_words(names.map(|name| format!("{name}{colon}")), typed)
                }
            }
        }
        _ => Offer::default(),
    }
}

fn value_name(argument: &Arg) -> &str {
    let name = argument.get_value_names().and_then(<[_]>::first);
    name.map(|name| name.as_str()).unwrap_or_default()
}

/// Returns whether the value is a repository or an image. An option with the value `NAME` is a profile.
fn names_repository(argument: &Arg) -> bool {
    let name = value_name(argument);
    name.starts_with("NAME") && (argument.is_positional() || name != "NAME")
}

/// Returns the prefixes that start with the typed text, or the paths after a complete prefix.
fn prefixed_offer(prefixes: &[ValuePrefix], paths_without_prefix: Paths, typed: &str) -> Offer {
    match prefixes.iter().find(|(prefix, ..)| typed.starts_with(prefix)) {
        Some((_, _, paths)) => (*paths).into(),
        None => {
            let words = prefixes.iter();
            let words = words.map(|(prefix, help, _)| (prefix.to_string(), Some(help.to_string())));
            Offer { paths: paths_without_prefix, ..Offer::matching(words, typed) }
        }
    }
}

/// Returns the organizations of the caller. A caller with access to all organizations gets those with
/// repositories.
fn organizations(line: &TypedLine<'_>) -> BTreeSet<String> {
    query_registry(line, async |context, catalog| {
        let mut organizations = match catalog.organizations().await.ok()? {
            Organizations::Only(organizations) => organizations,
            Organizations::All => {
                let all = catalog.list();
                let all = all.map_ok(|repository| repository.url.path().organization());
                all.try_collect().await.ok()?
            }
        };
        organizations.extend(context.organization(None).ok()?);
        Some(organizations.iter().map(ToString::to_string).collect())
    })
}

/// Returns the names of the repositories of an organization, or of every organization if none is given.
fn repositories(line: &TypedLine<'_>, owner: Option<&str>) -> BTreeSet<String> {
    query_registry(line, async |context, catalog| {
        let repositories = match context.organization(owner).ok()? {
            Some(owner) => catalog.list_in(owner),
            None => catalog.list(),
        };
        let names = repositories.map_ok(|repository| repository.url.path().name().to_string());
        names.try_collect().await.ok()
    })
}

/// Returns the tags of a repository.
fn tags(line: &TypedLine<'_>, owner: Option<&str>, name: &str) -> BTreeSet<String> {
    query_registry(line, async |context, catalog| {
        let owner = context.owner_of(name, owner).ok()?;
        let images = catalog.in_organization(owner).images(name).ok()?;
        let images: Vec<_> = images.try_collect().await.ok()?;
        Some(images.iter().flat_map(|image| &image.tags).map(ToString::to_string).collect())
    })
}

/// Queries the registry of the line and the settings. Returns nothing on a failure: the line is incomplete.
fn query_registry(
    line: &TypedLine<'_>,
    query: impl AsyncFnOnce(&Context, Catalog) -> Option<BTreeSet<String>>,
) -> BTreeSet<String> {
    let given = |option| line.value(option).map(str::to_owned);
    let options = GlobalOptions {
        registry: given("registry"),
        memberships: line.value("memberships").map(Into::into),
        profile: given("profile"),
        region: given("region"),
        quiet: true,
        ..GlobalOptions::default()
    };
    let answer = || {
        let context = Context::new(&options).ok()?.with_max_attempts(1);
        let answer = async { query(&context, context.connect().await.ok()?).await };
        block_on(async { tokio::time::timeout(REGISTRY_TIMEOUT, answer).await }).ok()?.ok()?
    };
    answer().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the offer for the last word of a line that needs no registry.
    fn offered(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        offer(&Cli::command(), &words).to_string()
    }

    #[test]
    fn offer_follows_from_the_words_before() {
        for (line, expected) in [
            // Words after two hyphens are operands.
            ("--login -- --acc", "none\n"),
            // There is no second operand.
            ("--completions bash f", "none\n"),
            ("--completions=f", "none\n--completions=fish\tThe friendly interactive shell\n"),
            // The hyphen is standard input, so it is the value.
            (
                "--push x --from - --create",
                "none\n--create\tCreate the repository if it does not exist\n",
            ),
            // An option without its value is ignored.
            (
                "--push x --from --create",
                "none\n--create\tCreate the repository if it does not exist\n",
            ),
            // An option may come before the operation.
            ("--access pul", "none\npull\tRead images\n"),
            ("--unknown=x", "none\n"),
            (
                "--complet",
                "none\n--completions\tPrint the script with which a shell completes \
                operations, options, repositories and tags\n",
            ),
            ("--man ", "folders\n"),
            ("--create-repository x --lifecycle-policy ", "files\n"),
            ("--push x --from ./im", "files\n"),
            ("--pull x --to o", "none\noci:\tA folder in the OCI image layout\n"),
            ("--registry e", "none\necr://\tThe registry of an AWS account\n"),
        ] {
            assert_eq!(offered(line), expected, "{line}");
        }
        assert_eq!(offer(&Cli::command(), &[]).to_string(), "none\n");
    }

    #[test]
    fn value_names_of_operations_are_known() {
        let command = Cli::command();
        for argument in command.get_subcommands().flat_map(Command::get_arguments) {
            let name = value_name(argument);
            assert_eq!(name.contains("GUID"), name == "GUID", "{argument:?}");
            assert_eq!(name.starts_with("NAME"), names_repository(argument), "{argument:?}");
        }
    }
}
