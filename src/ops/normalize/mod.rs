//! Division by the standard deviation, the root mean square or the length of groups of elements.
//!
//! ONNX: <https://onnx.ai/onnx/operators/onnx__LayerNormalization.html>, RMSNormalization, InstanceNormalization,
//! GroupNormalization, LpNormalization.

mod c;
pub mod int;
mod rust;
#[cfg(test)]
mod tests;

use super::language::record;
use super::onnx_node::{Attribute, Input, OnnxNode};
use super::{IntOperator, Lowering, Operator, Order, Wants, expect_inputs};
use crate::codes::CodeType;
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor, broadcast_strides, strided_indices, strides};

/// What belongs together, and what it is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The axes from this one on, less their mean, by their standard deviation.
    Layer {
        /// The first axis, counted from the front.
        axis: usize,
    },
    /// The axes from this one on, by their root mean square.
    Rms {
        /// The first axis, counted from the front.
        axis: usize,
    },
    /// So many groups of channels (axis 1) with all axes behind them, less their mean, by their standard
    /// deviation.
    Groups(usize),
    /// One axis, by the root of its sum of squares.
    L2 {
        /// The axis, counted from the front.
        axis: usize,
    },
}

/// `y = x' / √(m + epsilon) · scale + offset`: `x'` is `x`, less its mean where `kind` says so, and `m` the mean
/// of its squares, or for [`Kind::L2`] their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    /// What belongs together.
    pub kind: Kind,
    /// Added below the root.
    pub epsilon: f32,
    /// One for each element from `axis` on, or for each channel; empty where all are 1.
    pub scale: Vec<f32>,
    /// Likewise; empty where all are 0.
    pub offset: Vec<f32>,
}

impl Normalize {
    /// Without scale and offset.
    pub fn plain(kind: Kind, epsilon: f32) -> Self {
        Self { kind, epsilon, scale: vec![], offset: vec![] }
    }

    /// The same without factors of 1 and offsets of 0, where all are.
    pub fn reduced(mut self) -> Self {
        for (numbers, neutral) in [(&mut self.scale, 1.0), (&mut self.offset, 0.0)] {
            if numbers.iter().all(|&x| x == neutral) {
                numbers.clear();
            }
        }
        self
    }

    fn is_centered(&self) -> bool {
        matches!(self.kind, Kind::Layer { .. } | Kind::Groups(_))
    }

