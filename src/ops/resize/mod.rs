//! Another height and width: nearest neighbour or linear interpolation.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__Resize.html>,
//! <https://onnx.ai/onnx/operators/onnx__Upsample.html>.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Attribute, Input, OnnxNode, sizes};
use super::pick::{PickInt, Picks};
use super::{
    Channels, IntOperator, Lowering, Operator, Order, OutputParams, Wants, expect_inputs, image,
    multiplier, nhwc,
};
use crate::arith::Multiplier;
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::quant::Width;
use crate::tensor::{Shape, Tensor};
use int::{Between, weight_bits};

/// How an output position becomes an input position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Coordinates {
    HalfPixel,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// Which neighbour is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// What is computed between positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The nearest element.
    Nearest(Nearest),
    /// The weighted mean of the two neighbours along each axis.
    Linear,
}

/// `[n, c, h, w]` to `[n, c, oh, ow]`, or `[n, c, w]` to `[n, c, ow]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Interpolation.
    pub mode: Mode,
    /// How positions map.
    pub coordinates: Coordinates,
    /// Shape of the result.
    pub shape: Shape,
    /// Result size by input size, axis by axis, as given in the file.
    pub scales: Vec<f32>,
}

impl Resize {
    /// The input position of output position `o` along `axis`, in `f32` as the field's engines do.
    fn position(&self, o: usize, axis: usize, size: usize) -> f32 {
        let (o, scale, out) = (o as f32, self.scales[axis], self.shape[axis]);
        match self.coordinates {
            Coordinates::HalfPixel => (o + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel if out > 1 => (o + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::AlignCorners if out > 1 => o * (size - 1) as f32 / (out - 1) as f32,
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => o / scale,
        }
    }

    fn picks(&self, shape: &[usize], nearest: Nearest) -> Picks {
        let pick = |o, axis, size: usize| {
            let x: f32 = self.position(o, axis, size);
            let rounded = match nearest {
                Nearest::RoundPreferFloor => (x - 0.5).ceil(),
                Nearest::RoundPreferCeil => (x + 0.5).floor(),
                Nearest::Floor => x.floor(),
                Nearest::Ceil => x.ceil(),
            };
            Some((rounded.max(0.0) as usize).min(size - 1))
        };
        let axes = shape.iter().enumerate();
        let axes =
            axes.map(|(axis, &size)| (0..self.shape[axis]).map(|o| pick(o, axis, size)).collect());
        Picks { axes: axes.collect(), fill: 0.0 }
    }

    /// Neighbours of each output position along an axis of `x`, counted from the last one, and the weight of
    /// the upper one.
    fn neighbours(&self, x: &[usize], from_last: usize) -> Vec<(usize, usize, f32)> {
        let axis = x.len() - 1 - from_last;
        if axis < 2 {
            return vec![(0, 0, 0.0)]; // the one line of a sequence
        }
        let (size, last) = (x[axis], x[axis] - 1);
        let neighbour = |o| {
            let x = self.position(o, axis, size).clamp(0.0, last as f32);
            let low = x.floor();
            (low as usize, (low as usize + 1).min(last), x - low)
        };
        (0..self.shape[axis]).map(neighbour).collect()
    }
}

/// What a scale makes of an axis of `size`, where that is known: with aligned corners the specification
/// computes with a fractional size, engines with the whole one.
fn scaled(coordinates: Coordinates, size: usize, scale: f32) -> Option<usize> {
    let out = size as f32 * scale;
    let fractional = coordinates == Coordinates::AlignCorners && out.fract() != 0.0;
    ((1e-3..1e3).contains(&scale) && !fractional).then_some(out.floor() as usize)
}

impl Operator for Resize {
    const ONNX: &'static [&'static str] = &["Resize", "Upsample"];
    const ORDER: Wants = Wants::Is(Order::ChannelsLast);
    type Int = ResizeInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let input = node.input_shape(0)?.to_vec();
        let upsample = node.op_type == "Upsample";
        let mode = node.take_string("mode")?;
        let nearest = node.take_string("nearest_mode")?;
        let coordinates = node.take_string("coordinate_transformation_mode")?;
        let simple = upsample || node.opset < 11;
        let coordinates = match coordinates.as_deref() {
            None if simple => Coordinates::Asymmetric,
            None | Some("half_pixel") => Coordinates::HalfPixel,
            Some("pytorch_half_pixel") => Coordinates::PytorchHalfPixel,
            Some("align_corners") => Coordinates::AlignCorners,
            Some("asymmetric") => Coordinates::Asymmetric,
            Some(other) => {
                bail!(Unsupported, "attribute \"coordinate_transformation_mode\" \"{other}\"")
            }
        };
        let nearest = match nearest.as_deref() {
            None if simple => Nearest::Floor,
            None | Some("round_prefer_floor") => Nearest::RoundPreferFloor,
            Some("round_prefer_ceil") => Nearest::RoundPreferCeil,
            Some("floor") => Nearest::Floor,
            Some("ceil") => Nearest::Ceil,
            Some(other) => bail!(Invalid, "attribute \"nearest_mode\" is \"{other}\""),
        };
        let mode = match mode.as_deref() {
            None | Some("nearest") => Mode::Nearest(nearest),
            Some("linear" | "bilinear") => Mode::Linear,
            Some(other) => bail!(Unsupported, "attribute \"mode\" \"{other}\""),
        };
        for name in ["antialias", "exclude_outside"] {
            if node.take_flag(name)? {
                bail!(Unsupported, "attribute \"{name}\"");
            }
        }
        // Only of cubic interpolation, and of a mode that is refused.
        node.take_float("cubic_coeff_a")?;
        node.take_float("extrapolation_value")?;
        if let Some(policy) =
            node.take_string("keep_aspect_ratio_policy")?.filter(|p| p != "stretch")
        {
            bail!(Unsupported, "attribute \"keep_aspect_ratio_policy\" \"{policy}\"");
        }
        let axes = match node.take_ints("axes")? {
            Some(axes) => {
                axes.iter().map(|&a| OnnxNode::axis(a, input.len())).collect::<Result<_>>()?
            }
            None => (0..input.len()).collect::<Vec<_>>(),
        };
        let scales = match (upsample && node.opset < 9, simple) {
            (true, _) => match node.attributes.remove("scales") {
                Some(Attribute::Floats(scales)) => Some(scales),
                _ => bail!(Invalid, "attribute \"scales\" is missing"),
            },
            (false, true) => node.take_input_reals(1)?,
            (false, false) => {
                node.take_input_reals(1)?; // the region of interest, of a mode that is refused
                node.take_input_reals(2)?
            }
        };
        let target = if simple { None } else { node.take_input_ints(3)? };
        let mut resize =
            Self { mode, coordinates, shape: input.clone(), scales: vec![1.0; input.len()] };
        // An empty list stands for one that is absent.
        let scales = scales.filter(|scales| !scales.is_empty());
        let target = target.filter(|target| !target.is_empty());
        if scales.is_some() && target.is_some() {
            bail!(Invalid, "both scales and sizes are given");
        }
        let count = scales.as_ref().map(Vec::len).or(target.as_ref().map(Vec::len));
        if count != Some(axes.len()) || axes.iter().any(|&a| a >= input.len()) {
            bail!(
                Invalid,
                "expected scales or sizes for axes {axes:?}, got {}",
                count.unwrap_or(0)
            );
        }
        for (i, &axis) in axes.iter().enumerate() {
            let size = input[axis];
            match (&target, &scales) {
                (Some(target), _) => {
                    resize.shape[axis] = sizes("sizes", target)?[i];
                    resize.scales[axis] = resize.shape[axis] as f32 / size as f32;
                }
                (None, scales) => {
                    let scale = scales.as_ref().map_or(1.0, |scales| scales[i]);
                    let Some(out) = scaled(coordinates, size, scale) else {
                        bail!(Unsupported, "scale {scale} of an axis of {size}");
                    };
                    (resize.shape[axis], resize.scales[axis]) = (out, scale);
                }
            }
        }
        if simple && mode != Mode::Linear && resize.scales.iter().any(|&s| s < 1.0) {
            // Engines pick the upper neighbour here, the specification does not say.
            bail!(Unsupported, "downsampling by {:?} before opset 11", resize.scales);
        }
        Ok(resize)
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let text = |s: &str| Attribute::String(s.into());
        let coordinates = match self.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
            Coordinates::AlignCorners => "align_corners",
            Coordinates::Asymmetric => "asymmetric",
        };
        let mut node =
            OnnxNode::new("Resize").with("coordinate_transformation_mode", text(coordinates));
        node = match self.mode {
            Mode::Linear => node.with("mode", text("linear")),
            Mode::Nearest(nearest) => {
                let nearest = match nearest {
                    Nearest::RoundPreferFloor => "round_prefer_floor",
                    Nearest::RoundPreferCeil => "round_prefer_ceil",
                    Nearest::Floor => "floor",
                    Nearest::Ceil => "ceil",
                };
                node.with("mode", text("nearest")).with("nearest_mode", text(nearest))
            }
        };
        // Engines multiply as `f32`, the specification does with more digits.
        let exactly = |size: usize, scale: f32| (size as f64 * scale as f64).floor() as usize;
        let mut axes = self.scales.iter().zip(inputs[0]).zip(&self.shape);
        let scales_suffice = axes.all(|((&scale, &size), &out)| {
            scaled(self.coordinates, size, scale) == Some(out) && exactly(size, scale) == out
        });
        node.inputs = match scales_suffice {
            true => vec![None, Some(Input::Real(Tensor::from_vec(self.scales.clone())))],
            false => {
                let shape = self.shape.iter().map(|&d| d as i64).collect();
                vec![None, None, Some(Input::Ints(Tensor::from_vec(shape)))]
            }
        };
        node
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        if x.len() != self.shape.len() || self.shape.contains(&0) {
            bail!(Shape, "an input of shape {x:?} cannot become {:?}", self.shape);
        }
        if self.mode == Mode::Linear && (image(x).is_none() || x[..2] != self.shape[..2]) {
            bail!(
                Unsupported,
                "linear interpolation of {x:?} to {:?}: only of height and width",
                self.shape
            );
        }
        Ok(self.shape.clone())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let x = inputs[0];
        if let Mode::Nearest(nearest) = self.mode {
            return self.picks(x.shape(), nearest).eval_f32(x);
        }
        let Some([_, _, h, w]) = image(x.shape()) else {
            unreachable!("shapes are checked before evaluation");
        };
        let [rows, columns] = [1, 0].map(|from_last| self.neighbours(x.shape(), from_last));
        let mut y = Vec::with_capacity(self.shape.iter().product());
        for plane in x.data().chunks_exact(h * w) {
            for &(top, bottom, wy) in &rows {
                for &(left, right, wx) in &columns {
                    let across =
                        |iy: usize| plane[iy * w + left] * (1.0 - wx) + plane[iy * w + right] * wx;
                    y.push(across(top) * (1.0 - wy) + across(bottom) * wy);
                }
            }
        }
        Tensor::of(self.shape.clone(), y)
    }

    fn output_params(&self) -> OutputParams {
        match self.mode {
            Mode::Nearest(_) => OutputParams::SameAsInput,
            Mode::Linear => OutputParams::Calibrated,
        }
    }

    fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        Channels::same(inputs, output)
    }

    fn lower(&self, node: &mut Lowering) -> Result<ResizeInt> {
        if let Mode::Nearest(nearest) = self.mode {
            return self.picks(node.inputs[0].shape, nearest).lower(node).map(ResizeInt::Nearest);
        }
        let (x, y) = (node.inputs[0], node.output);
        let multiplier = multiplier(x.scale() / y.scale())?;
        if multiplier.shift > 40 {
            bail!(Range, "scales {:e} and {:e} are too far apart", x.scale(), y.scale());
        }
        let weight_bits = match x.quant.width {
            Width::W4 | Width::W8 => weight_bits::<i8>(),
            Width::W16 | Width::W32 => weight_bits::<i16>(),
        };
        let between = |from_last: usize| {
            let neighbours = self.neighbours(x.shape, from_last);
            let one = (1 << weight_bits) as f32;
            let between = neighbours.into_iter().map(move |(low, high, weight)| Between {
                low: low as u32,
                high: high as u32,
                weight: (weight * one).round_ties_even() as i64,
            });
            between.collect()
        };
        Ok(ResizeInt::Linear(LinearInt {
            x_shape: nhwc(&x)?,
            rows: between(1),
            columns: between(0),
            multiplier,
            x_zero_point: x.zero_point(),
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
            weight_bits,
            bound: x.widest() << (2 * weight_bits),
        }))
    }
}

