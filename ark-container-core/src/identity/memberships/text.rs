//! [`Text`]: a memberships file as text, which knows where each of its parts is.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use toml::Spanned;

use crate::error::{Error, Result};
use crate::model::ParseError;

/// The text of a memberships file, what it is called, and where its lines start.
pub(super) struct Text<'a> {
    text: &'a str,
    file: &'a str,
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        let after_newline = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { text, file, lines: std::iter::once(0).chain(after_newline).collect() }
    }

    pub(super) fn as_str(&self) -> &'a str {
        self.text
    }

    /// An error about what is at byte `offset`.
    pub(super) fn error(&self, offset: usize, problem: impl Display) -> Error {
        let (line, column) = self.line_and_column(offset);
        Error::invalid(format!("{}:{line}:{column}: {problem}", self.file))
    }

    /// Where byte `offset` is, such as `memberships.toml:12`.
    pub(super) fn origin(&self, offset: usize) -> Arc<str> {
        format!("{}:{}", self.file, self.line_and_column(offset).0).into()
    }

    /// What a value of the file says.
    pub(super) fn parse<T: FromStr<Err = ParseError>>(&self, value: &Spanned<String>) -> Result<T> {
        value.get_ref().parse().map_err(|error| self.error(value.span().start, error))
    }

    /// What the values of a list say.
    pub(super) fn parse_each<T, C>(&self, values: &[Spanned<String>]) -> Result<C>
    where
        T: FromStr<Err = ParseError>,
        C: FromIterator<T>,
    {
        values.iter().map(|value| self.parse(value)).collect()
    }

    /// Both counted from 1, the column in characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.lines.partition_point(|start| *start <= offset);
        let before = &self.text[self.lines[line - 1]..offset];
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters_and_from_one() {
        let text = Text::new("é=1\n\nx", "m.toml");
        let places = [0, 1, 2, 4, 5, 6, 7, 99].map(|offset| text.line_and_column(offset));
        assert_eq!(places, [(1, 1), (1, 1), (1, 2), (1, 4), (2, 1), (3, 1), (3, 2), (3, 2)]);
        assert_eq!(&*text.origin(6), "m.toml:3");
        assert_eq!(Text::new("", "m.toml").line_and_column(0), (1, 1));
    }
}
