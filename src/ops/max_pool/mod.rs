//! Maximum over a sliding window.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__MaxPool.html>.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::OnnxNode;
use super::{
    Channels, IntOperator, Lowering, Operator, Order, OutputParams, Wants, Window, elements,
    expect_inputs, nhwc,
};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y = max x` over each window; padding does not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool(pub Window);

impl Operator for MaxPool {
    const ONNX: &'static [&'static str] = &["MaxPool"];
    const ORDER: Wants = Wants::Is(Order::ChannelsLast);
    type Int = MaxPoolInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        if node.take_flag("storage_order")? {
            bail!(Unsupported, "attribute \"storage_order\" is 1, only 0 is known");
        }
        let ceil_mode = node.take_flag("ceil_mode")?;
        Ok(Self(Window { ceil_mode, ..Window::import(node, None)? }))
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        self.0.export(OnnxNode::new("MaxPool"), inputs[0].len())
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        self.0.pooled_shape(expect_inputs(inputs, 1..=1)?)
    }

    /// An element of a window takes as long as some products.
    fn work(&self, _: &[&[usize]], output: &[usize]) -> u64 {
        elements(output).saturating_mul(elements(&self.0.kernel)).saturating_mul(4)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        self.0.pool(inputs[0], |window, _| {
            // `f32::max` would drop a NaN.
            window.fold(f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b })
        })
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::SameAsInput
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        Channels::same(inputs, output)
    }

    fn lower(&self, node: &mut Lowering) -> Result<MaxPoolInt> {
        let Window { kernel, stride, dilation, pads: [top, left, ..], .. } = self.0;
        let (x_shape, y_shape) = (nhwc(&node.inputs[0])?, nhwc(&node.output)?);
        Ok(MaxPoolInt(int::Params { x_shape, y_shape, kernel, stride, dilation, pad: [top, left] }))
    }
}

/// See [`int::Params`].
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPoolInt(pub int::Params);

record!(int::Params, "max_pool::Params", x_shape, y_shape, kernel, stride, dilation, pad);

impl IntOperator for MaxPoolInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::max_pool(inputs[0], &self.0, X::of(y));
    }

    fn computes_first(&self) -> bool {
        true
    }
}
