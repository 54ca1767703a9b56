//! What a shell offers for the word that is being typed.
//!
//! The scripts in `scripts/` know nothing of operations and options: they hand the words over to the
//! hidden operation `--complete`, and show what it prints. Which words there are is asked of the clap
//! [`Command`], so that there is one definition; repositories, tags and organizations are asked of the
//! registry.

mod line;
mod offer;
mod registry;
mod shell;
mod value;

use std::ffi::OsString;

use clap::Command;

use line::{Line, Place};
use offer::{Offer, Paths};
pub(crate) use shell::Shell;
use value::Value;

/// What can stand for the last of `words`, which is still being typed; it may be empty.
pub(crate) fn offer(command: &Command, words: &[OsString]) -> Offer {
    let Some((current, before)) = words.split_last() else { return Offer::default() };
    // What is no text can only be the name of a file.
    let Some(current) = current.to_str() else { return Offer::of_paths(Paths::Files) };
    let mut line = Line::new(command);
    before.iter().for_each(|word| line.take(&word.to_string_lossy()));
    match line.place(current) {
        Place::Value { argument, typed, before } => {
            Value::of(argument).offer(typed, &line).after(before)
        }
        Place::Option if line.operation().is_some() => options(&line, current),
        Place::Option => operations(command, "--", current).and(options(&line, current)),
        Place::Operation => operations(command, "", current),
        Place::Nothing => Offer::default(),
    }
}

/// The operations, as flags or as subcommands.
fn operations(command: &Command, hyphens: &str, current: &str) -> Offer {
    let operations = command.get_subcommands().filter(|operation| !operation.is_hide_set());
    let operations = operations.map(|operation| {
        let about = operation.get_about().map(ToString::to_string);
        (format!("{hyphens}{}", operation.get_name()), about)
    });
    Offer::of(operations, current)
}

/// The options that may be typed here.
fn options(line: &Line<'_>, current: &str) -> Offer {
    let options = line.options().filter(|option| !option.is_hide_set());
    let options = options.filter_map(|option| {
        Some((format!("--{}", option.get_long()?), option.get_help().map(ToString::to_string)))
    });
    Offer::of(options, current)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    /// The offer for the end of a line, of which only what can be said without a registry is asked.
    fn offered(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        offer(&Cli::command(), &words).to_string()
    }

    #[test]
    fn the_words_before_say_what_the_next_one_is() {
        for (line, expected) in [
            // What follows two hyphens is an operand.
            ("--login -- --acc", "none\n"),
            // There is no second operand.
            ("--completions bash f", "none\n"),
            ("--completions=f", "none\n--completions=fish\tThe friendly interactive shell\n"),
            // The hyphen stands for standard input, so it is the value.
            (
                "--push x --from - --create",
                "none\n--create\tCreate the repository if it does not exist\n",
            ),
            // An option without its value is left as it is typed.
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
}
