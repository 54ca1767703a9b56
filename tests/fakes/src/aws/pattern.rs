//! [`Pattern`]: a text of a policy with wildcards and variables.

use super::iam::Context;

/// Texts such as `arn:aws:ecr:*:*:repository/prod/${aws:PrincipalTag/organization}/*`.
///
/// `*` stands for any characters, `?` for one; `${*}`, `${?}` and `${$}` for themselves.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(char),
    Any,
    One,
    /// A condition key, and what stands for it where it has no value.
    Variable(String, Option<String>),
}

impl Pattern {
    /// Reads a pattern; `variables` are those of policies of version 2012-10-17.
    pub(super) fn parse(text: &str, variables: bool) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let variable = rest.strip_prefix("${").filter(|_| variables);
            if let Some((name, after)) = variable.and_then(|rest| rest.split_once('}')) {
                pieces.push(match name {
                    "*" => Piece::Literal('*'),
                    "?" => Piece::Literal('?'),
                    "$" => Piece::Literal('$'),
                    name => variable_piece(name),
                });
                rest = after;
                continue;
            }
            pieces.push(match character {
                '*' => Piece::Any,
                '?' => Piece::One,
                character => Piece::Literal(character),
            });
            rest = &rest[character.len_utf8()..];
        }
        Self(pieces)
    }

    /// Whether it stands for `text`. One with a variable that has no value stands for nothing.
    pub(super) fn matches(&self, text: &str, context: &Context) -> bool {
        let Some(pieces) = self.with_values(context) else { return false };
        matches_pieces(&pieces, &text.chars().collect::<Vec<_>>())
    }

    /// Whether it is `text`, with variables filled in and wildcards taken for what they are.
    pub(super) fn equals(&self, text: &str, context: &Context) -> bool {
        let Some(pieces) = self.with_values(context) else { return false };
        let literal = pieces.iter().map(|piece| match piece {
            Piece::Literal(character) => *character,
            Piece::One => '?',
            Piece::Any | Piece::Variable(..) => '*',
        });
        literal.eq(text.chars())
    }

    fn with_values(&self, context: &Context) -> Option<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match piece {
                Piece::Variable(name, default) => {
                    let value = context.get(name).or(default.as_deref())?;
                    pieces.extend(value.chars().map(Piece::Literal));
                }
                piece => pieces.push(piece.clone()),
            }
        }
        Some(pieces)
    }
}

/// A variable such as `aws:username` or `aws:PrincipalTag/team, 'none'`.
fn variable_piece(text: &str) -> Piece {
    let (name, default) = text.split_once(',').unwrap_or((text, ""));
    let default = default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    Piece::Variable(name.trim().to_owned(), default.map(str::to_owned))
}

/// Goes through both at once, and back to the last `*` where they part: time grows with the product
/// of the lengths at worst.
fn matches_pieces(pattern: &[Piece], text: &[char]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while position < text.len() {
        match pattern.get(at) {
            Some(Piece::Any) => {
                retry = Some((at, position));
                at += 1;
            }
            Some(Piece::One) => (at, position) = (at + 1, position + 1),
            Some(Piece::Literal(character)) if *character == text[position] => {
                (at, position) = (at + 1, position + 1);
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (at, position) = (star + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|piece| *piece == Piece::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let context = Context::default().with("aws:PrincipalTag/organization", "a*b");
        Pattern::parse(pattern, true).matches(text, &context)
    }

    #[test]
    fn wildcards_stand_for_any_and_for_one() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c*e", "abcde"),
            ("a*bc", "abbcbc"),
            ("?b", "ab"),
            ("${*}${$}", "*$"),
            ("x/${aws:PrincipalTag/organization}/*", "x/a*b/c"),
            ("x/${aws:principaltag/Organization}", "x/a*b"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "A"),
            ("a*c", "abcd"),
            ("?", ""),
            ("${*}", "a"),
            ("x/${aws:PrincipalTag/organization}", "x/aab"),
            ("*${aws:PrincipalTag/other}", "x"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn without_variables_they_are_plain_text() {
        let pattern = Pattern::parse("${a}", false);
        assert!(pattern.matches("${a}", &Context::default()));
    }

    #[test]
    fn equality_takes_wildcards_for_what_they_are() {
        let equals =
            |pattern, text| Pattern::parse(pattern, true).equals(text, &Context::default());
        assert!(equals("a*?", "a*?"));
        assert!(!equals("a*", "ab"));
    }
}