    /// What scale and offset have one element for each element of, for an argument of this shape.
    pub fn affine_shape<'a>(&self, x: &'a [usize]) -> &'a [usize] {
        match self.kind {
            Kind::Layer { axis } | Kind::Rms { axis } => &x[axis..],
            Kind::Groups(_) => &x[1..2],
            Kind::L2 { .. } => &[],
        }
    }

    /// `numbers`, broadcast to an argument of shape `x`, as they are kept here; `None` if they differ between elements that share one here.
    pub fn affine_of(&self, numbers: &Tensor<f32>, x: &[usize]) -> Option<Vec<f32>> {
        match self.kind {
            // Channels are axis 1 of what they are broadcast to.
            Kind::Groups(_) => {
                let axis = numbers.shape().len().checked_sub(x.len() - 1);
                let along = |(i, &d): (usize, &usize)| d == 1 || axis == Some(i);
                let fits = numbers.shape().iter().enumerate().all(along);
                let channels = numbers.data().iter().copied().cycle();
                fits.then(|| channels.take(x[1]).collect())
            }
            _ => broadcast_to(numbers, self.affine_shape(x)),
        }
    }

    /// Argument `index`, one number for each element of `shape`; nothing where it is absent.
    fn take_affine(node: &mut OnnxNode, index: usize, shape: &[usize]) -> Result<Vec<f32>> {
        let t = match node.inputs.get_mut(index).and_then(Option::take) {
            None => return Ok(vec![]),
            Some(Input::Real(t)) => t,
            Some(_) => bail!(Unsupported, "input {index} must be a constant of real numbers"),
        };
        if let Some(bad) = t.data().iter().find(|x| !x.is_finite()) {
            bail!(Range, "input {index} holds {bad}");
        }
        match broadcast_to(&t, shape) {
            Some(numbers) => Ok(numbers),
            None => bail!(Shape, "input {index} of shape {:?} for {shape:?}", t.shape()),
        }
    }

    /// Where the elements lie for an argument of this shape.
    fn places(&self, shape: &[usize], order: Order) -> Places {
        let product = |axes: &[usize]| axes.iter().product::<usize>();
        match self.kind {
            Kind::Layer { axis } | Kind::Rms { axis } => {
                let channels = product(&shape[axis..]);
                Places {
                    groups: product(&shape[..axis]),
                    outer_stride: channels,
                    channels,
                    factor_strides: (0, 1),
                    ..Places::default()
                }
            }
            Kind::Groups(inner) => {
                let (channels, length) = (shape[1] / inner, product(&shape[2..]));
                let last = order == Order::ChannelsLast;
                Places {
                    groups: shape[0] * inner,
                    inner,
                    outer_stride: shape[1] * length,
                    inner_stride: channels * if last { 1 } else { length },
                    channels,
                    channel_stride: if last { 1 } else { length },
                    length,
                    stride: if last { shape[1] } else { 1 },
                    factor_strides: (channels, 1),
                }
            }
            Kind::L2 { axis } => {
                let inner = product(&shape[axis + 1..]);
                Places {
                    groups: product(&shape[..axis]) * inner,
                    inner,
                    outer_stride: shape[axis] * inner,
                    inner_stride: 1,
                    channels: shape[axis],
                    channel_stride: inner,
                    ..Places::default()
                }
            }
        }
    }
}

/// `numbers` broadcast to `shape`; leading axes of 1 may be more.
fn broadcast_to(numbers: &Tensor<f32>, shape: &[usize]) -> Option<Vec<f32>> {
    let (surplus, own) =
        numbers.shape().split_at(numbers.shape().len().saturating_sub(shape.len()));
    let fits = surplus.iter().all(|&d| d == 1)
        && own.iter().rev().zip(shape.iter().rev()).all(|(&d, &size)| d == 1 || d == size);
    let places = || strided_indices(shape.to_vec(), broadcast_strides(own, &strides(own), shape));
    fits.then(|| places().map(|i| numbers.data()[i]).collect())
}

/// Where the elements of each group lie: see [`int::Params`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Places {
    pub groups: usize,
    pub inner: usize,
    pub outer_stride: usize,
    pub inner_stride: usize,
    pub channels: usize,
    pub channel_stride: usize,
    pub length: usize,
    pub stride: usize,
    pub factor_strides: (usize, usize),
}

impl Default for Places {
    fn default() -> Self {
        Self {
            groups: 1,
            inner: 1,
            outer_stride: 0,
            inner_stride: 0,
            channels: 1,
            channel_stride: 1,
            length: 1,
            stride: 1,
            factor_strides: (0, 0),
        }
    }
}

impl Places {
    /// Number of elements of a group.
    fn count(&self) -> usize {
        self.channels * self.length
    }

    /// Each element of group `g`, with the place of its factor.
    fn of(self, g: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = g / self.inner * self.outer_stride + g % self.inner * self.inner_stride;
        let factor = g % self.inner * self.factor_strides.0;
        (0..self.channels).flat_map(move |c| {
            let place = (first + c * self.channel_stride, factor + c * self.factor_strides.1);
            (0..self.length).map(move |i| (place.0 + i * self.stride, place.1))
        })
    }
}

