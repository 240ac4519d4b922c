//! Running a network on this machine: in real numbers, and in integers.

pub mod engine;
pub mod float;
pub mod int;

use crate::error::{Result, bail};
use crate::graph::ValueId;
use crate::tensor::Tensor;

/// For each node, the values that nothing needs after it; `keep` are never freed.
fn last_uses<'a>(
    values: usize,
    nodes: impl Iterator<Item = (&'a [ValueId], ValueId)>,
    keep: &[ValueId],
) -> Vec<Vec<ValueId>> {
    let mut last_use = vec![None; values];
    let mut dead: Vec<Vec<ValueId>> = Vec::new();
    for (index, (inputs, output)) in nodes.enumerate() {
        inputs.iter().chain([&output]).for_each(|&v| last_use[v] = Some(index));
        dead.push(Vec::new());
    }
    for (value, index) in last_use.into_iter().enumerate() {
        if let Some(index) = index.filter(|_| !keep.contains(&value)) {
            dead[index].push(value);
        }
    }
    dead
}

/// Checks the tensors that a caller gives against the names and shapes of a network's inputs.
pub(crate) fn check_inputs<'a>(
    expected: impl ExactSizeIterator<Item = (&'a str, &'a [usize])>,
    inputs: &[Tensor<f32>],
) -> Result<()> {
    if expected.len() != inputs.len() {
        bail!(Shape, "the network has {} inputs, got {}", expected.len(), inputs.len());
    }
    for ((name, shape), input) in expected.zip(inputs) {
        if shape != input.shape() {
            bail!(Shape, "input \"{name}\" has shape {shape:?}, got {:?}", input.shape());
        }
        // Without a way out the loop is done in vectors.
        if input.data().iter().fold(false, |any, x| any | !x.is_finite()) {
            bail!(Range, "input \"{name}\" holds a value that is not finite");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
