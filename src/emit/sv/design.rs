//! Which modules stand between which streams.

use crate::arith::strided_index;
use crate::emit::{Edge, edges};
use crate::error::{Context, Error, Result, bail};
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode};
use crate::ops::IntOp;
use crate::ops::language::sv::{CONSTANT, FORK, FRAME, Memory, Node, QUEUE, code_bits};
use crate::ops::language::{Source, Sv};
use crate::quant::Width;

/// Codes one after the other.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What its wires begin with.
    pub name: String,
    /// Bits of a code.
    pub bits: usize,
    /// Codes of a frame.
    pub frame: usize,
}

/// What an instance is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The input of this number.
    Input(usize),
    /// The same codes again and again.
    Constant(Memory),
    /// The node of this number.
    Node(usize),
    /// Gives one stream to several.
    Fork,
    /// Holds no more codes than this.
    Queue(usize),
    /// The output of this number.
    Output(usize),
    /// Takes what nobody wants.
    Drop,
}

/// Something between streams.
#[derive(Clone, Debug)]
pub struct Instance {
    pub kind: Kind,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

/// A network as modules. Each instance stands behind those whose streams it takes.
#[derive(Debug)]
pub struct Design<'a> {
    pub graph: &'a IntGraph,
    /// What each node says; nothing if codes stay where they are.
    pub nodes: Vec<Option<Node>>,
    pub streams: Vec<Stream>,
    pub instances: Vec<Instance>,
    /// The stream of each node's result.
    pub results: Vec<usize>,
}

/// What `node` says, where no more than `target` cycles shall lie between frames; nothing if it is wires.
///
/// # Errors
/// What hardware does not have, with the node's name.
pub fn emitted(graph: &IntGraph, node: &IntNode, target: u64) -> Result<Option<Node>> {
    say(graph, node, target).in_node(&node.origin, node.op.name())
}

fn say(graph: &IntGraph, node: &IntNode, target: u64) -> Result<Option<Node>> {
    let Some(emitter) = <Sv as crate::emit::Operators>::find(&node.op) else {
        return Err(crate::emit::refusal(&Sv));
    };
    let (x, y) = (&graph.values[node.inputs[0]], &graph.values[node.output]);
    if let Some(why) = emitter.needs(x.quant.width) {
        return Err(Error::Unsupported(format!("target \"sv\" does not have {why}")));
    }
    if matches!(node.op, IntOp::Transpose(_) | IntOp::Reshape(_)) {
        return Ok(None);
    }
    let widths = [x.quant.width.max(Width::W8), y.quant.width];
    let mut said = Node::new(target, [x.len(), y.len()], widths);
    emitter.emit(&mut said);
    let dense = |argument: usize| match &said.strides {
        Some((shape, steps)) => steps[argument] == crate::tensor::strides(shape),
        None => true,
    };
    for (argument, &v) in node.inputs.iter().enumerate() {
        if graph.values[v].constant.is_none() && !dense(argument) {
            let (x, y) = (&graph.values[v].shape, &y.shape);
            bail!(
                Unsupported,
                "target \"sv\" does not have an argument of {x:?} for results of {y:?}"
            );
        }
    }
    Ok(Some(said))
}

impl<'a> Design<'a> {
    /// That of `graph`; `target` as for [`emitted`].
    ///
    /// # Errors
    /// The first node that hardware does not have.
    pub fn new(graph: &'a IntGraph, target: u64) -> Result<Self> {
        let each = graph.nodes.iter().map(|node| emitted(graph, node, target));
        let nodes = each.collect::<Result<Vec<_>>>()?;
        Ok(Builder::new(graph, nodes).build())
    }

    /// The edge of the network that `v` is.
    pub fn edges(&self) -> Vec<Edge<'a>> {
        edges(self.graph)
    }

    /// The files with the modules that are used, each behind what it is built on.
    pub fn sources(&self) -> Vec<&'static Source> {
        let mut all = Vec::new();
        for instance in &self.instances {
            match instance.kind {
                Kind::Node(i) => {
                    let op = &self.graph.nodes[i].op;
                    if let Some(emitter) = <Sv as crate::emit::Operators>::find(op) {
                        add(emitter.source(), &mut all);
                    }
                }
                Kind::Constant(_) => add(&CONSTANT, &mut all),
                Kind::Fork => add(&FORK, &mut all),
                Kind::Queue(_) => add(&QUEUE, &mut all),
                Kind::Output(_) => add(&FRAME, &mut all),
                Kind::Input(_) | Kind::Drop => {}
            }
        }
        all
    }

    /// Codes of 8 bits and less are multiplied here, so many at a time.
    pub fn multipliers(&self) -> usize {
        self.nodes.iter().flatten().map(|node| node.multipliers).sum()
    }
}

fn add(source: &'static Source, all: &mut Vec<&'static Source>) {
    source.on.iter().for_each(|on| add(on, all));
    if !all.contains(&source) {
        all.push(source);
    }
}

