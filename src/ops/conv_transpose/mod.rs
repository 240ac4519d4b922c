//! Transposed convolution in one and two dimensions: each input element adds a scaled kernel to the output.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::conv::as_image;
use super::conv::float::biases;
use super::language::{ToValue, record};
use super::onnx_node::{Attribute, OnnxNode};
use super::product::{Accumulator, accumulators, with_products};
use super::{
    Channels, Filters, IntOperator, Lowering, Operator, Order, Role, Wants, Window, accepted,
    expect_image, expect_inputs, image, nhwc, of_rank,
};
use crate::arith::Products;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::kernels::float::{FloatSums, Line};
use crate::tensor::{Shape, Tensor};

/// Arguments `x [n, in_ch, h, w]`, `weight [in_ch, out_ch / group, kh, kw]` and, optionally,
/// `bias [out_ch]`; or the like without `h` and `kh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Kernel, stride and dilation; `pads` are cut off the output.
    pub window: Window,
    /// Rows and columns added at the end of the output.
    pub output_padding: [usize; 2],
    /// Number of groups that channels are divided into.
    pub group: usize,
}

impl ConvTranspose {
    fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let Window { kernel, stride, dilation, pads, .. } = self.window;
        let axis = |a: usize| {
            let full = (size[a] - 1) * stride[a]
                + (kernel[a] - 1) * dilation[a]
                + 1
                + self.output_padding[a];
            full.checked_sub(pads[a] + pads[a + 2]).filter(|&out| out > 0)
        };
        Some([axis(0)?, axis(1)?])
    }

    /// The rows of the input of `size` that meet the output `out` by this tap, as far as they do.
    fn lines(&self, tap: usize, size: [usize; 2], out: [usize; 2]) -> Vec<Line> {
        let Window { kernel: [_, kw], stride, dilation, pads, .. } = self.window;
        let inside = |axis: usize, k: usize| {
            let ahead = k * dilation[axis];
            let first = pads[axis].saturating_sub(ahead).div_ceil(stride[axis]);
            let end = (out[axis] + pads[axis]).saturating_sub(ahead).div_ceil(stride[axis]);
            let place = move |i: usize| i * stride[axis] + ahead - pads[axis];
            (first..end.min(size[axis]), place)
        };
        let ((rows, row), (columns, column)) = (inside(0, tap / kw), inside(1, tap % kw));
        let (first, len) = (columns.start, columns.len());
        let line = |iy| Line { x: iy * size[1] + first, y: row(iy) * out[1] + column(first), len };
        if len == 0 { vec![] } else { rows.map(line).collect() }
    }
}

