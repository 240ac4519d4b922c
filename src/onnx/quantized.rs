//! QuantizeLinear and DequantizeLinear, which say how a value's codes are read, and operators that
//! work on codes directly (`QLinear…`, `QGemm`): the two forms of a quantized ONNX file.

use super::importer::{Importer, Known, take_type};
use super::proto::{NodeProto, data_type as dt};
use super::tensors::half;
use crate::codes::CodeTensor;
use crate::error::{Result, bail};
use crate::graph::{Constant, Value, ValueId};
use crate::ops::linear::Linear;
use crate::ops::pad::{Mode, Pad};
use crate::ops::reshape::Reshape;
use crate::ops::transpose::Transpose;
use crate::ops::{Attribute, Input, OnnxNode, Op, channels_first, channels_last};
use crate::quant::{Granularity, QuantParams, Width};
use crate::tensor::{Tensor, checked_len};

/// How the codes of one tensor are written in the file.
struct Written {
    /// For the codes as we store them.
    params: QuantParams,
    /// What has to be subtracted from the file's codes, made signed, to make them those: a number for the
    /// tensor, or one for each of its channels.
    offsets: Vec<i64>,
    /// Their type there, and how wide it is.
    data_type: i32,
    width: Width,
}

impl Written {
    /// The offset of each element of a tensor of `shape`.
    fn offsets(&self, shape: &[usize]) -> impl Iterator<Item = i64> {
        let inner: usize = match self.params.granularity {
            Granularity::PerChannel { axis } => shape[axis + 1..].iter().product(),
            Granularity::PerTensor => 1,
        };
        (0..).map(move |i| self.offsets[i / inner.max(1) % self.offsets.len()])
    }

    /// The codes of a constant in the file, as we store them.
    fn stored(&self, codes: CodeTensor) -> Result<CodeTensor> {
        if self.offsets == [0] {
            return Ok(codes);
        }
        let (codes, offsets) = (codes.widened(), self.offsets(codes.shape()));
        let stored = codes.data().iter().zip(offsets).map(|(&c, offset)| c - offset as i32);
        Ok(CodeTensor::new(self.params.width, Tensor::new(codes.shape(), stored.collect())?))
    }

    /// The codes that the file's QuantizeLinear makes of a constant, as we store them.
    fn quantized(&self, real: &Tensor<f32>) -> Result<CodeTensor> {
        let (lowest, highest) = (self.width.lowest() as i64, self.width.highest() as i64);
        let codes = self.params.quantize_all(real.data(), real.shape());
        let codes = codes.into_iter().zip(self.offsets(real.shape()));
        let limited = |(code, offset): (i32, i64)| {
            (code as i64).clamp(lowest - offset, highest - offset) as i32
        };
        let codes = Tensor::new(real.shape(), codes.map(limited).collect())?;
        Ok(CodeTensor::new(self.params.width, codes))
    }
}

