//! [`Screen`]: what a person sees at a terminal, from what a program writes to it.

/// The columns of a terminal.
const WIDTH: usize = 80;

/// A terminal of so many rows, as far as progress bars use one.
pub(super) struct Screen {
    rows: Vec<String>,
    row: usize,
    column: usize,
    /// How many lines have gone at the top.
    pub(super) scrolled: usize,
}

impl Screen {
    pub(super) fn new(rows: usize) -> Self {
        Self { rows: vec![String::new(); rows], row: 0, column: 0, scrolled: 0 }
    }

    /// What stands there, without what is empty at the end.
    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.rows.iter().map(|row| row.trim_end()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Writes what came, and has a `look` before the cursor goes up to draw anew, and at the end.
    pub(super) fn write(&mut self, output: &str, mut look: impl FnMut(&Self)) {
        let mut rest = output.chars();
        while let Some(next) = rest.next() {
            match next {
                '\n' => self.new_line(),
                '\r' => self.column = 0,
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "{output:?}");
                    let mut number = String::new();
                    let end = rest.by_ref().find(|next| {
                        let is_end = next.is_ascii_alphabetic();
                        number.extend((!is_end).then_some(*next));
                        is_end
                    });
                    if end == Some('A') {
                        look(self);
                    }
                    self.control(end.unwrap(), &number);
                }
                next => self.put(next),
            }
        }
        look(self);
    }

    fn put(&mut self, character: char) {
        if self.column == WIDTH {
            self.new_line();
        }
        let mut row: Vec<char> = self.rows[self.row].chars().collect();
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = character;
        self.column += 1;
        self.rows[self.row] = row.into_iter().collect();
    }

    fn new_line(&mut self) {
        self.column = 0;
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.remove(0);
            self.rows.push(String::new());
            (self.row, self.scrolled) = (self.row - 1, self.scrolled + 1);
        }
    }

    fn control(&mut self, end: char, number: &str) {
        let by: usize = number.parse().unwrap_or(1);
        match end {
            'A' => self.row = self.row.saturating_sub(by),
            'B' => self.row = (self.row + by).min(self.rows.len() - 1),
            'K' if number == "2" => self.rows[self.row].clear(),
            // Colours, and whether the cursor shows.
            'm' | 'h' | 'l' => {}
            _ => panic!("{number:?} {end:?} is not known here"),
        }
    }
}
