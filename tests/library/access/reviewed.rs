//! The table as it was reviewed, to look cells up in.

use super::people::{Person, Target};

const TABLE: &str = include_str!("outcomes.txt");

/// What the table says of somebody's operation, such as `yes`; `walls` is the title of a group of columns.
pub(crate) fn outcome(
    walls: &str,
    person: &Person,
    operation: &str,
    target: Target,
) -> &'static str {
    let title = TABLE.lines().next().unwrap();
    let heading = person.to_string();
    let mut lines = TABLE.lines().skip_while(|line| *line != heading).skip(1);
    let heads = lines.next().unwrap();
    let line = lines.take_while(|line| !line.is_empty()).find(|line| {
        let rest = line.trim_start().strip_prefix(operation);
        rest.is_some_and(|rest| rest.starts_with("  "))
    });
    let line = line.unwrap_or_else(|| panic!("{heading}: no line {operation:?}"));
    let group = title.find(walls).unwrap_or_else(|| panic!("no columns {walls:?}"));
    let column = group + heads[group..].find(target.word()).unwrap();
    line[column..].split_whitespace().next().unwrap()
}
