//! The words before the one that is being typed.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use crate::argv::END_OF_OPTIONS;

/// What the words so far say.
pub(super) struct Line<'a> {
    command: &'a Command,
    operation: Option<&'a Command>,
    /// By the option's name, without hyphens.
    values: BTreeMap<String, String>,
    operands: usize,
    /// The option whose value comes next.
    without_value: Option<&'a Arg>,
    only_operands: bool,
}

/// What the word that is being typed is.
pub(super) enum Place<'a, 'w> {
    /// The name of an option or operation, with its hyphens.
    Option,
    /// An operation without hyphens.
    Operation,
    /// `typed` is the value of an option or an operand; `before` it, in the same word, is its name.
    Value { argument: &'a Arg, typed: &'w str, before: &'w str },
    /// Nothing can be typed here.
    Nothing,
}

impl<'a> Line<'a> {
    /// A line that has only the program's name.
    pub(super) fn new(command: &'a Command) -> Self {
        Self {
            command,
            operation: None,
            values: BTreeMap::new(),
            operands: 0,
            without_value: None,
            only_operands: false,
        }
    }

    /// Reads a word as `argv::operation_first` does.
    pub(super) fn take(&mut self, word: &str) {
        if let Some(option) = self.without_value.take()
            && (word == "-" || !word.starts_with('-'))
        {
            let name = option.get_long().unwrap_or_default();
            self.values.insert(name.to_owned(), word.to_owned());
        } else if self.only_operands {
            self.operands += 1;
        } else if word == END_OF_OPTIONS {
            self.only_operands = true;
        } else if let Some(long) = word.strip_prefix("--") {
            self.take_long(long);
        } else if word == "-" || !word.starts_with('-') {
            match self.operation_called(word) {
                Some(operation) if self.operation.is_none() && self.operands == 0 => {
                    self.operation = Some(operation);
                }
                _ => self.operands += 1,
            }
        }
    }

    fn take_long(&mut self, long: &str) {
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
                None if option.get_action().takes_values() => self.without_value = Some(option),
                None => {}
            }
        }
    }

    /// What the next word is, as far as it is typed.
    pub(super) fn place<'w>(&self, current: &'w str) -> Place<'a, 'w> {
        if let Some(option) = self.without_value
            && !current.starts_with("--")
        {
            return Place::Value { argument: option, typed: current, before: "" };
        }
        if self.only_operands || !current.starts_with('-') {
            let argument = self.operand();
            return match (argument, self.operation) {
                (Some(argument), _) => Place::Value { argument, typed: current, before: "" },
                (None, None) if self.operands == 0 && !self.only_operands => Place::Operation,
                (None, _) => Place::Nothing,
            };
        }
        let Some((name, typed)) = current.split_once('=') else { return Place::Option };
        let before = &current[..=name.len()];
        let name = name.trim_start_matches('-');
        let argument = match self.operation_called(name) {
            Some(operation) => operation.get_positionals().next(),
            None => self.option_called(name),
        };
        match argument {
            Some(argument) => Place::Value { argument, typed, before },
            None => Place::Nothing,
        }
    }

    pub(super) fn operation(&self) -> Option<&'a Command> {
        self.operation
    }

    /// The value that an option was given.
    pub(super) fn value(&self, option: &str) -> Option<&str> {
        self.values.get(option).map(String::as_str)
    }

    /// The options that may be typed: the operation's own, and those of all operations.
    pub(super) fn options(&self) -> impl Iterator<Item = &'a Arg> + use<'a> {
        let own = self.operation.into_iter().flat_map(Command::get_arguments);
        own.chain(self.command.get_arguments()).filter(|argument| argument.get_long().is_some())
    }

    /// What the operation takes as its next operand.
    fn operand(&self) -> Option<&'a Arg> {
        self.operation.and_then(|operation| operation.get_positionals().nth(self.operands))
    }

    fn operation_called(&self, name: &str) -> Option<&'a Command> {
        self.command.get_subcommands().find(|operation| operation.get_name() == name)
    }

    /// An option of the operation; of any operation, where it is yet to be typed.
    fn option_called(&self, name: &str) -> Option<&'a Arg> {
        let elsewhere = self.command.get_subcommands().flat_map(Command::get_arguments);
        let elsewhere = elsewhere.filter(|_| self.operation.is_none());
        self.options().chain(elsewhere).find(|option| option.get_long() == Some(name))
    }
}
