//! Operators that are others in disguise: each becomes a few nodes of the graph.

use super::import::{Importer, Known};
use super::proto::{NodeProto, data_type as dt};
use super::shapes::squeezed;
use crate::error::{Result, bail};
use crate::graph::{Value, ValueId};
use crate::ops::add::Add;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::reshape::Reshape;
use crate::ops::slice::{Slice, split_sizes};
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Input, OnnxNode, Op, Operator, Window};
use crate::tensor::{Shape, Tensor, broadcast};

/// Builds the nodes that stand for one node of the file.
struct Steps<'i, 'a> {
    importer: &'i mut Importer<'a>,
    name: &'i str,
    count: usize,
}

impl Steps<'_, '_> {
    /// A node whose result has a name of its own.
    fn step(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.count += 1;
        let name = self.importer.graph.fresh_name(format!("{}.{}", self.name, self.count));
        self.importer.emit(&name, op, inputs.to_vec(), &name)
    }

    fn constant(&mut self, shape: Shape, data: Vec<f32>) -> Result<ValueId> {
        self.count += 1;
        let name = self.importer.graph.fresh_name(format!("{}.{}", self.name, self.count));
        Ok(self.importer.graph.add_value(Value::real(name, Tensor::new(shape, data)?)))
    }

    fn shape(&self, v: ValueId) -> &[usize] {
        &self.importer.graph.values[v].shape
    }

    fn reshape(&mut self, v: ValueId, shape: Shape) -> Result<ValueId> {
        self.step(Op::Reshape(Reshape { shape }), &[v])
    }

    /// `(x − mean) / √(variance + epsilon)` along the axes marked in `reduced`.
    fn normalize(&mut self, x: ValueId, reduced: Vec<bool>, epsilon: f32) -> Result<ValueId> {
        let mean = self.step(Op::Mean(Mean { reduced: reduced.clone() }), &[x])?;
        let centered = self.step(Op::Add(Add { subtract: true }), &[x, mean])?;
        let square = self.step(Op::Mul(Mul), &[centered, centered])?;
        let variance = self.step(Op::Mean(Mean { reduced }), &[square])?;
        let epsilon = self.constant(vec![], vec![epsilon])?;
        let variance = self.step(Op::Add(Add { subtract: false }), &[variance, epsilon])?;
        let deviation = self.step(Op::Unary(Unary::Sqrt), &[variance])?;
        let factor = self.step(Op::Unary(Unary::Reciprocal), &[deviation])?;
        self.step(Op::Mul(Mul), &[centered, factor])
    }
}

impl<'a> Importer<'a> {
    /// An index is real here, whatever type the file gives it: a Cast is another name of it.
    fn cast_of_index(&mut self, proto: &NodeProto, node: &mut OnnxNode) -> Result<bool> {
        let (x, output) = match (&proto.op_type[..], &proto.input[..]) {
            ("Cast", [x]) => (x, &proto.output[0]),
            _ => return Ok(false),
        };
        let &Known::Index(v) = self.get(x)? else { return Ok(false) };
        let known = match node.take_int("to")?.and_then(|to| i32::try_from(to).ok()) {
            Some(dt::FLOAT) => Known::Value(v),
            Some(dt::INT32 | dt::INT64) => Known::Index(v),
            to => bail!(Unsupported, "attribute \"to\": data type {to:?} of an index"),
        };
        if !self.outputs.contains(x.as_str()) {
            self.graph.values[v].name = output.clone();
        } else if self.outputs.contains(output.as_str()) {
            bail!(Unsupported, "\"{x}\" and \"{output}\" are both outputs");
        }
        self.define(output, known)?;
        Ok(true)
    }

