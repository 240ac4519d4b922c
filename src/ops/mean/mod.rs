//! Mean along axes, which stay with size 1.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__ReduceMean.html>; the importer adds a reshape where axes
//! are dropped.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Attribute, Input, OnnxNode};
use super::product::sum_bound;
use super::{
    Channels, IntOperator, Lowering, Operator, Wants, accepted, elements, expect_inputs, multiplier,
};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, strided_indices, strides};
pub use sv::{MEAN, Sums, emit_mean};

/// `y = mean x` along `axes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mean {
    /// For each axis, whether it is averaged.
    pub reduced: Vec<bool>,
}

impl Mean {
    /// The axes that stay and those that are averaged, as `(sizes, strides)` each.
    fn split(
        &self,
        shape: &[usize],
        strides: &[usize],
        reduced: &[bool],
    ) -> [(Shape, Vec<usize>); 2] {
        [false, true].map(|which| {
            let axes = shape.iter().zip(strides).zip(reduced);
            axes.filter(|(_, r)| **r == which).map(|((&size, &stride), _)| (size, stride)).unzip()
        })
    }
}

impl Operator for Mean {
    const ONNX: &'static [&'static str] = &["ReduceMean"];
    const ORDER: Wants = Wants::Inherit;
    type Int = MeanInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let rank = node.input_shape(0)?.len();
        let axes = if node.opset < 18 { node.take_ints("axes")? } else { node.take_input_ints(1)? };
        let none = node.take_flag("noop_with_empty_axes")?;
        let axes = axes.unwrap_or_default();
        let mut reduced = vec![axes.is_empty() && !none; rank];
        for axis in axes {
            match reduced.get_mut(OnnxNode::axis(axis, rank)?) {
                Some(reduced) => *reduced = true,
                None => bail!(Shape, "axis {axis} of a tensor of rank {rank}"),
            }
        }
        Ok(Self { reduced })
    }

    fn export(&self, _: &[&[usize]], opset: i64) -> OnnxNode {
        let axes: Vec<usize> = (0..self.reduced.len()).filter(|&a| self.reduced[a]).collect();
        let mut node = OnnxNode::new("ReduceMean").with("keepdims", Attribute::Int(1));
        if opset < 18 {
            return node.with_ints("axes", &axes);
        }
        let axes = axes.into_iter().map(|a| a as i64).collect();
        node.inputs = vec![Some(Input::Ints(Tensor::from_vec(axes)))];
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        if x.len() != self.reduced.len() {
            bail!(Shape, "expected an input of rank {}, got {x:?}", self.reduced.len());
        }
        if !self.reduced.contains(&true) {
            bail!(Unsupported, "a mean along no axis"); // an empty list of axes stands for all
        }
        Ok(x.iter().zip(&self.reduced).map(|(&size, &r)| if r { 1 } else { size }).collect())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let x = inputs[0];
        let [kept, reduced] = self.split(x.shape(), &strides(x.shape()), &self.reduced);
        let window: Vec<usize> = strided_indices(reduced.0, reduced.1).collect();
        let mean = |first: usize| {
            let sum: f64 = window.iter().map(|i| x.data()[first + i] as f64).sum();
            (sum / window.len() as f64) as f32
        };
        let y = strided_indices(kept.0, kept.1).map(mean).collect();
        Tensor::of(accepted(self.infer_shape(&[x.shape()])), y)
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        match self.reduced.get(1) {
            Some(false) => {
                let count = elements(inputs[0]) / elements(output).max(1);
                Channels::mean(inputs, output, count as usize)
            }
            _ => Channels::Fixed,
        }
    }

    fn lower(&self, node: &mut Lowering) -> Result<MeanInt> {
        let (x, y) = (node.inputs[0], node.output);
        let in_memory: Vec<bool> = y
            .stored(&(0..self.reduced.len()).collect::<Vec<_>>())
            .iter()
            .map(|&a| self.reduced[a])
            .collect();
        let [kept, reduced] = self.split(&y.stored(x.shape), &y.stored(&x.strides()), &in_memory);
        let bound = sum_bound(&x, reduced.0.iter().product())?;
        Ok(MeanInt {
            bound,
            kept,
            reduced,
            multiplier: multiplier(x.scale() / y.scale())?,
            x_zero_point: x.zero_point(),
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
        })
    }
}

/// Owner of what [`int::Params`] borrows; axes are `(sizes, strides)`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MeanInt {
    pub kept: (Shape, Vec<usize>),
    pub reduced: (Shape, Vec<usize>),
    pub multiplier: Multiplier,
    pub x_zero_point: i32,
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub bound: i64,
}

impl MeanInt {
    fn params(&self) -> int::Params<'_> {
        int::Params {
            kept: &self.kept.0,
            kept_strides: &self.kept.1,
            reduced: &self.reduced.0,
            reduced_strides: &self.reduced.1,
            count: self.reduced.0.iter().product(),
            multiplier: self.multiplier,
            x_zero_point: self.x_zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
        }
    }
}

record!(
    int::Params<'_>,
    "mean::Params",
    kept,
    kept_strides,
    reduced,
    reduced_strides,
    count,
    multiplier,
    x_zero_point,
    y_zero_point,
    clamp
);

impl IntOperator for MeanInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::mean(inputs[0], &self.params(), y);
    }

    fn computes_first(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
