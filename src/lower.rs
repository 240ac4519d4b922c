//! Quantized graph → integer graph: what every target deploys. Everything here follows from the
//! scales, zero points, weights and biases of the quantized graph, so that a model that was written
//! to a file and read again becomes the identical integer graph.

use std::collections::HashMap;

use serde::Serialize;

use crate::codes::Codes;
use crate::error::{Context, Error, Result, bail};
use crate::graph::{Constant, Graph, Index, Node, Value, ValueId};
use crate::onnx::classes;
use crate::ops::clip::code_limits;
use crate::ops::product::is_wide;
use crate::ops::recode::RecodeInt;
use crate::ops::table::TableInt;
use crate::ops::transpose::TransposeInt;
use crate::ops::{
    IntOp, Lowering, Op, Operand, Order, OutputParams, Role, Wants, channels_first, image,
    layouts_coincide,
};
use crate::quant::{Given, Granularity, QuantParams, Width};
use crate::tensor::Shape;

/// A tensor of codes.
#[derive(Clone, Debug, PartialEq)]
pub struct IntValue {
    /// As in the graph.
    pub name: String,
    /// Sizes of the axes, in ONNX's order.
    pub shape: Shape,
    /// Axis order in memory.
    pub order: Order,
    /// How the codes are read.
    pub quant: QuantParams,
    /// The codes, if they are part of the model, in the order of memory.
    pub constant: Option<Codes>,
    /// The integers that the caller gives, if it is an input that is made of them.
    pub given: Option<Given>,
}

impl IntValue {
    /// Number of codes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// `codes` of this value as a caller gives or gets them: integers without a sign have their own offset.
    pub fn as_given(&self, codes: &Codes) -> Vec<i32> {
        let offset = self.given.map_or(0, |given| given.params().zero_point);
        codes.iter().map(|code| code - offset).collect()
    }

    pub(crate) fn operand(&self) -> Operand<'_> {
        Operand { shape: &self.shape, order: self.order, quant: &self.quant }
    }
}

/// One integer operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct IntNode {
    /// As in the graph; a change of order is called after the value that it moves, and the new order.
    pub name: String,
    /// Name of the node of the graph that it comes from; a change of order comes from the first node that
    /// needs it.
    pub origin: String,
    /// What is computed, with its constants.
    pub op: IntOp,
    /// Arguments that are not part of `op`.
    pub inputs: Vec<ValueId>,
    /// The result.
    pub output: ValueId,
}

impl IntNode {
    /// Its accumulator, if it has one whose bound is told.
    pub fn accumulator(&self) -> Option<Accumulator> {
        let bound = self.op.acc_bound()?;
        let bits = if is_wide(bound) || self.op.sums_are_64_bits() { 64 } else { 32 };
        Some(Accumulator { node: self.origin.clone(), bound, bits })
    }
}

/// The network in integers only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntGraph {
    /// Name of the network.
    pub name: String,
    /// What the file calls the classes, if it does.
    pub classes: Vec<String>,
    /// Activations, and constants that are arguments.
    pub values: Vec<IntValue>,
    /// Nodes; each comes after those whose results it uses.
    pub nodes: Vec<IntNode>,
    /// Values given by the caller.
    pub inputs: Vec<ValueId>,
    /// Values returned to the caller.
    pub outputs: Vec<ValueId>,
}

/// An accumulator of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accumulator {
    /// Name of the node.
    pub node: String,
    /// No input makes it larger than this, or smaller than the negative of this.
    pub bound: i64,
    /// Bits of the type that it needs.
    pub bits: u32,
}

impl Accumulator {
    /// What part of its limit the bound is.
    pub fn share(&self) -> f64 {
        self.bound as f64 / 2f64.powi(self.bits as i32 - 1)
    }
}

impl IntGraph {
    /// Names and shapes of the inputs.
    pub fn named_inputs(&self) -> Vec<(&str, &[usize])> {
        self.inputs.iter().map(|&v| (&*self.values[v].name, &*self.values[v].shape)).collect()
    }