    /// Imports a node that stands for several; `false` if it is none of those.
    pub(super) fn decompose(
        &mut self,
        proto: &NodeProto,
        name: &str,
        node: &mut OnnxNode,
    ) -> Result<bool> {
        if self.on_codes(proto, name, node)? || self.cast_of_index(proto, node)? {
            return Ok(true);
        }
        let inputs = proto.input.iter().map(|name| match name.as_str() {
            "" => Ok(None),
            name => self.get(name).map(|known| match known {
                Known::Value(v) => Some(*v),
                Known::Ints(..) | Known::Narrow(..) | Known::Codes(..) | Known::Index(_) => None,
            }),
        });
        let inputs: Vec<Option<ValueId>> = inputs.collect::<Result<_>>()?;
        let Some(&Some(x)) = inputs.first() else { return Ok(false) };
        let mut steps = Steps { importer: self, name, count: 0 };
        let shape = steps.shape(x).to_vec();
        let result = match (proto.op_type.as_str(), &shape[..]) {
            ("Split", _) => {
                let (axis, sizes) = split_sizes(node, proto.output.len())?;
                let mut start = 0;
                for (size, output) in sizes.into_iter().zip(&proto.output) {
                    let part = Op::Slice(Slice::of(&shape, axis, start, size));
                    let v = steps.importer.emit(output, part, vec![x], output)?;
                    steps.importer.define(output, Known::Value(v))?;
                    start += size;
                }
                return Ok(true);
            }
            ("Cast", _) => match node.take_int("to")? {
                Some(1) => x,
                to => bail!(Unsupported, "attribute \"to\": data type {to:?}, only float is known"),
            },
            ("Expand", _) => {
                let Some(target) = node.take_input_ints(1)? else { bail!(Invalid, "no shape") };
                let target = target.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX));
                match broadcast(&shape, &target.collect::<Shape>())? {
                    same if same == shape => x,
                    larger => bail!(Unsupported, "an expansion of {shape:?} to {larger:?}"),
                }
            }
            ("Squeeze" | "Unsqueeze", _) => {
                let shape = squeezed(node, &shape)?;
                steps.reshape(x, shape)?
            }
            ("GlobalMaxPool", &[_, _, h, w]) => {
                steps.step(Op::MaxPool(MaxPool(Window::new([h, w]))), &[x])?
            }
            ("Div", _) => match (&node.inputs[..], inputs.get(1)) {
                ([_, Some(Input::Activation(_))], Some(&Some(divisor))) => {
                    let reciprocal = steps.step(Op::Unary(Unary::Reciprocal), &[divisor])?;
                    steps.step(Op::Mul(Mul), &[x, reciprocal])?
                }
                _ => return Ok(false),
            },
            ("Pow", _) => match node.take_input_number(1)? {
                Some(2.0) => steps.step(Op::Mul(Mul), &[x, x])?,
                Some(0.5) => steps.step(Op::Unary(Unary::Sqrt), &[x])?,
                Some(-1.0) => steps.step(Op::Unary(Unary::Reciprocal), &[x])?,
                exponent => bail!(Unsupported, "a power of {exponent:?}"),
            },
            ("Sum", _) => {
                let mut sum = x;
                for v in &inputs[1..] {
                    let &Some(v) = v else { bail!(Invalid, "an input is missing") };
                    sum = steps.step(Op::Add(Add { subtract: false }), &[sum, v])?;
                }
                sum
            }
            ("ReduceMean", _) => {
                let keep = node.take_int("keepdims")?.unwrap_or(1) != 0;
                let op = Mean::import(node)?;
                let none = !op.reduced.contains(&true);
                let kept =
                    shape.iter().zip(&op.reduced).filter(|(_, r)| !**r).map(|(&d, _)| d).collect();
                let y = if none { x } else { steps.step(Op::Mean(op), &[x])? };
                if keep { y } else { steps.reshape(y, kept)? }
            }
            ("Gather", _) => steps.gather(x, node)?,
            ("DepthToSpace" | "SpaceToDepth", &[n, c, h, w]) => {
                steps.depth(x, [n, c, h, w], node)?
            }
            ("InstanceNormalization", &[_, c, ..]) => {
                let epsilon = node.take_float("epsilon")?.unwrap_or(1e-5);
                let reduced = (0..shape.len()).map(|axis| axis > 1).collect();
                let y = steps.normalize(x, reduced, epsilon)?;
                let channels: Shape =
                    (0..shape.len()).map(|axis| if axis == 1 { c } else { 1 }).collect();
                steps.affine(y, &inputs[1..], Some(channels))?
            }
            ("LayerNormalization", _) => {
                let epsilon = node.take_float("epsilon")?.unwrap_or(1e-5);
                if node.take_int("stash_type")?.is_some_and(|t| t != 1) {
                    bail!(Unsupported, "attribute \"stash_type\"");
                }
                let first = OnnxNode::axis(node.take_int("axis")?.unwrap_or(-1), shape.len())?;
                let reduced = (0..shape.len()).map(|axis| axis >= first).collect();
                let y = steps.normalize(x, reduced, epsilon)?;
                steps.affine(y, &inputs[1..], None)?
            }
            _ => return Ok(false),
        };
        let output = &proto.output[0];
        // Where nothing changes a copy keeps the two names apart.
        let result = match result == x {
            true => Steps { importer: self, name, count: 0 }.reshape(x, shape)?,
            false => result,
        };
        // The last step is the node itself; a constant has none.
        match self.graph.nodes.last_mut().filter(|node| node.output == result) {
            Some(node) => {
                node.name = if proto.name.is_empty() { output.clone() } else { name.into() };
                self.graph.values[result].name = output.clone();
            }
            None if self.outputs.contains(output.as_str()) => self.name_output(result, output)?,
            None => {}
        }
        self.define(output, Known::Value(result))?;
        Ok(true)
    }
}

