//! Convolution in one and two dimensions, grouped and dilated.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Conv.html>.
//! Integer form: Jacob et al. 2018, <https://arxiv.org/abs/1712.05877>, eq. 7.

mod c;
pub mod float;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::language::{ToValue, record};
use float::{Group, Scratch, biases};

use super::onnx_node::{Attribute, OnnxNode};
use super::product::{Accumulator, accumulators, with_products};
use super::{
    Channels, Filters, IntOperator, Lowering, Operator, Order, Role, Wants, Window, accepted,
    elements, expect_image, expect_inputs, image, nhwc, of_rank,
};
use crate::arith::Products;
use crate::codes::{CodeTensor, CodeType};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y = x ∗ weight + bias`; arguments `x [n, in_ch, h, w]`, `weight [out_ch, in_ch / group, kh, kw]`
/// and, optionally, `bias [out_ch]`; or the like without `h` and `kh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Kernel, stride, padding.
    pub window: Window,
    /// Number of groups that channels are divided into; `in_ch` makes it depthwise.
    pub group: usize,
}

impl Operator for Conv {
    const ONNX: &'static [&'static str] = &["Conv"];
    const ORDER: Wants = Wants::Is(Order::ChannelsLast);
    type Int = ConvInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let [_, _, kh, kw] = expect_image("weight", node.input_shape(1)?)?;
        if kh == 0 || kw == 0 {
            bail!(Invalid, "weight of shape {:?} is empty", node.input_shape(1)?);
        }
        let group = node.take_int("group")?.unwrap_or(1);
        let Some(group) = usize::try_from(group).ok().filter(|&g| g > 0) else {
            bail!(Invalid, "attribute \"group\": {group} is not a number of groups");
        };
        Ok(Self { window: Window::import(node, Some([kh, kw]))?, group })
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let node = self.window.export(OnnxNode::new("Conv"), inputs[0].len());
        node.with("group", Attribute::Int(self.group as i64))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 2..=3)?;
        let [n, in_ch, h, w] = expect_image("input", x)?;
        let [out_ch, per_group, kh, kw] = expect_image("weight", inputs[1])?;
        if x.len() != inputs[1].len() {
            bail!(Shape, "input of shape {x:?} and weight of shape {:?}", inputs[1]);
        }
        if per_group.checked_mul(self.group) != Some(in_ch) {
            let group = self.group;
            bail!(Shape, "expected {per_group} x {group} groups input channels, got {in_ch}");
        }
        if out_ch % self.group != 0 || per_group == 0 {
            bail!(Shape, "{out_ch} output channels do not divide into {} groups", self.group);
        }
        if [kh, kw] != self.window.kernel {
            bail!(Shape, "expected a kernel of {:?}, got {:?}", self.window.kernel, [kh, kw]);
        }
        if let Some(bias) = inputs.get(2).filter(|b| **b != [out_ch]) {
            bail!(Shape, "expected {out_ch} biases, got shape {bias:?}");
        }
        let [oh, ow] = self.window.output([h, w])?;
        Ok(of_rank(x.len(), [n, out_ch, oh, ow]))
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
        let y_shape = accepted(self.infer_shape(&shapes));
        let (Some([n, in_ch, h, w]), Some([_, out_ch, oh, ow])) =
            (image(x.shape()), image(&y_shape))
        else {
            unreachable!("shapes are checked before evaluation");
        };
        let out = [oh, ow];
        let mut y = biases(n, out_ch, out[0] * out[1], bias.map(|bias| bias.data()));
        let g = Group { in_ch: in_ch / self.group, out_ch: out_ch / self.group, size: [h, w], out };
        let (x_len, y_len) = (g.in_ch * h * w, (g.out_ch * out[0] * out[1]).max(1));
        let w_len = weight.data().len() / self.group;
        let mut scratch = Scratch::default();
        let (x, weight) = (x.data(), weight.data());
        for (i, y) in y.chunks_exact_mut(y_len).enumerate() {
            let x = &x[i * x_len..][..x_len];
            let weight = &weight[i % self.group * w_len..][..w_len];
            self.add_products(g, x, weight, y, &mut scratch);
        }
        Tensor::of(y_shape, y)
    }

    fn macs(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let per_output: usize = inputs[1][1..].iter().product();
        output.iter().product::<usize>() as u64 * per_output as u64
    }

    /// Beside the products, a group of an image takes as long as some hundred of them, and its planes may be
    /// written out with padding.
    fn work(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let Window { kernel, stride, dilation, .. } = self.window;
        let size = image(output).unwrap_or_default();
        let seen = |axis: usize| {
            let results = (size[2 + axis] as u64).saturating_sub(1);
            let taps = (kernel[axis] as u64 - 1).saturating_mul(dilation[axis] as u64);
            results.saturating_mul(stride[axis] as u64).saturating_add(taps).saturating_add(1)
        };
        let planes = elements(&inputs[0][..2]).saturating_mul(seen(0).saturating_mul(seen(1)));
        let groups = (inputs[0][0] * self.group) as u64;
        let results = self.macs(inputs, output).saturating_add(elements(output));
        results.saturating_add(planes).saturating_add(128 * groups)
    }

    fn role(&self, index: usize) -> Role {
        [Role::Activation, Role::Weight { axis: 0 }, Role::Bias][index]
    }

    fn channel_factors(&self, inputs: &[&[usize]], _: &[usize]) -> Channels {
        let Some([outer, inner, h, w]) = image(inputs[1]) else { return Channels::Fixed };
        let shape = [outer, inner, h * w];
        Channels::Weighted(Filters { shape, group: self.group, inputs_first: false })
    }

    fn lower(&self, node: &mut Lowering) -> Result<ConvInt> {
        Ok(ConvInt {
            acc: accumulators(node, |weight| as_image(weight).into_transposed(&[0, 2, 3, 1]))?,
            x_shape: nhwc(&node.inputs[0])?,
            y_shape: nhwc(&node.output)?,
            conv: *self,
        })
    }
}

/// The codes of a kernel with height and width.
pub(super) fn as_image(weight: CodeTensor) -> CodeTensor {
    match image(weight.shape()) {
        Some(shape) => accepted(weight.reshape(shape)),
        None => weight,
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvInt {
    /// Weights `[out_ch, kh, kw, in_ch / group]`, biases, multipliers, zero points, clamp.
    pub acc: Accumulator,
    /// `[n, h, w, in_ch]`.
    pub x_shape: [usize; 4],
    /// `[n, oh, ow, out_ch]`.
    pub y_shape: [usize; 4],
    /// Window and groups.
    pub conv: Conv,
}

impl ConvInt {
    fn params<'a, W>(&self, products: Products<'a, W>) -> int::Params<'a, W> {
        let Window { kernel, stride, dilation, pads: [top, left, ..], .. } = self.conv.window;
        let (x_shape, y_shape, pad, group) =
            (self.x_shape, self.y_shape, [top, left], self.conv.group);
        int::Params { products, x_shape, y_shape, kernel, stride, dilation, pad, group }
    }
}

record!(
    [W: ToValue] int::Params<'_, W>, "conv::Params",
    products, x_shape, y_shape, kernel, stride, dilation, pad, group
);

impl IntOperator for ConvInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        with_products!(&self.acc, products, A => {
            int::conv::<_, _, _, A>(inputs[0], &self.params(products), y);
        })
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.acc.bound)
    }
}
