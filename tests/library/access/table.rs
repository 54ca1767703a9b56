//! The outcomes as text, for the eye and for the next run to compare with.

use std::fmt::Write as _;

use super::operation::{Operation, Outcome};
use super::people::{PEOPLE, Person, Target};
use super::wall::Walls;

/// How a row's operations ended, in the order of [`Walls`], [`Operation`] and [`Target`].
pub(super) type Row = [[[Outcome; Target::ALL.len()]; Operation::ALL.len()]; Walls::ALL.len()];

const LABEL: usize = 30;
const CELL: usize = 9;

/// Every row, under what says which column is which.
pub(super) fn print(rows: &[Row]) -> String {
    let mut text = String::new();
    let cells = Target::ALL.len() * CELL + 2;
    write!(text, "{:LABEL$}", "").unwrap();
    for walls in Walls::ALL {
        write!(text, "{:cells$}", walls.title()).unwrap();
    }
    end_line(&mut text);
    for (person, row) in PEOPLE.iter().zip(rows) {
        text.push('\n');
        print_row(&mut text, person, row);
    }
    text
}

fn print_row(text: &mut String, person: &Person, row: &Row) {
    writeln!(text, "{person}").unwrap();
    let heads = Walls::ALL.map(|_| Target::ALL.map(Target::word));
    line(text, "", heads);
    for (index, operation) in Operation::ALL.iter().enumerate() {
        let cells = std::array::from_fn(|walls| row[walls][index].map(Outcome::word));
        line(text, operation.word(), cells);
    }
}

fn line(text: &mut String, label: &str, cells: [[&str; Target::ALL.len()]; Walls::ALL.len()]) {
    write!(text, "  {label:0$}", LABEL - 2).unwrap();
    for group in cells {
        for cell in group {
            write!(text, "{cell:CELL$}").unwrap();
        }
        text.push_str("  ");
    }
    end_line(text);
}

fn end_line(text: &mut String) {
    text.truncate(text.trim_end().len());
    text.push('\n');
}
