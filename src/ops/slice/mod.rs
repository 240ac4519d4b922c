//! A part of a tensor, with steps.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Slice.html>.

#[cfg(test)]
mod tests;

use super::onnx_node::{Attribute, Input, OnnxNode};
use super::pick::{PickInt, Picks};
use super::{Channels, Lowering, Operator, OutputParams, Wants, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// Elements `start`, `start + step`, … along one axis, `len` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First position.
    pub start: usize,
    /// Distance between positions; may be negative.
    pub step: i64,
    /// Number of positions, at least 1.
    pub len: usize,
}

/// One [`Part`] for each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Axis by axis.
    pub parts: Vec<Part>,
}

impl Slice {
    /// Everything of a tensor of shape `shape`, except for `axis`.
    pub fn of(shape: &[usize], axis: usize, start: usize, len: usize) -> Self {
        let all = |&size: &usize| Part { start: 0, step: 1, len: size };
        let mut parts: Vec<Part> = shape.iter().map(all).collect();
        parts[axis] = Part { start, step: 1, len };
        Self { parts }
    }

    /// Axis, start, end and step of each axis that a node for a tensor of `shape` names.
    ///
    /// # Errors
    /// Lists that are missing, or of different lengths; an axis that there is not.
    pub fn bounds(node: &mut OnnxNode, shape: &[usize]) -> Result<Vec<(usize, [i64; 3])>> {
        let old = node.opset < 10;
        let mut list = |name, index| match old {
            true => node.take_ints(name),
            false => node.take_input_ints(index),
        };
        let (starts, ends) = (list("starts", 1)?, list("ends", 2)?);
        let (axes, steps) = (list("axes", 3)?, if old { None } else { list("", 4)? });
        let (Some(starts), Some(ends)) = (starts, ends) else {
            bail!(Invalid, "starts and ends must be given");
        };
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            bail!(Invalid, "starts, ends, axes and steps have different lengths");
        }
        let bounds = |(i, &axis): (usize, &i64)| {
            let axis = OnnxNode::axis(axis, shape.len())?;
            if axis == shape.len() {
                bail!(Shape, "axis {axis} of shape {shape:?}");
            }
            Ok((axis, [starts[i], ends[i], steps[i]]))
        };
        axes.iter().enumerate().map(bounds).collect()
    }

    /// ONNX's slice of one axis of `size` elements: ends are clamped, negative ones count from behind.
    pub fn part(size: usize, start: i64, end: i64, step: i64) -> Result<Part> {
        let n = size as i64;
        let from_front = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        if step == 0 {
            bail!(Invalid, "a slice with step 0");
        }
        if size == 0 {
            bail!(Unsupported, "a slice of nothing");
        }
        let (start, end) = (from_front(start), from_front(end));
        let (start, span) = if step > 0 {
            let start = start.clamp(0, n);
            (start, end.clamp(0, n) - start)
        } else {
            let start = start.clamp(0, n - 1);
            (start, start - end.clamp(-1, n - 1))
        };
        let len = (span.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
        if len == 0 {
            bail!(Unsupported, "a slice without elements, {start}..{end} by {step} of {size}");
        }
        Ok(Part { start: start as usize, step, len })
    }

    /// Where the elements of the result lie in a tensor of shape `shape`.
    pub fn indices(&self, shape: &[usize]) -> Vec<usize> {
        self.picks().indices(shape).into_iter().flatten().collect()
    }

    fn picks(&self) -> Picks {
        let positions = |p: &Part| {
            let Part { start, step, len } = *p;
            (0..len as i64).map(move |i| Some((start as i64 + i * step) as usize)).collect()
        };
        Picks { axes: self.parts.iter().map(positions).collect(), fill: 0.0 }
    }
}

impl Operator for Slice {
    const ONNX: &'static [&'static str] = &["Slice"];
    const ORDER: Wants = Wants::Inherit;
    type Int = PickInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let shape = node.input_shape(0)?.to_vec();
        let all = |&size: &usize| Part { start: 0, step: 1, len: size };
        let mut parts: Vec<Part> = shape.iter().map(all).collect();
        for (axis, [start, end, step]) in Self::bounds(node, &shape)? {
            parts[axis] = Self::part(shape[axis], start, end, step)?;
        }
        Ok(Self { parts })
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let axes: Vec<usize> = (0..self.parts.len())
            .filter(|&a| self.parts[a] != Part { start: 0, step: 1, len: inputs[0][a] })
            .collect();
        let list = |f: &dyn Fn(&Part) -> i64| {
            let list = axes.iter().map(|&a| f(&self.parts[a])).collect();
            Some(Input::Ints(Tensor::from_vec(list)))
        };
        // An end before the first element is out of reach of a number that counts from behind.
        let end = |p: &Part| match p.start as i64 + p.len as i64 * p.step {
            end if end < 0 => i64::MIN + 1,
            end => end,
        };
        let mut node = OnnxNode::new("Slice");
        let axis_list = axes.iter().map(|&a| a as i64).collect();
        node.inputs = vec![
            list(&|p| p.start as i64),
            list(&end),
            Some(Input::Ints(Tensor::from_vec(axis_list))),
            list(&|p| p.step),
        ];
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        let last = |p: &Part| p.start as i64 + (p.len as i64 - 1) * p.step;
        if x.len() != self.parts.len() {
            bail!(Shape, "expected an input of rank {}, got {x:?}", self.parts.len());
        }
        for (axis, (p, &size)) in self.parts.iter().zip(x).enumerate() {
            if p.start >= size || !(0..size as i64).contains(&last(p)) {
                let Part { start, step, len } = p;
                bail!(Shape, "{len} elements from {start} on by {step}, of axis {axis} of {x:?}");
            }
        }
        Ok(self.parts.iter().map(|p| p.len).collect())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        self.picks().eval_f32(inputs[0])
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::SameAsInput
    }

    fn channel_factors(&self, _: &[&[usize]], _: &[usize]) -> Channels {
        Channels::picked(self.picks().axes.get(1))
    }

    fn lower(&self, node: &mut Lowering) -> Result<PickInt> {
        self.picks().lower(node)
    }
}

/// Attributes of the split that [`Slice::of`] serves: sizes along `axis`.
pub fn split_sizes(node: &mut OnnxNode, outputs: usize) -> Result<(usize, Vec<usize>)> {
    let shape = node.input_shape(0)?.to_vec();
    let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(0), shape.len())?;
    let Some(&size) = shape.get(axis) else { bail!(Shape, "axis {axis} of shape {shape:?}") };
    if node.take_int("num_outputs")?.is_some_and(|n| n != outputs as i64) {
        bail!(Invalid, "attribute \"num_outputs\" is not {outputs}");
    }
    let given = if node.opset < 13 { node.take_ints("split")? } else { node.take_input_ints(1)? };
    let sizes: Vec<usize> = match given {
        Some(list) => super::onnx_node::sizes("split", &list)?,
        None => {
            let chunk = size.div_ceil(outputs.max(1));
            (0..outputs).map(|i| chunk.min(size.saturating_sub(i * chunk))).collect()
        }
    };
    if sizes.len() != outputs || sizes.iter().sum::<usize>() != size || sizes.contains(&0) {
        bail!(Invalid, "a split of {size} elements into {sizes:?} for {outputs} outputs");
    }
    Ok((axis, sizes))
}

/// Adds the attribute `axis`.
pub(super) fn with_axis(node: OnnxNode, axis: usize) -> OnnxNode {
    node.with("axis", Attribute::Int(axis as i64))
}