    /// Width of the widest codes.
    pub fn widest(&self) -> Width {
        self.values.iter().map(|v| v.quant.width).max().unwrap_or_default()
    }

    /// Constants that are read in other codes, or in another order, alone.
    fn remove_unread_constants(&mut self) {
        let mut keep: Vec<bool> = self.values.iter().map(|v| v.constant.is_none()).collect();
        let read = self.nodes.iter().flat_map(|n| &n.inputs).chain(&self.outputs);
        read.for_each(|&v| keep[v] = true);
        let mut next = 0;
        let new: Vec<ValueId> = keep.iter().map(|&kept| (next, next += kept as usize).0).collect();
        let mut kept = keep.into_iter();
        self.values.retain(|_| kept.next() == Some(true));
        let nodes = self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().chain([&mut n.output]));
        self.inputs.iter_mut().chain(&mut self.outputs).chain(nodes).for_each(|v| *v = new[*v]);
    }

    /// The accumulator that can come nearest to its limit.
    pub fn widest_accumulator(&self) -> Option<Accumulator> {
        let of_nodes = self.nodes.iter().filter_map(IntNode::accumulator);
        of_nodes.max_by(|a, b| a.share().total_cmp(&b.share()))
    }
}

/// Lowers every node of a quantized graph.
///
/// # Errors
/// The node, and why its constants do not fit the arithmetic; or the value that is not quantized.
pub fn lower(graph: &Graph) -> Result<IntGraph> {
    lower_with(graph, constants(graph), &mut |_, error| Err(error))
}

/// As [`lower`], but goes on behind what has no integer form: that, each with the name of the node, or of the
/// value if no node is to blame. Only if there is nothing of the kind, the graph is whole.
pub fn lower_all(graph: &Graph) -> (IntGraph, Vec<(String, Error)>) {
    let mut refused = Vec::new();
    let lowered = lower_with(graph, constants(graph), &mut |name, error| {
        refused.push((name.into(), error));
        Ok(())
    });
    (lowered.unwrap_or_default(), refused)
}

fn constants(graph: &Graph) -> Vec<Option<Constant>> {
    graph.values.iter().map(|v| v.constant.clone()).collect()
}

/// As [`lower`], without a copy of the weights.
///
/// # Errors
/// As for [`lower`].
pub fn lower_owned(mut graph: Graph) -> Result<IntGraph> {
    let constants = graph.values.iter_mut().map(|v| v.constant.take()).collect();
    lower_with(&graph, constants, &mut |_, error| Err(error))
}

fn lower_with(
    graph: &Graph,
    constants: Vec<Option<Constant>>,
    refuse: &mut dyn FnMut(&str, Error) -> Result<()>,
) -> Result<IntGraph> {
    let mut lowerer = Lowerer {
        index: Index::new(graph),
        spatial: spatial(graph),
        graph,
        constants,
        ids: vec![None; graph.values.len()],
        moved: vec![None; graph.values.len()],
        recoded: HashMap::new(),
        table_codes: MOST_CODES,
        int: IntGraph {
            name: graph.name.clone(),
            classes: classes(&graph.metadata),
            ..IntGraph::default()
        },
    };
    for &input in &graph.inputs {
        let order = if lowerer.spatial[input] { Order::ChannelsLast } else { Order::Plain };
        match lowerer.add_value(input, order) {
            Ok(id) => lowerer.int.inputs.push(id),
            // Its readers say so.
            Err(_) if lowerer.index.uses(input) > 0 => {}
            Err(error) => refuse(&graph.values[input].name, error)?,
        }
    }
    for node in &graph.nodes {
        if let Err(error) = lowerer.node(node).in_node(&node.name, node.op.name()) {
            refuse(&node.name, error)?;
        }
    }
    for &output in &graph.outputs {
        match lowerer.value(output) {
            Ok(id) => lowerer.int.outputs.push(id),
            // So does the node that computes it.
            Err(_) if lowerer.index.producer(output).is_some() => {}
            Err(error) => refuse(&graph.values[output].name, error)?,
        }
    }
    lowerer.int.remove_unread_constants();
    Ok(lowerer.int)
}