impl Importer<'_> {
    pub(super) fn quantize(
        &mut self,
        proto: &NodeProto,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        if !node.take_flag_or("saturate", true)? {
            bail!(Unsupported, "attribute \"saturate\" is 0");
        }
        let declared = node.take_int("output_dtype")?.filter(|&t| t != 0).map(|t| t as i32);
        let axis = take_axis(node)?;
        let [x, scale, zero_point @ ..] = &proto.input[..] else {
            bail!(Invalid, "expected 2 or 3 inputs");
        };
        let &Known::Value(v) = self.get(x)? else {
            bail!(Unsupported, "input \"{x}\" is not real");
        };
        let written = self.params(scale, zero_point.first(), axis, declared, v)?;
        let data_type = written.data_type;
        let value = &self.graph.values[v];
        if value.constant.is_some() && value.quant.as_ref() != Some(&written.params) {
            // A constant is computed anew, whatever it was made of.
            let shape = value.shape.clone();
            self.folding.take(&shape, checked_len(&shape)? as u64)?;
            let Some(real) = self.graph.values[v].to_real() else {
                bail!(Unsupported, "input \"{x}\" is not real");
            };
            if let Some(bad) = real.data().iter().find(|x| !x.is_finite()) {
                bail!(Range, "constant \"{x}\" holds {bad}");
            }
            let constant = Some(Constant::Codes(written.quantized(&real)?));
            let quant = Some(written.params);
            let name = self.names.fresh(output.into());
            let v = self.add_value(Value { name, shape, constant, quant, given: None });
            self.offsets.insert(v, written.offsets);
            return self.define(output, Known::Codes(v, data_type));
        }
        let node = if proto.name.is_empty() { output } else { &proto.name };
        let v = self.round(v, x, node, output, written.params)?;
        self.define(output, Known::Codes(v, data_type))
    }

    pub(super) fn dequantize(
        &mut self,
        proto: &NodeProto,
        output: &str,
        node: &mut OnnxNode,
    ) -> Result<()> {
        let made_of = take_type(node, "output_dtype")?.unwrap_or(0);
        if !matches!(made_of, 0 | dt::FLOAT | dt::FLOAT16 | dt::BFLOAT16) {
            bail!(Unsupported, "attribute \"output_dtype\" is {}", dt::name(made_of));
        }
        let axis = take_axis(node)?;
        let [codes, scale, zero_point @ ..] = &proto.input[..] else {
            bail!(Invalid, "expected 2 or 3 inputs");
        };
        let v = self.dequantized(codes, scale, zero_point.first(), axis, output)?;
        self.define_real(v, if proto.name.is_empty() { output } else { &proto.name }, output)
    }

    /// Calls the real numbers of `v`, which node `node` makes of codes, `output`.
    pub(super) fn define_real(&mut self, mut v: ValueId, node: &str, output: &str) -> Result<()> {
        if self.outputs.contains(output) && self.graph.values[v].constant.is_none() {
            if self.graph.inputs.contains(&v)
                || self.rounded.is_input(&self.graph, v)
                || self.outputs.contains(&*self.graph.values[v].name)
            {
                // Nothing computes it, or it has another name: the output is a copy.
                let shape = self.graph.values[v].shape.clone();
                let quant = self.graph.values[v].quant.clone();
                v = self.emit(node, Op::Reshape(Reshape { shape }), vec![v], output)?;
                self.graph.values[v].quant = quant;
            } else {
                self.name_output(v, output)?;
            }
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
        if let Some((codes, data_type)) = self.codes(codes) {
            let (name, shape) = (self.names.fresh(name.into()), codes.shape().to_vec());
            self.folding.take(&shape, 0)?;
            // Its shape is needed to read the parameters.
            let constant = Some(Constant::Codes(CodeTensor::default()));
            let v = self.add_value(Value { name, shape, constant, ..Value::default() });
            let written = self.params(scale, zero_point, axis, Some(data_type), v)?;
            self.graph.values[v].constant = Some(Constant::Codes(written.stored(codes)?));
            self.graph.values[v].quant = Some(written.params);
            return Ok(v);
        }
        match self.get(codes)?.clone() {
            Known::Codes(v, data_type) => {
                let written = self.params(scale, zero_point, axis, Some(data_type), v)?;
                let made = self.graph.values[v].quant.as_ref();
                let offsets = self.offsets.get(&v);
                if made != Some(&written.params) || offsets.is_some_and(|o| *o != written.offsets) {
                    bail!(
                        Unsupported,
                        "codes \"{codes}\" were made with another scale or zero point"
                    );
                }
                Ok(v)
            }
            Known::Index(v, data_type @ (dt::UINT8 | dt::INT8)) => {
                let written = self.params(scale, zero_point, axis, Some(data_type), v)?;
                let lowest = if data_type == dt::UINT8 { Width::W8.lowest() } else { 0 };
                self.bytes(v, &written.params, lowest, name)
            }
            _ => bail!(Unsupported, "input \"{codes}\" is not made of codes"),
        }
    }

    /// Scale and zero point of the codes of `v`. `codes` is their type, where it is known.
    fn params(
        &mut self,
        scale_name: &str,
        zero_point: Option<&String>,
        axis: i64,
        codes: Option<i32>,
        v: ValueId,
    ) -> Result<Written> {
        let scale = match self.get(scale_name)? {
            Known::Value(v) => self.graph.real_constant(*v).cloned(),
            _ => None,
        };
        let Some(scale) = scale else { bail!(Unsupported, "the scale must be a constant") };
        self.folding.take(scale.shape(), 0)?;
        let (zero_points, data_type) = match zero_point.filter(|name| !name.is_empty()) {
            None => (None, codes.unwrap_or(dt::UINT8)),
            Some(name) => match self.get(name)? {
                Known::Ints(_, of_zero) | Known::Narrow(_, of_zero)
                    if codes.is_some_and(|of_codes| of_codes != *of_zero) =>
                {
                    bail!(Invalid, "codes and zero point have different types")
                }
                Known::Ints(t, of_zero) => (Some(t.clone()), *of_zero),
                Known::Narrow(t, of_zero) => (Some(t.widened().map(|&z| z.into())), *of_zero),
                _ => bail!(Unsupported, "the zero point must be a constant of integers"),
            },
        };
        let (file_width, default) = match data_type {
            dt::INT4 => (Width::W4, 0),
            dt::UINT4 => (Width::W4, -8),
            dt::INT8 => (Width::W8, 0),
            dt::UINT8 => (Width::W8, -0x80),
            dt::INT16 => (Width::W16, 0),
            dt::UINT16 => (Width::W16, -0x8000),
            dt::INT32 => (Width::W32, 0),
            other => bail!(Unsupported, "codes made of {}", dt::name(other)),
        };
        let zero_points = zero_points.map_or(vec![default], Tensor::into_data);
        if let Some(wrong) = zero_points.iter().find(|&&z| file_width == Width::W32 && z != 0) {
            bail!(Invalid, "zero point {wrong} of {file_width}-bit codes");
        }
        let Some(&first) = zero_points.first() else { bail!(Invalid, "no zero point") };
        let (zeros, scales) = (zero_points.len(), scale.data().len());
        if zeros != 1 && zeros != scales {
            bail!(Invalid, "{zeros} zero points for {scales} scales");
        }
        let differ = zero_points.iter().any(|&z| z != first);
        let is_constant = self.graph.values[v].constant.is_some();
        if file_width == Width::W4 && !is_constant {
            bail!(Unsupported, "activations made of {}", dt::name(data_type));
        }
        let narrow = file_width <= Width::W8;
        if differ && !(is_constant && narrow && zero_points.len() == scale.data().len()) {
            bail!(Unsupported, "zero points differ between channels");
        }
        // With all zero points subtracted, codes of a constant have one more bit, and one zero point.
        let (width, zero_point, offsets) = match (file_width, differ) {
            (Width::W4, false) if first == 0 => (Width::W4, 0, vec![0]),
            (Width::W4, true) => (Width::W8, 0, zero_points),
            (Width::W4, false) => (Width::W8, 0, vec![first]),
            (_, true) => (Width::W16, 0, zero_points),
            (_, false) => (file_width, first, vec![0]),
        };
        if file_width == Width::W4 && width != Width::W4 {
            let name = self.graph.values[v].name.clone();
            if !self.graph.widened.contains(&name) {
                self.graph.widened.push(name);
            }
        }
        let shape = &self.graph.values[v].shape;
        let granularity = match scale.shape() {
            [] | [1] => Granularity::PerTensor,
            [_] => Granularity::PerChannel { axis: OnnxNode::axis(axis, shape.len())? },
            other => bail!(Unsupported, "scales of shape {other:?}"),
        };
        let scale = scale.data().to_vec();
        let params = QuantParams { scale, zero_point: zero_point as i32, width, granularity };
        if let Err(e) = params.check(shape) {
            bail!(Invalid, "codes read with \"{scale_name}\": {e}");
        }
        if let Some(tiny) =
            params.scale.iter().find(|s| file_width != Width::W32 && s.is_subnormal())
        {
            bail!(Range, "\"{scale_name}\" holds {tiny}, which is too small for a scale");
        }
        Ok(Written { params, offsets, data_type, width: file_width })
    }

    /// Whether an operator that reads numbers does the same with these codes: a Concat of those that are read alike, and a
    /// Pad, whose constant is a code, too.
    pub(super) fn takes_codes(&self, proto: &NodeProto, op: &mut Op) -> bool {
        let codes = |name: &String| match self.known.get(name) {
            Some(&Known::Codes(v, data_type)) => Some((&self.graph.values[v].quant, data_type)),
            _ => None,
        };
        let Some((Some(quant), data_type)) = proto.input.first().and_then(codes) else {
            return false;
        };
        match op {
            Op::Concat(_) => proto.input.iter().all(|name| codes(name) == codes(&proto.input[0])),
            Op::Pad(Pad { mode: Mode::Constant(fill), .. }) => {
                let zero = quant.zero_point as i64 + half(data_type);
                *fill = (*fill - zero as f32) * quant.scale[0];
                true
            }
            _ => false,
        }
    }

    /// Operators on codes: each is the real operator between its parameters. `false` for others.
    pub(super) fn on_codes(
        &mut self,
        proto: &NodeProto,
        name: &str,
        node: &mut OnnxNode,
    ) -> Result<bool> {
        let op_type = match (proto.domain.as_str(), proto.op_type.as_str()) {
            ("" | "ai.onnx" | "com.microsoft", "QLinearConv") => "Conv",
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
        let are_last = node.take_flag("channels_last")?;
        let output = &proto.output[0];
        if are_last {
            inputs[0] = self.turned(inputs[0], channels_first, &format!("{output}.first"))?;
        }
        let values = inputs.iter().map(|&v| &self.graph.values[v]);
        let inputs_seen = values.map(|value| {
            Some(match value.constant {
                Some(_) => Input::Codes(value.shape.clone(), None),
                None => Input::Activation(value.shape.clone()),
            })
        });
        let opset = node.take_int("opset")?.unwrap_or(node.opset);
        let mut real = OnnxNode { opset, ..OnnxNode::new(op_type) };
        real.attributes = std::mem::take(&mut node.attributes);
        real.inputs = inputs_seen.collect();
        let Some(op) = Op::import(&mut real) else { return Ok(false) };
        let op = op?;
        node.attributes = real.attributes;
        for (&index, &factor) in &real.scaled {
            if factor < 0.0 {
                bail!(Unsupported, "a factor of {factor}");
            }
            inputs[index] = self.scaled(inputs[index], factor)?;
        }
        // Its scale follows from that of the weight times such a factor.
        if let Some(bias) = bias {
            inputs.push(self.bias(bias, &inputs, name)?);
        }
        if let (Op::Linear(op), &[_, weight, bias]) = (&op, &inputs[..]) {
            inputs[2] = self.bias_row(op, weight, bias)?;
        }
        let inside =
            if are_last { self.names.fresh(format!("{output}.last")) } else { output.clone() };
        let mut v = self.emit(name, op, inputs, &inside)?;
        let Some(scale) = text(result) else { return missing().map(|_| true) };
        let written = self.params(scale, text(result + 1), 0, None, v)?;
        self.graph.values[v].quant = Some(written.params);
        if are_last {
            v = self.turned(v, channels_last, output)?;
        }
        self.define(output, Known::Codes(v, written.data_type))?;
        Ok(true)
    }

    /// The codes of `v` with its axes in the order of `perm`, called `name` or the like of it.
    fn turned(&mut self, v: ValueId, perm: fn(usize) -> Vec<usize>, name: &str) -> Result<ValueId> {
        let rank = self.graph.values[v].shape.len();
        if rank < 3 {
            bail!(Shape, "channels last of shape {:?}", self.graph.values[v].shape);
        }
        let (name, first) = (self.names.fresh(name.into()), self.graph.nodes.len());
        let turned = Op::Transpose(Transpose { perm: perm(rank) });
        let turned = self.emit(&name, turned, vec![v], &name)?;
        self.keep_codes(first, v);
        Ok(turned)
    }

    /// The constant `v`, whose numbers are codes, times `factor`.
    pub(super) fn scaled(&mut self, v: ValueId, factor: f32) -> Result<ValueId> {
        let value = &self.graph.values[v];
        let (Some(Constant::Codes(codes)), Some(quant)) = (&value.constant, &value.quant) else {
            bail!(Unsupported, "a factor of \"{}\", which is no constant", value.name);
        };
        self.folding.take(&value.shape, 0)?;
        let mut quant = quant.clone();
        quant.scale.iter_mut().for_each(|scale| *scale *= factor.abs());
        if let Some(bad) = quant.scale.iter().find(|scale| !scale.is_normal()) {
            bail!(Range, "\"{}\" times {factor} has scale {bad:e}", value.name);
        }
        let mut codes = codes.clone();
        if factor < 0.0 {
            // The lowest code has no opposite.
            quant.width = match quant.width {
                Width::W4 => Width::W8,
                Width::W8 | Width::W16 => Width::W16,
                Width::W32 => Width::W32,
            };
            let zero = std::mem::take(&mut quant.zero_point);
            let (lo, hi) = quant.code_range();
            let negated: Vec<i64> =
                codes.widened().data().iter().map(|&c| zero as i64 - c as i64).collect();
            if let Some(far) = negated.iter().find(|&&c| c < lo.into() || c > hi.into()) {
                bail!(
                    Unsupported,
                    "\"{}\" times {factor} holds {far}, beyond {} bits",
                    value.name,
                    quant.width
                );
            }
            let negated =
                Tensor::new(codes.shape(), negated.into_iter().map(|c| c as i32).collect())?;
            codes = CodeTensor::new(quant.width, negated);
        }
        let (name, shape) =
            (self.names.fresh(format!("{}.scaled", value.name)), value.shape.clone());
        let (constant, quant) = (Some(Constant::Codes(codes)), Some(quant));
        Ok(self.add_value(Value { name, shape, constant, quant, given: None }))
    }

    /// A bias of codes with one for each channel, whatever its shape.
    pub(super) fn bias_row(
        &mut self,
        op: &Linear,
        weight: ValueId,
        bias: ValueId,
    ) -> Result<ValueId> {
        let (weight, value) = (&self.graph.values[weight], &self.graph.values[bias]);
        let [.., out_ch] = op.channels(&weight.shape).unwrap_or_default();
        if value.quant.is_none() || value.constant.is_none() || value.shape == [out_ch] {
            return Ok(bias);
        }
        let one_axis = value.shape.iter().rev().skip(1).all(|&size| size == 1);
        let Some(row) = value.row(out_ch).filter(|_| one_axis) else {
            bail!(Unsupported, "bias of shape {:?}, expected [{out_ch}]", value.shape);
        };
        self.folding.take(&row.shape, 0)?;
        let name = self.names.fresh(format!("{}.row", row.name));
        Ok(self.add_value(Value { name, ..row }))
    }

    /// A bias of 32-bit codes, whose scale follows from those of `x` and `weight`.
    fn bias(&mut self, bias: &str, inputs: &[ValueId], name: &str) -> Result<ValueId> {
        let Some((codes, dt::INT32)) = self.codes(bias) else {
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
        let quant = Some(QuantParams { scale, zero_point: 0, width: Width::W32, granularity });
        let (name, shape) = (self.names.fresh(format!("{name}.{bias}")), codes.shape().to_vec());
        self.folding.take(&shape, 0)?;
        let constant = Some(Constant::Codes(codes));
        Ok(self.add_value(Value { name, shape, constant, quant, given: None }))
    }
}

/// Takes `axis`, and what must have its default.
fn take_axis(node: &mut OnnxNode) -> Result<i64> {
    if node.take_int("block_size")?.is_some_and(|size| size != 0) {
        bail!(Unsupported, "attribute \"block_size\"");
    }
    // That of the division.
    match take_type(node, "precision")? {
        None | Some(0 | dt::FLOAT) => {}
        Some(other) => bail!(Unsupported, "attribute \"precision\" is {}", dt::name(other)),
    }
    match node.attributes.remove("axis") {
        None => Ok(1),
        Some(Attribute::Int(axis)) => Ok(axis),
        Some(other) => {
            bail!(Invalid, "attribute \"axis\": expected an integer, got {}", other.kind())
        }
    }
}
