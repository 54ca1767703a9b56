//! Parses Rust sources as text, and finds the paths in them.

use std::collections::{BTreeMap, BTreeSet};

/// The tokens of a source file without comments, literals and test modules.
#[derive(Debug)]
pub(super) struct Source {
    /// The top-level module of the file.
    pub(super) module: String,
    /// The number of `super` from the file to the crate root.
    depth: usize,
    tokens: Vec<String>,
}

impl Source {
    /// Parses a source file. `path` is relative to the `src` folder.
    pub(super) fn new(path: &str, text: &str) -> Self {
        let mut parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        let tokens = without_test_modules(tokens(text));
        Self { module: parts[0].to_owned(), depth: parts.len(), tokens }
    }

    /// Returns the items of the crate root in the file: modules and re-exports.
    pub(super) fn root_items(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for start in 0..self.tokens.len() {
            // Only the first of several `super` starts a path.
            let inside_path = start > 0 && self.tokens[start - 1] == "::";
            if !inside_path && let Some(next) = self.after_root(start) {
                collect_first_names(&self.tokens, next, &mut found);
            }
        }
        found
    }

    /// Returns the index after `crate::`, or after as many `super::` as lead to the root.
    fn after_root(&self, start: usize) -> Option<usize> {
        let is = |index: usize, token: &str| self.tokens.get(index).is_some_and(|t| t == token);
        if is(start, "crate") && is(start + 1, "::") {
            return Some(start + 2);
        }
        let steps = (0..).take_while(|step| is(start + 2 * step, "super")).count();
        (steps == self.depth && is(start + 2 * steps - 1, "::")).then_some(start + 2 * steps)
    }

    /// Returns whether the file has `path`, such as `tokio` or `std::fs`.
    pub(super) fn names(&self, path: &str) -> bool {
        let wanted = tokens(path);
        self.tokens.windows(wanted.len()).any(|window| window == wanted)
            || self.names_in_braces(&wanted)
    }

    /// Returns whether the file has `first::{…, last, …}`.
    fn names_in_braces(&self, wanted: &[String]) -> bool {
        let [first, _, last] = wanted else { return false };
        (0..self.tokens.len()).any(|index| {
            let mut found = BTreeSet::new();
            if self.tokens[index] == *first && self.tokens.get(index + 1).is_some_and(|t| t == "::")
            {
                collect_first_names(&self.tokens, index + 2, &mut found);
            }
            found.contains(last)
        })
    }
}

/// Collects the first name of the path at `index`, or of each path in the braces at `index`.
fn collect_first_names(tokens: &[String], index: usize, found: &mut BTreeSet<String>) {
    if tokens.get(index).is_none_or(|token| token != "{") {
        found.extend(tokens.get(index).cloned());
        return;
    }
    let (mut depth, mut starts) = (0, false);
    for token in &tokens[index..] {
        match token.as_str() {
            "{" => (depth, starts) = (depth + 1, depth == 0),
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," => starts = depth == 1,
            name if starts => {
                found.insert(name.to_owned());
                starts = false;
            }
            _ => {}
        }
    }
}

/// Returns words, `::` and single characters, without comments, literals and spaces.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(rest[..length].to_owned());
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// Returns the length of the string or character literal at the start of `text`, if there is one.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "r", "b", "c", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    });
    if let Some(prefix) = prefix {
        let hashes = text[prefix.len()..].chars().take_while(|c| *c == '#').count();
        let start = prefix.len() + hashes + 1;
        if prefix.ends_with('r') {
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
        if hashes == 0 {
            return Some(start + escaped(&text[start..], '"'));
        }
    }
    // A lifetime has no closing quote after its first character.
    let character = text.strip_prefix('\'')?;
    let closed = character.starts_with('\\') || character.chars().nth(1) == Some('\'');
    closed.then(|| 1 + escaped(character, '\''))
}

/// Returns the length of `text` up to and including the first unescaped `end`.
fn escaped(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if character == end && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    text.len()
}

/// Removes every `#[cfg(test)] mod … { … }`.
fn without_test_modules(tokens: Vec<String>) -> Vec<String> {
    let (mut kept, mut index) = (Vec::new(), 0);
    while index < tokens.len() {
        if test_module(&tokens[index..]).is_none() {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        let mut depth = 0;
        for token in &tokens[index..] {
            index += 1;
            match token.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => break,
                "}" => depth -= 1,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

/// Returns the tokens after `mod` if `tokens` start with the declaration of a test module: `#[cfg(test)]` or
/// `#[cfg(all(test, …))]`, other attributes, then a module of any visibility.
fn test_module(tokens: &[String]) -> Option<&[String]> {
    let starts = |tokens: &[String], with: &[&str]| {
        tokens.len() >= with.len() && tokens.iter().zip(with).all(|(a, b)| a == b)
    };
    let test = ["#", "[", "cfg", "(", "test", ")"];
    let test_and_more = ["#", "[", "cfg", "(", "all", "(", "test"];
    if !starts(tokens, &test) && !starts(tokens, &test_and_more) {
        return None;
    }
    let mut rest = tokens;
    while starts(rest, &["#"]) {
        rest = &rest[rest.iter().position(|token| token == "]")? + 1..];
    }
    if starts(rest, &["pub", "("]) {
        rest = &rest[rest.iter().position(|token| token == ")")? + 1..];
    } else if starts(rest, &["pub"]) {
        rest = &rest[1..];
    }
    starts(rest, &["mod"]).then(|| &rest[1..])
}

/// Returns the test modules that the file at `path` declares and that have a file of their own, as paths without
/// `.rs`.
pub(super) fn test_modules_in_files(path: &str, text: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let folder = stem.strip_suffix("/mod").unwrap_or(stem);
    let tokens = tokens(text);
    (0..tokens.len())
        .filter_map(|start| test_module(&tokens[start..]))
        .filter(|rest| rest.get(1).is_some_and(|token| token == ";"))
        .map(|rest| format!("{folder}/{}", rest[0]))
        .collect()
}

/// Returns the re-exports of `lib.rs` and their modules.
pub(super) fn exports(lib: &str) -> BTreeMap<String, String> {
    let tokens = tokens(lib);
    let mut exports = BTreeMap::new();
    for index in 0..tokens.len().saturating_sub(4) {
        if tokens[index] == "pub" && tokens[index + 1] == "use" && tokens[index + 3] == "::" {
            let mut names = BTreeSet::new();
            collect_first_names(&tokens, index + 4, &mut names);
            exports.extend(names.into_iter().map(|name| (name, tokens[index + 2].clone())));
        }
    }
    exports
}
