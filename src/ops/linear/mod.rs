//! Fully connected layer, `y = x · W + b`.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Gemm.html> and
//! <https://onnx.ai/onnx/operators/onnx__MatMul.html> with a constant `W`.
//! Integer form: Jacob et al. 2018, <https://arxiv.org/abs/1712.05877>, eq. 7.

mod c;
pub mod int;
mod rust;
mod sv;
#[cfg(test)]
mod tests;

use super::onnx_node::{Attribute, Input, OnnxNode};
use super::product::{Accumulator, accumulators, with_products};
use super::{Channels, Filters, IntOperator, Lowering, Operator, Role, expect_inputs};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::kernels::float::{Matrix, add_matmul};
use crate::tensor::{Shape, Tensor};

/// Arguments `x [.., in_ch]`, `weight [in_ch, out_ch]` and, optionally, `bias [out_ch]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The weight is stored as `[out_ch, in_ch]`.
    pub transposed: bool,
}

impl Linear {
    /// `[in_ch, out_ch]` of a weight of shape `weight`.
    pub fn channels(&self, weight: &[usize]) -> Option<[usize; 2]> {
        match (self.transposed, weight) {
            (false, &[i, o]) | (true, &[o, i]) => Some([i, o]),
            _ => None,
        }
    }
}

impl Operator for Linear {
    const ONNX: &'static [&'static str] = &["Gemm", "MatMul"];
    type Int = LinearInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        for (name, index) in [("alpha", 1), ("beta", 2)] {
            let factor = node.take_float(name)?.unwrap_or(1.0);
            match node.inputs.get(index) {
                Some(Some(Input::Real(t))) if factor != 1.0 || index == 2 => {
                    let scaled = t.map(|&x| x * factor);
                    node.replaced.insert(index, scaled);
                }
                Some(Some(Input::Codes(..))) if factor != 1.0 => {
                    node.scaled.insert(index, factor);
                }
                Some(Some(_)) if factor != 1.0 => {
                    bail!(Unsupported, "attribute \"{name}\" is {factor}, only 1 is known here")
                }
                _ => {}
            }
        }
        if let (x, "Gemm") = (node.input_shape(0)?, &node.op_type[..])
            && x.len() != 2
        {
            bail!(Shape, "expected an input of rank 2, got {x:?}");
        }
        if node.take_flag("transA")? {
            bail!(Unsupported, "attribute \"transA\" is 1, only 0 is known");
        }
        let linear = Self { transposed: node.take_flag("transB")? };
        if let (Some(bias), Some([_, out_ch])) = (
            node.replaced.get_mut(&2),
            linear.channels(node.inputs.get(1).and_then(Option::as_ref).map_or(&[], Input::shape)),
        ) {
            // One number for all channels, or a row of them, is one bias for each.
            *bias = match bias.data() {
                &[one] => Tensor::from_vec(vec![one; out_ch]),
                row if bias.shape().last() == Some(&row.len()) && row.len() == out_ch => {
                    Tensor::from_vec(row.to_vec())
                }
                _ => bail!(Unsupported, "bias of shape {:?}, expected [{out_ch}]", bias.shape()),
            };
        }
        Ok(linear)
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        // A bias is added by a node of its own then.
        if inputs[0].len() != 2 {
            return OnnxNode::new("MatMul");
        }
        OnnxNode::new("Gemm").with("transB", Attribute::Int(self.transposed as i64))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 2..=3)?;
        let Some([in_ch, out_ch]) = self.channels(inputs[1]) else {
            bail!(Shape, "expected a weight of rank 2, got {:?}", inputs[1]);
        };
        if let Some(bias) = inputs.get(2).filter(|b| **b != [out_ch]) {
            bail!(Shape, "expected {out_ch} biases, got shape {bias:?}");
        }
        match x.split_last() {
            Some((&last, rows)) if last == in_ch && !rows.is_empty() => {
                Ok(rows.iter().copied().chain([out_ch]).collect())
            }
            _ => bail!(Shape, "expected an input of [.., {in_ch}], got {x:?}"),
        }
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let (x, weight) = (inputs[0], inputs[1]);
        let Some([in_ch, out_ch]) = self.channels(weight.shape()) else {
            unreachable!("shapes are checked before evaluation");
        };
        let rows = x.data().len() / in_ch;
        let mut y = match inputs.get(2) {
            Some(bias) => bias.data().repeat(rows),
            None => vec![0.0; rows * out_ch],
        };
        let strides = if self.transposed { (1, in_ch) } else { (out_ch, 1) };
        let weight = Matrix { data: weight.data(), strides };
        let x_matrix = Matrix { data: x.data(), strides: (in_ch, 1) };
        add_matmul([rows, in_ch, out_ch], x_matrix, weight, &mut y);
        let mut shape = x.shape().to_vec();
        shape.splice(shape.len() - 1.., [out_ch]);
        Tensor::of(shape, y)
    }

    fn macs(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let in_ch = inputs[0].last().copied().unwrap_or(0);
        output.iter().product::<usize>() as u64 * in_ch as u64
    }

    fn role(&self, index: usize) -> Role {
        [Role::Activation, Role::Weight { axis: !self.transposed as usize }, Role::Bias][index]
    }

    fn channel_factors(&self, inputs: &[&[usize]], _: &[usize]) -> Channels {
        match (inputs[0].len(), inputs[1]) {
            (2, &[outer, inner]) => Channels::Weighted(Filters {
                shape: [outer, inner, 1],
                group: 1,
                inputs_first: !self.transposed,
            }),
            _ => Channels::Fixed,
        }
    }

    fn lower(&self, node: &mut Lowering) -> Result<LinearInt> {
        accumulators(node, |weight| match self.transposed {
            true => weight,
            false => weight.into_transposed(&[1, 0]),
        })
        .map(LinearInt)
    }
}

/// Owner of what [`int::linear`] borrows; the weight is `[out_ch, in_ch]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearInt(pub Accumulator);

impl IntOperator for LinearInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        with_products!(&self.0, products, A => int::linear::<_, _, _, A>(inputs[0], &products, y))
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.0.bound)
    }
}
