//! QuantizeLinear and DequantizeLinear, which say how a value's codes are read, and operators that
//! work on codes directly (`QLinear…`, `QGemm`): the two forms of a quantized ONNX file.

use super::import::{Importer, Known};
use super::proto::{NodeProto, data_type as dt};
use crate::error::{Result, bail};
use crate::graph::{Constant, Value, ValueId};
use crate::ops::{Attribute, Input, OnnxNode, Op};
use crate::quant::{Granularity, QuantParams};
use crate::tensor::Tensor;

/// How the codes of one tensor are written in the file.
struct Written {
    /// For the codes as we store them, signed.
    params: QuantParams,
    /// What has to be subtracted from codes to make them signed.
    to_signed: i64,
}

impl Importer<'_> {
    pub(super) fn quantize(
        &mut self,
        proto: &NodeProto,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        if node.take_int("saturate")?.is_some_and(|s| s != 1) {
            bail!(Unsupported, "attribute \"saturate\"");
        }
        let axis = take_axis(node)?;
        let [x, scale, zero_point @ ..] = &proto.input[..] else {
            bail!(Invalid, "expected 2 or 3 inputs");
        };
        let &Known::Value(v) = self.get(x)? else {
            bail!(Unsupported, "input \"{x}\" is not real");
        };
        let Written { params, .. } = self.params(scale, zero_point.first(), axis, None, v)?;
        if let Some(real) = self.graph.real_constant(v) {
            let codes = params.quantize_all(real.data(), real.shape());
            let constant = Some(Constant::Codes(Tensor::new(real.shape(), codes)?));
            let (name, shape) = (self.graph.fresh_name(output.into()), real.shape().to_vec());
            let v = self.graph.add_value(Value { name, shape, constant, quant: Some(params) });
            return self.define(output, Known::Codes(v));
        }
        if self.read_as_real.contains(x.as_str()) {
            bail!(Unsupported, "\"{x}\" is used both with and without being quantized");
        }
        self.set_params(v, params)?;
        self.define(output, Known::Codes(v))
    }

    fn set_params(&mut self, v: ValueId, params: QuantParams) -> Result<()> {
        let value = &mut self.graph.values[v];
        if value.quant.as_ref().is_some_and(|other| *other != params) {
            bail!(Unsupported, "\"{}\" is quantized in two ways", value.name);
        }
        value.quant = Some(params);
        Ok(())
    }

    pub(super) fn dequantize(
        &mut self,
        proto: &NodeProto,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        let axis = take_axis(node)?;
        let [codes, scale, zero_point @ ..] = &proto.input[..] else {
            bail!(Invalid, "expected 2 or 3 inputs");
        };
        let v = self.dequantized(codes, scale, zero_point.first(), axis, output)?;
        if self.graph.values[v].constant.is_none() && self.outputs.contains(output) {
            self.name_output(v, output)?;
        }
        self.define(output, Known::Value(v))
    }

    /// The value whose codes are called `codes`; a constant becomes a value called `name`.
    fn dequantized(
        &mut self,
        codes: &str,
        scale: &str,
        zero_point: Option<&String>,
        axis: i64,
        name: &str,
    ) -> Result<ValueId> {
        match self.get(codes)?.clone() {
            Known::Ints(codes, data_type) => {
                let shape = codes.shape().to_vec();
                let name = self.graph.fresh_name(name.into());
                let v = self.graph.add_value(Value { name, shape, ..Value::default() });
                let written = self.params(scale, zero_point, axis, Some(data_type), v)?;
                let codes = codes.map(|&code| (code - written.to_signed) as i32);
                self.graph.values[v].constant = Some(Constant::Codes(codes));
                self.graph.values[v].quant = Some(written.params);
                Ok(v)
            }
            Known::Codes(v) => {
                let Written { params, .. } = self.params(scale, zero_point, axis, None, v)?;
                if self.graph.values[v].quant.as_ref() != Some(&params) {
                    bail!(
                        Unsupported,
                        "codes \"{codes}\" were made with another scale or zero point"
                    );
                }
                Ok(v)
            }
            Known::Value(_) => bail!(Unsupported, "input \"{codes}\" is not made of codes"),
        }
    }

    /// Scale and zero point of the codes of `v`. `codes` is their type, where it is known.
    fn params(
        &self,
        scale: &str,
        zero_point: Option<&String>,
        axis: i64,
        codes: Option<i32>,
        v: ValueId,
    ) -> Result<Written> {
        let scale = match self.get(scale)? {
            Known::Value(v) => self.graph.real_constant(*v),
            _ => None,
        };
        let Some(scale) = scale else { bail!(Unsupported, "the scale must be a constant") };
        let (zero_points, data_type) = match zero_point.filter(|name| !name.is_empty()) {
            None => (vec![0], codes.unwrap_or(dt::UINT8)),
            Some(name) => match self.get(name)? {
                Known::Ints(t, of_zero) if codes.is_none_or(|of_codes| of_codes == *of_zero) => {
                    (t.data().to_vec(), *of_zero)
                }
                Known::Ints(..) => bail!(Invalid, "codes and zero point have different types"),
                _ => bail!(Unsupported, "the zero point must be a constant of integers"),
            },
        };
        let (bits, to_signed): (u32, i64) = match data_type {
            dt::INT8 => (8, 0),
            dt::UINT8 => (8, 128),
            dt::INT16 => (16, 0),
            dt::UINT16 => (16, 0x8000),
            dt::INT32 => (32, 0),
            other => bail!(Unsupported, "codes of data type {other}"),
        };
        let [zero_point, rest @ ..] = &zero_points[..] else { bail!(Invalid, "no zero point") };
        if rest.iter().any(|other| other != zero_point) {
            bail!(Unsupported, "zero points differ between channels");
        }
        let half = 1i64 << (bits - 1);
        let signed = zero_point - to_signed;
        if !(-half..half).contains(&signed) || (bits == 32 && signed != 0) {
            bail!(Invalid, "zero point {zero_point} of {bits}-bit codes");
        }
        let shape = &self.graph.values[v].shape;
        let granularity = match scale.shape() {
            [] | [1] => Granularity::PerTensor,
            [_] => Granularity::PerChannel { axis: OnnxNode::axis(axis, shape.len())? },
            other => bail!(Unsupported, "scales of shape {other:?}"),
        };
        let scale = scale.data().to_vec();
        let params = QuantParams { scale, zero_point: signed as i32, bits, granularity };
        params.check(shape)?;
        Ok(Written { params, to_signed })
    }

    /// Operators on codes: each is the real operator between its parameters. `false` for others.
    pub(super) fn on_codes(
        &mut self,
        proto: &NodeProto,
        name: &str,
        node: &mut OnnxNode,
    ) -> Result<bool> {
        let op_type = match (proto.domain.as_str(), proto.op_type.as_str()) {
            ("" | "ai.onnx", "QLinearConv") => "Conv",
            ("" | "ai.onnx", "QLinearMatMul") => "MatMul",
            ("com.microsoft", "QGemm") => "Gemm",
            ("com.microsoft", "QLinearAdd") => "Add",
            ("com.microsoft", "QLinearMul") => "Mul",
            ("com.microsoft", "QLinearConcat") => "Concat",
            ("com.microsoft", "QLinearAveragePool") => "AveragePool",
            ("com.microsoft", "QLinearGlobalAveragePool") => "GlobalAveragePool",
            ("com.microsoft", "QLinearSigmoid") => "Sigmoid",
            ("com.microsoft", "QLinearLeakyRelu") => "LeakyRelu",
            ("com.microsoft", "QLinearSoftmax") => "Softmax",
            _ => return Ok(false),
        };
        let text = |i: usize| proto.input.get(i).filter(|name| !name.is_empty());
        // Positions of the triples (codes, scale, zero point), of the bias, and of the result's pair.
        let (triples, bias, result) = match op_type {
            "Conv" => (vec![0, 3], text(8), 6),
            "Gemm" => (vec![0, 3], text(6), 7),
            "MatMul" | "Add" | "Mul" => (vec![0, 3], None, 6),
            "Concat" => ((2..proto.input.len()).step_by(3).collect(), None, 0),
            _ => (vec![0], None, 3),
        };
        let missing = || -> Result<Known> {
            bail!(Invalid, "expected more inputs than {}", proto.input.len())
        };
        let mut inputs = Vec::new();
        for &i in &triples {
            let (Some(codes), Some(scale)) = (text(i), text(i + 1)) else {
                return missing().map(|_| true);
            };
            // Weights of a convolution have their channels on axis 0, of a product on axis 1.
            let transposed = node.attributes.get("transB") == Some(&Attribute::Int(1));
            let axis = (op_type != "Conv" && !transposed) as i64;
            inputs.push(self.dequantized(
                codes,
                scale,
                text(i + 2),
                axis,
                &format!("{name}.{codes}"),
            )?);
        }
        if let Some(bias) = bias {
            inputs.push(self.bias(bias, &inputs, name)?);
        }
        if node.take_flag("channels_last")? {
            bail!(Unsupported, "attribute \"channels_last\"");
        }
        let values = inputs.iter().map(|&v| &self.graph.values[v]);
        let inputs_seen = values.map(|value| {
            Some(match value.constant {
                Some(_) => Input::Codes(value.shape.clone()),
                None => Input::Activation(value.shape.clone()),
            })
        });
        let opset = node.take_int("opset")?.unwrap_or(node.opset);
        let mut real = OnnxNode { opset, ..OnnxNode::new(op_type) };
        real.attributes = std::mem::take(&mut node.attributes);
        real.inputs = inputs_seen.collect();
        let Some(op) = Op::import(&mut real) else { return Ok(false) };
        node.attributes = real.attributes;
        let output = &proto.output[0];
        let v = self.emit(name, op?, inputs, output)?;
        let Some(scale) = text(result) else { return missing().map(|_| true) };
        let Written { params, .. } = self.params(scale, text(result + 1), 0, None, v)?;
        self.set_params(v, params)?;
        self.define(output, Known::Codes(v))?;
        Ok(true)
    }

    /// A bias of 32-bit codes, whose scale follows from those of `x` and `weight`.
    fn bias(&mut self, bias: &str, inputs: &[ValueId], name: &str) -> Result<ValueId> {
        let Known::Ints(codes, dt::INT32) = self.get(bias)?.clone() else {
            bail!(Unsupported, "bias \"{bias}\" must be a constant of 32-bit integers");
        };
        let quant = |i: usize| self.graph.values[inputs[i]].quant.clone();
        let (Some(x), Some(w)) = (quant(0), quant(1)) else {
            bail!(Invalid, "input and weight have no scales");
        };
        let granularity = match w.granularity {
            Granularity::PerTensor => Granularity::PerTensor,
            Granularity::PerChannel { .. } => Granularity::PerChannel { axis: 0 },
        };
        let scale = w.scale.iter().map(|w| x.scale[0] * w).collect();
        let quant = Some(QuantParams { scale, zero_point: 0, bits: 32, granularity });
        let (name, shape) =
            (self.graph.fresh_name(format!("{name}.{bias}")), codes.shape().to_vec());
        let constant = Some(Constant::Codes(codes.map(|&code| code as i32)));
        Ok(self.graph.add_value(Value { name, shape, constant, quant }))
    }
}

/// Takes `axis`, and what must have its default.
fn take_axis(node: &mut OnnxNode) -> Result<i64> {
    for name in ["block_size", "output_dtype", "precision"] {
        if node.take_int(name)?.is_some_and(|t| t != 0) {
            bail!(Unsupported, "attribute \"{name}\"");
        }
    }
    match node.attributes.remove("axis") {
        None => Ok(1),
        Some(Attribute::Int(axis)) => Ok(axis),
        Some(other) => bail!(Invalid, "attribute \"axis\": expected an integer, got {other:?}"),
    }
}