/// Either integer form.
#[derive(Clone, Debug, PartialEq)]
pub enum ResizeInt {
    /// Elements are picked.
    Nearest(PickInt),
    /// Elements are averaged.
    Linear(LinearInt),
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct LinearInt {
    pub x_shape: [usize; 4],
    pub rows: Vec<Between>,
    pub columns: Vec<Between>,
    pub multiplier: Multiplier,
    pub x_zero_point: i32,
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    /// Of the weights of [`Between`].
    pub weight_bits: u32,
    pub bound: i64,
}

impl LinearInt {
    fn params(&self) -> int::Params<'_> {
        int::Params {
            x_shape: self.x_shape,
            rows: &self.rows,
            columns: &self.columns,
            multiplier: self.multiplier,
            x_zero_point: self.x_zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
        }
    }
}

record!(Between, "resize::Between", low, high, weight);
record!(
    int::Params<'_>,
    "resize::Params",
    x_shape,
    rows,
    columns,
    multiplier,
    x_zero_point,
    y_zero_point,
    clamp
);

impl IntOperator for ResizeInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        match self {
            Self::Nearest(pick) => pick.eval(inputs, y),
            Self::Linear(p) => {
                int::resize_linear(inputs[0], &p.params(), y);
            }
        }
    }

    fn moves_codes(&self) -> bool {
        matches!(self, Self::Nearest(_))
    }

    fn sums_are_64_bits(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        match self {
            Self::Nearest(_) => None,
            Self::Linear(p) => Some(p.bound),
        }
    }
}
