//! Einsum of activations, where it is a product: one MatMul, between transpositions.

use super::Steps;
use crate::error::{Result, bail};
use crate::graph::{Constant, ValueId};
use crate::onnx::einsum::Equation;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::transpose::Transpose;
use crate::ops::{Input, OnnxNode, Op};
use crate::tensor::Shape;

pub(super) fn einsum(steps: &mut Steps, _: ValueId) -> Result<ValueId> {
    let Some(text) = steps.node.take_string("equation")? else {
        bail!(Invalid, "attribute \"equation\" is missing");
    };
    let mut values = Vec::new();
    for index in 0..steps.proto.input.len() {
        let Some(v) = steps.value(index)? else { bail!(Invalid, "input {index} is missing") };
        values.push(v);
    }
    let shapes: Vec<&[usize]> = values.iter().map(|&v| steps.shape(v)).collect();
    let equation = Equation::new(&text, &shapes)?;
    for (labels, shape) in equation.arguments.iter().zip(&shapes) {
        let twice = |i: usize| labels[..i].contains(&labels[i]);
        if (0..labels.len()).any(twice) || equation.shape_of(labels) != *shape {
            bail!(Unsupported, "equation \"{text}\": a diagonal, or an axis that is broadcast");
        }
    }
    let (result, labels) = match (&values[..], &equation.arguments[..]) {
        (&[x], [labels]) => summed(steps, &equation, x, labels)?,
        (&[a, b], [of_a, of_b]) => {
            // A constant is the second factor.
            match steps.importer.graph.values[a].constant.is_some() {
                true => product(steps, &equation, (b, of_b), (a, of_a))?,
                false => product(steps, &equation, (a, of_a), (b, of_b))?,
            }
        }
        _ => bail!(Unsupported, "equation \"{text}\": only products of two are known"),
    };
    transposed(steps, result, &labels, &equation.result)
}

/// The sum over the labels that the result lacks, and those that it has.
fn summed(
    steps: &mut Steps,
    equation: &Equation,
    x: ValueId,
    labels: &[usize],
) -> Result<(ValueId, Vec<usize>)> {
    let is_kept = |label: &usize| equation.result.contains(label);
    let kept: Vec<usize> = labels.iter().copied().filter(is_kept).collect();
    if kept.len() == labels.len() {
        return Ok((x, kept));
    }
    let reduced = labels.iter().map(|label| !is_kept(label)).collect();
    let sum = steps.sum_along(Mean { reduced }, x)?;
    Ok((reshaped(steps, sum, equation.shape_of(&kept))?, kept))
}

/// A product of two values with these labels, and its own ones.
fn product(
    steps: &mut Steps,
    equation: &Equation,
    (a, of_a): (ValueId, &[usize]),
    (b, of_b): (ValueId, &[usize]),
) -> Result<(ValueId, Vec<usize>)> {
    let labels = |of: &[usize], in_other: bool, other: &[usize], in_result: bool| -> Vec<usize> {
        let is_one =
            |l: &&usize| other.contains(l) == in_other && equation.result.contains(l) == in_result;
        of.iter().filter(is_one).copied().collect()
    };
    let (batch, sums) = (labels(of_a, true, of_b, true), labels(of_a, true, of_b, false));
    let (rows, columns) = (labels(of_a, false, of_b, true), labels(of_b, false, of_a, true));
    let alone = [labels(of_a, false, of_b, false), labels(of_b, false, of_a, false)].concat();
    if !alone.is_empty() {
        bail!(Unsupported, "a sum along an axis of one factor");
    }
    let sizes = |labels: &[usize]| equation.shape_of(labels);
    let len = |labels: &[usize]| sizes(labels).iter().product::<usize>();
    let a = transposed(steps, a, of_a, &[&batch[..], &rows, &sums].concat())?;
    let all = [&batch[..], &rows, &columns].concat();
    if sums.is_empty() {
        let b = transposed(steps, b, of_b, &[&batch[..], &columns].concat())?;
        let ones = |labels: &[usize]| vec![1; labels.len()];
        let a = reshaped(steps, a, [sizes(&batch), sizes(&rows), ones(&columns)].concat())?;
        let b = reshaped(steps, b, [sizes(&batch), ones(&rows), sizes(&columns)].concat())?;
        return Ok((steps.step(Op::Mul(Mul), &[a, b])?, all));
    }
    let b = transposed(steps, b, of_b, &[&batch[..], &sums, &columns].concat())?;
    let row = match batch.is_empty() && !rows.is_empty() {
        true => sizes(&rows),
        false => vec![len(&rows)],
    };
    let a = reshaped(steps, a, [sizes(&batch), row, vec![len(&sums)]].concat())?;
    let b = reshaped(steps, b, [sizes(&batch), vec![len(&sums), len(&columns)]].concat())?;
    let mut node = OnnxNode { opset: steps.node.opset, ..OnnxNode::new("MatMul") };
    node.inputs = vec![Some(input(steps, a)), Some(input(steps, b))];
    let Some(op) = Op::import(&mut node) else { bail!(Unsupported, "a product of matrices") };
    let y = steps.step(op?, &[a, b])?;
    Ok((reshaped(steps, y, sizes(&all))?, all))
}

/// The value as operators see it.
fn input(steps: &Steps, v: ValueId) -> Input {
    let value = &steps.importer.graph.values[v];
    match &value.constant {
        Some(Constant::Real(t)) => Input::Real(t.clone()),
        Some(Constant::Codes(_)) => Input::Codes(value.shape.clone(), None),
        None => Input::Activation(value.shape.clone()),
    }
}

fn transposed(steps: &mut Steps, v: ValueId, from: &[usize], to: &[usize]) -> Result<ValueId> {
    if from == to {
        return Ok(v);
    }
    let perm = to.iter().filter_map(|label| from.iter().position(|l| l == label)).collect();
    steps.step(Op::Transpose(Transpose { perm }), &[v])
}

fn reshaped(steps: &mut Steps, v: ValueId, shape: Shape) -> Result<ValueId> {
    if steps.shape(v) == shape { Ok(v) } else { steps.reshape(v, shape) }
}
