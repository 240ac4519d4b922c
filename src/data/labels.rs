//! What is right for a sample: a class, or a class for each place of a map.

use super::column::Column;
use super::npy::Array;
use crate::error::{Result, bail};

/// Names of arrays that hold labels.
const NAMES: [&str; 9] =
    ["y", "label", "labels", "target", "targets", "class", "classes", "mask", "masks"];

/// The label of what nobody knows: -1 in data.
pub const IGNORED: usize = usize::MAX;

/// Whether what is called so holds labels, unless it is an input.
pub(super) fn is_name(name: &str) -> bool {
    NAMES.iter().any(|label| name.eq_ignore_ascii_case(label))
}

/// Which of these columns, which are no inputs, holds labels: that of such a name, or the only one of integers.
pub(super) fn find(columns: &[Column], rest: &[usize]) -> Option<usize> {
    let named = |&&i: &&usize| is_name(&columns[i].name);
    let is_integer = |i: usize| columns[i].array(0).is_ok_and(|row| row.integer(0).is_some());
    let only = || match rest {
        &[i] if columns[i].len() > 0 && is_integer(i) => Some(i),
        _ => None,
    };
    rest.iter().find(named).copied().or_else(only)
}

/// A column of labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels {
    column: usize,
    /// Rows that belong to one sample.
    rows: usize,
    /// Whether a row has a 1 for its class, and 0 for each other one.
    one_hot: bool,
}

impl Labels {
    /// Looks at all of them, but not at all maps. What has a number that is no class, as targets of a regression do, is
    /// nothing that classes are compared with: then there are no labels.
    pub fn new(columns: &[Column], column: usize, rows: usize) -> Result<Option<Self>> {
        let source = &columns[column];
        let first = source.array(0)?;
        let width: usize = first.shape().iter().product();
        let mut one_hot = width > 1 && first.shape().iter().filter(|&&size| size > 1).count() == 1;
        for i in 0..source.len() {
            one_hot = one_hot && hot(&source.array(i)?).is_some();
        }
        let labels = Self { column, rows, one_hot };
        let looked_at = if width == 1 { source.len() } else { 1 };
        for i in 0..looked_at {
            if !one_hot && source.array(i)?.whole_numbers().is_none() {
                return Ok(None);
            }
            labels.row(columns, i)?;
        }
        Ok(Some(labels))
    }

    /// The classes of sample `i`, row by row.
    pub fn get(self, columns: &[Column], i: usize) -> Result<Vec<usize>> {
        let rows = (i * self.rows..(i + 1) * self.rows).map(|row| self.row(columns, row));
        Ok(rows.collect::<Result<Vec<_>>>()?.concat())
    }

    fn row(self, columns: &[Column], i: usize) -> Result<Vec<usize>> {
        let row = columns[self.column].array(i)?;
        if let Some(class) = hot(&row).filter(|_| self.one_hot) {
            return Ok(vec![class]);
        }
        let class = |class| match usize::try_from(class) {
            Ok(class) => Ok(class),
            Err(_) if class == -1 => Ok(IGNORED),
            Err(_) => bail!(Range, "label {class} of row {i} is negative"),
        };
        let Some(classes) = row.whole_numbers() else {
            bail!(Invalid, "labels {} of row {i} are no integers", columns[self.column].called());
        };
        classes.into_iter().map(class).collect()
    }
}

/// Where the only 1 is in a row that is 0 elsewhere.
fn hot(row: &Array) -> Option<usize> {
    let row = row.to_f32();
    let (at, others) =
        (row.data().iter().position(|&x| x == 1.0)?, row.data().iter().filter(|&&x| x != 0.0));
    (row.data().len() > 1 && others.count() == 1).then_some(at)
}
