//! Mean over a sliding window, or over the whole image.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__AveragePool.html>,
//! <https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html>.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Attribute, OnnxNode};
use super::product::sum_bound;
use super::{
    Channels, IntOperator, Lowering, Operator, Order, Wants, Window, elements, expect_image,
    expect_inputs, image, multiplier, nhwc,
};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y = mean x` over each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AveragePool {
    /// Kernel, stride, padding.
    pub window: Window,
    /// Padding counts as 0 in the mean; otherwise only elements of the input count.
    pub count_include_pad: bool,
}

/// Until the version before, positions behind the padding were counted, too.
const FIRST_CLEAR: i64 = 19;

impl AveragePool {
    /// Whether a window of an input of shape `x` leaves the padded input, and counts what is padding.
    fn counts_beyond(&self, x: &[usize]) -> bool {
        let whole = Self { window: Window { ceil_mode: false, ..self.window }, ..*self };
        self.count_include_pad && self.infer_shape(&[x]).ok() != whole.infer_shape(&[x]).ok()
    }
}

impl Operator for AveragePool {
    const ONNX: &'static [&'static str] = &["AveragePool", "GlobalAveragePool"];
    const ORDER: Wants = Wants::Is(Order::ChannelsLast);
    type Int = AveragePoolInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        if node.op_type == "GlobalAveragePool" {
            let [_, _, h, w] = expect_image("input", node.input_shape(0)?)?;
            return Ok(Self { window: Window::new([h, w]), count_include_pad: false });
        }
        let count_include_pad = node.take_flag("count_include_pad")?;
        let ceil_mode = node.take_flag("ceil_mode")?;
        let window = Window { ceil_mode, ..Window::import(node, None)? };
        if window.dilation != [1; 2] {
            bail!(Unsupported, "attribute \"dilations\" is {:?}, only 1 is known", window.dilation);
        }
        let op = Self { window, count_include_pad };
        if node.opset < FIRST_CLEAR && op.counts_beyond(node.input_shape(0)?) {
            bail!(
                Unsupported,
                "attributes \"ceil_mode\" and \"count_include_pad\" are 1, which means one thing before \
                 opset {FIRST_CLEAR} and another since"
            );
        }
        Ok(op)
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let global = image(inputs[0]).map(|[_, _, h, w]| Window::new([h, w]));
        if global == Some(self.window) && !self.count_include_pad {
            return OnnxNode::new("GlobalAveragePool");
        }
        let mut node = self.window.export(OnnxNode::new("AveragePool"), inputs[0].len());
        if self.counts_beyond(inputs[0]) {
            node.opset = FIRST_CLEAR;
        }
        node.with("count_include_pad", Attribute::Int(self.count_include_pad as i64))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        self.window.pooled_shape(expect_inputs(inputs, 1..=1)?)
    }

    /// An element of a window takes as long as some products.
    fn work(&self, _: &[&[usize]], output: &[usize]) -> u64 {
        elements(output).saturating_mul(elements(&self.window.kernel)).saturating_mul(4)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        self.window.pool(inputs[0], |window, padded| {
            let (sum, count) = window.fold((0.0f64, 0), |(s, n), x| (s + x as f64, n + 1));
            (sum / if self.count_include_pad { padded } else { count } as f64) as f32
        })
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        Channels::mean(inputs, output, self.window.kernel.iter().product())
    }

    fn lower(&self, node: &mut Lowering) -> Result<AveragePoolInt> {
        let (x, y) = (node.inputs[0], node.output);
        let Window { kernel, stride, pads, .. } = self.window;
        let params = int::Params {
            x_shape: nhwc(&x)?,
            y_shape: nhwc(&y)?,
            kernel,
            stride,
            pads,
            count_include_pad: self.count_include_pad,
            multiplier: multiplier(x.scale() / y.scale())?,
            x_zero_point: x.zero_point(),
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
        };
        Ok(AveragePoolInt { params, bound: sum_bound(&x, kernel[0] * kernel[1])? })
    }
}

/// See [`int::Params`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct AveragePoolInt {
    pub params: int::Params,
    pub bound: i64,
}

record!(
    int::Params,
    "average_pool::Params",
    x_shape,
    y_shape,
    kernel,
    stride,
    pads,
    count_include_pad,
    multiplier,
    x_zero_point,
    y_zero_point,
    clamp
);

impl IntOperator for AveragePoolInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::average_pool(inputs[0], &self.params, y);
    }

    fn computes_first(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