impl Operator for Normalize {
    const ONNX: &'static [&'static str] = &[
        "LayerNormalization",
        "RMSNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LpNormalization",
    ];
    type Int = NormalizeInt;

    fn wants(&self) -> Wants {
        match self.kind {
            Kind::Groups(_) => Wants::Inherit,
            _ => Wants::Is(Order::Plain),
        }
    }

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let shape = node.input_shape(0)?.to_vec();
        let op_type = node.op_type.clone();
        if node.take_int("stash_type")?.is_some_and(|t| t != 1) {
            bail!(Unsupported, "attribute \"stash_type\"");
        }
        let mut axis = || -> Result<usize> {
            let axis = node.take_int("axis")?.unwrap_or(-1);
            match OnnxNode::axis(axis, shape.len())? {
                inside if inside < shape.len() => Ok(inside),
                _ => bail!(Shape, "axis {axis} of a tensor of rank {}", shape.len()),
            }
        };
        let kind = match op_type.as_str() {
            "LayerNormalization" => Kind::Layer { axis: axis()? },
            "RMSNormalization" => Kind::Rms { axis: axis()? },
            "LpNormalization" => {
                let kind = Kind::L2 { axis: axis()? };
                match node.take_int("p")?.unwrap_or(2) {
                    2 => return Ok(Self::plain(kind, 0.0)),
                    p => bail!(Unsupported, "attribute \"p\" is {p}, only 2 is known"),
                }
            }
            _ if shape.len() < 3 => {
                bail!(Unsupported, "an input of shape {shape:?}: only [n, c, ..] is known")
            }
            "GroupNormalization" => match node.take_int("num_groups")?.map(usize::try_from) {
                Some(Ok(groups)) if groups > 0 && shape[1] % groups == 0 => Kind::Groups(groups),
                _ => bail!(Invalid, "attribute \"num_groups\" must divide {} channels", shape[1]),
            },
            _ => Kind::Groups(shape[1]),
        };
        let epsilon = node.take_float("epsilon")?.unwrap_or(1e-5);
        if !(0.0..f32::INFINITY).contains(&epsilon) {
            bail!(Invalid, "attribute \"epsilon\" is {epsilon}");
        }
        let op = Self::plain(kind, epsilon);
        if let (Kind::Groups(groups), "GroupNormalization", ..21) =
            (kind, op_type.as_str(), node.opset)
        {
            // Before opset 21 they belonged to groups.
            let channels = shape[1] / groups;
            let repeated = |numbers: Vec<f32>| -> Vec<f32> {
                numbers.iter().flat_map(|&x| std::iter::repeat_n(x, channels)).collect()
            };
            let scale = repeated(Self::take_affine(node, 1, &[groups])?);
            let offset = repeated(Self::take_affine(node, 2, &[groups])?);
            return Ok(Self { scale, offset, ..op }.reduced());
        }
        let scale = Self::take_affine(node, 1, op.affine_shape(&shape))?;
        let offset = Self::take_affine(node, 2, op.affine_shape(&shape))?;
        Ok(Self { scale, offset, ..op }.reduced())
    }

    fn export(&self, inputs: &[&[usize]], _: i64) -> OnnxNode {
        let shape = self.affine_shape(inputs[0]);
        let affine = |numbers: &[f32], neutral: f32| {
            let n = shape.iter().product();
            let numbers = if numbers.is_empty() { vec![neutral; n] } else { numbers.to_vec() };
            Some(Input::Real(Tensor::of(shape.to_vec(), numbers)))
        };
        let (op_type, opset) = match self.kind {
            Kind::Layer { .. } => ("LayerNormalization", 17),
            Kind::Rms { .. } => ("RMSNormalization", 23),
            Kind::Groups(groups) if groups == inputs[0][1] => ("InstanceNormalization", 6),
            Kind::Groups(_) => ("GroupNormalization", 21),
            Kind::L2 { .. } => ("LpNormalization", 1),
        };
        let mut node = OnnxNode { opset, ..OnnxNode::new(op_type) };
        if let Kind::Layer { axis } | Kind::Rms { axis } | Kind::L2 { axis } = self.kind {
            node = node.with("axis", Attribute::Int(axis as i64));
        }
        match self.kind {
            Kind::L2 { .. } => return node.with("p", Attribute::Int(2)),
            Kind::Groups(groups) if opset == 21 => {
                node = node.with("num_groups", Attribute::Int(groups as i64));
            }
            _ => {}
        }
        node.inputs = vec![affine(&self.scale, 1.0)];
        let optional = matches!(self.kind, Kind::Layer { .. } | Kind::Rms { .. });
        if !optional || !self.offset.is_empty() {
            node.inputs.push(affine(&self.offset, 0.0));
        }
        node.with("epsilon", Attribute::Float(self.epsilon))
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        let x = expect_inputs(inputs, 1..=1)?;
        let fits = match self.kind {
            Kind::Layer { axis } | Kind::Rms { axis } | Kind::L2 { axis } => axis < x.len(),
            Kind::Groups(groups) => x.len() > 2 && groups > 0 && x[1].is_multiple_of(groups),
        };
        if !fits {
            bail!(Shape, "an input of shape {x:?} for {:?}", self.kind);
        }
        let affine = self.affine_shape(x).iter().product::<usize>();
        for numbers in [&self.scale, &self.offset] {
            if !numbers.is_empty() && numbers.len() != affine {
                bail!(Shape, "expected {affine} factors for shape {x:?}, got {}", numbers.len());
            }
        }
        Ok(x.to_vec())
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        let mut y = inputs[0].clone();
        let places = self.places(y.shape(), Order::Plain);
        let count = places.count() as f64;
        let data = y.data_mut();
        for g in 0..places.groups {
            let sum: f64 = places.of(g).map(|(at, _)| data[at] as f64).sum();
            let mean = if self.is_centered() { sum / count } else { 0.0 };
            let squares: f64 = places.of(g).map(|(at, _)| (data[at] as f64 - mean).powi(2)).sum();
            let squares = match self.kind {
                Kind::L2 { .. } => squares,
                _ => squares / count + self.epsilon as f64,
            };
            let factor = if squares > 0.0 { 1.0 / libm::sqrt(squares) } else { 0.0 };
            for (at, channel) in places.of(g) {
                let scale = self.scale.get(channel).map_or(1.0, |&x| x as f64);
                let offset = self.offset.get(channel).map_or(0.0, |&x| x as f64);
                data[at] = ((data[at] as f64 - mean) * factor * scale + offset) as f32;
            }
        }
        y
    }

    fn lower(&self, node: &mut Lowering) -> Result<NormalizeInt> {
        let (x, y) = (node.inputs[0], node.output);
        let mut places = self.places(x.shape, y.order);
        let (centered, elements) = (self.is_centered(), places.count() as i64);
        let count = if centered { elements } else { 1 };
        // Codes alone, where the mean is subtracted from them.
        let widest = if centered { -(x.quant.width.lowest() as i64) } else { x.widest() };
        let squares = count.checked_mul(elements).and_then(|n| n.checked_mul(widest * widest));
        let Some(bound) = squares else {
            bail!(
                Range,
                "the spread of {elements} codes of {} bits can exceed 63 bits",
                x.quant.width
            );
        };
        let (x_scale, y_scale, n) = (x.scale() as f64, y.scale() as f64, elements as f64);
        let epsilon = match self.kind {
            Kind::L2 { .. } => 0.0,
            _ => self.epsilon as f64 * n * count as f64 / (x_scale * x_scale),
        };
        // Both together stay below 2^62.
        let square_shift = (61 - exponent(bound as f64 + epsilon)).div_euclid(2) * 2;
        if square_shift < -62 {
            bail!(
                Range,
                "epsilon {:e} is too large beside codes of scale {x_scale:e}",
                self.epsilon
            );
        }
        let epsilon = (epsilon * power(square_shift)).round_ties_even() as i64;
        // A normalized value is at most the root of `count`.
        let unit_bits = 27 - (exponent(n.max(2.0) - 1.0) + 2) / 2 * centered as i32;
        let rms = if let Kind::Rms { .. } = self.kind { libm::sqrt(n) } else { 1.0 };
        let real = |numbers: &[f32], other: &[f32], neutral: f64, by: f64| -> Vec<f64> {
            let neutral = vec![neutral / by; other.len().max(1)];
            let numbers = numbers.iter().map(|&x| x as f64 / by).collect();
            [numbers, neutral]
                .into_iter()
                .find(|list: &Vec<f64>| !list.is_empty())
                .unwrap_or_default()
        };
        let factor = real(&self.scale, &self.offset, 1.0, y_scale / rms);
        let offset = real(&self.offset, &self.scale, 0.0, y_scale);
        if factor.len() == 1 {
            places.factor_strides = (0, 0);
        }
        let largest = |list: &[f64]| list.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let [largest_factor, largest_offset] = [&factor, &offset].map(|list| largest(list));
        let mut shift = 62;
        if largest_factor > 0.0 {
            shift = shift.min(unit_bits + 29 - exponent(largest_factor));
        }
        if largest_offset > 0.0 {
            shift = shift.min(59 - exponent(largest_offset));
        }
        if shift < 1 {
            bail!(
                Range,
                "a factor of {:e} and an offset of {:e} are too large beside a result of scale {y_scale:e}",
                largest_factor * y_scale / rms,
                largest_offset * y_scale
            );
        }
        let offset_shift = match largest_offset > 0.0 {
            true => (shift + exponent(largest_offset) - 29).max(0),
            false => 0,
        };
        let fixed = |list: Vec<f64>, bits: i32| -> Vec<i32> {
            list.into_iter().map(|x| (x * power(bits)).round_ties_even() as i32).collect()
        };
        Ok(NormalizeInt {
            factor: fixed(factor, shift - unit_bits),
            offset: fixed(offset, shift - offset_shift),
            offset_shift: offset_shift as u32,
            shift: shift as u32,
            unit_shift: 60 - unit_bits - square_shift / 2,
            square_shift,
            epsilon,
            centered,
            x_zero_point: if centered { 0 } else { x.zero_point() },
            y_zero_point: y.zero_point(),
            clamp: node.clamp,
            places,
            bound,
        })
    }
}

