//! What a value can be, told by what its definition calls it.

use clap::Arg;
use clap::builder::PossibleValue;

use super::line::Line;
use super::offer::{Offer, Paths};
use super::registry::Registry;

/// The kinds of values that there is something to offer for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Words(Vec<PossibleValue>),
    Organization,
    /// A repository, and by which option its organization is named, the strongest first.
    Repository(Tagged, &'static [&'static str]),
    /// One of several forms, of which nothing else is known here.
    Forms(&'static [Form], Paths),
    Paths(Paths),
    Other,
}

/// Whether a tag follows the name of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tagged {
    No,
    Maybe,
    Yes,
}

/// A prefix, what it stands for, and which paths follow it.
type Form = (&'static str, &'static str, Paths);

const OWNER: &[&str] = &["organization"];
const NEW_OWNER: &[&str] = &["to-organization", "organization"];

const SOURCES: &[Form] = &[
    ("docker-daemon:", "An image of docker", Paths::None),
    ("podman:", "An image of podman", Paths::None),
    ("docker-archive:", "A file of docker save", Paths::Files),
    ("oci:", "A folder in the OCI image layout", Paths::Folders),
    ("oci-archive:", "Such a folder in a tar", Paths::Files),
];
const TARGETS: &[Form] = &[("oci:", "A folder in the OCI image layout", Paths::Folders)];
const LOCATIONS: &[Form] = &[
    ("local:", "A folder of this machine", Paths::Folders),
    ("ecr://", "The registry of an AWS account", Paths::None),
];

impl Value {
    pub(super) fn of(argument: &Arg) -> Self {
        let words = argument.get_possible_values();
        if !words.is_empty() {
            return Self::Words(words.into_iter().filter(|word| !word.is_hide_set()).collect());
        }
        let name = argument.get_value_names().and_then(<[_]>::first);
        match name.map(|name| name.as_str()) {
            Some("GUID") => Self::Organization,
            Some("NAME") if argument.is_positional() => Self::Repository(Tagged::No, OWNER),
            Some("NAME|PATH|URL") => Self::Repository(Tagged::No, OWNER),
            Some("NAME[:TAG]" | "NAME[:TAG|@DIGEST]") => Self::Repository(Tagged::Maybe, OWNER),
            Some("NAME2[:TAG2]") => Self::Repository(Tagged::Maybe, NEW_OWNER),
            Some("NAME:TAG|NAME@DIGEST") => Self::Repository(Tagged::Yes, OWNER),
            Some("SOURCE") => Self::Forms(SOURCES, Paths::Files),
            Some("TARGET") => Self::Forms(TARGETS, Paths::None),
            Some("LOCATION") => Self::Forms(LOCATIONS, Paths::None),
            Some("FILE") => Self::Paths(Paths::Files),
            Some("DIR") => Self::Paths(Paths::Folders),
            _ => Self::Other,
        }
    }

    /// What begins like `typed`.
    pub(super) fn offer(&self, typed: &str, line: &Line<'_>) -> Offer {
        match self {
            Self::Words(words) => {
                let help = |word: &PossibleValue| word.get_help().map(ToString::to_string);
                Offer::of(words.iter().map(|word| (word.get_name().to_owned(), help(word))), typed)
            }
            Self::Organization => Offer::of_words(Registry::of(line).organizations(), typed),
            Self::Repository(tagged, owner) => repository(*tagged, owner, typed, line),
            Self::Forms(forms, bare) => form(forms, *bare, typed),
            Self::Paths(paths) => Offer::of_paths(*paths),
            Self::Other => Offer::default(),
        }
    }
}

fn repository(tagged: Tagged, owner: &[&str], typed: &str, line: &Line<'_>) -> Offer {
    let owner = owner.iter().find_map(|option| line.value(option));
    let registry = Registry::of(line);
    match typed.split_once(':') {
        Some((name, _)) if tagged != Tagged::No => {
            let tags = registry.tags(owner, name).into_iter();
            Offer::of_words(tags.map(|tag| format!("{name}:{tag}")), typed)
        }
        _ => {
            let colon = if tagged == Tagged::Yes { ":" } else { "" };
            let names = registry.repositories(owner).into_iter();
            Offer::of_words(names.map(|name| format!("{name}{colon}")), typed)
        }
    }
}

fn form(forms: &[Form], bare: Paths, typed: &str) -> Offer {
    if let Some((_, _, paths)) = forms.iter().find(|(prefix, ..)| typed.starts_with(prefix)) {
        return Offer::of_paths(*paths);
    }
    let prefixes =
        forms.iter().map(|(prefix, help, _)| ((*prefix).to_owned(), Some((*help).to_owned())));
    Offer::of(prefixes, typed).and(Offer::of_paths(bare))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn what_names_a_repository_or_an_organization_is_known_as_that() {
        let command = Cli::command();
        for argument in command.get_subcommands().flat_map(clap::Command::get_arguments) {
            let name = argument.get_value_names().and_then(<[_]>::first);
            let name = name.map(|name| name.as_str()).unwrap_or_default();
            let known = Value::of(argument);
            assert_eq!(name.contains("GUID"), known == Value::Organization, "{argument:?}");
            let is_repository = matches!(known, Value::Repository(..));
            assert_eq!(name.starts_with("NAME"), is_repository, "{argument:?}");
        }
    }
}
