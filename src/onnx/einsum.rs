//! The equation of an Einsum: axes have labels, and those that the result lacks are summed.

use std::collections::BTreeMap;

use crate::error::{Result, bail};
use crate::tensor::Shape;

/// Labels are letters as numbers; those of the axes of an ellipsis follow, counted from the last.
pub(super) struct Equation {
    /// Labels of the axes of each argument.
    pub(super) arguments: Vec<Vec<usize>>,
    /// Labels of the axes of the result.
    pub(super) result: Vec<usize>,
    sizes: BTreeMap<usize, usize>,
}

/// The first label that is no letter.
const ELLIPSIS: usize = 128;

/// The labels of `text` for `rank` axes; an ellipsis stands for those that have no letter.
fn labels(text: &str, rank: usize) -> Result<Vec<usize>> {
    let letters = text.chars().filter(|c| *c != '.').count();
    let Some(others) = rank.checked_sub(letters) else {
        bail!(Shape, "axes \"{text}\" of a tensor of rank {rank}");
    };
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("...") {
            labels.extend((0..others).rev().map(|i| ELLIPSIS + i));
            rest = behind;
        } else if c.is_ascii_alphabetic() {
            labels.push(c as usize);
            rest = &rest[1..];
        } else {
            bail!(Invalid, "axes \"{text}\"");
        }
    }
    if labels.len() != rank {
        bail!(Shape, "axes \"{text}\" of a tensor of rank {rank}");
    }
    Ok(labels)
}

impl Equation {
    /// Reads `text` for arguments of these shapes.
    pub(super) fn new(text: &str, shapes: &[&[usize]]) -> Result<Self> {
        let text: String = text.split_whitespace().collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (&text[..], None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != shapes.len() {
            bail!(Invalid, "equation \"{text}\" for {} inputs", shapes.len());
        }
        let arguments = terms.iter().zip(shapes).map(|(term, shape)| labels(term, shape.len()));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let mut sizes = BTreeMap::new();
        let mut uses: BTreeMap<usize, usize> = BTreeMap::new();
        for (&label, &size) in arguments.iter().flatten().zip(shapes.iter().copied().flatten()) {
            let known = sizes.entry(label).or_insert(size);
            *uses.entry(label).or_default() += 1;
            match (*known, size) {
                (1, _) => *known = size,
                (known, size) if known == size || size == 1 => {}
                (known, size) => bail!(Shape, "axes of {known} and {size} have one label"),
            }
        }
        let dots: Vec<usize> = sizes.keys().rev().copied().filter(|&l| l >= ELLIPSIS).collect();
        let result = match right {
            Some(right) => {
                let rank = right.chars().filter(|c| *c != '.').count();
                let dots = if right.contains("...") { dots.len() } else { 0 };
                labels(right, rank + dots)?
            }
            // Those that are there once, in alphabetical order.
            None => {
                let once = uses.iter().filter(|&(&l, &n)| l < ELLIPSIS && n == 1).map(|(&l, _)| l);
                dots.into_iter().chain(once).collect()
            }
        };
        let twice = |(i, label): (usize, &usize)| result[..i].contains(label);
        if result.iter().any(|label| !sizes.contains_key(label))
            || result.iter().enumerate().any(twice)
        {
            bail!(Invalid, "the result of equation \"{text}\"");
        }
        Ok(Self { arguments, result, sizes })
    }

    /// Sizes of axes with these labels.
    pub(super) fn shape_of(&self, labels: &[usize]) -> Shape {
        labels.iter().map(|label| self.sizes[label]).collect()
    }

    /// Labels that the result lacks.
    pub(super) fn summed(&self) -> Vec<usize> {
        self.sizes.keys().copied().filter(|label| !self.result.contains(label)).collect()
    }
}