/// `floor(log2(x))` of a normal `x > 0`.
fn exponent(x: f64) -> i32 {
    (x.to_bits() >> 52) as i32 - 1023
}

/// `2^n`.
fn power(n: i32) -> f64 {
    2f64.powi(n)
}

/// Owner of what [`int::Params`] borrows.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct NormalizeInt {
    pub factor: Vec<i32>,
    pub offset: Vec<i32>,
    pub offset_shift: u32,
    pub shift: u32,
    pub unit_shift: i32,
    pub square_shift: i32,
    pub epsilon: i64,
    pub centered: bool,
    pub x_zero_point: i32,
    pub y_zero_point: i32,
    pub clamp: (i32, i32),
    pub places: Places,
    pub bound: i64,
}

impl NormalizeInt {
    fn params(&self) -> int::Params<'_> {
        let places = self.places;
        int::Params {
            factor: &self.factor,
            offset: &self.offset,
            offset_shift: self.offset_shift,
            shift: self.shift,
            unit_shift: self.unit_shift,
            square_shift: self.square_shift,
            epsilon: self.epsilon,
            centered: self.centered,
            x_zero_point: self.x_zero_point,
            y_zero_point: self.y_zero_point,
            clamp: self.clamp,
            groups: places.groups,
            inner: places.inner,
            outer_stride: places.outer_stride,
            inner_stride: places.inner_stride,
            channels: places.channels,
            channel_stride: places.channel_stride,
            length: places.length,
            stride: places.stride,
            factor_strides: places.factor_strides,
        }
    }
}

record!(
    int::Params<'_>,
    "normalize::Params",
    factor,
    offset,
    offset_shift,
    shift,
    unit_shift,
    square_shift,
    epsilon,
    centered,
    x_zero_point,
    y_zero_point,
    clamp,
    groups,
    inner,
    outer_stride,
    inner_stride,
    channels,
    channel_stride,
    length,
    stride,
    factor_strides
);

impl IntOperator for NormalizeInt {
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        int::normalize(inputs[0], &self.params(), y);
    }

    fn sums_are_64_bits(&self) -> bool {
        true
    }

    fn acc_bound(&self) -> Option<i64> {
        Some(self.bound)
    }
}
