//! QONNX, as Brevitas and FINN write it: nodes that quantize and dequantize at once, to any number of bits up to 8. And a Clip
//! of codes, with which ONNX's own operators say that codes have fewer bits.
//!
//! <https://github.com/fastmachinelearning/qonnx/blob/main/docs/qonnx-custom-ops/quant_op.md>

use super::importer::{Importer, Known};
use super::proto::{NodeProto, data_type as dt};
use super::tensors::widened;
use crate::codes::CodeTensor;
use crate::error::{Result, bail};
use crate::graph::{Constant, Value, ValueId};
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::mul::Mul;
use crate::ops::unary::Unary;
use crate::ops::{OnnxNode, Op};
use crate::quant::{Granularity, QuantParams, Width};
use crate::tensor::{Tensor, broadcast_strides, strided_indices, strides};

/// Domains whose quantizers these are.
const DOMAINS: &[&str] = &["qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"];

/// Whether this is a quantizer of QONNX.
pub(super) fn is_quantizer(proto: &NodeProto) -> bool {
    DOMAINS.contains(&&*proto.domain)
        && matches!(&*proto.op_type, "Quant" | "IntQuant" | "BipolarQuant")
}

/// What a quantizer makes of `x / scale`.
#[derive(Clone, Copy)]
enum Levels {
    /// −1 and 1.
    Bipolar,
    /// `clamp(round_half_even(x / scale + zero_point), lo, hi) − zero_point`
    Of { zero_point: i64, lo: i64, hi: i64 },
}

impl Levels {
    /// The steps that `x` is.
    fn steps(self, x: f32, scale: f32) -> i64 {
        match self {
            Self::Bipolar if x >= 0.0 => 1,
            Self::Bipolar => -1,
            Self::Of { zero_point, lo, hi } => {
                let code = (x / scale + zero_point as f32).round_ties_even() as i64;
                code.clamp(lo, hi) - zero_point
            }
        }
    }
}

