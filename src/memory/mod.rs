//! Where every value of an integer network lies while it runs.

pub mod plan;

use self::plan::{Buffer, DEFAULT_ALIGN, InPlace, plan};
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode, IntValue};
use crate::ops::IntOp;
use crate::quant::Width;

/// Where every value lies while the network runs.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Offset in bytes of each value that is computed or given.
    pub values: Vec<Option<usize>>,
    /// Offset in bytes of each node's scratch memory.
    pub scratch: Vec<usize>,
    /// Bytes in all.
    pub size: usize,
    /// No plan needs less.
    pub bound: usize,
    /// What takes bytes, and when: values, then scratch memory.
    pub blocks: Vec<Block>,
}

/// Bytes of one buffer while it is alive. Step 0 takes the inputs, step `i + 1` computes node `i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The value; `None` is scratch memory of the node of that step.
    pub value: Option<ValueId>,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// The step that writes it,
    pub first: usize,
    /// and the last one that reads it.
    pub last: usize,
}

impl Memory {
    /// No result is written over an argument, and nothing takes scratch memory.
    pub fn disjoint(graph: &IntGraph) -> Self {
        Self::plan(graph, |_| 0, |_, _| false)
    }

    /// As [`disjoint`](Self::disjoint), where values of another width take nothing.
    pub fn of_width(graph: &IntGraph, width: Width) -> Self {
        let bytes = |v: &IntValue| if v.quant.width == width { bytes(v) } else { 0 };
        Self::plan_bytes(graph, bytes, |_| 0, |_, _| false)
    }

    /// Node `i` takes `scratch(i)` bytes for itself, and may write its result over argument `k` if
    /// `writes_over(i, k)` and nobody reads that later.
    pub fn plan(
        graph: &IntGraph,
        scratch: impl Fn(usize) -> usize,
        writes_over: impl Fn(usize, usize) -> bool,
    ) -> Self {
        Self::plan_bytes(graph, bytes, scratch, writes_over)
    }

    fn plan_bytes(
        graph: &IntGraph,
        bytes: impl Fn(&IntValue) -> usize,
        scratch: impl Fn(usize) -> usize,
        writes_over: impl Fn(usize, usize) -> bool,
    ) -> Self {
        // Step 0 takes the inputs, step i + 1 computes node i, and the last one returns the outputs.
        let end = graph.nodes.len() + 1;
        let mut first = vec![None; graph.values.len()];
        graph.inputs.iter().for_each(|&v| first[v] = Some(0));
        let mut last = vec![0; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            first[node.output] = Some(i + 1);
            node.inputs.iter().chain([&node.output]).for_each(|&v| last[v] = i + 1);
        }
        graph.outputs.iter().for_each(|&v| last[v] = end);
        // What only has another shape, or another name, stays where it is.
        let mut home: Vec<ValueId> = (0..graph.values.len()).collect();
        for node in graph.nodes.iter().filter(|node| leaves_codes(node)) {
            let (x, y) = (home[node.inputs[0]], node.output);
            if first[x].is_some() && Some(last[x]) == first[y] {
                (home[y], last[x]) = (x, last[y]);
            }
        }
        let (mut buffers, mut owners) = (Vec::new(), Vec::new());
        let mut of_value = vec![None; graph.values.len()];
        for (v, value) in graph.values.iter().enumerate() {
            if let (Some(first), true) = (first[v], home[v] == v) {
                of_value[v] = Some(buffers.len());
                owners.push(Some(v));
                buffers.push(Buffer { size: bytes(value), first, last: last[v] });
            }
        }
        let of_value: Vec<Option<usize>> = home.iter().map(|&v| of_value[v]).collect();
        let mut in_place = Vec::new();
        for (n, node) in graph.nodes.iter().enumerate() {
            for (i, v) in node.inputs.iter().enumerate() {
                let twice = node.inputs.iter().filter(|other| *other == v).count() > 1;
                if let (Some(argument), Some(result)) = (of_value[*v], of_value[node.output])
                    && argument != result
                    && writes_over(n, i)
                    && !twice
                {
                    in_place.push(InPlace { argument, result });
                }
            }
        }
        let values = buffers.len();
        for i in 0..graph.nodes.len() {
            buffers.push(Buffer { size: scratch(i), first: i + 1, last: i + 1 });
        }
        let plan = plan(&buffers, &in_place, DEFAULT_ALIGN);
        let owners = owners.into_iter().chain(std::iter::repeat(None));
        let placed = owners.zip(&buffers).zip(&plan.offsets);
        let blocks = placed.map(|((value, &Buffer { size, first, last }), &offset)| Block {
            value,
            offset,
            size,
            first,
            last,
        });
        Self {
            blocks: blocks.filter(|block| block.size > 0).collect(),
            values: of_value.iter().map(|b| b.map(|b| plan.offsets[b])).collect(),
            scratch: plan.offsets[values..].to_vec(),
            size: plan.size,
            bound: plan.bound,
        }
    }
}

/// Bytes of all codes of `value`.
pub(crate) fn bytes(value: &IntValue) -> usize {
    value.len() * value.quant.width.bytes()
}

/// Whether the node has the codes of its argument as its result, in the same order.
pub fn leaves_codes(node: &IntNode) -> bool {
    matches!(&node.op, IntOp::Transpose(op) | IntOp::Reshape(op) if op.is_copy())
}