impl Operator for ConvTranspose {
    const ONNX: &'static [&'static str] = &["ConvTranspose"];
    const ORDER: Wants = Wants::Is(Order::ChannelsLast);
    type Int = ConvTransposeInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let [_, _, h, w] = expect_image("input", node.input_shape(0)?)?;
        let [_, _, kh, kw] = expect_image("weight", node.input_shape(1)?)?;
        let axes = node.input_shape(0)?.len() - 2;
        let group = node.take_int("group")?.unwrap_or(1);
        let Some(group) = usize::try_from(group).ok().filter(|&g| g > 0) else {
            bail!(Invalid, "attribute \"group\": {group} is not a number of groups");
        };
        let output_padding = node.take_pair("output_padding", axes, 0)?;
        let output_shape = node.take_pair("output_shape", axes, 1)?;
        let auto_pad = node.take_string("auto_pad")?;
        let same = matches!(auto_pad.as_deref(), Some("SAME_UPPER" | "SAME_LOWER"));
        if let Some(other) = auto_pad.as_ref().filter(|_| !same) {
            node.attributes.insert("auto_pad".into(), Attribute::String(other.clone()));
        }
        let window = Window::import(node, Some([kh, kw]))?;
        if let Some(mode) = auto_pad.as_ref().filter(|_| same && window.pads != [0; 4]) {
            bail!(Invalid, "attributes \"auto_pad\" \"{mode}\" and \"pads\" {:?}", window.pads);
        }
        let mut op = Self { window, output_padding: output_padding.unwrap_or([0; 2]), group };
        let wanted = match (output_shape, same) {
            (None, true) => Some([h * op.window.stride[0], w * op.window.stride[1]]),
            (wanted, _) => wanted,
        };
        if let Some(wanted) = wanted {
            op.window.pads = [0; 4];
            let Some(full) = op.output([h, w]) else { bail!(Shape, "the kernel does not fit") };
            for axis in 0..2 {
                let Some(total) = full[axis].checked_sub(wanted[axis]) else {
                    bail!(Unsupported, "output of {wanted:?} is larger than {full:?}");
                };
                let small = total / 2;
                let upper = auto_pad.as_deref() == Some("SAME_UPPER");
                let begin = if upper { small } else { total - small };
                (op.window.pads[axis], op.window.pads[axis + 2]) = (begin, total - begin);
            }
        }
        Ok(op)
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let rank = inputs[0].len();
        let node = self.window.export(OnnxNode::new("ConvTranspose"), rank);
        node.with("group", Attribute::Int(self.group as i64))
            .with_ints("output_padding", &self.output_padding[4 - rank..])
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 2..=3)?;
        let [n, in_ch, h, w] = expect_image("input", x)?;
        let [weight_in, per_group, kh, kw] = expect_image("weight", inputs[1])?;
        if x.len() != inputs[1].len() {
            bail!(Shape, "input of shape {x:?} and weight of shape {:?}", inputs[1]);
        }
        if weight_in != in_ch || in_ch % self.group != 0 {
            bail!(
                Shape,
                "expected {weight_in} input channels in {} groups, got {in_ch}",
                self.group
            );
        }
        if [kh, kw] != self.window.kernel {
            bail!(Shape, "expected a kernel of {:?}, got {:?}", self.window.kernel, [kh, kw]);
        }
        let out_ch = per_group * self.group;
        if let Some(bias) = inputs.get(2).filter(|b| **b != [out_ch]) {
            bail!(Shape, "expected {out_ch} biases, got shape {bias:?}");
        }
        match self.output([h, w]) {
            Some([oh, ow]) => Ok(of_rank(x.len(), [n, out_ch, oh, ow])),
            None => bail!(Shape, "pads {:?} leave nothing of the output", self.window.pads),
        }
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
        let shape = accepted(self.infer_shape(&shapes));
        let (Some([n, in_ch, h, w]), Some([_, out_ch, oh, ow])) = (image(x.shape()), image(&shape))
        else {
            unreachable!("shapes are checked before evaluation");
        };
        let out = [oh, ow];
        let (in_per_group, rows) = (in_ch / self.group, out_ch / self.group);
        let mut y = biases(n, out_ch, out[0] * out[1], bias.map(|bias| bias.data()));
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let offsets: Vec<usize> = (0..in_per_group).map(|c| c * h * w).collect();
        for (i, y) in y.chunks_exact_mut(rows * out[0] * out[1]).enumerate() {
            let x = &x.data()[i * in_per_group * h * w..][..in_per_group * h * w];
            let weight = &weight.data()[i % self.group * in_per_group * rows * taps..];
            for tap in 0..taps {
                let sums = FloatSums {
                    rows,
                    w: &weight[tap..],
                    w_row: taps,
                    w_term: rows * taps,
                    x,
                    x_step: 1,
                    offsets: &offsets,
                    lines: &self.lines(tap, [h, w], out),
                    y_row: out[0] * out[1],
                    y_step: self.window.stride[1],
                };
                sums.add_to(y);
            }
        }
        Tensor::of(shape, y)
    }

    fn macs(&self, inputs: &[&[usize]], _: &[usize]) -> u64 {
        let per_input: usize = inputs[1][1..].iter().product();
        inputs[0].iter().product::<usize>() as u64 * per_input as u64
    }

    fn role(&self, index: usize) -> Role {
        [Role::Activation, Role::Weight { axis: 1 }, Role::Bias][index]
    }

    fn channel_factors(&self, inputs: &[&[usize]], _: &[usize]) -> Channels {
        let Some([outer, inner, h, w]) = image(inputs[1]) else { return Channels::Fixed };
        let shape = [outer, inner, h * w];
        Channels::Weighted(Filters { shape, group: self.group, inputs_first: true })
    }

    fn lower(&self, node: &mut Lowering) -> Result<ConvTransposeInt> {
        let acc = accumulators(node, |weight| {
            // [in_ch, out_ch / group, kh, kw] → [out_ch, kh, kw, in_ch / group]
            let weight = as_image(weight);
            let &[in_ch, per_group, kh, kw] = weight.shape() else { return weight };
            let split = [self.group, in_ch / self.group, per_group, kh, kw];
            let grouped = accepted(weight.reshape(split));
            let moved = grouped.into_transposed(&[0, 2, 3, 4, 1]);
            let shape = [self.group * per_group, kh, kw, in_ch / self.group];
            accepted(moved.reshape(shape))
        })?;
        let (x_shape, y_shape) = (nhwc(&node.inputs[0])?, nhwc(&node.output)?);
        Ok(ConvTransposeInt { acc, x_shape, y_shape, conv: *self })
    }
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTransposeInt {
    /// Weights `[out_ch, kh, kw, in_ch / group]`, biases, multipliers, zero points, clamp.
    pub acc: Accumulator,
    /// `[n, h, w, in_ch]`.
    pub x_shape: [usize; 4],
    /// `[n, oh, ow, out_ch]`.
    pub y_shape: [usize; 4],
    /// Window and groups.
    pub conv: ConvTranspose,
}

impl ConvTransposeInt {
    fn params<'a, W>(&self, products: Products<'a, W>) -> int::Params<'a, W> {
        let Window { kernel, stride, dilation, pads: [top, left, ..], .. } = self.conv.window;
        let (x_shape, y_shape, pad, group) =
            (self.x_shape, self.y_shape, [top, left], self.conv.group);
        int::Params { products, x_shape, y_shape, kernel, stride, dilation, pad, group }
    }
}

record!(
    [W: ToValue] int::Params<'_, W>, "conv_transpose::Params",
    products, x_shape, y_shape, kernel, stride, dilation, pad, group
);

impl IntOperator for ConvTransposeInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        with_products!(&self.acc, products, A => {
            int::conv_transpose::<_, _, _, A>(inputs[0], &self.params(products), y);
        })
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.acc.bound)
    }
}