struct Builder<'a> {
    design: Design<'a>,
    /// The value whose codes each value has, in the same order.
    same: Vec<ValueId>,
    /// Streams of each value that nobody takes yet.
    free: Vec<Vec<usize>>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a IntGraph, nodes: Vec<Option<Node>>) -> Self {
        let mut same: Vec<ValueId> = (0..graph.values.len()).collect();
        for (node, said) in graph.nodes.iter().zip(&nodes) {
            if said.is_none() {
                same[node.output] = same[node.inputs[0]];
            }
        }
        let (streams, instances) = (vec![], vec![]);
        let free = vec![vec![]; graph.values.len()];
        let design = Design { graph, nodes, streams, instances, results: vec![] };
        Self { design, same, free }
    }

    fn build(mut self) -> Design<'a> {
        let graph = self.design.graph;
        for (i, edge) in edges(graph).iter().filter(|edge| edge.is_input()).enumerate() {
            let stream = self.stream(format!("from_{}", edge.name), edge.v);
            self.instance(Kind::Input(i), vec![], vec![stream]);
            self.offer(edge.v, stream);
        }
        for (i, node) in graph.nodes.iter().enumerate() {
            if self.design.nodes[i].is_none() {
                let of = graph.nodes[..i].iter().position(|n| n.output == self.same[node.output]);
                let input = graph.inputs.iter().position(|&v| v == self.same[node.output]);
                let result = of.map(|of| self.design.results[of]).or(input);
                self.design.results.push(result.unwrap_or(0));
                continue;
            }
            let activations = node.inputs.iter().filter(|&&v| graph.values[v].constant.is_none());
            let joins = activations.count() > 1;
            let mut inputs = Vec::new();
            for (argument, &v) in node.inputs.iter().enumerate() {
                let name = format!("layer{i}_{}", ["a", "b", "c", "d"][argument.min(3)]);
                let taken = match graph.values[v].constant {
                    Some(_) => self.constant(i, argument, name),
                    None if joins => self.queue(v, name),
                    None => self.take(v),
                };
                inputs.push(taken);
            }
            let stream = self.stream(format!("layer{i}"), node.output);
            self.instance(Kind::Node(i), inputs, vec![stream]);
            self.design.results.push(stream);
            self.offer(node.output, stream);
        }
        for (i, edge) in edges(graph).iter().filter(|edge| !edge.is_input()).enumerate() {
            let stream = match &edge.value.constant {
                Some(codes) => {
                    let words =
                        codes.iter().map(|code| vec![(code as i64, code_bits(codes.width()))]);
                    let stream = self.stream(format!("to_{}", edge.name), edge.v);
                    self.instance(Kind::Constant(memory(words)), vec![], vec![stream]);
                    stream
                }
                None => self.take(edge.v),
            };
            self.instance(Kind::Output(i), vec![stream], vec![]);
        }
        self.design
    }

    fn stream(&mut self, name: String, v: ValueId) -> usize {
        let value = &self.design.graph.values[v];
        let (bits, frame) = (code_bits(value.quant.width).max(8), value.len());
        self.design.streams.push(Stream { name, bits, frame });
        self.design.streams.len() - 1
    }

    fn instance(&mut self, kind: Kind, inputs: Vec<usize>, outputs: Vec<usize>) {
        self.design.instances.push(Instance { kind, inputs, outputs });
    }

    /// Makes as many streams of `stream`, which has the codes of `v`, as are wanted.
    fn offer(&mut self, v: ValueId, stream: usize) {
        let graph = self.design.graph;
        let nodes = graph.nodes.iter().zip(&self.design.nodes).filter(|(_, said)| said.is_some());
        let read = nodes.flat_map(|(node, _)| &node.inputs).chain(&graph.outputs);
        let uses = read.filter(|&&read| self.same[read] == v).count();
        self.free[v] = match uses {
            0 => {
                self.instance(Kind::Drop, vec![stream], vec![]);
                vec![]
            }
            1 => vec![stream],
            _ => {
                let name = self.design.streams[stream].name.clone();
                let branches: Vec<usize> =
                    (0..uses).map(|i| self.stream(format!("{name}_{i}"), v)).collect();
                self.instance(Kind::Fork, vec![stream], branches.clone());
                branches.into_iter().rev().collect()
            }
        };
    }

    fn take(&mut self, v: ValueId) -> usize {
        self.free[self.same[v]].pop().unwrap_or(0)
    }

    /// A stream of `v` that waits for the node's other arguments.
    fn queue(&mut self, v: ValueId, name: String) -> usize {
        let (from, to) = (self.take(v), self.stream(name, v));
        let depth = 2 * self.design.streams[from].frame;
        self.instance(Kind::Queue(depth), vec![from], vec![to]);
        to
    }

    /// The codes of a constant argument, as the result's need them.
    fn constant(&mut self, i: usize, argument: usize, name: String) -> usize {
        let graph = self.design.graph;
        let (v, node) = (graph.nodes[i].inputs[argument], self.design.nodes[i].as_ref());
        let codes = graph.values[v].constant.iter().flat_map(|codes| codes.iter());
        let codes: Vec<i32> = codes.collect();
        let of_result = |(shape, steps): &(Vec<usize>, [Vec<usize>; 2])| -> Vec<i32> {
            let len = shape.iter().product();
            (0..len).map(|i| codes[strided_index(i, shape, &steps[argument])]).collect()
        };
        let strides = node.and_then(|node| node.strides.as_ref());
        let all = strides.map_or_else(|| codes.clone(), of_result);
        let repeats = |&period: &usize| {
            all.len().is_multiple_of(period)
                && (period..all.len()).all(|i| all[i] == all[i - period])
        };
        let period = (1..=all.len()).find(repeats).unwrap_or(all.len());
        let bits = code_bits(graph.values[v].quant.width).max(8);
        let words = all[..period].iter().map(|&code| vec![(code as i64, bits)]);
        let stream = self.stream(name, v);
        self.instance(Kind::Constant(memory(words)), vec![], vec![stream]);
        stream
    }
}

/// The codes of the module `constant`.
fn memory(words: impl Iterator<Item = Vec<(i64, usize)>>) -> Memory {
    let mut node = Node::new(0, [0; 2], [Width::W8; 2]);
    node.memory("CODES", words);
    node.memories.remove(0)
}
