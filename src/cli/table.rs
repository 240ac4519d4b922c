//! Plain text tables.

use std::fmt::{self, Display};

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

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let column = |c: usize| self.rows.iter().filter_map(move |r| r.get(c));
        let widths: Vec<usize> =
            (0..columns).map(|c| column(c).map(|s| s.chars().count()).max().unwrap_or(0)).collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|c| {
                column(c).skip(1).all(|s| {
                    s.is_empty() || s.starts_with(|c: char| c.is_ascii_digit() || "-−±".contains(c))
                })
            })
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, &width), &numeric) in row.iter().zip(&widths).zip(&numeric) {
                line += &match numeric {
                    true => format!("{cell:>width$}  "),
                    false => format!("{cell:<width$}  "),
                };
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
}
