//! Elements around a tensor.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Pad.html>.

#[cfg(test)]
mod tests;

use super::onnx_node::{Attribute, Input, OnnxNode};
use super::pick::{PickInt, Picks};
use super::{Channels, Lowering, Operator, OutputParams, Wants, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// What stands in the padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// This number.
    Constant(f32),
    /// The tensor mirrored at its first and last element.
    Reflect,
    /// The nearest element.
    Edge,
    /// The tensor again.
    Wrap,
}

/// `before` and `after` each axis; a negative number takes elements away.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Number of elements before the first one, axis by axis.
    pub before: Vec<i64>,
    /// Number of elements behind the last one, axis by axis.
    pub after: Vec<i64>,
    /// What they are.
    pub mode: Mode,
}

impl Pad {
    /// Where the elements of the result lie in a tensor of shape `shape`; `None` for those around it.
    pub fn indices(&self, shape: &[usize]) -> Vec<Option<usize>> {
        self.picks(shape).indices(shape)
    }

    fn picks(&self, shape: &[usize]) -> Picks {
        let pick = |position: i64, size: usize| {
            let n = size as i64;
            match self.mode {
                Mode::Constant(_) => (0..n).contains(&position).then_some(position as usize),
                Mode::Edge => Some(position.clamp(0, n - 1) as usize),
                Mode::Wrap => Some(position.rem_euclid(n) as usize),
                Mode::Reflect if n == 1 => Some(0),
                Mode::Reflect => {
                    let in_period = position.rem_euclid(2 * (n - 1));
                    Some(in_period.min(2 * (n - 1) - in_period) as usize)
                }
            }
        };
        let axis = |((&size, before), after): ((&usize, &i64), &i64)| {
            (-before..size as i64 + after).map(|position| pick(position, size)).collect()
        };
        let axes = shape.iter().zip(&self.before).zip(&self.after).map(axis).collect();
        let fill = if let Mode::Constant(value) = self.mode { value } else { 0.0 };
        Picks { axes, fill }
    }
}

impl Operator for Pad {
    const ONNX: &'static [&'static str] = &["Pad"];
    const ORDER: Wants = Wants::Inherit;
    type Int = PickInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let rank = node.input_shape(0)?.len();
        let mode = node.take_string("mode")?;
        let (pads, value) = match node.opset < 11 {
            true => (node.take_ints("pads")?, node.take_float("value")?),
            false => (node.take_input_ints(1)?, node.take_input_number(2)?),
        };
        let mode = match mode.as_deref().unwrap_or("constant") {
            "constant" => Mode::Constant(value.unwrap_or(0.0)),
            "reflect" => Mode::Reflect,
            "edge" => Mode::Edge,
            "wrap" => Mode::Wrap,
            other => bail!(Invalid, "attribute \"mode\" is \"{other}\""),
        };
        let Some(pads) = pads else { bail!(Invalid, "the pads are missing") };
        let axes = match node.take_input_ints(3)? {
            Some(axes) => axes.iter().map(|&a| OnnxNode::axis(a, rank)).collect::<Result<_>>()?,
            None => (0..rank).collect::<Vec<_>>(),
        };
        if pads.len() != 2 * axes.len() || axes.iter().any(|&a| a >= rank) {
            bail!(Invalid, "{} pads for axes {axes:?} of a tensor of rank {rank}", pads.len());
        }
        if let Some(bad) = pads.iter().find(|p| p.unsigned_abs() >= 1 << 24) {
            bail!(Unsupported, "a pad of {bad} elements");
        }
        let mut pad = Self { before: vec![0; rank], after: vec![0; rank], mode };
        for (i, &axis) in axes.iter().enumerate() {
            (pad.before[axis], pad.after[axis]) = (pads[i], pads[i + axes.len()]);
        }
        Ok(pad)
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        let pads = self.before.iter().chain(&self.after).copied().collect();
        let (mode, value) = match self.mode {
            Mode::Constant(value) => ("constant", Some(value)),
            Mode::Reflect => ("reflect", None),
            Mode::Edge => ("edge", None),
            Mode::Wrap => ("wrap", None),
        };
        let mut node = OnnxNode::new("Pad").with("mode", Attribute::String(mode.into()));
        let value = value.and_then(|v| Some(Input::Real(Tensor::new([], vec![v]).ok()?)));
        node.inputs = vec![Some(Input::Ints(Tensor::from_vec(pads))), value];
        if self.mode == Mode::Wrap {
            node.opset = 19;
        }
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        if x.len() != self.before.len() {
            bail!(Shape, "expected an input of rank {}, got {x:?}", self.before.len());
        }
        let sizes = x.iter().zip(self.before.iter().zip(&self.after));
        let sizes = sizes.map(|(&size, (before, after))| size as i64 + before + after);
        let sizes: Vec<i64> = sizes.collect();
        match sizes.iter().all(|&s| s > 0) {
            true => Ok(sizes.into_iter().map(|s| s as usize).collect()),
            false => {
                bail!(Shape, "pads {:?} and {:?} leave nothing of {x:?}", self.before, self.after)
            }
        }
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        self.picks(inputs[0].shape()).eval_f32(inputs[0])
    }

    /// A constant among codes is itself a code.
    fn keeps_codes(&self) -> bool {
        !matches!(self.mode, Mode::Constant(_))
    }

    fn output_params(&self) -> OutputParams {
        OutputParams::SameAsInput
    }

    fn channel_factors(&self, inputs: &[&[usize]], _: &[usize]) -> Channels {
        match self.mode {
            Mode::Constant(value) if value != 0.0 => Channels::Fixed,
            _ => Channels::picked(self.picks(inputs[0]).axes.get(1)),
        }
    }

    fn lower(&self, node: &mut Lowering) -> Result<PickInt> {
        self.picks(node.inputs[0].shape).lower(node)
    }
}