impl Steps<'_, '_> {
    /// `x · factor + offset`, both constants under `shape` where one is given.
    fn affine(
        &mut self,
        x: ValueId,
        constants: &[Option<ValueId>],
        shape: Option<Shape>,
    ) -> Result<ValueId> {
        let mut y = x;
        for (constant, op) in constants.iter().zip([Op::Mul(Mul), Op::Add(Add { subtract: false })])
        {
            let &Some(constant) = constant else { continue };
            let constant = match &shape {
                Some(shape) => self.reshape(constant, shape.clone())?,
                None => constant,
            };
            y = self.step(op, &[y, constant])?;
        }
        Ok(y)
    }

    /// Constant positions along one axis.
    fn gather(&mut self, x: ValueId, node: &mut OnnxNode) -> Result<ValueId> {
        let shape = self.shape(x).to_vec();
        let axis = OnnxNode::axis(node.take_int("axis")?.unwrap_or(0), shape.len())?;
        let Some(&size) = shape.get(axis) else { bail!(Shape, "axis {axis} of shape {shape:?}") };
        let index_shape = node.input_shape(1)?.to_vec();
        let Some(indices) = node.take_input_ints(1)? else { bail!(Invalid, "no indices") };
        let from_front =
            indices.iter().map(|&i| if i < 0 { i.saturating_add(size as i64) } else { i });
        let positions: Vec<i64> = from_front.collect();
        let outside = positions.iter().any(|p| !(0..size as i64).contains(p));
        let Some(&first) = positions.first().filter(|_| !outside) else {
            bail!(Shape, "indices {indices:?} of an axis of {size}");
        };
        let step = positions.get(1).map_or(1, |second| second - first);
        let even = positions.iter().enumerate().all(|(i, &p)| p == first + i as i64 * step);
        if !even || step == 0 {
            bail!(
                Unsupported,
                "indices {indices:?} of an axis of {size}: only evenly spaced ones are known"
            );
        }
        let mut slice = Slice::of(&shape, axis, first as usize, positions.len());
        slice.parts[axis].step = step;
        let y = self.step(Op::Slice(slice), &[x])?;
        self.reshape(y, [&shape[..axis], &index_shape, &shape[axis + 1..]].concat())
    }

    /// Blocks of pixels to channels and back.
    fn depth(
        &mut self,
        x: ValueId,
        [n, c, h, w]: [usize; 4],
        node: &mut OnnxNode,
    ) -> Result<ValueId> {
        let Some(b) = node
            .take_int("blocksize")?
            .and_then(|b| usize::try_from(b).ok())
            .filter(|b| (1..=64).contains(b))
        else {
            bail!(Invalid, "attribute \"blocksize\" must be 1 to 64");
        };
        let mode = node.take_string("mode")?;
        // "DCR": the blocks' positions are the outer part of the channels; "CRD": the inner part.
        let outer = match mode.as_deref() {
            None | Some("DCR") => true,
            Some("CRD") => false,
            Some(other) => bail!(Invalid, "attribute \"mode\" is \"{other}\""),
        };
        let (split, perm, shape): (Shape, [usize; 6], Shape) = if node.op_type == "SpaceToDepth" {
            if h % b != 0 || w % b != 0 {
                bail!(Shape, "{h}x{w} pixels in blocks of {b}");
            }
            let perm = if outer { [0, 3, 5, 1, 2, 4] } else { [0, 1, 3, 5, 2, 4] };
            (vec![n, c, h / b, b, w / b, b], perm, vec![n, c * b * b, h / b, w / b])
        } else {
            if c % (b * b) != 0 {
                bail!(Shape, "{c} channels in blocks of {b}x{b}");
            }
            let c = c / (b * b);
            match outer {
                true => (vec![n, b, b, c, h, w], [0, 3, 4, 1, 5, 2], vec![n, c, h * b, w * b]),
                false => (vec![n, c, b, b, h, w], [0, 1, 4, 2, 5, 3], vec![n, c, h * b, w * b]),
            }
        };
        let y = self.reshape(x, split)?;
        let y = self.step(Op::Transpose(Transpose { perm: perm.to_vec() }), &[y])?;
        self.reshape(y, shape)
    }
}
