//! Plain text tables.

use std::fmt::{self, Display};

use naive_ptq::text::printable;

/// Rows of cells; columns are as wide as their widest cell, numbers are set right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|t| t.to_string()).collect()] }
    }

    /// Adds a row; its cells are shortened, and their control characters escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell).into_owned()).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let column = |c: usize| self.rows.iter().filter_map(move |r| r.get(c));
        let width = |cell: &str| cell.chars().count();
        let widths: Vec<usize> =
            (0..columns).map(|c| column(c).map(|s| width(s)).max().unwrap_or(0)).collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|c| {
                column(c).skip(1).all(|s| {
                    s.is_empty() || s.starts_with(|c: char| c.is_ascii_digit() || "-−±".contains(c))
                })
            })
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, all), &numeric) in row.iter().zip(&widths).zip(&numeric) {
                // By hand: a width in a format is limited.
                let padding = " ".repeat(all - width(cell));
                let (left, right) = if numeric { (&*padding, "") } else { ("", &*padding) };
                line += &[left, cell, right, "  "].concat();
            }
            writeln!(f, "{}", line.trim_end())?;
            if index == 0 {
                writeln!(f, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * (columns - 1)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_right() {
        let mut table = Table::new(&["name", "n"]);
        table.row(["a".into(), "10".into()]);
        table.row(["long".into(), "9".into()]);
        assert_eq!(table.to_string(), "name   n\n--------\na     10\nlong   9\n");
    }

    #[test]
    fn a_long_name_widens_a_column_to_what_is_shown_of_it() {
        let mut table = Table::new(&["name", "n"]);
        table.row(["n".repeat(65_536), "1".into()]);
        table.row(["\u{1b}\n\u{202e}\0".into(), "2".into()]);
        let text = table.to_string();
        assert!(
            text.lines().count() == 4 && text.lines().all(|l| l.chars().count() == 83),
            "{text}"
        );
        assert!(text.contains('…') && !text.contains(['\u{1b}', '\u{202e}', '\0']), "{text}");
    }
}
