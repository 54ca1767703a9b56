//! What is offered to the shell, and how it is told.

use std::fmt;

/// Words for the shell to choose from, and whether it is to look for files too.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    candidates: Vec<Candidate>,
    paths: Paths,
}

/// A word that could be typed, and what it is about.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    word: String,
    help: Option<String>,
}

/// What the shell completes by itself, since it knows how to quote it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    #[default]
    None,
    Files,
    Folders,
}

impl Offer {
    /// Those words that begin like what was typed.
    pub(super) fn of(
        words: impl IntoIterator<Item = (String, Option<String>)>,
        typed: &str,
    ) -> Self {
        let words = words.into_iter().filter(|(word, _)| word.starts_with(typed));
        let candidates = words.map(|(word, help)| Candidate { word, help }).collect();
        Self { candidates, paths: Paths::None }
    }

    /// The same for words that explain themselves.
    pub(super) fn of_words(words: impl IntoIterator<Item = String>, typed: &str) -> Self {
        Self::of(words.into_iter().map(|word| (word, None)), typed)
    }

    /// No words but paths.
    pub(super) fn of_paths(paths: Paths) -> Self {
        Self { candidates: Vec::new(), paths }
    }

    /// Both; which paths is for the first to say, unless it has none.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.candidates.extend(other.candidates);
        let paths = if self.paths == Paths::None { other.paths } else { self.paths };
        Self { paths, ..self }
    }

    /// The same where each is only the end of a word, which begins with `before`.
    pub(super) fn after(mut self, before: &str) -> Self {
        for candidate in &mut self.candidates {
            candidate.word.insert_str(0, before);
        }
        self
    }
}

/// As the scripts read it: on the first line what the shell is to complete by itself, then a candidate on
/// each, and behind a tab what it is about.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.paths {
            Paths::None => "none\n",
            Paths::Files => "files\n",
            Paths::Folders => "folders\n",
        })?;
        self.candidates.iter().try_for_each(|Candidate { word, help }| {
            let help = help.as_deref().and_then(|help| help.lines().next());
            writeln!(f, "{word}\t{}", help.unwrap_or_default())
        })
    }
}
