//! Running a network on this machine: in real numbers, and in integers.

pub mod engine;
pub mod float;
pub mod int;

use std::borrow::Cow;

use crate::error::{Result, bail};
use crate::graph::{Value, ValueId};
use crate::lower::IntValue;
use crate::quant::{Given, QuantParams};
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

/// What an input of a network has to be.
pub(crate) struct Expected<'a> {
    name: &'a str,
    shape: &'a [usize],
    /// What the caller gives, if that is integers, and how their codes are read.
    integers: Option<(Given, &'a QuantParams)>,
}

impl<'a> From<&'a Value> for Expected<'a> {
    fn from(value: &'a Value) -> Self {
        let integers = value.given.zip(value.quant.as_ref());
        Self { name: &value.name, shape: &value.shape, integers }
    }
}

impl<'a> From<&'a IntValue> for Expected<'a> {
    fn from(value: &'a IntValue) -> Self {
        let integers = value.given.map(|given| (given, &value.quant));
        Self { name: &value.name, shape: &value.shape, integers }
    }
}

/// Checks the tensors that a caller gives for a network's inputs; the real numbers that they stand for.
pub(crate) fn check_inputs<'a, 'x>(
    expected: impl ExactSizeIterator<Item = Expected<'a>>,
    inputs: &'x [Tensor<f32>],
) -> Result<Vec<Cow<'x, Tensor<f32>>>> {
    if expected.len() != inputs.len() {
        bail!(Shape, "the network has {} inputs, got {}", expected.len(), inputs.len());
    }
    let real = |(Expected { name, shape, integers }, input): (Expected, &'x Tensor<f32>)| {
        if shape != input.shape() {
            bail!(Shape, "input \"{name}\" has shape {shape:?}, got {:?}", input.shape());
        }
        // Without a way out the loop is done in vectors.
        if input.data().iter().fold(false, |any, x| any | !x.is_finite()) {
            bail!(Range, "input \"{name}\" holds a value that is not finite");
        }
        let Some((given, quant)) = integers else { return Ok(Cow::Borrowed(input)) };
        let real = input.data().iter().map(|&x| given.real(quant, x)).collect::<Result<_>>();
        match real {
            Ok(real) => Ok(Cow::Owned(Tensor::new(shape, real)?)),
            Err(e) => bail!(Range, "input \"{name}\" {e}"),
        }
    };
    expected.zip(inputs).map(real).collect()
}

#[cfg(test)]
mod tests;
