//! Puts the operation first, wherever it was typed.
//!
//! The documentation types operations as flags, anywhere among the options; clap wants a subcommand
//! before the subcommand's options. Which words are operations and which options take a value is
//! asked of the clap [`Command`], so that there is one definition of both.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::iter::Peekable;

use clap::{ArgAction, Command};

use crate::failure::Failure;

/// Everything behind it is an operand.
pub(crate) const END_OF_OPTIONS: &str = "--";

/// The words that a command line is made of.
struct Grammar {
    operations: BTreeSet<String>,
    options_with_value: BTreeSet<String>,
}

impl Grammar {
    fn of(command: &Command) -> Self {
        let options = command
            .get_arguments()
            .chain(command.get_subcommands().flat_map(Command::get_arguments));
        let options_with_value = options
            .filter(|option| matches!(option.get_action(), ArgAction::Set | ArgAction::Append))
            .filter_map(|option| option.get_long().map(str::to_owned));
        let operations = command.get_subcommands().filter_map(Command::get_long_flag);
        Self {
            operations: operations.map(str::to_owned).collect(),
            options_with_value: options_with_value.collect(),
        }
    }
}

/// The same command line with the operation as its first word, and the operand of
/// `--operation=OPERAND` as its last.
///
/// A line without an operation is returned as it is, for clap to judge.
///
/// # Errors
/// A usage error if it has two operations.
pub(crate) fn operation_first(
    command: &Command,
    argv: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, Failure> {
    let grammar = Grammar::of(command);
    let mut words = argv.into_iter().peekable();
    let program = words.next();
    let mut line = Line::default();
    while let Some(word) = words.next() {
        line.take(word, &mut words, &grammar)?;
    }
    Ok(program.into_iter().chain(line.into_words()).collect())
}

/// A command line as far as it has been read.
#[derive(Default)]
struct Line {
    operation: Option<String>,
    operand: Option<OsString>,
    rest: Vec<OsString>,
    operands: Vec<OsString>,
    without_value: Vec<OsString>,
    saw_word: bool,
}

impl Line {
    /// Reads one word, and the value that follows it where it is an option that takes one.
    fn take<I: Iterator<Item = OsString>>(
        &mut self,
        word: OsString,
        words: &mut Peekable<I>,
        grammar: &Grammar,
    ) -> Result<(), Failure> {
        let text = word.to_str().unwrap_or_default();
        if text == END_OF_OPTIONS {
            self.operands.extend(words);
            return Ok(());
        }
        let Some(long) = text.strip_prefix("--") else {
            // The first bare word may be an operation; a later one is its operand.
            let bare = !text.starts_with('-');
            if bare && !self.saw_word && self.operation.is_none() {
                self.saw_word = true;
                if grammar.operations.contains(text) {
                    self.operation = Some(text.to_owned());
                    return Ok(());
                }
            }
            self.rest.push(word);
            return Ok(());
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        if grammar.operations.contains(name) {
            self.operand = value.map(OsString::from);
            return self.operation_is(name);
        }
        if value.is_some() || !grammar.options_with_value.contains(name) {
            self.rest.push(word);
            return Ok(());
        }
        // As for clap, what starts with a hyphen is the next option: the value is missing. A hyphen
        // alone is a value: it stands for standard input.
        let is_value = |next: &OsString| next == "-" || !next.as_encoded_bytes().starts_with(b"-");
        match words.next_if(is_value) {
            Some(value) => self.rest.extend([word, value]),
            None => self.without_value.push(word),
        }
        Ok(())
    }

    fn operation_is(&mut self, name: &str) -> Result<(), Failure> {
        match &self.operation {
            Some(first) if first == name => Err(Failure::usage(format!("--{name} is given twice"))),
            Some(first) => {
                Err(Failure::usage(format!("two operations at once: --{first} and --{name}"))
                    .with_help("give one operation, and the other in a command of its own"))
            }
            None => {
                self.operation = Some(name.to_owned());
                Ok(())
            }
        }
    }

    fn into_words(self) -> impl Iterator<Item = OsString> {
        let operands: Vec<OsString> = self.operand.into_iter().chain(self.operands).collect();
        let separator = (!operands.is_empty()).then(|| OsString::from(END_OF_OPTIONS));
        let operation = self.operation.map(OsString::from);
        // Last, so that they do not take for their value what the operation is to have.
        let rest = self.rest.into_iter().chain(self.without_value);
        operation.into_iter().chain(rest).chain(separator).chain(operands)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn canonical(line: &str) -> String {
        let argv = std::iter::once("tool").chain(line.split_whitespace()).map(OsString::from);
        let words = operation_first(&Cli::command(), argv).unwrap();
        let words: Vec<String> =
            words.into_iter().skip(1).map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    fn refusal(line: &str) -> String {
        let argv = std::iter::once("tool").chain(line.split_whitespace()).map(OsString::from);
        operation_first(&Cli::command(), argv).unwrap_err().to_string()
    }

    #[test]
    fn the_operation_comes_first_from_wherever_it_was() {
        for line in [
            "--login a/b --organization G",
            "--organization G --login a/b",
            "login a/b --organization G",
            "--organization G login a/b",
        ] {
            let canonical = canonical(line);
            assert!(canonical.starts_with("login "), "{line}: {canonical}");
            let mut words: Vec<&str> = canonical.split(' ').collect();
            words.sort_unstable();
            assert_eq!(words, ["--organization", "G", "a/b", "login"], "{line}");
        }
    }

    #[test]
    fn an_operand_may_follow_an_equals_sign() {
        assert_eq!(canonical("--login=a/b --access pull"), "login --access pull -- a/b");
        assert_eq!(canonical("--quiet --login=a/b"), "login --quiet -- a/b");
        assert_eq!(canonical("--login=a/b -- c"), "login -- a/b c");
        assert_eq!(canonical("--login=--quiet"), "login -- --quiet");
    }

    #[test]
    fn the_value_of_an_option_is_no_operation() {
        assert_eq!(canonical("--registry login --login a"), "login --registry login a");
        assert_eq!(canonical("--from serve --push a"), "push --from serve a");
        assert_eq!(canonical("--registry=login push a"), "push --registry=login a");
        assert_eq!(canonical("--quiet login push"), "login --quiet push");
        assert_eq!(canonical("--from - --push a --quiet"), "push --from - a --quiet");
    }

    #[test]
    fn a_missing_value_swallows_neither_the_operation_nor_its_operand() {
        assert_eq!(canonical("--organization --login a"), "login a --organization");
    }

    #[test]
    fn behind_two_hyphens_nothing_is_an_operation() {
        assert_eq!(canonical("--quiet -- --login a"), "--quiet -- --login a");
        assert_eq!(canonical("--login -- --push"), "login -- --push");
    }

    #[test]
    fn lines_without_an_operation_are_left_to_clap() {
        for line in ["", "--help", "-V", "help login", "--lgoin a --quiet"] {
            assert_eq!(canonical(line), line);
        }
    }

    #[test]
    fn two_operations_are_refused_by_name() {
        assert_eq!(refusal("--login a --push b"), "two operations at once: --login and --push");
        assert_eq!(refusal("login a --serve"), "two operations at once: --login and --serve");
        assert_eq!(refusal("--login a --login b"), "--login is given twice");
    }

    #[test]
    fn an_option_takes_a_value_in_every_operation_or_in_none() {
        let command = Cli::command();
        let grammar = Grammar::of(&command);
        let options = command.get_subcommands().flat_map(Command::get_arguments);
        for option in options.chain(command.get_arguments()) {
            let takes = matches!(option.get_action(), ArgAction::Set | ArgAction::Append);
            let Some(long) = option.get_long() else { continue };
            assert_eq!(grammar.options_with_value.contains(long), takes, "--{long}");
            assert!(option.get_short().is_none() || !takes, "a short form of --{long}");
        }
    }

    #[test]
    fn each_operation_is_a_flag_and_a_subcommand() {
        for subcommand in Cli::command().get_subcommands() {
            assert_eq!(subcommand.get_long_flag(), Some(subcommand.get_name()));
        }
    }
}