impl Importer<'_> {
    /// Reads a quantizer.
    pub(super) fn quantizer(
        &mut self,
        proto: &NodeProto,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        let x = &proto.input[0];
        let &Known::Value(v) = self.get(x)? else {
            bail!(Unsupported, "input \"{x}\" is not real");
        };
        let scale = self.numbers(proto, 1)?;
        if let Some(bad) = scale.data().iter().find(|s| !(s.is_normal() && **s > 0.0)) {
            bail!(Range, "a scale of {bad}");
        }
        let is_constant = self.graph.values[v].constant.is_some();
        let levels = match proto.op_type.as_str() {
            "BipolarQuant" => Levels::Bipolar,
            _ => self.levels(proto, node, if is_constant { 32 } else { 8 })?,
        };
        if is_constant {
            let v = self.quantized_constant(v, &scale, levels, output)?;
            return self.define(output, Known::Value(v));
        }
        let &[scale] = scale.data() else {
            bail!(Unsupported, "{} scales of an activation, only one is known", scale.data().len());
        };
        let name = if proto.name.is_empty() { output } else { &proto.name };
        let (v, params) = match levels {
            Levels::Bipolar => {
                (self.sign(v, x, scale, output)?, QuantParams::per_tensor(scale, 0, Width::W8))
            }
            Levels::Of { zero_point, lo, hi } => {
                // Codes without a sign have one here.
                let offset = if hi > Width::W8.highest().into() { 128 } else { 0 };
                let (zero_point, lo, hi) = (zero_point - offset, lo - offset, hi - offset);
                if !(-128..=127).contains(&zero_point) {
                    bail!(Unsupported, "zero point {zero_point} of codes {lo}..{hi}");
                }
                let params = QuantParams::per_tensor(scale, zero_point as i32, Width::W8);
                (self.limited(v, x, name, &params, (lo as i32, hi as i32), output)?, params)
            }
        };
        let rounded = self.round(v, x, name, &format!("{output}.codes"), params)?;
        self.define_real(rounded, name, output)
    }

    /// The codes of constant `v`, zero points subtracted, in as few bits as hold them.
    fn quantized_constant(
        &mut self,
        v: ValueId,
        scale: &Tensor<f32>,
        levels: Levels,
        output: &str,
    ) -> Result<ValueId> {
        let shape = self.graph.values[v].shape.clone();
        self.folding.take(&shape, shape.iter().product::<usize>() as u64)?;
        let name = &self.graph.values[v].name;
        let Some(real) = self.graph.values[v].to_real() else {
            bail!(Unsupported, "input \"{name}\" is not real");
        };
        if let Some(bad) = real.data().iter().find(|x| !x.is_finite()) {
            bail!(Range, "constant \"{name}\" holds {bad}");
        }
        let wrong =
            || -> Result<()> { bail!(Shape, "a scale of shape {:?} for {shape:?}", scale.shape()) };
        let sizes = scale.shape();
        let sizes = &sizes[sizes.len() - sizes.iter().rev().take(shape.len()).count()..];
        if scale.data().len() != sizes.iter().product::<usize>() {
            wrong()?;
        }
        let along = [vec![1; shape.len() - sizes.len()], sizes.to_vec()].concat();
        let mut axes = (0..along.len()).filter(|&axis| along[axis] != 1);
        let granularity = match (axes.next(), axes.next()) {
            (None, _) => Granularity::PerTensor,
            (Some(axis), None) if along[axis] == shape[axis] => Granularity::PerChannel { axis },
            _ => return wrong().map(|()| v),
        };
        let steps = broadcast_strides(&along, &strides(&along), &shape);
        let scales = strided_indices(shape.clone(), steps).map(|i| scale.data()[i]);
        let codes = real.data().iter().zip(scales).map(|(&x, scale)| levels.steps(x, scale));
        let codes: Vec<i64> = codes.collect();
        let fits = |width: &Width| {
            let range = i64::from(width.lowest())..=i64::from(width.highest());
            codes.iter().all(|code| range.contains(code))
        };
        let Some(width) = [Width::W8, Width::W16, Width::W32].into_iter().find(fits) else {
            bail!(Range, "codes of more than 32 bits");
        };
        let scale = scale.data().to_vec();
        let quant = QuantParams { scale, zero_point: 0, width, granularity };
        quant.check(&shape)?;
        let codes = Tensor::new(shape.clone(), codes.iter().map(|&code| code as i32).collect())?;
        let constant = Some(Constant::Codes(CodeTensor::new(width, codes)));
        let name = self.names.fresh(output.into());
        Ok(self.add_value(Value { name, shape, constant, quant: Some(quant), given: None }))
    }

    /// `v`, called `x`, limited to what codes `lo..=hi` of `params` stand for.
    fn limited(
        &mut self,
        mut v: ValueId,
        x: &str,
        name: &str,
        params: &QuantParams,
        (lo, hi): (i32, i32),
        output: &str,
    ) -> Result<ValueId> {
        if (lo, hi) == params.code_range() {
            return Ok(v);
        }
        if self.graph.inputs.contains(&v) {
            // What nothing computes becomes codes first.
            v = self.round(v, x, name, &format!("{output}.wide"), params.clone())?;
        }
        let clip = Clip { lo: params.dequantize(lo, 0), hi: params.dequantize(hi, 0) };
        let limited = self.names.fresh(format!("{output}.limited"));
        self.emit(&limited, Op::Clip(clip), vec![v], &limited)
    }

    /// The sign of `v`, called `x`, that of 0 being 1, times `scale`.
    fn sign(&mut self, mut v: ValueId, x: &str, scale: f32, output: &str) -> Result<ValueId> {
        if self.graph.values[v].quant.is_none() {
            v = self.round(v, x, output, &format!("{output}.sign"), QuantParams::sign())?;
        }
        // No code but 0 stands for a number that is so near to it.
        let above = Op::Add(Add { subtract: false });
        for (op, number) in [
            (above, Some(f32::MIN_POSITIVE / 2.0)),
            (Op::Unary(Unary::Sign), None),
            (Op::Mul(Mul), Some(scale)),
        ] {
            let step = self.names.fresh(format!("{output}.step"));
            let mut inputs = vec![v];
            if let Some(number) = number {
                let by = self.names.fresh(format!("{step}.by"));
                inputs.push(self.add_value(Value::real(by, Tensor::new([], vec![number])?)));
            }
            v = self.emit(&step, op, inputs, &step)?;
        }
        Ok(v)
    }

    /// What a Quant of at most `most` bits does.
    fn levels(&self, proto: &NodeProto, node: &mut OnnxNode, most: i64) -> Result<Levels> {
        let signed = node.take_flag_or("signed", true)?;
        let narrow = node.take_flag("narrow")? as i64;
        let rounding = node.take_string("rounding_mode")?.unwrap_or("ROUND".into());
        if !matches!(&*rounding.to_uppercase(), "ROUND" | "HALF_EVEN") {
            bail!(Unsupported, "attribute \"rounding_mode\" is \"{rounding}\"");
        }
        let [zero_point, bits] = [(2, "zero point"), (3, "number of bits")].map(|(index, what)| {
            let all = self.numbers(proto, index)?;
            match all.data() {
                [first, others @ ..]
                    if first.fract() == 0.0
                        && first.abs() < 65536.0
                        && others.iter().all(|other| other == first) =>
                {
                    Ok(*first as i64)
                }
                other => bail!(Unsupported, "{what} {other:?}: only one integer is known"),
            }
        });
        let (zero_point, bits) = (zero_point?, bits?);
        if !(1..=most).contains(&bits) {
            bail!(Unsupported, "{bits} bits: only 1 to {most} are known");
        }
        // So Brevitas writes a sign, and QONNX computes one.
        if signed && bits == 1 {
            match zero_point {
                0 => return Ok(Levels::Bipolar),
                _ => bail!(Unsupported, "zero point {zero_point} of one bit with a sign"),
            }
        }
        let (lo, hi) = match signed {
            true => (narrow - (1 << (bits - 1)), (1 << (bits - 1)) - 1),
            false => (0, (1 << bits) - 1 - narrow),
        };
        Ok(Levels::Of { zero_point, lo, hi })
    }

    /// Argument `index`, which is constant.
    fn numbers(&self, proto: &NodeProto, index: usize) -> Result<Tensor<f32>> {
        let Some(name) = proto.input.get(index) else { bail!(Invalid, "input {index} is missing") };
        match self.get(name)? {
            Known::Value(v) if self.graph.real_constant(*v).is_some() => {
                Ok(self.graph.real_constant(*v).cloned().unwrap_or_default())
            }
            Known::Ints(t, _) => Ok(t.map(|&i| i as f32)),
            Known::Narrow(t, data_type) => Ok(widened(t, *data_type).map(|&i| i as f32)),
            _ => bail!(Unsupported, "input \"{name}\" is not constant"),
        }
    }

    /// Reads a Clip of codes, whose limits are codes; `false` if the node is none.
    pub(super) fn clip_of_codes(&mut self, proto: &NodeProto, output: &str) -> Result<bool> {
        let ("Clip", [codes, limits @ ..]) = (&*proto.op_type, &proto.input[..]) else {
            return Ok(false);
        };
        let &Known::Codes(v, data_type) = self.get(codes)? else { return Ok(false) };
        let Some(params) = self.graph.values[v].quant.clone() else { return Ok(false) };
        if self.offsets.get(&v).is_some_and(|all| all.iter().any(|&offset| offset != 0)) {
            bail!(Unsupported, "codes are limited whose zero points were subtracted");
        }
        let (lowest, highest) = params.code_range();
        let offset = match data_type {
            dt::UINT8 | dt::UINT16 => lowest,
            _ => 0,
        };
        let mut ends = [lowest, highest];
        for (index, name) in limits.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            match self.numbers(proto, index + 1)?.data() {
                &[limit] => ends[index] = (limit as i32 + offset).clamp(lowest, highest),
                _ => bail!(Unsupported, "limit \"{name}\" is not one number"),
            }
        }
        let [lo, hi] = ends;
        if lo > hi {
            bail!(Invalid, "limits {} and {} of codes", lo - offset, hi - offset);
        }
        let value = &self.graph.values[v];
        let limited = if let Some(Constant::Codes(all)) = &value.constant {
            let shape = value.shape.clone();
            let all = all.widened().map(|&code| code.clamp(lo, hi));
            let constant = Some(Constant::Codes(CodeTensor::new(params.width, all)));
            self.folding.take(&shape, 0)?;
            let name = self.names.fresh(output.into());
            self.add_value(Value { name, shape, constant, quant: Some(params), given: None })
        } else {
            let name = if proto.name.is_empty() { output } else { &proto.name };
            // What a node computes is limited before it becomes codes: the node does both.
            let raw = self.rounded.raw.get(&v).filter(|raw| !self.graph.inputs.contains(raw));
            match raw.copied().filter(|_| (lo, hi) != (lowest, highest)) {
                Some(raw) => {
                    self.rounded.limited.insert(v);
                    let clipped = self.limited(raw, codes, name, &params, (lo, hi), output)?;
                    self.round(clipped, codes, name, output, params)?
                }
                None => {
                    let clipped = self.limited(v, codes, name, &params, (lo, hi), output)?;
                    self.graph.values[clipped].quant = Some(params);
                    clipped
                }
            }
        };
        self.define(output, Known::Codes(limited, data_type))?;
        Ok(true)
    }
}