/// The values that are wanted with channels last: a sequence also behind nodes that take any order.
fn spatial(graph: &Graph) -> Vec<bool> {
    let mut spatial = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let is_sequence = graph.values[node.output].shape.len() == 3;
        let sequence = spatial[node.output] && (is_sequence || keeps_pixels(graph, node));
        if match wants(graph, node) {
            Wants::Is(order) => order == Order::ChannelsLast,
            Wants::Inherit => sequence,
            Wants::Transpose => false,
        } {
            node.inputs.iter().for_each(|&v| spatial[v] = true);
        }
    }
    spatial
}

/// The order that a node wants: one that keeps pixels takes any.
fn wants(graph: &Graph, node: &Node) -> Wants {
    if keeps_pixels(graph, node) { Wants::Inherit } else { node.op.wants() }
}

/// Whether a node is another shape of images with as many channels: in either order all codes stay where they are.
fn keeps_pixels(graph: &Graph, node: &Node) -> bool {
    let [x, y] = [node.inputs[0], node.output].map(|v| image(&graph.values[v].shape));
    let of = |[n, c, _, _]: [usize; 4]| (n, c);
    matches!(node.op, Op::Reshape(_)) && x.is_some() && x.map(of) == y.map(of)
}

/// Of all tables of functions: 1024 from codes of 16 bits.
const MOST_CODES: usize = 1 << 26;

struct Lowerer<'a> {
    graph: &'a Graph,
    index: Index,
    /// See [`spatial`].
    spatial: Vec<bool>,
    /// Those of its values; weights are taken out.
    constants: Vec<Option<Constant>>,
    /// The integer value of each value of the graph, and its copy in the other order.
    ids: Vec<Option<ValueId>>,
    moved: Vec<Option<ValueId>>,
    /// The copies of an integer value in other codes.
    recoded: HashMap<ValueId, Vec<ValueId>>,
    /// How many codes tables may still have.
    table_codes: usize,
    int: IntGraph,
}

