//! Elements picked by their position along each axis: what Slice, Pad and the nearest-neighbour Resize
//! become.

mod c;
pub mod int;
mod rust;

use super::{IntOperator, Lowering, Operand};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, strides};

/// For each axis the positions that are picked, `None` where there is nothing but `fill`.
#[derive(Clone, Debug, PartialEq)]
pub struct Picks {
    /// In ONNX's axis order.
    pub axes: Vec<Vec<Option<usize>>>,
    /// What stands where nothing is picked.
    pub fill: f32,
}

impl Picks {
    /// Shape of the result.
    pub fn shape(&self) -> Shape {
        self.axes.iter().map(Vec::len).collect()
    }

    /// Where each element of the result lies in a tensor of shape `shape`, if anywhere.
    pub fn indices(&self, shape: &[usize]) -> Vec<Option<usize>> {
        let strides = strides(shape);
        // Position of each element of the axes handled so far.
        let mut indices: Vec<Option<usize>> = vec![Some(0)];
        for (axis, stride) in self.axes.iter().zip(strides) {
            let step = |base: &Option<usize>| {
                let base = *base;
                axis.iter().map(move |i| Some(base? + (*i)? * stride))
            };
            indices = indices.iter().flat_map(step).collect();
        }
        indices
    }

    /// The picked elements of `x`.
    pub fn eval_f32(&self, x: &Tensor<f32>) -> Tensor<f32> {
        let indices = self.indices(x.shape());
        let data = indices.into_iter().map(|i| i.map_or(self.fill, |i| x.data()[i])).collect();
        Tensor::of(self.shape(), data)
    }

    /// The integer form, in whatever order argument and result lie in memory.
    pub fn lower(&self, node: &Lowering) -> Result<PickInt> {
        let (x, y): (Operand, Operand) = (node.inputs[0], node.output);
        let fill = y.quant.quantize(self.fill, 0);
        let loss = (y.quant.dequantize(fill, 0) - self.fill).abs();
        if loss.is_nan() || loss > y.scale() {
            bail!(Unsupported, "padding with {}, which is outside the input's range", self.fill);
        }
        if x.shape.iter().product::<usize>() >= int::NONE as usize {
            bail!(Range, "input of shape {:?} has more than 2^32 elements", x.shape);
        }
        let offsets =
            y.stored(&(0..self.axes.len()).collect::<Vec<_>>()).into_iter().flat_map(|axis| {
                let stride = x.strides()[axis];
                self.axes[axis].iter().map(move |i| i.map_or(int::NONE, |i| (i * stride) as u32))
            });
        Ok(PickInt { shape: y.stored_shape(), offsets: offsets.collect(), fill })
    }
}

/// See [`int::pick`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct PickInt {
    pub shape: Shape,
    pub offsets: Vec<u32>,
    pub fill: i32,
}

impl IntOperator for PickInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::pick(
            inputs[0],
            &self.shape,
            &self.offsets,
            X::code(0, self.fill, (self.fill, self.fill)),
            X::of(y),
        );
    }

    fn moves_codes(&self) -> bool {
        true
    }
}
