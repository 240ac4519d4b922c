//! What stops a network: all of it, as far as it can be told without what is missing.

use std::collections::HashMap;

use crate::error::Error;

/// Most different ones that are kept.
const MOST: usize = 64;

/// Each with the number of nodes of which it is true.
#[derive(Default)]
pub(super) struct Obstacles {
    found: Vec<(Error, usize)>,
    places: HashMap<String, usize>,
    others: usize,
}

impl Obstacles {
    pub(super) fn add(&mut self, error: Error) {
        let what = match &error {
            Error::InNode { op, error, .. } => format!("{op}: {error}"),
            other => other.to_string(),
        };
        match self.places.get(&what) {
            Some(&place) => self.found[place].1 += 1,
            None if self.found.len() == MOST => self.others += 1,
            None => {
                self.places.insert(what, self.found.len());
                self.found.push((error, 1));
            }
        }
    }

    /// All of them as one error.
    pub(super) fn into_error(mut self) -> Option<Error> {
        match self.found[..] {
            [] => None,
            [(_, 1)] if self.others == 0 => self.found.pop().map(|(error, _)| error),
            _ => Some(Error::Many { errors: self.found, others: self.others }),
        }
    }
}