impl Lowerer<'_> {
    fn quant(&self, value: &Value) -> Result<QuantParams> {
        match &value.quant {
            Some(quant) => Ok(quant.clone()),
            None => bail!(Unsupported, "value \"{}\" is not quantized", value.name),
        }
    }

    fn add_value(&mut self, v: ValueId, order: Order) -> Result<ValueId> {
        let value = &self.graph.values[v];
        let mut quant = self.quant(value)?;
        if self.constants[v].is_some() && quant.width == Width::W4 {
            // Beside activations it has their width.
            quant.width = Width::W8;
        }
        if quant.width == Width::W32 || quant.scale.len() != 1 {
            bail!(Unsupported, "value \"{}\" needs 8 or 16 bits and one scale", value.name);
        }
        let constant = match &self.constants[v] {
            None => None,
            Some(Constant::Codes(t)) => Some(Codes::new(quant.width, t.widened().into_data())),
            Some(Constant::Real(_)) => {
                bail!(Unsupported, "value \"{}\" is not quantized", value.name)
            }
        };
        let order = if image(&value.shape).is_some() { order } else { Order::Plain };
        let (name, shape) = (value.name.clone(), value.shape.clone());
        self.int.values.push(IntValue { name, shape, order, quant, constant, given: value.given });
        let id = self.int.values.len() - 1;
        self.ids[v] = Some(id);
        Ok(id)
    }

    /// The integer value of `v`, in whatever order it has.
    fn value(&mut self, v: ValueId) -> Result<ValueId> {
        match self.ids[v] {
            Some(id) => Ok(id),
            None => self.add_value(v, Order::Plain),
        }
    }

    /// The integer value of `v` in `order`; the codes are moved if they have to be, for node `origin`.
    fn value_in(&mut self, v: ValueId, order: Order, origin: &str) -> Result<ValueId> {
        let id = self.value(v)?;
        let from = &self.int.values[id];
        if from.order == order || image(&from.shape).is_none() || layouts_coincide(&from.shape) {
            return Ok(id);
        }
        if let Some(moved) = self.moved[v] {
            return Ok(moved);
        }
        let to = Operand { order, ..from.operand() };
        let op = TransposeInt::new(to.stored(&from.operand().strides()), to.stored_shape());
        let op = IntOp::Transpose(op);
        let suffix = match (order, from.shape.len()) {
            (Order::ChannelsLast, 4) => "nhwc",
            (Order::ChannelsLast, _) => "nwc",
            (Order::Plain, 4) => "nchw",
            (Order::Plain, _) => "ncw",
        };
        let name = format!("{}.{suffix}", from.name);
        let mut moved = IntValue { name: name.clone(), order, given: None, ..from.clone() };
        let output = self.int.values.len();
        match (&from.constant, &mut moved.constant) {
            (Some(codes), Some(moved)) => op.eval(&[codes], moved),
            _ => self.push(name, origin, op, vec![id], output),
        }
        self.int.values.push(moved);
        self.moved[v] = Some(output);
        Ok(output)
    }

    fn push(
        &mut self,
        name: String,
        origin: &str,
        op: IntOp,
        inputs: Vec<ValueId>,
        output: ValueId,
    ) {
        self.int.nodes.push(IntNode { name, origin: origin.into(), op, inputs, output });
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        let activations = (0..node.inputs.len()).filter(|&i| node.op.role(i) == Role::Activation);
        let activations: Vec<ValueId> = activations.map(|i| node.inputs[i]).collect();
        let wanted = wants(self.graph, node);
        let inputs = activations.into_iter().map(|v| match wanted {
            Wants::Inherit | Wants::Transpose => self.value(v),
            Wants::Is(order) => self.value_in(v, order, &node.name),
        });
        let mut inputs = inputs.collect::<Result<Vec<_>>>()?;
        let order = match (wanted, &node.op) {
            (Wants::Inherit, Op::Reshape(_)) => self.int.values[inputs[0]].order,
            (Wants::Inherit, _) => {
                let mut values = inputs.iter().map(|&id| &self.int.values[id]);
                let rank = self.graph.values[node.output].shape.len();
                let first = values.find(|v| v.shape.len() == rank && v.constant.is_none());
                first.map_or(Order::Plain, |v| v.order)
            }
            // A transposition that only renames the axes of what lies in memory is a copy. The same one
            // may be a matrix's.
            (_, Op::Transpose(op))
                if image(&self.graph.values[node.output].shape).is_some()
                    && op.perm == channels_first(op.perm.len())
                    && self.int.values[inputs[0]].order == Order::Plain
                    && (op.perm.len() == 4 || self.spatial[node.output]) =>
            {
                Order::ChannelsLast
            }
            (Wants::Is(order), _) => order,
            (Wants::Transpose, _) => Order::Plain,
        };
        let output = self.add_value(node.output, order)?;
        let (name, y) = (node.name.clone(), self.int.values[output].clone());
        let clamp = code_limits(node.clamp, &y.quant);
        self.widen_arguments(node, &mut inputs, &y.quant);
        let x = self.int.values[inputs[0]].quant.clone();
        let moves_codes = node.op.output_params() == OutputParams::SameAsInput;
        if !moves_codes || (x == y.quant && clamp == y.quant.code_range()) {
            let op = self.lower_op(node, &inputs, output, clamp)?;
            if let IntOp::Unary(TableInt(codes)) | IntOp::Function(TableInt(codes)) = &op {
                match self.table_codes.checked_sub(codes.len()) {
                    Some(left) => self.table_codes = left,
                    None => bail!(Unsupported, "tables of more than {MOST_CODES} codes together"),
                }
            }
            self.push(name, &node.name, op, inputs, output);
            return Ok(());
        }
        // The codes are moved as they are, and then become others.
        let everything = x.code_range();
        let (moved, recode) = (self.int.values.len(), RecodeInt::new(&x, &y.quant, clamp));
        self.int.values.push(IntValue { name: format!("{}.moved", y.name), quant: x, ..y });
        let op = self.lower_op(node, &inputs, moved, everything)?;
        self.push(format!("{name}.moved"), &node.name, op, inputs, moved);
        self.push(name, &node.name, IntOp::Recode(recode), vec![moved], output);
        Ok(())
    }

    /// Arguments of 8 bits become 16-bit ones beside others of 16, the same numbers with the same scale.
    /// Where codes of 16 bits are to be copied, they become those of the result `y`.
    fn widen_arguments(&mut self, node: &Node, inputs: &mut [ValueId], y: &QuantParams) {
        let width = |lowerer: &Self, id: ValueId| lowerer.int.values[id].quant.width;
        if inputs.iter().all(|&id| width(self, id) == Width::W8) {
            return;
        }
        for id in inputs.iter_mut() {
            let quant = match node.op.output_params() {
                OutputParams::Shared => y.clone(),
                _ => QuantParams { width: Width::W16, ..self.int.values[*id].quant.clone() },
            };
            *id = self.recoded(*id, quant, &node.name);
        }
    }

    /// The integer value `id` in codes of `quant`.
    fn recoded(&mut self, id: ValueId, quant: QuantParams, origin: &str) -> ValueId {
        let from = &self.int.values[id];
        if from.quant == quant {
            return id;
        }
        let known = self.recoded.get(&id).into_iter().flatten();
        if let Some(&known) = known.clone().find(|&&v| self.int.values[v].quant == quant) {
            return known;
        }
        let op = IntOp::Recode(RecodeInt::new(&from.quant, &quant, quant.code_range()));
        let name = match self.recoded.get(&id).map_or(0, Vec::len) {
            0 => format!("{}.recoded", from.name),
            more => format!("{}.recoded{}", from.name, more + 1),
        };
        let mut to = IntValue { name: name.clone(), quant, given: None, ..from.clone() };
        let output = self.int.values.len();
        match &from.constant {
            Some(codes) => {
                let mut recoded = Codes::zeros(to.quant.width, codes.len());
                op.eval(&[codes], &mut recoded);
                to.constant = Some(recoded);
            }
            None => self.push(name, origin, op, vec![id], output),
        }
        self.int.values.push(to);
        self.recoded.entry(id).or_default().push(output);
        output
    }

    fn lower_op(
        &mut self,
        node: &Node,
        inputs: &[ValueId],
        output: ValueId,
        clamp: (i32, i32),
    ) -> Result<IntOp> {
        let mut activations = inputs.iter().map(|&id| self.int.values[id].operand());
        let (mut operands, mut constants) = (Vec::new(), Vec::new());
        for (index, &v) in node.inputs.iter().enumerate() {
            if node.op.role(index) == Role::Activation {
                operands.extend(activations.next());
                constants.push(None);
                continue;
            }
            let value = &self.graph.values[v];
            let constant = match self.index.uses(v) {
                1 => self.constants[v].take(),
                _ => self.constants[v].clone(),
            };
            let (Some(Constant::Codes(codes)), Some(quant)) = (constant, &value.quant) else {
                bail!(Unsupported, "\"{}\" must be a quantized constant", value.name);
            };
            if let (Role::Weight { axis }, Granularity::PerChannel { axis: along }) =
                (node.op.role(index), quant.granularity)
                && along != axis
            {
                bail!(
                    Unsupported,
                    "\"{}\" has scales along axis {along}, expected {axis}",
                    value.name
                );
            }
            let (shape, order) = (value.shape.as_slice(), Order::Plain);
            operands.push(Operand { shape, order, quant });
            constants.push(Some(codes));
        }
        let output = self.int.values[output].operand();
        node.op.lower(&mut Lowering { inputs: operands, constants, output, clamp })
    }
}

#[cfg(test)]
mod tests;
